"""Rows of text and label from records of any format: which columns are read, and cells as text."""

from __future__ import annotations

import ast
import contextlib
import functools
import json
import math
import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from distill.errors import UserError, listed
from distill.runtime.packing import without_zero_width
from distill.storage.encodings import ENCODINGS

# Usual names, the preferred ones first; they are compared without regard to case and surrounding spaces.
TEXT_COLUMNS = (
    *("text", "text_a", "sentence", "title", "content", "review", "headline"),
    *("文本", "句子", "标题", "内容", "评论"),
    *(
        "sentence1",
        "comment",
        "comments",
        "query",
        "question",
        "body",
        "message",
        "news",
        "document",
        "utterance",
        "data",
    ),
    *(
        "review_text",
        "review_body",
        "正文",
        "新闻",
        "评价",
        "评论内容",
        "新闻标题",
        "新闻内容",
        "评价内容",
        "文章",
        "语句",
    ),
)
SECOND_TEXTS = ("text_b", "sentence2", "question2", "text2")  # of a pair; named if the first one is read alone
LABEL_COLUMNS = (
    *("label", "category", "class", "标签", "类别", "分类"),
    *("labels", "target", "cat", "categories", "topic", "intent", "sentiment", "choice", "class_label", "label_id"),
    *("情感", "主题", "意图", "类型", "分类标签", "情感标签", "类别标签"),
)
LABEL_NAME_COLUMNS = ("label_desc", "label_des", "label_name", "label_text", "category_name", "class_name", "类别名称")
NO_TEXT, NO_LABEL, SEVERAL_LABELS = "there is no text", "there is no label", "several labels"
NEITHER = "is neither 0 nor 1"
ADJACENT = re.compile(r"(['\"])\s+\1")  # NumPy writes the strings of an array without commas
NUMBER = re.compile(r"-?[0-9]{1,18}")
NUMBERS = re.compile(rf"{NUMBER.pattern}(\W+{NUMBER.pattern})*")  # of several classes in one cell
LISTS = ("[", "{", "(")  # the beginning of a list within a cell
MAX_LABEL = 10_000  # characters of a cell with a list of labels
NO, YES = ("0", "false", "no", "n", "否"), ("1", "true", "yes", "y", "是")
INDICATORS = {**dict.fromkeys(NO, False), **dict.fromkeys(YES, True)}  # cells of a column that is a label
WHOLE = re.compile(r"(-?[0-9]+)\.0+")  # a whole number that a table with gaps stores as a decimal


class RowError(Exception):
    """A row cannot be used; the message says why."""


@dataclass(frozen=True)
class Row:
    """One row as it is in a file.

    Attributes:
        text: not empty.
        label: a name or a number; empty in unlabelled data.
        label_name: CLUE's ``label_desc``, the name of a label that is a number; may be empty.
        labels: all of them if the cell holds a list, whose first one is ``label``; otherwise None.
        number: of the line, row or item in the file, from 1.
        cells: all of them by the names of their columns, if they are wanted.
        columns: the labels that have a column each, of which the row has ``labels``.
    """

    text: str
    label: str
    label_name: str
    number: int
    cells: Mapping[str, Any] | None = None
    labels: tuple[str, ...] | None = None
    columns: tuple[str, ...] = ()


@dataclass(frozen=True)
class Columns:
    """Names of the columns, or their numbers from 1; empty: the first of the usual names that the file has.

    ``text`` may name several columns, separated by commas, which are joined. So may ``label``: each of them is then a
    label, and holds 1 where a text has it and 0 where it has not. ``is_labelled`` is False if labels are neither needed
    nor read; with ``keeps_cells``, the rows of unlabelled data keep the cells of all columns. With ``is_multi_label``,
    an empty cell means that the text has none of the labels.
    """

    text: str = ""
    label: str = ""
    is_labelled: bool = True
    keeps_cells: bool = False
    is_multi_label: bool = False

    @property
    def are_numbers(self) -> bool:
        """Whether the columns are given by number, as in a table without a header."""
        return bool(self.text) and all(name.strip().isdecimal() for name in self.text.split(","))


