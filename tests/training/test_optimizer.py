"""Row-wise AdamW compared with PyTorch's optimizers, and gradient clipping over sparse and dense gradients."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from distill.training.optimizer import RowAdamW, clip_gradients, coalesce_sparse_gradients


def table(sparse: bool = True) -> nn.Embedding:
    torch.manual_seed(0)
    return nn.Embedding(7, 3, sparse=sparse)


def backward(embedding: nn.Embedding, step: int, ids: Tensor) -> None:
    """A loss whose gradients differ from step to step."""
    embedding.zero_grad(set_to_none=True)
    ((embedding(ids) - step) ** 3).sum().backward()
    coalesce_sparse_gradients([embedding.weight])


def test_it_equals_adamw_if_every_step_uses_every_row() -> None:
    rows, dense = table(), table(sparse=False)
    ours = RowAdamW([{"params": [rows.weight], "lr": 0.03}], weight_decay=0.1)
    theirs = torch.optim.AdamW([{"params": [dense.weight], "lr": 0.03}], weight_decay=0.1)
    for step in range(20):
        for embedding, optimizer in ((rows, ours), (dense, theirs)):
            backward(embedding, step, torch.tensor([0, 1, 2, 3, 4, 5, 6, 3, 3]))
            optimizer.step()
    assert torch.allclose(rows.weight, dense.weight, atol=1e-5)


def test_unused_rows_do_not_change() -> None:
    """It equals PyTorch's SparseAdam, which has no weight decay."""
    ours, theirs = table(), table()
    optimizers = (
        RowAdamW([{"params": [ours.weight], "lr": 0.03}], weight_decay=0.0),
        torch.optim.SparseAdam([theirs.weight], lr=0.03),
    )
    for step in range(20):
        used = torch.tensor([step % 7, (3 * step) % 5, step % 7])
        before = ours.weight.detach().clone()
        for embedding, optimizer in zip((ours, theirs), optimizers, strict=True):
            backward(embedding, step, used)
            optimizer.step()
        moved = (ours.weight != before).any(1).nonzero().flatten().tolist()
        assert moved == sorted(set(used.tolist()))
    assert torch.allclose(ours.weight, theirs.weight, atol=1e-6)


def test_weight_decay_shrinks_used_rows_only() -> None:
    embedding = table()
    optimizer = RowAdamW([{"params": [embedding.weight], "lr": 0.5}], weight_decay=0.1)
    before = embedding.weight.detach().clone()
    (0 * embedding(torch.tensor([2]))).sum().backward()
    coalesce_sparse_gradients([embedding.weight])
    optimizer.step()
    assert torch.allclose(embedding.weight[2], before[2] * (1 - 0.5 * 0.1))
    assert torch.equal(embedding.weight[[0, 1, 3, 4, 5, 6]], before[[0, 1, 3, 4, 5, 6]])


def test_sparse_and_dense_gradients_are_clipped_by_their_common_norm() -> None:
    def gradients(sparse: bool) -> tuple[Tensor, Tensor]:
        embedding, layer = table(sparse), nn.Linear(3, 2)
        with torch.no_grad():
            layer.weight.fill_(1.0)
        layer(embedding(torch.tensor([1, 1, 4]))).sum().backward()
        parameters = [embedding.weight, *layer.parameters()]
        coalesce_sparse_gradients(parameters)
        clip_gradients(parameters, 0.5) if sparse else nn.utils.clip_grad_norm_(parameters, 0.5)
        gradient = embedding.weight.grad
        assert gradient is not None
        assert layer.weight.grad is not None
        return gradient.to_dense(), layer.weight.grad

    for ours, theirs in zip(gradients(sparse=True), gradients(sparse=False), strict=True):
        assert torch.allclose(ours, theirs, atol=1e-6)


def test_a_small_gradient_is_not_clipped() -> None:
    layer = nn.Linear(2, 1)
    (1e-3 * layer(torch.ones(1, 2))).sum().backward()
    assert layer.weight.grad is not None
    before = layer.weight.grad.clone()
    clip_gradients(layer.parameters(), 1.0)
    assert torch.equal(layer.weight.grad, before)
