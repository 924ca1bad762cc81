"""Selective classification: figures by hand, and properties of thresholds, curves and cascades."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distill.evaluation import selective
from distill.evaluation.selective import (
    Confidences,
    answered,
    cascade_at,
    cascade_threshold,
    default_targets,
    risk_coverage,
    smallest_threshold,
    target_rows,
    wilson_low,
)


def model(*texts: tuple[float, bool]) -> Confidences:
    confidence, correct = zip(*texts, strict=True)
    return Confidences(np.array(confidence), np.array(correct, np.bool_))


FOUR = model((0.9, True), (0.6, False), (0.8, True), (0.7, True))
FEW = settings(max_examples=50)


@pytest.fixture(autouse=True, scope="module")
def few_thresholds() -> Iterator[None]:
    """Every tenth, for the tests that compare with all of them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(selective, "THRESHOLDS", np.arange(101) / 100)
        yield


MODELS = st.lists(st.tuples(st.sampled_from([0.25, 0.5, 0.505, 0.75, 0.999, 1.0]), st.booleans()), min_size=1).map(
    lambda texts: model(*texts)
)


def test_confidences_are_those_of_calibrated_probabilities() -> None:
    found = Confidences.of(np.array([[2.0, 0.0], [0.0, 4.0]]), 2.0, [0, 0])
    np.testing.assert_allclose(found.confidence, [1 / (1 + math.exp(-1)), 1 / (1 + math.exp(-2))])
    assert found.correct.tolist() == [True, False] and found.accuracy == 0.5


def test_answered_by_hand() -> None:
    assert (answered(FOUR, 0.7).texts, answered(FOUR, 0.7).share, answered(FOUR, 0.7).accuracy) == (3, 0.75, 1.0)
    assert answered(FOUR, 0.0).accuracy == 0.75
    nothing = answered(FOUR, 0.95)
    assert (nothing.texts, nothing.share, nothing.low) == (0, 0.0, 0.0) and math.isnan(nothing.accuracy)


@pytest.mark.parametrize(("right", "count", "low"), [(81, 100, 0.7222), (10, 10, 0.7225), (0, 10, 0.0), (1, 1, 0.2065)])
def test_wilson_lower_bounds(right: int, count: int, low: float) -> None:
    """Computed with statsmodels' proportion_confint(method="wilson")."""
    assert wilson_low(right, count) == pytest.approx(low, abs=1e-4)


def test_the_curve_by_hand() -> None:
    curve = risk_coverage(FOUR)
    np.testing.assert_allclose(curve.coverage, [0.25, 0.5, 0.75, 1])
    np.testing.assert_allclose(curve.risk, [0, 0, 0, 0.25])
    assert curve.area == pytest.approx(0.0625)


@FEW
@given(MODELS, st.randoms())
def test_the_order_of_texts_does_not_matter(found: Confidences, random: object) -> None:
    order = np.argsort([random.random() for _ in found.correct])  # type: ignore[attr-defined]
    other = risk_coverage(Confidences(found.confidence[order], found.correct[order]))
    np.testing.assert_allclose(other.risk, risk_coverage(found).risk)
    assert risk_coverage(found).risk[-1] == pytest.approx(1 - found.accuracy)


@FEW
@given(MODELS, st.floats(0, 1), st.integers(1, 4))
def test_no_smaller_threshold_reaches_the_target(found: Confidences, target: float, enough: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(selective, "MIN_ANSWERED", enough)
        threshold = smallest_threshold(found, target)
    reached = [
        float(tried)
        for tried in selective.THRESHOLDS
        if (at := answered(found, tried)).texts >= enough and at.accuracy >= target - 1e-9
    ]
    assert threshold == (reached[0] if reached else None)


def test_a_few_texts_are_not_enough() -> None:
    assert smallest_threshold(FOUR, 0.9) is None
    many = model(*[(0.9, True)] * 29, (0.91, True), *[(0.5, False)] * 5)
    assert smallest_threshold(many, 0.95) == pytest.approx(0.51)
    assert smallest_threshold(model(*[(0.9, True)] * 29), 0.95) is None


def test_thresholds_are_chosen_on_dev_and_checked_on_test() -> None:
    dev = model(*[(0.9, True)] * 30, *[(0.5, False)] * 30)
    test = model(*[(0.6, True)] * 3, (0.7, False), *[(0.2, True)] * 4)
    row, unreached = target_rows(dev, test, [1.0, 1.1])
    assert row.threshold == pytest.approx(0.51) and row.dev is not None and row.test is not None
    assert (row.dev.share, row.dev.accuracy, row.dev.texts) == (0.5, 1.0, 30)
    assert (row.test.share, row.test.accuracy, row.test.texts) == (0.5, 0.75, 4)
    assert (unreached.threshold, unreached.dev, unreached.test) == (None, None, None)


def test_the_default_targets_leave_a_part_of_the_error() -> None:
    assert default_targets(model(*[(1, True)] * 84, *[(1, False)] * 16)) == (0.88, 0.92, 0.96)
    assert default_targets(model((1, True))) == (1.0,)


def test_a_cascade_by_hand() -> None:
    teacher = np.array([False, True, True, True])
    assert cascade_at(FOUR, teacher, 0.0) == (0.0, 0.75)
    assert cascade_at(FOUR, teacher, 0.7) == (0.25, 1.0)
    assert cascade_at(FOUR, teacher, 1.0) == (1.0, 0.75)


@FEW
@given(MODELS, st.data())
def test_the_cascade_reaches_the_teacher_at_the_smallest_threshold(found: Confidences, data: st.DataObject) -> None:
    size = len(found.correct)
    teacher = np.array(data.draw(st.lists(st.booleans(), min_size=size, max_size=size)), np.bool_)
    threshold, wanted = cascade_threshold(found, teacher), teacher.mean()
    smaller = selective.THRESHOLDS[threshold > selective.THRESHOLDS]
    assert all(cascade_at(found, teacher, tried).accuracy < wanted for tried in smaller)
    assert threshold == 1 or cascade_at(found, teacher, threshold).accuracy >= wanted
