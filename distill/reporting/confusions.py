"""Confusion matrices for a page, and where the student differs from its teacher."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from distill.evaluation.metrics import confusion
from distill.reporting.results import TEACHER, Outcome
from distill.reporting.tables import TITLES

MOST = 30  # labels in a matrix


class MatrixCell(NamedTuple):
    """A cell's text, how much of its colour it has in per cent, and its classes in the style sheet."""

    text: str
    share: int
    look: str = ""


class Matrix(NamedTuple):
    """A matrix of cells: rows are labels, columns predictions."""

    caption: str
    cells: list[list[MatrixCell]]


def shown_labels(outcomes: Sequence[Outcome], gold: NDArray[np.int64], classes: int) -> NDArray[np.int64]:
    """The labels that are shown: all, or of more than ``MOST`` those that take part in most mistakes."""
    if classes <= MOST:
        return np.arange(classes)
    wrong = sum(confusion(gold, outcome.predicted, classes) for outcome in outcomes) * (1 - np.eye(classes, dtype=int))
    return np.sort(np.argsort(-(wrong.sum(axis=0) + wrong.sum(axis=1)), kind="stable")[:MOST])


def matrices(outcomes: Sequence[Outcome], gold: NDArray[np.int64], classes: int) -> list[Matrix]:
    """A matrix a model; and, with a teacher, what the last of the models confuses more or less often than it."""
    labels = shown_labels(outcomes, gold, classes)
    counts = {one.name: confusion(gold, one.predicted, classes)[np.ix_(labels, labels)] for one in outcomes}
    shown = [
        Matrix(f"{TITLES[name]}: texts of each label (rows) by prediction (columns).", _shares(of))
        for name, of in counts.items()
    ]
    last = outcomes[-1].name
    if TEACHER not in counts or last == TEACHER:
        return shown
    caption = f"{TITLES[last]} minus teacher: blue is better than the teacher, orange worse."
    return [*shown, Matrix(caption, _differences(counts[last] - counts[TEACHER]))]


def _shares(counts: NDArray[np.int64]) -> list[list[MatrixCell]]:
    shares = 100 * counts // np.maximum(counts.sum(axis=1, keepdims=True), 1)
    return [
        [MatrixCell(str(count), int(share), "full" if share > 55 else "") for count, share in zip(*line, strict=True)]
        for line in zip(counts, shares, strict=True)
    ]


def _differences(more: NDArray[np.int64]) -> list[list[MatrixCell]]:
    """More is better on the diagonal, and worse beside it."""
    better = np.where(np.eye(len(more), dtype=bool), more, -more)
    shares = 70 * np.abs(more) // max(np.abs(more).max(), 1)
    return [
        [
            MatrixCell(f"{count:+d}".replace("-", "−") if count else "0", int(share), "bad" if good < 0 else "")
            for count, share, good in zip(*line, strict=True)
        ]
        for line in zip(more, shares, better, strict=True)
    ]
