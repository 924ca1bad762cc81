"""Training data: files of any format become rows of text and label, and rows that lack one are reported."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from distill.data.formats import FORMATS, suffix_of
from distill.data.formats.records import Columns, Row
from distill.errors import UserError, join_problems


def read_rows(path: Path, columns: Columns) -> list[Row]:
    """All rows of a file; its suffix decides the format.

    Raises:
        UserError: the file is missing, empty, broken, in another encoding, or has rows without text or label.
    """
    rows = list(stream_rows(path, columns))
    if not rows:
        raise UserError("the file is empty", path, "put at least one row with text and label into it")
    problems = [f"{row.location} has no {missing}" for row in rows if (missing := _missing(row))]
    if problems:
        raise UserError(join_problems(problems), path, "fill or delete these rows")
    return rows


def stream_rows(path: Path, columns: Columns) -> Iterator[Row]:
    """The rows one by one, which may lack text or label. Only a JSON array is read into memory as a whole.

    Raises:
        UserError: the file is missing, broken, in another encoding, or lacks a column.
    """
    if not path.is_file():
        raise UserError("no such file", path, "check the path, or see data/README.md for the formats")
    return FORMATS[suffix_of(path)].read(path, columns)


def _missing(row: Row) -> str:
    names = [name for name, value in (("text", row.text), ("label", row.label or row.label_name)) if not value]
    return " and no ".join(names)
