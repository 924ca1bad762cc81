"""The networks without recurrence as kernels/pooled.c computes them."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from typing import Any

import numpy as np

from distill.runtime.layers import Arrays, Made, Struct, aligned, dense, lanes, numbers, padded


class NativeTable(Struct):
    """See kernels/networks.h."""

    _fields_ = (("rows", ctypes.c_void_p), ("scale", ctypes.c_void_p), ("width", ctypes.c_int32))


class NativeAverage(Struct):
    """See kernels/networks.h."""

    _fields_ = (("words", NativeTable), ("ngrams", NativeTable))


class Convolutions(Struct):
    """See kernels/networks.h."""

    _fields_ = (
        *((name, ctypes.c_int32) for name in ("spans", "filters", "width")),
        *((name, ctypes.c_void_p) for name in ("vectors", "taps", "scale", "bias", "folded", "known")),
    )


def average(_: Mapping[str, Any], arrays: Arrays) -> Made:
    """Pooled vectors of words and n-grams, and a hidden layer."""
    tables = {name: _table(arrays, name) for name in ("words", "ngrams") if name in arrays}
    width, weight = arrays["words"].shape[1], arrays["layer.weight"]
    parts = padded(weight.reshape(-1, width, weight.shape[1]), 1, lanes())
    rows = parts.shape[0] * parts.shape[1]
    layer = dense(parts.reshape(rows, -1), arrays["layer.bias"])
    return Made(NativeAverage(**tables), width=rows, features=weight.shape[1], layer=layer)


def _table(arrays: Arrays, name: str) -> NativeTable:
    rows = np.ascontiguousarray(padded(arrays[name], 1, lanes()))
    return NativeTable(rows=rows, scale=padded(arrays[f"{name}.scale"], 0, lanes()), width=rows.shape[1])


def convolutions(card: Mapping[str, Any], arrays: Arrays) -> Made:
    """Convolutions as sums of what each word says at each place of a filter."""
    spans, hidden, block = int(card["spans"]), int(card["hidden"]), 2 * lanes()
    vectors = numbers(arrays["words"], arrays["words.scale"])
    longest = float(np.sqrt((vectors**2).sum(1).max()))
    width, filters = vectors.shape[1], -(-hidden // block) * block
    taps = padded(arrays["taps"].reshape(width, -1, hidden), 2, block).astype(np.float32)
    bounds = longest * np.sqrt((taps**2).sum(0))  # (taps, filters): no word's share is larger
    ends = np.cumsum(range(spans + 1))
    scale = np.stack([bounds[ends[s] : ends[s + 1]].sum(0) for s in range(spans)]) / 32000
    scale = np.maximum(scale, 1e-12).astype(np.float32)
    struct = Convolutions(
        spans=spans,
        filters=filters,
        width=width,
        vectors=vectors,
        taps=np.ascontiguousarray(taps / np.repeat(scale, np.arange(1, spans + 1), axis=0)),
        scale=scale,
        bias=np.ascontiguousarray(padded(arrays["taps.bias"].reshape(spans, hidden), 1, block)),
        folded=aligned(len(vectors), taps.shape[1], filters),
        known=np.zeros(len(vectors), np.uint8),
    )
    return Made(struct, width=spans * filters, features=hidden)
