"""Texts and labels of Python objects: lists, NumPy arrays, pandas Series, a column of a table, label sets, tasks."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distill.data.examples import Label
from distill.data.formats.records import cell_text
from distill.errors import InputError, InputTypeError

TEXTS_HINT = 'a list of strings, such as ["…", "…"], a NumPy array or a pandas Series'
LABELS_HINT = "fit(texts, labels), with one label per text"
NOT_LISTS = (str, bytes, Mapping, Set)
LISTS, MATRIX = "lists", "matrix"  # forms of labels where a text has any number of them


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


@dataclass(frozen=True)
class GivenLabels:
    """The labels of one task.

    Attributes:
        classes: the distinct labels, with their own type.
        labels: the class number of every text that has a label or, with a ``form``, its class numbers.
        rows: the positions of these texts.
        form: "lists" or "matrix", in which the labels were given of which a text has any number; empty: it has one.
    """

    classes: NDArray[Any]
    labels: Sequence[Label]
    rows: Sequence[int]
    form: str


def given_labels(labels: Any, name: str = "labels", rows: Sequence[int] | None = None) -> GivenLabels:
    """Labels of one task, in any of the forms of :func:`as_classes` and :func:`as_label_sets`.

    Args:
        labels: of the texts that have some.
        name: of the argument, for messages.
        rows: the positions of these texts; None: all texts have labels.
    """
    if sets := as_label_sets(labels, name, rows):
        classes, of_texts, form = sets.classes, list[Label](sets.sets), LISTS if sets.are_lists else MATRIX
    else:
        classes, numbers = as_classes(labels, name, rows)
        of_texts, form = numbers.tolist(), ""
    return GivenLabels(classes, of_texts, range(len(of_texts)) if rows is None else rows, form)


def are_tasks(labels: Any) -> bool:
    """Whether labels are those of several tasks: a dictionary, or a DataFrame that is no indicator matrix."""
    if isinstance(labels, Mapping):
        return True
    is_table = hasattr(labels, "columns") and len(labels.columns) > 1
    return is_table and not _holds_0_and_1(np.asarray(labels))


def as_tasks(labels: Any, texts: int, name: str = "labels") -> dict[str, tuple[list[int], Any]]:
    """The labels of every task by its name: the positions of the texts that have some, and those of these texts.

    Args:
        labels: a column per task, each with a label per text, a list of labels or a dictionary of 0 and 1 by label;
            None or NaN: this text has no label. A column of a dictionary may be an indicator matrix.
        texts: the number of texts.
        name: of the argument, for messages.

    Raises:
        InputTypeError: a task's name is no string, or its labels are no list.
        InputError: there is no task, two have one name, one has no labels or another number of them, or a cell is a
            dictionary of something else than 0 and 1.
    """
    columns = list(labels if isinstance(labels, Mapping) else labels.columns)
    if not columns:
        raise InputError("there are no tasks", name, 'labels={"topic": […], "sentiment": […]}')
    tasks: dict[str, tuple[list[int], Any]] = {}
    for task in columns:
        where = f"{name}[{task!r}]"
        if not isinstance(task, str):
            raise InputTypeError("the name of a task is a string", where, f"rename the column, to {f'task {task}'!r}")
        if columns.count(task) > 1:
            raise InputError("two tasks have one name", where, "name every task once")
        column = labels[task]
        if isinstance(column, NOT_LISTS) or not hasattr(column, "__len__"):
            what = f"a list is needed, not {type(column).__name__}"
            raise InputTypeError(what, where, "one label per text, None where it has none")
        count = column.shape[0] if hasattr(column, "shape") else len(column)
        if count != texts:
            what = f"{texts} texts and {count} labels: there must be one label per text, or None"
            raise InputError(what, where, "take both from the same table")
        tasks[task] = _labelled_rows(column, where)
    return tasks


def _labelled_rows(column: Any, where: str) -> tuple[list[int], Any]:
    """The positions of the texts that have labels for a task, and these labels."""
    shape: tuple[int, ...] = getattr(column, "shape", ())
    if len(shape) == 2 and shape[1] > 1:  # an indicator matrix
        return [*range(shape[0])], column
    if len(shape) == 2:
        column = np.asarray(column)[:, 0]
    cells = [
        _as_list(cell, f"{where}[{row}]") if isinstance(cell, Mapping) else cell for row, cell in enumerate(column)
    ]
    rows = [row for row, cell in enumerate(cells) if not _is_missing(cell)]
    if len(rows) == len(cells):
        return rows, cells if any(isinstance(cell, Mapping) for cell in column) else column
    labels: list[Any] = [cells[row] for row in rows]
    if all(isinstance(label, float | np.floating) and label.is_integer() for label in labels):
        labels = [int(label) for label in labels]  # pandas has no other numbers in a column with gaps
    return rows, labels


def _as_list(cell: Mapping[Any, Any], where: str) -> list[Any]:
    """The labels that a dictionary of 0 and 1 has.

    Raises:
        InputError: it holds something else.
    """
    if not _holds_0_and_1(np.array([*cell.values()], dtype=object)):
        what = "a dictionary of labels must hold 0 and 1"
        raise InputError(what, where, 'write {"体育": 1, "财经": 0}, or a list of the labels')
    return [label for label, is_given in cell.items() if is_given]


def as_classes(
    labels: Any, name: str = "labels", rows: Sequence[int] | None = None
) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """The distinct labels in ascending order, with the type that they have, and the class number of every label.

    Args:
        labels: strings, whole numbers or booleans, shape (texts,) or (texts, 1).
        name: of the argument, for messages.
        rows: the positions of the labels, for messages; None: from 0 on.

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
    for position, label in zip(range(len(column)) if rows is None else rows, column, strict=True):
        kinds.setdefault(_kind(label, position, name), position)
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


