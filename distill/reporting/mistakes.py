"""What the models get wrong: confusion matrices or F1 by label for a page, and the most confident mistakes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distill.evaluation.metrics import confusion
from distill.evaluation.multi_label import NEVER, class_f1
from distill.reporting.results import TEACHER, EvaluationContext, Outcome
from distill.runtime.label_sets import names_of
from distill.translation import Listed, Text

MAX_LABELS = 30  # in a matrix
MAX_MISTAKES = 20
MAX_CHARACTERS = 200  # of a text
NOTHING = "–"


@dataclass(frozen=True)
class MatrixCell:
    """A cell: its text, the strength of its colour in per cent, and its CSS classes."""

    text: str
    share: int
    css: str = ""


@dataclass(frozen=True)
class Matrix:
    """A matrix of cells: rows are labels, columns predictions, or what ``columns`` names."""

    caption: str
    cells: list[list[MatrixCell]]
    columns: Sequence[str] = ()


def shown_labels(outcomes: Sequence[Outcome], gold: NDArray[Any], classes: int) -> NDArray[np.int64]:
    """The labels to show: all of them, or of more than ``MAX_LABELS`` those with the most mistakes."""
    if classes <= MAX_LABELS:
        return np.arange(classes)
    mistakes = np.sum([_mistakes_by_label(outcome.predicted, gold, classes) for outcome in outcomes], axis=0)
    return np.sort(np.argsort(-mistakes, kind="stable")[:MAX_LABELS])


def _mistakes_by_label(predicted: NDArray[Any], gold: NDArray[Any], classes: int) -> NDArray[np.int64]:
    """The number of mistakes in which each label is the right or the predicted one, shape (classes,)."""
    if gold.ndim == 2:
        return np.asarray((predicted != gold).sum(axis=0))
    wrong = confusion(gold, predicted, classes) * (1 - np.eye(classes, dtype=int))
    return np.asarray(wrong.sum(axis=0) + wrong.sum(axis=1))


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


def f1_by_label(outcomes: Sequence[Outcome], gold: NDArray[np.bool_], labels: NDArray[np.int64]) -> Matrix:
    """A row per label of ``labels`` (class numbers): its test texts, the last model's threshold, and F1 of every model.

    If there are a teacher and a student, the last model's F1 minus the teacher's follows.
    """
    teacher, last = outcomes[0], outcomes[-1]
    f1 = [class_f1(gold, outcome.predicted)[labels] for outcome in outcomes]
    thresholds = [last.thresholds[label] for label in labels]
    columns = [
        [MatrixCell(f"{count:,}", 0) for count in gold[:, labels].sum(axis=0)],
        [MatrixCell(NOTHING if threshold == NEVER else f"{threshold:.3f}", 0) for threshold in thresholds],
        *(
            [MatrixCell(f"{value:.3f}", int(100 * value), "full" if value > 0.55 else "") for value in one]
            for one in f1
        ),
    ]
    titles = [Text("texts"), Text("threshold"), *(outcome.title for outcome in outcomes)]
    caption = [
        Text(
            "F1 of every label on the test set, the number of texts that have it, and the threshold of the {model} (–: "
            "it never gives this label).",
            model=last.title,
        )
    ]
    if teacher.name == TEACHER != last.name:
        columns.append(_gains(f1[-1] - f1[0]))
        titles.append(Text("difference"))
        caption.append(Text("{model} minus teacher: blue is better than the teacher, orange worse.", model=last.title))
    return Matrix(Listed(caption, " ", ""), [list(row) for row in zip(*columns, strict=True)], titles)


def _gains(differences: NDArray[np.float64]) -> list[MatrixCell]:
    """Signed differences; more is better."""
    shares = 70 * np.abs(differences) // max(np.abs(differences).max(initial=0), 1e-9)
    return [
        MatrixCell(f"{value:+.3f}".replace("-", "−"), int(share), "bad" if value < 0 else "")
        for value, share in zip(differences, shares, strict=True)
    ]


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
    gold, labels = context.gold, context.labels
    predicted, confidence = _predictions(model)
    other, other_confidence = _predictions(reference or model)
    return [
        Mistake(
            text=_excerpt(context.texts[index]),
            label=labels[gold[index]],
            predicted=labels[predicted[index]],
            confidence=_percent(confidence[index]),
            reference=labels[other[index]],
            reference_confidence=_percent(other_confidence[index]),
            reference_is_correct=bool(other[index] == gold[index]),
        )
        for index in _first_mistakes(predicted != gold, confidence, context.texts)
    ]


def _predictions(model: Outcome) -> tuple[NDArray[np.int64], NDArray[np.floating]]:
    """Class numbers and their probabilities, (texts,) each."""
    return model.predicted, model.probabilities().max(axis=1)


def _first_mistakes(is_wrong: NDArray[np.bool_], confidence: NDArray[np.floating], texts: Sequence[str]) -> list[int]:
    """The ``MAX_MISTAKES`` most confident of the texts (texts,) that are wrong, the most confident first, each once."""
    wrong = np.flatnonzero(is_wrong)
    index_by_text: dict[str, int] = {}
    for index in wrong[np.argsort(-confidence[wrong], kind="stable")].tolist():
        index_by_text.setdefault(texts[index], index)
    return list(index_by_text.values())[:MAX_MISTAKES]


def _excerpt(text: str) -> str:
    return text if len(text) <= MAX_CHARACTERS else f"{text[:MAX_CHARACTERS]}…"


@dataclass(frozen=True)
class LabelSetMistake:
    """A text with its labels, those that a model misses and those that it gives in error, with their probabilities.

    ``reference`` are the labels that a reference model gives.
    """

    text: str
    labels: str
    missing: str
    extra: str
    reference: str
    reference_is_correct: bool


def confident_label_set_mistakes(
    model: Outcome, reference: Outcome | None, context: EvaluationContext
) -> list[LabelSetMistake]:
    """The ``MAX_MISTAKES`` texts with the most confident mistakes in their labels, each text once.

    A mistake is the more confident, the farther the label's probability is from its threshold. Labels that the model
    never gives do not count, unless a text has no other mistakes. Without a reference model its column repeats the
    model's own predictions.
    """
    gold, predicted, probabilities = context.gold, model.predicted, model.probabilities()
    other = (reference or model).predicted
    thresholds = np.array(model.thresholds)
    margins = np.where((predicted != gold) & (thresholds < NEVER), np.abs(probabilities - thresholds), 0)
    found = _first_mistakes((predicted != gold).any(axis=1), margins.max(axis=1), context.texts)

    def listed(has_class: NDArray[np.bool_], names: Sequence[str]) -> str:
        return ", ".join(names_of(has_class[None], names)[0]) or NOTHING

    def with_probabilities(index: int) -> list[str]:
        row = zip(context.labels, probabilities[index], strict=True)
        return [f"{label} {_percent(probability)}" for label, probability in row]

    return [
        LabelSetMistake(
            text=_excerpt(context.texts[index]),
            labels=listed(gold[index], context.labels),
            missing=listed(gold[index] & ~predicted[index], with_probabilities(index)),
            extra=listed(predicted[index] & ~gold[index], with_probabilities(index)),
            reference=listed(other[index], context.labels),
            reference_is_correct=bool((other[index] == gold[index]).all()),
        )
        for index in found
    ]


def _percent(share: float) -> str:
    return f"{100 * share:.0f}\N{NO-BREAK SPACE}%"
