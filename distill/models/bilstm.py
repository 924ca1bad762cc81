"""The student of Tang et al. 2019 (arXiv 1903.12136): one bidirectional recurrent layer over word vectors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from distill.config import StudentSettings
from distill.errors import UserError
from distill.models.elementwise_cells import ELEMENTWISE_CELLS, BidirectionalCells, ElementwiseCell
from distill.models.student import Arrays, Student, StudentConfig, masked_max
from distill.text.batching import Batch, masked_mean

PARAMETERS = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")  # PyTorch's names, in the order of torch.lstm
MATRIX_CELLS: dict[str, type[nn.LSTM] | type[nn.GRU]] = {"lstm": nn.LSTM, "gru": nn.GRU}
DIRECTIONS = {"ahead": "", "back": "_reverse"}  # a bundle's name of a direction -> PyTorch's suffix


@dataclass(frozen=True)
class BiLSTMConfig(StudentConfig):
    """Sizes of the network, with ``hidden`` units per direction.

    Args:
        sentence: whether the mean of the word vectors is the only time step (the reference repo's first form).
        cell: "lstm", "gru", or one of :mod:`distill.models.elementwise_cells`.
    """

    sentence: bool = False
    cell: str = "lstm"


class BiLSTM(Student):
    """Word vectors -> biLSTM -> maximum and mean over the words -> linear classifier."""

    config_class: ClassVar[type[StudentConfig]] = BiLSTMConfig
    config: BiLSTMConfig

    def __init__(self, config: BiLSTMConfig) -> None:
        super().__init__(config)
        # named "lstm" for every cell: saved students have weights of that name
        self.lstm: nn.Module = (
            BidirectionalCells(config.cell, config.width, config.hidden)
            if config.cell in ELEMENTWISE_CELLS
            else MATRIX_CELLS[config.cell](config.width, config.hidden, batch_first=True, bidirectional=True)
        )
        self.classifier = nn.Linear(4 * config.hidden + self.ngram_features, config.classes)

    @classmethod
    def config_options(cls, settings: StudentSettings) -> dict[str, Any]:
        """The kind of time step and of cell.

        Raises:
            UserError: a cell of :mod:`distill.models.elementwise_cells` would have a single time step.
        """
        if settings.input == "sentence" and settings.cell in ELEMENTWISE_CELLS:
            what = f"{settings.cell} is the cell of a sequence, and --student_input sentence makes it a single vector"
            raise UserError(what, "--cell", "--cell lstm, or --student_input word")
        return {"sentence": settings.input == "sentence", "cell": settings.cell}

    def vector(self, batch: Batch) -> Tensor:
        """Maximum and mean of the states, (batch, 4 hidden), and the mean of the n-grams' vectors."""
        vectors, mask = self.embed(batch), batch.mask  # (batch, words, width), (batch, words)
        if self.config.sentence:
            vectors = masked_mean(vectors, mask)[:, None, :]  # (batch, 1, width)
            mask = mask[:, :1]
        states = self._states(vectors, mask.sum(1))  # (batch, words, 2 hidden)
        return self.append_ngrams(torch.cat([masked_max(states, mask), masked_mean(states, mask)], dim=1), batch)

    def _states(self, vectors: Tensor, lengths: Tensor) -> Tensor:
        """States of both directions: (batch, words, width) -> (batch, words, 2 hidden), arbitrary at padding.

        On a CPU each direction runs over the padded batch, the second over every text's words in reverse order. A
        packed sequence gives the same states but is not computed by the library's fast LSTM: it takes 1.5 times as long
        on headlines and twice as long on reviews. On a GPU a packed sequence is one call for both directions.
        """
        is_elementwise = self.config.cell in ELEMENTWISE_CELLS
        if not is_elementwise and (vectors.is_cuda or torch.onnx.is_in_onnx_export()):  # in ONNX it is one operator
            packed = nn.utils.rnn.pack_padded_sequence(vectors, lengths.cpu(), batch_first=True, enforce_sorted=False)
            return nn.utils.rnn.pad_packed_sequence(self.lstm(packed)[0], batch_first=True)[0]
        positions = torch.arange(vectors.shape[1], device=vectors.device)
        mirrored = lengths[:, None] - 1 - positions  # (batch, words)
        mirrored = torch.where(mirrored >= 0, mirrored, positions)
        backward = _reorder(self._direction(_reorder(vectors, mirrored), "_reverse"), mirrored)
        return torch.cat([self._direction(vectors, ""), backward], dim=2)

    def _direction(self, vectors: Tensor, suffix: str) -> Tensor:
        """States of one direction: (batch, words, width) -> (batch, words, hidden)."""
        if isinstance(self.lstm, BidirectionalCells):
            states: Tensor = (self.lstm.back if suffix else self.lstm.ahead)(vectors)
            return states
        weights = [getattr(self.lstm, f"{name}_l0{suffix}") for name in PARAMETERS]
        initial = vectors.new_zeros(1, len(vectors), self.config.hidden)
        # has biases, layers, dropout, training, bidirectional, batch first
        options = (weights, True, 1, 0.0, self.training, False, True)
        if self.config.cell == "gru":
            return torch.gru(vectors, initial, *options)[0]
        return torch.lstm(vectors, (initial, initial), *options)[0]

    def bundle_network(self) -> tuple[dict[str, Any], Arrays]:
        """Per direction: input weights (width, gates x hidden), recurrent weights (hidden, gates x hidden), biases."""
        card = {"hidden": self.config.hidden, "cell": self.config.cell, "sentence": self.config.sentence}
        if isinstance(self.lstm, BidirectionalCells):
            return card, {**_cell_arrays(self.lstm.ahead, "ahead"), **_cell_arrays(self.lstm.back, "back")}
        weights = {name: tensor.detach().numpy() for name, tensor in self.lstm.named_parameters()}
        hidden, arrays = self.config.hidden, {}
        for name, suffix in DIRECTIONS.items():
            input_bias, recurrent_bias = (weights[f"bias_{part}_l0{suffix}"] for part in ("ih", "hh"))
            # a GRU multiplies the recurrent part of its new gate, bias included, by the reset gate
            separate = np.zeros_like(recurrent_bias)
            if self.config.cell == "gru":
                separate[-hidden:] = recurrent_bias[-hidden:]
            arrays[f"input.{name}"] = weights[f"weight_ih_l0{suffix}"].T
            arrays[f"recurrent.{name}"] = weights[f"weight_hh_l0{suffix}"].T
            arrays[f"bias.{name}"] = input_bias + recurrent_bias - separate
            arrays[f"recurrent_bias.{name}"] = separate
        return card, arrays


def _cell_arrays(cell: ElementwiseCell, direction: str) -> Arrays:
    """Input weights (window x width, gates x hidden), biases, and what the gates' own states are multiplied by."""
    arrays = {f"input.{direction}": cell.linear.weight.T, f"bias.{direction}": cell.linear.bias}
    if cell.state_weight is not None:
        arrays[f"state.{direction}"] = cell.state_weight
    return {name: tensor.detach().numpy() for name, tensor in arrays.items()}


def _reorder(values: Tensor, positions: Tensor) -> Tensor:
    """Each text's rows at ``positions``: (batch, words, width), (batch, words) -> (batch, words, width)."""
    starts = torch.arange(values.shape[0], device=values.device)[:, None] * values.shape[1]  # len() is fixed in ONNX
    return values.flatten(0, 1).index_select(0, (starts + positions).flatten()).view(values.shape)
