"""Readers: JSON arrays, JSON lines, CSV, TSV, Parquet and text<TAB>label files become rows of text and label."""

from __future__ import annotations

import codecs
import csv
import json
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from distill.errors import UserError, join_faults

TEXT_COLUMNS = (
    *("text", "text_a", "sentence", "title", "content", "review", "headline"),
    *("文本", "句子", "标题", "内容", "评论"),
)
LABEL_COLUMNS = ("label", "category", "class", "标签", "类别", "分类")
LABEL_NAME_COLUMN = "label_desc"  # CLUE's name of a label, beside its number
FIRST_CJK = "\u2e80"
BATCH = 4096  # rows of a Parquet file in memory at a time
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
    labelled: bool = True  # False: labels are neither needed nor read


def read_rows(path: Path, columns: Columns) -> list[Row]:
    """All rows of a file, of whichever format its name says.

    Raises:
        UserError: the file is missing, empty, broken, of another encoding, or has rows without text or label.
    """
    rows = list(stream_rows(path, columns))
    if not rows:
        raise UserError("the file is empty", path, "put at least one row with text and label into it")
    faults = [f"{row.place} has no {what}" for row in rows if (what := _missing(row))]
    if faults:
        raise UserError(join_faults(faults), path, "fill or delete these rows")
    return rows


def stream_rows(path: Path, columns: Columns) -> Iterator[Row]:
    """The rows one by one, unchecked; only a JSON array is held in memory whole.

    Raises:
        UserError: the file is missing, broken, of another encoding, or lacks a column.
    """
    if not path.is_file():
        raise UserError("no such file", path, "check the path, or see data/README.md for the formats")
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        raise UserError(f"unknown kind of file {path.suffix!r}", path, f"rename or convert it to {', '.join(SUFFIXES)}")
    return reader(path, columns)


def _missing(row: Row) -> str:
    lacking = [what for what, value in (("text", row.text), ("label", row.label or row.label_name)) if not value]
    return " and no ".join(lacking)


def read_text(path: Path) -> str:
    """A text file as str, decoded as :func:`_encoding` says."""
    return path.read_bytes().decode(_encoding(path))


def _encoding(path: Path) -> str:
    """UTF-8 with or without a byte order mark, else GB18030; the file is read through, a line at a time.

    A file that begins with Chinese in good UTF-8 and breaks later is broken UTF-8, not GB18030.
    """
    with path.open("rb") as file:
        if file.read(2) in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
            raise UserError("the file is UTF-16", path, "save it as UTF-8")
    bad_line, is_chinese = _first_fault(path, "utf-8")
    if not bad_line:
        return "utf-8-sig"
    if not is_chinese:
        bad_line, _ = _first_fault(path, "gb18030")
        if not bad_line:
            return "gb18030"
    raise UserError("bytes that are neither UTF-8 nor GB18030", f"{path}:{bad_line}", "save the file as UTF-8")


def _first_fault(path: Path, encoding: str) -> tuple[int, bool]:
    """(number of the first line that does not decode, or 0; whether there is Chinese before the fault).

    Lines may be decoded one by one: the byte of a line feed is part of no other character in either encoding.
    """
    is_chinese = False
    with path.open("rb") as file:
        for number, raw in enumerate(file, 1):
            try:
                good, is_bad = raw.decode(encoding), False
            except UnicodeDecodeError as error:
                good, is_bad = raw[: error.start].decode(encoding), True
            is_chinese = is_chinese or max(good, default="") >= FIRST_CJK
            if is_bad:
                return number, is_chinese
    return 0, is_chinese


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """Numbered lines that are not blank. Only line feeds end a line: U+2028 and its like may stand in a text."""
    with path.open(encoding=_encoding(path), newline="\n") as file:
        for number, line in enumerate(file, 1):
            if line.strip():
                yield number, line.rstrip("\r\n")


def _read_json(path: Path, columns: Columns) -> Iterator[Row]:
    first = next((line for _, line in _lines(path)), "")
    if not first.lstrip().startswith("["):
        yield from _read_json_lines(path, columns)
        return
    try:
        items = json.loads(read_text(path))
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
    yield from _from_records(_table(path), path, columns)


