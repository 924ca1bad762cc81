"""A network for several tasks: its outputs are the tasks' heads one after another, each with its own objective.

Caruana 1997, "Multitask Learning", Machine Learning 28: the tasks share everything below the heads.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from distill.data import UNLABELLED
from distill.progress import log
from distill.text.batching import ModelOutput
from distill.training.losses import Loss, Objective, Targets

SAMPLING_EXPONENT = 0.5  # tasks of n texts are drawn in proportion to n to this power: a small one is not drowned
MAX_RATIO = 2.0  # between the tasks' numbers of texts, up to which every text is drawn once per epoch


@dataclass(frozen=True)
class Head:
    """The part of a network's outputs, and of the labels, that belongs to one task.

    Args:
        name: of the task.
        logits: its columns of the logits (B, classes of all tasks).
        labels: its columns of the labels: one with class numbers or, if ``is_multi_label``, one per class.
        is_multi_label: whether a text has any number of the task's labels.
    """

    name: str
    logits: slice
    labels: slice
    is_multi_label: bool

    def labels_of(self, labels: Tensor) -> Tensor:
        """The task's labels, shape (B,) or (B, classes), as :class:`Targets` has them for a single task."""
        own = labels[:, self.labels]
        return own if self.is_multi_label else own[:, 0].long()

    def output_of(self, output: ModelOutput) -> ModelOutput:
        """The task's part of an output."""
        peer = output.peer and self.output_of(output.peer)
        return replace(output, logits=output.logits[:, self.logits], peer=peer)


def make_heads(names: Sequence[str], classes: Sequence[int], are_multi_label: Sequence[bool]) -> tuple[Head, ...]:
    """The heads of tasks with these numbers of classes, one after another."""
    heads, first, column = [], 0, 0
    for name, count, is_multi_label in zip(names, classes, are_multi_label, strict=True):
        width = count if is_multi_label else 1
        heads.append(Head(name, slice(first, first + count), slice(column, column + width), is_multi_label))
        first, column = first + count, column + width
    return tuple(heads)


def wide_labels(labels: Sequence[Tensor]) -> Tensor:
    """The labels of all tasks side by side, from those of each: (texts,) class numbers or (texts, classes)."""
    return torch.cat([one.float().reshape(len(one), -1) for one in labels], 1)


def is_labelled(labels: Tensor) -> Tensor:
    """Which texts have a label for a task, shape (texts,)."""
    return (labels if labels.dim() == 1 else labels[:, 0]) != UNLABELLED


def sampling_weights(labels: Tensor, heads: Sequence[Head]) -> Tensor | None:
    """How often each text is drawn, (texts,), so that small tasks are not drowned; None: every text once per epoch.

    A text of several tasks counts to the smallest. Those without any label keep their share of an epoch.
    """
    groups = torch.stack([is_labelled(head.labels_of(labels)) for head in heads], 1)
    sizes, has_label = groups.sum(0), groups.any(1)
    if sizes.max() <= MAX_RATIO * sizes[sizes > 0].min():
        return None
    weights = (groups * sizes.clamp(min=1).double() ** (SAMPLING_EXPONENT - 1)).amax(1)
    weights[~has_label] = weights[has_label].mean()
    shares = (100 * (groups * weights[:, None]).sum(0) / weights.sum()).tolist()
    shown = ", ".join(f"{head.name} {share:.0f} %" for head, share in zip(heads, shares, strict=True) if share)
    log.info("texts of small tasks are drawn more often: %s of an epoch", shown)
    return weights


class JointObjective(nn.Module):
    """The weighted sum of the tasks' objectives, or with learnt weights ``Σ_k exp(−s_k) · L_k + s_k``.

    The latter are the uncertainty weights of Kendall et al. 2018, arXiv 1705.07115, eq. 7, with one s_k per task.

    Args:
        heads: of the tasks.
        objectives: of the tasks, in the same order.
        weights: of the tasks; None: learnt.
    """

    def __init__(self, heads: Sequence[Head], objectives: Sequence[Objective], weights: Sequence[float] | None) -> None:
        super().__init__()
        self.heads, self.objectives, self.weights = tuple(heads), tuple(objectives), weights
        self.trained = nn.ModuleList(objective for objective in objectives if isinstance(objective, nn.Module))
        self.uncertainties = nn.Parameter(torch.zeros(len(heads)), requires_grad=weights is None)

    def forward(self, output: ModelOutput, targets: Targets) -> Loss:
        """The loss of a batch; ``parts`` names every term after its task."""
        total, parts = output.logits.new_zeros(()), dict[str, Tensor]()
        for index, (head, objective) in enumerate(zip(self.heads, self.objectives, strict=True)):
            loss = objective(head.output_of(output), self._targets(index, targets))
            parts |= {f"{head.name}/{name}": part for name, part in loss.parts.items()}
            if self.weights is None:
                uncertainty = self.uncertainties[index]
                total = total + torch.exp(-uncertainty) * loss.total + uncertainty
            else:
                total = total + self.weights[index] * loss.total
        return Loss(total, parts)

    def _targets(self, index: int, targets: Targets) -> Targets:
        """A task's targets; ``answered`` of all tasks is (B, tasks)."""
        head, logits, answered = self.heads[index], targets.teacher_logits, targets.answered
        return Targets(
            head.labels_of(targets.labels),
            None if logits is None else logits[:, head.logits],
            answered=None if answered is None else answered[:, index],
        )


def part_of(classifier: nn.Linear, columns: slice) -> nn.Linear:
    """A classifier of some of the outputs, with copies of their weights."""
    part = nn.Linear(classifier.in_features, columns.stop - columns.start, device=classifier.weight.device)
    part.load_state_dict({name: values[columns].clone() for name, values in classifier.state_dict().items()})
    return part
