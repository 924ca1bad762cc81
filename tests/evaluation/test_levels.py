"""Scores on the levels above labels that are paths, by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distill.data.hierarchy import find_hierarchy
from distill.evaluation import metrics
from distill.evaluation.levels import WITHIN_PARENT, ancestors, level_scores

LABELS = ("体育##篮球", "体育##足球", "财经##股票", "财经##基金##债券", "财经##基金##货币")
HIERARCHY = find_hierarchy(LABELS)
ALL = np.ones(5, np.bool_)
assert HIERARCHY


def test_one_label_per_text() -> None:
    gold, predicted = np.array([0, 1, 2, 3, 4]), np.array([0, 0, 1, 4, 2])
    found = level_scores(gold, predicted, ALL, HIERARCHY)
    assert found["accuracy_level_1"] == 4 / 5 and found["accuracy_level_2"] == 2 / 5
    assert found["macro_f1_level_1"] == pytest.approx((2 * 2 / (2 + 3) + 2 * 2 / (3 + 2)) / 2)
    assert found["macro_f1_level_2"] == pytest.approx((2 / 3 + 0 + 0 + 2 / 3) / 4)
    assert found[WITHIN_PARENT] == 2 / 4, "of four mistakes, two have the right parent"
    assert level_scores(gold, gold, ALL, HIERARCHY)[WITHIN_PARENT] is None


def test_label_sets() -> None:
    gold = np.array([[1, 0, 1, 0, 0], [0, 0, 0, 1, 0], [0, 0, 0, 0, 0]], bool)
    predicted = np.array([[0, 1, 0, 0, 0], [0, 0, 0, 1, 1], [0, 0, 0, 0, 0]], bool)
    first, second = HIERARCHY.levels
    assert ancestors(gold, first).tolist() == [[True, True], [False, True], [False, False]]
    assert ancestors(predicted, second).tolist() == [
        [False, True, False, False],
        [False, False, False, True],
        [False] * 4,
    ]
    found = level_scores(gold, predicted, ALL[:3], HIERARCHY)
    assert found.keys() == {f"{name}_f1_level_{number}" for name in ("micro", "macro") for number in (1, 2)}
    assert found["micro_f1_level_1"] == 2 * 2 / (3 + 2) and found["micro_f1_level_2"] == 2 * 1 / (3 + 2)


@settings(max_examples=25)
@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1))
def test_a_level_is_at_least_as_accurate_as_the_level_below(pairs: list[tuple[int, int]]) -> None:
    gold, predicted = np.array(pairs).T
    ones = np.ones(len(gold), np.bool_)
    found = level_scores(gold, predicted, ones, HIERARCHY)
    of_labels = metrics.scores(gold, predicted, ones, 5).accuracy
    assert found["accuracy_level_1"] >= found["accuracy_level_2"] >= of_labels
    if (share := found[WITHIN_PARENT]) is not None:
        assert found["accuracy_level_1"] >= of_labels + share * (1 - of_labels) - 1e-9


def test_parents_of_paths_of_different_lengths() -> None:
    labels = [*(f"{parent}##{n}" for parent in "甲乙丙丁" for n in range(3)), "戊##1##x", "戊##1##y"]
    hierarchy = find_hierarchy(labels)
    gold = np.arange(12)
    predicted = gold + np.where(gold % 3 == 2, -1, 1)  # another label of the same parent
    assert hierarchy and level_scores(gold, predicted, np.ones(12, bool), hierarchy)[WITHIN_PARENT] == 1
