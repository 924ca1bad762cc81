"""The graph of words and documents of Yao et al. 2019 (arXiv 1809.05679), as one normalised sparse matrix."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from scipy import sparse

WINDOW = 20  # words in a row that count as seen together

Ids = Sequence[int]


def graph(texts: Sequence[Ids], words: int) -> Any:
    """Nodes are the texts, then the words; a CSR matrix of shape (nodes, nodes), float32, symmetric.

    ``D^-1/2 (A + I) D^-1/2``, where A holds TF-IDF between a text and a word, positive PMI between two words, and
    nothing between two texts; D is the diagonal of the row sums.
    """
    between = tf_idf(texts, words)
    edges = sparse.block_array([[None, between], [between.T, positive_pmi(texts, words)]], format="csr")
    return normalised(edges + sparse.eye_array(len(texts) + words, format="csr"))


def normalised(matrix: Any) -> Any:
    """``D^-1/2 M D^-1/2``, D being the row sums of ``matrix`` (which are positive)."""
    scale = sparse.diags_array(np.asarray(matrix.sum(axis=1)).ravel() ** -0.5)
    return (scale @ matrix @ scale).tocsr().astype(np.float32)


def tf_idf(texts: Sequence[Ids], words: int) -> Any:
    """Times a word is in a text x log(texts / texts with the word), shape (texts, words)."""
    counts = _counts(texts, words)
    holding = np.bincount(counts.indices, minlength=words)  # texts with the word
    return (counts @ sparse.diags_array(np.log(len(texts) / np.maximum(holding, 1)))).tocsr()


def positive_pmi(texts: Sequence[Ids], words: int) -> Any:
    """log(p(i, j) / (p(i) p(j))) where that is above 0 and i is not j, shape (words, words).

    p is the share of all windows that hold a word, or two words.
    """
    windows = _counts(list(_windows(texts)), words)
    windows.data[:] = 1.0  # whether, not how often
    both = (windows.T @ windows).tocoo()
    alone = both.diagonal()
    row, column = both.coords
    pmi = np.log(both.data * windows.shape[0] / (alone[row] * alone[column]))
    kept = (row != column) & (pmi > 0)
    return sparse.csr_array((pmi[kept], (row[kept], column[kept])), shape=(words, words))


def _windows(texts: Sequence[Ids]) -> Iterator[Ids]:
    for text in texts:
        for start in range(max(1, len(text) - WINDOW + 1)):
            yield text[start : start + WINDOW]


def _counts(texts: Sequence[Ids], words: int) -> Any:
    """How often each text holds each word, shape (texts, words)."""
    starts = np.cumsum([0, *(len(text) for text in texts)])
    flat = np.array([word for text in texts for word in text], dtype=np.int64)
    counts = sparse.csr_array((np.ones(len(flat)), flat, starts), shape=(len(texts), words))
    counts.sum_duplicates()
    return counts
