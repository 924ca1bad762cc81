"""What students imitate: the teachers' logits and, weighted on dev, the scores of the linear model.

The two are wrong about different texts: the encoder knows the language, the linear model has counted the words and
characters of every labelled text. Their sum is a product of experts (Hinton 2002, Neural Computation 14:8) with one
weight. A train text's scores come from a model that has not seen its label.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from distill.commands.experiment import Run, labels_of
from distill.commands.train_teacher import logits_of
from distill.config import FROM_DATA
from distill.data import Example
from distill.evaluation.metrics import calibration_temperature, negative_log_likelihood
from distill.progress import log
from distill.training import defaults

WEIGHTS = (0.0, 0.5, 1.0, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0)
USUAL_WEIGHT = 2.0  # where dev is too small to choose by, see benchmarks/LOG.md


def linear_weight(run: Run, teachers: Sequence[Path]) -> float:
    """What the linear model's scores weigh: as asked for, else what gives the lowest negative log-likelihood on dev.

    Each weight is tried with the temperature that suits it.
    """
    asked = run.settings.transfer.linear_weight
    if asked != FROM_DATA or not teachers:
        return asked if teachers else 0.0
    if defaults.keeps_last_weights(run.data):
        log.info("students imitate the teacher's logits + %g x LinearSVC's scores", USUAL_WEIGHT)
        return USUAL_WEIGHT
    dev, gold = run.data.dev, labels_of(run.data.dev).numpy()
    logits_of_dev, scores = logits_of(run, teachers, dev), torch.from_numpy(run.linear_scores(dev))
    losses, accuracies = {}, {}
    for weight in WEIGHTS:
        logits = _pooled(logits_of_dev, scores, weight).numpy()
        losses[weight] = negative_log_likelihood(logits, gold, calibration_temperature(logits, gold))
        accuracies[weight] = (logits.argmax(1) == gold).mean()
    best = min(WEIGHTS, key=losses.__getitem__)
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


def targets_of(run: Run, teachers: Sequence[Path], examples: Sequence[Example], weight: float) -> Tensor:
    """The logits to imitate, shape (texts, classes), scaled to the spread of the teachers' own."""
    logits = logits_of(run, teachers, examples)
    if not weight:
        return logits
    return _pooled(logits, torch.from_numpy(run.linear_scores(examples)), weight)


def _pooled(logits: Tensor, scores: Tensor, weight: float) -> Tensor:
    pooled = logits + weight * scores
    return pooled * (logits.std() / pooled.std().clamp(min=1e-6))
