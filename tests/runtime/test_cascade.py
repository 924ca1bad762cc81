"""Unsure texts in Python: the most probable labels, rejection, and a cascade to any function."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import titles
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from distill.errors import UserError
from distill.runtime import Cascade, Runtime, load

TEXTS = [text for text, _ in titles(0, 60)]
LABELS = ("体育", "财经", "科技")


@pytest.fixture(scope="module")
def runtime(bundle: Path) -> Runtime:
    return load(bundle)


class Student:
    """Gives a text's first class the probability that the text spells."""

    labels = LABELS

    def predict_proba(self, texts: Sequence[str]) -> NDArray[np.float32]:
        first = np.array([float(text.strip() or 0.5) for text in texts], np.float32)
        return np.stack([first, (1 - first) * 0.75, (1 - first) * 0.25], axis=1)


class Teacher:
    """A function that gives every text one row of probabilities, and records its calls."""

    def __init__(self, *row: float) -> None:
        self.row, self.calls = row, list[list[str]]()

    def __call__(self, texts: list[str]) -> list[tuple[float, ...]]:
        self.calls.append(texts)
        return [self.row] * len(texts)


def test_a_text_below_the_threshold_gets_no_label(runtime: Runtime) -> None:
    labels, probabilities = runtime.predict(TEXTS), runtime.predict_proba(TEXTS).max(axis=1)
    threshold = float(np.sort(probabilities)[20])
    rejected = (probabilities < np.float32(threshold)).tolist()
    assert rejected.count(True) == 20  # the text at the threshold itself keeps its label
    for name in ("", "其他"):
        expected = [name if is_rejected else label for label, is_rejected in zip(labels, rejected, strict=True)]
        assert runtime.predict(TEXTS, reject_below=threshold, reject_label=name) == expected
    assert runtime.predict(TEXTS, reject_below=0) == labels


@pytest.mark.parametrize("k", [1, 2, 3])
def test_the_most_probable_labels_come_in_order(runtime: Runtime, k: int) -> None:
    for top, label, row in zip(
        runtime.top_k(TEXTS, k), runtime.predict(TEXTS), runtime.predict_proba(TEXTS), strict=True
    ):
        assert len(top) == k and top[0][0] == label
        assert [value for _, value in top] == sorted(row.tolist(), reverse=True)[:k]
        assert all(value == row[runtime.labels.index(name)] for name, value in top)
    assert runtime.top_k([], k) == []


def test_of_equal_labels_the_first_one_comes_first() -> None:
    assert Cascade(Student(), Teacher(0.4, 0.2, 0.4), 1).top_k(["0.5"], 3)[0] == [
        ("体育", pytest.approx(0.4)),
        ("科技", pytest.approx(0.4)),
        ("财经", pytest.approx(0.2)),
    ]


@settings(max_examples=50)
@given(
    st.lists(st.floats(0.5, 1).map(str) | st.sampled_from(["", " "]), max_size=9),
    st.floats(0, 1),
    st.permutations(LABELS),
)
def test_a_cascade_replaces_the_rows_of_unsure_texts(texts: list[str], below: float, order: list[str]) -> None:
    row = {"体育": 0.1, "财经": 0.2, "科技": 0.7}
    teacher = Teacher(*(row[label] for label in order))
    cascade, student = Cascade(Student(), teacher, below, order), Student().predict_proba(texts)
    probabilities, by_teacher = cascade.answer(texts)
    unsure = [bool(text.strip()) and bool(first < below) for text, first in zip(texts, student[:, 0], strict=True)]
    assert by_teacher.tolist() == unsure
    expected = np.where(np.array(unsure, bool)[:, None], np.array(list(row.values()), np.float32), student)
    np.testing.assert_array_equal(probabilities, expected)
    sent = sorted((text for text, is_unsure in zip(texts, unsure, strict=True) if is_unsure), key=len)
    assert teacher.calls == ([sent] if sent else [])
    assert cascade.labels == LABELS
    assert cascade.predict(texts) == [LABELS[index] for index in expected.argmax(axis=1)]


