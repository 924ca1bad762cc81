"""Texts with any number of labels: every class is decided for itself, by a probability and a threshold of its own."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import compress

import numpy as np
from numpy.typing import NDArray

SEPARATOR = "|"  # between the labels of a text in a table's cell


def sigmoid(logits: NDArray[np.floating], temperature: float = 1.0) -> NDArray[np.float32]:
    """Probability of every class, shape (texts, classes); those of a text do not sum to 1."""
    scaled = np.asarray(logits, np.float64) / temperature
    return np.asarray(0.5 * (1 + np.tanh(scaled / 2)), np.float32)  # cannot overflow


def exceeding(
    probabilities: NDArray[np.floating], thresholds: Sequence[float] | NDArray[np.floating]
) -> NDArray[np.bool_]:
    """Which classes every text has, shape (texts, classes): those whose probability is above their threshold.

    A threshold of 1 excludes a class. ``thresholds`` are those of the classes (classes,), or of every text's (texts,
    classes).
    """
    return np.asarray(probabilities, np.float32) > np.asarray(thresholds, np.float32)


def certainty(probabilities: NDArray[np.float32], has_class: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Probability of the least certain decision about every text (texts,): that it has a class, or does not have it."""
    return np.asarray(np.where(has_class, probabilities, 1 - probabilities).min(axis=1))


def set_probability(probabilities: NDArray[np.float32], has_class: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Probability that all decisions about a text are right (texts,), if its classes were independent of each other.

    That is the product of the probabilities of the classes that it has, and of the absence of the others.
    """
    return np.asarray(np.where(has_class, probabilities, 1 - probabilities).prod(axis=1, dtype=np.float64), np.float32)


def names_of(has_class: NDArray[np.bool_], labels: Sequence[str]) -> list[list[str]]:
    """The labels of every text, in the order of the classes; a text may have none."""
    return [list(compress(labels, row)) for row in has_class.tolist()]


def distinct(has_class: NDArray[np.bool_]) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    """The distinct rows of ``has_class``, and which of them each row is (texts,)."""
    packed = np.packbits(has_class, axis=1)  # np.unique(…, axis=0) takes ten times as long
    content, width = packed.tobytes(), packed.shape[1]
    number: dict[bytes, int] = {}
    rows = [number.setdefault(content[begin : begin + width], len(number)) for begin in range(0, len(content), width)]
    numbers = np.array(rows, np.int64)
    return has_class[np.unique(numbers, return_index=True)[1]], numbers
