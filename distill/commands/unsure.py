"""Unsure texts in report and comparison: what thresholds are chosen from, and the comparison's row of a cascade."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from distill.commands.benchmark.shipped import Key
from distill.commands.experiment import TEACHER, Run, labels_of
from distill.commands.label_sets import right_texts
from distill.evaluation.metrics import softmax
from distill.evaluation.selective import Confidences, cascade_threshold
from distill.models.text_classifier import TextClassifier
from distill.reporting.results import Outcome, first_seeds
from distill.reporting.selective import OnDev
from distill.teachers import Teacher


def on_dev(
    run: Run, models: Mapping[Key, TextClassifier], teachers: Mapping[Key, Teacher], outcomes: Sequence[Outcome]
) -> OnDev | None:
    """What the report chooses thresholds from: the last kind of student, and the first teacher that is a model, on dev.

    None: there is no student, or the data has no labels or no dev texts.
    """
    students = [outcome for outcome in first_seeds(outcomes) if outcome.name != TEACHER]
    if not students or not run.data.dev or not run.data.has_labels:
        return None
    labels = run.labels_of(run.data.dev)
    student = models[students[-1].name, students[-1].seed]
    logits = student.logits([example.text for example in run.data.dev], "dev, student").numpy()
    teacher = next((key for key in teachers if key in models), None)
    correct = None if teacher is None else _right_on_dev(run, teachers[teacher], labels, models[teacher].thresholds)
    confidences = Confidences.of(logits, student.temperature, labels.numpy(), student.thresholds)
    return OnDev(confidences, correct, run.settings.report.targets)


def _right_on_dev(run: Run, teacher: Teacher, labels: Tensor, thresholds: Sequence[float] = ()) -> NDArray[np.bool_]:
    """Which dev texts (texts,) a teacher labels correctly; with thresholds, those of which all labels are right."""
    logits = run.answering.logits(teacher, run.data.dev)
    return np.asarray(right_texts(logits, labels, thresholds).numpy())


@dataclass(frozen=True)
class Cascades:
    """Cascades of a teacher and one student per seed: the labels of the test texts (seeds, texts).

    ``share`` of the texts goes to the teacher, because their probability is below ``threshold``; means over the seeds.
    """

    predicted: NDArray[np.int64]
    threshold: float
    share: float


def cascades(
    run: Run,
    students: Sequence[TextClassifier],
    logits: NDArray[np.float32],
    teacher: Teacher,
    teacher_predicted: NDArray[np.int64],
) -> Cascades:
    """Cascades whose thresholds are chosen on dev; ``logits`` (seeds, texts, classes) are the students' on test."""
    dev, labels = [example.text for example in run.data.dev], labels_of(run.data.dev)
    teacher_correct = _right_on_dev(run, teacher, labels)
    thresholds, unsure = [], []
    for student, of_seed in zip(students, logits, strict=True):
        confidences = Confidences.of(student.logits(dev).numpy(), student.temperature, labels.numpy())
        thresholds.append(cascade_threshold(confidences, teacher_correct))
        unsure.append(softmax(of_seed, student.temperature).max(1) < thresholds[-1])
    predicted = np.where(np.stack(unsure), teacher_predicted, logits.argmax(2))
    return Cascades(predicted, float(np.mean(thresholds)), float(np.mean(unsure)))
