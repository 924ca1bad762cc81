"""Rows of text and label from files of any format; rows that cannot be used are set aside and listed."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

from distill.data.files import texts_of_classes
from distill.data.formats import open_file, suffix_of
from distill.data.formats.labelling import BadRow
from distill.data.formats.records import NO_LABEL, SEVERAL_LABELS, Columns, Row, RowError, cell_text
from distill.errors import UserError
from distill.storage.encodings import MAX_LINE, read_text

MAX_SET_ASIDE, MAX_SET_ASIDE_SHARE = 10, 0.01  # rows of a data set file, and share of them, that may be unusable
REASONS_SHOWN = 3
SHOWN = 1000  # characters of a row that was set aside, and of the reason


class PlacedRow(NamedTuple):
    """A row, its file, and what its number counts there: "line", "row", "item" or "text"."""

    row: Row
    file: Path
    unit: str


@dataclass(frozen=True)
class SetAside:
    """A row that cannot be used: its place, the reason, and its beginning as it is in the file."""

    file: Path
    unit: str  # what ``number`` counts
    number: int
    reason: str
    raw: str

    def __str__(self) -> str:
        return f"{self.file.name}, {self.unit} {self.number}: {self.reason}"

    def to_json(self) -> str:
        """One line of set_aside.jsonl."""
        record = {"file": str(self.file), self.unit: self.number, "reason": self.reason, "raw": self.raw}
        return json.dumps(record, ensure_ascii=False) + "\n"


@dataclass
class Reader:
    """Reads files one after another, and collects what it sets aside and decides.

    Args:
        columns: that are read.
        is_strict: whether the first row that cannot be used is an error.
        skips_unlabelled: whether rows without a label are left out and counted as ``skipped``, instead of set aside.
    """

    columns: Columns
    is_strict: bool = False
    skips_unlabelled: bool = False
    skipped: int = 0
    set_aside: list[SetAside] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    _columns_by_suffix: dict[str, Columns] = field(default_factory=dict)  # without a header, the first file decides

    def read(self, paths: Sequence[Path]) -> list[PlacedRow]:
        """All usable rows of files that belong together.

        Raises:
            UserError: a file is missing, damaged, or lacks a column, or there are no rows.
        """
        skipped = self.skipped
        rows = [row for path in paths for row in self.stream(path)]
        if not rows and self.skipped > skipped:
            hint = "label some of them; or leave out a dev or test file, and a tenth of train is held out instead"
            raise UserError("no row has a label for this task", paths[0], hint)
        if not rows and not self.set_aside_of(paths):
            raise UserError("the file is empty", paths[0], "put at least one row with text and label into it")
        return rows

    def check(self, paths: Sequence[Path], usable: int, *, may_have_several: bool = False) -> None:
        """Check that few rows of ``paths`` were set aside; ``usable`` is the number of the others.

        With ``may_have_several``, rows with several labels do not count.

        Raises:
            UserError: more than ten rows and more than one in a hundred were, or all of them.
        """
        unusable = self.set_aside_of(paths)
        if may_have_several and usable:
            unusable = [row for row in unusable if not row.reason.startswith(SEVERAL_LABELS)]
        count = usable + len(unusable)
        is_too_much = len(unusable) > MAX_SET_ASIDE and len(unusable) > MAX_SET_ASIDE_SHARE * count
        if not is_too_much and (usable or not unusable):
            return
        shown = "; ".join(map(str, unusable[:REASONS_SHOWN]))
        dots = "; …" if len(unusable) > REASONS_SHOWN else ""
        what = f"{len(unusable):,} of {count:,} rows cannot be used ({shown}{dots})"
        hint = "repair or delete these rows, or choose the columns: --text_column, --label_column"
        if any(row.reason == NO_LABEL or row.reason.startswith(SEVERAL_LABELS) for row in unusable):
            hint += "; if a text may have several labels or none: --multi_label"
        raise UserError(what, paths[0], hint)

    def set_aside_of(self, paths: Sequence[Path]) -> list[SetAside]:
        """What was set aside of some files, or of files in some folders."""
        return [row for row in self.set_aside if not {row.file, *row.file.parents}.isdisjoint(paths)]

    def stream(self, path: Path) -> Iterator[PlacedRow]:
        """The usable rows of a file one by one.

        Raises:
            UserError: the file is missing, damaged, or lacks a column; a row cannot be used and ``is_strict``.
        """
        if path.is_dir():
            yield from self._class_folders(path)
            return
        with open_file(path, self._columns_by_suffix.get(suffix_of(path), self.columns)) as file:
            self.notes.append(f"{path.name}: {file.note}")
            is_multi_label = self.columns.is_multi_label
            if file.columns != Columns() and self.columns == Columns(is_multi_label=is_multi_label):
                found = replace(file.columns, is_multi_label=is_multi_label)
                self._columns_by_suffix.setdefault(suffix_of(path), found)
            for row in file.rows():
                if isinstance(row, Row):
                    yield PlacedRow(row, path, file.row_unit)
                else:
                    self.put_aside(path, file.row_unit, row)

    def put_aside(self, path: Path, unit: str, row: BadRow) -> None:
        """Note a row that cannot be used.

        Raises:
            UserError: ``is_strict``.
        """
        if self.skips_unlabelled and row.why == NO_LABEL:
            self.skipped += 1
            return
        if self.is_strict:
            raise UserError(row.why, f"{path}:{row.line}", "repair or delete that row, or leave out --strict")
        self.set_aside.append(SetAside(path, unit, row.line, row.why[:SHOWN], row.raw[:SHOWN]))

    def _class_folders(self, folder: Path) -> Iterator[PlacedRow]:
        """The texts of a folder that holds one folder per class, with one text per file (THUCNews)."""
        self.notes.append(f"{folder.name}/: one folder per class, one text per file")
        for number, path in enumerate(texts_of_classes(folder), 1):
            try:
                label = cell_text(os.fsencode(path.parent.name))  # in GBK if the zip file was made on Windows
                text = cell_text(read_text(path, MAX_LINE))
            except (RowError, UserError) as error:
                why = error.what if isinstance(error, UserError) else f"the name of its folder: {error}"
                self.put_aside(path, "text", BadRow(number, why, ""))
                continue
            if text:
                yield PlacedRow(Row(text, label, "", number), path, "text")
            else:
                self.put_aside(path, "text", BadRow(number, "the file is empty", ""))
