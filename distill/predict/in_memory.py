"""One file in memory through a student: what the service does with an upload."""

from __future__ import annotations

from pathlib import PurePath
from typing import BinaryIO

from distill.errors import UserError
from distill.predict.checkpoint import Counts
from distill.predict.line_formats import KINDS
from distill.predict.lines import Lines
from distill.predict.rows import Wanted, ask
from distill.predict.text_rows import TextRows
from distill.runtime import Runtime


def label_stream(
    runtime: Runtime, source: BinaryIO, out: BinaryIO, name: str, *, text_column: str = "", probabilities: bool = False
) -> Counts:
    """Write a file's rows with their labels, as ``--mode predict`` does; bad rows are left out and counted.

    Args:
        runtime: the student.
        source: the file, at its beginning; it is read twice.
        out: takes the labelled rows, in UTF-8.
        name: the file's, for messages; its suffix tells the format: txt, csv, tsv, jsonl or json lines.
        text_column: the texts' column; empty: found among the usual names.
        probabilities: whether to write the probability of every label.

    Raises:
        UserError: the format is another, or there is no column of texts.
    """
    suffix = PurePath(name).suffix.lower()
    if suffix not in KINDS:
        raise UserError(f"unknown kind of file {suffix!r}", name, f"save it as {', '.join(KINDS)}")
    lines = Lines.of_file(source, name)
    form = TextRows(lines, KINDS[suffix](lines, Wanted(runtime.labels, probabilities, text_column)), 0)
    out.writelines(form.head())
    counts = Counts()
    for chunk in form.chunks(None):
        out.write(form.labelled(chunk, ask(runtime, chunk.texts)))
        counts += Counts(len(chunk.rows), len(chunk.bad))
    return counts
