"""Whether teachers are worth following: a linear model that takes seconds must not beat them on dev."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from distill.config import FROM_DATA, ObjectiveSettings
from distill.config.objectives import LOGITS
from distill.metrics import is_below
from distill.progress import remind
from distill.stages.run import Run, labels_of
from distill.stages.teach import logits_of

LABELS_WEIGHT, LOGITS_WEIGHT = 1.0, 0.1  # where the teacher is not followed, it only adds to the labels


def objective_of(run: Run, teachers: Sequence[Path]) -> ObjectiveSettings:
    """What a student learns from: as asked for; by default not from a teacher that a linear model beats on dev."""
    settings = run.settings.objective
    by_default = settings.objective == LOGITS and settings.hard_weight == FROM_DATA
    if not teachers or not why_not_to_follow(run, teachers) or not by_default:
        return settings
    return dataclasses.replace(settings, hard_weight=LABELS_WEIGHT, logits_weight=LOGITS_WEIGHT)


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
