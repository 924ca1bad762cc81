"""Texts of which the student is not sure: its most probable labels, no label, or the label of a slower classifier."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from distill.errors import UserError
from distill.runtime.packing import as_list

Probabilities = NDArray[np.float32]  # (texts, classes)
MAX_SHOWN = 10  # labels that a message names
MAX_PROBABILITY = 1.001  # with rounding errors


class Classifier(Protocol):
    """What a student (Runtime), a teacher and a cascade have in common."""

    @property
    def labels(self) -> tuple[str, ...]:
        """The names of the classes."""
        ...

    def predict_proba(self, texts: Sequence[str]) -> Probabilities:
        """Calibrated probabilities, shape (texts, classes), in the order of ``labels``."""
        ...


class Cascade:
    """A student whose unsure texts go to a slower, more accurate classifier, such as its teacher.

    Args:
        student: labels all texts first.
        teacher: turns texts into probabilities, shape (texts, classes); it is called once per call of this object,
            with the unsure texts sorted by length.
        below: a text is unsure if the student's highest probability is below this.
        labels: the order of the teacher's columns; empty: that of the student's labels.

    Raises:
        UserError: ``below`` is not a number from 0 to 1, ``labels`` are not the student's, or the student has several
            tasks or gives a text any number of labels.
    """

    def __init__(
        self, student: Classifier, teacher: Callable[[list[str]], Any], below: float, labels: Sequence[str] = ()
    ) -> None:
        check_cascade(thresholds_of(student), getattr(student, "tasks", ()), "cascade")
        check_threshold(below, "below")
        self._student, self._teacher, self.below = student, teacher, below
        self.labels = student.labels
        if sorted(labels or self.labels) != sorted(self.labels):
            raise UserError("the teacher has other labels than the student", "labels", f"name {_listed(self.labels)}")
        self._order = [list(labels).index(label) for label in self.labels] if labels else list(range(len(self.labels)))

    def answer(self, texts: Sequence[str]) -> tuple[Probabilities, NDArray[np.bool_]]:
        """Probabilities (texts, classes), and which texts the teacher answered (texts,).

        Raises:
            UserError: a text is not a string, or the teacher returns something else than probabilities.
        """
        texts = as_list(texts)
        probabilities = np.array(self._student.predict_proba(texts))
        unsure = self.unsure(texts, probabilities)
        if unsure:
            probabilities[unsure] = self.teacher_proba([texts[index] for index in unsure])
        by_teacher = np.zeros(len(texts), np.bool_)
        by_teacher[unsure] = True
        return probabilities, by_teacher

    def unsure(self, texts: Sequence[str], probabilities: Probabilities) -> list[int]:
        """Indices of the texts that go to the teacher, the shortest first; an empty text tells it nothing."""
        indices = np.flatnonzero(probabilities.max(axis=1) < self.below).tolist()
        return sorted((index for index in indices if texts[index].strip()), key=lambda index: len(texts[index]))

    def teacher_proba(self, texts: list[str]) -> Probabilities:
        """The teacher's probabilities, in the order of the student's labels.

        Raises:
            UserError: the teacher returns something else.
        """
        rows = np.asarray(self._teacher(texts), np.float32)
        has_shape = rows.shape == (len(texts), len(self.labels))
        if not has_shape or not ((rows >= 0) & (rows <= MAX_PROBABILITY)).all():
            what = f"{len(texts)} rows of {len(self.labels)} probabilities are needed, the teacher returned "
            what += "numbers that are not from 0 to 1" if has_shape else f"an array of shape {rows.shape}"
            raise UserError(what, "cascade", "the function must return a row per text and a column per label")
        return rows[:, self._order]

    def predict(self, texts: Sequence[str], *, reject_below: float = 0.0, reject_label: str = "") -> list[str]:
        """The label of every text; ``reject_label`` where the probability is below ``reject_below``."""
        return chosen_labels(self.predict_proba(texts), self.labels, reject_below, reject_label)

    def predict_proba(self, texts: Sequence[str]) -> Probabilities:
        """Probabilities, shape (texts, classes): the student's, or for unsure texts the teacher's."""
        return self.answer(texts)[0]

    def top_k(self, texts: Sequence[str], k: int) -> list[list[tuple[str, float]]]:
        """The ``k`` most probable labels of every text with their probabilities, the most probable first."""
        check_top_k(k, self.labels)
        return most_probable(self.predict_proba(texts), self.labels, k)


def chosen_labels(
    probabilities: Probabilities, labels: Sequence[str], reject_below: float, reject_label: str
) -> list[str]:
    """The most probable label of every text; ``reject_label`` where its probability is below ``reject_below``.

    Raises:
        UserError: as :func:`check_rejection`.
    """
    check_rejection(reject_below, reject_label, labels)
    names = [*labels, reject_label]
    return [names[index] for index in classes_of(probabilities, reject_below).tolist()]


def classes_of(probabilities: Probabilities, reject_below: float) -> NDArray[np.int64]:
    """The most probable class of every text (texts,); the number of classes stands for a text that is rejected."""
    classes: NDArray[np.int64] = probabilities.argmax(axis=1)
    classes[probabilities.max(axis=1) < reject_below] = probabilities.shape[1]
    return classes


def most_probable(probabilities: Probabilities, labels: Sequence[str], k: int) -> list[list[tuple[str, float]]]:
    """The ``k`` most probable labels of every text with their probabilities, the most probable first."""
    classes = top_classes(probabilities, k)
    rows = zip(classes.tolist(), np.take_along_axis(probabilities, classes, axis=1).tolist(), strict=True)
    return [[(labels[index], p) for index, p in zip(*row, strict=True)] for row in rows]


def top_classes(probabilities: Probabilities, k: int) -> NDArray[np.int64]:
    """The ``k`` most probable classes (texts, k), the most probable first; of equal ones, the one listed first."""
    return np.asarray(np.argsort(-probabilities, axis=1, kind="stable")[:, :k])


def check_top_k(k: int, labels: Sequence[str]) -> None:
    """Check how many labels are asked for.

    Raises:
        UserError: it is not a whole number from 1 to the number of labels.
    """
    if type(k) is not int or not 1 <= k <= len(labels):
        what = f"the number of labels must be from 1 to {len(labels)}, not {k!r:.40}; the labels are {_listed(labels)}"
        raise UserError(what, "top_k", f"a whole number up to {len(labels)}")


def thresholds_of(classifier: Classifier) -> tuple[float, ...]:
    """For each label the probability above which a text gets it; empty if the classifier gives every text one label."""
    return tuple(getattr(classifier, "thresholds", ()))


def check_cascade(thresholds: Sequence[float], tasks: Sequence[object], setting: str) -> None:
    """Check that a student can be the first of a cascade.

    Raises:
        UserError: it has several ``tasks``, or ``thresholds``, so that it gives a text any number of labels.
    """
    if tasks:
        what = f"this student has several tasks, each with a teacher of its own, so {setting} does not apply"
        raise UserError(what, setting, "leave it out")
    check_one_label(thresholds, setting)


def check_one_label(thresholds: Sequence[float], setting: str) -> None:
    """Check that a model gives every text one label, as a setting for unsure texts needs.

    Raises:
        UserError: it has ``thresholds``, so it gives a text any number of labels.
    """
    if thresholds:
        what = f"this model decides each label of a text by a threshold of its own, so {setting} does not apply"
        raise UserError(what, setting, "leave it out, and ask for the probabilities of all labels instead")


def check_rejection(below: float, name: str, labels: Sequence[str]) -> None:
    """Check the threshold and the label of rejected texts.

    Raises:
        UserError: the threshold is not a number from 0 to 1, or the label is one of ``labels``.
    """
    check_threshold(below, "reject_below")
    if not isinstance(name, str):
        raise UserError(f"a string is needed, not {name!r:.40}", "reject_label", 'such as ""')
    if name in labels:
        what = f"{name!r} is a label of the data, so rejected texts could not be told from the others"
        raise UserError(what, "reject_label", "choose another name")


def check_threshold(below: float, where: str) -> None:
    """Check a threshold.

    Raises:
        UserError: it is not a number from 0 to 1.
    """
    if isinstance(below, bool) or not isinstance(below, int | float | np.floating) or not 0 <= below <= 1:
        raise UserError(f"a probability from 0 to 1 is needed, not {below!r:.40}", where, f"{where}=0.8")


def _listed(labels: Sequence[str]) -> str:
    return ", ".join([*labels[:MAX_SHOWN], *(["…"] if len(labels) > MAX_SHOWN else [])])
