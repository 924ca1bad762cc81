"""Word vectors composed with character vectors while they are trained; a plain table of word vectors afterwards."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from distill.models.ngram_embedding import sum_of_rows
from distill.text.vocabulary import UNKNOWN_ID

MAX_CHARACTERS = 4  # characters of a word that count; longer words are rare


class CharComposedEmbedding(nn.Module):
    """``vector(word) = word vector + mean of its character vectors``, as in Bojanowski et al. 2017 (arXiv 1607.04606).

    A rare word learns from every word that shares a character with it. The sum depends on the word alone, so
    :meth:`fold` turns it into one row per word after training: the finished student is no larger or slower.

    Args:
        rows: pretrained word vectors, shape (words, width). The character vectors start as zeros.
        words: the vocabulary; the first two (padding and unknown) have no characters.
    """

    def __init__(self, rows: NDArray[np.float32], words: Sequence[str]) -> None:
        super().__init__()
        parts = [word[:MAX_CHARACTERS] if len(word) > 1 and i > UNKNOWN_ID else "" for i, word in enumerate(words)]
        id_by_character = {char: i for i, char in enumerate(sorted({char for part in parts for char in part}), 1)}
        table = [[id_by_character[char] for char in part] + [0] * (MAX_CHARACTERS - len(part)) for part in parts]
        self.words = _embedding(torch.from_numpy(rows.copy()), sparse=True)
        self.characters = nn.Embedding(len(id_by_character) + 1, rows.shape[1], padding_idx=0, sparse=True)
        nn.init.zeros_(self.characters.weight)
        self.character_ids: Tensor
        self.register_buffer("character_ids", torch.tensor(table), persistent=False)  # (words, MAX_CHARACTERS), 0: none

    def forward(self, ids: Tensor) -> Tensor:
        """Vectors of word ids: (...) -> (..., width)."""
        character_ids = self.character_ids[ids.flatten()]  # (ids, MAX_CHARACTERS)
        counts = (character_ids > 0).sum(-1, keepdim=True)
        mean = sum_of_rows(self.characters, character_ids) / counts.clamp(min=1)
        vectors: Tensor = self.words(ids) + mean.view(*ids.shape, -1)
        return vectors

    @torch.no_grad()
    def fold(self) -> nn.Embedding:
        """The same vectors as one table, shape (words, width)."""
        return _embedding(self(torch.arange(self.words.num_embeddings, device=self.words.weight.device)))


def _embedding(rows: Tensor, sparse: bool = False) -> nn.Embedding:
    embedding = nn.Embedding(rows.shape[0], rows.shape[1], padding_idx=0, sparse=sparse)
    embedding.weight = nn.Parameter(rows)
    return embedding
