"""Recorded answers: files in which a person, a language model or another program has labelled texts."""

from __future__ import annotations

import ast
import contextlib
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distill.data.examples import UNLABELLED, Example, example_id
from distill.data.formats.records import (
    LABEL_COLUMNS,
    LABEL_NAME_COLUMNS,
    NUMBERS,
    Columns,
    RowError,
    cell_text,
    label_text,
    labels_in,
    normalised,
    several_labels,
)
from distill.data.readers import PlacedRow, Reader
from distill.errors import UserError, listed
from distill.progress import log, remind

LABEL, PROBABILITIES, LOGITS = "label", "probabilities", "logits"
SCORE_COLUMNS = {LOGITS: ("logits", "logit"), PROBABILITIES: ("probabilities", "probs", "scores")}
CLASS_PREFIXES = {LOGITS: ("logit_", "logits_"), PROBABILITIES: ("probability_", "probabilities_", "prob_")}
ANSWER_COLUMNS = ("predicted", "prediction", "answer", *LABEL_COLUMNS, "答案", *LABEL_NAME_COLUMNS)
CONFIDENCE_COLUMNS = ("confidence", "置信度", "probability", "prob", "score")
NOT_CLASSES = ("", "id", "index", "idx", "编号", "序号")  # columns of numbers that are no class's probability
EXAMPLE = 'the columns text and label, or {"text": …, "probabilities": {"体育": 0.9, …}}'
REPAIR = f"repair or delete that row; answers are {EXAMPLE}"
Scores = Mapping[str, float] | Sequence[float]  # by label, or in the order of the data's labels


@dataclass(frozen=True)
class Answer:
    """One answer: a label with its confidence (NaN: none is given), or a score of every label.

    ``text_id`` is the id of the text's example; ``place`` is the file and line. If the cell holds a list, ``labels``
    are all of them, and ``label`` is the first one.
    """

    text_id: int
    place: str
    label: str = ""
    confidence: float = math.nan
    scores: Scores | None = None
    labels: tuple[str, ...] | None = None

    @property
    def is_empty(self) -> bool:
        """Whether it is an empty list: none of the labels, which is no answer where every text has one."""
        return self.labels == ()

    @property
    def single_label(self) -> str:
        """The label.

        Raises:
            UserError: there are several.
        """
        if len(self.labels or ()) > 1:
            raise UserError(several_labels(self.labels or ()), self.place, REPAIR)
        return self.label


@dataclass(frozen=True)
class AnswerFile:
    """The answers in a file, and what they are: ``LABEL``, ``PROBABILITIES`` or ``LOGITS``."""

    answers: tuple[Answer, ...]
    kind: str
    texts: tuple[str, ...]  # that have an answer, in the order of the answers


def read_answers(path: Path) -> AnswerFile:
    """Read a file with a column of texts, and labels (with a confidence, if there is one) or scores of all labels.

    An answer may be a list of labels. Scores are a cell with a list or an object by label, or a column per class, named
    LABEL or ``probability_LABEL``. A row without an answer is left out.

    Raises:
        UserError: the file is missing, damaged or empty, lacks such columns, or a cell is no answer.
    """
    reader = Reader(Columns(is_labelled=False, keeps_cells=True))
    rows = list(reader.stream(path))
    reader.check([path], len(rows))
    if reader.set_aside:
        remind(f"{path}: {len(reader.set_aside):,} rows cannot be used, the first: {reader.set_aside[0]}")
    if not rows:
        raise UserError("the file is empty", path, f"answers are {EXAMPLE}")
    layout, *others = _layouts(rows, path)
    pairs = []
    for placed in rows:
        if (answer := layout.answer(placed)) is not None:
            pairs.append((placed.row.text, answer))
        else:
            _refuse_other_answer(placed, layout, others)
    if not pairs:
        raise UserError(f"no row has an answer in the column {layout.named}", path, "fill in the labels")
    rest = f", {len(rows) - len(pairs):,} have none" if len(pairs) < len(rows) else ""
    log.info("%s: answers in the column %s; %s rows have one%s", path, layout.named, f"{len(pairs):,}", rest)
    return AnswerFile(tuple(answer for _, answer in pairs), layout.kind, tuple(text for text, _ in pairs))


