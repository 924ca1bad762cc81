"""Training objectives: one plain function per loss term, and the weighted sum of the terms.

Notation: batch size B, number of classes C, student logits z_S and teacher logits z_T of shape (B, C), temperature τ.
Every loss is a scalar, in nats where it is a cross-entropy or a divergence.

In multi-label data every class is a question of its own, with the probability sigmoid(z) = softmax((z, 0))₁: the terms
are those of C problems with two classes each, and their sum over C.

Where labels are paths, ``ancestors`` (L, C) hold the number of every class's ancestor on each of L levels above.
"""

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
    """What a batch is trained towards.

    Shapes: ``labels`` (B,) class numbers or, in multi-label data, (B, C) with 1 for every class that a text has;
    ``UNLABELLED`` where the label is unknown; ``teacher_logits`` (B, C); ``teacher_layers``
    (B, layers, width), the teacher's standardised text vectors per layer, the last layer last; ``answered`` (B,), which
    texts the teachers have labelled, None: all.
    """

    labels: Tensor
    teacher_logits: Tensor | None = None
    teacher_layers: Tensor | None = None
    answered: Tensor | None = None


@dataclass(frozen=True)
class Loss:
    """The scalar to minimise, and its unweighted terms by name for the log."""

    total: Tensor
    parts: dict[str, Tensor]


Objective = Callable[[ModelOutput, Targets], Loss]
LEVELS = "levels"  # the term of the labels' ancestors


def labels_only(label_smoothing: float = 0.0, ancestors: Tensor | None = None, level_weight: float = 0.0) -> Objective:
    """Return an objective that is cross-entropy with the labels; it trains the teacher.

    With ``ancestors`` (L, C), ``level_weight`` times the cross-entropy with the labels' ancestors is added.
    """

    def objective(output: ModelOutput, targets: Targets) -> Loss:
        hard = cross_entropy(output.logits, targets.labels, label_smoothing)
        if ancestors is None:
            return Loss(hard, {"labels": hard})
        levels = ancestor_cross_entropy(output.logits, targets.labels, ancestors, label_smoothing)
        return Loss(hard + level_weight * levels, {"labels": hard, LEVELS: levels})

    return objective


def cross_entropy(student_logits: Tensor, labels: Tensor, label_smoothing: float = 0.0) -> Tensor:
    """Cross-entropy with the hard targets, averaged over the labelled texts; 0 if the batch has none.

    Shapes: ``student_logits`` (B, C), ``labels`` (B,) or (B, C), where ``UNLABELLED`` marks texts that are left out.
    """
    if labels.dim() == 2:
        return _binary_cross_entropy(student_logits, labels, label_smoothing)
    total = F.cross_entropy(
        student_logits, labels, ignore_index=UNLABELLED, reduction="sum", label_smoothing=label_smoothing
    )
    return total / (labels != UNLABELLED).sum().clamp(min=1)


def _binary_cross_entropy(student_logits: Tensor, labels: Tensor, label_smoothing: float) -> Tensor:
    """Sum over C, mean over the labelled texts; smoothing moves targets towards 1/2."""
    labelled = labels[:, 0] != UNLABELLED
    targets = labels * (1 - label_smoothing) + label_smoothing / 2
    losses = F.binary_cross_entropy_with_logits(student_logits, targets, reduction="none").sum(1)
    return losses[labelled].sum() / labelled.sum().clamp(min=1)


def ancestor_cross_entropy(
    student_logits: Tensor, labels: Tensor, ancestors: Tensor, label_smoothing: float = 0.0
) -> Tensor:
    """Cross-entropy with the ancestors of the hard targets: mean over the labelled texts, sum over L.

    Shapes: ``student_logits`` (B, C), ``labels`` (B,), ``ancestors`` (L, C).
    """
    ancestors, total = ancestors.to(student_logits.device), student_logits.new_zeros(())
    for level in ancestors:
        of_labels = torch.where(labels == UNLABELLED, labels, level[labels.clamp(min=0)])
        total = total + cross_entropy(ancestor_logits(student_logits, level), of_labels, label_smoothing)
    return total


