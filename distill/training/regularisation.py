"""Two regularisers for the teacher: R-Drop (consistency under dropout) and FGM (adversarial embeddings)."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from distill.text.batching import ModelOutput
from distill.training.losses import LOGIT_TERMS, MULTI_LABEL_TERMS, Loss


@dataclass(frozen=True)
class Regularisation:
    """Strength of each regulariser; 0 turns it off.

    ``r_drop`` is the weight of :func:`r_drop_divergence`, ``adversarial`` the length ε of the step in
    :func:`adversarial_embeddings`.
    """

    r_drop: float = 0.0
    adversarial: float = 0.0


NO_REGULARISATION = Regularisation()


def r_drop_divergence(first_logits: Tensor, second_logits: Tensor, *, is_multi_label: bool = False) -> Tensor:
    """``(KL(p ‖ q) + KL(q ‖ p)) / 2`` of two forward passes with different dropout: sum over C, mean over B.

    Liang et al. 2021, "R-Drop: Regularized Dropout for Neural Networks", arXiv 2106.14448, eq. 2. Both logits have
    shape (B, C).
    """
    terms = MULTI_LABEL_TERMS if is_multi_label else LOGIT_TERMS
    return terms["soft_symmetric"](first_logits, second_logits, 1.0)


def r_drop_loss(
    forward: Callable[[], ModelOutput],
    objective: Callable[[ModelOutput], Loss],
    weight: float,
    *,
    is_multi_label: bool = False,
) -> Loss:
    """Call ``forward`` twice; return the mean of both losses plus ``weight`` times their divergence."""
    outputs = forward(), forward()
    first, second = (objective(output) for output in outputs)
    divergence = r_drop_divergence(outputs[0].logits, outputs[1].logits, is_multi_label=is_multi_label)
    parts = {name: (part + second.parts[name]) / 2 for name, part in first.parts.items()}
    return Loss((first.total + second.total) / 2 + weight * divergence, {**parts, "r_drop": divergence})


@contextlib.contextmanager
def adversarial_embeddings(table: nn.Parameter, epsilon: float) -> Iterator[None]:
    """Move an embedding table by ``ε · g / ‖g‖`` within the block, where g is its gradient; restore it afterwards.

    The fast gradient method on word embeddings: Miyato et al. 2017, "Adversarial Training Methods for Semi-Supervised
    Text Classification", arXiv 1605.07725, eq. 5. The caller adds the gradient of the loss within the block to the
    gradient from before. A table without a gradient is not moved.
    """
    original = table.detach().clone()
    if table.grad is not None:
        with torch.no_grad():
            table.add_(table.grad, alpha=epsilon / max(float(table.grad.norm()), 1e-12))
    try:
        yield
    finally:
        with torch.no_grad():
            table.copy_(original)
