"""Metrics: scores of predictions, significance of differences, calibration of probabilities."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax
from scipy.stats import binomtest
from sklearn.metrics import accuracy_score, classification_report, confusion_matrix, f1_score

Labels = Sequence[int] | NDArray[np.int64]  # (texts,)
Correct = NDArray[np.bool_]  # (seeds, texts): whether a model predicts the right label
TEMPERATURES = (0.05, 20.0)  # lowest and highest
BINS = 15  # of confidence
MIN_DIFFERENCE = 2  # texts


@dataclass(frozen=True)
class Scores:
    """Shares from 0 to 1: accuracy on all texts and on distinct texts, and macro-averaged F1."""

    accuracy: float
    accuracy_distinct: float
    macro_f1: float

    @property
    def main(self) -> float:
        """The figure that models are compared by."""
        return self.accuracy


def scores(gold: Labels, predicted: Labels, first_of_text: NDArray[np.bool_], classes: int) -> Scores:
    """Scores of predicted class numbers (texts,); ``first_of_text`` marks one row of every distinct text."""
    gold, predicted = np.asarray(gold), np.asarray(predicted)
    return Scores(
        accuracy=float(accuracy_score(gold, predicted)),
        accuracy_distinct=float(accuracy_score(gold[first_of_text], predicted[first_of_text])),
        macro_f1=float(f1_score(gold, predicted, labels=np.arange(classes), average="macro", zero_division=0.0)),
    )


def classification_table(gold: Labels, predicted: Labels, names: Sequence[str]) -> str:
    """scikit-learn's classification report with four digits, as in the reference repo."""
    classes = list(range(len(names)))
    return str(classification_report(gold, predicted, labels=classes, target_names=names, digits=4, zero_division=0.0))


def confusion(gold: Labels, predicted: Labels, classes: int) -> NDArray[np.int64]:
    """Counts, shape ``(classes, classes)``: rows are labels, columns predictions."""
    return np.asarray(confusion_matrix(gold, predicted, labels=list(range(classes))))


def mean_and_sd(values: Sequence[float]) -> tuple[float, float]:
    """Mean and sample standard deviation (0 for a single value)."""
    return float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else 0.0


def mcnemar(correct: Correct, other: Correct) -> float:
    """Exact two-sided p-value of McNemar's test (McNemar 1947) that two models have the same accuracy.

    ``correct`` and ``other`` (seeds, texts) are paired row by row; a single row is paired with every row of the other.
    Only texts that exactly one of the two gets right count: under the null hypothesis each model has half of them. The
    pairs of all seeds are pooled as if they were independent. As the seeds share their texts they are not, so with
    several seeds the p-value is too small; :func:`bootstrap_interval` does not assume independence.

    Raises:
        ValueError: the numbers of texts differ, or those of seeds do and neither is 1.
    """
    _check_texts(correct, other)
    if len(correct) != len(other) and 1 not in (len(correct), len(other)):
        raise ValueError(f"{len(correct)} seeds cannot be paired with {len(other)}")
    gained, lost = _discordant(correct, other)
    return float(binomtest(gained, gained + lost, 0.5).pvalue) if gained + lost else 1.0


def is_below(correct: Correct, other: Correct) -> bool:
    """Whether a model is worse than another by more than one standard error, from ``correct`` and ``other`` (texts,).

    The standard error is that of the paired difference: only texts that exactly one of the two gets right count
    (McNemar 1947). The difference must also exceed ``MIN_DIFFERENCE`` texts, because the standard error of a few texts
    is itself uncertain.
    """
    gained, lost = _discordant(correct, other)
    return lost - gained > max(MIN_DIFFERENCE, math.sqrt(lost + gained))


def _discordant(correct: Correct, other: Correct) -> tuple[int, int]:
    """How many texts only the first and only the second model gets right."""
    return int((correct & ~other).sum()), int((~correct & other).sum())


def bootstrap_interval(
    correct: Correct, other: Correct, seed: int = 0, draws: int = 2000, level: float = 0.95
) -> tuple[float, float]:
    """Percentile bootstrap interval (Efron 1979) of the difference in mean accuracy, ``correct`` minus ``other``.

    ``correct`` and ``other`` are (seeds, texts); their numbers of seeds may differ. Texts are resampled, each with all
    its seeds, because the seeds share their texts and are not independent. The seeds are not resampled: the interval
    holds for other texts, not for other seeds.

    Raises:
        ValueError: the numbers of texts differ.
    """
    _check_texts(correct, other)
    gains = correct.mean(axis=0) - other.mean(axis=0)
    # Texts with equal gains are interchangeable, so drawing how often each gain occurs gives the same distribution.
    values, counts = np.unique(gains.round(12), return_counts=True)
    drawn = np.random.default_rng(seed).multinomial(gains.size, counts / gains.size, size=draws)
    return percentile_interval(drawn @ values / gains.size, level)


