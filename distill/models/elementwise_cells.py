"""Recurrent cells without a matrix between states: each unit depends on the words and on its own past only.

All products with weights are made for the whole text at once, and a time step is a few elementwise operations. The
states of a word are (batch, words, hidden); in the formulas ``*`` is elementwise and s is the sigmoid.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn


class ElementwiseCell(nn.Module):
    """Base class: one linear layer for all gates of one direction.

    Args:
        width: dimension of a word vector.
        hidden: units.
    """

    gates: ClassVar[int]  # parts of the linear layer's output, each ``hidden`` wide
    window: ClassVar[int] = 1  # words that a gate depends on: this one, and those before it
    state_gates: ClassVar[int] = 0  # the last gates, which depend on the unit's own past too

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.linear = nn.Linear(self.window * width, self.gates * hidden)
        self.state_weight = nn.Parameter(torch.zeros(self.state_gates, hidden)) if self.state_gates else None

    def forward(self, vectors: Tensor) -> Tensor:
        """States of one direction: (batch, words, width) -> (batch, words, hidden)."""
        # words first: then a time step is one contiguous block of memory
        gates: Tensor = self.linear(vectors.transpose(0, 1))
        return self.states(*gates.chunk(self.gates, dim=2)).transpose(0, 1)

    def states(self, *gates: Tensor) -> Tensor:
        """States from the gates' inputs, all (words, batch, hidden)."""
        raise NotImplementedError


class MinGRU(ElementwiseCell):
    """Feng et al. 2024 (arXiv 2410.01201): z = s(W_z x), n = tanh(W_n x), h = (1 - z) * h + z * n."""

    gates = 2

    def states(self, *gates: Tensor) -> Tensor:
        """States (words, batch, hidden); the gates are z and n."""
        update, new = gates
        return linear_recurrence((-update).sigmoid(), update.sigmoid() * new.tanh())


class SRU(ElementwiseCell):
    """Lei et al. 2018 (arXiv 1709.02755), without its highway connection.

    f = s(W_f x + v_f * c), r = s(W_r x + v_r * c) with the previous c; then c = f * c + (1 - f) * W x, h = r * tanh(c).
    """

    gates = 3
    state_gates = 2

    def states(self, *gates: Tensor) -> Tensor:
        """States (words, batch, hidden); the gates are the candidate W x, f and r."""
        candidate, forget, reset = gates
        assert self.state_weight is not None  # noqa: S101 (for the type checker)
        forget_weight, reset_weight = self.state_weight
        cells = gated_recurrence(candidate, forget, forget_weight)
        opened: Tensor = (reset + reset_weight * _previous(cells)).sigmoid()
        return opened * cells.tanh()


class QRNN(ElementwiseCell):
    """Bradbury et al. 2017 (arXiv 1611.01576), window 2, fo-pooling: c = f * c + (1 - f) * z, h = o * c.

    z = tanh(W_z [x, x']), f = s(W_f [x, x']), o = s(W_o [x, x']), where x' is the previous word's vector.
    """

    gates = 3
    window = 2

    def forward(self, vectors: Tensor) -> Tensor:
        """States of one direction: (batch, words, width) -> (batch, words, hidden)."""
        return super().forward(torch.cat([vectors, _previous(vectors.transpose(0, 1)).transpose(0, 1)], dim=2))

    def states(self, *gates: Tensor) -> Tensor:
        """States (words, batch, hidden); the gates are z, f and o."""
        new, forget, output = gates
        cells = linear_recurrence(forget.sigmoid(), (-forget).sigmoid() * new.tanh())
        return output.sigmoid() * cells


ELEMENTWISE_CELLS: dict[str, type[ElementwiseCell]] = {"mingru": MinGRU, "sru": SRU, "qrnn": QRNN}


class BidirectionalCells(nn.Module):
    """A cell for each direction."""

    def __init__(self, cell: str, width: int, hidden: int) -> None:
        super().__init__()
        self.ahead = ELEMENTWISE_CELLS[cell](width, hidden)
        self.back = ELEMENTWISE_CELLS[cell](width, hidden)


