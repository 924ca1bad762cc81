"""Whether teachers are worth following: a linear model that takes seconds must not beat them on dev."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from distill.commands.experiment import Run, labels_of
from distill.commands.train_teacher import logits_of
from distill.config import FROM_DATA, ObjectiveSettings
from distill.config.objectives import LOGITS
from distill.evaluation.metrics import is_below
from distill.progress import log, remind
from distill.training import defaults

WITH_HINT = "logits+hint:0.2"  # of the teacher's vectors, see benchmarks/LOG.md
LABELS_WEIGHT, LOGITS_WEIGHT = 1.0, 0.1  # where the teacher is not followed, it only adds to the labels


def objective_of(run: Run, teachers: Sequence[Path]) -> ObjectiveSettings:
    """What a student learns from: as asked for; by default also from the teacher's vectors where labels are few.

    By default it does not follow a teacher that a linear model beats on dev.
    """
    settings = run.settings.objective
    reason = why_not_to_follow(run, teachers) if teachers else ""
    if not teachers or settings.objective != LOGITS or settings.hard_weight != FROM_DATA:
        return settings
    if reason:
        return dataclasses.replace(settings, hard_weight=LABELS_WEIGHT, logits_weight=LOGITS_WEIGHT)
    few = defaults.has_few_labels(run.data, run.settings.student.architecture)
    chosen = dataclasses.replace(settings, objective=WITH_HINT) if few else settings
    weights = "+".join(f"{term}:{weight:g}" for term, weight in chosen.weights.items())
    log.info("objective: %s%s", weights, ", as there are few labels" if few else "")
    return chosen


def why_not_to_follow(run: Run, teachers: Sequence[Path]) -> str:
    """A sentence about teachers that are worse on dev than the linear model, which the user is reminded of; or ""."""
    gold = labels_of(run.data.dev).numpy()
    right = logits_of(run, teachers, run.data.dev).argmax(1).numpy() == gold
    if not is_below(right, run.linear.dev_right):
        return ""
    reason = (
        f"The teacher is worse than a linear model: dev accuracy {right.mean():.4f}, "
        f"LinearSVC {run.linear.dev_accuracy:.4f}. "
        "Train it longer (--teacher_epochs 10), take another one (--teacher_model), or use LinearSVC."
    )
    remind(reason)
    return reason
