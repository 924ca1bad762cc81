"""Answers with any number of labels per text: the labels in a cell or list, and the probabilities of all decisions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distill.data.formats.records import Row, labels_in
from distill.data.labels import Cells, Labels
from distill.runtime.label_sets import SEPARATOR
from distill.teachers.base import LabellingTask, Teacher


class WrittenLabels:
    """Reads the labels of answers as data files write them: a list, or names in one cell that are separated.

    Args:
        teacher: whose names may be others than the data's.
        task: its labels are the classes.
    """

    def __init__(self, teacher: Teacher, task: LabellingTask) -> None:
        known = dict.fromkeys((*task.labels, *teacher.label_names), 0)  # a cell is split where all parts are known
        self._labels = Labels(task.labels, known, is_multi_label=True, cells=Cells(SEPARATOR))

    def of(self, value: Any) -> list[str]:
        """The labels in a cell or a list, by the teacher's names."""
        labels, is_list = labels_in(list(value) if isinstance(value, frozenset) else value)
        if not labels:
            return []
        return self._labels.labels_of(Row("", labels[0], "", 0, labels=labels if is_list else None))


def indicators(names: Iterable[Iterable[str]], labels: Sequence[str]) -> NDArray[np.bool_]:
    """Which of the ``labels`` every text has, (texts, labels), from their names; other names are left out."""
    return np.array([[label in of_text for label in labels] for of_text in map(set, names)], np.bool_)


def are_indicators(rows: NDArray[np.float64]) -> bool:
    """Whether probabilities (texts, classes) are all 0 or 1: decisions without a degree of confidence."""
    return bool(((rows == 0) | (rows == 1)).all())


def default_confidences(given: float, classes: int) -> tuple[float, float]:
    """How sure labels are that are given, ``given``, and those that are not: the rest is spread over the others."""
    return given, 1 - (1 - given) / max(1, classes - 1)


def softened(has_class: NDArray[np.bool_], given: Any, not_given: Any) -> NDArray[np.float64]:
    """Decisions as probabilities (texts, classes).

    ``given`` is the probability that a label is right that is given, ``not_given`` that one is right to be absent; both
    are a number, or one per text (texts,).
    """
    yes, no = (np.broadcast_to(share, len(has_class))[:, None] for share in (given, not_given))
    return np.asarray(np.where(has_class, yes, 1 - no))
