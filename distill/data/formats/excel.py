"""Excel's .xlsx: the first sheet; the only module that imports python_calamine. Labelled rows are written as CSV."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from distill.data.formats.labelling import OutputSpec
from distill.data.formats.records import Columns, cell_text
from distill.data.formats.tables import Table, find_layout
from distill.data.formats.text_lines import SAMPLE_LINES, MemoryRows, RawRow
from distill.errors import UserError, require_package


def open_sheet(path: Path, columns: Columns, spec: OutputSpec | None) -> MemoryRows:
    """The rows of the first sheet that are not empty.

    Raises:
        UserError: python-calamine is not installed, the file is damaged, or the columns cannot be found.
    """
    numbered = [(number, row) for number, row in enumerate(_sheet(path), 1) if any(row)]
    rows = [row for _, row in numbered]
    if not rows:
        raise UserError("the first sheet is empty", path, "put the rows into the first sheet")
    layout = find_layout(rows[:SAMPLE_LINES], columns, str(path))
    table = Table(layout, ",", layout.note, has_bom=True)
    if layout.has_header:
        table.use_header(rows[0])
    continuation = table.continuation(spec) if spec else None
    cells = [(number, RawRow(table.serialised(row), row)) for number, row in numbered[layout.has_header :]]
    return MemoryRows(cells, layout.selection, f"first sheet of an Excel file, {layout.note}", "row", continuation)


def _sheet(path: Path) -> list[list[str]]:
    require_package("python_calamine", "an Excel file", "pip install python-calamine, or save it as CSV UTF-8", path)
    from python_calamine import CalamineError, CalamineWorkbook

    try:
        workbook = CalamineWorkbook.from_path(str(path))
        names = workbook.sheet_names
        sheet: list[list[Any]] = workbook.get_sheet_by_index(0).to_python(skip_empty_area=False) if names else []
    except (CalamineError, OSError, ValueError) as error:
        raise UserError(f"not an Excel file: {error}", path, "save it again, or as CSV UTF-8") from error
    return [[cell_text(cell) for cell in row] for row in sheet]
