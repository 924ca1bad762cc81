"""The last stage of a comparison: every student, the teachers and the linear baseline are evaluated on test, once."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from distill.commands.evaluate import evaluation_context
from distill.commands.experiment import Run
from distill.commands.label_sets import choose_thresholds
from distill.commands.model_cards import card_of
from distill.commands.saved_models import train_seconds
from distill.commands.student_spec import StudentSpec
from distill.commands.teachers import teachers_of
from distill.commands.unsure import cascades, right_on_dev
from distill.config import STUDENTS
from distill.evaluation import timing
from distill.evaluation.metrics import expected_calibration_error
from distill.evaluation.timing import Predict
from distill.models.text_classifier import TextClassifier, load_student
from distill.reporting.comparison import write
from distill.reporting.comparison_record import CASCADE, LINEAR, TEACHER, Comparison, LeftOutClassRow, ModelResult
from distill.reporting.results import Outcome
from distill.teachers import ModelTeacher
from distill.teachers.saved import SavedTeacher

CPU = torch.device("cpu")  # everything is timed on it
LINEAR_NAME, ONE_VS_REST = "LinearSVC", "LinearSVC, one-vs-rest"
FIRST_TEACHER, EACH_TEACHER, ALL_TEACHERS = "teacher", "teachers, each", "teachers together"  # names of rows
TRAIN = "train"


@dataclass(frozen=True)
class Entry:
    """A student's row of the comparison.

    Args:
        name: of the row.
        objective: training objective of its students.
        spec: specification of its students.
        folders: of its students, one per seed.
        transfer: what they were trained on, in words.
        train_texts: number of texts that each of them was trained on.
        against: name of the row of the student alone that got the same budget.
    """

    name: str
    objective: str
    spec: StudentSpec
    folders: tuple[Path, ...]
    transfer: str
    train_texts: int
    against: str = ""


def transfer_name(run: Run) -> str:
    """What the transfer set holds, in words."""
    settings = run.settings.transfer
    return TRAIN + " + unlabelled" * bool(settings.unlabeled) + " + augmented" * bool(settings.augment)


def evaluate_comparison(
    run: Run, entries: Sequence[Entry], left_out_class: Sequence[LeftOutClassRow]
) -> tuple[str, list[Path]]:
    """Evaluate every model on test and write the comparison; returns its text for a terminal and its files."""
    models = _Models(run, entries)
    results = [*models.teacher_rows(), models.linear_row(), *(models.student_row(entry) for entry in entries)]
    cascade, remarks = models.cascade_row(entries, {row.name: row for row in results})
    return write(Comparison(models.context, [*results, *cascade], left_out_class, remarks), run.folder.compare)


def _train_seconds(teacher: ModelTeacher) -> float:
    """Duration of a teacher's training; NaN if another program trained it."""
    return train_seconds(teacher.folder) if isinstance(teacher, SavedTeacher) else math.nan


def _outcome(logits: NDArray[np.float32], temperature: float = 1.0, thresholds: tuple[float, ...] = ()) -> Outcome:
    """The predictions of a model from its logits (texts, classes); its costs are recorded elsewhere."""
    return Outcome("", 0, logits, None, None, {}, temperature=temperature, thresholds=thresholds)


