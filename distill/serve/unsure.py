"""Texts of which the student is not sure: what a request asks for, and the cascade to the teacher."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distill.config import UnsureSettings
from distill.data.formats.labelling import ANSWERED_BY, STUDENT_OR_TEACHER, TOP_K, OutputSpec, Predictions
from distill.runtime.tasks import check_rejection_of, check_top_k_of, heads_of, tasks_in
from distill.runtime.unsure import (
    Cascade,
    Classifier,
    check_cascade,
    most_probable,
    thresholds_of,
)
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


def check_unsure(unsure: UnsureSettings, student: Classifier) -> None:
    """Check the service's settings against a student.

    Raises:
        UserError: there are fewer labels than --top_k, --reject_label is one of them, or --reject_below or --cascade
            does not apply to the student, since it gives a text any number of labels or has several tasks.
    """
    tasks = heads_of(student)
    if unsure.top_k:
        check_top_k_of(tasks, unsure.top_k)
    check_rejection_of(tasks, unsure.reject_below, unsure.reject_label, "--reject_below")
    if unsure.cascade:
        check_cascade(thresholds_of(student), tasks_in(student), "--cascade")


def output_spec(student: Classifier, wanted: Wanted, unsure: UnsureSettings) -> OutputSpec:
    """What is added to each text.

    Raises:
        UserError: there are fewer labels than the request asks for, or it rejects texts of a student that gives a text
            any number of labels.
    """
    return OutputSpec(
        student.labels,
        wanted.probabilities,
        wanted.text_column,
        top_k=unsure.top_k if wanted.top_k is None else wanted.top_k,
        reject_below=unsure.reject_below if wanted.reject_below is None else wanted.reject_below,
        reject_label=unsure.reject_label,
        has_cascade=unsure.cascade,
        thresholds=thresholds_of(student),
        tasks=tasks_in(student),
    )


def add_unsure(answers: Sequence[dict[str, Any]], predictions: Predictions, spec: OutputSpec) -> None:
    """Add to the answers of /predict, or to those of a task, what ``spec`` asks for."""
    for index in np.flatnonzero(predictions.is_rejected).tolist():
        answers[index]["label"] = spec.reject_label
    if spec.top_k:
        tops = most_probable(predictions.probabilities, spec.labels, spec.top_k)
        for answer, top in zip(answers, tops, strict=True):
            answer[TOP_K] = [{"label": label, "probability": round(value, DIGITS)} for label, value in top]
    if predictions.by_teacher is not None:
        for answer, is_by_teacher in zip(answers, predictions.by_teacher.tolist(), strict=True):
            answer[ANSWERED_BY] = STUDENT_OR_TEACHER[is_by_teacher]


class ServedCascade:
    """A student and its teacher. The unsure texts of several requests go to the teacher together, in its own thread.

    Args:
        student: labels all texts first.
        teacher: labels those of which the student is not sure.
        below: their probability is below this.
        thread: the teacher's.
    """

    def __init__(self, student: Classifier, teacher: Classifier, below: float, thread: WorkerThread) -> None:
        self._student, self._thread = student, thread
        self._cascade = Cascade(student, teacher.predict_proba, below, teacher.labels)
        self.batcher = Batcher(self._teacher_rows, name="cascade")

    def _teacher_rows(self, texts: list[str]) -> Rows:
        return self._thread.call(functools.partial(self._cascade.teacher_proba, texts))

    async def answer(self, texts: Sequence[str], rows: Rows) -> tuple[Rows, NDArray[np.bool_]]:
        """The student's ``rows`` with the teacher's in the place of unsure ones, and which these are (texts,)."""
        unsure = self._cascade.unsure(texts, rows)
        by_teacher = np.zeros(len(texts), np.bool_)
        by_teacher[unsure] = True
        if unsure:
            rows = rows.copy()  # it may be a part of a batch
            rows[unsure] = await self.batcher([texts[index] for index in unsure])
        return rows, by_teacher

    def for_file(self, deadline: Deadline) -> Cascade:
        """The cascade for a file: the teacher gets a small batch at a time, between those of other requests."""

        def in_batches(texts: list[str]) -> Rows:
            rows = []
            for first in range(0, len(texts), BATCH_SIZE):
                deadline.check()
                rows.append(self._teacher_rows(texts[first : first + BATCH_SIZE]))
            return np.concatenate(rows)

        return Cascade(self._student, in_batches, self._cascade.below)
