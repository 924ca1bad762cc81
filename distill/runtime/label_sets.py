"""Texts with any number of labels: every class is decided for itself, by a probability and a threshold of its own."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

SEPARATOR = "|"  # between the labels of a text in a table's cell


def sigmoid(logits: NDArray[np.floating], temperature: float = 1.0) -> NDArray[np.float32]:
    """Probability of every class, shape (texts, classes); those of a text do not sum to 1."""
    scaled = np.asarray(logits, np.float64) / temperature
    return np.asarray(0.5 * (1 + np.tanh(scaled / 2)), np.float32)  # cannot overflow


def exceeding(probabilities: NDArray[np.floating], thresholds: Sequence[float]) -> NDArray[np.bool_]:
    """Which classes every text has, shape (texts, classes): those whose probability is above their threshold.

    A threshold of 1 excludes a class.
    """
    return np.asarray(probabilities, np.float32) > np.asarray(thresholds, np.float32)


def certainty(probabilities: NDArray[np.float32], has_class: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Probability of the least certain decision about every text (texts,): that it has a class, or does not have it."""
    return np.asarray(np.where(has_class, probabilities, 1 - probabilities).min(axis=1))


def names_of(has_class: NDArray[np.bool_], labels: Sequence[str]) -> list[list[str]]:
    """The labels of every text, in the order of the classes; a text may have none."""
    return [[label for label, has in zip(labels, row, strict=True) if has] for row in has_class.tolist()]