@dataclass(frozen=True)
class Selection:
    """The columns that are read: ``get(cells, key)`` returns a row's cell.

    ``note`` says in words which columns were taken and which usual ones were not. ``others`` are the keys of the other
    columns whose cells a row keeps, by name. With ``allows_no_label``, a text may have none of the labels.
    ``indicators`` are the keys of columns of 0 and 1 by their labels; with them, ``label`` is None.
    """

    texts: tuple[Any, ...]
    label: Any
    label_name: Any
    get: Callable[[Any, Any], Any]
    note: str
    others: Mapping[str, Any] = field(default_factory=dict)
    allows_no_label: bool = False
    indicators: Mapping[str, Any] = field(default_factory=dict)

    @functools.cached_property
    def _columns(self) -> tuple[str, ...]:
        return tuple(self.indicators)

    def text(self, cells: Any) -> str:
        """The text of a row.

        Raises:
            RowError: there is none.
        """
        if len(self.texts) == 1:
            text = cell_text(self.get(cells, self.texts[0]))
        else:
            text = " ".join(part for key in self.texts if (part := cell_text(self.get(cells, key))))
        if not text:
            raise RowError(NO_TEXT)
        return text

    def row(self, cells: Any, number: int) -> Row:
        """The text and the label of a row; both are empty strings where they are not read.

        Raises:
            RowError: there is no text or no label.
        """
        if self.label is None and self.label_name is None and not self.indicators:
            kept = {name: self.get(cells, key) for name, key in self.others.items()} if self.others else None
            return Row(self.text(cells), "", "", number, kept)
        labels, is_list = self._labels(cells)
        names, are_names = ((), False) if self.label_name is None else labels_in(self.get(cells, self.label_name))
        if are_names and len(names) >= len(labels):
            labels, is_list, names = names, True, ()
        label, name = next(iter(labels), ""), next(iter(names), "")
        if is_list or (label and name and not NUMBERS.fullmatch(label)):
            name = ""
        try:
            text = self.text(cells)
        except RowError as error:
            raise RowError(NO_TEXT if label or name else "there is no text and no label") from error
        if not (label or name or is_list or self.allows_no_label):
            raise RowError(NO_LABEL)
        several = labels if is_list or not (label or name) else None
        return Row(text, label or name, name, number, labels=several, columns=self._columns)

    def _labels(self, cells: Any) -> tuple[tuple[str, ...], bool]:
        """The labels of a row as in :func:`labels_in`."""
        if self.indicators:
            found = {name: _is_one(name, self.get(cells, key)) for name, key in self.indicators.items()}
            if None in found.values() and not any(found.values()):  # an empty cell beside a 1 is a 0
                raise RowError("an empty cell in the column of a label, and no 1 in the others")
            return tuple(name for name, is_one in found.items() if is_one), True
        return ((), False) if self.label is None else labels_in(self.get(cells, self.label))


def select(names: Sequence[Any], columns: Columns, where: object, get: Callable[[Any, Any], Any]) -> Selection:
    """Choose the columns to read among ``names``; the keys are the names.

    Raises:
        UserError: a column is missing, or two columns have the name of one that is read.
    """
    keys = _normalised(names)
    texts, text_note = _text_columns(columns, keys, names, where)
    label = name = None
    notes = [text_note]
    indicators = _indicator_columns(columns, keys, names, where) if columns.is_labelled else {}
    if indicators:
        unnamed = " (named so: there is no header)" if all(map(NUMBER.fullmatch, indicators)) else ""
        notes.append(f"a label in each of the columns {listed(list(indicators), 10)}{unnamed}")
    elif columns.is_labelled:
        label, name, label_note = _label_columns(columns, keys, names, where)
        notes.append(label_note)
    others = {str(other): other for other in names if other not in texts} if columns.keeps_cells else {}
    return Selection(texts, label, name, get, ", ".join(notes), others, columns.is_multi_label, indicators)


