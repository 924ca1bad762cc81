"""Texts and labels of Python objects: lists, NumPy arrays, pandas Series, a column of a table."""

from __future__ import annotations

import math
from collections.abc import Mapping, Set
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distill.data.formats.records import cell_text
from distill.errors import InputError, InputTypeError

TEXTS_HINT = 'a list of strings, such as ["…", "…"], a NumPy array or a pandas Series'
LABELS_HINT = "fit(texts, labels), with one label per text"
NOT_LISTS = (str, bytes, Mapping, Set)


def as_texts(values: Any, name: str = "texts") -> list[str]:
    """The texts of a list, an array or a Series, as files are read: without white space around them.

    Args:
        values: strings, shape (texts,) or (texts, 1).
        name: of the argument, for messages.

    Raises:
        InputTypeError: it is no list, or holds something else than strings.
        InputError: it has several columns.
    """
    column = _column(values, name, TEXTS_HINT)
    for position, text in enumerate(column):
        if not isinstance(text, str):
            what = f"{_shown(text)} is not a string"
            raise InputTypeError(what, f"{name}[{position}]", "leave out rows without text; a text is a string")
    return [cell_text(str(text)) for text in column]


def as_classes(labels: Any, name: str = "labels") -> tuple[NDArray[Any], NDArray[np.int64]]:
    """The distinct labels in ascending order, with the type that they have, and the class number of every label.

    Args:
        labels: strings, whole numbers or booleans, shape (texts,) or (texts, 1).
        name: of the argument, for messages.

    Raises:
        InputTypeError: it is no list, or holds labels of other types or of several types.
        InputError: a label is missing, or all labels are the same.
    """
    if labels is None:
        what = "this estimator requires y to be passed, but the target y is None"
        raise InputError(what, name, LABELS_HINT)
    column = _column(labels, name, "a list with one label per text")
    if not column:
        raise InputError("there are no labels", name, LABELS_HINT)
    kinds: dict[str, int] = {}
    for position, label in enumerate(column):
        kinds.setdefault(_kind(label, position), position)
    if len(kinds) > 1:
        found = " and ".join(f"{kind} (position {position})" for kind, position in kinds.items())
        raise InputTypeError(f"labels of different types: {found}", name, "give all labels one type")
    dtype = getattr(labels, "dtype", None)
    is_plain_array = isinstance(dtype, np.dtype) and dtype.kind in "biufU"
    array = np.asarray(column, dtype if is_plain_array else _dtype_of(labels, kinds))
    classes, numbers = np.unique(array, return_inverse=True)
    if len(classes) < 2:
        what = f"all labels are of one class ({classes[0]}): at least two classes are needed"
        raise InputError(what, name, "add texts of another class")
    return classes, numbers.astype(np.int64)


def class_names(classes: NDArray[Any]) -> tuple[str, ...]:
    """The classes as a bundle names them."""
    return tuple(map(str, classes.tolist()))


def _dtype_of(labels: Any, kinds: Mapping[str, int]) -> Any:
    """The type of labels that are not in a plain array: strings stay objects where they are, numbers become numbers."""
    return object if not isinstance(labels, list | tuple) and "strings" in kinds else None


def _column(values: Any, name: str, hint: str) -> list[Any]:
    """The items of one column."""
    is_list = hasattr(values, "__len__") or hasattr(values, "__array__")
    if isinstance(values, NOT_LISTS) or not is_list:
        what = f"a list is needed, not {'one string' if isinstance(values, str) else type(values).__name__}"
        raise InputTypeError(what, name, hint)
    array = np.asarray(values, dtype=object)
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim != 1:
        shape = f"an array of shape {array.shape}" if array.ndim else type(values).__name__
        raise InputError(f"one column is needed, not {shape}", name, f"name the column: table['text']; {hint}")
    return list(array)


def _kind(label: Any, position: int) -> str:
    """What a label is.

    Raises:
        InputError: it is missing, or not a whole number.
        InputTypeError: it is something else than a string, a number or a boolean.
    """
    where = f"labels[{position}]"
    if _is_missing(label):
        raise InputError(f"the label is missing ({_shown(label)})", where, "leave out rows without a label")
    if isinstance(label, str):
        if any("\ud800" <= char <= "\udfff" for char in label):
            raise InputError(f"{label!r} has half a character (a lone surrogate)", where, "repair the label")
        return "strings"
    if isinstance(label, bool | np.bool_):
        return "booleans"
    if isinstance(label, int | float | np.integer | np.floating):
        if not math.isfinite(label) or label != int(label):
            what = f"Unknown label type: {label} is not a whole number; classes are strings, whole numbers or booleans"
            raise InputError(what, where, "this is a classifier: group the numbers into classes")
        return "numbers"
    what = f"{_shown(label)} is no label; labels are strings, whole numbers or booleans"
    raise InputTypeError(what, where, "give every text one label")


def _is_missing(value: Any) -> bool:
    """Whether a cell is empty: None, NaN, pandas' NA, or a string without characters."""
    if value is None or type(value).__name__ in ("NAType", "NaTType"):
        return True
    return not value.strip() if isinstance(value, str) else isinstance(value, float | np.floating) and math.isnan(value)


def _shown(value: Any) -> str:
    return repr(value) if isinstance(value, str) else f"{value!r:.40} ({type(value).__name__})"
