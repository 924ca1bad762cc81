"""Batches: texts as packed token ids, cut into padded batches of like lengths."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

BUCKET = 50  # batches whose texts are sorted by length together; more: less padding, less shuffling


@dataclass(frozen=True)
class Batch:
    """Token ids of some texts.

    Shapes: ``ids`` (batch, longest), padded; ``lengths`` (batch,), at least 1.
    """

    ids: Tensor
    lengths: Tensor

    @property
    def mask(self) -> Tensor:
        """True where there is a token, shape (batch, longest)."""
        places = torch.arange(self.ids.shape[1], device=self.ids.device)
        return places[None, :] < self.lengths[:, None]

    def to(self, device: torch.device) -> Batch:
        """The same batch on another device."""
        return Batch(self.ids.to(device), self.lengths.to(device))


class PackedIds:
    """Token ids of many texts in one flat tensor, so that a batch is cut without a Python loop over its texts."""

    def __init__(self, texts: Sequence[Sequence[int]], pad_id: int) -> None:
        self.lengths = torch.tensor([len(ids) for ids in texts], dtype=torch.int64)
        self.starts = torch.cumsum(self.lengths, 0) - self.lengths
        self.flat = torch.tensor([token for ids in texts for token in ids], dtype=torch.int32)
        self.pad_id = pad_id

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
        return Batch(ids, lengths)


def shuffled(lengths: Tensor, size: int, generator: torch.Generator) -> Iterator[Tensor]:
    """One epoch of row batches in random order; each holds texts of like lengths."""
    order = torch.randperm(len(lengths), generator=generator)
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