def positions(selection: Selection, names: Sequence[str]) -> Selection:
    """The same selection with indices instead of names as keys."""

    def index(key: Any) -> Any:
        return None if key is None else list(names).index(key)

    texts = tuple(index(key) for key in selection.texts)
    others = {name: index(key) for name, key in selection.others.items()}
    return replace(
        selection,
        texts=texts,
        label=index(selection.label),
        label_name=index(selection.label_name),
        get=list.__getitem__,
        others=others,
        indicators={name: index(key) for name, key in selection.indicators.items()},
    )


def known_columns(names: Sequence[Any], columns: Columns) -> int:
    """How many of the columns that are needed (text, label) have a name among ``names``."""
    keys = _normalised(names)
    wanted = [_named(columns.text) or TEXT_COLUMNS]
    if columns.is_labelled:
        wanted.append(_named(columns.label) or (*LABEL_COLUMNS, *LABEL_NAME_COLUMNS))
    return sum(any(name in keys for name in group) for group in wanted)


def _named(value: str) -> tuple[str, ...]:
    """The normalised names that a flag may mean: its whole value, and its parts between commas."""
    return tuple(map(normalised, (value, *value.split(",")))) if value else ()


def normalised(name: Any) -> str:
    """A column's name without case, surrounding spaces, and invisible characters."""
    return unicodedata.normalize("NFKC", without_zero_width(str(name))).strip().casefold()


def _normalised(names: Sequence[Any]) -> Mapping[str, list[Any]]:
    keys: dict[str, list[Any]] = {}
    for name in names:
        keys.setdefault(normalised(name), []).append(name)
    return keys


def _text_columns(
    columns: Columns, keys: Mapping[str, list[Any]], names: Sequence[Any], where: object
) -> tuple[tuple[Any, ...], str]:
    if columns.text:
        wanted = [columns.text] if normalised(columns.text) in keys else columns.text.split(",")
        found = tuple(_column(name, keys, names, "text", where) for name in wanted)
        return found, f"text in column {' and '.join(map(str, found))}"
    present = [name for name in TEXT_COLUMNS if name in keys]
    if not present:
        raise _no_column("text", TEXT_COLUMNS, names, where)
    first = _column(present[0], keys, names, "text", where)
    others = [str(keys[name][0]) for name in (*present[1:], *SECOND_TEXTS) if name in keys]
    note = f"text in column {first}"
    if others:
        note += f" (and not in {', '.join(others)}: --text_column {','.join([str(first), *others])} joins them)"
    return (first,), note


def _indicator_columns(
    columns: Columns, keys: Mapping[str, list[Any]], names: Sequence[Any], where: object
) -> dict[str, Any]:
    """The columns that are a label each, by their labels; none unless several columns are asked for."""
    if "," not in columns.label or normalised(columns.label) in keys:
        return {}
    found = [_column(name, keys, names, "label", where) for name in columns.label.split(",") if name.strip()]
    return {label_text(column): column for column in found}


def _label_columns(
    columns: Columns, keys: Mapping[str, list[Any]], names: Sequence[Any], where: object
) -> tuple[Any, Any, str]:
    """The column of labels, the column of their names, and a note."""
    if columns.label:
        label = _column(columns.label, keys, names, "label", where)
        return label, None, f"label in column {label}"
    name = next((_column(name, keys, names, "label", where) for name in LABEL_NAME_COLUMNS if name in keys), None)
    present: Sequence[str] = [name for name in LABEL_COLUMNS if name in keys]
    if not present:
        if name is None:
            raise _no_column("label", LABEL_COLUMNS, names, where)
        return None, name, f"label in column {name}"
    label, others = _column(present[0], keys, names, "label", where), [str(keys[other][0]) for other in present[1:]]
    note = f"label in column {label}" + (f", its name in {name}" if name is not None else "")
    if others:
        note += f" (and not in {', '.join(others)}: --label_column {others[0]} chooses another)"
    return label, name, note


def _column(name: str, keys: Mapping[str, list[Any]], names: Sequence[Any], what: str, where: object) -> Any:
    """The column of this name as the file spells it, or the column of this number."""
    key = normalised(name)
    if key not in keys and key.isdecimal() and 1 <= int(key) <= len(names):
        return names[int(key) - 1]
    if key not in keys:
        raise UserError(f"no column {name}", where, f"--{what}_column NAME", f"there are: {_listed(names)}")
    if len(keys[key]) > 1:
        raise UserError(f"{len(keys[key])} columns of one name: {name}", where, "rename one of them")
    return keys[key][0]


