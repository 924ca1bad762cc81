"""How long models take from raw texts to labels: the same texts, warm-up, interleaved runs, medians."""

from __future__ import annotations

import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from distill.progress import progress

Key = TypeVar("Key")
TEXTS = 512
RUNS = 3


def ms_per_text(models: Mapping[Key, Callable[[Sequence[str]], object]], texts: Sequence[str]) -> dict[Key, float]:
    """Milliseconds a text for every model: the median of ``RUNS`` runs over ``texts``, model after model in each run.

    The models take turns, so that a machine whose speed drifts is unjust to none.
    """
    for predict in models.values():
        predict(texts[:64])
    seconds: dict[Key, list[float]] = {name: [] for name in models}
    turns = [name for _ in range(RUNS) for name in models]
    for name in progress(turns, "timing", len(turns), "runs"):
        started = time.perf_counter()
        models[name](texts)
        seconds[name].append(time.perf_counter() - started)
    return {name: 1000 * statistics.median(runs) / len(texts) for name, runs in seconds.items()}


def processor() -> str:
    """The processor's name."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
