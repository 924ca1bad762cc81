"""Excel's .xlsx: the first sheet. Labelled rows are written as CSV."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import IO
from zipfile import BadZipFile, ZipFile

from distill.data.formats import excel_rows
from distill.data.formats.labelling import BadRow, OutputSpec
from distill.data.formats.records import Columns, cell_text
from distill.data.formats.tables import Table, find_layout
from distill.data.formats.text_lines import SAMPLE_LINES, ItemRows, RawRow
from distill.errors import UserError, require_package

MAX_UNPACKED = 2**30  # bytes of all parts of a file
SAMPLE_SIZE = 2**22  # characters of the first rows, from which the layout is detected
SAVE_AGAIN = "save it again, or as CSV UTF-8"

NumberedRow = tuple[int, list[str] | None]  # None: the row is too long


@contextlib.contextmanager
def open_sheet(path: Path, columns: Columns, spec: OutputSpec | None) -> Iterator[ItemRows]:
    """The rows of the first sheet that are not empty.

    Raises:
        UserError: python-calamine is not installed, the file is damaged or too large, or the columns cannot be found.
    """
    require_package("python_calamine", "an Excel file", "pip install python-calamine, or save it as CSV UTF-8", path)
    _check_size(path)
    command = [sys.executable, "-P", excel_rows.__file__, str(path)]
    with subprocess.Popen(  # noqa: S603 (this program)
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL, encoding="utf-8"
    ) as process:
        try:
            lines = _lines(process, path)
            height, sheets = json.loads(next(lines))
            rows = _item_rows(_rows(lines), height, path, columns, spec)
            rows.note = f"{'first sheet' if sheets == 1 else f'first of {sheets} sheets'} of an Excel file, {rows.note}"
            yield rows
        finally:
            process.kill()


def _check_size(path: Path) -> None:
    try:
        with ZipFile(path) as archive:
            parts = archive.infolist()
    except (BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise UserError(f"not an Excel file: {error}", path, SAVE_AGAIN) from error
    if not any(part.filename.startswith("xl/") for part in parts):
        raise UserError("a zip archive, not an Excel file", path, f"unpack it first: unzip {path.name}")
    size = sum(part.file_size for part in parts)
    if size > MAX_UNPACKED:
        raise UserError(
            f"it unpacks to {size:,} bytes; at most {MAX_UNPACKED:,} are read", path, "save it as CSV UTF-8"
        )


def _lines(process: subprocess.Popen[str], path: Path) -> Iterator[str]:
    """What the process prints.

    Raises:
        UserError: it cannot read the file.
    """
    output: IO[str] | None = process.stdout
    for line in output or ():
        if line.startswith("{"):
            raise UserError(f"not an Excel file: {json.loads(line)['error']}", path, SAVE_AGAIN)
        if line.endswith("\n"):
            yield line
    if process.wait():
        what = f"this Excel file is damaged, or needs more than {excel_rows.MAX_MEMORY // 2**20} MB of memory"
        raise UserError(what, path, SAVE_AGAIN)


def _rows(lines: Iterator[str]) -> Iterator[NumberedRow]:
    """The rows that are not empty, with their numbers."""
    for number, line in enumerate(lines, 1):
        row = json.loads(line)
        cells = None if row is None else [cell_text(cell) for cell in row]
        if cells is None or any(cells):
            yield number, cells


def _item_rows(
    rows: Iterator[NumberedRow], height: int, path: Path, columns: Columns, spec: OutputSpec | None
) -> ItemRows:
    first = list(_sample(rows))
    sample = [row for _, row in first if row]
    if not sample:
        raise UserError("the first sheet is empty", path, "put the rows into the first sheet")
    layout = find_layout(sample, columns, str(path))
    table = Table(layout, ",", layout.note, has_bom=True)
    if layout.has_header:
        table.use_header(sample[0])
        first = [row for row in first if row[1] is not sample[0]]
    continuation = table.continuation(spec) if spec else None
    items = ((number, _item(number, row, table)) for number, row in chain(first, rows))
    return ItemRows(items, layout.selection, layout.note, "row", continuation, size=height)


def _sample(rows: Iterator[NumberedRow]) -> Iterator[NumberedRow]:
    size = 0
    for count, (number, row) in enumerate(rows, 1):
        yield number, row
        size += sum(map(len, row or ()))
        if count == SAMPLE_LINES or size >= SAMPLE_SIZE:
            break


def _item(number: int, row: list[str] | None, table: Table) -> RawRow | BadRow:
    if row is None:
        return BadRow(number, f"the row is longer than {excel_rows.MAX_ROW:,} characters", "")
    return RawRow(table.serialised(row), row)
