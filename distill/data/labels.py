"""Classes in a fixed order, and the class number of a label as files write it: a number, a code or a name.

A text has one label, or in multi-label data any number of them: a list, or names in one cell that are separated as in
``体育|热门``. A label may be a path, as in ``财经##股票``.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from distill.data.examples import Label
from distill.data.files import CLASSES_OF_TASK
from distill.data.formats.records import (
    LABEL_NAME_COLUMNS,
    NO_LABEL,
    NUMBER,
    WHOLE,
    Row,
    RowError,
    label_text,
    several_labels,
)
from distill.data.hierarchy import AUTO, NONE, SEPARATOR, Hierarchy, find_hierarchy
from distill.errors import UserError
from distill.storage.encodings import read_text

CLASS_FILES = ("class.txt", "labels.txt")
CODE_FILES = ("labels.json", "labels.jsonl")
SHOWN = 20  # names of classes in a message
MAX_SEVERAL, MAX_SEVERAL_SHARE = 10, 0.01  # rows with several labels, and their share, that may be mistakes
# Between the labels in a cell, with the patterns that find them, also in full width.
SEPARATORS = {"|": "[|\uff5c]", ",": "[,\uff0c]", ";": "[;\uff1b]", "\u3001": "\u3001", "\n": "\n", "##": "##"}


@dataclass(frozen=True)
class Cells:
    """How a cell with several labels is split.

    Args:
        separator: between labels, one of ``SEPARATORS``; empty: a cell holds one label.
        path: what separates the levels of names that are paths; empty: they are not.
        alone: the cells and the class names, in which a short path may occur by itself.
    """

    separator: str = ""
    path: str = ""
    alone: frozenset[str] = frozenset()

    def split(self, cell: str) -> list[str]:
        """The labels in a cell. Where labels are paths, each of several is one: 财经、金融##股票 is a single label."""
        if not self.separator:
            return [cell]
        is_list = cell[0] == "[" and cell[-1] == "]" and "[" not in cell[1:]  # whose labels are not quoted
        parts = (part.strip() for part in re.split(SEPARATORS[self.separator], cell[1:-1] if is_list else cell))
        labels = list(dict.fromkeys(number[1] if (number := WHOLE.fullmatch(part)) else part for part in parts if part))
        short = [label for label in labels if self.path not in label] if self.path else []
        is_one_path = 0 < len(short) < len(labels) and not self.alone.issuperset(short)
        return [cell] if is_one_path else labels


@dataclass(frozen=True)
class Labels:
    """The classes in order, and the class number of every form of a label: a name, CLUE's "102", a number "3".

    With ``is_multi_label``, a text may have any number of labels.
    """

    names: tuple[str, ...]
    class_by_label: dict[str, int]
    file: str = ""  # that names the classes; empty: there is none
    is_multi_label: bool = False
    cells: Cells = Cells()

    @property
    def hierarchy(self) -> Hierarchy | None:
        """The levels above the classes; None if their names are no paths."""
        return find_hierarchy(self.names, self.cells.path)

    def of(self, row: Row) -> Label | None:
        """The class of a row, or its classes; None if it cannot be used."""
        if not self.is_multi_label:
            is_single = row.labels is None or len(row.labels) == 1
            return self.class_by_label.get(row.label_name, self.class_by_label.get(row.label)) if is_single else None
        labels = self.labels_of(row)
        known = [self.class_by_label[label] for label in labels if label in self.class_by_label]
        is_usable = len(known) == len(labels) and bool(labels or row.labels is not None)
        return frozenset(known) if is_usable else None

    def labels_of(self, row: Row) -> list[str]:
        """The labels of a row: those of its list, or the parts of its cell; a class is not split."""
        if row.labels is not None:
            return list(row.labels)
        label = row.label_name or row.label
        if label in self.class_by_label:
            return [label]
        labels = self.cells.split(label)
        if self.class_by_label.keys() >= set(labels) or not self.class_by_label:
            return labels
        others = (dataclasses.replace(self.cells, separator=separator).split(label) for separator in SEPARATORS)
        return next((found for found in others if found and self.class_by_label.keys() >= set(found)), labels)

    def why_not(self, row: Row) -> str:
        """Why a row cannot be used."""
        labels = self.labels_of(row)
        unknown = [label for label in labels if label not in self.class_by_label]
        if not labels:
            return NO_LABEL
        if len(labels) > 1 and not self.is_multi_label:
            return several_labels(labels)
        known = ", ".join(self.names[:SHOWN])
        label = (unknown if self.is_multi_label else [row.label_name or row.label])[0]
        return f"unknown label {label!r}; the labels of train are {known}{', …' * (len(self.names) > SHOWN)}"


