"""Texts with any number of labels: scores of predicted label sets, thresholds and temperatures chosen on dev.

``gold`` and ``predicted`` are boolean indicator matrices (texts, classes) throughout.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, classification_report

from distill.config import TargetMetric
from distill.evaluation import metrics
from distill.evaluation.metrics import best_temperature
from distill.runtime.label_sets import exceeding

LabelSets: TypeAlias = NDArray[np.bool_]  # (texts, classes)
DEFAULT_THRESHOLD, NEVER = 0.5, 1.0
MIN_TEXTS = 200  # of dev; thresholds chosen on fewer are worse than 0.5


@dataclass(frozen=True)
class MultiLabelScores:
    """Scores of predicted label sets, each from 0 to 1; of the Hamming loss 0 is best, of the others 1.

    Args:
        micro_f1: F1 of all decisions on a text and a label taken together.
        macro_f1: mean of the classes' F1; that of a class is 0 if no text has it and none gets it.
        sample_f1: mean of the texts' F1; that of a text is 1 if it has no label and gets none.
        subset_accuracy: share of the texts whose label set is exactly right.
        hamming_loss: share of the decisions on a text and a label that are wrong.
        mean_average_precision: mean over the classes that some text has; None if there is none, or no probabilities.
    """

    micro_f1: float
    macro_f1: float
    sample_f1: float
    subset_accuracy: float
    hamming_loss: float
    mean_average_precision: float | None

    @property
    def main(self) -> float:
        """The figure that models are compared by."""
        return self.micro_f1


def scores(
    gold: LabelSets, predicted: LabelSets, probabilities: NDArray[np.floating] | None = None
) -> MultiLabelScores:
    """Scores of predicted label sets.

    ``probabilities`` (texts, classes) rank the texts of every class for the average precision. Any increasing function
    of them does as well: logits, or distances from hyperplanes.
    """
    wrong = gold != predicted
    return MultiLabelScores(
        micro_f1=micro_f1(gold, predicted),
        macro_f1=float(class_f1(gold, predicted).mean()),
        sample_f1=float(_f1(gold, predicted, axis=1, if_empty=1.0).mean()),
        subset_accuracy=float(1 - wrong.any(axis=1).mean()),
        hamming_loss=float(wrong.mean()),
        mean_average_precision=None if probabilities is None else _mean_average_precision(gold, probabilities),
    )


def micro_f1(gold: LabelSets, predicted: LabelSets) -> float:
    """F1 of all decisions on a text and a label; 1 if there is nothing to find and nothing was predicted."""
    return float(_f1(gold, predicted, axis=None, if_empty=1.0))


def class_f1(gold: LabelSets, predicted: LabelSets) -> NDArray[np.float64]:
    """F1 of every class, shape (classes,); 0 if no text has it and none gets it."""
    return _f1(gold, predicted, axis=0, if_empty=0.0)


def _f1(gold: LabelSets, predicted: LabelSets, axis: int | None, if_empty: float) -> NDArray[np.float64]:
    """2 true positives / (gold + predicted) along an axis, as in scikit-learn.

    scikit-learn's own function takes a matrix of a single class for one label per text.
    """
    return _ratio(2 * (gold & predicted).sum(axis), gold.sum(axis) + predicted.sum(axis), if_empty)


def _ratio(numerator: NDArray[Any], denominator: NDArray[Any], if_empty: float) -> NDArray[np.float64]:
    return np.where(denominator > 0, numerator / np.maximum(denominator, 1), if_empty)


def bootstrap_interval(
    gold: LabelSets,
    predicted: LabelSets,
    other: LabelSets,
    metric: TargetMetric = "micro_f1",
    *,
    seed: int = 0,
    draws: int = 2000,
    level: float = 0.95,
) -> tuple[float, float]:
    """Percentile bootstrap interval of the difference in a metric's mean over the seeds, ``predicted`` minus ``other``.

    ``predicted`` and ``other`` are (seeds, texts, classes); their numbers of seeds may differ. As in
    :func:`metrics.bootstrap_interval`, texts are resampled, each with all its labels and seeds.
    """
    if metric == "subset_accuracy":
        right, right_of_other = ((models == gold).all(axis=2) for models in (predicted, other))
        return metrics.bootstrap_interval(right, right_of_other, seed, draws, level)
    models, texts = np.concatenate([predicted, other]), len(gold)
    hits, decided = 2.0 * (models & gold), models + gold.astype(np.float64)  # (models, texts, classes)
    if metric == "micro_f1":
        hits, decided = hits.sum(axis=2, keepdims=True), decided.sum(axis=2, keepdims=True)
    of_texts = np.stack([hits, decided]).transpose(2, 0, 1, 3)
    flat, generator = of_texts.reshape(texts, -1), np.random.default_rng(seed)
    drawn = (np.bincount(generator.integers(texts, size=texts), minlength=texts) for _ in range(draws))
    sums = np.stack([times_drawn @ flat for times_drawn in drawn]).reshape(draws, *of_texts.shape[1:])
    f1 = _ratio(sums[:, 0], sums[:, 1], if_empty=1.0 if metric == "micro_f1" else 0.0).mean(axis=2)
    gains = f1[:, : len(predicted)].mean(axis=1) - f1[:, len(predicted) :].mean(axis=1)
    return metrics.percentile_interval(gains, level)


def _mean_average_precision(gold: LabelSets, probabilities: NDArray[np.floating]) -> float | None:
    found = [average_precision_score(gold[:, index], probabilities[:, index]) for index in np.flatnonzero(gold.any(0))]
    return float(np.mean(found)) if found else None


def classification_table(gold: LabelSets, predicted: LabelSets, names: Sequence[str]) -> str:
    """scikit-learn's classification report with four digits: precision, recall and F1 of every label, and means.

    Its mean over the texts is left out: it counts a text that has no label and gets none as wrong.
    """
    # With an empty class added, scikit-learn knows an indicator matrix even if there is a single class.
    gold, predicted = (np.pad(matrix, ((0, 0), (0, 1))) for matrix in (gold, predicted))
    table = classification_report(
        gold, predicted, labels=range(len(names)), target_names=names, digits=4, zero_division=0.0
    )
    return "".join(line for line in str(table).splitlines(keepends=True) if not line.lstrip().startswith("samples avg"))


def without_positives(gold: LabelSets) -> list[int]:
    """The classes that no text has. A threshold cannot be chosen for them, so they are never predicted."""
    return np.flatnonzero(~gold.any(axis=0)).tolist()


def choose_thresholds(
    probabilities: NDArray[np.floating], gold: LabelSets, metric: TargetMetric = "micro_f1"
) -> tuple[float, ...]:
    """The threshold of every class that is best for a metric on dev, for :func:`exceeding`.

    ``probabilities`` are (texts, classes). A class without positive texts gets 1: it is never predicted, and
    :func:`without_positives` names it. The others get 0.5 if there are fewer than ``MIN_TEXTS`` texts. Of thresholds
    that are equally good, the one nearest to 0.5 is chosen.

    Coordinate ascent from 0.5: each class in turn takes its best threshold while the others keep theirs, until none
    improves. For F1 the result is the global maximum: the classes' F1 do not depend on each other, and micro-F1 is a
    ratio of sums over the classes, of which every local maximum is a global one.
    """
    probabilities = np.asarray(probabilities, np.float32)  # as they are compared with thresholds
    thresholds = np.where(gold.any(axis=0), DEFAULT_THRESHOLD, NEVER)
    if len(gold) < MIN_TEXTS:
        return tuple(thresholds.tolist())
    predicted = exceeding(probabilities, thresholds.tolist())
    candidates = {
        index: _Candidates.of(probabilities[:, index], gold[:, index])
        for index in np.flatnonzero(gold.any(axis=0)).tolist()
    }
    chosen = dict.fromkeys(candidates, 0)
    while True:
        before = dict(chosen)
        for index, tried in candidates.items():
            values = _values(metric, gold, predicted, index, tried)
            best = int(values.argmax())  # the first of equals
            if values[best] > values[chosen[index]]:
                chosen[index] = best
                predicted[:, index] = probabilities[:, index] > tried.thresholds[best]
        if chosen == before:
            break
    for index, best in chosen.items():
        thresholds[index] = candidates[index].thresholds[best]
    return tuple(thresholds.tolist())


@dataclass(frozen=True)
class _Candidates:
    """Thresholds to try for a class, the nearest to 0.5 first.

    Args:
        thresholds: (candidates,).
        order: (texts,) sorts the texts by their probability.
        below: (candidates,) counts the texts that are not above each threshold.
    """

    thresholds: NDArray[np.float32]
    order: NDArray[np.int64]
    below: NDArray[np.int64]

    @staticmethod
    def of(probabilities: NDArray[np.float32], gold: NDArray[np.bool_]) -> _Candidates:
        """Of a class, from ``probabilities`` and ``gold`` (texts,).

        Each lies halfway between a positive text and the next lower text, one above all texts: no other threshold is
        better, because lowering it past a positive text and raising it past a negative one never make it worse.
        """
        values = np.unique(np.append(probabilities, np.array([0, 1], np.float32)))
        is_below_positive = np.isin(values[1:], probabilities[gold])
        is_below_positive[-1] = True
        lower, upper = values[:-1][is_below_positive], values[1:][is_below_positive]
        halfway = (lower + upper) / 2
        halfway = np.where(halfway < upper, halfway, lower)  # between adjacent numbers it is rounded to one of them
        thresholds: NDArray[np.float32] = np.append(halfway, np.array([DEFAULT_THRESHOLD, NEVER], np.float32))
        thresholds = thresholds[np.argsort(np.abs(thresholds - DEFAULT_THRESHOLD), kind="stable")]
        order = np.argsort(probabilities, kind="stable")
        return _Candidates(thresholds, order, np.searchsorted(probabilities[order], thresholds, side="right"))

    def above(self, marked: NDArray[np.bool_]) -> NDArray[np.int64]:
        """How many of the ``marked`` texts (texts,) are above each threshold, shape (candidates,)."""
        counts = np.append(0, np.cumsum(marked[self.order]))
        return np.asarray(counts[-1] - counts[self.below])


def _values(
    metric: TargetMetric, gold: LabelSets, predicted: LabelSets, index: int, tried: _Candidates
) -> NDArray[Any]:
    """What a class adds to the metric with each of its thresholds, shape (candidates,); the other classes keep theirs.

    Micro-F1 is the whole metric, macro-F1 the F1 of the class, and subset accuracy a number of texts.
    """
    own = gold[:, index]
    if metric == "subset_accuracy":
        others_right = np.delete(gold == predicted, index, axis=1).all(axis=1)
        return tried.above(others_right & own) - tried.above(others_right & ~own)
    hits, given = tried.above(own), tried.above(np.ones_like(own))
    if metric == "macro_f1":
        return np.asarray(2 * hits / (own.sum() + given))
    others = np.delete(predicted, index, axis=1)
    hits = hits + (others & np.delete(gold, index, axis=1)).sum()
    return np.asarray(2 * hits / (gold.sum() + others.sum() + given))


def class_temperatures(logits: NDArray[np.floating], gold: LabelSets) -> NDArray[np.float64]:
    """The temperature of every class, shape (classes,), that minimises the binary cross-entropy of its logits on dev.

    ``logits`` are (texts, classes). Bounds and smoothing are as in :func:`metrics.calibration_temperature`: one text is
    added that has the label with a probability of one half. The result is 1 for a class that all texts have or none.
    """
    smoothing = 0.5 / (len(gold) + 1)  # share of the added text that has the label, and of that which has not

    def temperature(scores: NDArray[np.float64], own: NDArray[np.bool_]) -> float:
        signed = np.where(own, scores, -scores)

        def loss(log_temperature: float) -> float:
            scale = np.exp(-log_temperature)
            right, wrong = np.logaddexp(0, -scale * signed).mean(), np.logaddexp(0, scale * signed).mean()
            return float((1 - smoothing) * right + smoothing * wrong)

        return best_temperature(loss) if 0 < own.sum() < len(own) else 1.0

    columns = zip(np.asarray(logits, np.float64).T, gold.T, strict=True)
    return np.array([temperature(scores, own) for scores, own in columns])
