"""Tables: a column type for rows of any kind, and renderers for a terminal and for Markdown.

The HTML renderer is the macro ``table`` in ``parts.html.jinja``. All three take the same lines of text: a header, then
one line per row.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

Row = TypeVar("Row")
Lines = Sequence[Sequence[str]]
MISSING = "-"


@dataclass(frozen=True)
class Column(Generic[Row]):
    """A column of a table.

    Args:
        title: heading.
        value: the value of a row; None is shown as "-".
        show: formats a value.
        spread: standard deviation of the value, shown after "±"; None is not shown.
        meaning: explanation for readers of the table.
    """

    title: str
    value: Callable[[Row], Any]
    show: Callable[[Any], str] = str
    spread: Callable[[Row], float | None] = lambda _: None
    meaning: str = ""

    def cell(self, row: Row) -> str:
        """The row's value as text."""
        value, spread = self.value(row), self.spread(row)
        if value is None:
            return MISSING
        return self.show(value) if spread is None else f"{self.show(value)} ±{self.show(spread)}"


def lines_of(rows: Sequence[Row], columns: Sequence[Column[Row]]) -> list[list[str]]:
    """Header and rows as text."""
    return [[column.title for column in columns], *([column.cell(row) for column in columns] for row in rows)]


def transposed(lines: Lines) -> list[list[str]]:
    """Rows become columns: for few models with many figures."""
    return [list(line) for line in zip(*lines, strict=True)]


def meanings(columns: Sequence[Column[Any]]) -> dict[str, str]:
    """The explanation of every column that has one, by title."""
    return {column.title: column.meaning for column in columns if column.meaning}


def markdown_table(lines: Lines) -> str:
    """Header and rows as a Markdown table, the first column aligned left, the others right."""
    header, *body = ([cell.replace("|", "\\|").replace("\n", " ") for cell in line] for line in lines)
    ruled = [header, ["---", *["---:"] * (len(header) - 1)], *body]
    return "\n".join("| " + " | ".join(line) + " |" for line in ruled)


def markdown_list(named: Mapping[str, str]) -> str:
    """Names in bold with their explanations, as a Markdown list."""
    return "\n".join(f"- **{name}**: {text}" for name, text in named.items())


def text_table(lines: Lines) -> list[str]:
    """Header and rows as lines of equal width for a terminal, the first column aligned left, the others right."""
    widths = [max(map(display_width, column)) for column in zip(*lines, strict=True)]
    return [
        "  ".join(
            _padded(cell, width, left=index == 0) for index, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        for line in lines
    ]


def display_width(text: str) -> int:
    """Terminal columns that a text occupies: two for a Chinese character."""
    return sum(2 if unicodedata.east_asian_width(char) in "WF" else 1 for char in text)


def truncated(text: str, width: int) -> str:
    """The text, cut off with "…" where it is wider than ``width`` terminal columns."""
    if display_width(text) <= width:
        return text
    while display_width(text) >= width:
        text = text[:-1]
    return f"{text}…"


def _padded(cell: str, width: int, *, left: bool) -> str:
    gap = " " * (width - display_width(cell))
    return cell + gap if left else gap + cell


def decimals(digits: int) -> Callable[[float], str]:
    """A format with a fixed number of digits after the point."""
    return lambda value: f"{value:.{digits}f}"


def thousands(digits: int = 0) -> Callable[[float], str]:
    """A format with separated thousands and a fixed number of digits after the point."""
    return lambda value: f"{value:,.{digits}f}"


def percent(digits: int) -> Callable[[float], str]:
    """A format of shares as per cent."""
    return lambda share: f"{100 * share:.{digits}f} %"


def three_digits(value: float) -> str:
    """A value with three significant digits, without an exponent."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def file_size(size: float) -> str:
    """Bytes with three significant digits and a decimal unit."""
    for unit in ("B", "KB", "MB"):
        if size < 999.5:  # which is rounded to 1000, and that to 1e+03
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} GB"
