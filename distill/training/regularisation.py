"""What a teacher's training may add to its loss: agreement with itself under dropout, and adversarial word pieces."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from distill.text.batching import ModelOutput
from distill.training.losses import Loss, soft_symmetric


@dataclass(frozen=True)
class Regularisation:
    """How much of each; 0: none.

    ``r_drop`` is the weight of :func:`disagreement`, ``adversarial`` the length of the step that makes the embeddings
    of a batch worse (see :func:`perturbed`).
    """

    r_drop: float = 0.0
    adversarial: float = 0.0


NOTHING = Regularisation()


def disagreement(first: Tensor, second: Tensor) -> Tensor:
    """``(KL(p ‖ q) + KL(q ‖ p)) / 2`` of two logits (batch, classes), mean over the batch; R-Drop, Liang et al. 2021.

    arXiv 2106.14448, eq. 2: the same texts twice through the network, each time with other dropout.
    """
    return soft_symmetric(first, second, 1.0)


def twice(ask: Callable[[], ModelOutput], loss_of: Callable[[ModelOutput], Loss], weight: float) -> Loss:
    """The mean loss of two passes, and ``weight`` times their disagreement (R-Drop)."""
    answers = ask(), ask()
    first, second = (loss_of(answer) for answer in answers)
    apart = disagreement(answers[0].logits, answers[1].logits)
    parts = {name: (part + second.parts[name]) / 2 for name, part in first.parts.items()}
    return Loss((first.total + second.total) / 2 + weight * apart, {**parts, "r_drop": apart})


@contextlib.contextmanager
def perturbed(table: nn.Parameter, length: float) -> Iterator[None]:
    """Within the block ``table`` is a step of ``length`` further along its gradient, where the loss is higher.

    The fast gradient method on word embeddings, Miyato et al. 2017 (arXiv 1605.07725, eq. 5): ``r = ε g / ‖g‖``. The
    gradient of the loss within the block is to be added to the one outside. Without a gradient nothing moves.
    """
    kept = table.detach().clone()
    if table.grad is not None:
        with torch.no_grad():
            table.add_(table.grad, alpha=length / max(float(table.grad.norm()), 1e-12))
    try:
        yield
    finally:
        with torch.no_grad():
            table.copy_(kept)