def linear_recurrence(keep: Tensor, new: Tensor) -> Tensor:
    """H = keep * h + new over the first dimension, with h = 0 before it; all (words, batch, hidden)."""
    function = linear_loop if torch.onnx.is_in_onnx_export() else _LinearRecurrence.apply
    states: Tensor = function(keep, new)  # type: ignore[no-untyped-call]
    return states


def gated_recurrence(candidate: Tensor, forget: Tensor, weight: Tensor) -> Tensor:
    """C = f * c + (1 - f) * candidate with f = s(forget + weight * c); (words, batch, hidden), ``weight`` (hidden,)."""
    function = gated_loop if torch.onnx.is_in_onnx_export() else _GatedRecurrence.apply
    cells: Tensor = function(candidate, forget, weight)  # type: ignore[no-untyped-call]
    return cells


def _previous(values: Tensor) -> Tensor:
    """The values of the step before, zeros for the first; (words, …)."""
    return torch.cat([torch.zeros_like(values[:1]), values[:-1]])


def _scan_backwards(keep: Tensor, gradients: Tensor) -> Tensor:
    """The gradients of all states: g[t] = gradients[t] + keep[t + 1] * g[t + 1]."""
    totals = gradients.clone(memory_format=torch.contiguous_format)
    for step in range(len(totals) - 2, -1, -1):
        totals[step].addcmul_(keep[step + 1], totals[step + 1])
    return totals


class _LinearRecurrence(torch.autograd.Function):
    """One operation per step, forwards and backwards; autograd would record three and fill three gradients."""

    @staticmethod
    def forward(ctx: Any, keep: Tensor, new: Tensor) -> Tensor:
        states = new.clone(memory_format=torch.contiguous_format)
        for step in range(1, len(states)):
            states[step].addcmul_(keep[step], states[step - 1])
        ctx.save_for_backward(keep, states)
        return states

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor]:
        keep, states = ctx.saved_tensors
        totals = _scan_backwards(keep, gradients[0])
        return totals * _previous(states), totals


class _GatedRecurrence(torch.autograd.Function):
    """As :class:`_LinearRecurrence`: its gradients form a linear recurrence too, dc[t] / dc[t - 1] being ``keep``."""

    @staticmethod
    def forward(ctx: Any, candidate: Tensor, forget: Tensor, weight: Tensor) -> Tensor:
        cells, gates = torch.empty_like(candidate), forget.clone(memory_format=torch.contiguous_format)
        cell = torch.zeros_like(candidate[0])
        for step in range(len(cells)):
            gate = gates[step].addcmul_(weight, cell).sigmoid_()
            cell = torch.lerp(candidate[step], cell, gate, out=cells[step])
        ctx.save_for_backward(candidate, gates, weight, cells)
        return cells

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        candidate, gates, weight, cells = ctx.saved_tensors
        before = _previous(cells)
        by_gate = (before - candidate) * gates * (1 - gates)  # dc / d(the gate's input)
        totals = _scan_backwards(gates + by_gate * weight, gradients[0])
        of_gate = totals * by_gate
        return totals * (1 - gates), of_gate, (of_gate * before).sum((0, 1))


@torch.jit.script
def linear_loop(keep: Tensor, new: Tensor) -> Tensor:
    """:func:`linear_recurrence` as a plain loop, which becomes an ONNX loop."""
    states: list[Tensor] = []
    state = torch.zeros_like(new[0])
    for step in range(new.size(0)):
        state = keep[step] * state + new[step]
        states.append(state)
    return torch.stack(states)


@torch.jit.script
def gated_loop(candidate: Tensor, forget: Tensor, weight: Tensor) -> Tensor:
    """:func:`gated_recurrence` as a plain loop, which becomes an ONNX loop."""
    cells: list[Tensor] = []
    cell = torch.zeros_like(candidate[0])
    for step in range(candidate.size(0)):
        gate = torch.sigmoid(forget[step] + weight * cell)
        cell = gate * cell + (1 - gate) * candidate[step]
        cells.append(cell)
    return torch.stack(cells)
