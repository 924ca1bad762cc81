"""How long models take from raw texts to labels, for a report's tables, and on which processor."""

from __future__ import annotations

import platform
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from distill.evaluation.timing import Predict, Task, in_turns

Key = TypeVar("Key")
TEXTS = 512
RUNS = 3


def ms_per_text(models: Mapping[Key, Predict], texts: Sequence[str]) -> dict[Key, float]:
    """Milliseconds a text for every model: the median of ``RUNS`` rounds in which the models take turns."""
    seconds = in_turns({key: Task(predict, texts, RUNS) for key, predict in models.items()})
    return {key: 1000 * statistics.median(rounds) for key, rounds in seconds.items()}


def processor() -> str:
    """The processor's name."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