class _Models:
    """The test set and all models of a comparison, timed."""

    def __init__(self, run: Run, entries: Sequence[Entry]) -> None:
        self.run = run
        self.context = evaluation_context(run)
        self.teachers = {
            teacher: teacher.classifier(run.task).to(CPU)
            for teacher in teachers_of(run)
            if isinstance(teacher, ModelTeacher)
        }
        self.students = {
            entry.name: [load_student(folder, run.segmenter) for folder in entry.folders] for entry in entries
        }
        timed: dict[str, Predict] = {name: seeds[0].predict for name, seeds in self.students.items()}
        timed |= {str(teacher.source): classifier.predict for teacher, classifier in self.teachers.items()}
        timed[LINEAR_NAME] = run.linear.predict
        self.ms_per_text = timing.ms_per_text(timed, self.context.texts[: timing.TEXTS])

    def teacher_rows(self) -> list[ModelResult]:
        """The first teacher; with several, also their mean scores and the scores of their mean logits."""
        outcomes = self._outcomes(list(self.teachers.values()))
        costs = np.array(
            [
                (_train_seconds(teacher), self.ms_per_text[str(teacher.source)], classifier.parameters)
                for teacher, classifier in self.teachers.items()
            ]
        )
        rows = [self._teacher_row(FIRST_TEACHER, outcomes[:1], 1, costs[0])]
        if len(outcomes) > 1:
            rows.append(self._teacher_row(EACH_TEACHER, outcomes, 1, costs.mean(0)))
            rows.append(self._teacher_row(ALL_TEACHERS, [self._together(outcomes)], len(outcomes), costs.sum(0)))
        return rows

    def _together(self, teachers: Sequence[Outcome]) -> Outcome:
        """The mean logits of the teachers; in multi-label data with thresholds of their own."""
        thresholds: tuple[float, ...] = ()
        if self.context.is_multi_label:
            on_dev = self.run.answering.mean(list(self.teachers), self.run.data.dev).logits
            thresholds = choose_thresholds(self.run, ALL_TEACHERS, on_dev)
        return _outcome(np.mean([teacher.logits for teacher in teachers], axis=0), thresholds=thresholds)

    def _teacher_row(
        self, name: str, outcomes: Sequence[Outcome], teachers: int, costs: NDArray[np.float64]
    ) -> ModelResult:
        """``costs`` are seconds of training, ms per text, parameters."""
        error = float(np.mean([self._calibration_error(outcome, 1.0) for outcome in outcomes]))
        return ModelResult(
            name=name,
            objective=TEACHER,
            student=TEACHER,
            transfer=TRAIN,
            teachers=teachers,
            predicted=np.stack([outcome.predicted for outcome in outcomes]),
            calibration_error=(error, None),
            train_seconds=None if np.isnan(costs[0]) else float(costs[0]),
            train_texts=len(self.run.data.train),
            ms_per_text=float(costs[1]),
            parameters=round(float(costs[2])),
            teacher=FIRST_TEACHER if name == FIRST_TEACHER else EACH_TEACHER,
        )

    def linear_row(self) -> ModelResult:
        """The linear baseline."""
        linear = self.run.linear
        return ModelResult(
            name=ONE_VS_REST if self.context.is_multi_label else LINEAR_NAME,
            objective=LINEAR,
            student=LINEAR_NAME,
            transfer=TRAIN,
            teachers=0,
            predicted=linear.predict(self.context.texts)[None],
            calibration_error=None,
            train_seconds=linear.seconds,
            train_texts=len(self.run.data.train),
            ms_per_text=self.ms_per_text[LINEAR_NAME],
            parameters=linear.parameters,
            teacher=FIRST_TEACHER,
        )

    def student_row(self, entry: Entry) -> ModelResult:
        """The row of one specification over its seeds; with several teachers their mean score is the reference."""
        models = self.students[entry.name]
        outcomes = self._outcomes(models)
        errors = [
            [self._calibration_error(outcome, temperature) for temperature in (1.0, outcome.temperature)]
            for outcome in outcomes
        ]
        before, after = map(float, np.mean(errors, axis=0))
        teachers = len(entry.spec.teachers)
        return ModelResult(
            name=entry.name,
            objective=entry.objective,
            student=entry.spec.student.architecture,
            transfer=entry.transfer,
            teachers=teachers,
            predicted=np.stack([outcome.predicted for outcome in outcomes]),
            # the temperatures of multi-label data are part of the classifier
            calibration_error=(after, None) if self.context.is_multi_label else (before, after),
            train_seconds=float(np.mean([train_seconds(folder) for folder in entry.folders])),
            train_texts=entry.train_texts,
            ms_per_text=self.ms_per_text[entry.name],
            parameters=models[0].parameters,
            against=entry.against,
            teacher=FIRST_TEACHER if teachers < 2 else EACH_TEACHER,
        )

    def cascade_row(
        self, entries: Sequence[Entry], rows: Mapping[str, ModelResult]
    ) -> tuple[list[ModelResult], list[str]]:
        """The row of a cascade and a sentence on it: the student that is best on dev, then the teacher that taught it.

        Nothing without a teacher that is a model, labels, and a student that can be exported. ``rows`` are the others.
        """
        teacher = next(iter(self.teachers), None)
        candidates = [
            entry
            for entry in entries
            if teacher and [taught_by.source for taught_by in entry.spec.teachers] == [teacher.source]
            if not STUDENTS[entry.spec.student.architecture].transductive
        ]
        if teacher is None or not candidates or not self.run.data.has_labels:
            return [], []
        entry = max(candidates, key=self._dev_accuracy)
        row, teacher_row, models = rows[entry.name], rows[FIRST_TEACHER], self.students[entry.name]
        right = right_on_dev(self.run, teacher, self.teachers[teacher].thresholds)
        found = cascades(self.run, models, self._outcomes(models), right, teacher_row.predicted[0])
        cascade = dataclasses.replace(
            row,
            name=f"cascade: {entry.name}",
            objective=CASCADE,
            predicted=found.predicted,
            calibration_error=None,
            ms_per_text=row.ms_per_text + found.share * teacher_row.ms_per_text,
            parameters=row.parameters + teacher_row.parameters,
            against=entry.name,
        )
        exactly = " (in whole label sets)" if self.context.is_multi_label else ""
        sentence = (
            f"{cascade.name}: the texts whose probability is below {found.threshold:.3f} go to the teacher, "
            f"{100 * found.share:.1f} % of the test texts, so that a text takes "
            f"{100 * cascade.ms_per_text / teacher_row.ms_per_text:.1f} % of the teacher's time. The threshold "
            f"(mean over the seeds) is the smallest at which the cascade is not less accurate{exactly} on dev than the "
            "teacher."
        )
        return [cascade], [sentence]

    def _dev_accuracy(self, entry: Entry) -> float:
        """Mean over the seeds of the accuracy on dev that stands in the models' cards; 0 where a card was deleted."""
        return float(np.mean([card_of(folder).dev_accuracy or 0.0 for folder in entry.folders]))

    def _outcomes(self, models: Sequence[TextClassifier]) -> list[Outcome]:
        """Every model on the test texts."""
        return [
            _outcome(logits, model.temperature, model.thresholds)
            for model, logits in zip(models, self._logits(models), strict=True)
        ]

    def _calibration_error(self, outcome: Outcome, temperature: float) -> float:
        return expected_calibration_error(outcome.probabilities(temperature), self.context.gold)

    def _logits(self, models: Sequence[TextClassifier]) -> NDArray[np.float32]:
        """Logits of the test texts, shape (models, texts, classes)."""
        return np.stack([model.logits(self.context.texts, "test").numpy() for model in models])
