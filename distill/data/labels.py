"""Classes in a fixed order, and the class number of a label as files write it: a number, a code or a name."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from distill.data.formats.encodings import read_text
from distill.data.formats.records import Row
from distill.errors import UserError, join_problems

CLASS_FILES = ("class.txt", "labels.txt")
CODE_FILES = ("labels.json", "labels.jsonl")

NUMBER = re.compile(r"-?[0-9]+")


@dataclass(frozen=True)
class Labels:
    """The classes in order, and the class number of every form of a label: a name, CLUE's "102", a number "3"."""

    names: tuple[str, ...]
    class_by_label: dict[str, int]

    def index(self, row: Row) -> int | None:
        """The class number of a row; None if its label is unknown."""
        return self.class_by_label.get(row.label_name, self.class_by_label.get(row.label))


def find_labels(folder: Path | None, rows: Sequence[Row]) -> Labels:
    """Classes from class.txt, labels.txt or CLUE's labels.json next to the data; otherwise from the train rows."""
    for name in CLASS_FILES if folder else ():
        if folder and (folder / name).is_file():
            return _from_class_file(folder / name, rows)
    for name in CODE_FILES if folder else ():
        if folder and (folder / name).is_file():
            return _from_code_file(folder / name)
    return _from_rows(rows)


def _from_class_file(path: Path, rows: Sequence[Row]) -> Labels:
    """One name per line. Rows contain names, or line numbers counted from 0.

    Names may be numbers themselves; what the rows contain then decides which of the two they are.
    """
    names = tuple(line.strip() for line in read_text(path).splitlines() if line.strip())
    if len(set(names)) < len(names) or not names:
        raise UserError("class names must exist and differ from one another", path, "write one name per line")
    by_name, by_number = _numbered(names), {str(number): number for number in range(len(names))}
    used = {row.label for row in rows}
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
            codes[str(entry["label"])] = str(entry.get("label_desc", entry["label"]))
        except (json.JSONDecodeError, KeyError, AttributeError, TypeError) as error:
            raise UserError("this line has no label and label_desc", f"{path}:{number}", "repair it") from error
    if not codes:
        raise UserError("the file is empty", path, "delete it, or list label and label_desc")
    return _from_codes(tuple(dict.fromkeys(codes.values())), codes)


def _from_codes(names: tuple[str, ...], codes: dict[str, str]) -> Labels:
    by_name = _numbered(names)
    return Labels(names, {**{code: by_name[name] for code, name in codes.items()}, **by_name})


def _from_rows(rows: Sequence[Row]) -> Labels:
    """Classes from the labels of rows: numbers in numerical order, names in alphabetical order."""
    names_of = {row.label or row.label_name: row.label_name or row.label for row in rows}
    names = set(names_of.values())
    numeric = all(NUMBER.fullmatch(name) for name in names)
    return _from_codes(tuple(sorted(names, key=lambda name: (int(name) if numeric else 0, name))), names_of)


def label_indices(labels: Labels, rows: Sequence[Row], path: Path) -> list[int]:
    """The class number of every row.

    Raises:
        UserError: rows have unknown labels; the message names them.
    """
    indices = [labels.index(row) for row in rows]
    problems = [
        f"{row.location} has unknown label {row.label_name or row.label!r}"
        for row, index in zip(rows, indices, strict=True)
        if index is None
    ]
    if problems:
        names = ", ".join(labels.names[:20])
        raise UserError(join_problems(problems), path, f"use one of the train labels ({names}), or delete these rows")
    return [index for index in indices if index is not None]
