"""The networks without recurrence as kernels/pooled.c computes them."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from typing import Any

import numpy as np

from distill.runtime.layers import (
    Arrays,
    Classified,
    Dense,
    Encoded,
    Floats,
    Struct,
    aligned,
    check,
    lanes,
    numbers,
    padded,
    pointer,
)
from distill.runtime.native import library


class _Table(Struct):
    _fields_ = (("rows", ctypes.c_void_p), ("scale", ctypes.c_void_p), ("width", ctypes.c_int32))


def _table(arrays: Arrays, name: str) -> _Table:
    rows = np.ascontiguousarray(padded(arrays[name], 1, lanes()))
    return _Table(rows=rows, scale=padded(arrays[f"{name}.scale"], 0, lanes()), width=rows.shape[1])


class Average:
    """Pooled vectors of words and n-grams, a hidden layer: see kernels/pooled.c."""

    def __init__(self, card: Mapping[str, Any], arrays: Arrays) -> None:
        self.words = _table(arrays, "words")
        self.ngrams = _table(arrays, "ngrams") if "ngrams" in arrays else None
        width, weight = arrays["words"].shape[1], arrays["layer.weight"]
        parts = padded(weight.reshape(-1, width, weight.shape[1]), 1, lanes())
        self.width = parts.shape[0] * parts.shape[1]
        weight = padded(parts.reshape(self.width, -1), 1, 2 * lanes())
        self.layer = Dense(weight, padded(arrays["layer.bias"], 0, 2 * lanes()), relu=True)
        self.classified = Classified(arrays, arrays["layer.weight"].shape[1])

    def logits(self, texts: Encoded) -> Floats:
        """Logits, shape (texts, classes)."""
        count, longest = texts.ids.shape
        pooled = np.empty((count, self.width), np.float32)
        library().distill_average(
            ctypes.byref(self.words),
            pointer(texts.ids),
            pointer(texts.lengths),
            ctypes.c_int64(count),
            longest,
            ctypes.byref(self.ngrams) if self.ngrams else None,
            pointer(texts.rows),
            pointer(texts.starts),
            pointer(pooled),
        )
        return self.classified(self.layer(pooled), texts)


class _Convolutions(Struct):
    _fields_ = (
        *((name, ctypes.c_int32) for name in ("spans", "filters", "width")),
        *((name, ctypes.c_void_p) for name in ("vectors", "taps", "scale", "bias", "folded", "known")),
    )


class TextCNN:
    """Convolutions as sums of what each word says at each place of a filter: see kernels/pooled.c."""

    def __init__(self, card: Mapping[str, Any], arrays: Arrays) -> None:
        spans, hidden, block = int(card["spans"]), int(card["hidden"]), 2 * lanes()
        vectors = numbers(arrays["words"], arrays["words.scale"])
        longest = float(np.sqrt((vectors**2).sum(1).max()))
        width, filters = vectors.shape[1], -(-hidden // block) * block
        taps = padded(arrays["taps"].reshape(width, -1, hidden), 2, block).astype(np.float32)
        bounds = longest * np.sqrt((taps**2).sum(0))  # (taps, filters): no word's share is larger
        ends = np.cumsum(range(spans + 1))
        scale = np.stack([bounds[ends[s] : ends[s + 1]].sum(0) for s in range(spans)]) / 32000
        scale = np.maximum(scale, 1e-12).astype(np.float32)
        self.struct = _Convolutions(
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
        self.width = spans * filters
        self.classified = Classified(arrays, hidden)

    def logits(self, texts: Encoded) -> Floats:
        """Logits, shape (texts, classes)."""
        count, longest = texts.ids.shape
        pooled = np.empty((count, self.width), np.float32)
        check(
            library().distill_textcnn(
                ctypes.byref(self.struct),
                pointer(texts.ids),
                pointer(texts.lengths),
                ctypes.c_int64(count),
                longest,
                pointer(pooled),
            )
        )
        return self.classified(pooled, texts)
