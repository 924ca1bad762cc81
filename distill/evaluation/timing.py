"""Timing of predictions: interleaved rounds over many texts, calls with single texts, and a fresh process."""

from __future__ import annotations

import contextlib
import gc
import json
import math
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from subprocess import PIPE
from typing import IO, Any, TypeVar

from distill.errors import UserError
from distill.progress import with_progress_bar

Key = TypeVar("Key")
Predict = Callable[[Sequence[str]], Any]  # texts to labels, in any kind of sequence
MIN_SECONDS = 0.1  # of a run; shorter ones are repeated, or else clock resolution and cold caches would dominate
ROOT = Path(__file__).parents[2]
CHILD_CODE = """
import json, sys
texts = json.load(sys.stdin)
{code}
predict(texts[:1])
print("first", flush=True)
predict(texts)
try:
    peak = next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM"))
except OSError:
    import resource
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1024 if sys.platform == "darwin" else 1)
print(peak)
"""


@dataclass(frozen=True)
class Workload:
    """Work to be timed: ``predict`` over all ``texts``, ``rounds`` times."""

    predict: Predict
    texts: Sequence[str]
    rounds: int


@dataclass(frozen=True)
class ProcessCost:
    """A child process: seconds from its start to the first label, and its peak memory in MB (10^6 bytes)."""

    start_s: float
    memory_mb: float


def interleaved_rounds(
    tasks: Mapping[Key, Workload], clock: Callable[[], float] = time.perf_counter, min_seconds: float = MIN_SECONDS
) -> dict[Key, tuple[float, ...]]:
    """Seconds per text of every task, one figure per round, with the rounds of all tasks interleaved.

    So a machine whose speed drifts favours no task. The rounds of a task with fewer of them are spread evenly. Every
    task first runs once to warm up; that run also decides how often a round repeats it to last ``min_seconds``.
    """
    passes = {key: _passes(task, clock, min_seconds) for key, task in tasks.items()}
    rounds = max((task.rounds for task in tasks.values()), default=0)
    order = [
        key for index in range(rounds) for key, task in tasks.items() if index * task.rounds % rounds < task.rounds
    ]
    seconds: dict[Key, list[float]] = {key: [] for key in tasks}
    with _frozen_objects():
        for key in with_progress_bar(order, "timing", len(order), "runs"):
            seconds[key].append(_seconds_per_text(tasks[key], passes[key], clock))
    return {key: tuple(values) for key, values in seconds.items()}


@contextlib.contextmanager
def _frozen_objects() -> Iterator[None]:
    """Keep Python's garbage collector away from the objects that exist now: millions, of all the models together.

    A task that makes many objects would pay for walking through those of the others. Its own are still collected.
    """
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def _passes(task: Workload, clock: Callable[[], float], min_seconds: float) -> int:
    warmup = _seconds_per_text(task, 1, clock) * len(task.texts)
    return max(1, math.ceil(min_seconds / warmup)) if warmup else 1


def _seconds_per_text(task: Workload, passes: int, clock: Callable[[], float]) -> float:
    started = clock()
    for _ in range(passes):
        task.predict(task.texts)
    return (clock() - started) / (passes * len(task.texts))


def single_calls(
    predict: Predict, texts: Sequence[str], calls: int, clock: Callable[[], float] = time.perf_counter
) -> tuple[float, ...]:
    """Seconds of ``calls`` calls with one text each, cycling through the texts, after a tenth as many to warm up."""
    seconds = []
    with _frozen_objects():
        for call in range(-(calls // 10), calls):
            index = call % len(texts)
            text = texts[index : index + 1]
            started = clock()
            predict(text)
            seconds.append(clock() - started)
    return tuple(seconds[calls // 10 :])


def fresh_process(code: str, arguments: Sequence[str], texts: Sequence[str]) -> ProcessCost:
    """Measure a new interpreter that only loads a model and labels ``texts``, with one thread and no GPU.

    Peak memory is ``VmHWM`` on Linux: ``ru_maxrss`` would include the memory of this process when it started the child.

    Args:
        code: Python code that defines a function ``predict``; it finds ``arguments`` in ``sys.argv[1:]``.
        arguments: of the code.
        texts: to label; first the first one alone, then all.

    Raises:
        UserError: the child fails; the message ends with the last line of its standard error.
    """
    command = [sys.executable, "-c", CHILD_CODE.format(code=code), *arguments]
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    with _temporary_file() as stdin, _temporary_file() as stderr:
        stdin.write(json.dumps(list(texts)))
        stdin.seek(0)
        started = time.perf_counter()
        with subprocess.Popen(  # noqa: S603 (our own interpreter, no shell)
            command, stdin=stdin, stdout=PIPE, stderr=stderr, text=True, env=environment
        ) as child:
            lines = [(line, time.perf_counter()) for line in child.stdout or ()]
        if child.returncode or len(lines) != 2:
            stderr.seek(0)
            last_line = (stderr.read().strip().splitlines() or [f"it printed {len(lines)} lines instead of 2"])[-1]
            raise UserError(f"the process that measures memory failed: {last_line}", code.splitlines()[0])
    (_, first_label), (peak_kib, _) = lines
    return ProcessCost(first_label - started, float(peak_kib) * 1024 / 1e6)


def _temporary_file() -> IO[str]:
    return tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")


TEXTS = 512  # of the test set, for reports and comparisons
RUNS = 3


def ms_per_text(models: Mapping[Key, Predict], texts: Sequence[str]) -> dict[Key, float]:
    """Milliseconds per text of every model: the median of ``RUNS`` interleaved rounds."""
    seconds = interleaved_rounds({key: Workload(predict, texts, RUNS) for key, predict in models.items()})
    return {key: 1000 * statistics.median(rounds) for key, rounds in seconds.items()}


def processor() -> str:
    """Name of the processor."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
