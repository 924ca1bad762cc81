"""What models take and give: texts as packed token ids, padded batches of like lengths, answers."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Ids = Sequence[int] | NDArray[np.integer]  # of one text

BUCKET = 50  # batches whose texts are sorted by length together; more: less padding, less shuffling


@dataclass(frozen=True)
class Batch:
    """Token ids of some texts.

    Shapes: ``ids`` (batch, longest), padded; ``lengths`` (batch,), at least 1. ``beside`` holds other tokens of the
    same texts (character n-grams beside words).
    """

    ids: Tensor
    lengths: Tensor
    beside: Batch | None = None

    @property
    def mask(self) -> Tensor:
        """True where there is a token, shape (batch, longest)."""
        places = torch.arange(self.ids.shape[1], device=self.ids.device)
        return places[None, :] < self.lengths[:, None]

    def to(self, device: torch.device) -> Batch:
        """The same batch on another device."""
        beside = self.beside.to(device) if self.beside else None
        return Batch(self.ids.to(device), self.lengths.to(device), beside)


@dataclass(frozen=True)
class ModelOutput:
    """What a model says of a batch.

    Shapes: ``logits`` (batch, classes); ``vector`` (batch, width), the text's vector that they were made from. ``peer``
    is what the second of two students says that learn together.
    """

    logits: Tensor
    vector: Tensor
    peer: ModelOutput | None = None


class PackedIds:
    """Token ids of many texts in one flat tensor, so that a batch is cut without a Python loop over its texts."""

    def __init__(self, texts: Sequence[Ids], pad_id: int, beside: PackedIds | None = None) -> None:
        self.lengths = torch.tensor([len(ids) for ids in texts], dtype=torch.int64)
        self.starts = torch.cumsum(self.lengths, 0) - self.lengths
        self.flat = torch.from_numpy(
            np.concatenate([np.asarray(ids, np.int32) for ids in texts] or [np.empty(0, np.int32)])
        )
        self.pad_id = pad_id
        self.beside = beside

    def __len__(self) -> int:
        return len(self.lengths)

    def renumbered(self, new_ids: Tensor) -> PackedIds:
        """The same texts with every id replaced by ``new_ids[id]``, padding too."""
        other = copy.copy(self)
        other.flat = new_ids[self.flat.long()].to(self.flat.dtype)
        other.pad_id = int(new_ids[self.pad_id])
        return other

    def batch(self, rows: Tensor) -> Batch:
        """The texts at ``rows`` (batch,), padded to the longest of them."""
        lengths = self.lengths[rows]
        places = torch.arange(int(lengths.max()))[None, :]
        mask = places < lengths[:, None]
        ids = torch.full(mask.shape, self.pad_id, dtype=torch.int64)
        ids[mask] = self.flat[(self.starts[rows][:, None] + places)[mask]].long()
        return Batch(ids, lengths, self.beside.batch(rows) if self.beside else None)


def drawn(chances: Tensor | None, generator: torch.Generator) -> Tensor | None:
    """Rows of one epoch, drawn in proportion to ``chances`` (texts,), with repeats; None: every row once."""
    if chances is None:
        return None
    ends = chances.double().cumsum(0)  # torch.multinomial draws from at most 2**24
    places = torch.rand(len(ends), dtype=torch.float64, generator=generator) * ends[-1]
    return torch.searchsorted(ends, places, right=True)


def shuffled(lengths: Tensor, size: int, generator: torch.Generator, rows: Tensor | None = None) -> Iterator[Tensor]:
    """One epoch of row batches in random order, of ``rows`` or all; each holds texts of like lengths."""
    order = torch.randperm(len(lengths if rows is None else rows), generator=generator)
    order = order if rows is None else rows[order]
    batches: list[Tensor] = []
    for bucket in torch.split(order, size * BUCKET):
        batches.extend(torch.split(bucket[lengths[bucket].argsort(stable=True)], size))
    for place in torch.randperm(len(batches), generator=generator).tolist():
        yield batches[place]


def sorted_by_length(lengths: Tensor, size: int) -> Iterator[Tensor]:
    """All rows once, shortest first, in batches of ``size``: the least padding there can be."""
    yield from torch.split(lengths.argsort(stable=True), size)


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Mean over the places where ``mask`` is true: (batch, places, width), (batch, places) -> (batch, width)."""
    weights = mask[..., None].to(values.dtype)
    return (values * weights).sum(1) / weights.sum(1)
