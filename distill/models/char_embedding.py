"""Word vectors that share what words of the same characters have in common; plain word vectors once trained."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from distill.models.ngram_embedding import sum_of_rows
from distill.text.vocabulary import UNKNOWN_ID

MOST_CHARACTERS = 4  # of a word; longer words are rare


class ComposedEmbedding(nn.Module):
    """``vector(word) = own vector + mean of its characters' vectors``, as in Bojanowski et al. 2017 (arXiv 1607.04606).

    A rare word learns from every word that shares a character with it. As a word's vector depends on nothing else,
    :meth:`folded` turns the trained sum into one row a word: the finished student pays nothing for it.

    Args:
        rows: pretrained vectors, shape (words, width); the characters' vectors begin as zeros.
        words: the vocabulary's words; the first two (padding and unknown) have no characters.
    """

    def __init__(self, rows: NDArray[np.float32], words: Sequence[str]) -> None:
        super().__init__()
        parts = [word[:MOST_CHARACTERS] if len(word) > 1 and i > UNKNOWN_ID else "" for i, word in enumerate(words)]
        numbers = {char: number for number, char in enumerate(sorted({char for part in parts for char in part}), 1)}
        table = [[numbers[char] for char in part] + [0] * (MOST_CHARACTERS - len(part)) for part in parts]
        self.own = _embedding(torch.from_numpy(rows.copy()), sparse=True)
        self.shared = nn.Embedding(len(numbers) + 1, rows.shape[1], padding_idx=0, sparse=True)
        nn.init.zeros_(self.shared.weight)
        self.characters: Tensor
        self.register_buffer("characters", torch.tensor(table), persistent=False)  # (words, MOST_CHARACTERS), 0: none

    def forward(self, ids: Tensor) -> Tensor:
        """Vectors of word ids: (...) -> (..., width)."""
        characters = self.characters[ids.flatten()]  # (words of the batch, MOST_CHARACTERS)
        mean = sum_of_rows(self.shared, characters) / (characters > 0).sum(-1, keepdim=True).clamp(min=1)
        vectors: Tensor = self.own(ids) + mean.view(*ids.shape, -1)
        return vectors

    @torch.no_grad()
    def folded(self) -> nn.Embedding:
        """The same vectors as one plain table, shape (words, width)."""
        return _embedding(self(torch.arange(self.own.num_embeddings, device=self.own.weight.device)))


def _embedding(rows: Tensor, sparse: bool = False) -> nn.Embedding:
    embedding = nn.Embedding(rows.shape[0], rows.shape[1], padding_idx=0, sparse=sparse)
    embedding.weight = nn.Parameter(rows)
    return embedding
