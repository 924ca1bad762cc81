"""Significance tests and calibration against hand-computed values, scikit-learn and brute force."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from sklearn.metrics import log_loss

from distill.evaluation.metrics import (
    bootstrap_interval,
    calibration_temperature,
    expected_calibration_error,
    mcnemar,
    negative_log_likelihood,
    softmax,
)


def right(*rows: str) -> np.ndarray:
    """One string per seed, one digit per text: '10' means that the first text is right and the second wrong."""
    return np.array([[char == "1" for char in row] for row in rows])


RIGHT = arrays.arrays(bool, st.tuples(st.just(2), st.integers(1, 12)))


@pytest.mark.parametrize(("gained", "lost"), [(5, 0), (3, 1), (4, 4), (1, 9)])
def test_mcnemar_is_the_binomial_of_the_discordant_pairs(gained: int, lost: int) -> None:
    one, other = right("1" * gained + "0" * lost + "1100"), right("0" * gained + "1" * lost + "1100")
    tail = sum(math.comb(gained + lost, k) for k in range(min(gained, lost) + 1)) / 2 ** (gained + lost)
    assert mcnemar(one, other) == pytest.approx(min(1.0, 2 * tail))


def test_mcnemar_pools_the_paired_seeds_and_repeats_a_single_one() -> None:
    # by hand: 6 gained, 0 lost: 2 / 2**6; if row 0 were paired with row 1, no pair would be discordant
    assert mcnemar(right("111", "000", "111"), right("000", "000", "000")) == pytest.approx(2 / 2**6)
    assert mcnemar(right("111", "000"), right("000", "111")) == 1.0
    assert mcnemar(right("111", "111"), right("000")) == mcnemar(right("000"), right("111", "111")) == 2 / 2**6
    assert mcnemar(right("0101"), right("0101")) == 1.0


def test_arrays_that_cannot_be_paired_are_refused() -> None:
    with pytest.raises(ValueError, match="3 seeds cannot be paired with 2"):
        mcnemar(right("1", "1", "0"), right("1", "0"))
    for compare in (mcnemar, bootstrap_interval):
        with pytest.raises(ValueError, match="same texts"):
            compare(right("10"), right("100"))
        with pytest.raises(ValueError, match="same texts"):
            compare(right("10")[0], right("10")[0])


@given(one=RIGHT, seed=st.integers(0, 99))
def test_mcnemar_is_two_sided_and_ignores_the_order_of_texts(one: np.ndarray, seed: int) -> None:
    rng = np.random.default_rng(seed)
    other, order = rng.random(one.shape) < 0.5, rng.permutation(one.shape[1])
    p = mcnemar(one, other)
    assert 0 < p <= 1 and p == mcnemar(other, one) == mcnemar(one[:, order], other[:, order])


def test_the_interval_equals_that_of_resampled_texts() -> None:
    rng = np.random.default_rng(1)
    one, other = rng.random((3, 300)) < 0.8, rng.random((2, 300)) < 0.7
    gains = one.mean(axis=0) - other.mean(axis=0)
    drawn = gains[rng.integers(0, 300, (20_000, 300))].mean(axis=1)
    assert bootstrap_interval(one, other, draws=20_000) == pytest.approx(np.quantile(drawn, [0.025, 0.975]), abs=2e-3)
    assert bootstrap_interval(one, other, draws=20_000, level=0.5) == pytest.approx(
        np.quantile(drawn, [0.25, 0.75]), abs=2e-3
    )


def test_repeated_seeds_do_not_narrow_the_interval() -> None:
    one, other = right("1" * 60 + "0" * 40), right("0" * 10 + "1" * 45 + "0" * 45)
    alone = np.ptp(bootstrap_interval(one, other, draws=5000))
    repeated = np.ptp(bootstrap_interval(one.repeat(9, axis=0), other.repeat(9, axis=0), draws=5000))
    assert alone == repeated > 0.1
    assert mcnemar(one.repeat(9, axis=0), other.repeat(9, axis=0)) < mcnemar(
        one, other
    )  # pooling seeds makes p too small


@given(one=RIGHT, seed=st.integers(0, 99))
@settings(max_examples=30)
def test_the_interval_lies_within_the_gains_and_is_reproducible(one: np.ndarray, seed: int) -> None:
    other = np.random.default_rng(seed).random(one.shape) < 0.5
    low, high = bootstrap_interval(one, other, draws=200)
    gains = one.mean(axis=0) - other.mean(axis=0)
    assert gains.min() - 1e-9 <= low <= high <= gains.max() + 1e-9
    assert bootstrap_interval(one, one, draws=200) == (0.0, 0.0)
    assert bootstrap_interval(one, other, draws=200) == (low, high)
    same = np.ones_like(one)
    assert bootstrap_interval(same, ~same, draws=200) == (1.0, 1.0)


def test_calibration_error_by_hand() -> None:
    # bins (0.5, 0.75] and (0.75, 1]: 0.6 and 0.7 of which one is right; 0.9 wrong
    probabilities = np.array([[0.6, 0.4], [0.3, 0.7], [0.1, 0.9]])
    by_hand = 2 / 3 * abs(0.5 - 0.65) + 1 / 3 * abs(0.0 - 0.9)
    assert expected_calibration_error(probabilities, [0, 0, 0], bins=4) == pytest.approx(by_hand)
    # one bin only: accuracy 1/3, mean confidence 2.2/3
    assert expected_calibration_error(probabilities, [0, 0, 0], bins=1) == pytest.approx((2.2 - 1) / 3)


def test_a_bin_holds_its_upper_edge() -> None:
    # 0.75 (right) and 0.7 (wrong) share the bin (0.5, 0.75]: |1 - 1.45| / 2; apart they would give (0.25 + 0.7) / 2
    probabilities = np.array([[0.75, 0.25], [0.7, 0.3]])
    assert expected_calibration_error(probabilities, [0, 1], bins=4) == pytest.approx(0.45 / 2)
    assert expected_calibration_error(np.array([[1.0, 0.0]]), [0]) == 0.0
    assert expected_calibration_error(np.array([[1.0, 0.0]]), [1]) == 1.0


def test_calibrated_probabilities_have_no_error() -> None:
    probabilities = softmax(np.random.default_rng(0).normal(size=(40_000, 3)) * 2)
    draw = np.random.default_rng(1).random((len(probabilities), 1))
    gold = (draw > probabilities.cumsum(axis=1)).sum(axis=1)
    assert expected_calibration_error(probabilities, gold) < 0.01
    assert expected_calibration_error(probabilities**4 / (probabilities**4).sum(1, keepdims=True), gold) > 0.1


def test_softmax() -> None:
    logits = np.log([[1.0, 2.0, 5.0]])
    assert softmax(logits)[0] == pytest.approx([1 / 8, 2 / 8, 5 / 8])
    assert softmax(logits, 0.5)[0] == pytest.approx([1 / 30, 4 / 30, 25 / 30])
    assert softmax(np.array([[1e4, 0.0]], dtype=np.float32)).tolist() == [[1.0, 0.0]]


@pytest.mark.parametrize("true", [0.4, 1.0, 3.0])
def test_the_temperature_is_found(true: float) -> None:
    rng = np.random.default_rng(0)
    honest = rng.normal(size=(20_000, 4)) * 2
    gold = (rng.random((len(honest), 1)) > softmax(honest).cumsum(axis=1)).sum(axis=1)
    found = calibration_temperature(honest * true, gold)
    assert found == pytest.approx(true, rel=0.05)
    least = log_loss(gold, softmax(honest * true, found))
    assert all(least <= log_loss(gold, softmax(honest * true, found * off)) for off in (0.98, 1.02))


def test_the_temperature_of_tiny_dev_sets() -> None:
    right_always, wrong_always = np.array([[1.0, 0.0]]), np.array([[0.0, 1.0]])
    assert softmax(right_always, calibration_temperature(right_always, [0])).max() == pytest.approx(0.75, abs=0.01)
    nine = np.repeat(right_always, 9, axis=0)
    assert softmax(nine, calibration_temperature(nine, [0] * 9)).max() == pytest.approx(0.95, abs=0.01)
    assert calibration_temperature(wrong_always, [0]) == pytest.approx(20.0)
    assert calibration_temperature(np.zeros((0, 3)), []) == 1.0
    assert calibration_temperature(np.ones((5, 1)), [0] * 5) == 1.0
    assert calibration_temperature(np.zeros((5, 3)), [0, 1, 2, 0, 1]) == 1.0


def test_negative_log_likelihood_is_sklearns() -> None:
    logits, gold = np.random.default_rng(0).normal(size=(20, 4)), np.arange(20) % 4
    expected = log_loss(gold, softmax(logits, 1.7), labels=range(4))
    assert negative_log_likelihood(logits, gold, 1.7) == pytest.approx(expected)
