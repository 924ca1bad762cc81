"""Texts of which the student is not sure: what a request asks for, and the cascade to the teacher."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from distill.config import UnsureSettings
from distill.data.formats.labelling import (
    ANSWERED_BY,
    SET_PROBABILITY,
    STUDENT_OR_TEACHER,
    TOP_K,
    OutputSpec,
    Predictions,
)
from distill.runtime.cascade import Cascade, TaskCascade
from distill.runtime.tasks import ByTeacher, check_rejection_of, check_top_k_of, heads_of, names_of_tasks
from distill.runtime.unsure import Classifier, most_probable
from distill.serve.batching import BATCH_SIZE, Batcher, Rows, WorkerThread
from distill.serve.limits import Deadline

DIGITS = 6  # of probabilities, after the decimal point


@dataclass(frozen=True)
class Wanted:
    """What a request asks for; None: as the service was started."""

    probabilities: bool
    text_column: str = ""
    top_k: int | None = None
    reject_below: float | None = None
    escape_formulas: bool = True


def check_unsure(unsure: UnsureSettings, student: Classifier) -> None:
    """Check the service's settings against a student.

    Raises:
        UserError: there are fewer labels than --top_k, --reject_label is one of them, or --task_reject_below names
            something else than a task.
    """
    tasks = heads_of(student)
    if unsure.top_k:
        check_top_k_of(tasks, unsure.top_k)
    check_rejection_of(tasks, unsure.rejection(names_of_tasks(student)), unsure.reject_label)


def output_spec(classifier: Classifier, wanted: Wanted, unsure: UnsureSettings) -> OutputSpec:
    """What is added to each text by a student, or by its cascade.

    Raises:
        UserError: there are fewer labels than the request asks for.
    """
    below = wanted.reject_below
    return OutputSpec.of(
        classifier,
        probabilities=wanted.probabilities,
        text_column=wanted.text_column,
        escape_formulas=wanted.escape_formulas,
        top_k=unsure.top_k if wanted.top_k is None else wanted.top_k,
        reject_below=unsure.rejection(names_of_tasks(classifier)) if below is None else below,
        reject_label=unsure.reject_label,
        has_cascade=unsure.cascade,
    )


def add_unsure(answers: Sequence[dict[str, Any]], predictions: Predictions, spec: OutputSpec) -> None:
    """Add to the answers of /predict, or to those of a task, what ``spec`` asks for."""
    if predictions.label_sets is None:
        for index in np.flatnonzero(predictions.is_rejected).tolist():
            answers[index]["label"] = spec.reject_label
    elif predictions.set_probability is not None:
        columns = predictions.classes, predictions.probability, predictions.set_probability
        for answer, index, least, together in zip(answers, *(column.tolist() for column in columns), strict=True):
            answer["labels"], answer["probability"] = predictions.label_sets[index], round(least, DIGITS)
            answer[SET_PROBABILITY] = round(together, DIGITS)
    if spec.top_k:
        tops = most_probable(predictions.probabilities, spec.labels, spec.top_k)
        for answer, top in zip(answers, tops, strict=True):
            answer[TOP_K] = [{"label": label, "probability": round(value, DIGITS)} for label, value in top]
    if predictions.by_teacher is not None:
        for answer, is_by_teacher in zip(answers, predictions.by_teacher.tolist(), strict=True):
            answer[ANSWERED_BY] = STUDENT_OR_TEACHER[is_by_teacher]


class ServedCascade:
    """A student and its teachers. The unsure texts of several requests go to a teacher together, in their own thread.

    Args:
        cascade: of the student and the teacher, or the teachers of its tasks.
        thread: the teachers'.
    """

    def __init__(self, cascade: Cascade, thread: WorkerThread) -> None:
        self.cascade, self._thread, self._tasks = cascade, thread, len(heads_of(cascade))
        self._batchers = {
            index: Batcher(functools.partial(self._teacher_rows, part), name="cascade")
            for index, part in cascade.parts.items()
        }

    @property
    def batchers(self) -> list[Batcher]:
        """Those of the teachers."""
        return list(self._batchers.values())

    def _teacher_rows(self, part: TaskCascade, texts: list[str]) -> Rows:
        return self._thread.call(functools.partial(part.teacher_proba, texts))

    async def answer(self, texts: Sequence[str], rows: Rows) -> tuple[Rows, ByTeacher]:
        """The student's ``rows`` with the teachers' in the place of unsure ones, and which these are (texts, tasks)."""
        by_teacher = np.zeros((len(texts), self._tasks), np.bool_)
        parts = self.cascade.parts
        unsure = {index: own for index, part in parts.items() if (own := part.unsure(texts, rows))}
        answers = (self._batchers[index]([texts[one] for one in own]) for index, own in unsure.items())
        found = await asyncio.gather(*answers)
        rows = rows.copy() if unsure else rows  # it may be a part of a batch
        for (index, own), answer in zip(unsure.items(), found, strict=True):
            rows[own, parts[index].task.columns] = answer
            by_teacher[own, index] = True
        return rows, by_teacher

    def for_file(self, deadline: Deadline) -> Cascade:
        """The cascade for a file: a teacher gets a small batch at a time, between those of other requests."""

        def in_batches(part: TaskCascade, texts: list[str]) -> Rows:
            rows = []
            for first in range(0, len(texts), BATCH_SIZE):
                deadline.check()
                rows.append(self._teacher_rows(part, texts[first : first + BATCH_SIZE]))
            return np.concatenate(rows)

        return self.cascade.asking(in_batches)
