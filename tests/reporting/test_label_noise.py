"""Label sets that the teacher contradicts."""

from __future__ import annotations

import numpy as np
import pytest

from distill.reporting.label_noise import contradicted_sets


def test_label_sets_that_the_teacher_contradicts() -> None:
    gold = np.array([[1, 0, 1], [0, 0, 0], [1, 1, 0], [0, 1, 0]], bool)
    probabilities = np.array([[0.9, 0.1, 0.05], [0.7, 0.1, 0.1], [0.9, 0.9, 0.2], [0.9, 0.99, 0.85]], np.float32)
    rows = contradicted_sets("train", ["甲", "乙", "丙", "丁"], gold, probabilities, ["a", "b", "c"])
    assert [(row.text, row.label, row.teacher_label) for row in rows] == [("甲", "a|c", "a"), ("丁", "b", "a|b|c")]
    assert rows[0].teacher_probability == pytest.approx(0.95) and rows[1].label_probability == pytest.approx(0.1)
