"""The fastest student: pooled vectors of words and of hashed character n-grams (after Joulin et al., 1607.01759)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from distill.models.student import Arrays, Student, StudentConfig, masked_max
from distill.text.batching import Batch, masked_mean


class Average(Student):
    """Mean and maximum of word vectors, mean and maximum of n-gram vectors -> hidden layer -> linear classifier."""

    def __init__(self, config: StudentConfig) -> None:
        super().__init__(config)
        self.layer = nn.Linear((4 if config.ngrams else 2) * config.width, config.hidden)
        self.classifier = nn.Linear(config.hidden, config.classes)

    def vector(self, batch: Batch) -> Tensor:
        """The hidden layer's output, shape (batch, hidden)."""
        vectors, mask = self.embed(batch), batch.mask  # (batch, words, width), (batch, words)
        pools = [masked_mean(vectors, mask), masked_max(vectors, mask)]
        if self.ngrams is not None:
            # dropout after pooling: a text has about 70 n-grams, and dropout on each would take most of the time
            pools += [self.dropout(pool) for pool in self.ngram_pools(batch)]
        hidden: Tensor = self.layer(torch.cat(pools, dim=1))  # (batch, hidden)
        return hidden.relu()

    @property
    def ngram_features(self) -> int:
        """None: n-grams go through the hidden layer."""
        return 0

    def bundle_network(self) -> tuple[dict[str, Any], Arrays]:
        """The hidden layer."""
        weight, bias = self.layer.weight.detach().numpy(), self.layer.bias.detach().numpy()
        return {}, {"layer.weight": weight.T, "layer.bias": bias}
