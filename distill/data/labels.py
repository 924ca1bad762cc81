"""From what a file calls a label (a number, a code, a name) to the class's place in one fixed order."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from distill.data.formats.encodings import read_text
from distill.data.formats.records import Row
from distill.errors import UserError, join_faults

CLASS_FILES = ("class.txt", "labels.txt")
CODE_FILES = ("labels.json", "labels.jsonl")

NUMBER = re.compile(r"-?[0-9]+")


@dataclass(frozen=True)
class Labels:
    """The classes in order, and what files may write for them: a name, CLUE's "102", a place "3"."""

    names: tuple[str, ...]
    meaning: dict[str, int]

    def index(self, row: Row) -> int | None:
        """The class of a row, or None when the row's label is none of them."""
        return self.meaning.get(row.label_name, self.meaning.get(row.label))


def find_labels(folder: Path | None, rows: Sequence[Row]) -> Labels:
    """Classes from class.txt, labels.txt or CLUE's labels.json beside the data; else from the train rows."""
    for name in CLASS_FILES if folder else ():
        if folder and (folder / name).is_file():
            return _from_class_file(folder / name, rows)
    for name in CODE_FILES if folder else ():
        if folder and (folder / name).is_file():
            return _from_code_file(folder / name)
    return _from_rows(rows)


def _from_class_file(path: Path, rows: Sequence[Row]) -> Labels:
    """One name a line; rows give the names or the lines' numbers, counted from 0, which names that are numbers tell."""
    names = tuple(line.strip() for line in read_text(path).splitlines() if line.strip())
    if len(set(names)) < len(names) or not names:
        raise UserError("class names must be there and differ from one another", path, "one name a line")
    by_name, by_place = _numbered(names), {str(place): place for place in range(len(names))}
    written = {row.label for row in rows}
    if not written & by_name.keys() & by_place.keys() or written <= by_name.keys():
        return Labels(names, {**by_place, **by_name})
    if written <= by_place.keys():
        return Labels(names, by_place)
    raise UserError("class names are numbers, and rows use them and their places", path, "use other names")


def _numbered(names: Sequence[str]) -> dict[str, int]:
    return {name: place for place, name in enumerate(names)}


def _from_code_file(path: Path) -> Labels:
    """CLUE: lines of {"label": "102", "label_desc": "news_entertainment"}; the codes skip numbers."""
    codes: dict[str, str] = {}
    for number, line in enumerate(read_text(path).splitlines(), 1):
        if not line.strip():
            continue
        try:
            entry = json.loads(line)
            codes[str(entry["label"])] = str(entry.get("label_desc", entry["label"]))
        except (json.JSONDecodeError, KeyError, AttributeError, TypeError) as error:
            raise UserError("not a line of label and label_desc", f"{path}:{number}", "repair it") from error
    if not codes:
        raise UserError("the file is empty", path, "delete it, or list label and label_desc")
    return _from_codes(tuple(dict.fromkeys(codes.values())), codes)


def _from_codes(names: tuple[str, ...], codes: dict[str, str]) -> Labels:
    by_name = _numbered(names)
    return Labels(names, {**{code: by_name[name] for code, name in codes.items()}, **by_name})


def _from_rows(rows: Sequence[Row]) -> Labels:
    """Classes as the rows name them: numbers in their order, names in alphabetical order."""
    names_of = {row.label or row.label_name: row.label_name or row.label for row in rows}
    names = set(names_of.values())
    numeric = all(NUMBER.fullmatch(name) for name in names)
    return _from_codes(tuple(sorted(names, key=lambda name: (int(name) if numeric else 0, name))), names_of)


def label_indices(labels: Labels, rows: Sequence[Row], path: Path) -> list[int]:
    """The class of every row.

    Raises:
        UserError: rows with a label that is none of the classes; says which and where.
    """
    indices = [labels.index(row) for row in rows]
    faults = [
        f"{row.location} has unknown label {row.label_name or row.label!r}"
        for row, index in zip(rows, indices, strict=True)
        if index is None
    ]
    if faults:
        known = ", ".join(labels.names[:20])
        raise UserError(join_faults(faults), path, f"use one of the train labels ({known}), or delete these rows")
    return [index for index in indices if index is not None]
