"""The student of Tang et al. 2019 (arXiv 1903.12136): one bidirectional LSTM (or GRU) layer over word vectors."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from distill.models.student import NetworkConfig, Student, masked_max
from distill.text.batching import Batch, masked_mean

WEIGHTS = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")  # PyTorch's names, in its order
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
        """States of both directions, (batch, words, width) -> (batch, words, 2 hidden); those at padding mean nothing.

        On a processor each direction runs over the padded batch, the second over every text's words in reverse: a
        packed sequence gives the same states, but keeps it from the library's quick LSTM, half as slow again on
        headlines and twice as slow on reviews. On a GPU a packed sequence is one call for both directions.
        """
        if vectors.is_cuda or torch.onnx.is_in_onnx_export():  # which becomes one operator
            packed = nn.utils.rnn.pack_padded_sequence(vectors, lengths.cpu(), batch_first=True, enforce_sorted=False)
            return nn.utils.rnn.pad_packed_sequence(self.lstm(packed)[0], batch_first=True)[0]
        places = torch.arange(vectors.shape[1], device=vectors.device)
        turned = lengths[:, None] - 1 - places  # (batch, words)
        turned = torch.where(turned >= 0, turned, places)
        backward = _at(self._direction(_at(vectors, turned), "_reverse"), turned)
        return torch.cat([self._direction(vectors, ""), backward], dim=2)

    def _direction(self, vectors: Tensor, name: str) -> Tensor:
        """One direction over (batch, words, width), from the first word on: (batch, words, hidden)."""
        weights = [getattr(self.lstm, f"{kind}_l0{name}") for kind in WEIGHTS]
        start = vectors.new_zeros(1, len(vectors), self.config.hidden)
        options = (weights, True, 1, 0.0, self.training, False, True)  # biases, layers, dropout, …, batch first
        if self.config.cell == "gru":
            return torch.gru(vectors, start, *options)[0]
        return torch.lstm(vectors, (start, start), *options)[0]


def _at(values: Tensor, places: Tensor) -> Tensor:
    """Each text's rows at its ``places``: (batch, words, width), (batch, words) -> (batch, words, width)."""
    starts = torch.arange(len(values), device=values.device)[:, None] * values.shape[1]
    return values.flatten(0, 1).index_select(0, (starts + places).flatten()).view(values.shape)
