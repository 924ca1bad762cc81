"""An open file of any format: its rows for training, or chunks of rows that ``--mode predict`` writes with labels."""

from __future__ import annotations

import functools
import json
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from distill.data.formats.records import Columns, Row
from distill.errors import UserError
from distill.runtime.cascade import Cascade
from distill.runtime.label_sets import SEPARATOR, certainty, distinct, names_of, set_probability
from distill.runtime.tasks import (
    ByTask,
    ByTeacher,
    Task,
    check_rejection_of,
    check_top_k_of,
    of_each_task,
    outputs_of,
    rejected_labels,
    tasks_in,
)
from distill.runtime.unsure import Classifier, classes_of, thresholds_of

CHUNK_ROWS = 2048  # maximum: enough for the kernels, few enough for the memory
CHUNK_BYTES = 2**20  # approximate maximum
PREDICTED, PROBABILITY, PROBABILITIES = "predicted", "probability", "probabilities"
SET_PROBABILITY = "set_probability"
ANSWERED_BY, STUDENT_OR_TEACHER = "answered_by", ("student", "teacher")
TOP, TOP_K, LABEL = "top", "top_k", "label"  # prefix of a table's columns; keys in JSON


class Position(NamedTuple):
    """How much of an input has been read: bytes and lines. For Parquet both count rows."""

    offset: int
    line: int


class BadRow(NamedTuple):
    """A row that cannot be used. ``line`` is its number in the unit of the file (lines, rows or items)."""

    line: int
    why: str
    raw: str


@dataclass(frozen=True)
class Chunk:
    """Some rows in the form of their format, their texts, the bad rows among them, and the position after them."""

    rows: Any
    texts: Sequence[str]
    bad: list[BadRow]
    end: Position


@dataclass(frozen=True)
class Predictions:
    """Predicted classes (texts,), their probabilities (texts,), and all probabilities (texts, classes).

    ``rejected_class`` is the class of the texts that are rejected. ``by_teacher`` (texts,) is there in a cascade.

    If a text may have any number of labels, ``classes`` are indices of ``label_sets``, which are those that occur, and
    ``probability`` is that of the least certain decision: the smallest probability of a label that is given, or of the
    absence of one that is not. ``set_probability`` (texts,), which texts are rejected by, is that all labels are right.

    Of several tasks, these are the predictions of the first, and ``further`` those of the others.
    """

    classes: NDArray[np.int64]
    probability: NDArray[np.float32]
    probabilities: NDArray[np.float32]
    by_teacher: NDArray[np.bool_] | None = None
    label_sets: Sequence[list[str]] | None = None
    set_probability: NDArray[np.float32] | None = None
    rejected_class: int = -1
    further: tuple[Predictions, ...] = ()

    @classmethod
    def of(
        cls,
        probabilities: NDArray[np.float32],
        reject_below: float = 0.0,
        by_teacher: NDArray[np.bool_] | None = None,
    ) -> Self:
        """From the probabilities of all classes; texts whose highest one is below ``reject_below`` are rejected."""
        classes = classes_of(probabilities, reject_below) if reject_below else probabilities.argmax(axis=1)
        rejected_class = probabilities.shape[1]
        return cls(classes, probabilities.max(axis=1), probabilities, by_teacher, rejected_class=rejected_class)

    @classmethod
    def of_label_sets(
        cls, probabilities: NDArray[np.float32], spec: OutputSpec, by_teacher: NDArray[np.bool_] | None = None
    ) -> Self:
        """From the probabilities of all classes; a text gets every label whose probability exceeds its threshold."""
        has_class = spec.decision.has_labels(probabilities, by_teacher)
        sets, classes = distinct(has_class)
        names = names_of(sets, spec.labels)
        together, rejected_class = None, -1
        if spec.has_set_probability:
            together, rejected_class = set_probability(probabilities, has_class), len(names)
            names.append(rejected_labels(spec.reject_label))
            classes[together < spec.own_reject_below] = rejected_class
        least = certainty(probabilities, has_class)
        return cls(classes, least, probabilities, by_teacher, names, together, rejected_class)

    @property
    def is_rejected(self) -> NDArray[np.bool_]:
        """Which texts were rejected (texts,)."""
        return np.asarray(self.classes == self.rejected_class)

    @property
    def by_task(self) -> tuple[Predictions, ...]:
        """Those of each task; without tasks, these."""
        return (self, *self.further)

    @property
    def is_rejected_somewhere(self) -> NDArray[np.bool_]:
        """Which texts were rejected in one task or several (texts,)."""
        return np.asarray(np.any([task.is_rejected for task in self.by_task], axis=0))

    @property
    def rejected(self) -> int:
        """How many texts were rejected, in one task or several."""
        return int(self.is_rejected_somewhere.sum())

    @property
    def from_teacher(self) -> int:
        """How many texts a teacher answered, in one task or several."""
        answered = [task.by_teacher for task in self.by_task if task.by_teacher is not None]
        return int(np.any(answered, axis=0).sum()) if answered else 0