def _refuse_other_answer(placed: PlacedRow, layout: _Layout, others: Iterable[_Layout]) -> None:
    """Refuse a row without an answer of the file's kind that has one of another kind."""
    for other in others:
        if (answer := other.answer(placed)) is not None and not answer.is_empty:
            what = f"its answer is in the column {other.named}, those of other rows are in {layout.named}"
            raise UserError(what, _place(placed), "write answers of each kind into a file of their own")


def texts_of(files: Iterable[AnswerFile]) -> list[Example]:
    """The texts of files of answers, each once, without labels."""
    pairs = (pair for file in files for pair in zip(file.answers, file.texts, strict=True))
    texts = {answer.text_id: text for answer, text in pairs if not answer.is_empty}
    return [Example.of(text, UNLABELLED) for text in texts.values()]


def read_label_names(path: Path) -> dict[str, str]:
    """The table of ``--teacher_labels``: the data's name by the teacher's; an empty name leaves the label out.

    Raises:
        UserError: the file has no columns theirs and ours, a label twice, or a row that cannot be read.
    """
    names: dict[str, str] = {}
    reader = Reader(Columns("theirs", is_labelled=False, keeps_cells=True))
    for row, _, _ in reader.stream(path):
        cells = {normalised(name): cell for name, cell in (row.cells or {}).items()}
        if "ours" not in cells:
            raise UserError("no column ours", path, "a table with the header theirs,ours")
        theirs, ours = label_text(row.text), label_text(cells["ours"])
        if names.setdefault(theirs, ours) != ours:
            what = f"{theirs} stands for {names[theirs]} and for {ours}"
            raise UserError(what, f"{path}:{row.number}", "delete one of the two lines")
    if reader.set_aside:
        first = reader.set_aside[0]
        raise UserError(first.reason, f"{path}, {first.unit} {first.number}", "repair or delete that row")
    return names


@dataclass(frozen=True)
class _Layout:
    """Which columns of a file hold the answers.

    Args:
        kind: of the answers.
        column: of labels, or of lists or objects of scores; None: a column per class.
        confidence: the column of the labels' confidence; None: there is none.
        name: the column of the names of labels that are numbers; None: there is none.
        classes: columns of scores by label, if there is one per class.
    """

    kind: str
    column: str | None = None
    confidence: str | None = None
    name: str | None = None
    classes: tuple[tuple[str, str], ...] = ()

    @property
    def named(self) -> str:
        """The columns in words."""
        return self.column or " and ".join(column for _, column in self.classes)

    def answer(self, placed: PlacedRow) -> Answer | None:
        """The answer in a row; None: it has none."""
        row, cells = placed.row, placed.row.cells or {}
        place = _place(placed)
        text_id = example_id(row.text)
        try:
            if self.kind == LABEL:
                labels, is_list = self._labels(cells)
                confidence = _confidence(cells.get(self.confidence)) if self.confidence else math.nan
                label = next(iter(labels), "")
                is_answer = bool(label) or is_list
                return (
                    Answer(text_id, place, label, confidence, None, labels if is_list else None) if is_answer else None
                )
            scores = self._scores(cells)
            return None if scores is None else Answer(text_id, place, scores=scores)
        except RowError as error:
            raise UserError(str(error), place, REPAIR) from error

    def _labels(self, cells: Mapping[str, Any]) -> tuple[tuple[str, ...], bool]:
        """The labels in a row, or their names if they are numbers and have some, as in labelled data.

        Also whether they are a list.
        """
        labels, is_list = labels_in(cells.get(self.column or ""))
        names, are_list = labels_in(cells.get(self.name or ""))
        return (names, are_list) if names and all(map(NUMBERS.fullmatch, labels)) else (labels, is_list)

    def _scores(self, cells: Mapping[str, Any]) -> Scores | None:
        if self.column is not None:
            return _parsed(cells.get(self.column))
        values = [cells.get(column) for _, column in self.classes]
        if not any(cell_text(value) for value in values):
            return None
        return {label: _number(value) for (label, _), value in zip(self.classes, values, strict=True)}


