"""Times the candidates of the speed table and computes its rows."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from distill.data.splits import evenly_spaced
from distill.errors import UserError
from distill.evaluation.timing import Predict, ProcessCost, Workload, fresh_process, interleaved_rounds, single_calls
from distill.progress import with_progress_bar
from distill.reporting.speed import Measurement

PROCESS_TEXTS = 256  # that a fresh process labels


@dataclass(frozen=True)
class Effort:
    """How long a model is timed.

    Args:
        texts: number of test texts at most.
        rounds: over these texts.
        singles: calls with a single text.
    """

    texts: int
    rounds: int
    singles: int


THREADS = (1, 2)  # that the models are timed with, if the machine has them
QUICK, SLOW, SLOWEST = Effort(2**62, 15, 2000), Effort(256, 3, 128), Effort(64, 5, 32)


@dataclass(frozen=True)
class Candidate:
    """A model to be timed.

    Args:
        name: name of its rows.
        open: returns the function to be timed, for a number of threads.
        batch: number of texts in a batch.
        effort: how long it is timed.
        threads: numbers of threads, a row for each.
        gives_labels: whether its outputs are label names of these data.
        reference: name of the candidate whose labels it should reproduce; "" for none.
        process_code: code that defines ``predict`` in a fresh process, and its arguments; () if it cannot be loaded
            there.
        bytes: size of its files; None if it has none.
        note: a sentence for the notes below the table.
        task: which of several tasks it answers; "": all.
    """

    name: str
    open: Callable[[int], Predict]
    batch: int
    effort: Effort = QUICK
    threads: tuple[int, ...] = (1,)
    gives_labels: bool = True
    reference: str = ""
    process_code: tuple[str, ...] = ()
    bytes: int | None = None
    note: str = ""
    task: str = ""


Label = str | frozenset[str] | tuple[Any, ...]  # of a text; in multi-label data, all of them; of several tasks, each
Score = Callable[[Sequence[Any], Sequence[Any]], float]  # of predicted labels, given the right ones
Key = tuple[str, int]  # name of a candidate and number of threads
Pair = tuple[Candidate, int]


@dataclass(frozen=True)
class TaskLabels:
    """The right labels of one of several tasks.

    Args:
        name: of the task.
        measured: name of the score.
        rows: indices of the test texts that have labels.
        gold: the labels of these.
        score: of predicted labels.
    """

    name: str
    measured: str
    rows: Sequence[int]
    gold: Sequence[Label]
    score: Score


def share_equal(labels: Sequence[Label], others: Sequence[Label]) -> float:
    """Share of positions with equal labels."""
    return sum(label == other for label, other in zip(labels, others, strict=True)) / len(labels)


def measure(
    candidates: Sequence[Candidate],
    texts: Sequence[str],
    gold: Sequence[Label],
    score: Score = share_equal,
    tasks: Sequence[TaskLabels] = (),
) -> tuple[list[Measurement], list[str]]:
    """Time all candidates, their rounds interleaved; ``gold`` are the label names of ``texts``.

    ``score`` is the accuracy or, in multi-label data, micro-F1. With several ``tasks`` each has a score instead.

    Returns one measurement per candidate and number of threads, and a sentence for each fresh process that failed.
    """
    pairs, functions = opened(candidates)
    predicted = {
        candidate.name: functions[candidate.name, max(candidate.threads)](texts)
        for candidate in with_progress_bar(candidates, "labels", len(candidates), "models")
        if candidate.gives_labels
    }
    labels = {name: _labels(one) for name, one in predicted.items()}
    timed = measurements(pairs, functions, texts)
    processes, failed = _processes(candidates, texts[:PROCESS_TEXTS])
    scored = {} if tasks else {name: score(of_texts, gold) for name, of_texts in labels.items()}
    rows = [_with_labels(row, candidate, labels, scored) for row, (candidate, _) in zip(timed, pairs, strict=True)]
    if tasks:
        answering = [candidate for candidate in candidates if candidate.gives_labels]
        by_task = {one.name: _scores_by_task(one, predicted[one.name], tasks) for one in answering}
        rows = [dataclasses.replace(row, by_task=by_task.get(row.name, {})) for row in rows]
    return [_with_process(row, processes.get(row.name)) for row in rows], failed


def _scores_by_task(candidate: Candidate, predicted: Any, tasks: Sequence[TaskLabels]) -> dict[str, float]:
    """The scores of the tasks that a candidate answers, by the task's name."""
    by_name = predicted if isinstance(predicted, dict) else {candidate.task: predicted}
    labels = {name: _labels(one) for name, one in by_name.items()}
    return {
        task.name: task.score([labels[task.name][row] for row in task.rows], task.gold)
        for task in tasks
        if task.name in labels
    }


