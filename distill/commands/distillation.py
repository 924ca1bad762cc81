"""What students imitate: the objective, and logits of the teachers combined with the linear baseline's scores.

Teacher and linear baseline make different errors: the encoder knows the language, the linear model has counted the
words and characters of every labelled text. The weighted sum of their logits is a product of experts (Hinton 2002,
Neural Computation 14:8). A train text's scores come from a model that was fitted without it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from distill.commands.experiment import Run
from distill.commands.label_sets import choose_thresholds, right_texts
from distill.config import FROM_DATA, ObjectiveSettings
from distill.config.objectives import LOGITS
from distill.data import Example
from distill.evaluation.metrics import calibration_temperature, is_below, negative_log_likelihood
from distill.progress import log, remind
from distill.teachers import Teacher
from distill.teachers.answering import Answers
from distill.training import defaults
from distill.training.losses import Distillation
from distill.translation import Text

LINEAR_WEIGHTS = (0.0, 0.5, 1.0, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0)
DEFAULT_LINEAR_WEIGHT = 2.0  # when dev is too small to choose on, see benchmarks/LOG.md
WITH_HINT = "logits+hint:0.2"  # the objective when labels are few, see benchmarks/LOG.md
LABELS_WEIGHT, LOGITS_WEIGHT = 1.0, 0.1  # when the teacher is worse than the linear baseline: learn mostly from labels


def choose_objective(run: Run, teachers: Sequence[Teacher], *, may_hint: bool = True) -> ObjectiveSettings:
    """The objective of the settings; if it is left at its default, one that suits the data and the teachers.

    With few labels a hint is added, if it ``may_hint``. A teacher that is worse than the linear baseline on dev gets
    little weight, unless the user gave one (--T).
    """
    settings = run.settings.objective
    if not run.data.has_labels and settings.hard_weight == FROM_DATA:
        settings = dataclasses.replace(settings, hard_weight=0.0)
    warning = teacher_warning(run, teachers) if teachers else ""
    if not teachers or settings.objective != LOGITS or run.settings.objective.hard_weight != FROM_DATA:
        return settings
    chosen, reason = settings, ""
    if warning:
        is_default = settings.logits_weight == ObjectiveSettings.logits_weight
        weight = LOGITS_WEIGHT if is_default else settings.logits_weight
        chosen = dataclasses.replace(settings, hard_weight=LABELS_WEIGHT, logits_weight=weight)
        reason = ", because the teacher is worse than LinearSVC"
    elif may_hint and run.has_model_teacher and defaults.has_few_labels(run.data, run.settings.student.architecture):
        chosen, reason = dataclasses.replace(settings, objective=WITH_HINT), ", because there are few labels"
    weights = "+".join(f"{term}:{weight:g}" for term, weight in chosen.weights.items())
    log.info("objective: %s%s", weights, reason)
    return chosen


def distillation(
    run: Run, weights: Mapping[str, float], temperature: float, width: int, teacher_layers: tuple[int, int] = (0, 0)
) -> Distillation:
    """The loss with these weights of the terms, for the labels that the run's texts have; see :class:`Distillation`."""
    return Distillation(
        weights,
        temperature,
        width,
        teacher_layers,
        is_multi_label=run.data.is_multi_label,
        ancestors=run.ancestors,
        level_weight=run.settings.data.level_weight,
    )


def teacher_warning(run: Run, teachers: Sequence[Teacher]) -> str:
    """Compare the teachers with the linear baseline on dev.

    Returns a warning if they are significantly worse, otherwise ``""``. The warning is repeated when the command ends.
    """
    if not run.data.has_labels:
        return ""
    answers = run.answering.mean(teachers, run.data.dev)
    answered = answers.answered.numpy()
    thresholds = choose_thresholds(run, "teacher", answers.logits, answers.answered)
    correct = right_texts(answers.logits, run.labels_of(run.data.dev), thresholds).numpy()[answered]
    linear = run.linear.dev_correct[answered]
    if not is_below(correct, linear):
        return ""
    remedy = Text(
        "Use another one (--teacher), or use LinearSVC."
        if run.named_teachers
        else "Train it longer (--teacher_epochs 10), use another one (--teacher_model), or use LinearSVC."
    )
    warning = Text(
        "The teacher is worse than a linear model: share of the dev texts whose labels are all right {teacher:.4f}, "
        "LinearSVC {linear:.4f}. {remedy}"
        if run.data.is_multi_label
        else "The teacher is worse than a linear model: dev accuracy {teacher:.4f}, LinearSVC {linear:.4f}. {remedy}",
        teacher=correct.mean(),
        linear=linear.mean(),
        remedy=remedy,
    )
    remind(warning, of_model=False)
    return warning


def choose_linear_weight(run: Run, teachers: Sequence[Teacher]) -> float:
    """Weight of the linear baseline's scores: ``--linear_weight``, or the one with the lowest loss on dev.

    The loss is the negative log-likelihood, each weight calibrated with its own temperature. In multi-label data
    the default is 0.
    """
    if not teachers or not run.data.has_labels:
        return 0.0
    if run.settings.transfer.linear_weight != FROM_DATA:
        return run.settings.transfer.linear_weight
    if run.data.is_multi_label:
        return 0.0
    answers = run.answering.mean(teachers, run.data.dev)
    if answers.answered.sum() < defaults.MIN_DEV_FOR_SELECTION:
        log.info("students imitate the teacher's logits + %g x LinearSVC's scores", DEFAULT_LINEAR_WEIGHT)
        return DEFAULT_LINEAR_WEIGHT
    dev = [example for example, answered in zip(run.data.dev, answers.answered.tolist(), strict=True) if answered]
    logits, gold = answers.logits[answers.answered], run.labels_of(dev).numpy()
    scores = torch.from_numpy(run.linear_scores(dev))
    losses, accuracies = {}, {}
    for weight in LINEAR_WEIGHTS:
        combined = _combined(logits, scores, weight).numpy()
        losses[weight] = negative_log_likelihood(combined, gold, calibration_temperature(combined, gold))
        accuracies[weight] = (combined.argmax(1) == gold).mean()
    best = min(LINEAR_WEIGHTS, key=losses.__getitem__)
    log.info(
        "students imitate the teacher's logits + %g x LinearSVC's scores: dev accuracy %.4f, loss %.4f; "
        "the teacher alone has %.4f, %.4f",
        best,
        accuracies[best],
        losses[best],
        accuracies[0.0],
        losses[0.0],
    )
    return best


def target_answers(run: Run, teachers: Sequence[Teacher], examples: Sequence[Example], linear_weight: float) -> Answers:
    """The answers to imitate, their logits with the standard deviation of the teachers' logits."""
    answers = run.answering.mean(teachers, examples)
    if not linear_weight:
        return answers
    scores, answered = torch.from_numpy(run.linear_scores(examples)), answers.answered
    combined = torch.zeros_like(answers.logits)
    combined[answered] = _combined(answers.logits[answered], scores[answered], linear_weight)
    return Answers(combined, answered)


def _combined(logits: Tensor, scores: Tensor, weight: float) -> Tensor:
    combined = logits + weight * scores
    return combined * (logits.std() / combined.std().clamp(min=1e-6))
