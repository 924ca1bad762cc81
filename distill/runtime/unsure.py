"""Texts of which a student is not sure: its most probable labels, or no label."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from distill.errors import UserError

Probabilities = NDArray[np.float32]  # (texts, classes)
MAX_SHOWN = 10  # labels that a message names


class Classifier(Protocol):
    """What a student (Runtime), a teacher and a cascade have in common."""

    @property
    def labels(self) -> tuple[str, ...]:
        """The names of the classes."""
        ...

    def predict_proba(self, texts: Sequence[str]) -> Probabilities:
        """Calibrated probabilities, shape (texts, classes), in the order of ``labels``."""
        ...


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
        what = f"the number of labels must be from 1 to {len(labels)}, not {k!r:.40}"
        raise UserError(
            f"{what}; the labels are {listed_labels(labels)}", "top_k", f"a whole number up to {len(labels)}"
        )


def thresholds_of(classifier: Classifier) -> tuple[float, ...]:
    """For each label the probability above which a text gets it; empty if the classifier gives every text one label."""
    return tuple(getattr(classifier, "thresholds", ()))


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


def listed_labels(labels: Sequence[str]) -> str:
    """The first labels, for a message."""
    return ", ".join([*labels[:MAX_SHOWN], *(["…"] if len(labels) > MAX_SHOWN else [])])