@contextlib.contextmanager
def threads_restored() -> Iterator[int]:
    """PyTorch's number of threads, which is set back at the end."""
    threads = torch.get_num_threads()
    try:
        yield threads
    finally:
        torch.set_num_threads(threads)


def opened(candidates: Sequence[Candidate]) -> tuple[list[Pair], dict[Key, Predict]]:
    """Every candidate with each of its numbers of threads, and the function of each such pair."""
    pairs = [(candidate, threads) for candidate in candidates for threads in candidate.threads]
    return pairs, {
        (candidate.name, threads): _with_threads(candidate.open(threads), threads) for candidate, threads in pairs
    }


def _with_threads(predict: Predict, threads: int) -> Predict:
    """Set PyTorch's number of threads before every call: the rounds of other candidates change it in between."""

    def predict_with_threads(texts: Sequence[str]) -> Any:
        torch.set_num_threads(threads)
        return predict(texts)

    return predict_with_threads


def measurements(
    pairs: Sequence[Pair], functions: Mapping[Key, Predict], texts: Sequence[str], *, singles_on_all: bool = False
) -> list[Measurement]:
    """Rows with times, still without labels and the figures of fresh processes.

    Single texts are timed on one thread or, with ``singles_on_all``, on every number of threads.
    """
    tasks = {
        (candidate.name, threads): Workload(
            functions[candidate.name, threads],
            evenly_spaced(texts, candidate.effort.texts),
            candidate.effort.rounds,
        )
        for candidate, threads in pairs
    }
    seconds, rows = interleaved_rounds(tasks), []
    for candidate, threads in with_progress_bar(pairs, "single texts", len(pairs), "models"):
        key = candidate.name, threads
        sample = tasks[key].texts
        has_singles = threads == 1 or singles_on_all
        singles = single_calls(functions[key], sample, candidate.effort.singles) if has_singles else ()
        rows.append(
            Measurement(
                name=candidate.name,
                threads=threads,
                batch=candidate.batch,
                texts=len(sample),
                rounds=seconds[key],
                singles=singles,
                bytes=candidate.bytes,
            )
        )
    return rows


def _labels(predicted: Any) -> list[Label]:
    """What a model predicts for every text, as what it is compared with; that of several tasks is by their name."""
    if isinstance(predicted, dict):
        return list(zip(*map(_labels, predicted.values()), strict=True))
    return [_label(label) for label in predicted]


def _label(label: Any) -> Label:
    """What a model predicts for a text, as what it is compared with."""
    return frozenset(label) if isinstance(label, list) else str(label)


def _with_labels(
    row: Measurement, candidate: Candidate, labels: Mapping[str, Sequence[Label]], scored: Mapping[str, float]
) -> Measurement:
    predicted, reference = labels.get(candidate.name), labels.get(candidate.reference)
    equal = None if predicted is None or reference is None else share_equal(predicted, reference)
    return dataclasses.replace(row, accuracy=scored.get(candidate.name), labels_equal=equal)


def _processes(candidates: Sequence[Candidate], texts: Sequence[str]) -> tuple[dict[str, ProcessCost], list[str]]:
    """Measure the candidates that a fresh process can load, one after the other; and sentences about failures."""
    costs, failed = {}, []
    loadable = [candidate for candidate in candidates if candidate.process_code]
    for candidate in with_progress_bar(loadable, "fresh processes", len(loadable), "models"):
        code, *arguments = candidate.process_code
        try:
            costs[candidate.name] = fresh_process(code, arguments, texts)
        except UserError as error:
            failed.append(f"Memory and start were not measured: {candidate.name}. {error.what}.")
    return costs, failed


def _with_process(row: Measurement, cost: ProcessCost | None) -> Measurement:
    """The row with one thread gets the figures of the process, which has one thread."""
    if cost is None or row.threads > 1:
        return row
    return dataclasses.replace(row, memory_mb=cost.memory_mb, start_s=cost.start_s)