@dataclass(frozen=True)
class OutputSpec:
    """What is added to each row: one of ``labels`` and its probability, or all ``probabilities``.

    With ``thresholds``, the model gives a text any number of labels: those whose probability exceeds their threshold.
    ``text_column`` names the input's columns of texts; empty: the first of the usual names. With ``escape_formulas``,
    no cell of a table for spreadsheets is a formula. The ``top_k`` most probable labels are added; texts whose
    probability is below ``reject_below`` get ``reject_label``; ``has_cascade`` adds who answered, by
    ``teacher_thresholds`` if it was the teacher. Where a text may have any number of labels, both add the probability
    of the set.

    A model of several ``tasks`` adds all this for each task, by a specification of its own, whose ``task`` is the name
    of the task; the names of what it adds begin with it.

    Raises:
        UserError: ``top_k`` or ``reject_below`` is out of range, ``reject_label`` is one of ``labels``, or two new
            columns of different tasks have the same name.
    """

    labels: tuple[str, ...]
    probabilities: bool
    text_column: str = ""
    escape_formulas: bool = True
    top_k: int = 0
    reject_below: ByTask = 0.0
    reject_label: str = ""
    has_cascade: bool = False
    thresholds: tuple[float, ...] = ()
    tasks: tuple[Task, ...] = ()
    task: str = ""
    teacher_thresholds: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        tasks = self.tasks or (self.decision,)
        if self.top_k:
            check_top_k_of(tasks, self.top_k)
        if self.reject_below:
            check_rejection_of(tasks, self.reject_below, self.reject_label)
        if self.tasks and (twice := [name for name, count in Counter(self.columns).items() if count > 1]):
            what = f"the output would have two columns {twice[0]}, one for each of two tasks"
            raise UserError(what, "the tasks of this student", "train it with other names of tasks")

    @classmethod
    def of(cls, classifier: Classifier, **added: Any) -> Self:
        """What is added to each row by a student, or by its cascade with its teacher; ``added`` as above."""
        return cls(
            classifier.labels,
            thresholds=thresholds_of(classifier),
            tasks=tasks_in(classifier),
            teacher_thresholds=getattr(classifier, "teacher_thresholds", ()),
            **added,
        )

    @functools.cached_property
    def by_task(self) -> tuple[OutputSpec, ...]:
        """What is added for each task; without tasks, this."""
        limits = of_each_task(self.reject_below, self.tasks, "reject_below")
        return tuple(map(self._of_task, self.tasks, limits)) or (self,)

    def _of_task(self, task: Task, reject_below: float) -> OutputSpec:
        return replace(
            self,
            labels=task.labels,
            top_k=min(self.top_k, len(task.labels)),
            reject_below=reject_below,
            thresholds=task.thresholds,
            tasks=(),
            task=task.name,
            teacher_thresholds=task.teacher_thresholds,
        )

    @functools.cached_property
    def decision(self) -> Task:
        """How the probabilities of the labels are decided on; of one task."""
        return Task(self.task, self.labels, self.thresholds, teacher_thresholds=self.teacher_thresholds)

    @property
    def own_reject_below(self) -> float:
        """``reject_below`` of one task."""
        (below,) = of_each_task(self.reject_below, (self.decision,), "reject_below")
        return below

    @property
    def has_set_probability(self) -> bool:
        """Whether the probability of every label set is added, which rejection and cascade compare; of one task."""
        return bool(self.thresholds) and bool(self.reject_below or self.has_cascade)

    def name(self, what: str) -> str:
        """The name of a new column or key: of one of several tasks, after the task's name."""
        return f"{self.task}_{what}" if self.task else what

    @property
    def input_columns(self) -> Columns:
        """The columns that are read."""
        return Columns(self.text_column, is_labelled=False)

    @property
    def predicted(self) -> tuple[str, ...]:
        """What may be written as the predicted label: the labels, and at last that of rejected texts."""
        return (*self.labels, self.reject_label) if self.reject_below else self.labels

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of a table's new columns."""
        if self.tasks:
            return tuple(name for spec in self.by_task for name in spec.columns)
        top = [f"{TOP}_{rank}{what}" for rank in range(1, self.top_k + 1) for what in ("", f"_{PROBABILITY}")]
        per_label = [f"{PROBABILITY}_{label}" for label in self.labels] if self.probabilities else []
        of_set = [SET_PROBABILITY] if self.has_set_probability else []
        cascade = [ANSWERED_BY] if self.has_cascade else []
        return tuple(map(self.name, (PREDICTED, PROBABILITY, *of_set, *cascade, *top, *per_label)))

    @property
    def text_columns(self) -> set[str]:
        """Those of the new columns that are not probabilities."""
        names = (PREDICTED, ANSWERED_BY, *(f"{TOP}_{rank}" for rank in range(1, self.top_k + 1)))
        return {spec.name(name) for spec in self.by_task for name in names}

    def predictions(self, classifier: Classifier, texts: Sequence[str]) -> Predictions:
        """What a student, or a cascade with its teacher, predicts for the texts."""
        if isinstance(classifier, Cascade):
            return self.decided(*classifier.flat_answer(texts))
        return self.decided(outputs_of(classifier)(texts))

    def decided(self, probabilities: NDArray[np.float32], by_teacher: ByTeacher | None = None) -> Predictions:
        """The predictions that follow from the probabilities of all outputs (texts, outputs).

        ``by_teacher`` (texts, tasks) is there in a cascade.
        """
        answered = [None] * len(self.by_task) if by_teacher is None else by_teacher.T
        if not self.tasks:
            return self._decided(probabilities, answered[0])
        of_tasks = zip(self.by_task, self.tasks, answered, strict=True)
        first, *further = (spec._decided(probabilities[:, task.columns], own) for spec, task, own in of_tasks)
        return replace(first, further=tuple(further))

    def _decided(self, probabilities: NDArray[np.float32], by_teacher: NDArray[np.bool_] | None) -> Predictions:
        """Those of one task."""
        if self.thresholds:
            return Predictions.of_label_sets(probabilities, self, by_teacher)
        return Predictions.of(probabilities, self.own_reject_below, by_teacher)

    @property
    def has_json_cells(self) -> bool:
        """Whether the labels of a text are a JSON list in a cell, since one contains the usual separator."""
        return bool(self.thresholds) and any(SEPARATOR in label for label in self.predicted)

    def joined(self, labels: Sequence[str]) -> str:
        """The labels of a text in one string, for a cell of a table."""
        return json.dumps(labels, ensure_ascii=False) if self.has_json_cells else SEPARATOR.join(labels)

    @property
    def record(self) -> dict[str, object]:
        """The settings that the output depends on; those that are off are absent, so that older parts stay usable."""
        return {
            "text_column": self.text_column,
            "probabilities": self.probabilities,
            "escape_formulas": self.escape_formulas,
            **({"top_k": self.top_k} if self.top_k else {}),
            **({"reject_below": self.reject_below, "reject_label": self.reject_label} if self.reject_below else {}),
            **({SET_PROBABILITY: True} if any(task.has_set_probability for task in self.by_task) else {}),
        }

    def check_names(self, names: Collection[str], where: object) -> None:
        """Refuse a table that already has a column with the name of a new one.

        Raises:
            UserError: a new column's name is already taken.
        """
        both = [name for name in self.columns if name in names]
        if both:
            what = f"there is already a column {', '.join(both)}, and the output needs this name"
            raise UserError(what, where, "rename or remove that column")


