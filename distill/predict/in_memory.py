"""Label a file in memory, as the service does with an upload."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import PurePath
from typing import BinaryIO

from distill.data.formats import BINARY_SUFFIXES, SUFFIXES, known_suffix, open_lines
from distill.data.formats.labelling import OutputSpec
from distill.errors import UserError
from distill.predict.checkpoint import Counts
from distill.runtime.unsure import Classifier
from distill.storage.encodings import compression


def label_stream(
    classifier: Classifier,
    source: BinaryIO,
    out: BinaryIO,
    name: str,
    spec: OutputSpec,
    *,
    check: Callable[[], object] = lambda: None,
) -> Counts:
    """Write a file's rows with their labels, as ``--mode predict`` does; bad rows are left out and counted.

    Args:
        classifier: the student, or its cascade with the teacher.
        source: the file, positioned at its beginning; it is read several times.
        out: receives the labelled rows in UTF-8.
        name: of the file, for messages; its suffix decides the format, which must be a text format.
        spec: what is added to the rows.
        check: called before every chunk of rows; may raise an exception to end the work.

    Raises:
        UserError: it is another format or compressed, or there is no column of texts.
    """
    if kind := compression(source.read(4)):  # a small upload could be larger than the memory
        raise UserError(f"{kind} files are not read here", name, "decompress it")
    source.seek(0)
    suffix = known_suffix(PurePath(name), [suffix for suffix in SUFFIXES if suffix not in BINARY_SUFFIXES])
    rows = open_lines(source, name, suffix, spec.input_columns, spec)
    out.writelines(rows.header())
    counts = Counts()
    for chunk in rows.chunks(None):
        check()
        predictions = spec.predictions(classifier, chunk.texts)
        out.write(rows.add_labels(chunk, predictions))
        counts += Counts.of(chunk, predictions)
    return counts