def _place(placed: PlacedRow) -> str:
    """The file and line of a row."""
    number = placed.row.number
    return f"{placed.file}:{number}" if placed.unit == "line" else f"{placed.file}, {placed.unit} {number}"


def _layouts(rows: Sequence[PlacedRow], path: Path) -> list[_Layout]:
    """The columns of every kind of answers that a file has; the first kind is the one that is read.

    Raises:
        UserError: there are none.
    """
    columns = list(dict.fromkeys(column for placed in rows for column in placed.row.cells or {}))
    by_name = {normalised(column): column for column in columns}
    layouts = []
    for kind, names in SCORE_COLUMNS.items():
        classes = [(column[len(prefix) :], column) for column in columns if (prefix := _prefix(column, kind))]
        if column := _first(names, by_name):
            layouts.append(_Layout(kind, column))
        elif len(classes) > 1:
            layouts.append(_Layout(kind, classes=tuple(classes)))
    if column := _first(ANSWER_COLUMNS, by_name):
        name = _first(LABEL_NAME_COLUMNS, by_name) if normalised(column) in LABEL_COLUMNS else None
        layouts.append(_Layout(LABEL, column, _first(CONFIDENCE_COLUMNS, by_name), name))
    if layouts:
        return layouts
    numbers = [
        column for column in columns if normalised(column) not in NOT_CLASSES and _are_numbers(column, rows[:100])
    ]
    if len(numbers) > 1:
        return [_Layout(PROBABILITIES, classes=tuple((label_text(column), column) for column in numbers))]
    found = f"besides the text there are: {listed(columns, 10) or 'no columns'}"
    raise UserError("this file has no answers: no column label, probabilities or logits", path, EXAMPLE, found)


def _first(names: Iterable[str], by_name: Mapping[str, str]) -> str | None:
    return next((by_name[name] for name in names if name in by_name), None)


def _prefix(column: str, kind: str) -> str:
    """The prefix of a class's column, "" if it has none."""
    return next((prefix for prefix in CLASS_PREFIXES[kind] if column.lower().startswith(prefix)), "")


def _are_numbers(column: str, rows: Sequence[PlacedRow]) -> bool:
    with contextlib.suppress(RowError):
        return all(math.isfinite(_number((placed.row.cells or {}).get(column))) for placed in rows)
    return False


def _confidence(cell: Any) -> float:
    """A confidence between 0 and 1; NaN for an empty cell."""
    if not cell_text(cell):
        return math.nan
    confidence = _number(cell)
    if not 0 <= confidence <= 1:
        raise RowError(f"the confidence is {confidence:g}, it must be between 0 and 1")
    return confidence


def _number(cell: Any) -> float:
    text = cell_text(cell)
    try:
        return float(cell if isinstance(cell, float) else text)
    except ValueError as error:
        raise RowError(f"a number is needed, this is {text or 'empty'!r:.40}") from error


def _parsed(cell: Any) -> Scores | None:
    """The scores in a cell: an object by label, a list, or transformers' list of {"label": …, "score": …}."""
    if isinstance(cell, str):
        if not cell_text(cell):
            return None
        cell = _literal(cell)
    if cell is None or (isinstance(cell, float) and math.isnan(cell)):
        return None
    if isinstance(cell, Mapping):
        if scores := {label_text(label): _number(value) for label, value in cell.items() if value is not None}:
            return scores
        raise RowError("the object has no scores")
    if isinstance(cell, list | tuple) and cell:
        if all(isinstance(item, Mapping) and {"label", "score"} <= item.keys() for item in cell):
            return {label_text(item["label"]): _number(item["score"]) for item in cell}
        return [_number(value) for value in cell]
    raise RowError(f"a list or an object of scores is needed, this is {cell!r:.40}")


def _literal(text: str) -> Any:
    """A list or an object that is written into a cell: as JSON, or as Python prints it."""
    for parse in (json.loads, ast.literal_eval):
        with contextlib.suppress(ValueError, SyntaxError, RecursionError, MemoryError):
            return parse(text)
    raise RowError(f"a list or an object of scores is needed, this is {text!r:.40}")
