"""Print the rows of the first sheet of an Excel file as lines of JSON: a program of its own, without the package.

It is the only module that imports python_calamine, which holds a whole sheet: a small file can describe a sheet of any
size, and a library in Rust that lacks memory ends its process. So this process gets ``MAX_MEMORY``, and ends alone.
"""

from __future__ import annotations

import contextlib
import json
import sys
from typing import Any

MAX_MEMORY = 320 * 2**20  # bytes of address space; without a limit on Windows
MAX_ROW = 2**20  # characters of a row; ``null`` stands for a longer one


def _limit_memory() -> None:
    try:
        import resource
    except ImportError:  # Windows
        return
    with contextlib.suppress(ValueError, OSError):  # macOS has no such limit, and a lower one is kept
        resource.setrlimit(resource.RLIMIT_AS, (MAX_MEMORY, MAX_MEMORY))


def _print_rows(path: str) -> None:
    """The first line are the numbers of rows and of sheets, or an object with an error."""
    from python_calamine import CalamineError, CalamineWorkbook

    try:
        workbook = CalamineWorkbook.from_path(path)
        sheet: Any = workbook.get_sheet_by_index(0) if workbook.sheet_names else None
    except (CalamineError, OSError, ValueError) as error:
        print(json.dumps({"error": str(error)}))
        return
    if sheet is None or sheet.start is None:
        print([0, 0])
        return
    print([sheet.total_height, len(workbook.sheet_names)])
    before = [""] * sheet.start[1]  # empty columns
    for row in sheet.iter_rows():
        cells = before + [cell if isinstance(cell, str | int | float) else str(cell) for cell in row]
        is_too_long = sum(len(cell) for cell in cells if isinstance(cell, str)) > MAX_ROW
        print(json.dumps(None if is_too_long else cells, ensure_ascii=False))


if __name__ == "__main__":
    sys.stdout.reconfigure(encoding="utf-8")  # type: ignore[union-attr]
    _limit_memory()
    _print_rows(sys.argv[1])