class RowFile(Protocol):
    """An open file: the rows in it, and how they are written with labels."""

    fingerprint: str  # of a stream's beginning; empty for files
    columns: Columns  # of further files of the same data set: numbers if there is no header, else empty
    note: str  # what was detected about the file, in words
    row_unit: str  # what row numbers count: "line", "row" or "item"
    size: int  # in the unit of Position.offset; 0: unknown
    unit: tuple[str, int]  # of the progress bar, and how much of Position.offset one unit is

    def rows(self) -> Iterator[Row | BadRow]:
        """All rows, for training; a row may lack its label only if no labels are read."""

    def chunks(self, start: Position | None) -> Iterator[Chunk]:
        """The rows from ``start`` on; None: from the first row."""

    def add_labels(self, chunk: Chunk, predictions: Predictions) -> Any:
        """The chunk's rows with their labels, in the form that ``writer`` takes; called from several threads."""

    def header(self) -> Iterable[Any]:
        """What precedes all rows, in the form that ``writer`` takes."""

    def writer(self, path: Path) -> AbstractContextManager[Callable[[Any], object]]:
        """Open an output; the function writes what ``add_labels``, ``header`` or ``pieces`` return."""

    def part_writer(self, path: Path) -> AbstractContextManager[Callable[[Any], object]]:
        """Open a part of an output; the function writes what ``add_labels`` returns."""

    def pieces(self, path: Path) -> Iterator[Any]:
        """The content of a written part, in pieces that ``writer`` takes."""
