"""File formats of training data and of ``--mode predict``, one module per format; :data:`FORMATS` lists them.

A new format is one line in :data:`FORMATS` and a module with a function ``read`` (for training) and, for ``--mode
predict``, a :class:`LineFormat` if it is text, else a function that opens a :class:`RowFile`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePath

from distill.data.formats import json_records, parquet, plain_text, tables
from distill.data.formats.labelling import OutputSpec, RowFile
from distill.data.formats.records import Columns, Row
from distill.data.formats.text_lines import LineFormat, Lines, TextRows
from distill.errors import UserError


@dataclass(frozen=True)
class FileFormat:
    """How files of one format are read and labelled.

    Attributes:
        read: yields the rows of a file (path, columns) for training.
        line_format: parses and continues the rows of a text file or stream.
        open_rows: opens a file that is not text for labelling.
    """

    read: Callable[[Path, Columns], Iterator[Row]]
    line_format: Callable[[Lines, OutputSpec], LineFormat] | None = None
    open_rows: Callable[[Path, OutputSpec], AbstractContextManager[RowFile]] | None = None

    def text_rows(self, lines: Lines, spec: OutputSpec, size: int = 0) -> TextRows:
        """The rows of a text file or stream of ``size`` bytes (0: unknown); a header is read from ``lines``."""
        if self.line_format is None:
            raise ValueError("this format is not a text format")
        return TextRows(lines, self.line_format(lines, spec), size)

    def has_same_output(self, other: FileFormat) -> bool:
        """Whether labelled files of both formats have the same form."""
        return self.line_format is other.line_format and self.open_rows is other.open_rows


FORMATS = {
    ".json": FileFormat(json_records.read, json_records.JsonLines),
    ".jsonl": FileFormat(json_records.read_lines, json_records.JsonLines),
    ".csv": FileFormat(partial(tables.read, delimiter=","), partial(tables.Table, delimiter=",")),
    ".tsv": FileFormat(partial(tables.read, delimiter="\t"), partial(tables.Table, delimiter="\t")),
    ".txt": FileFormat(plain_text.read, plain_text.PlainText),
    ".parquet": FileFormat(parquet.read, open_rows=parquet.open_rows),
}
TEXT_SUFFIXES = tuple(suffix for suffix, form in FORMATS.items() if form.line_format)


def suffix_of(path: PurePath, suffixes: Collection[str] = FORMATS.keys()) -> str:
    """The suffix of a file's name, which decides its format, in lower case.

    Raises:
        UserError: it is none of ``suffixes``.
    """
    suffix = path.suffix.lower()
    if suffix not in suffixes:
        raise UserError(f"unknown kind of file {suffix!r}", path, f"rename or convert it to {', '.join(suffixes)}")
    return suffix
