"""What models take and return: texts as packed token ids, padded batches of similar lengths, logits."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Ids = Sequence[int] | NDArray[np.integer]  # of one text

BATCHES_PER_BUCKET = 50  # whose texts are sorted by length together; more means less padding and less shuffling


@dataclass(frozen=True)
class Batch:
    """Token ids of some texts.

    Shapes: ``ids`` (batch, longest), padded; ``lengths`` (batch,), at least 1. ``ngrams`` are the character n-grams of
    the same texts, if the model reads them.
    """

    ids: Tensor
    lengths: Tensor
    ngrams: Batch | None = None

    @property
    def mask(self) -> Tensor:
        """True where there is a token, shape (batch, longest)."""
        positions = torch.arange(self.ids.shape[1], device=self.ids.device)
        return positions[None, :] < self.lengths[:, None]

    def to(self, device: torch.device) -> Batch:
        """The same batch on another device."""
        ngrams = self.ngrams.to(device) if self.ngrams else None
        return Batch(self.ids.to(device), self.lengths.to(device), ngrams)


@dataclass(frozen=True)
class ModelOutput:
    """Output of a model for a batch.

    Shapes: ``logits`` (batch, classes); ``vector`` (batch, width), the text representation that the classifier sees.
    ``peer`` is the output of the second of two students in mutual learning.
    """

    logits: Tensor
    vector: Tensor
    peer: ModelOutput | None = None


class PackedIds:
    """Token ids of many texts in one flat tensor, so that a batch is built without a Python loop over its texts."""

    def __init__(self, texts: Sequence[Ids], pad_id: int, ngrams: PackedIds | None = None) -> None:
        self.lengths = torch.tensor([len(ids) for ids in texts], dtype=torch.int64)
        self.starts = torch.cumsum(self.lengths, 0) - self.lengths
        self.flat = torch.from_numpy(
            np.concatenate([np.asarray(ids, np.int32) for ids in texts] or [np.empty(0, np.int32)])
        )
        self.pad_id = pad_id
        self.ngrams = ngrams

    def __len__(self) -> int:
        return len(self.lengths)

    def renumbered(self, new_ids: Tensor) -> PackedIds:
        """The same texts with every id, padding included, replaced by ``new_ids[id]``."""
        other = copy.copy(self)
        other.flat = new_ids[self.flat.long()].to(self.flat.dtype)
        other.pad_id = int(new_ids[self.pad_id])
        return other

    def batch(self, rows: Tensor) -> Batch:
        """The texts at ``rows`` (batch,), padded to the longest of them."""
        lengths = self.lengths[rows]
        positions = torch.arange(int(lengths.max()))[None, :]
        mask = positions < lengths[:, None]
        ids = torch.full(mask.shape, self.pad_id, dtype=torch.int64)
        ids[mask] = self.flat[(self.starts[rows][:, None] + positions)[mask]].long()
        return Batch(ids, lengths, self.ngrams.batch(rows) if self.ngrams else None)


def sample_rows(weights: Tensor | None, generator: torch.Generator) -> Tensor | None:
    """Rows of one epoch, sampled with replacement in proportion to ``weights`` (texts,); None: every row once."""
    if weights is None:
        return None
    ends = weights.double().cumsum(0)  # torch.multinomial is limited to 2**24 rows
    positions = torch.rand(len(ends), dtype=torch.float64, generator=generator) * ends[-1]
    return torch.searchsorted(ends, positions, right=True)


def shuffled_batches(
    lengths: Tensor, size: int, generator: torch.Generator, rows: Tensor | None = None
) -> Iterator[Tensor]:
    """One epoch of ``rows`` (None: all) in batches of similar lengths and in random order."""
    order = torch.randperm(len(lengths if rows is None else rows), generator=generator)
    order = order if rows is None else rows[order]
    batches: list[Tensor] = []
    for bucket in torch.split(order, size * BATCHES_PER_BUCKET):
        batches.extend(torch.split(bucket[lengths[bucket].argsort(stable=True)], size))
    for index in torch.randperm(len(batches), generator=generator).tolist():
        yield batches[index]


def batches_by_length(lengths: Tensor, size: int) -> Iterator[Tensor]:
    """All rows once, the shortest texts first, in batches of ``size``, which minimises padding."""
    yield from torch.split(lengths.argsort(stable=True), size)


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Mean over positions where ``mask`` is true: (batch, positions, width), (batch, positions) -> (batch, width)."""
    weights = mask[..., None].to(values.dtype)
    return (values * weights).sum(1) / weights.sum(1)
