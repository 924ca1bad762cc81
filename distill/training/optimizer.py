"""AdamW that pays for the rows of a table that a batch used, not for the whole table; and one gradient norm for all."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

BETAS = (0.9, 0.999)
EPSILON = 1e-8
WEIGHT_DECAY = 0.01
WARM_UP = 0.1  # share of the steps
LARGEST_GRADIENT = 1.0


class RowAdamW(torch.optim.Optimizer):
    """AdamW (Loshchilov and Hutter 2019, arXiv 1711.05101) for embedding tables with sparse gradients.

    A row's moments, its weight and its weight decay change only in steps whose batch used the row, as in
    ``torch.optim.SparseAdam``. Dense AdamW moves a row for a dozen steps more, by momentum alone; a table's learning
    rate is chosen for this optimizer. Bias correction counts the optimizer's steps.

    Args:
        groups: parameter groups as for any optimizer; every gradient must be sparse (``nn.Embedding(sparse=True)``).
        weight_decay: of the rows that a step uses.
    """

    def __init__(self, groups: Iterable[dict[str, Any]], weight_decay: float) -> None:
        super().__init__(groups, {"lr": 0.0, "weight_decay": weight_decay})
        self.steps = 0

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Update the rows that the coalesced gradients name (see :func:`coalesce`)."""
        self.steps += 1
        first, second = (1 - beta**self.steps for beta in BETAS)
        for group in self.param_groups:
            for table in group["params"]:
                if table.grad is not None:
                    self._update(table, group["lr"], group["weight_decay"], (first, second))

    def _update(self, table: Tensor, rate: float, decay: float, corrections: tuple[float, float]) -> None:
        gradient: Any = table.grad
        rows, values = gradient._indices()[0], gradient._values()  # (rows,), (rows, width)
        state = self.state[table]
        if not state:
            state["mean"], state["square"] = torch.zeros_like(table), torch.zeros_like(table)
        mean = state["mean"].index_select(0, rows).lerp_(values, 1 - BETAS[0])
        square = state["square"].index_select(0, rows).mul_(BETAS[1]).addcmul_(values, values, value=1 - BETAS[1])
        state["mean"].index_copy_(0, rows, mean)
        state["square"].index_copy_(0, rows, square)
        size = square.div_(corrections[1]).sqrt_().add_(EPSILON)
        weights = table.index_select(0, rows).mul_(1 - rate * decay).addcdiv_(mean, size, value=-rate / corrections[0])
        table.index_copy_(0, rows, weights)


def optimizers(groups: list[dict[str, Any]]) -> list[torch.optim.Optimizer]:
    """AdamW for the groups of tables that are used row by row (marked ``by_rows``), and for all others."""
    tables = [group for group in groups if group.get("by_rows")]
    others = [group for group in groups if not group.get("by_rows")]
    made: list[torch.optim.Optimizer] = [RowAdamW(tables, WEIGHT_DECAY)] if tables else []
    return [*made, torch.optim.AdamW(others, weight_decay=WEIGHT_DECAY, fused=True)] if others else made


class Descent:
    """The optimizers of parameter ``groups`` and their learning rates, which rise and fall over so many ``steps``.

    The rates in ``groups`` are peaks of a linear warm-up and decay.
    """

    def __init__(self, groups: list[dict[str, Any]], steps: int) -> None:
        self.parameters = [parameter for group in groups for parameter in group["params"]]
        self._optimizers = optimizers(groups)
        self._schedulers = [
            torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: warm_up_and_decay(step, steps))
            for optimizer in self._optimizers
        ]

    @property
    def learning_rate(self) -> float:
        """Of the first of the last optimizer's groups."""
        return float(self._schedulers[-1].get_last_lr()[0])

    def zero_grad(self) -> None:
        """Forget the gradients."""
        for optimizer in self._optimizers:
            optimizer.zero_grad(set_to_none=True)

    def step(self) -> None:
        """One step down the gradients, clipped together."""
        coalesce(self.parameters)
        clip(self.parameters, LARGEST_GRADIENT)
        for optimizer, scheduler in zip(self._optimizers, self._schedulers, strict=True):
            optimizer.step()
            scheduler.step()


def coalesce(parameters: Iterable[nn.Parameter]) -> None:
    """Give every sparse gradient one entry a row, the sum of its entries."""
    for parameter in parameters:
        gradient: Any = parameter.grad
        if gradient is not None and gradient.is_sparse and not gradient.is_coalesced():
            # PyTorch's own coalesce sorts the entries; numbering the rows is quicker
            rows, places = gradient._indices()[0].unique(return_inverse=True)
            values = gradient._values()
            sums = values.new_zeros(len(rows), values.shape[1]).index_add_(0, places, values)
            parameter.grad = torch.sparse_coo_tensor(
                rows[None], sums, gradient.shape, is_coalesced=True, check_invariants=False
            )


def clip(parameters: Iterable[nn.Parameter], largest: float) -> None:
    """Shrink all gradients together to the norm ``largest`` where theirs is larger; sparse ones must be coalesced."""
    gradients: list[Any] = [parameter.grad for parameter in parameters if parameter.grad is not None]
    values = [gradient._values() if gradient.is_sparse else gradient for gradient in gradients]
    norm = nn.utils.get_total_norm(values)
    torch._foreach_mul_(values, (largest / (norm + 1e-6)).clamp(max=1.0))


def running_mean(model: nn.Module, share: float) -> torch.optim.swa_utils.AveragedModel:
    """A copy whose weights follow the model's: each step ``share`` of the old, less in the first steps."""

    def update(means: Any, weights: Any, count: Any) -> None:
        young = (1 + int(count)) / (10 + int(count))
        torch._foreach_lerp_(means, weights, 1 - min(share, young))

    return torch.optim.swa_utils.AveragedModel(model, multi_avg_fn=torch.no_grad()(update))


def warm_up_and_decay(step: int, steps: int) -> float:
    """Share of the peak learning rate: linear from near 0 to 1 in the first tenth, then linear to 0."""
    warm = max(1, round(WARM_UP * steps))
    return (step + 1) / warm if step < warm else max(0.0, (steps - step) / max(1, steps - warm))
