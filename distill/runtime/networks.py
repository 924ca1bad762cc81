"""A bundle's network as the kernels take it: one struct for all students; see kernels/classify.c."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distill.runtime.layers import Arrays, Dense, Floats, Struct, check, dense, lanes, padded, pointer
from distill.runtime.native import library
from distill.runtime.pooled import average, convolutions
from distill.runtime.recurrent import recurrent

KINDS = {"bilstm": recurrent, "textcnn": convolutions, "average": average}  # in the order of kernels/classify.c


class Encoded(Struct):
    """Texts as ids; see kernels/networks.h."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("ids", "lengths", "rows", "starts")),
        ("texts", ctypes.c_int64),
        ("longest", ctypes.c_int32),
    )


def encoded(
    ids: NDArray[np.int32], lengths: NDArray[np.int32], rows: NDArray[np.int32], starts: NDArray[np.int64]
) -> Encoded:
    """Texts as ids.

    Args:
        ids: of the words, shape (texts, longest).
        lengths: how many of them count, shape (texts,).
        rows: of all texts' n-grams, shape (n-grams,).
        starts: where each text's begin, shape (texts + 1,).
    """
    return Encoded(ids=ids, lengths=lengths, rows=rows, starts=starts, texts=len(ids), longest=ids.shape[1])


class NativeStudent(Struct):
    """See kernels/classify.c."""

    _fields_ = (
        ("kind", ctypes.c_int32),
        ("width", ctypes.c_int32),
        ("network", ctypes.c_void_p),
        ("layer", Dense),
        ("classifier", Dense),
        ("says", ctypes.c_void_p),
        ("classes", ctypes.c_int32),
    )

    def logits(self, texts: Encoded) -> Floats:
        """Logits, shape (texts, classes)."""
        found = self.room(texts.texts)
        check(library().distill_logits(ctypes.byref(self), ctypes.byref(texts), pointer(found)))
        return found[:, : self.classes]

    def room(self, texts: int) -> Floats:
        """An array for logits; its last columns, beyond the classes, are padding."""
        return np.empty((texts, self.classifier.out), np.float32)


def student(card: Mapping[str, Any], arrays: Arrays) -> NativeStudent:
    """The student of a bundle's card."""
    made = KINDS[card["architecture"]](card, arrays)
    weight, says = arrays["classifier.weight"], arrays.get("ngrams.says")
    parts = padded(weight.reshape(-1, made.features, weight.shape[1]), 1, 2 * lanes())
    return NativeStudent(
        kind=list(KINDS).index(card["architecture"]),
        width=made.width,
        network=ctypes.addressof(made.struct),
        layer=made.layer,
        classifier=dense(parts.reshape(-1, weight.shape[1]), arrays["classifier.bias"]),
        classes=weight.shape[1],
        **({} if says is None else {"says": np.ascontiguousarray(says, dtype=np.float32)}),
    ).keeping(made.struct)
