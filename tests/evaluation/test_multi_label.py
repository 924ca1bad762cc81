"""Scores of label sets against scikit-learn; thresholds and temperatures chosen on dev against brute force."""

from __future__ import annotations

import itertools
import time
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sklearn
from sklearn.metrics import log_loss

from distill.config import TARGET_METRICS as METRICS
from distill.config import TargetMetric as Metric
from distill.evaluation import multi_label
from distill.evaluation.metrics import expected_calibration_error, reliability
from distill.evaluation.multi_label import (
    bootstrap_interval,
    choose_thresholds,
    class_temperatures,
    classification_table,
    micro_f1,
    scores,
    without_positives,
)
from distill.runtime.label_sets import exceeding, sigmoid


def drawn(seed: int, texts: int = 200, classes: int = 4) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities with many ties and gold label sets that depend on them; some classes are rare or empty."""
    rng = np.random.default_rng(seed)
    shift = rng.normal(-2, 2, classes)
    logits = rng.normal(size=(texts, classes)) * 2 + shift
    gold = rng.random((texts, classes)) < sigmoid(rng.choice([0.5, 2.0]) * logits + rng.normal(size=classes))
    gold[:, rng.random(classes) < 0.2] = False
    return sigmoid(logits).round(rng.integers(1, 8)).astype(np.float32), gold


def value(metric: Metric, gold: np.ndarray, predicted: np.ndarray) -> float:
    return float(getattr(scores(gold, predicted), metric))


@settings(max_examples=60)
@given(seed=st.integers(0, 10**6), texts=st.integers(1, 30), classes=st.integers(2, 5))
def test_scores_are_those_of_scikit_learn(seed: int, texts: int, classes: int) -> None:
    probabilities, gold = drawn(seed, texts, classes)
    predicted = probabilities > 0.5
    found = scores(gold, predicted, probabilities)

    def f1(average: str, zero_division: float) -> float:
        return float(sklearn.f1_score(gold, predicted, average=average, zero_division=zero_division))

    assert found.micro_f1 == pytest.approx(f1("micro", 1.0)) and found.macro_f1 == pytest.approx(f1("macro", 0.0))
    assert found.sample_f1 == pytest.approx(f1("samples", 1.0))
    assert found.subset_accuracy == pytest.approx(sklearn.accuracy_score(gold, predicted))
    assert found.hamming_loss == pytest.approx(sklearn.hamming_loss(gold, predicted))
    filled = gold.any(axis=0)
    if filled.any():
        expected = sklearn.average_precision_score(gold[:, filled], probabilities[:, filled], average="macro")
        assert found.mean_average_precision == pytest.approx(expected)
    else:
        assert found.mean_average_precision is None


def test_scores_by_hand() -> None:
    gold = np.array([[1, 1, 0], [0, 0, 0], [1, 0, 0]], bool)
    predicted = np.array([[1, 0, 0], [0, 0, 0], [1, 1, 0]], bool)
    found = scores(gold, predicted)
    assert found.micro_f1 == pytest.approx(4 / 6) and found.macro_f1 == pytest.approx((1 + 0 + 0) / 3)
    assert found.sample_f1 == pytest.approx((2 / 3 + 1 + 2 / 3) / 3)
    assert found.subset_accuracy == pytest.approx(1 / 3) and found.hamming_loss == pytest.approx(2 / 9)
    assert found.mean_average_precision is None
    nothing = np.zeros((3, 2), bool)
    assert micro_f1(nothing, nothing) == 1.0 and micro_f1(nothing, ~nothing) == 0.0


@pytest.mark.parametrize("classes", [1, 3])
def test_the_table_has_a_row_per_label(classes: int) -> None:
    gold = np.array([[1, 1, 0], [0, 0, 0], [1, 0, 0]], bool)[:, :classes]
    predicted = np.array([[1, 0, 0], [0, 0, 0], [0, 1, 0]], bool)[:, :classes]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        table = classification_table(gold, predicted, ["体育", "财经", "科技"][:classes])
    header, *rows = [line.split() for line in table.splitlines() if line]
    assert header == ["precision", "recall", "f1-score", "support"]
    assert rows[0] == ["体育", "1.0000", "0.5000", "0.6667", "2"]
    assert [row[:2] for row in rows[classes:]] == [["micro", "avg"], ["macro", "avg"], ["weighted", "avg"]]


@settings(max_examples=60)
@given(seed=st.integers(0, 10**6), metric=st.sampled_from(METRICS))
def test_chosen_thresholds_are_never_worse_than_one_half(seed: int, metric: Metric) -> None:
    probabilities, gold = drawn(seed)
    thresholds = choose_thresholds(probabilities, gold, metric)
    half = value(metric, gold, exceeding(probabilities, [0.5] * 4))
    assert value(metric, gold, exceeding(probabilities, thresholds)) >= half - 1e-12
    assert all(0 <= one <= 1 for one in thresholds) and thresholds == choose_thresholds(probabilities, gold, metric)
    assert all(thresholds[index] == 1 for index in without_positives(gold))


@settings(max_examples=25)
@given(seed=st.integers(0, 10**6), metric=st.sampled_from(["micro_f1", "macro_f1"]))
def test_no_thresholds_have_a_better_f1(seed: int, metric: Metric) -> None:
    rng = np.random.default_rng(seed)
    probabilities = (rng.integers(0, 11, (200, 2)) / 10).astype(np.float32)  # 0, 0.1 ... 1
    gold = rng.random((200, 2)) < probabilities * rng.random(2)
    tried = [(i - 0.5) / 10 for i in range(1, 11)] + [1.0]
    best = max(value(metric, gold, exceeding(probabilities, pair)) for pair in itertools.product(tried, tried))
    chosen = choose_thresholds(probabilities, gold, metric)
    assert value(metric, gold, exceeding(probabilities, chosen)) == pytest.approx(best)


def test_of_equal_thresholds_the_nearest_to_one_half_is_chosen() -> None:
    gold = np.arange(200)[:, None] >= 150
    assert choose_thresholds(np.where(gold, 0.9, 0.1), gold, "macro_f1") == (0.5,)
    # the only perfect thresholds are between 0.6 and 0.8; then, between 0.1 and 0.3
    assert choose_thresholds(np.where(gold, 0.8, 0.6), gold, "micro_f1") == pytest.approx((0.7,))
    assert choose_thresholds(np.where(gold, 0.3, 0.1), gold, "subset_accuracy") == pytest.approx((0.2,))


def test_a_class_that_costs_more_than_it_finds_is_never_given_for_micro_f1() -> None:
    gold, probabilities = np.zeros((400, 2), bool), np.full((400, 2), 0.1, np.float32)
    gold[:200, 0], probabilities[:200, 0] = True, 0.9
    gold[0, 1], probabilities[:, 1] = True, 0.7  # one positive text among 400 of the same probability
    for metric, is_given in (("micro_f1", False), ("subset_accuracy", False), ("macro_f1", True)):
        assert exceeding(probabilities, choose_thresholds(probabilities, gold, metric))[0, 1] == is_given


def test_few_texts_and_classes_without_texts() -> None:
    rng = np.random.default_rng(0)
    probabilities, gold = rng.random((multi_label.MIN_TEXTS, 3)), rng.random((multi_label.MIN_TEXTS, 3)) < 0.3
    gold[:, 1] = False
    assert without_positives(gold) == [1]
    assert choose_thresholds(probabilities[1:], gold[1:]) == (0.5, 1.0, 0.5)
    chosen = choose_thresholds(probabilities, gold)
    assert chosen[1] == 1.0 and 0.5 not in chosen


def test_adjacent_probabilities_are_told_apart() -> None:
    gold = np.arange(200)[:, None] >= 150
    upper = np.nextafter(np.float32(0.7), np.float32(1))
    probabilities = np.where(gold, upper, np.float32(0.7))
    assert (exceeding(probabilities, choose_thresholds(probabilities, gold)) == gold).all()


@pytest.mark.parametrize("metric", METRICS)
def test_choosing_is_quick(metric: Metric) -> None:
    probabilities, gold = drawn(1, 2000, 20)
    probabilities = probabilities + np.random.default_rng(0).random(probabilities.shape, np.float32) * 1e-4
    started = time.perf_counter()
    choose_thresholds(probabilities, gold, metric)
    assert time.perf_counter() - started < 1


def test_temperatures_minimise_the_cross_entropy_of_every_class() -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(4000, 4)) * 3
    gold = rng.random(logits.shape) < sigmoid(logits / [0.5, 2.0, 5.0, 1.0])
    gold[:, 3] = True
    found = class_temperatures(logits, gold)
    assert found[:3] == pytest.approx([0.5, 2.0, 5.0], rel=0.1) and found[3] == 1.0
    for index in range(3):
        losses = [
            log_loss(gold[:, index], sigmoid(logits[:, index], float(found[index]) * factor))
            for factor in (0.8, 1, 1.25)
        ]
        assert losses[1] == min(losses)


def test_a_few_separable_texts_do_not_make_a_class_certain() -> None:
    logits = np.array([[4.0], [-4.0]])
    (found,) = class_temperatures(logits, logits > 0)
    assert found > 0.5 and class_temperatures(np.empty((0, 2)), np.empty((0, 2), bool)).tolist() == [1, 1]
    (found,) = class_temperatures(logits, logits < 0)
    assert found == pytest.approx(20.0)


def test_the_calibration_error_is_that_of_all_texts_and_classes() -> None:
    probabilities = np.array([[0.9, 0.02], [0.92, 0.9], [0.01, 0.04]])
    gold = np.array([[1, 0], [1, 0], [0, 0]], bool)
    points = reliability(probabilities, gold)
    assert points.texts.tolist() == [3, 3] and points.accuracy == pytest.approx([0, 2 / 3])
    expected = (3 * 0.07 / 3 + 3 * abs(2 / 3 - 2.72 / 3)) / 6
    assert expected_calibration_error(probabilities, gold) == pytest.approx(expected)


def seeds_of(gold: np.ndarray, *shares: float, seed: int = 0) -> np.ndarray:
    """Predictions (seeds, texts, classes), each with a share of wrong decisions."""
    rng = np.random.default_rng(seed)
    return np.stack([gold ^ (rng.random(gold.shape) < share) for share in shares])


def test_the_interval_equals_that_of_a_loop_over_resampled_texts() -> None:
    gold = np.random.default_rng(1).random((150, 4)) < 0.3
    one, other = seeds_of(gold, 0.05, 0.1, 0.15, seed=2), seeds_of(gold, 0.2, 0.25, seed=3)
    rng, gains = np.random.default_rng(4), []
    for _ in range(3000):
        rows = rng.integers(0, 150, 150)
        reached = [np.mean([micro_f1(gold[rows], seed[rows]) for seed in model]) for model in (one, other)]
        gains.append(reached[0] - reached[1])
    for level in (0.95, 0.5):
        limits = np.quantile(gains, [(1 - level) / 2, (1 + level) / 2])
        assert bootstrap_interval(gold, one, other, draws=6000, level=level) == pytest.approx(limits, abs=6e-3)


@pytest.mark.parametrize("metric", METRICS)
def test_the_interval_is_of_the_metric(metric: Metric) -> None:
    gold = np.random.default_rng(1).random((120, 4)) < [0.5, 0.3, 0.1, 0.03]  # in some samples the last one is missing
    one, other = seeds_of(gold, 0.05, 0.1, seed=2), seeds_of(gold, 0.2, seed=3)
    rng, gains = np.random.default_rng(4), []
    for _ in range(3000):
        rows = rng.integers(0, 120, 120)
        reached = [
            np.mean([getattr(scores(gold[rows], seed[rows]), metric) for seed in model]) for model in (one, other)
        ]
        gains.append(reached[0] - reached[1])
    limits = np.quantile(gains, [0.025, 0.975])
    assert bootstrap_interval(gold, one, other, metric, draws=6000) == pytest.approx(limits, abs=1e-2)


def test_the_interval_of_a_model_with_itself_is_zero() -> None:
    gold = np.random.default_rng(1).random((60, 4)) < 0.3
    model = seeds_of(gold, 0.1, 0.2, 0.3)
    assert bootstrap_interval(gold, model, model) == (0.0, 0.0)
    assert bootstrap_interval(np.zeros_like(gold), ~gold[None] & False, gold[None] & False) == (0.0, 0.0)


def test_the_interval_covers_a_true_difference_and_is_reproducible() -> None:
    gold = np.random.default_rng(1).random((2000, 5)) < 0.4
    one, other = seeds_of(gold, 0.05, 0.05, seed=2), seeds_of(gold, 0.1, 0.1, seed=3)
    # of 100 decisions, 40 are positive: F1 is 2 * 38 / (40 + 38 + 3), and 2 * 36 / (40 + 36 + 6)
    low, high = bootstrap_interval(gold, one, other)
    assert 0.04 < low < 76 / 81 - 72 / 82 < high < 0.08
    assert bootstrap_interval(gold, one, other) == (low, high)
    assert bootstrap_interval(gold, other, one) == pytest.approx((-high, -low))
    assert bootstrap_interval(gold, gold[None], gold[None] & False) == (1.0, 1.0)


def test_repeated_seeds_do_not_narrow_the_interval() -> None:
    gold = np.random.default_rng(1).random((300, 4)) < 0.3
    one, other = seeds_of(gold, 0.1, seed=2), seeds_of(gold, 0.2, seed=3)
    repeated = bootstrap_interval(gold, one.repeat(9, axis=0), other.repeat(9, axis=0))
    assert bootstrap_interval(gold, one, other) == pytest.approx(repeated)


def test_the_interval_of_thousands_of_texts_takes_no_seconds() -> None:
    gold = np.random.default_rng(1).random((4000, 15)) < 0.15
    one, other = seeds_of(gold, 0.03, 0.03, 0.03, seed=2), seeds_of(gold, 0.04, 0.04, 0.04, seed=3)
    started = time.process_time()
    bootstrap_interval(gold, one, other)
    assert time.process_time() - started < 2
