"""What the models get wrong: confusion matrices for a page, and the most confident mistakes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from distill.evaluation.metrics import confusion, softmax
from distill.reporting.results import TEACHER, EvaluationContext, Outcome
from distill.reporting.translation import Text

MAX_LABELS = 30  # in a matrix
MAX_MISTAKES = 20
MAX_CHARACTERS = 200  # of a text


@dataclass(frozen=True)
class MatrixCell:
    """A cell: its text, the strength of its colour in per cent, and its CSS classes."""

    text: str
    share: int
    css: str = ""


@dataclass(frozen=True)
class Matrix:
    """A matrix of cells: rows are labels, columns predictions."""

    caption: str
    cells: list[list[MatrixCell]]


def shown_labels(outcomes: Sequence[Outcome], gold: NDArray[np.int64], classes: int) -> NDArray[np.int64]:
    """The labels to show: all of them, or of more than ``MAX_LABELS`` those with the most mistakes."""
    if classes <= MAX_LABELS:
        return np.arange(classes)
    wrong = sum(confusion(gold, outcome.predicted, classes) for outcome in outcomes) * (1 - np.eye(classes, dtype=int))
    return np.sort(np.argsort(-(wrong.sum(axis=0) + wrong.sum(axis=1)), kind="stable")[:MAX_LABELS])


def confusion_matrices(outcomes: Sequence[Outcome], gold: NDArray[np.int64], classes: int) -> list[Matrix]:
    """A matrix per model and, if there are a teacher and a student, the last model's counts minus the teacher's."""
    labels = shown_labels(outcomes, gold, classes)
    counts = {outcome.name: confusion(gold, outcome.predicted, classes)[np.ix_(labels, labels)] for outcome in outcomes}
    matrices = [
        Matrix(
            Text("{model}: number of texts by label (rows) and prediction (columns).", model=outcome.title),
            _shares(counts[outcome.name]),
        )
        for outcome in outcomes
    ]
    last = outcomes[-1]
    if TEACHER not in counts or last.name == TEACHER:
        return matrices
    caption = Text("{model} minus teacher: blue is better than the teacher, orange worse.", model=last.title)
    return [*matrices, Matrix(caption, _differences(counts[last.name] - counts[TEACHER]))]


def _shares(counts: NDArray[np.int64]) -> list[list[MatrixCell]]:
    shares = 100 * counts // np.maximum(counts.sum(axis=1, keepdims=True), 1)
    return [
        [MatrixCell(str(count), int(share), "full" if share > 55 else "") for count, share in zip(*line, strict=True)]
        for line in zip(counts, shares, strict=True)
    ]


def _differences(differences: NDArray[np.int64]) -> list[list[MatrixCell]]:
    """Signed counts; more is better on the diagonal and worse off it."""
    gains = np.where(np.eye(len(differences), dtype=bool), differences, -differences)
    shares = 70 * np.abs(differences) // max(np.abs(differences).max(), 1)
    return [
        [
            MatrixCell(f"{count:+d}".replace("-", "−") if count else "0", int(share), "bad" if gain < 0 else "")
            for count, share, gain in zip(*line, strict=True)
        ]
        for line in zip(differences, shares, gains, strict=True)
    ]


@dataclass(frozen=True)
class Mistake:
    """A text with its label and the predictions of a model and of a reference model; confidences are formatted."""

    text: str
    label: str
    predicted: str
    confidence: str
    reference: str
    reference_confidence: str
    reference_is_correct: bool


def confident_mistakes(model: Outcome, reference: Outcome | None, context: EvaluationContext) -> list[Mistake]:
    """The ``MAX_MISTAKES`` most confident mistakes of a model, the most confident first, each text once.

    Without a reference model its columns repeat the model's own predictions.
    """
    gold, texts, labels = context.gold, context.texts, context.labels
    predicted, confidence = _predictions(model)
    other, other_confidence = _predictions(reference or model)
    wrong = np.flatnonzero(predicted != gold)
    index_by_text: dict[str, int] = {}
    for index in wrong[np.argsort(-confidence[wrong], kind="stable")].tolist():
        index_by_text.setdefault(texts[index], index)
    return [
        Mistake(
            text=text if len(text) <= MAX_CHARACTERS else f"{text[:MAX_CHARACTERS]}…",
            label=labels[gold[index]],
            predicted=labels[predicted[index]],
            confidence=_percent(confidence[index]),
            reference=labels[other[index]],
            reference_confidence=_percent(other_confidence[index]),
            reference_is_correct=bool(other[index] == gold[index]),
        )
        for text, index in list(index_by_text.items())[:MAX_MISTAKES]
    ]


def _predictions(model: Outcome) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Class numbers and their probabilities, (texts,) each."""
    return model.predicted, softmax(model.logits, model.temperature).max(axis=1)


def _percent(share: float) -> str:
    return f"{100 * share:.0f}\N{NO-BREAK SPACE}%"