def percentile_interval(values: NDArray[np.float64], level: float) -> tuple[float, float]:
    """The limits between which the share ``level`` of the values (draws,) lies, with as many below as above."""
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _check_texts(correct: Correct, other: Correct) -> None:
    if correct.ndim != 2 or other.ndim != 2 or correct.shape[1] != other.shape[1]:
        raise ValueError(f"expected two arrays (seeds, texts) of the same texts, not {correct.shape} and {other.shape}")


def softmax(logits: NDArray[np.floating], temperature: float = 1.0) -> NDArray[np.float64]:
    """Probabilities (texts, classes) of ``logits / temperature``."""
    return np.exp(_log_softmax(logits, temperature))


def _log_softmax(logits: NDArray[np.floating], temperature: float) -> NDArray[np.float64]:
    return np.asarray(log_softmax(np.asarray(logits, dtype=np.float64) / temperature, axis=1))


class Reliability(NamedTuple):
    """The non-empty bins of confidence: mean confidence, accuracy and number of texts, each (bins,)."""

    confidence: NDArray[np.float64]
    accuracy: NDArray[np.float64]
    texts: NDArray[np.int64]


def reliability(probabilities: NDArray[np.floating], gold: Labels, bins: int = BINS) -> Reliability:
    """The points of a reliability diagram (Niculescu-Mizil and Caruana 2005).

    ``probabilities`` are (texts, classes). A text's confidence is its highest probability; the bins (low, high] have
    equal width. If ``gold`` are label sets (texts, classes), every text and class counts for itself: its confidence is
    the probability of the class, and it is correct if the text has the class.
    """
    gold = np.asarray(gold)
    if gold.ndim == 2:
        confidence, correct = probabilities.ravel().astype(np.float64), gold.ravel()
    else:
        confidence = probabilities.max(axis=1).astype(np.float64)
        correct = probabilities.argmax(axis=1) == gold
    bin_of_text = np.digitize(confidence, np.linspace(0.0, 1.0, bins + 1)[1:-1], right=True)
    texts = np.bincount(bin_of_text, minlength=bins)
    filled = texts > 0
    mean_confidence, accuracy = (
        np.bincount(bin_of_text, weights=values, minlength=bins)[filled] / texts[filled]
        for values in (confidence, correct)
    )
    return Reliability(mean_confidence, accuracy, texts[filled])


def expected_calibration_error(probabilities: NDArray[np.floating], gold: Labels, bins: int = BINS) -> float:
    """Expected calibration error, Guo et al. 2017 (arXiv 1706.04599), formula 3.

    ``probabilities`` are (texts, classes). ECE = sum over bins of (texts in it / texts) * |accuracy - mean confidence|.
    With label sets as ``gold``, it is that of all texts and classes (:func:`reliability`).
    """
    confidence, accuracy, texts = reliability(probabilities, gold, bins)
    return float((texts * np.abs(accuracy - confidence)).sum() / texts.sum())


def negative_log_likelihood(logits: NDArray[np.floating], gold: Labels, temperature: float = 1.0) -> float:
    """Mean over the texts of -log p(gold class) at a temperature, in nats."""
    classes = np.asarray(gold, dtype=np.int64)
    return -float(_log_softmax(logits, temperature)[np.arange(len(classes)), classes].mean())


def calibration_temperature(logits: NDArray[np.floating], gold: Labels) -> float:
    """The temperature from 0.05 to 20 that minimises the negative log-likelihood of ``logits`` (texts, classes) on dev.

    Temperature scaling, Guo et al. 2017 (arXiv 1706.04599), section 4.2, with smoothing: one text with a uniform label
    distribution is added, so that a few texts that are all classified correctly do not make the model certain. The
    result is 1 where all temperatures are equally good: for a single class or no texts.
    """
    classes = np.asarray(gold, dtype=np.int64)
    if not len(classes):
        return 1.0
    uniform = 1 / (len(classes) + 1)  # weight of the added text

    def loss(log_temperature: float) -> float:
        log_probabilities = _log_softmax(logits, np.exp(log_temperature))
        gold_mean = log_probabilities[np.arange(len(classes)), classes].mean()
        return -float((1 - uniform) * gold_mean + uniform * log_probabilities.mean())

    return best_temperature(loss)


def best_temperature(loss: Callable[[float], float]) -> float:
    """The temperature from 0.05 to 20 with the lowest loss, a function of its logarithm; 1 if all are equally good.

    The loss must be convex in 1 / temperature.
    """
    low, high = np.log(TEMPERATURES)
    # A convex loss has one minimum. The search never reaches the bounds: try them too.
    best = float(minimize_scalar(loss, bounds=(low, high), method="bounded", options={"xatol": 1e-4}).x)
    return float(np.exp(min((0.0, best, low, high), key=loss)))
