"""The base classes of the students: word vectors with noise, hashed n-grams, a linear classifier."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from distill.config import StudentSettings
from distill.errors import UserError
from distill.models.char_embedding import CharComposedEmbedding
from distill.models.ngram_embedding import NgramEmbedding
from distill.models.tokenizer import TextTokenizer, WordTokenizer
from distill.storage.run_folder import VOCABULARY
from distill.text.batching import Batch, ModelOutput
from distill.text.segmentation import Segmenter
from distill.text.vocabulary import UNKNOWN_ID

Arrays = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class StudentConfig:
    """Sizes and noise of a network over word vectors.

    Args:
        words: rows of the word embedding.
        width: dimension of word and n-gram vectors.
        hidden: hidden units; see each architecture.
        classes: outputs.
        dropout: on the word vectors and before the classifier.
        word_dropout: share of the words that are unknown in a training step.
        vector_noise: standard deviation of the noise on word vectors in a training step.
        ngrams: buckets that n-grams are hashed into; 0: no n-grams.
        ngram_rows: rows of the n-gram embedding, the first for padding.
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


class SavedStudent(nn.Module):
    """A trained student as :mod:`distill.models.checkpoint` saves it: config, weights, and what its tokenizer needs."""

    config_class: ClassVar[type[Any]]
    files: ClassVar[tuple[str, ...]] = ()  # files that the tokenizer adds to the student's folder
    config: Any

    def output(self, batch: Batch) -> ModelOutput:
        """Logits (batch, classes), and the vector that they were computed from."""
        raise NotImplementedError

    def forward(self, batch: Batch) -> Tensor:
        """Logits, shape (batch, classes). They do not depend on the other texts of the batch."""
        return self.output(batch).logits

    def load_tokenizer(self, folder: Path, card: Mapping[str, Any], segmenter: Segmenter) -> TextTokenizer:
        """Read the tokenizer from the student's folder."""
        raise NotImplementedError


class Student(SavedStudent):
    """Base class of the networks over word vectors.

    A subclass sets ``classifier`` and implements :meth:`vector`. If its config has fields of its own, it sets
    ``config_class`` and overrides :meth:`config_options`. If it has a counterpart in :mod:`distill.runtime`, it
    implements :meth:`bundle_network`.
    """

    config_class: ClassVar[type[StudentConfig]] = StudentConfig
    files = (VOCABULARY,)
    config: StudentConfig
    classifier: nn.Linear

    def __init__(self, config: StudentConfig) -> None:
        super().__init__()
        self.config = config
        self.embedding: nn.Module = nn.Embedding(config.words, config.width, padding_idx=0)
        self.ngrams = NgramEmbedding(config.ngrams, config.ngram_rows, config.width) if config.ngrams else None
        self.dropout = nn.Dropout(config.dropout)

    @classmethod
    def config_options(cls, settings: StudentSettings) -> dict[str, Any]:
        """Values of the config's fields that :class:`StudentConfig` does not have."""
        return {}

    def vector(self, batch: Batch) -> Tensor:
        """The classifier's input, shape (batch, features)."""
        raise NotImplementedError

    def output(self, batch: Batch) -> ModelOutput:
        """Logits (batch, classes), and the vector that they were computed from."""
        vector = self.vector(batch)
        return ModelOutput(self.classifier(self.dropout(vector)), vector)

    def embed(self, batch: Batch) -> Tensor:
        """Word vectors, shape (batch, words, width); in training with word dropout, noise and dropout."""
        ids = batch.ids
        if self.training and self.config.word_dropout:
            ids = ids.masked_fill(self._dropped_words(ids), UNKNOWN_ID)
        vectors: Tensor = self.embedding(ids)
        if self.training and self.config.vector_noise:
            vectors = vectors + self.config.vector_noise * torch.randn_like(vectors)
        dropped: Tensor = self.dropout(vectors)
        return dropped

    def ngram_pools(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Mean and maximum of the n-grams' vectors, both (batch, width); word dropout leaves out n-grams too."""
        embedding, ngrams = self._ngrams(batch)
        return embedding.mean_and_maximum(ngrams, self._dropped_ngrams(ngrams))

    def append_ngrams(self, vector: Tensor, batch: Batch) -> Tensor:
        """Append the mean of the n-grams' vectors, if the student has n-grams: (batch, features + width)."""
        if self.ngrams is None:
            return vector
        embedding, ngrams = self._ngrams(batch)
        return torch.cat([vector, embedding.mean(ngrams, self._dropped_ngrams(ngrams))], dim=1)

    def _ngrams(self, batch: Batch) -> tuple[NgramEmbedding, Batch]:
        if self.ngrams is None or batch.ngrams is None:
            raise ValueError("n-grams are needed: WordTokenizer(vocabulary, max_length, ngram_buckets)")
        return self.ngrams, batch.ngrams

    def _dropped_ngrams(self, batch: Batch) -> Tensor | None:
        return self._dropped_words(batch.ids) if self.training and self.config.word_dropout else None

    def _dropped_words(self, ids: Tensor) -> Tensor:
        return torch.rand(ids.shape, device=ids.device) < self.config.word_dropout

    @property
    def ngram_features(self) -> int:
        """Width that :meth:`append_ngrams` adds; the classifier's last inputs."""
        return self.config.width if self.config.ngrams else 0

    def vector_parameters(self) -> list[nn.Parameter]:
        """The word and n-gram vectors, which have a learning rate of their own."""
        return [*self.embedding.parameters(), *(self.ngrams.parameters() if self.ngrams else ())]

    def for_inference(self) -> SavedStudent:
        """The network as it is saved: word vectors folded into one table. The logits stay the same."""
        if isinstance(self.embedding, CharComposedEmbedding):
            self.embedding = self.embedding.fold()
        return self

    def load_tokenizer(self, folder: Path, card: Mapping[str, Any], segmenter: Segmenter) -> WordTokenizer:
        """Read the vocabulary and the card's entries; see :meth:`WordTokenizer.load`."""
        return WordTokenizer.load(folder, card, self.config.ngrams, segmenter)

    def bundle_network(self) -> tuple[dict[str, Any], Arrays]:
        """Entries of a bundle's card, and the arrays between word vectors and classifier.

        :mod:`distill.runtime.schema` describes the arrays. Word vectors, classifier and n-grams are exported for every
        student (:mod:`distill.export.bundle`).

        Raises:
            UserError: the runtime cannot compute this network.
        """
        what = f"the runtime has no network for {type(self).__name__}, so it cannot be exported as a bundle"
        raise UserError(what, None, "--format onnx, or another --student")


def masked_max(values: Tensor, mask: Tensor) -> Tensor:
    """Maximum over the positions where ``mask`` is true: (batch, length, width), (batch, length) -> (batch, width)."""
    return values.masked_fill(~mask[..., None], float("-inf")).amax(1)
