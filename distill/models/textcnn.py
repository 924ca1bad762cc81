"""The student of Kim 2014 (arXiv 1408.5882): convolutions of several widths over word vectors, then their maxima."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from distill.models.student import NetworkConfig, Student, masked_max
from distill.text.batching import Batch


@dataclass(frozen=True)
class TextCNNConfig(NetworkConfig):
    """Sizes of the network: ``hidden`` filters of each of ``spans`` (in words).

    Kim's are 3, 4 and 5 for English sentences; Chinese words are fewer a text, and one alone often says the class.
    """

    spans: tuple[int, ...] = (1, 2, 3, 4)


class TextCNN(Student):
    """Word vectors -> convolutions -> ReLU -> maximum over the words -> linear classifier."""

    config: TextCNNConfig

    def __init__(self, config: TextCNNConfig) -> None:
        super().__init__(config)
        self.convolutions = nn.ModuleList(nn.Conv1d(config.width, config.hidden, span) for span in config.spans)
        self.classifier = nn.Linear(len(config.spans) * config.hidden + self.ngram_width, config.classes)

    def vector(self, batch: Batch) -> Tensor:
        """Maximum of each filter over the words, shape (batch, spans x hidden), and the n-grams' mean.

        A filter stands at every word as its first, and after the last word it sees zeros: a text shorter than the
        filter has a place too, and padding none.
        """
        mask = batch.mask  # (batch, words)
        vectors = (self.embedded(batch) * mask[..., None]).transpose(1, 2)  # (batch, width, words), zero at padding
        pooled = []
        for span, convolution in zip(self.config.spans, self.convolutions, strict=True):
            features = convolution(nn.functional.pad(vectors, (0, span - 1)))  # (batch, hidden, words)
            pooled.append(masked_max(features.transpose(1, 2), mask).relu())  # the ReLU of a maximum is the same
        return self.with_ngrams(torch.cat(pooled, dim=1), batch)
