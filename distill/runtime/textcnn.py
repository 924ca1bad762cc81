"""The convolutional student as kernels/textcnn.c computes it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from distill.runtime.arrays import Arrays, aligned_zeros, pad_axis
from distill.runtime.native import lanes
from distill.runtime.pooling import PoolingNetwork
from distill.runtime.structs import Int32, Pointer, Struct
from distill.runtime.word_vectors import WordVectors, max_word_norm, word_vectors

MAX_SUM = 32000  # of a filter's taps in 16-bit integers, with room for their rounding


class TextCNNNetwork(Struct):
    """Filters and the projections of words; see kernels/textcnn.c."""

    _fields_ = (
        ("max_span", Int32),
        ("filters", Int32),
        ("vectors", WordVectors),
        *((name, Pointer) for name in ("taps", "scale", "bias", "projections", "states")),
    )


def textcnn(card: Mapping[str, Any], arrays: Arrays) -> PoolingNetwork:
    """Convolutions as sums of the words' projections at each tap of a filter."""
    max_span, hidden, block = int(card["spans"]), int(card["hidden"]), 2 * lanes()
    (words, width), filters = arrays["words"].shape, -(-hidden // block) * block
    taps = pad_axis(arrays["taps"].reshape(width, -1, hidden), 2, block).astype(np.float32)
    bounds = max_word_norm(arrays) * np.sqrt((taps**2).sum(0))  # (taps, filters): Cauchy-Schwarz, for any word
    ends = np.cumsum(range(max_span + 1))
    scale = np.stack([bounds[ends[s] : ends[s + 1]].sum(0) for s in range(max_span)]) / MAX_SUM
    scale = np.maximum(scale, 1e-12).astype(np.float32)
    struct = TextCNNNetwork.of(
        max_span=max_span,
        filters=filters,
        vectors=word_vectors(arrays),
        taps=np.ascontiguousarray(taps / np.repeat(scale, np.arange(1, max_span + 1), axis=0)),
        scale=scale,
        bias=np.ascontiguousarray(pad_axis(arrays["taps.bias"].reshape(max_span, hidden), 1, block)),
        projections=aligned_zeros(words, taps.shape[1], filters, dtype=np.int16),
        states=np.zeros(words, np.uint8),
    )
    return PoolingNetwork("distill_textcnn", struct, max_span * filters, part_features=hidden)
