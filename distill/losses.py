"""Objectives: what training makes small. ``(student_logits, teacher_logits, labels)`` in, the loss's parts out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

Objective = Callable[[Tensor, "Tensor | None", Tensor], "Loss"]


@dataclass(frozen=True)
class Loss:
    """The loss to go down on, and its unweighted parts for the log (scalars)."""

    total: Tensor
    parts: dict[str, Tensor]


def labels_only(label_smoothing: float = 0.0) -> Objective:
    """Cross-entropy with the labels, for the teacher."""

    def objective(student_logits: Tensor, teacher_logits: Tensor | None, labels: Tensor) -> Loss:
        hard = F.cross_entropy(student_logits, labels, label_smoothing=label_smoothing)
        return Loss(hard, {"hard": hard})

    return objective


def logits_mse(hard_weight: float, logits_weight: float) -> Objective:
    """``a * CE(student, label) + T * MSE(student logits, teacher logits)``, Tang et al. 2019 (arXiv 1903.12136, eq. 4).

    ``hard_weight`` and ``logits_weight`` are the reference repo's ``a`` and ``T``. Shapes: logits (batch, classes),
    labels (batch,). The mean runs over batch and classes. A part of weight 0 is not computed, so that the student alone
    (``T = 0``) needs no teacher.
    """

    def objective(student_logits: Tensor, teacher_logits: Tensor | None, labels: Tensor) -> Loss:
        parts, total = {}, student_logits.new_zeros(())
        if hard_weight > 0:
            parts["hard"] = F.cross_entropy(student_logits, labels)
            total = total + hard_weight * parts["hard"]
        if logits_weight > 0:
            if teacher_logits is None:
                raise ValueError("logits_weight is not 0: teacher_logits are needed")
            parts["logits"] = F.mse_loss(student_logits, teacher_logits)
            total = total + logits_weight * parts["logits"]
        return Loss(total, parts)

    return objective
