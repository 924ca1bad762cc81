"""Readers: JSON arrays, JSON lines, CSV, TSV, Parquet and text<TAB>label files become rows of text and label."""

from __future__ import annotations

import codecs
import csv
import io
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distill.errors import UserError, joined

TEXT_COLUMNS = ("text", "sentence", "title", "content", "review", "headline", "文本", "句子", "标题", "内容", "评论")
LABEL_COLUMNS = ("label", "category", "class", "标签", "类别", "分类")
LABEL_NAME_COLUMN = "label_desc"  # CLUE's name of a label, beside its number
FIRST_CJK = "\u2e80"
SUFFIXES = (".json", ".jsonl", ".csv", ".tsv", ".txt", ".parquet")


@dataclass(frozen=True)
class Row:
    """One row as it stands in a file: ``label_name`` is CLUE's ``label_desc``, and ``place`` says where it was."""

    text: str
    label: str
    label_name: str
    place: str


@dataclass(frozen=True)
class Columns:
    """Names of the columns; empty: the first of the usual names that a file has."""

    text: str = ""
    label: str = ""


def read_rows(path: Path, columns: Columns) -> list[Row]:
    """All rows of a file, of whichever format its name says.

    Raises:
        UserError: the file is missing, empty, broken, of another encoding, or has rows without text or label.
    """
    if not path.is_file():
        raise UserError("no such file", path, "check the path, or see data/README.md for the formats")
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        raise UserError(f"unknown kind of file {path.suffix!r}", path, f"rename or convert it to {', '.join(SUFFIXES)}")
    rows = list(reader(path, columns))
    if not rows:
        raise UserError("the file is empty", path, "put at least one row with text and label into it")
    faults = [f"{row.place} has no {what}" for row in rows if (what := _missing(row))]
    if faults:
        raise UserError(joined(faults), path, "fill or delete these rows")
    return rows


def _missing(row: Row) -> str:
    lacking = [what for what, value in (("text", row.text), ("label", row.label or row.label_name)) if not value]
    return " and no ".join(lacking)


def read_text(path: Path) -> str:
    """A text file as str: UTF-8 with or without a byte order mark, else GB18030.

    A file that begins with Chinese in good UTF-8 and breaks later is broken UTF-8, not GB18030.
    """
    raw = path.read_bytes()
    if raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise UserError("the file is UTF-16", path, "save it as UTF-8")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        good, bad_at = raw[: error.start].decode("utf-8"), error.start
    if not any(char >= FIRST_CJK for char in good):
        try:
            return raw.decode("gb18030")
        except UnicodeDecodeError as error:
            bad_at = error.start
    line = raw.count(b"\n", 0, bad_at) + 1
    raise UserError("bytes that are neither UTF-8 nor GB18030", f"{path}:{line}", "save the file as UTF-8")


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """Numbered lines that are not blank. Only line feeds end a line: U+2028 and its like may stand in a text."""
    for number, line in enumerate(read_text(path).split("\n"), 1):
        if line.strip():
            yield number, line.rstrip("\r")


def _read_json(path: Path, columns: Columns) -> Iterator[Row]:
    text = read_text(path)
    if not text.lstrip().startswith("["):
        yield from _read_json_lines(path, columns)
        return
    try:
        items = json.loads(text)
    except json.JSONDecodeError as error:
        raise UserError(f"broken JSON: {error.msg}", f"{path}:{error.lineno}", "repair that line") from error
    yield from _from_records(((f"item {n}", item) for n, item in enumerate(items, 1)), path, columns)


def _read_json_lines(path: Path, columns: Columns) -> Iterator[Row]:
    yield from _from_records(_json_lines(path), path, columns)


def _json_lines(path: Path) -> Iterator[tuple[str, Any]]:
    for number, line in _lines(path):
        try:
            yield f"line {number}", json.loads(line)
        except json.JSONDecodeError as error:
            raise UserError(
                f"broken JSON: {error.msg} at column {error.colno}", f"{path}:{number}", "repair or delete that line"
            ) from error


def _read_table(path: Path, columns: Columns) -> Iterator[Row]:
    delimiter = "\t" if path.suffix.lower() == ".tsv" else ","
    table = csv.DictReader(io.StringIO(read_text(path), newline=""), delimiter=delimiter, strict=True)
    try:
        names = table.fieldnames or []
        if len(set(names)) < len(names):
            raise UserError(f"two columns of one name: {', '.join(names)}", f"{path}:1", "rename one of them")
        yield from _from_records(
            ((f"line {table.line_num}", _full(table, record, path)) for record in table), path, columns
        )
    except csv.Error as error:
        raise UserError(
            f"broken table: {error}", f"{path}:{table.line_num}", "repair the quotes on that line"
        ) from error


def _full(table: csv.DictReader[str], record: dict[str | Any, Any], path: Path) -> dict[str, Any]:
    """A record with a cell for every column: one more, and a comma in a text was not quoted."""
    if None in record:
        raise UserError(
            f"a row of more than {len(table.fieldnames or [])} cells",
            f"{path}:{table.line_num}",
            "quote texts with commas",
        )
    return record


def _read_parquet(path: Path, columns: Columns) -> Iterator[Row]:
    import pandas

    try:
        records = pandas.read_parquet(path).astype(object)
    except Exception as error:
        raise UserError(f"not a Parquet file: {str(error).splitlines()[0]}", path, "write it again") from error
    records = records.where(records.notna(), None)
    yield from _from_records(((f"row {n}", r) for n, r in enumerate(records.to_dict("records"), 1)), path, columns)


def _read_tab_separated(path: Path, columns: Columns) -> Iterator[Row]:
    """THUCNews: a text, a tab, a label; no header."""
    for number, line in _lines(path):
        text, _, label = line.rpartition("\t")
        yield Row(text.strip(), label.strip() if text else "", "", f"line {number}")


def _from_records(records: Iterable[tuple[str, Any]], path: Path, columns: Columns) -> Iterator[Row]:
    text_column = label_column = ""
    for place, record in records:
        if not isinstance(record, dict):
            raise UserError(f"{place} is not an object with text and label", path, 'write {"text": …, "label": …}')
        if not text_column:
            text_column = _column(columns.text, TEXT_COLUMNS, "text", record, path)
            label_column = _column(columns.label, (*LABEL_COLUMNS, LABEL_NAME_COLUMN), "label", record, path)
        name = "" if columns.label else _cell(record.get(LABEL_NAME_COLUMN))
        yield Row(_cell(record.get(text_column)), _cell(record.get(label_column)), name, place)


def _column(asked: str, usual: tuple[str, ...], what: str, record: dict[str, Any], path: Path) -> str:
    found = [name for name in ((asked,) if asked else usual) if name in record]
    if found:
        return found[0]
    there = ", ".join(str(name) for name in record)
    wanted = asked or f"a {what} column ({', '.join(usual)})"
    raise UserError(f"no column {wanted}; there are: {there}", path, f"--{what}_column NAME")


def _cell(value: Any) -> str:
    """A cell as text: None is empty, and 3.0 (how tables with gaps keep numbers) is 3.

    Half a surrogate pair (a cut emoji, which JSON can spell) becomes the replacement character; a list or object is no
    text, and counts as missing.
    """
    if value is None or isinstance(value, list | dict):
        return ""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return str(value).encode("utf-16", "surrogatepass").decode("utf-16", "replace").strip()


READERS = {
    ".json": _read_json,
    ".jsonl": _read_json_lines,
    ".csv": _read_table,
    ".tsv": _read_table,
    ".txt": _read_tab_separated,
    ".parquet": _read_parquet,
}