def _no_column(what: str, usual: Sequence[str], names: Sequence[Any], where: object) -> UserError:
    return UserError(
        f"no {what} column ({', '.join(usual[:12])}, …)",
        where,
        f"--{what}_column NAME, or its number (1, 2, …) if the file has no header",
        f"there are: {_listed(names)}",
    )


def _listed(names: Sequence[Any], limit: int = 20) -> str:
    shown = [f"{name!s:.30}" for name in names[:limit]]
    return ", ".join([*shown, "…"] if len(names) > limit else shown)


def cell_text(value: Any) -> str:
    """A cell as text; empty: there is none.

    None and NaN are empty, and 3.0 (how tables with gaps store integers) is 3. Bytes are decoded. Half a surrogate pair
    (a truncated emoji, which JSON can express) becomes the replacement character. A list or an object is not text, and
    invisible characters alone are none.

    Raises:
        RowError: bytes are neither UTF-8 nor GB18030.
    """
    if not isinstance(value, str):
        value = _as_string(value)
    text = value.strip()
    if not text.isprintable():
        text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        if not visible(text):
            return ""
    return str(text)


def visible(text: str) -> str:
    """A text without invisible characters: those of no width, and control characters other than white space."""
    return "".join(
        char for char in without_zero_width(text) if char.isspace() or unicodedata.category(char) != "Cc"
    ).strip()


def _as_string(value: Any) -> str:
    if value is None or isinstance(value, list | dict) or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, bytes):
        for encoding in ENCODINGS:
            try:
                return value.decode(encoding)
            except UnicodeDecodeError:
                continue
        raise RowError("bytes that are neither UTF-8 nor GB18030")
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return str(value)


def label_text(value: Any) -> str:
    """A label's name or number: 1, 1.0, "1" and "1.0" are one label, and a list may hold one label.

    Raises:
        RowError: there are several labels.
    """
    labels, _ = labels_in(value)
    if len(labels) > 1:
        raise RowError(several_labels(labels))
    return labels[0] if labels else ""


def labels_in(value: Any) -> tuple[tuple[str, ...], bool]:
    """The distinct labels in a cell, as in :func:`label_text`, and whether the cell holds a list.

    Annotation tools write lists: doccano ["体育"], Label Studio {"choices": ["体育"]}.
    """
    if isinstance(value, dict):
        value = value.get("choices", value.get("label"))
    if isinstance(value, list | tuple | set):
        labels = tuple(dict.fromkeys(label for item in value for label in labels_in(item)[0]))
        return labels, bool(labels) or not value  # a list of blanks is no label
    text = cell_text(value)
    if text[:1] in LISTS and len(text) <= MAX_LABEL:  # a list within a cell: Label Studio writes JSON, pandas Python
        for parse in (ast.literal_eval, json.loads):
            with contextlib.suppress(ValueError, SyntaxError, RecursionError, MemoryError):
                found = parse(ADJACENT.sub(r"\1, \1", text))
                if isinstance(found, list | tuple | set | dict):
                    return labels_in(found)
    whole = WHOLE.fullmatch(text)
    label = whole[1] if whole else without_zero_width(text)
    return ((label,) if label else ()), False


def _is_one(name: str, value: Any) -> bool | None:
    """Whether a text has the label ``name``, from the cell in its column; None: the cell is empty.

    Raises:
        RowError: the cell is none of ``INDICATORS``.
    """
    text = label_text(value)
    if not text:
        return None
    found = indicated(text)
    if found is None:
        raise RowError(f"{text[:20]!r} in the column of the label {name} {NEITHER}")
    return found


def indicated(text: str) -> bool | None:
    """What a cell in the column of a label says, in any case and width; None: nothing that is known."""
    return INDICATORS[text] if text in INDICATORS else INDICATORS.get(normalised(text))


def several_labels(labels: Sequence[str]) -> str:
    """The reason why a row of several labels cannot be used."""
    return f"{SEVERAL_LABELS} ({listed(labels, 10)}); write one label per text"
