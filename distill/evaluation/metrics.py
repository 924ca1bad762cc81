"""How good predictions are, how sure one can be of a difference, and how honest probabilities are."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax
from scipy.stats import binomtest
from sklearn.metrics import accuracy_score, classification_report, confusion_matrix, f1_score

Labels = Sequence[int] | NDArray[np.int64]
Right = NDArray[np.bool_]
TEMPERATURES = (0.05, 20.0)
BINS = 15  # of confidence
CHANCE = 2  # texts


@dataclass(frozen=True)
class Scores:
    """Shares from 0 to 1: accuracy on all texts and on distinct texts, and macro-averaged F1."""

    accuracy: float
    accuracy_distinct: float
    macro_f1: float


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
    places = list(range(len(names)))
    return str(classification_report(gold, predicted, labels=places, target_names=names, digits=4, zero_division=0.0))


def confusion(gold: Labels, predicted: Labels, classes: int) -> NDArray[np.int64]:
    """Counts, shape ``(classes, classes)``: rows are labels, columns predictions."""
    return np.asarray(confusion_matrix(gold, predicted, labels=list(range(classes))))


def mean_and_sd(values: Sequence[float]) -> tuple[float, float]:
    """Mean and sample standard deviation (0 for a single value)."""
    return float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else 0.0


def mcnemar(right: Right, other: Right) -> float:
    """Exact two-sided p-value of McNemar's test (McNemar 1947) that two models are right equally often.

    ``right`` and ``other`` (seeds, texts) say where each model is right; row i of one is paired with row i of the
    other, a single row with every row. Only the pairs where one of the two is wrong count: by chance each side has
    half of them. Pairs of all seeds are pooled as if they were independent, though seeds share their texts, so with
    several seeds the value is too small; :func:`bootstrap_interval` does not assume this.
    """
    _check_texts(right, other)
    if len(right) != len(other) and 1 not in (len(right), len(other)):
        raise ValueError(f"{len(right)} seeds cannot be paired with {len(other)}")
    gained, lost = int((right & ~other).sum()), int((~right & other).sum())
    return float(binomtest(gained, gained + lost, 0.5).pvalue) if gained + lost else 1.0


def is_below(right: Right, other: Right) -> bool:
    """Whether a model, right where ``right`` (texts,) says, is worse than another by more than one standard error.

    The error is that of the paired difference: only texts count on which one of the two is wrong (McNemar 1947). It
    takes more than ``CHANCE`` texts too, as of a few the error itself is not known.
    """
    gained, lost = int((right & ~other).sum()), int((~right & other).sum())
    return lost - gained > max(CHANCE, math.sqrt(lost + gained))


def bootstrap_interval(
    right: Right, other: Right, seed: int = 0, draws: int = 2000, level: float = 0.95
) -> tuple[float, float]:
    """Percentile bootstrap interval (Efron 1979) of the difference of mean accuracy, ``right`` minus ``other``.

    ``right`` and ``other`` (seeds, texts); numbers of seeds may differ. Texts are drawn anew, a text with all its
    seeds at once, as seeds share texts and are not independent. The seeds themselves stay as they are: the interval
    holds for other texts, not for other seeds.
    """
    _check_texts(right, other)
    gains = right.mean(axis=0) - other.mean(axis=0)
    # Texts of the same gain are alike, so it is enough to draw how many of each gain there are: the same distribution.
    values, counts = np.unique(gains.round(12), return_counts=True)
    drawn = np.random.default_rng(seed).multinomial(gains.size, counts / gains.size, size=draws)
    low, high = np.quantile(drawn @ values / gains.size, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _check_texts(right: Right, other: Right) -> None:
    if right.ndim != 2 or other.ndim != 2 or right.shape[1] != other.shape[1]:
        raise ValueError(f"want (seeds, texts) of the same texts, not {right.shape} and {other.shape}")


def softmax(logits: NDArray[np.floating], temperature: float = 1.0) -> NDArray[np.float64]:
    """Probabilities (texts, classes) of ``logits / temperature``."""
    return np.exp(_log_softmax(logits, temperature))


def _log_softmax(logits: NDArray[np.floating], temperature: float) -> NDArray[np.float64]:
    return np.asarray(log_softmax(np.asarray(logits, dtype=np.float64) / temperature, axis=1))


class Reliability(NamedTuple):
    """The bins of confidence that hold a text, each (bins,): mean confidence, accuracy, number of texts."""

    confidence: NDArray[np.float64]
    accuracy: NDArray[np.float64]
    texts: NDArray[np.int64]


def reliability(probabilities: NDArray[np.floating], gold: Labels, bins: int = BINS) -> Reliability:
    """Texts by their confidence, which is a text's highest probability, in ``bins`` of equal width (low, high].

    ``probabilities`` (texts, classes). For a reliability diagram (Niculescu-Mizil and Caruana 2005).
    """
    confidence = probabilities.max(axis=1).astype(np.float64)
    right = probabilities.argmax(axis=1) == np.asarray(gold)
    places = np.digitize(confidence, np.linspace(0.0, 1.0, bins + 1)[1:-1], right=True)
    texts = np.bincount(places, minlength=bins)
    held = texts > 0
    mean, share = (np.bincount(places, weights=of, minlength=bins)[held] / texts[held] for of in (confidence, right))
    return Reliability(mean, share, texts[held])


def expected_calibration_error(probabilities: NDArray[np.floating], gold: Labels, bins: int = BINS) -> float:
    """How far confidence is from accuracy, as a share: Guo et al. 2017 (arXiv 1706.04599), formula 3.

    ``probabilities`` (texts, classes). ECE = sum over bins of (texts in it / texts) * |accuracy - mean confidence|.
    """
    confidence, accuracy, texts = reliability(probabilities, gold, bins)
    return float((texts * np.abs(accuracy - confidence)).sum() / texts.sum())


def negative_log_likelihood(logits: NDArray[np.floating], gold: Labels, temperature: float = 1.0) -> float:
    """Mean over the texts of minus the logarithm of the right class's probability (in nats), at a temperature."""
    places = np.asarray(gold, dtype=np.int64)
    return -float(_log_softmax(logits, temperature)[np.arange(len(places)), places].mean())


def calibration_temperature(logits: NDArray[np.floating], gold: Labels) -> float:
    """The temperature in 0.05 to 20 whose softened ``logits`` (texts, classes) have the lowest negative log-likelihood.

    Temperature scaling, Guo et al. 2017 (arXiv 1706.04599), section 4.2; to be found on dev. One more text is counted
    whose label nobody knows: a few texts that are all right do not make a model certain. It is 1 where every
    temperature does as well: a single class, no texts.
    """
    places = np.asarray(gold, dtype=np.int64)
    if not len(places):
        return 1.0
    doubt = 1 / (len(places) + 1)

    def loss(log_temperature: float) -> float:
        likelihoods = _log_softmax(logits, np.exp(log_temperature))
        right = likelihoods[np.arange(len(places)), places].mean()
        return -float((1 - doubt) * right + doubt * likelihoods.mean())

    low, high = np.log(TEMPERATURES)
    # The loss is convex in 1 / temperature, so it has one valley; the search stays inside the bounds: they are tried.
    found = float(minimize_scalar(loss, bounds=(low, high), method="bounded", options={"xatol": 1e-4}).x)
    return float(np.exp(min((0.0, found, low, high), key=loss)))
