"""The student of Tang et al. 2019 (arXiv 1903.12136): one bidirectional LSTM (or GRU) layer over word vectors."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from distill.batches import Batch, masked_mean
from distill.students.network import NetworkConfig, Student, masked_max

CELLS: dict[str, type[nn.LSTM] | type[nn.GRU]] = {"lstm": nn.LSTM, "gru": nn.GRU}


@dataclass(frozen=True)
class BiLSTMConfig(NetworkConfig):
    """Sizes of the network, with ``hidden`` units a direction; ``cell`` is lstm or gru.

    ``sentence`` makes the mean of the word vectors the only time step (the reference repo's first form).
    """

    sentence: bool = False
    cell: str = "lstm"


class BiLSTM(Student):
    """Word vectors -> biLSTM -> maximum and mean over the words -> linear classifier."""

    config: BiLSTMConfig

    def __init__(self, config: BiLSTMConfig) -> None:
        super().__init__(config)
        # "lstm" whatever the cell: folders of older versions have weights of that name
        self.lstm = CELLS[config.cell](config.width, config.hidden, batch_first=True, bidirectional=True)
        self.classifier = nn.Linear(4 * config.hidden + self.ngram_width, config.classes)

    def vector(self, batch: Batch) -> Tensor:
        """Maximum and mean of the states, shape (batch, 4 hidden), and the n-grams' mean."""
        vectors, mask = self.embedded(batch), batch.mask  # (batch, words, width), (batch, words)
        if self.config.sentence:
            vectors = masked_mean(vectors, mask)[:, None, :]  # (batch, 1, width)
            mask = mask[:, :1]
        states = self._states(vectors, mask.sum(1))  # (batch, words, 2 hidden)
        return self.with_ngrams(torch.cat([masked_max(states, mask), masked_mean(states, mask)], dim=1), batch)

    def _states(self, vectors: Tensor, lengths: Tensor) -> Tensor:
        packed = nn.utils.rnn.pack_padded_sequence(vectors, lengths.cpu(), batch_first=True, enforce_sorted=False)
        states, _ = nn.utils.rnn.pad_packed_sequence(self.lstm(packed)[0], batch_first=True)
        return states