def ancestor_logits(logits: Tensor, ancestors: Tensor) -> Tensor:
    """Logits of the A ancestors on one level, ``z_a = log Σ exp(z_c)`` over the classes c below a.

    So ``softmax(z)_a`` is the sum of the probabilities of these classes. Shapes: ``logits`` (B, C), ``ancestors`` (C,),
    each of 0 to A − 1; returns (B, A).
    """
    index, count = ancestors.expand_as(logits), int(ancestors.max()) + 1
    lowest = logits.detach().new_full((len(logits), count), -torch.inf)
    highest = lowest.scatter_reduce(1, index, logits.detach(), "amax")  # of the classes below each; keeps exp(·) ≤ 1
    sums = torch.zeros_like(highest).index_add(1, ancestors, (logits - highest.gather(1, index)).exp())
    return highest + sums.log()


def logits_mse(student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
    """Squared error between the raw logits, ``mean((z_S − z_T)²)`` over B · C; no temperature.

    Tang et al. 2019, "Distilling Task-Specific Knowledge from BERT into Simple Neural Networks", arXiv 1903.12136,
    eq. 4.
    """
    return F.mse_loss(student_logits, teacher_logits)


def soft_target_kl(student_logits: Tensor, teacher_logits: Tensor, temperature: float) -> Tensor:
    """Forward divergence ``τ² · KL(softmax(z_T / τ) ‖ softmax(z_S / τ))``: sum over C, mean over B.

    Hinton, Vinyals and Dean 2015, "Distilling the Knowledge in a Neural Network", arXiv 1503.02531, section 2. The
    gradient of the divergence shrinks as 1/τ²; the factor τ² undoes that, so a weight means the same at every τ. This
    is the only line that applies τ² to a divergence.
    """
    student, teacher = _log_softmax(student_logits, temperature), _log_softmax(teacher_logits, temperature)
    return temperature**2 * F.kl_div(student, teacher, reduction="batchmean", log_target=True)


def soft_target_reverse_kl(student_logits: Tensor, teacher_logits: Tensor, temperature: float) -> Tensor:
    """Reverse divergence ``τ² · KL(softmax(z_S / τ) ‖ softmax(z_T / τ))``: sum over C, mean over B.

    It is mode-seeking: probability that the student puts where the teacher has none is expensive; leaving out a class
    that the teacher finds likely is cheap.
    """
    return soft_target_kl(teacher_logits, student_logits, temperature)


def soft_target_symmetric_kl(student_logits: Tensor, teacher_logits: Tensor, temperature: float) -> Tensor:
    """The mean of forward and reverse divergence, half of Jeffreys' divergence; τ² is in both."""
    forward = soft_target_kl(student_logits, teacher_logits, temperature)
    return (forward + soft_target_reverse_kl(student_logits, teacher_logits, temperature)) / 2


def dist(student_logits: Tensor, teacher_logits: Tensor, temperature: float) -> Tensor:
    """Correlation loss ``τ² · (mean_b(1 − ρ(p_S[b, :], p_T[b, :])) + mean_c(1 − ρ(p_S[:, c], p_T[:, c])))``.

    Huang et al. 2022, "Knowledge Distillation from A Stronger Teacher" (DIST), arXiv 2205.10536, eq. 8 to 11. ρ is
    Pearson's correlation and p = softmax(z / τ): the first term compares the classes of each text (inter-class), the
    second one the texts of each class (intra-class).
    """
    student, teacher = (logits / temperature for logits in (student_logits, teacher_logits))
    return temperature**2 * _correlation_loss(student.softmax(1), teacher.softmax(1))


def _multi_label_dist(student_logits: Tensor, teacher_logits: Tensor, temperature: float) -> Tensor:
    """:func:`dist` of the probabilities sigmoid(z / τ)."""
    student, teacher = (logits / temperature for logits in (student_logits, teacher_logits))
    return temperature**2 * _correlation_loss(student.sigmoid(), teacher.sigmoid())


def _correlation_loss(student: Tensor, teacher: Tensor) -> Tensor:
    inter_class = 1 - _correlation(student, teacher).mean()
    intra_class = 1 - _correlation(student.T, teacher.T).mean()
    return inter_class + intra_class


def _correlation(first: Tensor, second: Tensor) -> Tensor:
    """Pearson's correlation of corresponding rows: (rows, columns), (rows, columns) -> (rows,)."""
    first, second = (values - values.mean(1, keepdim=True) for values in (first, second))
    return F.cosine_similarity(first, second, dim=1, eps=1e-8)


def mutual_learning(student_logits: Tensor, peer_logits: Tensor) -> Tensor:
    """``KL(softmax(z_peer) ‖ softmax(z_S))`` with τ = 1: sum over C, mean over B; no gradient reaches the peer.

    Zhang et al. 2018, "Deep Mutual Learning", arXiv 1706.00384, eq. 2.
    """
    return soft_target_kl(student_logits, peer_logits.detach(), 1.0)


def _log_softmax(logits: Tensor, temperature: float) -> Tensor:
    return F.log_softmax(logits / temperature, dim=1)


LogitTerm = Callable[[Tensor, Tensor, float], Tensor]  # (student_logits, teacher_logits, temperature) -> scalar


def per_class(term: LogitTerm) -> LogitTerm:
    """A divergence for multi-label data: that of C problems with the logits (z, 0), summed over C."""

    def summed(student_logits: Tensor, teacher_logits: Tensor, temperature: float) -> Tensor:
        student, teacher = (F.pad(logits.reshape(-1, 1), (0, 1)) for logits in (student_logits, teacher_logits))
        return student_logits.shape[1] * term(student, teacher, temperature)

    return summed


# The terms of --objective that compare logits.
LOGIT_TERMS: dict[str, LogitTerm] = {
    "logits": lambda student_logits, teacher_logits, _: logits_mse(student_logits, teacher_logits),
    "soft": soft_target_kl,
    "soft_reverse": soft_target_reverse_kl,
    "soft_symmetric": soft_target_symmetric_kl,
    "dist": dist,
}
MULTI_LABEL_TERMS: dict[str, LogitTerm] = {
    "logits": LOGIT_TERMS["logits"],
    "soft": per_class(soft_target_kl),
    "soft_reverse": per_class(soft_target_reverse_kl),
    "soft_symmetric": per_class(soft_target_symmetric_kl),
    "dist": _multi_label_dist,
}


def mutual_learning_per_class(student_logits: Tensor, peer_logits: Tensor) -> Tensor:
    """:func:`mutual_learning` for multi-label data, summed over C."""
    return MULTI_LABEL_TERMS["soft"](student_logits, peer_logits.detach(), 1.0)


class Hint(nn.Module):
    """Squared error between the student's text vector, linearly projected, and the teacher's text vectors.

    Romero et al. 2015, "FitNets: Hints for Thin Deep Nets", arXiv 1412.6550, eq. 3.

    Args:
        width: width of the student's vector.
        layers: how many teacher layers to imitate, counted from the last; each has its own projection.
        teacher_width: width of the teacher's vectors.
    """

    def __init__(self, width: int, layers: int, teacher_width: int) -> None:
        super().__init__()
        self.projections = nn.ModuleList(nn.Linear(width, teacher_width) for _ in range(layers))
        self.uncertainties = nn.Parameter(torch.zeros(layers), requires_grad=layers > 1)

    def forward(self, vector: Tensor, teacher_layers: Tensor) -> tuple[Tensor, Tensor]:
        """Return the weighted loss, and the plain mean squared error for the log.

        With e_i the mean squared error of layer i over B and the teacher's width, and s_i learned (0 and fixed for a
        single layer), the loss is ``mean_i(exp(−s_i) · e_i + s_i)``: the uncertainty weights of Kendall et al. 2018,
        arXiv 1705.07115, eq. 7. Weights that are merely normalised would all go to the layer that is easiest to
        imitate.

        Shapes: ``vector`` (B, width), ``teacher_layers`` (B, layers or more, teacher width), the last layer last.
        """
        imitated = teacher_layers[:, -len(self.projections) :]
        errors = torch.stack(
            [F.mse_loss(project(vector), imitated[:, i]) for i, project in enumerate(self.projections)]
        )
        weighted = torch.exp(-self.uncertainties) * errors + self.uncertainties
        return weighted.mean(), errors.mean()


class Distillation(nn.Module):
    """The objective of a student: the weighted sum of its terms. A module, because hints have trainable projections.

    Args:
        weights: weight of every term by its name (see ``ObjectiveSettings.weights``); a term of weight 0 is left out.
        temperature: τ of the soft targets and of ``dist``.
        width: width of the student's vector, for hints.
        teacher_layers: number and width of the teacher's layers, for hints.
        is_multi_label: whether a text may have any number of labels.
        ancestors: (L, C) of labels that are paths; None: they are not.
        level_weight: weight of the cross-entropy with the labels' ancestors, where that with the labels has 1.
    """

    def __init__(
        self,
        weights: Mapping[str, float],
        temperature: float,
        width: int,
        teacher_layers: tuple[int, int] = (0, 0),
        *,
        is_multi_label: bool = False,
        ancestors: Tensor | None = None,
        level_weight: float = 0.0,
    ) -> None:
        super().__init__()
        self.ancestors = ancestors
        of_levels = 0.0 if ancestors is None else level_weight * weights.get("labels", 0.0)
        self.weights = {name: weight for name, weight in {**weights, LEVELS: of_levels}.items() if weight}
        self.temperature = temperature
        self.logit_terms = MULTI_LABEL_TERMS if is_multi_label else LOGIT_TERMS
        self.mutual = mutual_learning_per_class if is_multi_label else mutual_learning
        layers, teacher_width = teacher_layers
        imitated = {"hint": 1, "hint_layers": layers}  # number of layers, by term
        self.hints = nn.ModuleDict(
            {name: Hint(width, count, teacher_width) for name, count in imitated.items() if name in self.weights}
        )

    def forward(self, output: ModelOutput, targets: Targets) -> Loss:
        """The loss of one student, or the sum for two mutual students (``output.peer``).

        For two students, ``parts`` holds the terms of the first and the sum of both mutual divergences.

        Raises:
            ValueError: a term needs teacher outputs that ``targets`` lacks.
        """
        student = self._single_student(output, targets)
        if output.peer is None:
            return student
        first, second = output.logits, output.peer.logits
        divergences = self.mutual(first, second) + self.mutual(second, first)
        peer = self._single_student(output.peer, targets)
        total = student.total + peer.total + self.weights["mutual"] * divergences
        return Loss(total, {**student.parts, "mutual": divergences})

    def _single_student(self, output: ModelOutput, targets: Targets) -> Loss:
        total, parts = output.logits.new_zeros(()), {}
        for name, weight in self.weights.items():
            if name == "mutual":
                continue
            term, parts[name] = self._term(name, output, targets)
            total = total + weight * term
        return Loss(total, parts)

    def _term(self, name: str, output: ModelOutput, targets: Targets) -> tuple[Tensor, Tensor]:
        """The term to minimise and its value for the log; they differ for hints only."""
        if name == "labels":
            hard = cross_entropy(output.logits, targets.labels)
            return hard, hard
        if name == LEVELS and self.ancestors is not None:
            levels = ancestor_cross_entropy(output.logits, targets.labels, self.ancestors)
            return levels, levels
        if name in self.hints:
            if targets.teacher_layers is None:
                raise ValueError(f"{name}: the teacher's vectors are needed")
            loss: tuple[Tensor, Tensor] = self.hints[name](output.vector, targets.teacher_layers)
            return loss
        if targets.teacher_logits is None:
            raise ValueError(f"{name}: teacher_logits are needed")
        term = self._logit_term(name, output.logits, targets.teacher_logits, targets.answered)
        return term, term

    def _logit_term(self, name: str, logits: Tensor, teacher_logits: Tensor, answered: Tensor | None) -> Tensor:
        """A term over the texts that the teachers have labelled; 0 if the batch has none."""
        if answered is None:
            return self.logit_terms[name](logits, teacher_logits, self.temperature)
        if not answered.any():
            return logits.sum() * 0
        return self.logit_terms[name](logits[answered], teacher_logits[answered], self.temperature)
