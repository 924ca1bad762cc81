"""The table of speed: from raw text to label, every model side by side, in three forms."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from distill.reporting import accuracy_speed_plot
from distill.reporting.tables import aligned, markdown_of
from distill.storage.atomic import write_file, write_json


@dataclass(frozen=True)
class Measured:
    """What was measured of one model with one number of threads.

    Args:
        name: as shown; with ``threads`` it names the row.
        threads: of the processor.
        batch: texts that it takes at once.
        texts: in a round.
        rounds: seconds a text, one figure a round.
        singles: seconds of calls with one text each; () where that was not measured.
        memory_mb: most that a fresh process held which only loads it and labels some texts, in MB (10^6 bytes).
        start_s: seconds from the start of that process to its first label.
        bytes: of its files.
        accuracy: share of the test texts that are right; None: it gives no labels, or is not trained for these.
        labels_equal: share of the test texts with the same label as the row that it should not differ from.
    """

    name: str
    threads: int
    batch: int
    texts: int
    rounds: Sequence[float]
    singles: Sequence[float] = ()
    memory_mb: float | None = None
    start_s: float | None = None
    bytes: int | None = None
    accuracy: float | None = None
    labels_equal: float | None = None


@dataclass(frozen=True)
class Speed:
    """Everything the table says; ``yardstick`` names the row of one thread that ``speedup`` counts from.

    ``texts`` and ``rounds`` are those of the quick rows; ``notes`` says how it was measured and what was left out.
    """

    measured: Sequence[Measured]
    yardstick: str
    machine: str
    texts: int
    rounds: int
    versions: dict[str, str]
    settings: dict[str, Any]
    notes: Sequence[str] = field(default=())


def rows_of(measured: Sequence[Measured], yardstick: str) -> list[dict[str, Any]]:
    """One row a model and number of threads; what was not measured is None.

    Times in ``us_…`` and ``…_us`` are microseconds. ``speedup``: how many times quicker than the yardstick.
    """
    base = next((one.rounds for one in measured if (one.name, one.threads) == (yardstick, 1)), None)
    return [_row(one, None if base is None else float(np.median(base))) for one in measured]


def _row(one: Measured, base: float | None) -> dict[str, Any]:
    seconds = float(np.median(one.rounds))
    p50, p99 = (float(p) * 1e6 for p in np.percentile(one.singles, (50, 99))) if one.singles else (None, None)
    return {
        "name": one.name,
        "threads": one.threads,
        "batch": one.batch,
        "us_per_text": seconds * 1e6,
        "us_low": min(one.rounds) * 1e6,
        "us_high": max(one.rounds) * 1e6,
        "texts_per_s": 1 / seconds,
        "p50_us": p50,
        "p99_us": p99,
        "memory_mb": one.memory_mb,
        "start_s": one.start_s,
        "size_mb": None if one.bytes is None else one.bytes / 1e6,
        "accuracy": one.accuracy,
        "speedup": None if base is None else base / seconds,
        "labels_equal": one.labels_equal,
        "texts": one.texts,
        "rounds": len(one.rounds),
        "calls": len(one.singles),
    }


def write(speed: Speed, folder: Path) -> tuple[str, list[Path]]:
    """Write benchmark.json, benchmark.md and benchmark.png; returns the table for a terminal and the files."""
    rows = rows_of(speed.measured, speed.yardstick)
    content = {
        "rows": rows,
        "machine": speed.machine,
        "texts": speed.texts,
        "rounds": speed.rounds,
        "versions": speed.versions,
        "settings": speed.settings,
        "notes": list(speed.notes),
    }
    files = [
        write_json(folder / "benchmark.json", content),
        write_file(folder / "benchmark.md", markdown(rows, speed.yardstick, speed.notes)),
        accuracy_speed_plot.draw_speed(rows, folder / "benchmark.png"),
    ]
    return terminal(rows, speed.notes), files


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
