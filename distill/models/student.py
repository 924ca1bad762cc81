"""What the students have in common: word vectors with noise, hashed n-grams beside them, a classifier."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from distill.models.char_embedding import ComposedEmbedding
from distill.models.ngram_embedding import NgramVectors
from distill.text.batching import Batch, ModelOutput
from distill.text.vocabulary import UNKNOWN_ID


@dataclass(frozen=True)
class NetworkConfig:
    """Sizes of a network: ``words`` rows of ``width`` numbers, ``hidden`` units, ``classes`` outputs.

    ``word_dropout`` and ``vector_noise`` act in training only. ``ngrams`` is the number of buckets that n-grams are
    hashed into (0: no n-grams), ``ngram_rows`` the rows of their vectors (the first is padding's).
    """

    words: int
    width: int
    hidden: int
    classes: int
    dropout: float = 0.3
    word_dropout: float = 0.0
    vector_noise: float = 0.0
    ngrams: int = 0
    ngram_rows: int = 0


class Student(nn.Module):
    """Base of the networks; one of them says how words become the text's vector (:meth:`vector`)."""

    classifier: nn.Linear

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.config = config
        self.embedding: nn.Module = nn.Embedding(config.words, config.width, padding_idx=0)
        self.ngrams = NgramVectors(config.ngrams, config.ngram_rows, config.width) if config.ngrams else None
        self.dropout = nn.Dropout(config.dropout)

    def vector(self, batch: Batch) -> Tensor:
        """What the classifier sees of each text, shape (batch, width of the vector)."""
        raise NotImplementedError

    def answer(self, batch: Batch) -> ModelOutput:
        """Logits (batch, classes) and the vector they were made from."""
        vector = self.vector(batch)
        return ModelOutput(self.classifier(self.dropout(vector)), vector)

    def forward(self, batch: Batch) -> Tensor:
        """Logits, shape (batch, classes). A text's logits do not depend on the rest of its batch."""
        return self.answer(batch).logits

    def embedded(self, batch: Batch) -> Tensor:
        """Word vectors, shape (batch, words, width); in training some words are unknown, numbers noisy or dropped."""
        ids = batch.ids
        if self.training and self.config.word_dropout:
            ids = ids.masked_fill(self._chosen(ids), UNKNOWN_ID)
        vectors: Tensor = self.embedding(ids)
        if self.training and self.config.vector_noise:
            vectors = vectors + self.config.vector_noise * torch.randn_like(vectors)
        dropped: Tensor = self.dropout(vectors)
        return dropped

    def ngram_pools(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Mean and maximum of the n-grams' vectors, both (batch, width); word dropout takes n-grams away too."""
        table, ngrams = self._ngrams(batch)
        return table.mean_and_maximum(ngrams, self._dropped(ngrams))

    def with_ngrams(self, vector: Tensor, batch: Batch) -> Tensor:
        """The text's vector, and after it the mean of its n-grams' vectors where the student has n-grams."""
        if self.ngrams is None:
            return vector
        table, ngrams = self._ngrams(batch)
        return torch.cat([vector, table.mean(ngrams, self._dropped(ngrams))], dim=1)

    def _ngrams(self, batch: Batch) -> tuple[NgramVectors, Batch]:
        if self.ngrams is None or batch.beside is None:
            raise ValueError("n-grams are needed: Words(vocabulary, max_length, ngrams)")
        return self.ngrams, batch.beside

    def _dropped(self, batch: Batch) -> Tensor | None:
        return self._chosen(batch.ids) if self.training and self.config.word_dropout else None

    @property
    def ngram_width(self) -> int:
        """What :meth:`with_ngrams` adds to a vector's width."""
        return self.config.width if self.config.ngrams else 0

    def vector_parameters(self) -> list[nn.Parameter]:
        """The word and n-gram vectors, which train at a learning rate of their own."""
        return [*self.embedding.parameters(), *(self.ngrams.parameters() if self.ngrams else ())]

    def finished(self) -> nn.Module:
        """The network as it is saved and asked: word vectors folded into one table, the logits the same."""
        if isinstance(self.embedding, ComposedEmbedding):
            self.embedding = self.embedding.folded()
        return self

    def _chosen(self, ids: Tensor) -> Tensor:
        return torch.rand(ids.shape, device=ids.device) < self.config.word_dropout


def masked_max(values: Tensor, mask: Tensor) -> Tensor:
    """Maximum over the places where ``mask`` is true: (batch, places, width), (batch, places) -> (batch, width)."""
    return values.masked_fill(~mask[..., None], float("-inf")).amax(1)
