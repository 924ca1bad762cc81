"""Vectors of hashed character n-grams, for those buckets that training saw often enough."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from distill.text.batching import Batch, PackedIds

LEAST = 2  # times a bucket must occur in the training texts
MOST_ROWS = 2**15  # of the table, the most frequent buckets: AdamW's work on every row is what a step costs


class NgramVectors(nn.Module):
    """A bucket's row in a small table; buckets without one share row 0, which stays zero and does not count.

    Of 2**18 buckets 15,000 headlines use 190,000, a third of them once. Vectors for all would be 100 MB, and AdamW's
    step over all of them takes 65 ms; over 2**15 rows it takes 6 ms.

    Args:
        buckets: what :func:`distill.text.ngrams.ngram_ids` hashes into.
        rows: of the table, the first being padding's.
        width: of a vector; all begin as zeros.
    """

    def __init__(self, buckets: int, rows: int, width: int) -> None:
        super().__init__()
        self.row_of: Tensor
        self.register_buffer("row_of", torch.zeros(buckets, dtype=torch.int32))  # saved with the student
        self.table = nn.Embedding(rows, width, padding_idx=0, sparse=True)
        nn.init.zeros_(self.table.weight)

    def mean(self, batch: Batch, dropped: Tensor | None = None) -> Tensor:
        """Mean of the known n-grams' vectors, (batch, width); zeros where a text has none.

        ``dropped`` (batch, n-grams) is true for n-grams that are left out.
        """
        rows = self._rows(batch, dropped)
        return sum_of_rows(self.table, rows) / (rows > 0).sum(1, keepdim=True).clamp(min=1)

    def mean_and_maximum(self, batch: Batch, dropped: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Mean, as above, and maximum of the known n-grams' vectors, both (batch, width)."""
        rows = self._rows(batch, dropped)
        vectors, known = self.table(rows), (rows > 0)[..., None]  # (batch, n-grams, width), (batch, n-grams, 1)
        mean = vectors.sum(1) / known.sum(1).clamp(min=1)
        # a sum and max need no pass of their own on the way back, masked_fill and amax three
        masked = vectors + torch.zeros_like(known, dtype=vectors.dtype).masked_fill_(~known, float("-inf"))
        return mean, masked.max(1).values.masked_fill(~known.any(1), 0.0)

    def _rows(self, batch: Batch, dropped: Tensor | None) -> Tensor:
        """Rows of the table, (batch, n-grams); 0 for n-grams that have none, are dropped, or are padding."""
        rows = self.row_of[batch.ids].long().masked_fill(~batch.mask, 0)
        return rows if dropped is None else rows.masked_fill(dropped, 0)


def sum_of_rows(table: nn.Embedding, ids: Tensor) -> Tensor:
    """``table(ids).sum(1)`` for ids (texts, places), in one pass; row 0 is padding's."""
    if torch.onnx.is_in_onnx_export():  # ONNX has no such operator
        return table(ids).sum(1)  # type: ignore[no-any-return]
    return nn.functional.embedding_bag(ids, table.weight, mode="sum", sparse=table.sparse, padding_idx=0)


def rows_of_buckets(buckets: int, train: PackedIds | None) -> Tensor:
    """Row of every bucket, shape (buckets,), int32: the most frequent in ``train`` get one each, the others 0.

    Without ``train`` every bucket has its own row.
    """
    if train is None:
        return torch.arange(buckets, dtype=torch.int32)
    counts = torch.bincount(train.flat.long(), minlength=buckets)
    counts[0] = 0  # padding
    frequent = counts.argsort(descending=True, stable=True)[: MOST_ROWS - 1]
    kept = frequent[counts[frequent] >= LEAST].sort().values
    rows = torch.zeros(buckets, dtype=torch.int32)
    rows[kept] = torch.arange(1, len(kept) + 1, dtype=torch.int32)
    return rows
