"""Vectors of hashed character n-grams, for the buckets that are frequent in the training texts."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from distill.text.batching import Batch, PackedIds

MIN_COUNT = 2  # occurrences in the training texts that a bucket needs for a row
MAX_ROWS = 2**15  # for the most frequent buckets: the optimizer's work on the rows dominates a training step


class NgramEmbedding(nn.Module):
    """An embedding in which each frequent bucket has a row. The other buckets share row 0, which stays zero.

    15,000 headlines use 190,000 of 2**18 buckets, a third of them once. A row for every bucket would take 100 MB and
    65 ms per step of AdamW; 2**15 rows take 6 ms.

    Args:
        buckets: range of :func:`distill.text.ngrams.ngram_ids`.
        rows: rows of the table, the first for padding.
        width: dimension of a vector. All vectors start as zeros.
    """

    def __init__(self, buckets: int, rows: int, width: int) -> None:
        super().__init__()
        self.row_of: Tensor
        self.register_buffer("row_of", torch.zeros(buckets, dtype=torch.int32))  # saved with the student
        self.table = nn.Embedding(rows, width, padding_idx=0, sparse=True)
        nn.init.zeros_(self.table.weight)

    def mean(self, batch: Batch, dropped: Tensor | None = None) -> Tensor:
        """Mean of the vectors of a text's n-grams that have a row, (batch, width); zeros if none has.

        ``dropped`` (batch, n-grams) is true for n-grams to leave out.
        """
        rows = self._rows(batch, dropped)
        return sum_of_rows(self.table, rows) / (rows > 0).sum(1, keepdim=True).clamp(min=1)

    def mean_and_maximum(self, batch: Batch, dropped: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Mean, as in :meth:`mean`, and maximum of the same vectors, both (batch, width)."""
        rows = self._rows(batch, dropped)
        vectors, counted = self.table(rows), (rows > 0)[..., None]  # (batch, n-grams, width), (batch, n-grams, 1)
        mean = vectors.sum(1) / counted.sum(1).clamp(min=1)
        # adding -inf and max need no extra pass over the vectors in the backward step; masked_fill and amax need three
        masked = vectors + torch.zeros_like(counted, dtype=vectors.dtype).masked_fill_(~counted, float("-inf"))
        return mean, masked.max(1).values.masked_fill(~counted.any(1), 0.0)

    def _rows(self, batch: Batch, dropped: Tensor | None) -> Tensor:
        """Rows of the table, (batch, n-grams); 0 for an n-gram that has no row, is dropped, or is padding."""
        rows = self.row_of[batch.ids].long().masked_fill(~batch.mask, 0)
        return rows if dropped is None else rows.masked_fill(dropped, 0)


def sum_of_rows(table: nn.Embedding, ids: Tensor) -> Tensor:
    """``table(ids).sum(1)`` for ids (texts, length), in one pass; row 0 is padding."""
    if torch.onnx.is_in_onnx_export():  # ONNX has no embedding bag
        return table(ids).sum(1)  # type: ignore[no-any-return]
    return nn.functional.embedding_bag(ids, table.weight, mode="sum", sparse=table.sparse, padding_idx=0)


def rows_of_buckets(buckets: int, train: PackedIds | None) -> Tensor:
    """Row of every bucket, shape (buckets,), int32. Each frequent bucket of ``train`` has its own, the others have 0.

    Without ``train`` every bucket has its own row.
    """
    if train is None:
        return torch.arange(buckets, dtype=torch.int32)
    counts = torch.bincount(train.flat.long(), minlength=buckets)
    counts[0] = 0  # padding
    most_frequent = counts.argsort(descending=True, stable=True)[: MAX_ROWS - 1]
    chosen = most_frequent[counts[most_frequent] >= MIN_COUNT].sort().values
    rows = torch.zeros(buckets, dtype=torch.int32)
    rows[chosen] = torch.arange(1, len(chosen) + 1, dtype=torch.int32)
    return rows