def find_labels(
    folders: Sequence[Path],
    rows: Sequence[Row],
    hierarchy: str = AUTO,
    *,
    is_multi_label: bool | None = False,
    task: str = "",
) -> Labels:
    """Classes from class.txt, labels.txt or CLUE's labels.json in one of the folders; otherwise from the train rows.

    Args:
        folders: where the file may be.
        rows: of train.
        hierarchy: what separates the levels of labels that are paths, "auto" or "none".
        is_multi_label: whether a text may have several labels; None: if it is so in more than
            ``MAX_SEVERAL`` rows and ``MAX_SEVERAL_SHARE`` of them, which are too many for mistakes.
        task: of several in the same files; the file is ``class.TASK.txt`` then.

    Raises:
        UserError: the file of classes is damaged.
    """
    listed = _from_file(folders, rows, task)
    path = _path_separator(listed.names if listed else _names_in(rows), hierarchy)
    cells = _cells_of(rows, listed.class_by_label if listed else None, path, is_certain=bool(is_multi_label))
    labels = dataclasses.replace(listed, cells=cells) if listed else _from_rows(rows, cells)
    if is_multi_label is None:
        several = sum(len(labels.labels_of(row)) > 1 for row in rows)
        is_multi_label = several > max(MAX_SEVERAL, MAX_SEVERAL_SHARE * len(rows))
    if is_multi_label:
        whole = labels if listed else dataclasses.replace(labels, class_by_label={})
        parts = [part for row in rows for part in _single_rows(row, whole)]
        parts += [Row(name, name, "", 0) for name in dict.fromkeys(name for row in rows for name in row.columns)]
        if not listed and not path:
            cells = dataclasses.replace(cells, path=_path_separator(_names_in(parts), hierarchy))
        labels = _from_file(folders, parts, task) or _from_rows(parts, cells, are_whole=True)
        labels = dataclasses.replace(labels, cells=cells, is_multi_label=True)
    return labels


def check_levels(hierarchy: str, found: Iterable[Hierarchy | None]) -> None:
    """Check that the labels of at least one task have levels if the user says what separates these.

    Raises:
        UserError: none has.
    """
    if hierarchy not in (AUTO, NONE) and not any(found):
        what = f"separated at {hierarchy!r}, the labels have no level with fewer classes than labels and more than one"
        raise UserError(what, f"--hierarchy {hierarchy}", "--hierarchy none, or what separates the names on a path")


def _from_file(folders: Sequence[Path], rows: Sequence[Row], task: str) -> Labels | None:
    """The classes that a file in one of the folders lists, for rows with one label each; None: there is no file."""
    names = (f"{CLASSES_OF_TASK}{task}.txt",) if task else (*CLASS_FILES, *CODE_FILES)
    for path in (folder / name for folder in folders for name in names):
        if path.is_file():
            labels = _from_code_file(path) if path.name in CODE_FILES else _from_class_file(path, rows)
            return dataclasses.replace(labels, file=path.name)
    return None


def _names_in(rows: Sequence[Row]) -> set[str]:
    """The labels of the rows as their cells write them."""
    return {row.label_name or row.label for row in rows} | {label for row in rows for label in row.labels or ()}


def _single_rows(row: Row, labels: Labels) -> Iterator[Row]:
    """A row for every label of a row, with its name if both cells hold equally many."""
    found = labels.labels_of(row)
    numbers = labels.cells.split(row.label) if row.label_name else found
    for number, name in zip(numbers if len(numbers) == len(found) else found, found, strict=True):
        yield Row(name, number, name if row.label_name else "", row.number)


def _cells_of(rows: Sequence[Row], names: Collection[str] | None, path: str, *, is_certain: bool) -> Cells:
    """How the cells of train are split: at the separator that leaves the fewest labels.

    Without a class file, whose ``names`` must be the labels then, there must be fewer labels than cells, or as many of
    which half occur alone: names like 美食、餐饮 have parts that are no labels. Labels that are all paths may be more.
    None of this is needed if it ``is_certain`` that cells have several labels.
    """
    cells = {row.label_name or row.label for row in rows if row.labels is None and row.label}
    alone = frozenset(cells) | frozenset(names or ())
    found: dict[str, tuple[bool, int]] = {}
    for separator in (mark for mark in SEPARATORS if mark not in path):
        split = Cells(separator, path, alone)
        parts = [[cell] if cell in (names or ()) else split.split(cell) for cell in cells]
        labels = {label for of_cell in parts for label in of_cell}
        joined = {label for of_cell in parts if len(of_cell) > 1 for label in of_cell}
        is_half_alone = 2 * sum(label in cells for label in joined) >= len(joined)
        are_paths = bool(path) and all(path in label for label in joined)
        is_sensible = are_paths or len(labels) < len(cells) or (len(labels) == len(cells) and is_half_alone)
        if names is not None:
            is_sensible = labels <= set(names)
        if joined and (is_sensible or is_certain):
            found[separator] = not is_sensible, len(labels)
    return Cells(min(found, key=found.__getitem__) if found else "", path, alone)


