"""Rows of text and label from records of any format: the names of columns, and cells as text."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distill.errors import UserError

TEXT_COLUMNS = (
    *("text", "text_a", "sentence", "title", "content", "review", "headline"),
    *("文本", "句子", "标题", "内容", "评论"),
)
LABEL_COLUMNS = ("label", "category", "class", "标签", "类别", "分类")
LABEL_NAME_COLUMN = "label_desc"  # CLUE's name of a label, next to its number


@dataclass(frozen=True)
class Row:
    """One row as it is in a file. ``label_name`` is CLUE's ``label_desc``; ``location`` is for messages ("line 3")."""

    text: str
    label: str
    label_name: str
    location: str


@dataclass(frozen=True)
class Columns:
    """Names of the columns; empty: the first of the usual names that the file has."""

    text: str = ""
    label: str = ""
    labelled: bool = True  # False: labels are neither needed nor read


def rows_from_records(records: Iterable[tuple[str, Any]], path: Path, columns: Columns) -> Iterator[Row]:
    """Rows from pairs of a location and a record; the first record decides which columns are read.

    Raises:
        UserError: a record is not an object, or a column is missing.
    """
    text_column = label_column = ""
    for location, record in records:
        if not isinstance(record, dict):
            raise UserError(f"{location} is not an object with text and label", path, 'write {"text": …, "label": …}')
        text_column = text_column or find_text_column(columns.text, record, path)
        text, label, label_name = cell_text(record.get(text_column)), "", ""
        if columns.labelled:
            usual = (*LABEL_COLUMNS, LABEL_NAME_COLUMN)
            label_column = label_column or _find_column(columns.label, usual, "label", record, path)
            label = cell_text(record.get(label_column))
            label_name = "" if columns.label else cell_text(record.get(LABEL_NAME_COLUMN))
        yield Row(text, label, label_name, location)


def find_text_column(name: str, columns: Iterable[str], where: object) -> str:
    """``name``, or without one the first usual name of a text column among ``columns``.

    Raises:
        UserError: there is none.
    """
    return _find_column(name, TEXT_COLUMNS, "text", dict.fromkeys(columns), where)


def _find_column(name: str, usual: Sequence[str], what: str, columns: Mapping[str, object], where: object) -> str:
    column = next((candidate for candidate in ((name,) if name else usual) if candidate in columns), None)
    if column is None:
        wanted = name or f"a {what} column ({', '.join(usual)})"
        raise UserError(
            f"no column {wanted}; there are: {', '.join(map(str, columns))}", where, f"--{what}_column NAME"
        )
    return column


def check_distinct(names: Sequence[str], where: object) -> None:
    """Refuse a header that has one name twice.

    Raises:
        UserError: a name occurs twice.
    """
    if len(set(names)) < len(names):
        raise UserError(f"two columns of one name: {', '.join(names)}", where, "rename one of them")


def cell_text(value: Any) -> str:
    """A cell as text: None and NaN are empty, and 3.0 (how tables with gaps store integers) is 3.

    Half a surrogate pair (a truncated emoji, which JSON can express) becomes the replacement character. A list or an
    object is not text and counts as missing.
    """
    if value is None or isinstance(value, list | dict) or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return str(value).encode("utf-16", "surrogatepass").decode("utf-16", "replace").strip()