def _table(path: Path) -> Iterator[tuple[str, Any]]:
    delimiter, encoding = "\t" if path.suffix.lower() == ".tsv" else ",", _encoding(path)
    unquoted = delimiter == "\t" and _is_unquoted(path, encoding)
    with path.open(encoding=encoding, newline="") as file:
        quoting: Literal[0, 3] = csv.QUOTE_NONE if unquoted else csv.QUOTE_MINIMAL
        table = csv.DictReader(file, delimiter=delimiter, quoting=quoting, strict=True)
        try:
            names = table.fieldnames or []
            if len(set(names)) < len(names):
                raise UserError(f"two columns of one name: {', '.join(names)}", f"{path}:1", "rename one of them")
            for record in table:
                yield f"line {table.line_num}", _full(table, record, path)
        except csv.Error as error:
            raise UserError(
                f"broken table: {error}", f"{path}:{table.line_num}", "repair the quotes on that line"
            ) from error


def _is_unquoted(path: Path, encoding: str) -> bool:
    """Whether quotes in a TSV file are part of its texts: every line is a whole row, and a cell has one quote alone."""
    lone = False
    with path.open(encoding=encoding, newline="\n") as file:
        width = file.readline().count("\t")
        for line in file:
            cells = line.rstrip("\r\n").split("\t")
            if line.strip() and len(cells) != width + 1:
                return False
            lone = lone or any(cell[:1] == '"' and (len(cell) < 2 or cell[-1] != '"') for cell in cells)
    return lone


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
    yield from _from_records(((f"row {n}", r) for n, r in enumerate(_parquet(path), 1)), path, columns)


def _parquet(path: Path) -> Iterator[dict[str, Any]]:
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(BATCH):
                yield from batch.to_pylist()
    except Exception as error:
        raise UserError(f"not a Parquet file: {str(error).splitlines()[0]}", path, "write it again") from error


def _read_lines(path: Path, columns: Columns) -> Iterator[Row]:
    """THUCNews: a text, a tab, a label; no header. Without labels: a text a line, what follows a tab is not read."""
    for number, line in _lines(path):
        text, tab, label = (line if columns.labelled else line.strip()).rpartition("\t")
        if not columns.labelled:
            text, label = (text if tab else label), ""
        yield Row(text.strip(), label.strip() if text else "", "", f"line {number}")


def _from_records(records: Iterable[tuple[str, Any]], path: Path, columns: Columns) -> Iterator[Row]:
    text_column = label_column = ""
    for place, record in records:
        if not isinstance(record, dict):
            raise UserError(f"{place} is not an object with text and label", path, 'write {"text": …, "label": …}')
        if not text_column:
            text_column = find_column(columns.text, TEXT_COLUMNS, "text", record, path)
        if not columns.labelled:
            yield Row(cell_text(record.get(text_column)), "", "", place)
            continue
        if not label_column:
            label_column = find_column(columns.label, (*LABEL_COLUMNS, LABEL_NAME_COLUMN), "label", record, path)
        name = "" if columns.label else cell_text(record.get(LABEL_NAME_COLUMN))
        yield Row(cell_text(record.get(text_column)), cell_text(record.get(label_column)), name, place)


def find_column(asked: str, usual: tuple[str, ...], what: str, record: Mapping[str, object], where: object) -> str:
    """The name of the column that is asked for, or the first of the usual ones.

    Raises:
        UserError: there is none.
    """
    found = [name for name in ((asked,) if asked else usual) if name in record]
    if found:
        return found[0]
    there = ", ".join(str(name) for name in record)
    wanted = asked or f"a {what} column ({', '.join(usual)})"
    raise UserError(f"no column {wanted}; there are: {there}", where, f"--{what}_column NAME")


def cell_text(value: Any) -> str:
    """A cell as text: None and NaN are empty, and 3.0 (how tables with gaps keep numbers) is 3.

    Half a surrogate pair (a cut emoji, which JSON can spell) becomes the replacement character; a list or object is no
    text, and counts as missing.
    """
    if value is None or isinstance(value, list | dict) or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return str(value).encode("utf-16", "surrogatepass").decode("utf-16", "replace").strip()


READERS = {
    ".json": _read_json,
    ".jsonl": _read_json_lines,
    ".csv": _read_table,
    ".tsv": _read_table,
    ".txt": _read_lines,
    ".parquet": _read_parquet,
}
