"""The table of speed: from raw text to label, every model side by side, in three forms."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from distill.reporting import speed_plot, speed_tables
from distill.storage.atomic import write_file, write_json

__all__ = ["Measured", "Speed", "rows_of", "write"]


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
        write_file(folder / "benchmark.md", speed_tables.markdown(rows, speed.yardstick, speed.notes)),
        speed_plot.draw(rows, folder / "benchmark.png"),
    ]
    return speed_tables.terminal(rows, speed.notes), files
