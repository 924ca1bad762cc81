"""Run a model over many texts, in batches of similar length; results come in input order."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import torch
from torch import Tensor, nn

from distill.progress import progress_bar
from distill.text.batching import Batch, PackedIds, batches_by_length

PREDICTION_BATCH = 128


def best_device() -> torch.device:
    """CUDA if there is a GPU (with several processes, the process's own), else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def set_threads(count: int) -> None:
    """Let PyTorch use ``count`` threads of the CPU; 0: as many as it chooses."""
    if count:
        torch.set_num_threads(count)


def predict_logits(
    model: nn.Module, inputs: PackedIds, progress_label: str = "", batch_size: int = PREDICTION_BATCH
) -> Tensor:
    """Logits in input order, shape (texts, classes), float32, on the CPU; as :func:`predict`."""
    return predict(model, model, inputs, progress_label, batch_size).float()


def predict(
    model: nn.Module,
    compute: Callable[[Batch], Tensor],
    inputs: PackedIds,
    progress_label: str = "",
    batch_size: int = PREDICTION_BATCH,
    *,
    rows: Tensor | None = None,
) -> Tensor:
    """Apply ``compute`` to all texts in batches, with ``model`` in evaluation mode and without gradients.

    Args:
        model: decides the device of the batches.
        compute: results of a batch, shape (batch, ...); uses ``model``.
        inputs: the texts.
        progress_label: label of a progress bar; empty: no bar.
        batch_size: texts in a batch.
        rows: which texts, in which order; None: all.

    Returns:
        Results in input order or that of ``rows``, on the CPU.
    """
    selected = torch.arange(len(inputs)) if rows is None else rows
    device = next(model.parameters()).device
    model.eval()
    positions, results = [], []
    with (
        torch.inference_mode(),
        progress_bar(progress_label, len(selected), "texts") if progress_label else contextlib.nullcontext() as bar,
    ):
        for chosen in batches_by_length(inputs.lengths[selected], batch_size):
            results.append(compute(inputs.batch(selected[chosen]).to(device)).cpu())
            positions.append(chosen)
            if bar is not None:
                bar.update(len(chosen))
    if not positions:
        raise ValueError("no texts to predict")
    result = torch.cat(results)
    return torch.empty_like(result).index_copy_(0, torch.cat(positions), result)
