"""What a Python function returns, as logits: its attributes, and answers of every form."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from distill.data.answers import LOGITS, PROBABILITIES
from distill.data.formats.records import RowError, label_text
from distill.errors import UserError, listed
from distill.teachers.base import MAX_LISTED, TEACHER_LABELS, LabellingTask, Teacher, classes_by_label
from distill.teachers.label_sets import WrittenLabels, are_indicators, default_confidences, indicators, softened
from distill.teachers.scores import (
    DEFAULT_CONFIDENCE,
    are_probabilities,
    as_logits,
    by_class,
    checked_probabilities,
    merging,
    spread,
)

BATCH = 64  # texts per call, unless the function has an attribute batch_size
LABEL_KEYS = ("label", "labels")  # of a dictionary
SHOWN = 30  # characters of a text in a message


@dataclass(frozen=True)
class Attributes:
    """The attributes of a function that is a teacher; all are optional.

    Args:
        labels: the classes in the order of its arrays; None: the data's labels.
        batch_size: texts per call.
        confidence: of labels that it returns.
        version: marks its answers as others.
        returns: whether its arrays are ``PROBABILITIES`` or ``LOGITS``; empty: their values decide.
    """

    labels: tuple[str, ...] | None = None
    batch_size: int = BATCH
    confidence: float = DEFAULT_CONFIDENCE
    version: str = ""
    returns: str = ""

    @classmethod
    def of(cls, function: Any, where: str) -> Attributes:
        """Those of a function.

        Raises:
            UserError: one has a value that it cannot have.
        """
        checks: dict[str, Callable[[Any], Any]] = {
            "labels": _labels,
            "batch_size": _size,
            "confidence": _share,
            "version": str,
            "returns": _kind,
        }
        given: dict[str, Any] = {}
        for name, check in checks.items():
            if (value := getattr(function, name, None)) is not None:
                try:
                    given[name] = check(value)
                except (TypeError, ValueError, RowError) as error:
                    what = f"the function's attribute {name} is {value!r:.40}; it must be {EXPECTED[name]}"
                    raise UserError(what, where, "correct or delete the attribute") from error
        return cls(**given)

    def given(self) -> dict[str, str]:
        """Those that decide what an answer means, where they are not the defaults; by name."""
        values = {
            "labels": "\t".join(self.labels or ()),
            "confidence": "" if self.confidence == DEFAULT_CONFIDENCE else str(self.confidence),
            "version": self.version,
            "returns": self.returns,
        }
        return {name: value for name, value in values.items() if value}


EXPECTED = {
    "labels": "a list of the names of labels",
    "batch_size": "a whole number of at least 1",
    "confidence": "a number from 0 to 1",
    "version": "a text",
    "returns": f'"{PROBABILITIES}" or "{LOGITS}"',
}


def _labels(value: Any) -> tuple[str, ...]:
    labels = () if isinstance(value, str) else tuple(map(label_text, value))
    if not all(labels) or len(set(labels)) < max(2, len(labels)):
        raise ValueError
    return labels


def _size(value: Any) -> int:
    if int(value) != float(value) or int(value) < 1:
        raise ValueError
    return int(value)


def _share(value: Any) -> float:
    if not 0 <= float(value) <= 1:
        raise ValueError
    return float(value)


def _kind(value: Any) -> str:
    if value not in (PROBABILITIES, LOGITS):
        raise ValueError
    return str(value)


@dataclass(frozen=True)
class Call:
    """The texts of one call, of which the first is number ``start`` of ``total``, counted from 0."""

    texts: list[str]
    start: int
    total: int

    def __str__(self) -> str:
        return f"texts {self.start + 1:,} to {self.start + len(self.texts):,} of {self.total:,}"

    def text(self, index: int) -> str:
        """One of the texts in a message."""
        return f"text {self.start + index + 1:,} of {self.total:,} ({self.texts[index]:.{SHOWN}})"


class Converter:
    """Turns what a function returns into logits.

    Args:
        teacher: the function.
        attributes: of the function.
        task: its labels are the classes.
    """

    def __init__(self, teacher: Teacher, attributes: Attributes, task: LabellingTask) -> None:
        self.teacher, self.task, self.confidence = teacher, task, attributes.confidence
        self.columns = len(attributes.labels or task.labels)
        self.groups = None if attributes.labels is None else classes_by_label(attributes.labels, task, teacher)
        self.kind = attributes.returns  # of arrays; if it is empty, the first array decides for all
        self.class_of = {label: number for number, label in enumerate(task.labels)}
        self.written = WrittenLabels(teacher, task)

    def logits(self, returned: Any, batch: Call) -> NDArray[np.float64]:
        """Logits (texts, classes) of the answers to a batch; with one label per text they are centred.

        Raises:
            ValueError: they are no answers to these texts.
            UserError: a label is unknown, or probabilities are not valid.
        """
        answers = _listed(returned, len(batch.texts))
        if isinstance(answers, list):
            for index, answer in enumerate(answers):
                if _is_missing(answer) and not (self.task.is_multi_label and _is_list_of_labels(answer)):
                    raise ValueError(f"there is no answer to {batch.text(index)}")
        if any(are_mappings := [isinstance(answer, Mapping) for answer in answers]):
            if not all(are_mappings):
                raise ValueError("some answers are dictionaries and others are not")
            return np.concatenate([self._row(answer, index, batch) for index, answer in enumerate(answers)])
        if self.task.is_multi_label and all(map(_is_label_or_list, answers)):
            return self._of_label_sets(list(answers), batch)
        if isinstance(answers[0], str | int | np.integer):
            return self._of_labels([label_text(answer) for answer in answers], batch)
        return self._array(np.asarray(answers, np.float64), batch)

    def _row(self, answer: Mapping[Any, Any], index: int, batch: Call) -> NDArray[np.float64]:
        """A dictionary: ``label`` and perhaps ``confidence``, or probabilities by label."""
        if key := next((key for key in LABEL_KEYS if key in answer and key not in self.class_of), ""):
            confidence = answer.get("confidence", answer.get("score"))
            sure = None if confidence is None else _confidence(confidence, index, batch)
            if self.task.is_multi_label and (answer[key] or _is_list_of_labels(answer[key])):
                return self._of_label_sets([answer[key]], batch, sure)
            if not (label := label_text(answer[key])):
                raise ValueError(f"there is no answer to {batch.text(index)}")
            return self._of_labels([label], batch, sure)
        scores = {label_text(label): float(score) for label, score in answer.items() if score is not None}
        where = f"{self.teacher.name}, {batch.text(index)}"
        return as_logits(by_class(scores, self.task, where, self.teacher, are_logits=False)[None], self.task)

    def _of_labels(self, labels: list[str], batch: Call, confidence: float | None = None) -> NDArray[np.float64]:
        classes = np.array([self.class_of[name] for name in self._names(labels, batch)])
        sure = np.full(len(labels), self.confidence if confidence is None else confidence)
        return as_logits(spread(classes, sure, len(self.task.labels)), self.task)

    def _of_label_sets(
        self, answers: Sequence[Any], batch: Call, confidence: float | None = None
    ) -> NDArray[np.float64]:
        """Labels and lists of labels, where a text may have any number; a confidence is that of every decision."""
        sets = [self._names(self.written.of(answer), batch, may_be_left_out=True) for answer in answers]
        return self._of_indicators(indicators(sets, self.task.labels), confidence)

    def _of_indicators(self, has_class: NDArray[np.bool_], confidence: float | None = None) -> NDArray[np.float64]:
        given = default_confidences(self.confidence, len(self.task.labels))
        sure = given if confidence is None else (confidence, confidence)
        return as_logits(softened(has_class, *sure), self.task)

    def _names(self, labels: list[str], batch: Call, *, may_be_left_out: bool = False) -> tuple[str, ...]:
        """The data's names of labels.

        Raises:
            UserError: the data has none; "" is one too where labels ``may_be_left_out``.
        """
        names = self.teacher.renamed(labels)
        known = {*self.class_of, *([""] if may_be_left_out else [])}
        if unknown := sorted({label for label, name in zip(labels, names, strict=True) if name not in known}):
            what = f"labels that the data does not have, in the answers to {batch}: {listed(unknown, MAX_LISTED)}"
            found = f"the labels of the data: {listed(self.task.labels, MAX_LISTED)}"
            raise UserError(what, self.teacher.source, TEACHER_LABELS, found)
        return names

    def _array(self, rows: NDArray[np.float64], batch: Call) -> NDArray[np.float64]:
        """Probabilities or logits, (texts, classes) in the order of the function's or the data's labels."""
        if rows.shape != (len(batch.texts), self.columns):
            raise ValueError(f"an array of shape {rows.shape}, expected {(len(batch.texts), self.columns)}")
        if not np.isfinite(rows).all():
            raise ValueError("a number is NaN or infinite")
        self.kind = self.kind or (PROBABILITIES if are_probabilities(rows) else LOGITS)
        if self.kind == LOGITS:
            return as_logits(self._grouped(rows, are_logits=True), self.task, are_logits=True)
        if self.task.is_multi_label and are_indicators(rows):
            return self._of_indicators(self._grouped(rows, are_logits=False) > 0)
        places = (f"{self.teacher.name}, {batch.text(index)}" for index in range(len(rows)))
        pairs = zip(rows, places, strict=True)
        checked = np.stack([checked_probabilities(row, place, self.teacher, self.task) for row, place in pairs])
        grouped = self._grouped(checked, are_logits=False)
        if not self.task.is_multi_label:
            grouped /= np.maximum(grouped.sum(1, keepdims=True), 1e-12)
        return as_logits(grouped, self.task)

    def _grouped(self, rows: NDArray[np.float64], *, are_logits: bool) -> NDArray[np.float64]:
        """The classes' values from the columns of the function's labels."""
        if self.groups is None:
            return rows
        merge = merging(self.task, are_logits=are_logits)
        return np.stack([merge.reduce(rows[:, group], axis=1) for group in self.groups], axis=1)


def _listed(returned: Any, count: int) -> list[Any] | NDArray[Any]:
    """What a function returned as a list or an array of ``count`` answers."""
    if isinstance(returned, Tensor):
        returned = returned.detach().cpu().float().numpy()
    if not isinstance(returned, list | tuple | np.ndarray):
        if not hasattr(returned, "tolist"):
            kind = "None" if returned is None else f"one {type(returned).__name__}"
            raise ValueError(f"it returned {kind}, not a list or an array of {count} answers")
        returned = returned.tolist()
    if len(returned) != count:
        raise ValueError(f"{len(returned)} answers to {count} texts")
    is_numeric = isinstance(returned, np.ndarray) and returned.dtype.kind in "biuf"
    return returned if is_numeric else list(returned)


def _is_missing(answer: Any) -> bool:
    """Whether an answer is None, NaN or empty."""
    is_empty = isinstance(answer, str | Sequence | Mapping) and not len(answer)
    return answer is None or is_empty or (isinstance(answer, float) and math.isnan(answer))


def _is_list_of_labels(answer: Any) -> bool:
    """Whether an answer is a list or set of names, which may be empty."""
    return isinstance(answer, list | tuple | set | frozenset) and all(isinstance(label, str) for label in answer)


def _is_label_or_list(answer: Any) -> bool:
    return isinstance(answer, str | int | np.integer) or _is_list_of_labels(answer)


def _confidence(value: Any, index: int, batch: Call) -> float:
    try:
        return _share(value)
    except (TypeError, ValueError) as error:
        what = f"the confidence of {batch.text(index)} is {value!s:.20}, it must be between 0 and 1"
        raise ValueError(what) from error
