"""The graph of words and documents of Yao et al. 2019 (arXiv 1809.05679), as one normalised sparse matrix."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from scipy import sparse

WINDOW = 20  # consecutive words that count as occurring together

Ids = Sequence[int]


def adjacency_matrix(texts: Sequence[Ids], words: int) -> Any:
    """``D^-1/2 (A + I) D^-1/2``: CSR, shape (nodes, nodes), float32, symmetric; nodes are the texts, then the words.

    A holds TF-IDF between a text and a word, positive PMI between two words, and 0 between two texts. D is the diagonal
    matrix of the row sums.

    Args:
        texts: word ids of every text.
        words: number of words.
    """
    between = tf_idf(texts, words)
    edges = sparse.block_array([[None, between], [between.T, positive_pmi(texts, words)]], format="csr")
    return normalised(edges + sparse.eye_array(len(texts) + words, format="csr"))


def normalised(matrix: Any) -> Any:
    """``D^-1/2 M D^-1/2``, where D are the row sums of ``matrix``, which must be positive."""
    scale = sparse.diags_array(np.asarray(matrix.sum(axis=1)).ravel() ** -0.5)
    return (scale @ matrix @ scale).tocsr().astype(np.float32)


def tf_idf(texts: Sequence[Ids], words: int) -> Any:
    """Occurrences of a word in a text x log(texts / texts with the word), shape (texts, words)."""
    counts = _counts(texts, words)
    document_counts = np.bincount(counts.indices, minlength=words)
    return (counts @ sparse.diags_array(np.log(len(texts) / np.maximum(document_counts, 1)))).tocsr()


def positive_pmi(texts: Sequence[Ids], words: int) -> Any:
    """log(p(i, j) / (p(i) p(j))) where it is positive and i is not j, shape (words, words).

    p is the share of all windows that contain a word, or both words.
    """
    windows = _counts(list(_windows(texts)), words)
    windows.data[:] = 1.0  # whether a word occurs, not how often
    together = (windows.T @ windows).tocoo()
    alone = together.diagonal()
    row, column = together.coords
    pmi = np.log(together.data * windows.shape[0] / (alone[row] * alone[column]))
    selected = (row != column) & (pmi > 0)
    return sparse.csr_array((pmi[selected], (row[selected], column[selected])), shape=(words, words))


def _windows(texts: Sequence[Ids]) -> Iterator[Ids]:
    for text in texts:
        for start in range(max(1, len(text) - WINDOW + 1)):
            yield text[start : start + WINDOW]


def _counts(texts: Sequence[Ids], words: int) -> Any:
    """Occurrences of each word in each text, shape (texts, words)."""
    starts = np.cumsum([0, *(len(text) for text in texts)])
    flat = np.array([word for text in texts for word in text], dtype=np.int64)
    counts = sparse.csr_array((np.ones(len(flat)), flat, starts), shape=(len(texts), words))
    counts.sum_duplicates()
    return counts
