"""What the networks' kernels share on Python's side: arrays as the processor wants them, dense layers, classifier."""

from __future__ import annotations

import ctypes
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from distill.errors import UserError
from distill.runtime.native import library
from distill.runtime.texts import address

Arrays = Mapping[str, NDArray[Any]]
Floats = NDArray[np.float32]
LINE = 64  # bytes of the cache


def lanes() -> int:
    """Numbers of 32 bits in a vector of the kernels."""
    return int(library().distill_lanes())


def pointer(array: NDArray[Any]) -> ctypes.c_void_p:
    """Where an array lies; the caller keeps the array."""
    return ctypes.c_void_p(address(array))


def padded(array: NDArray[Any], axis: int, multiple: int) -> NDArray[Any]:
    """Zeros after an axis, up to a multiple."""
    more = [(0, 0)] * array.ndim
    more[axis] = (0, -array.shape[axis] % multiple)
    return np.pad(array, more)


def aligned(*shape: int, dtype: type[np.int8 | np.int16] = np.int16) -> NDArray[Any]:
    """Zeros that begin at a cache line, so that no vector lies across two; memory is taken when it is written."""
    size = math.prod(shape) * np.dtype(dtype).itemsize
    raw = np.zeros(size + LINE, np.uint8)
    first = -raw.ctypes.data % LINE
    return raw[first : first + size].view(dtype).reshape(shape)


def numbers(table: NDArray[np.int16], scale: Floats) -> Floats:
    """A table in 16 bits as float32."""
    return np.ascontiguousarray(table * scale, dtype=np.float32)


class Struct(ctypes.Structure):
    """A kernel's struct of numbers, arrays (as pointers) and structs; ``kept`` holds what the pointers lead to."""

    def __init__(self, **values: Any) -> None:
        self.kept = values
        super().__init__(
            **{name: address(value) if isinstance(value, np.ndarray) else value for name, value in values.items()}
        )

    def keeping(self, *more: object) -> Self:
        """This struct, with what else its pointers lead to."""
        self.kept[f"{len(self.kept)}"] = more
        return self


class Dense(Struct):
    """The struct of a dense layer; see kernels/networks.h."""

    _fields_ = (("weight", ctypes.c_void_p), ("bias", ctypes.c_void_p), ("out", ctypes.c_int32))


def dense(weight: Floats, bias: Floats) -> Dense:
    """A layer ``in . weight + bias``, its width padded to whole vectors: weight (in, out), bias (out,)."""
    block = 2 * lanes()
    wide = padded(np.asarray(weight, np.float32), 1, block)
    blocks = np.ascontiguousarray(wide.reshape(len(wide), -1, block).swapaxes(0, 1))
    return Dense(weight=blocks, bias=padded(np.asarray(bias, np.float32), 0, block), out=wide.shape[1])


def check(failed: int) -> None:
    """Raise what a kernel's answer means: 0 is well, all else is a lack of memory."""
    if failed:
        raise UserError("there is no memory left for these texts", None, "give fewer or shorter texts at once")


@dataclass(frozen=True)
class Made:
    """A network's struct, the width of what it makes of a text, and of that the features of each part.

    The classifier (or ``layer``, where there is one) sees parts that are padded to whole vectors.
    """

    struct: Struct
    width: int
    features: int
    layer: Dense = field(default_factory=Dense)