def test_a_cascade_may_reject_too() -> None:
    cascade = Cascade(Student(), Teacher(0.3, 0.3, 0.4), 0.8)
    assert cascade.predict(["0.9", "0.7"], reject_below=0.5, reject_label="?") == ["体育", "?"]


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        (np.ones((2, 2)), r"2 rows of 3 probabilities are needed, the teacher returned an array of shape \(2, 2\)"),
        (np.ones(3), r"an array of shape \(3,\)"),
        ([[0.5, np.nan, 0.5]] * 2, "numbers that are not from 0 to 1"),
        ([[3.0, -1.0, 0.0]] * 2, "numbers that are not from 0 to 1"),  # logits
    ],
)
def test_a_teacher_that_returns_something_else(output: Any, expected: str) -> None:
    with pytest.raises(UserError, match=expected) as error:
        Cascade(Student(), lambda texts: output, 0.8).predict(["0.6", "0.7"])
    assert error.value.hint


class Classifier:
    """A classifier with the same probabilities for every text, and with further attributes such as ``labels``."""

    def __init__(self, row: Sequence[float], **attributes: Any) -> None:
        self.__dict__.update(attributes)
        self.row = row

    def predict_proba(self, texts: Sequence[str]) -> NDArray[np.float32]:
        return np.tile(np.array(self.row, np.float32), (len(texts), 1))


@pytest.mark.parametrize("name", ["labels", "classes_"])
def test_a_classifier_names_its_labels(name: str) -> None:
    teacher = Classifier([0.7, 0.2, 0.1], **{name: np.array(["科技", "体育", "财经"])})
    assert Cascade(Student(), teacher, 1).predict(["0.6"]) == ["科技"]  # type: ignore[arg-type]
    assert Cascade(Student(), teacher, 1, LABELS).predict(["0.6"]) == ["体育"]  # type: ignore[arg-type]


def test_a_classifier_that_does_not_name_its_labels() -> None:
    teacher: Any = Classifier([0.7, 0.2, 0.1])
    with pytest.raises(UserError, match=r"does not say which labels its columns are of -> labels=\[…\]"):
        Cascade(Student(), teacher, 1)
    assert Cascade(Student(), teacher, 1, np.array(LABELS)).predict(["0.6"]) == ["体育"]  # type: ignore[arg-type]
    assert Cascade(Student(), teacher.predict_proba, 1).predict(["0.6"]) == ["体育"]


def test_a_cascade_of_a_cascade() -> None:
    inner = Cascade(Student(), Teacher(0.1, 0.3, 0.6), 0.7)
    assert Cascade(inner, Teacher(0.1, 0.9, 0), 0.65).predict(["0.8", "0.6"]) == ["体育", "财经"]
    assert Cascade(Student(), inner, 0.75).predict(["0.8", "0.72", "0.6"]) == ["体育", "体育", "科技"]


def test_a_teacher_with_other_labels() -> None:
    with pytest.raises(UserError, match="the teacher has other labels than the student"):
        Cascade(Student(), Teacher(), 0.8, ["体育", "财经", "财经"])


@pytest.mark.parametrize(
    ("arguments", "where"),
    [
        *(({"reject_below": value}, "reject_below") for value in (-0.1, 1.1, float("nan"), "0.5", True)),
        ({"reject_below": 0.5, "reject_label": "财经"}, "reject_label"),
        ({"reject_below": 0.5, "reject_label": None}, "reject_label"),
    ],
)
def test_wrong_arguments_of_rejection(runtime: Runtime, arguments: dict[str, Any], where: str) -> None:
    with pytest.raises(UserError) as error:
        runtime.predict(["好"], **arguments)
    assert error.value.where == where and error.value.hint


@pytest.mark.parametrize("k", [0, -1, 4, 1.0, "2", None, True])
def test_a_wrong_number_of_labels(runtime: Runtime, k: Any) -> None:
    expected = "the number of labels must be from 1 to 3, not .*; the labels are "
    with pytest.raises(UserError, match=expected):
        runtime.top_k(["好"], k)


@pytest.mark.parametrize("below", [-0.1, 1.5, float("nan"), None])
def test_a_wrong_threshold_of_a_cascade(below: Any) -> None:
    with pytest.raises(UserError, match="a probability from 0 to 1 is needed"):
        Cascade(Student(), Teacher(), below)
