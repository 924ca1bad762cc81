"""How long a function takes over texts, and what its process takes: rounds in turns, single texts, a fresh process."""

from __future__ import annotations

import json
import math
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from subprocess import PIPE
from typing import IO, Any, TypeVar

from distill.errors import UserError
from distill.progress import with_progress_bar

Key = TypeVar("Key")
Predict = Callable[[Sequence[str]], Any]  # labels, in some sequence
LEAST = 0.1  # seconds of a run: a shorter one is repeated, else the clock and a cold cache would be what is measured
ROOT = Path(__file__).parents[2]
CHILD = """
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
class Task:
    """What is run in a round: ``predict`` over all ``texts``, in ``rounds`` of the rounds."""

    predict: Predict
    texts: Sequence[str]
    rounds: int


@dataclass(frozen=True)
class Process:
    """A child process: seconds from its start to the first label, and the most memory that it held, in MB (10^6)."""

    start_s: float
    memory_mb: float


def in_turns(
    tasks: Mapping[Key, Task], clock: Callable[[], float] = time.perf_counter, least: float = LEAST
) -> dict[Key, tuple[float, ...]]:
    """Seconds a text of every task, one figure a round; the tasks take turns.

    So a machine whose speed drifts is unjust to none. A task of fewer rounds than others is spread over all of them.
    Before its first round a task runs once to warm up; that says how often it must repeat to take ``least`` seconds.
    """
    passes = {key: _passes(task, clock, least) for key, task in tasks.items()}
    most = max((task.rounds for task in tasks.values()), default=0)
    turns = [key for place in range(most) for key, task in tasks.items() if place * task.rounds % most < task.rounds]
    found: dict[Key, list[float]] = {key: [] for key in tasks}
    for key in with_progress_bar(turns, "timing", len(turns), "runs"):
        found[key].append(_seconds(tasks[key], passes[key], clock))
    return {key: tuple(seconds) for key, seconds in found.items()}


def _passes(task: Task, clock: Callable[[], float], least: float) -> int:
    warm = _seconds(task, 1, clock) * len(task.texts)
    return max(1, math.ceil(least / warm)) if warm else 1


def _seconds(task: Task, passes: int, clock: Callable[[], float]) -> float:
    started = clock()
    for _ in range(passes):
        task.predict(task.texts)
    return (clock() - started) / (passes * len(task.texts))


def one_by_one(
    predict: Predict, texts: Sequence[str], calls: int, clock: Callable[[], float] = time.perf_counter
) -> tuple[float, ...]:
    """Seconds of ``calls`` calls with a single text each, the texts again and again; a tenth more goes before."""
    seconds = []
    for place in range(-(calls // 10), calls):
        text = texts[place % len(texts) : place % len(texts) + 1]
        started = clock()
        predict(text)
        seconds.append(clock() - started)
    return tuple(seconds[calls // 10 :])


def fresh_process(code: str, arguments: Sequence[str], texts: Sequence[str]) -> Process:
    """What a new interpreter takes that does nothing but load a model and label ``texts``, with one thread and no GPU.

    Args:
        code: Python that leaves a function ``predict``; it finds ``arguments`` in ``sys.argv[1:]``.
        arguments: of the code.
        texts: to label; the first of them alone, then all.

    Memory is Linux' ``VmHWM``: ``ru_maxrss`` would count what this very process held when it started the child.

    Raises:
        UserError: the child fails; its last words are said.
    """
    command = [sys.executable, "-c", CHILD.format(code=code), *arguments]
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    with _file() as given, _file() as faults:
        given.write(json.dumps(list(texts)))
        given.seek(0)
        started = time.perf_counter()
        with subprocess.Popen(  # noqa: S603 (our own interpreter, no shell)
            command, stdin=given, stdout=PIPE, stderr=faults, text=True, env=environment
        ) as child:
            lines = [(line, time.perf_counter()) for line in child.stdout or ()]
        if child.returncode or len(lines) != 2:
            faults.seek(0)
            last = (faults.read().strip().splitlines() or ["it did not say what it was asked"])[-1]
            raise UserError(f"the process that measures memory failed: {last}", code.splitlines()[0])
    (_, first), (peak, _) = lines
    return Process(first - started, float(peak) * 1024 / 1e6)


def _file() -> IO[str]:
    return tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")


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