def _from_class_file(path: Path, rows: Sequence[Row]) -> Labels:
    """One name per line. Rows contain names, or line numbers counted from 0.

    Names may be numbers themselves; what the rows contain then decides which of the two they are.
    """
    lines = read_text(path).strip().splitlines()
    try:
        names = tuple(map(label_text, lines))
    except RowError as error:
        raise UserError(f"a line is not one name: {error}", path, "write one name per line") from error
    if "" in names:
        what = "a blank line among the class names, which are counted by lines"
        raise UserError(what, f"{path}:{names.index('') + 1}", "delete it")
    if len(set(names)) < len(names) or not names:
        raise UserError("class names must exist and differ from one another", path, "write one name per line")
    by_name, by_number = _numbered(names), {str(number): number for number in range(len(names))}
    marks = "|".join(SEPARATORS.values())
    used = {row.label for row in rows if row.label in {*by_name, *by_number}}
    used |= {part.strip() for row in rows if row.label not in used for part in re.split(marks, row.label)}
    if not used & by_name.keys() & by_number.keys() or used <= by_name.keys():
        return Labels(names, {**by_number, **by_name})
    if used <= by_number.keys():
        return Labels(names, by_number)
    what = "class names are numbers, and rows use both the names and the line numbers"
    raise UserError(what, path, "use other names")


def _numbered(names: Sequence[str]) -> dict[str, int]:
    return {name: number for number, name in enumerate(names)}


def _from_code_file(path: Path) -> Labels:
    """CLUE: lines of {"label": "102", "label_desc": "news_entertainment"}; codes are not consecutive."""
    codes: dict[str, str] = {}
    for number, line in enumerate(read_text(path).splitlines(), 1):
        if not line.strip():
            continue
        try:
            entry = json.loads(line)
            name = next((entry[key] for key in LABEL_NAME_COLUMNS if key in entry), entry["label"])
            codes[label_text(entry["label"])] = label_text(name)
        except (ValueError, KeyError, AttributeError, TypeError, RecursionError, RowError) as error:
            raise UserError("this line has no label and label_desc", f"{path}:{number}", "repair it") from error
    if not codes:
        raise UserError("the file is empty", path, "delete it, or list label and label_desc")
    return _from_codes(tuple(dict.fromkeys(codes.values())), codes)


def _from_codes(names: tuple[str, ...], codes: dict[str, str]) -> Labels:
    by_name = _numbered(names)
    return Labels(names, {**{code: by_name[name] for code, name in codes.items()}, **by_name})


def _from_rows(rows: Sequence[Row], cells: Cells, *, are_whole: bool = False) -> Labels:
    """Classes from the labels of rows: numbers in numerical order, names in alphabetical order.

    Several labels in one cell are no class; with ``are_whole``, every cell holds one. A number that has several names
    stands for none of them.
    """
    rows = [row for row in rows if row.labels is None or len(row.labels) == 1]
    pairs = {(row.label, row.label_name) for row in rows if row.label_name}
    uses = Counter(label for label, _ in pairs)
    name_of = {label: name for label, name in pairs if uses[label] == 1}
    names = {row.label_name or name_of.get(row.label, row.label) for row in rows}
    names -= set() if are_whole else _combined(names, cells)
    numeric = all(NUMBER.fullmatch(name) for name in names)
    ordered = tuple(sorted(names, key=lambda name: (int(name) if numeric else 0, name)))
    labels = _from_codes(ordered, {label: name for label, name in name_of.items() if name in names})
    return dataclasses.replace(labels, cells=cells)


def _path_separator(names: Collection[str], hierarchy: str) -> str:
    """What separates the levels of names that are paths, of which a cell may hold several; empty: they are no paths."""
    separator = SEPARATOR if hierarchy == AUTO else hierarchy
    if not any(separator in name for name in names):
        return ""
    paths = dict.fromkeys(names)
    for mark in SEPARATORS:
        if mark not in separator:
            paths = dict.fromkeys(part for name in sorted(paths) for part in Cells(mark, separator).split(name))
    return separator if find_hierarchy(list(paths), hierarchy) else ""


def _combined(names: Collection[str], cells: Cells) -> set[str]:
    """The names that are several labels in one cell ("体育,热门"): a part of them occurs alone, or in another name."""
    parts_of = {name: cells.split(name) for name in names}
    uses = Counter(part for parts in parts_of.values() for part in set(parts))
    return {name for name, parts in parts_of.items() if len(parts) > 1 and any(uses[part] > 1 for part in parts)}
