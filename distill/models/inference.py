"""What models say of many texts: batches of like lengths, in input order."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import torch
from torch import Tensor, nn

from distill.progress import progress_bar
from distill.text.batching import Batch, PackedIds, sorted_by_length

PREDICTION_BATCH = 128


def best_device() -> torch.device:
    """CUDA when present (of several processes each has its own GPU there), else the processor."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def predict_logits(model: nn.Module, inputs: PackedIds, what: str = "", batch_size: int = PREDICTION_BATCH) -> Tensor:
    """Logits of every text in input order, shape (texts, classes), float32, on the CPU; ``what`` names a bar."""
    return predict(model, model, inputs, what, batch_size).float()


def predict(
    model: nn.Module,
    ask: Callable[[Batch], Tensor],
    inputs: PackedIds,
    what: str = "",
    size: int = PREDICTION_BATCH,
    *,
    rows: Tensor | None = None,
) -> Tensor:
    """``ask`` of every batch of ``size`` texts, in input order or that of ``rows``, on the CPU; it asks ``model``."""
    wanted = torch.arange(len(inputs)) if rows is None else rows
    device = next(model.parameters()).device
    model.eval()
    places_of, answers = [], []
    with (
        torch.inference_mode(),
        progress_bar(what, len(wanted), "texts") if what else contextlib.nullcontext() as shown,
    ):
        for places in sorted_by_length(inputs.lengths[wanted], size):
            answers.append(ask(inputs.batch(wanted[places]).to(device)).cpu())
            places_of.append(places)
            if shown is not None:
                shown.update(len(places))
    if not places_of:
        raise ValueError("no texts to predict")
    answer = torch.cat(answers)
    return torch.empty_like(answer).index_copy_(0, torch.cat(places_of), answer)
