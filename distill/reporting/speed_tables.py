"""The rows of speed as Markdown and as text for a terminal."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from distill.reporting.tables import aligned, markdown_of

Row = dict[str, Any]
Cell = Callable[[Row], str]


def figure(value: float) -> str:
    """Three digits that count, without an exponent."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def _shown(key: str, show: Callable[[float], str] = figure) -> Cell:
    return lambda row: "-" if row[key] is None else show(row[key])


def spread(row: Row) -> str:
    """The median, and between what and what the rounds lie."""
    return f"{figure(row['us_per_text'])} ({figure(row['us_low'])} to {figure(row['us_high'])})"


def _percent(share: float) -> str:
    return f"{100 * share:.2f} %"


# title, cell, what the column means; {} is the yardstick
COLUMNS: tuple[tuple[str, Cell, str], ...] = (
    ("threads", _shown("threads", str), "of the processor."),
    ("batch", _shown("batch", str), "texts that it takes at once."),
    ("µs per text", spread, "microseconds from raw text to label, many texts at a time: median (lowest to highest)."),
    ("texts/s", _shown("texts_per_s", lambda value: f"{value:,.0f}"), "the same as a rate."),
    ("p50 µs", _shown("p50_us"), "half of all single texts, one call each, took no longer."),
    ("p99 µs", _shown("p99_us"), "99 of 100 single texts took no longer."),
    (
        "memory MB",
        _shown("memory_mb", lambda value: f"{value:,.0f}"),
        "most that a fresh process held which does nothing but load it and label 256 texts.",
    ),
    ("start s", _shown("start_s"), "from the start of that process to its first label."),
    ("size MB", _shown("size_mb"), "its files."),
    ("accuracy", _shown("accuracy", lambda value: f"{value:.4f}"), "share of test texts that are right."),
    ("times quicker", _shown("speedup"), "than {} with one thread, by µs per text."),
    (
        "labels equal",
        _shown("labels_equal", _percent),
        "share of test texts that get the same label as from the same weights in PyTorch, fp32.",
    ),
)
SHORT = ("threads", "µs per text", "p50 µs", "p99 µs", "accuracy", "times quicker")  # what fits a terminal


def markdown(rows: Sequence[Row], yardstick: str, notes: Sequence[str]) -> str:
    """The whole table as Markdown, each column explained."""
    header = ["", *(title for title, _, _ in COLUMNS)]
    body = [[row["name"], *(cell(row) for _, cell, _ in COLUMNS)] for row in rows]
    meanings = "\n".join(f"- **{title}**: {meaning.format(yardstick)}" for title, _, meaning in COLUMNS)
    said = "\n".join(f"- {note}" for note in notes)
    parts = ["# Speed", markdown_of([header, *body]), said, "![accuracy and speed](benchmark.png)", meanings]
    return "\n\n".join(filter(None, parts)) + "\n"


def short(rows: Sequence[Row]) -> list[list[str]]:
    """The few columns that fit 100 characters, with their titles."""
    columns = [(title, _shown("us_per_text") if cell is spread else cell) for title, cell, _ in COLUMNS]
    shown = [(title, cell) for title, cell in columns if title in SHORT]
    return [["", *(title for title, _ in shown)], *([row["name"], *(cell(row) for _, cell in shown)] for row in rows)]


def terminal(rows: Sequence[Row], notes: Sequence[str]) -> str:
    """The table for a terminal."""
    return "\n".join([*aligned(short(rows)), "", *notes])
