"""The student: one bidirectional LSTM layer over word vectors (Tang et al. 2019, arXiv 1903.12136)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from distill.batches import Batch, masked_mean


@dataclass(frozen=True)
class BiLSTMConfig:
    """Sizes of the network: ``words`` rows of ``width`` numbers, ``hidden`` units a direction, ``classes`` outputs.

    ``sentence`` makes the mean of the word vectors the only time step (the reference repo's first form).
    """

    words: int
    width: int
    hidden: int
    classes: int
    dropout: float = 0.3
    sentence: bool = False


class BiLSTM(nn.Module):
    """Word vectors -> biLSTM -> maximum and mean over the words -> linear classifier."""

    def __init__(self, config: BiLSTMConfig) -> None:
        super().__init__()
        self.config = config
        self.embedding: nn.Module = nn.Embedding(config.words, config.width, padding_idx=0)
        self.lstm = nn.LSTM(config.width, config.hidden, batch_first=True, bidirectional=True)
        self.dropout = nn.Dropout(config.dropout)
        self.classifier = nn.Linear(4 * config.hidden, config.classes)

    def forward(self, batch: Batch) -> Tensor:
        """Logits, shape (batch, classes). Padding does not count, so a text's logits do not hang on its neighbours."""
        vectors, mask = self.embedding(batch.ids), batch.mask  # (batch, words, width), (batch, words)
        if self.config.sentence:
            vectors = masked_mean(vectors, mask)[:, None, :]  # (batch, 1, width)
            mask = mask[:, :1]
        states = self._states(self.dropout(vectors), mask.sum(1))  # (batch, words, 2 hidden)
        pooled = torch.cat([masked_max(states, mask), masked_mean(states, mask)], dim=1)  # (batch, 4 hidden)
        logits: Tensor = self.classifier(self.dropout(pooled))
        return logits

    def _states(self, vectors: Tensor, lengths: Tensor) -> Tensor:
        packed = nn.utils.rnn.pack_padded_sequence(vectors, lengths.cpu(), batch_first=True, enforce_sorted=False)
        states, _ = nn.utils.rnn.pad_packed_sequence(self.lstm(packed)[0], batch_first=True)
        return states


def masked_max(values: Tensor, mask: Tensor) -> Tensor:
    """Maximum over the places where ``mask`` is true: (batch, places, width), (batch, places) -> (batch, width)."""
    return values.masked_fill(~mask[..., None], float("-inf")).amax(1)
