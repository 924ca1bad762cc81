"""The comparison's end: test is opened once, for every student, the teachers and the floor."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from distill.commands.evaluate import first_of_text, timing_sentence
from distill.commands.experiment import Run, labels_of, train_seconds
from distill.commands.student_spec import StudentSpec
from distill.commands.train_teacher import open_teacher_of, teachers_of
from distill.evaluation import timing
from distill.evaluation.metrics import expected_calibration_error, softmax
from distill.evaluation.timing import Predict
from distill.models.predictor import TextClassifier, load_student
from distill.reporting.comparison import Comparison, ModelResult, write

CPU = torch.device("cpu")  # where everything is timed
FLOOR, ONE, EACH, TOGETHER = "LinearSVC", "teacher", "teachers, each", "teachers together"
TRAIN = "train"


@dataclass(frozen=True)
class Entry:
    """A row of the comparison: its name, its specification and the folders of its students, one per seed.

    ``against`` names the row of the student alone that got the same budget.
    """

    name: str
    objective: str
    spec: StudentSpec
    folders: tuple[Path, ...]
    against: str = ""


def transfer_name(run: Run) -> str:
    """What the transfer set holds, in words."""
    settings = run.settings.transfer
    return TRAIN + " + unlabelled" * bool(settings.unlabeled) + " + augmented" * bool(settings.augment)


def evaluate_comparison(
    run: Run, entries: Sequence[Entry], left_out: Sequence[dict[str, Any]]
) -> tuple[str, list[Path]]:
    """Ask every model about test and write the table; returns it for a terminal, and the files."""
    opened = _Opened(run, entries)
    comparison = Comparison(
        gold=opened.gold,
        first_of_text=first_of_text(run.data.test),
        labels=run.data.labels,
        results=[*opened.teacher_rows(), opened.linear_row(), *(opened.student_row(entry) for entry in entries)],
        data=run.data.counts,
        settings=dataclasses.asdict(run.settings),
        timing=timing_sentence(min(len(opened.texts), timing.TEXTS)),
        left_out=left_out,
    )
    return write(comparison, run.folder.compare)


class _Opened:
    """The test texts, every model that is asked about them, and how long each takes."""

    def __init__(self, run: Run, entries: Sequence[Entry]) -> None:
        self.run = run
        self.texts = [example.text for example in run.data.test]
        self.gold: NDArray[np.int64] = labels_of(run.data.test).numpy()
        self.teachers = {folder: open_teacher_of(run, folder).to(CPU) for folder in teachers_of(run)}
        self.students = {
            entry.name: [load_student(folder, run.segmenter) for folder in entry.folders] for entry in entries
        }
        self.floor = run.linear
        timed: dict[str, Predict] = {name: own[0].predict for name, own in self.students.items()}
        timed |= {str(folder): teacher.predict for folder, teacher in self.teachers.items()}
        timed[FLOOR] = self.floor.predict
        self.ms_per_text = timing.ms_per_text(timed, self.texts[: timing.TEXTS])

    def teacher_rows(self) -> list[ModelResult]:
        """The first teacher; and of several the mean of them one by one, and all together."""
        logits = self._logits(list(self.teachers.values()))
        costs = np.array(
            [
                (train_seconds(folder), self.ms_per_text[str(folder)], teacher.parameters)
                for folder, teacher in self.teachers.items()
            ]
        )
        rows = [self._teacher_row(ONE, logits[:1], 1, costs[0])]
        if len(logits) > 1:
            rows.append(self._teacher_row(EACH, logits, 1, costs.mean(0)))
            rows.append(self._teacher_row(TOGETHER, logits.mean(0, keepdims=True), len(logits), costs.sum(0)))
        return rows

    def _teacher_row(
        self, name: str, logits: NDArray[np.float32], count: int, costs: NDArray[np.float64]
    ) -> ModelResult:
        """``logits`` (seeds, texts, classes); ``costs`` are seconds of training, ms a text, parameters."""
        error = float(np.mean([expected_calibration_error(softmax(own), self.gold) for own in logits]))
        return ModelResult(
            name=name,
            objective="teacher",
            student="teacher",
            transfer=TRAIN,
            teachers=count,
            predicted=logits.argmax(2),
            logits_calibration=(error, None),
            train_seconds=float(costs[0]),
            train_texts=len(self.run.data.train),
            ms_per_text=float(costs[1]),
            parameters=round(float(costs[2])),
            teacher=ONE if name == ONE else EACH,
        )

    def linear_row(self) -> ModelResult:
        """The linear model over counted words and characters."""
        return ModelResult(
            name=FLOOR,
            objective="floor",
            student=FLOOR,
            transfer=TRAIN,
            teachers=0,
            predicted=self.floor.predict(self.texts)[None],
            logits_calibration=None,
            train_seconds=self.floor.seconds,
            train_texts=len(self.run.data.train),
            ms_per_text=self.ms_per_text[FLOOR],
            parameters=self.floor.parameters,
            teacher=ONE,
        )

    def student_row(self, entry: Entry) -> ModelResult:
        """The row of one specification over its seeds; several teachers are counted by their mean accuracy."""
        models = self.students[entry.name]
        logits = self._logits(models)
        errors = [
            [expected_calibration_error(softmax(own, temperature), self.gold) for temperature in (1, model.temperature)]
            for own, model in zip(logits, models, strict=True)
        ]
        before, after = np.mean(errors, axis=0)
        count = len(entry.spec.teachers)
        return ModelResult(
            name=entry.name,
            objective=entry.objective,
            student=entry.spec.student.architecture,
            transfer=transfer_name(self.run) if entry.spec.extra else TRAIN,
            teachers=count,
            predicted=logits.argmax(2),
            logits_calibration=(float(before), float(after)),
            train_seconds=float(np.mean([train_seconds(folder) for folder in entry.folders])),
            train_texts=len(entry.spec.texts(self.run)),
            ms_per_text=self.ms_per_text[entry.name],
            parameters=models[0].parameters,
            against=entry.against,
            teacher=ONE if count < 2 else EACH,
        )

    def _logits(self, models: Sequence[TextClassifier]) -> NDArray[np.float32]:
        """Of the test texts, shape (models, texts, classes)."""
        return np.stack([model.logits(self.texts, "test").numpy() for model in models])
