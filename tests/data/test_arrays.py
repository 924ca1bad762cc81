"""Texts and labels of Python objects: what is accepted, the classes and their type, and messages about the rest."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from distill.data.arrays import as_classes, as_texts
from distill.errors import InputError, InputTypeError

TEXTS = ["球队赢了", "股票跌了"]


@pytest.mark.parametrize(
    "given",
    [
        TEXTS,
        tuple(TEXTS),
        np.array(TEXTS),
        np.array(TEXTS, object),
        np.array(TEXTS)[:, None],
        [[text] for text in TEXTS],
        pd.Series(TEXTS, index=[7, 3]),
        pd.Series(TEXTS, dtype="category"),
        pd.DataFrame({"text": TEXTS}),
        [np.str_(text) for text in TEXTS],
        [f" {text}\u3000" for text in TEXTS],
    ],
    ids=lambda given: type(given).__name__,
)
def test_texts_of_every_container(given: Any) -> None:
    texts = as_texts(given)
    assert texts == TEXTS and {type(text) for text in texts} == {str}


def test_no_texts_and_texts_without_characters() -> None:
    assert as_texts([]) == as_texts(np.array([], object)) == as_texts(pd.Series([], dtype=object)) == []
    assert as_texts(["", " \u200b", "半\ud83d"]) == ["", "", "半\ufffd"]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("球队赢了", "texts: a list is needed, not one string -> a list of strings"),
        (b"abc", "a list is needed, not bytes"),
        ({"text": TEXTS}, "a list is needed, not dict"),
        ({"a", "b"}, "a list is needed, not set"),
        (None, "a list is needed, not NoneType"),
        (3, "a list is needed, not int"),
        ((text for text in TEXTS), "a list is needed, not generator"),
        (["a", None], "texts[1]: None (NoneType) is not a string"),
        (pd.Series(["a", None, "b"]), "texts[1]: nan (float) is not a string"),
        (["a", 3], "texts[1]: 3 (int) is not a string"),
        ([b"a"], "texts[0]: b'a' (bytes) is not a string"),
        (np.array([1.5, 2.5]), "texts[0]: 1.5 (float) is not a string"),
        ([["a"], ["b", "c"]], "texts[0]: ['a'] (list) is not a string"),
    ],
)
def test_texts_that_are_none(given: Any, message: str) -> None:
    with pytest.raises(InputTypeError) as error:
        as_texts(given)
    assert message in str(error.value) and isinstance(error.value, TypeError)


@pytest.mark.parametrize(
    "given", [pd.DataFrame({"a": TEXTS, "b": TEXTS}), [["a", "b"], ["c", "d"]], np.zeros((2, 1, 1))]
)
def test_texts_of_several_columns(given: Any) -> None:
    with pytest.raises(InputError, match=r"one column is needed, not an array of shape \(2, .*table\['text'\]"):
        as_texts(given)


@pytest.mark.parametrize(
    ("given", "classes", "dtype"),
    [
        (["b", "a", "b"], ["a", "b"], "<U1"),
        (("财经", "体育"), ["体育", "财经"], "<U2"),
        (np.array(["b", "a"]), ["a", "b"], "<U1"),
        (np.array(["b", "a"], object), ["a", "b"], "O"),
        (pd.Series(["b", "a"], index=[5, 5]), ["a", "b"], "O"),
        (pd.Series(["b", "a"], dtype="category"), ["a", "b"], "O"),
        ([10, 9, 10], [9, 10], "int64"),
        ([np.int64(10), 9], [9, 10], "int64"),
        (np.array([3, 1], np.uint8), [1, 3], "uint8"),
        (np.array([[3], [1]]), [1, 3], "int64"),
        (pd.Series([3, 1], dtype="Int64"), [1, 3], "int64"),
        (np.array([3, 1], object), [1, 3], "int64"),
        ([True, False], [False, True], "bool"),
        (pd.Series([True, False], dtype="boolean"), [False, True], "bool"),
        ([2.0, 1.0], [1.0, 2.0], "float64"),
        (["2", "10"], ["10", "2"], "<U2"),
    ],
)
def test_classes_are_sorted_and_keep_their_type(given: Any, classes: list[Any], dtype: str) -> None:
    found, numbers = as_classes(given)
    assert found.tolist() == classes and found.dtype == np.dtype(dtype)
    assert found[numbers].tolist() == np.ravel(given).tolist()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (None, "labels: this estimator requires y to be passed, but the target y is None"),
        ([], "labels: there are no labels -> fit(texts, labels), with one label per text"),
        (["a", None], "labels[1]: the label is missing (None (NoneType)) -> leave out rows without a label"),
        (["a", np.nan], "labels[1]: the label is missing (nan"),
        (np.array([1.0, np.nan]), "labels[1]: the label is missing"),
        (pd.Series([1, None], dtype="Int64"), "labels[1]: the label is missing (<NA>"),
        (pd.Series(["a", None]), "labels[1]: the label is missing"),
        (["a", " "], "labels[1]: the label is missing (' ')"),
        (["a", "\ud800"], "labels[1]: '\\ud800' has half a character"),
        ([1, 2.5], "labels[1]: Unknown label type: 2.5 is not a whole number"),
        ([1, np.inf], "labels[1]: Unknown label type: inf is not a whole number"),
        (["a", "a"], "labels: all labels are of one class (a): at least two classes are needed"),
        ([1, True], "labels: labels of different types: numbers (position 0) and booleans (position 1)"),
        (["a", 1], "labels: labels of different types: strings (position 0) and numbers (position 1)"),
        ("ab", "labels: a list is needed, not one string"),
        ([["a", "b"], ["c", "d"]], "labels: one column is needed, not an array of shape (2, 2)"),
        ([("a",), ("b", "c")], "labels[0]: ('a',) (tuple) is no label"),
        ([b"a", b"b"], "labels[0]: b'a' (bytes) is no label"),
        ([1j, 2j], "labels[0]: 1j (complex) is no label"),
        (np.array(["2024-01-01"], "datetime64[D]"), "is no label"),
    ],
)
def test_labels_that_are_none(given: Any, message: str) -> None:
    with pytest.raises((InputError, InputTypeError)) as error:
        as_classes(given)
    assert message in str(error.value)
