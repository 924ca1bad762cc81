"""A bundle's word vectors as kernels/word_vectors.h reads them: integers, so that they take little memory."""

from __future__ import annotations

import math

import numpy as np

from distill.runtime.arrays import Arrays, dequantise
from distill.runtime.structs import Int32, Pointer, Struct

ROWS_AT_ONCE = 4096


class WordVectors(Struct):
    """Vectors of all words in 8 or 16 bits; see kernels/word_vectors.h."""

    _fields_ = (("rows", Pointer), ("scale", Pointer), ("width", Int32), ("size", Int32))


def word_vectors(arrays: Arrays) -> WordVectors:
    """The word vectors of a bundle; copied, because an array of a bundle keeps the whole file in memory."""
    rows = np.array(arrays["words"], arrays["words"].dtype.newbyteorder("="))
    scale = np.array(arrays["words.scale"], np.float32)
    return WordVectors.of(rows=rows, scale=scale, width=rows.shape[1], size=rows.itemsize)


def max_word_norm(arrays: Arrays) -> float:
    """The largest Euclidean norm of a word's vector."""
    words, scale = arrays["words"], arrays["words.scale"]
    blocks = (dequantise(words[first : first + ROWS_AT_ONCE], scale) for first in range(0, len(words), ROWS_AT_ONCE))
    return math.sqrt(max(float((block**2).sum(1).max()) for block in blocks))
