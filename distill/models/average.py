"""The quickest student: pooled vectors of words and of hashed character n-grams (after Joulin et al., 1607.01759)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from distill.models.student import NetworkConfig, Student, masked_max
from distill.text.batching import Batch, masked_mean


class Average(Student):
    """Mean and maximum of word vectors, mean and maximum of n-gram vectors -> hidden layer -> linear classifier."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__(config)
        self.layer = nn.Linear((4 if config.ngrams else 2) * config.width, config.hidden)
        self.classifier = nn.Linear(config.hidden, config.classes)

    def vector(self, batch: Batch) -> Tensor:
        """The hidden layer's output, shape (batch, hidden)."""
        vectors, mask = self.embedded(batch), batch.mask  # (batch, words, width), (batch, words)
        pools = [masked_mean(vectors, mask), masked_max(vectors, mask)]
        if self.ngrams is not None:
            # dropped out once pooled: 70 n-grams a text, number by number, would take longer than all the rest
            pools += [self.dropout(pool) for pool in self.ngram_pools(batch)]
        hidden: Tensor = self.layer(torch.cat(pools, dim=1))  # (batch, hidden)
        return hidden.relu()
