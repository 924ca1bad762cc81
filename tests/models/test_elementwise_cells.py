"""The cells without a recurrent matrix: they follow their formulas, and their gradients are those of a plain loop."""

from __future__ import annotations

import pytest
import torch

from distill.models import elementwise_cells
from distill.models.elementwise_cells import (
    ELEMENTWISE_CELLS,
    ElementwiseCell,
    gated_loop,
    gated_recurrence,
    linear_loop,
    linear_recurrence,
)

WIDTH, HIDDEN = 4, 3


def random_cell(cell: str) -> ElementwiseCell:
    torch.manual_seed(0)
    module = ELEMENTWISE_CELLS[cell](WIDTH, HIDDEN).double()
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter)
    return module


@pytest.mark.parametrize("words", [1, 2, 6])
def test_gradients_of_a_linear_recurrence(words: int) -> None:
    keep, new = torch.rand(2, words, 2, 3, dtype=torch.float64, requires_grad=True).unbind()
    assert torch.allclose(linear_recurrence(keep, new), linear_loop(keep, new))
    assert torch.autograd.gradcheck(linear_recurrence, (keep, new))


@pytest.mark.parametrize("words", [1, 2, 6])
def test_gradients_of_a_gated_recurrence(words: int) -> None:
    torch.manual_seed(words)
    candidate, forget = torch.randn(2, words, 2, 3, dtype=torch.float64, requires_grad=True).unbind()
    weight = torch.randn(3, dtype=torch.float64, requires_grad=True)
    assert torch.allclose(gated_recurrence(candidate, forget, weight), gated_loop(candidate, forget, weight))
    assert torch.autograd.gradcheck(gated_recurrence, (candidate, forget, weight))


def test_mingru() -> None:
    cell, vectors = random_cell("mingru"), torch.randn(1, 5, WIDTH, dtype=torch.float64)
    state = torch.zeros(HIDDEN, dtype=torch.float64)
    for vector, computed in zip(vectors[0], cell(vectors)[0], strict=True):
        update, new = cell.linear(vector).chunk(2)
        state = (1 - update.sigmoid()) * state + update.sigmoid() * new.tanh()
        assert torch.allclose(computed, state)


def test_sru() -> None:
    cell, vectors = random_cell("sru"), torch.randn(1, 5, WIDTH, dtype=torch.float64)
    assert cell.state_weight is not None
    forget_weight, reset_weight = cell.state_weight
    state = torch.zeros(HIDDEN, dtype=torch.float64)
    for vector, computed in zip(vectors[0], cell(vectors)[0], strict=True):
        candidate, forget, reset = cell.linear(vector).chunk(3)
        keep, reset = (forget + forget_weight * state).sigmoid(), (reset + reset_weight * state).sigmoid()
        state = keep * state + (1 - keep) * candidate
        assert torch.allclose(computed, reset * state.tanh())


def test_qrnn() -> None:
    cell, vectors = random_cell("qrnn"), torch.randn(1, 5, WIDTH, dtype=torch.float64)
    state, before = torch.zeros(HIDDEN, dtype=torch.float64), torch.zeros(WIDTH, dtype=torch.float64)
    for vector, computed in zip(vectors[0], cell(vectors)[0], strict=True):
        new, forget, output = cell.linear(torch.cat([vector, before])).chunk(3)
        state = forget.sigmoid() * state + (1 - forget.sigmoid()) * new.tanh()
        assert torch.allclose(computed, output.sigmoid() * state)
        before = vector


@pytest.mark.parametrize("cell", ELEMENTWISE_CELLS)
def test_the_loop_for_onnx_gives_the_same_states(cell: str, monkeypatch: pytest.MonkeyPatch) -> None:
    module, vectors = random_cell(cell), torch.randn(3, 7, WIDTH, dtype=torch.float64)
    states = module(vectors)
    monkeypatch.setattr(elementwise_cells.torch.onnx, "is_in_onnx_export", lambda: True)
    assert torch.allclose(module(vectors), states)
