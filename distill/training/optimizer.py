"""AdamW with row-wise updates for embedding tables, learning-rate schedule, gradient clipping, weight averaging."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

BETAS = (0.9, 0.999)
EPSILON = 1e-8
WEIGHT_DECAY = 0.01
WARM_UP_SHARE = 0.1  # of the steps
MAX_GRADIENT_NORM = 1.0


class RowAdamW(torch.optim.Optimizer):
    """AdamW for embedding tables with sparse gradients: a step updates only the rows that its batch used.

    Loshchilov and Hutter 2019, "Decoupled Weight Decay Regularization", arXiv 1711.05101. As in
    ``torch.optim.SparseAdam``, the moments, the weights and the weight decay of a row change only in steps that use
    the row. (Dense AdamW keeps moving an unused row for a dozen steps, by momentum alone, so the two need different
    learning rates.) Bias correction counts the optimizer's steps, not the row's.

    Args:
        groups: parameter groups as for any optimizer; every gradient must be sparse (``nn.Embedding(sparse=True)``).
        weight_decay: decoupled decay of the rows that a step uses.
    """

    def __init__(self, groups: Iterable[dict[str, Any]], weight_decay: float) -> None:
        super().__init__(groups, {"lr": 0.0, "weight_decay": weight_decay})
        self.steps = 0

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Update the rows in the gradients, which must be coalesced (:func:`coalesce_sparse_gradients`)."""
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
        denominator = square.div_(corrections[1]).sqrt_().add_(EPSILON)
        weights = table.index_select(0, rows).mul_(1 - rate * decay)
        table.index_copy_(0, rows, weights.addcdiv_(mean, denominator, value=-rate / corrections[0]))


def build_optimizers(groups: list[dict[str, Any]]) -> list[torch.optim.Optimizer]:
    """RowAdamW for the groups that are marked ``by_rows`` (embedding tables), AdamW for all others."""
    tables = [group for group in groups if group.get("by_rows")]
    others = [group for group in groups if not group.get("by_rows")]
    optimizers: list[torch.optim.Optimizer] = [RowAdamW(tables, WEIGHT_DECAY)] if tables else []
    return [*optimizers, torch.optim.AdamW(others, weight_decay=WEIGHT_DECAY, fused=True)] if others else optimizers


class ScheduledOptimizers:
    """The optimizers of all parameter groups, stepped together with one gradient norm and one schedule.

    Args:
        groups: parameter groups; ``lr`` is the peak of a linear warm-up and decay, ``by_rows`` marks embedding tables.
        steps: length of the schedule in training steps.
    """

    def __init__(self, groups: list[dict[str, Any]], steps: int) -> None:
        self.parameters = [parameter for group in groups for parameter in group["params"]]
        self._optimizers = build_optimizers(groups)
        self._schedulers = [
            torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: warm_up_and_decay(step, steps))
            for optimizer in self._optimizers
        ]

    @property
    def learning_rate(self) -> float:
        """Current learning rate, for the log: that of the last optimizer's first group."""
        return float(self._schedulers[-1].get_last_lr()[0])

    def zero_grad(self) -> None:
        """Drop all gradients."""
        for optimizer in self._optimizers:
            optimizer.zero_grad(set_to_none=True)

    def step(self) -> None:
        """Clip the gradients by their common norm, update the parameters and advance the schedule."""
        coalesce_sparse_gradients(self.parameters)
        clip_gradients(self.parameters, MAX_GRADIENT_NORM)
        for optimizer, scheduler in zip(self._optimizers, self._schedulers, strict=True):
            optimizer.step()
            scheduler.step()


def coalesce_sparse_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Sum the entries of every sparse gradient that belong to the same row, so that each row occurs once."""
    for parameter in parameters:
        gradient: Any = parameter.grad
        if gradient is not None and gradient.is_sparse and not gradient.is_coalesced():
            # Faster than Tensor.coalesce(), which sorts all entries.
            rows, row_of_entry = gradient._indices()[0].unique(return_inverse=True)
            values = gradient._values()
            sums = values.new_zeros(len(rows), values.shape[1]).index_add_(0, row_of_entry, values)
            parameter.grad = torch.sparse_coo_tensor(
                rows[None], sums, gradient.shape, is_coalesced=True, check_invariants=False
            )


def clip_gradients(parameters: Iterable[nn.Parameter], max_norm: float) -> None:
    """Scale all gradients, dense and coalesced sparse ones, so that their common L2 norm is at most ``max_norm``."""
    gradients: list[Any] = [parameter.grad for parameter in parameters if parameter.grad is not None]
    values = [gradient._values() if gradient.is_sparse else gradient for gradient in gradients]
    norm = nn.utils.get_total_norm(values)
    torch._foreach_mul_(values, (max_norm / (norm + 1e-6)).clamp(max=1.0))


def weight_ema(model: nn.Module, decay: float) -> torch.optim.swa_utils.AveragedModel:
    """Return a copy of ``model`` that keeps an exponential moving average (EMA) of its weights.

    After n updates, the next one is ``ema = d · ema + (1 − d) · weights`` with ``d = min(decay, (1 + n) / (10 + n))``:
    the smaller decay of the first updates lets the initial weights fade quickly.
    """

    def update(averages: Any, weights: Any, updates: Any) -> None:
        early_decay = (1 + int(updates)) / (10 + int(updates))
        torch._foreach_lerp_(averages, weights, 1 - min(decay, early_decay))

    return torch.optim.swa_utils.AveragedModel(model, multi_avg_fn=torch.no_grad()(update))


def warm_up_and_decay(step: int, steps: int) -> float:
    """Factor of the peak learning rate at ``step``: linear from near 0 to 1 over the first tenth, then linear to 0."""
    warm_up = max(1, round(WARM_UP_SHARE * steps))
    return (step + 1) / warm_up if step < warm_up else max(0.0, (steps - step) / max(1, steps - warm_up))
