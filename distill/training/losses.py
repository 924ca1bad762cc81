"""Objectives: what training makes small. Each term is a plain function of student and teacher; one sum weighs them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from distill.data import UNLABELLED
from distill.text.batching import ModelOutput


@dataclass(frozen=True)
class Targets:
    """What is known of a batch.

    Shapes: ``labels`` (batch,), ``UNLABELLED`` where there is none; ``logits`` (batch, classes) of the teacher;
    ``layers`` (batch, layers, width), its standardised vectors, the last layer last.
    """

    labels: Tensor
    logits: Tensor | None = None
    layers: Tensor | None = None


@dataclass(frozen=True)
class Loss:
    """The loss to go down on, and its unweighted parts for the log (scalars)."""

    total: Tensor
    parts: dict[str, Tensor]


Objective = Callable[[ModelOutput, Targets], Loss]


def labels_only(label_smoothing: float = 0.0) -> Objective:
    """Cross-entropy with the labels, for the teacher."""

    def objective(answer: ModelOutput, targets: Targets) -> Loss:
        hard = cross_entropy(answer.logits, targets.labels, label_smoothing)
        return Loss(hard, {"labels": hard})

    return objective


def cross_entropy(student_logits: Tensor, labels: Tensor, label_smoothing: float = 0.0) -> Tensor:
    """Mean cross-entropy of the labelled texts; 0 for a batch without any."""
    total = F.cross_entropy(
        student_logits, labels, ignore_index=UNLABELLED, reduction="sum", label_smoothing=label_smoothing
    )
    return total / (labels != UNLABELLED).sum().clamp(min=1)


def logits_mse(student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
    """Mean squared error between logits over batch and classes, Tang et al. 2019 (arXiv 1903.12136, eq. 4)."""
    return F.mse_loss(student_logits, teacher_logits)


def soft_targets(student_logits: Tensor, teacher_logits: Tensor, temperature: float) -> Tensor:
    """``τ² · KL(softmax(teacher / τ) ‖ softmax(student / τ))``, mean over the batch, Hinton et al. 2015.

    arXiv 1503.02531, section 2: the factor τ² keeps the gradient's size when τ changes.
    """
    student, teacher = _log_softmax(student_logits, temperature), _log_softmax(teacher_logits, temperature)
    return temperature**2 * F.kl_div(student, teacher, reduction="batchmean", log_target=True)


def soft_reverse(student_logits: Tensor, teacher_logits: Tensor, temperature: float) -> Tensor:
    """``τ² · KL(student ‖ teacher)``: pays for mass where the teacher has none, and not for a class left out."""
    return soft_targets(teacher_logits, student_logits, temperature)


def soft_symmetric(student_logits: Tensor, teacher_logits: Tensor, temperature: float) -> Tensor:
    """The mean of both directions (half of Jeffreys' divergence)."""
    forward = soft_targets(student_logits, teacher_logits, temperature)
    return (forward + soft_reverse(student_logits, teacher_logits, temperature)) / 2


def dist(student_logits: Tensor, teacher_logits: Tensor, temperature: float) -> Tensor:
    """``τ² · ((1 − correlation of a text's classes) + (1 − correlation of a class's texts))``, DIST, Huang et al. 2022.

    arXiv 2205.10536, eq. 8 to 11: Pearson correlations between student and teacher, of the rows and of the columns of
    the softened probabilities, each a mean.
    """
    student, teacher = (logits / temperature for logits in (student_logits, teacher_logits))
    student, teacher = student.softmax(1), teacher.softmax(1)
    between = 1 - _correlation(student, teacher).mean()
    within = 1 - _correlation(student.T, teacher.T).mean()
    return temperature**2 * (between + within)


def _correlation(first: Tensor, second: Tensor) -> Tensor:
    """Pearson's correlation of each row, (rows, places), (rows, places) -> (rows,)."""
    first, second = (values - values.mean(1, keepdim=True) for values in (first, second))
    return F.cosine_similarity(first, second, dim=1, eps=1e-8)


def mutual(student_logits: Tensor, peer_logits: Tensor) -> Tensor:
    """``KL(peer ‖ student)``, the peer not moved by it, Zhang et al. 2018 (arXiv 1706.00384, eq. 2)."""
    return soft_targets(student_logits, peer_logits.detach(), 1.0)


def _log_softmax(logits: Tensor, temperature: float) -> Tensor:
    return F.log_softmax(logits / temperature, dim=1)


WITH_LOGITS: dict[str, Callable[[Tensor, Tensor, float], Tensor]] = {
    "logits": lambda student, teacher, _: logits_mse(student, teacher),
    "soft": soft_targets,
    "soft_reverse": soft_reverse,
    "soft_symmetric": soft_symmetric,
    "dist": dist,
}


class Hint(nn.Module):
    """The student's vector, projected, imitates the teacher's: FitNets, Romero et al. 2015 (arXiv 1412.6550, eq. 3).

    Args:
        width: of the student's vector.
        layers: teacher layers imitated, counted from the last; several are weighed by learned weights.
        teacher_width: of the teacher's vectors.
    """

    def __init__(self, width: int, layers: int, teacher_width: int) -> None:
        super().__init__()
        self.projections = nn.ModuleList(nn.Linear(width, teacher_width) for _ in range(layers))
        self.uncertainties = nn.Parameter(torch.zeros(layers), requires_grad=layers > 1)

    def forward(self, vector: Tensor, layers: Tensor) -> tuple[Tensor, Tensor]:
        """The weighted loss and the plain mean squared error, of (batch, width) and (batch, layers, teacher width).

        Each layer's error ``e`` weighs ``exp(−s)``, with ``s`` learned and paid for: ``Σ (exp(−s) e + s) / layers``,
        the uncertainty weights of Kendall et al. 2018 (arXiv 1705.07115, eq. 7), since weights that are merely
        normalised would all go to the layer that is easiest to imitate.
        """
        own = layers[:, -len(self.projections) :]
        errors = torch.stack([F.mse_loss(project(vector), own[:, i]) for i, project in enumerate(self.projections)])
        weighted = torch.exp(-self.uncertainties) * errors + self.uncertainties
        return weighted.mean(), errors.mean()


class Distillation(nn.Module):
    """The weighted sum of an objective's terms; a module, as hints have projections that are trained along.

    Args:
        weights: weight of every term by its name (see ``ObjectiveSettings.weights``); 0 leaves the term out.
        temperature: of soft targets and dist.
        width: of the student's vector.
        teacher_layers: (layers, width) of the teacher's vectors, for hints.
    """

    def __init__(
        self, weights: Mapping[str, float], temperature: float, width: int, teacher_layers: tuple[int, int] = (0, 0)
    ) -> None:
        super().__init__()
        self.weights = {name: weight for name, weight in weights.items() if weight}
        self.temperature = temperature
        counts = {"hint": 1, "hint_layers": teacher_layers[0]}
        self.hints = nn.ModuleDict(
            {name: Hint(width, count, teacher_layers[1]) for name, count in counts.items() if name in self.weights}
        )

    def forward(self, answer: ModelOutput, targets: Targets) -> Loss:
        """The loss of one student, or of two that learn together."""
        own = self._one(answer, targets)
        if answer.peer is None:
            return own
        peers = mutual(answer.logits, answer.peer.logits) + mutual(answer.peer.logits, answer.logits)
        total = own.total + self._one(answer.peer, targets).total + self.weights["mutual"] * peers
        return Loss(total, {**own.parts, "mutual": peers})

    def _one(self, answer: ModelOutput, targets: Targets) -> Loss:
        total, parts = answer.logits.new_zeros(()), {}
        for name, weight in self.weights.items():
            if name == "mutual":
                continue
            term, parts[name] = self._term(name, answer, targets)
            total = total + weight * term
        return Loss(total, parts)

    def _term(self, name: str, answer: ModelOutput, targets: Targets) -> tuple[Tensor, Tensor]:
        """What is made small, and what is logged."""
        if name == "labels":
            hard = cross_entropy(answer.logits, targets.labels)
            return hard, hard
        if name in self.hints:
            if targets.layers is None:
                raise ValueError(f"{name}: the teacher's vectors are needed")
            loss: tuple[Tensor, Tensor] = self.hints[name](answer.vector, targets.layers)
            return loss
        if targets.logits is None:
            raise ValueError(f"{name}: teacher_logits are needed")
        term = WITH_LOGITS[name](answer.logits, targets.logits, self.temperature)
        return term, term
