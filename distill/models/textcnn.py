"""The student of Kim 2014 (arXiv 1408.5882): convolutions of several widths over word vectors, max-pooled."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from distill.models.student import Arrays, Student, StudentConfig, masked_max
from distill.text.batching import Batch


@dataclass(frozen=True)
class TextCNNConfig(StudentConfig):
    """Sizes of the network: ``hidden`` filters for each of ``spans``, a filter's width in words.

    Kim uses 3, 4 and 5 for English sentences; a Chinese text has fewer words, and often one word decides the class.
    """

    spans: tuple[int, ...] = (1, 2, 3, 4)


class TextCNN(Student):
    """Word vectors -> convolutions -> ReLU -> maximum over the words -> linear classifier."""

    config_class: ClassVar[type[StudentConfig]] = TextCNNConfig
    config: TextCNNConfig

    def __init__(self, config: TextCNNConfig) -> None:
        super().__init__(config)
        self.convolutions = nn.ModuleList(nn.Conv1d(config.width, config.hidden, span) for span in config.spans)
        self.classifier = nn.Linear(len(config.spans) * config.hidden + self.ngram_features, config.classes)

    def vector(self, batch: Batch) -> Tensor:
        """Maximum of each filter over the words, (batch, spans x hidden), and the mean of the n-grams' vectors.

        A filter starts at every word and reads zeros after the last one, so that it also fits a text that is shorter
        than the filter, and never starts at padding.
        """
        mask = batch.mask  # (batch, words)
        vectors = (self.embed(batch) * mask[..., None]).transpose(1, 2)  # (batch, width, words), zero at padding
        pooled = []
        for span, convolution in zip(self.config.spans, self.convolutions, strict=True):
            features = convolution(nn.functional.pad(vectors, (0, span - 1)))  # (batch, hidden, words)
            pooled.append(masked_max(features.transpose(1, 2), mask).relu())  # ReLU and maximum commute
        return self.append_ngrams(torch.cat(pooled, dim=1), batch)

    def bundle_network(self) -> tuple[dict[str, Any], Arrays]:
        """Taps (width, taps x hidden): what a word adds to every filter at each position of it, span 1 first."""
        convolutions: list[nn.Conv1d] = list(self.convolutions)  # type: ignore[arg-type]
        taps = [
            layer.weight.detach().numpy().transpose(1, 2, 0).reshape(layer.in_channels, -1) for layer in convolutions
        ]
        biases = [layer.bias.detach().numpy() for layer in convolutions if layer.bias is not None]
        card = {"hidden": self.config.hidden, "spans": len(self.config.spans)}
        return card, {"taps": np.concatenate(taps, axis=1), "taps.bias": np.concatenate(biases)}
