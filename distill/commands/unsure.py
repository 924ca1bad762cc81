"""Unsure texts in report and comparison: what thresholds are chosen from, and the comparison's row of a cascade."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distill.commands.benchmark.shipped import Key
from distill.commands.experiment import TEACHER, Run
from distill.commands.label_sets import right_texts
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
    correct = None if teacher is None else right_on_dev(run, teachers[teacher], models[teacher].thresholds)
    confidences = Confidences.of(logits, student.temperature, labels.numpy(), student.thresholds)
    return OnDev(confidences, correct, run.settings.report.targets)


def right_on_dev(run: Run, teacher: Teacher, thresholds: Sequence[float]) -> NDArray[np.bool_]:
    """Which dev texts (texts,) a teacher labels correctly; with thresholds, those of which all labels are right."""
    logits = run.answering.logits(teacher, run.data.dev)
    return np.asarray(right_texts(logits, run.labels_of(run.data.dev), thresholds).numpy())


@dataclass(frozen=True)
class Cascades:
    """Cascades of a teacher and one student per seed, and what they predict for the test texts.

    ``share`` of the texts goes to the teacher, because their probability is below ``threshold``; means over the seeds.
    Predictions are class numbers (seeds, texts) or, in multi-label data, label sets (seeds, texts, classes).
    """

    predicted: NDArray[Any]
    threshold: float
    share: float


def cascades(
    run: Run,
    students: Sequence[TextClassifier],
    outcomes: Sequence[Outcome],
    teacher_right_on_dev: NDArray[np.bool_],
    teacher_predicted: NDArray[Any],
) -> Cascades:
    """Cascades whose thresholds are chosen on dev; ``outcomes`` are the students' on test, one per seed."""
    dev, labels = [example.text for example in run.data.dev], run.labels_of(run.data.dev)
    gold = run.labels_of(run.data.test).numpy()
    predicted, thresholds, shares = [], [], []
    for student, outcome in zip(students, outcomes, strict=True):
        on_dev = Confidences.of(student.logits(dev).numpy(), outcome.temperature, labels.numpy(), outcome.thresholds)
        on_test = Confidences.of(outcome.logits, outcome.temperature, gold, outcome.thresholds)
        thresholds.append(cascade_threshold(on_dev, teacher_right_on_dev))
        unsure = on_test.confidence < thresholds[-1]
        shares.append(unsure.mean())
        predicted.append(outcome.predicted.copy())
        predicted[-1][unsure] = teacher_predicted[unsure]
    return Cascades(np.stack(predicted), float(np.mean(thresholds)), float(np.mean(shares)))
