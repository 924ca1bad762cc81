"""What is to be timed, and how it becomes the rows of the table of speed."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from distill.errors import UserError
from distill.evaluation.timing import Predict, Process, Task, fresh_process, in_turns, one_by_one
from distill.progress import with_progress_bar
from distill.reporting.speed import Measurement

PROCESS_TEXTS = 256


@dataclass(frozen=True)
class Effort:
    """How long a model is timed: over how many test texts at most, in how many rounds, and calls with one text."""

    texts: int
    rounds: int
    singles: int


QUICK, SLOW, SLOWEST = Effort(2**62, 15, 2000), Effort(256, 3, 128), Effort(64, 5, 32)


@dataclass(frozen=True)
class Candidate:
    """A model to be timed.

    Args:
        name: its rows'.
        open: gives what takes texts, for a number of threads.
        batch: texts that it takes at once.
        effort: how long it is timed.
        threads: a row each.
        gives_labels: whether what it gives are names of the data's classes.
        like: name of the candidate whose labels its own should be; "" for none.
        child: code that makes ``predict`` in a fresh process, and its arguments; () where there is none.
        bytes: of its files; None where it has none.
        note: what is to be said of it.
    """

    name: str
    open: Callable[[int], Predict]
    batch: int
    effort: Effort = QUICK
    threads: tuple[int, ...] = (1,)
    gives_labels: bool = True
    like: str = ""
    child: tuple[str, ...] = ()
    bytes: int | None = None
    note: str = ""


def measure(
    candidates: Sequence[Candidate], texts: Sequence[str], gold: Sequence[str]
) -> tuple[list[Measurement], list[str]]:
    """A row a candidate and number of threads, and a line for each fresh process that failed.

    All take turns. ``gold`` are the names of the labels of ``texts``.
    """
    pairs = [(one, count) for one in candidates for count in one.threads]
    opened = {(one.name, count): _with_threads(one.open(count), count) for one, count in pairs}
    labels = {
        one.name: [str(label) for label in opened[one.name, max(one.threads)](texts)]
        for one in with_progress_bar(candidates, "labels", len(candidates), "models")
        if one.gives_labels
    }
    found = _timed(pairs, opened, texts)
    processes, failed = _processes(candidates, texts[:PROCESS_TEXTS])
    rows = [_judged(row, one, labels, gold) for row, (one, _) in zip(found, pairs, strict=True)]
    return [_with_process(row, processes.get(row.name)) for row in rows], failed


def _with_threads(predict: Predict, threads: int) -> Predict:
    """The same, PyTorch being told its number of threads at each call: others have theirs in between."""

    def told(texts: Sequence[str]) -> Any:
        torch.set_num_threads(threads)
        return predict(texts)

    return told


def _timed(
    pairs: Sequence[tuple[Candidate, int]], opened: dict[tuple[str, int], Predict], texts: Sequence[str]
) -> list[Measurement]:
    """Rows without what only labels and fresh processes tell."""
    tasks = {
        (one.name, count): Task(opened[one.name, count], spaced(texts, one.effort.texts), one.effort.rounds)
        for one, count in pairs
    }
    seconds, rows = in_turns(tasks), []
    for one, count in with_progress_bar(pairs, "single texts", len(pairs), "models"):
        key = one.name, count
        few = tasks[key].texts
        singles = one_by_one(opened[key], few, one.effort.singles) if count == 1 else ()
        rows.append(Measurement(one.name, count, one.batch, len(few), seconds[key], singles, bytes=one.bytes))
    return rows


def spaced(texts: Sequence[str], most: int) -> Sequence[str]:
    """At most ``most`` of the texts, evenly from all of them: a file may be sorted."""
    return [texts[place * len(texts) // most] for place in range(most)] if len(texts) > most else texts


def _judged(row: Measurement, one: Candidate, labels: Mapping[str, Sequence[str]], gold: Sequence[str]) -> Measurement:
    own, like = labels.get(one.name), labels.get(one.like)
    return dataclasses.replace(row, accuracy=_same(own, gold), labels_equal=_same(own, like))


def _same(own: Sequence[str] | None, other: Sequence[str] | None) -> float | None:
    """Share of the places where both are the same."""
    if own is None or other is None:
        return None
    return sum(mine == yours for mine, yours in zip(own, other, strict=True)) / len(own)


def _processes(candidates: Sequence[Candidate], texts: Sequence[str]) -> tuple[dict[str, Process], list[str]]:
    """What each takes that a fresh process can load, one after the other."""
    found, failed = {}, []
    loadable = [one for one in candidates if one.child]
    for one in with_progress_bar(loadable, "fresh processes", len(loadable), "models"):
        code, *arguments = one.child
        try:
            found[one.name] = fresh_process(code, arguments, texts)
        except UserError as error:
            failed.append(f"Memory and start were not measured: {one.name}. {error.what}.")
    return found, failed


def _with_process(row: Measurement, process: Process | None) -> Measurement:
    """The process has one thread."""
    if process is None or row.threads > 1:
        return row
    return dataclasses.replace(row, memory_mb=process.memory_mb, start_s=process.start_s)