@dataclass(frozen=True)
class LabelSets:
    """Labels of texts that may have several.

    Attributes:
        classes: the distinct labels in ascending order, or in that of a matrix's columns.
        sets: the class numbers of every text.
        are_lists: whether the labels were given as lists; otherwise as an indicator matrix.
    """

    classes: NDArray[Any]
    sets: tuple[frozenset[int], ...]
    are_lists: bool


def as_label_sets(labels: Any, name: str = "labels", rows: Sequence[int] | None = None) -> LabelSets | None:
    """Labels given as a list of labels per text, or as an indicator matrix (texts, classes); None for anything else.

    Lists that all hold exactly one label are one label per text. The columns of a DataFrame name the classes; those of
    another matrix are numbered. Lists of the same length, two or more, that hold 0 and 1 alone are a matrix too.
    ``rows`` are the positions of the labels, for messages; None: from 0 on.

    Raises:
        InputTypeError: a label has no usable type.
        InputError: the matrix holds something else than 0 and 1, a label is missing, or all texts have the same labels.
    """
    if hasattr(labels, "toarray"):  # sparse
        labels = labels.toarray()
    shape: tuple[int, ...] = getattr(labels, "shape", ())
    if len(shape) == 2 and shape[1] > 1:
        sets = _sets_of_matrix(np.asarray(labels), name)
        columns = getattr(labels, "columns", None)
        classes = np.arange(shape[1]) if columns is None else np.array(list(columns))
        return _varied(LabelSets(classes, sets, are_lists=False), name)
    is_list = hasattr(labels, "__len__") and not isinstance(labels, NOT_LISTS)
    items = list(labels) if is_list else []
    if not items or not all(isinstance(item, list | tuple | Set | np.ndarray) for item in items):
        return None
    sizes = {len(item) for item in items}
    if sizes == {1}:
        return None
    if (
        len(sizes) == 1
        and sizes != {0}
        and all(not isinstance(label, str) and label in (0, 1) for item in items for label in item)
    ):
        return as_label_sets(np.array([list(item) for item in items]), name, rows)
    flat = [label for item in items for label in item]
    if not flat:
        raise InputError("no text has a label", name, "give some of the texts labels")
    positions = range(len(items)) if rows is None else rows
    kinds = {_kind(label, position, name) for position, item in zip(positions, items, strict=True) for label in item}
    if len(kinds) > 1:
        raise InputTypeError(f"labels of different types: {' and '.join(sorted(kinds))}", name, "give all one type")
    classes, numbers = np.unique(np.array(flat), return_inverse=True)
    rest = iter(numbers.tolist())
    return _varied(LabelSets(classes, tuple(frozenset(next(rest) for _ in item) for item in items), True), name)


def _sets_of_matrix(matrix: NDArray[Any], name: str) -> tuple[frozenset[int], ...]:
    if not _holds_0_and_1(matrix):
        what = "an indicator matrix must hold 0 and 1, a column per class"
        raise InputError(what, name, "or give every text a list of its labels")
    return tuple(frozenset(np.flatnonzero(row).tolist()) for row in matrix)


def _holds_0_and_1(values: NDArray[Any]) -> bool:
    """Whether an array holds nothing but 0 and 1, as numbers or booleans; also one of objects."""
    if values.dtype.kind == "O":
        numbers = (int, float, np.number, np.bool_)
        return all(isinstance(value, numbers) and value in (0, 1) for value in values.flat)
    return values.dtype.kind in "biuf" and bool(np.isin(values, (0, 1)).all())


def _varied(labels: LabelSets, name: str) -> LabelSets:
    """The labels, unless all texts have the same.

    Raises:
        InputError: they have.
    """
    if len(set(labels.sets)) < 2:
        raise InputError("all texts have the same labels", name, "add texts with other labels")
    return labels


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


def _kind(label: Any, position: int, name: str) -> str:
    """What a label is.

    Raises:
        InputError: it is missing, or not a whole number.
        InputTypeError: it is something else than a string, a number or a boolean.
    """
    where = f"{name}[{position}]"
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
