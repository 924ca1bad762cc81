"""What the networks' kernels share on Python's side: arrays as the processor wants them, dense layers, classifier."""

from __future__ import annotations

import ctypes
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distill.errors import UserError
from distill.runtime.native import library

Arrays = Mapping[str, NDArray[Any]]
Floats = NDArray[np.float32]
LINE = 64  # bytes of the cache


@dataclass(frozen=True)
class Encoded:
    """Texts as the networks take them.

    Shapes: ``ids`` (texts, longest) int32, of which ``lengths`` (texts,) int32 count; ``rows`` (n-grams,) int32 of all
    texts, ``starts`` (texts + 1,) int64 where each text's begin.
    """

    ids: NDArray[np.int32]
    lengths: NDArray[np.int32]
    rows: NDArray[np.int32]
    starts: NDArray[np.int64]


def lanes() -> int:
    """Numbers of 32 bits in a vector of the kernels."""
    return int(library().distill_lanes())


def pointer(array: NDArray[Any] | None) -> ctypes.c_void_p:
    """Where an array lies; the caller keeps the array."""
    return ctypes.c_void_p(None if array is None else array.ctypes.data)


def padded(array: NDArray[Any], axis: int, multiple: int) -> NDArray[Any]:
    """Zeros after an axis, up to a multiple."""
    more = [(0, 0)] * array.ndim
    more[axis] = (0, -array.shape[axis] % multiple)
    return np.pad(array, more)


def aligned(*shape: int) -> NDArray[np.int16]:
    """Zeros that begin at a cache line, so that no vector lies across two; memory is taken when it is written."""
    size = math.prod(shape)
    raw = np.zeros(size + LINE // 2, np.int16)
    first = -raw.ctypes.data % LINE // 2
    return raw[first : first + size].reshape(shape)


def numbers(table: NDArray[np.int16], scale: Floats) -> Floats:
    """A table in 16 bits as float32."""
    return np.ascontiguousarray(table * scale, dtype=np.float32)


class Struct(ctypes.Structure):
    """A kernel's struct; ``kept`` holds the arrays that its pointers lead to."""

    def __init__(self, **values: Any) -> None:
        self.kept = [value for value in values.values() if isinstance(value, np.ndarray)]
        super().__init__(
            **{name: pointer(value) if isinstance(value, np.ndarray) else value for name, value in values.items()}
        )


def pointers(arrays: list[NDArray[Any]]) -> Any:
    """A pointer for each direction."""
    return (ctypes.c_void_p * 2)(*(array.ctypes.data for array in arrays))


class Dense:
    """``in . weight + bias``, weight (in, out), with or without ReLU."""

    def __init__(self, weight: Floats, bias: Floats, relu: bool = False) -> None:
        block, self.out, self.relu = 2 * lanes(), weight.shape[1], relu
        wide = padded(np.asarray(weight, np.float32), 1, block)
        self.weight = np.ascontiguousarray(wide.reshape(len(wide), -1, block).swapaxes(0, 1))
        self.bias = padded(np.asarray(bias, np.float32), 0, block)

    def __call__(self, given: Floats) -> Floats:
        """(texts, in) -> (texts, out)."""
        made = np.empty((len(given), len(self.bias)), np.float32)
        sizes = ctypes.c_int64(len(given)), given.shape[1]
        library().distill_dense(
            pointer(given), *sizes, pointer(self.weight), pointer(self.bias), made.shape[1], self.relu, pointer(made)
        )
        return made[:, : self.out]


class Classified:
    """What all students end with: a classifier, and what n-grams add to its logits."""

    def __init__(self, arrays: Arrays, features: int) -> None:
        """The classifier's weight has rows for (parts, features); each part is padded to whole vectors."""
        weight = arrays["classifier.weight"]
        parts = padded(weight.reshape(-1, features, weight.shape[1]), 1, 2 * lanes())
        self.classifier = Dense(parts.reshape(-1, weight.shape[1]), arrays["classifier.bias"])
        says = arrays.get("ngrams.says")
        self.says = None if says is None else np.ascontiguousarray(says, dtype=np.float32)

    def __call__(self, pooled: Floats, texts: Encoded) -> Floats:
        """Logits (texts, classes) of the texts' vectors (texts, parts x features)."""
        made = np.ascontiguousarray(self.classifier(pooled))
        if self.says is not None:
            sizes = ctypes.c_int64(len(made)), made.shape[1]
            given = pointer(self.says), pointer(texts.rows), pointer(texts.starts)
            library().distill_add_ngrams(*given, *sizes, pointer(made))
        return made


def check(failed: int) -> None:
    """Raise what a kernel's answer means: 0 is well, all else is a lack of memory."""
    if failed:
        raise UserError("there is no memory left for these texts", None, "give fewer or shorter texts at once")
