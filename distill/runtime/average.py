"""The averaging student as kernels/average.c computes it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from distill.runtime.arrays import Arrays, pad_axis
from distill.runtime.dense import dense_layer
from distill.runtime.native import lanes
from distill.runtime.pooling import PoolingNetwork
from distill.runtime.structs import Int32, Pointer, Struct


class EmbeddingTable(Struct):
    """Vectors in 16 bits; see kernels/average.c."""

    _fields_ = (("rows", Pointer), ("scale", Pointer), ("width", Int32))


class AverageNetwork(Struct):
    """Tables of words and n-grams; see kernels/average.c."""

    _fields_ = (("words", EmbeddingTable), ("ngrams", EmbeddingTable))


def average(_: Mapping[str, Any], arrays: Arrays) -> PoolingNetwork:
    """Mean and maximum of the vectors of words and n-grams, and a hidden layer."""
    tables = {name: _table(arrays, name) for name in ("words", "ngrams") if name in arrays}
    width, weight = arrays["words"].shape[1], arrays["layer.weight"]
    parts = pad_axis(weight.reshape(-1, width, weight.shape[1]), 1, lanes())
    pooled_width = parts.shape[0] * parts.shape[1]
    hidden = dense_layer(parts.reshape(pooled_width, -1), arrays["layer.bias"])
    struct = AverageNetwork.of(**tables)
    return PoolingNetwork("distill_average", struct, pooled_width, part_features=weight.shape[1], hidden=hidden)


def _table(arrays: Arrays, name: str) -> EmbeddingTable:
    rows = np.ascontiguousarray(pad_axis(arrays[name], 1, lanes()), np.int16)
    return EmbeddingTable.of(rows=rows, scale=pad_axis(arrays[f"{name}.scale"], 0, lanes()), width=rows.shape[1])
