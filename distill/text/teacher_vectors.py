"""Word vectors that a fine-tuned teacher makes: each word of a list through its encoder, reduced by PCA.

A student that starts from them knows what a word means for the task though no training text holds it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

SPREAD = 0.3  # standard deviation of the numbers of reduced vectors, about that of pretrained word vectors

Rows = NDArray[np.float32]


def reduced(rows: Rows, width: int) -> Rows:
    """The first ``width`` principal components (Pearson 1901) of ``rows`` (words, any width), scaled to ``SPREAD``.

    Fewer come back where there are fewer numbers or words.
    """
    from sklearn.decomposition import PCA

    width = min(width, *rows.shape)
    return scaled(PCA(width, svd_solver="covariance_eigh").fit_transform(rows).astype(np.float32))


def scaled(rows: Rows) -> Rows:
    """Rows whose numbers have the standard deviation ``SPREAD``, so that several kinds of vectors count alike."""
    return rows * np.float32(SPREAD / max(float(rows.std()), 1e-12))
