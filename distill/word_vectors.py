"""Word vectors that a fine-tuned teacher makes: each word of a list through its encoder, reduced by PCA.

A student that starts from them knows what a word means for the task though no training text holds it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

SPREAD = 0.3  # standard deviation of the numbers of reduced vectors, about that of pretrained word vectors

Rows = NDArray[np.float32]


def reduced(blocks: Sequence[Rows], width: int) -> Rows:
    """One vector a word, (words, ``width``), from one or several of it, (words, widths) each.

    The numbers have the standard deviation ``SPREAD``. The blocks count alike, whatever their scales. Principal
    component analysis (Pearson 1901) keeps the directions in which they vary most; fewer columns come back where there
    are fewer numbers or words.
    """
    from sklearn.decomposition import PCA

    joined = np.concatenate([_scaled(block) for block in blocks], axis=1)
    width = min(width, *joined.shape)
    return _scaled(PCA(width, svd_solver="covariance_eigh").fit_transform(joined).astype(np.float32))


def _scaled(rows: Rows) -> Rows:
    return rows * np.float32(SPREAD / max(float(rows.std()), 1e-12))
