"""Selective classification: how right a model is about the texts of which it is sure, and a cascade to its teacher.

A text is answered if its highest probability is not below a threshold (Geifman and El-Yaniv 2017, "Selective
classification for deep neural networks", arXiv 1705.08500). Thresholds are chosen on dev and checked on test. Where a
text may have any number of labels, its probability is that of the whole set, and it is right if all its labels are.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from distill.evaluation.metrics import Labels, softmax
from distill.runtime.label_sets import exceeding, set_probability, sigmoid

THRESHOLDS = np.arange(1001) / 1000  # that are tried: a user can type them
MIN_ANSWERED = 30  # texts of dev; the accuracy of fewer is not worth a threshold
ERROR_SHARES = (0.75, 0.5, 0.25)  # the default targets leave these shares of the error on dev
Z_95 = 1.959964  # two-sided 95 % of the standard normal distribution


@dataclass(frozen=True)
class Confidences:
    """A model's probability of what it predicts for every text, and whether that is right; both (texts,)."""

    confidence: NDArray[np.float64]
    correct: NDArray[np.bool_]

    @classmethod
    def of(
        cls, logits: NDArray[np.floating], temperature: float, gold: Labels, thresholds: Sequence[float] = ()
    ) -> Self:
        """From logits (texts, classes) and the calibration temperature.

        ``gold`` are class numbers (texts,) or, with ``thresholds``, which classes each text has (texts, classes).
        """
        if thresholds:
            probabilities = sigmoid(logits, temperature)
            has_class = exceeding(probabilities, thresholds)
            together = set_probability(probabilities, has_class).astype(np.float64)
            return cls(together, (has_class == np.asarray(gold)).all(axis=1))
        return cls(softmax(logits, temperature).max(axis=1), logits.argmax(axis=1) == np.asarray(gold))

    @property
    def accuracy(self) -> float:
        """Accuracy on all texts."""
        return float(self.correct.mean())


@dataclass(frozen=True)
class Answered:
    """The texts that are answered at a threshold: how many, their share, and the accuracy on them.

    ``low`` is the lower bound of the accuracy's 95 % interval (Wilson 1927). Without any texts the accuracy is NaN.
    """

    texts: int
    share: float
    accuracy: float
    low: float


def answered(model: Confidences, threshold: float) -> Answered:
    """What a model answers if it rejects the texts whose probability is below ``threshold``."""
    is_answered = model.confidence >= threshold
    count, right = int(is_answered.sum()), int((is_answered & model.correct).sum())
    return Answered(
        count, count / max(1, len(is_answered)), right / count if count else math.nan, wilson_low(right, count)
    )


def wilson_low(right: int, count: int) -> float:
    """Lower bound of the 95 % interval of a share, ``right`` of ``count`` (Wilson 1927, "Probable inference")."""
    if not count:
        return 0.0
    share, z = right / count, Z_95
    spread = z * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    return max(0.0, (share + z * z / (2 * count) - spread) / (1 + z * z / count))


def smallest_threshold(model: Confidences, target: float) -> float | None:
    """The smallest threshold at which the accuracy on the answered texts is at least ``target``.

    None: it is not reached on ``MIN_ANSWERED`` texts or more.
    """
    order = np.argsort(model.confidence)
    first = np.searchsorted(model.confidence[order], THRESHOLDS)  # answered text at each threshold
    right = np.append(np.cumsum(model.correct[order][::-1])[::-1], 0)[first]
    count = len(order) - first
    reached = (count >= MIN_ANSWERED) & (right >= target * count - 1e-9)
    return float(THRESHOLDS[reached.argmax()]) if reached.any() else None


def default_targets(dev: Confidences) -> tuple[float, ...]:
    """Targets relative to the model's accuracy on dev: with a part of its error less."""
    return tuple(dict.fromkeys(round(1 - share * (1 - dev.accuracy), 3) for share in ERROR_SHARES))


class RiskCoverage(NamedTuple):
    """The risk–coverage curve: share of the texts that are answered, and the error on these; both (texts,)."""

    coverage: NDArray[np.float64]
    risk: NDArray[np.float64]

    @property
    def area(self) -> float:
        """The area under the curve (AURC; Geifman, Uziel and El-Yaniv 2019, arXiv 1805.08206); 0 is best."""
        return float(self.risk.mean()) if len(self.risk) else 0.0


def risk_coverage(model: Confidences) -> RiskCoverage:
    """The error on the most confident texts, for every number of them.

    Texts of equal confidence share their errors, so that their order does not matter.
    """
    confidence, group = np.unique(-model.confidence, return_inverse=True)
    wrong = np.bincount(group, weights=~model.correct, minlength=len(confidence))
    sizes = np.bincount(group, minlength=len(confidence))
    errors = np.cumsum(np.repeat(wrong / np.maximum(sizes, 1), sizes))
    numbers = np.arange(1, len(group) + 1)
    return RiskCoverage(numbers / max(1, len(group)), errors / numbers)


@dataclass(frozen=True)
class TargetRow:
    """A target accuracy, and the smallest threshold that reaches it on dev; None: dev does not reach it.

    Without a target, the row is that of all texts.
    """

    target: float | None
    threshold: float | None
    dev: Answered | None
    test: Answered | None


def target_rows(dev: Confidences, test: Confidences, targets: Sequence[float]) -> list[TargetRow]:
    """For every target the threshold that is chosen on dev, and what it gives on dev and test."""
    rows = []
    for target in targets:
        threshold = smallest_threshold(dev, target)
        if threshold is None:
            rows.append(TargetRow(target, None, None, None))
        else:
            rows.append(TargetRow(target, threshold, answered(dev, threshold), answered(test, threshold)))
    return rows


class CascadePoint(NamedTuple):
    """A cascade at a threshold: the share of the texts that the teacher answers, and the accuracy on all texts."""

    share: float
    accuracy: float


def cascade_at(student: Confidences, teacher_correct: NDArray[np.bool_], threshold: float) -> CascadePoint:
    """The cascade that sends texts below ``threshold`` to a teacher, given where this is right (texts,)."""
    unsure = student.confidence < threshold
    return CascadePoint(float(unsure.mean()), float(np.where(unsure, teacher_correct, student.correct).mean()))


def cascade_threshold(student: Confidences, teacher_correct: NDArray[np.bool_]) -> float:
    """The smallest threshold at which the cascade is not less accurate than the teacher alone; 1 if none is."""
    order = np.argsort(student.confidence)
    gains = np.cumsum(teacher_correct[order].astype(int) - student.correct[order])  # of sending the first texts
    unsure = np.searchsorted(student.confidence[order], THRESHOLDS)  # their number at each threshold
    right = student.correct.sum() + np.append(0, gains)[unsure]
    reached = right >= teacher_correct.sum()
    return float(THRESHOLDS[reached.argmax()]) if reached.any() else 1.0
