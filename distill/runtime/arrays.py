"""Arrays in the form that the vector kernels need: padded to whole vectors, aligned to cache lines."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distill.runtime.native import lanes

Arrays = Mapping[str, NDArray[Any]]
Floats = NDArray[np.float32]
CACHE_LINE = 64  # bytes


def pad_axis(array: NDArray[Any], axis: int, multiple: int) -> NDArray[Any]:
    """Append zeros along an axis, up to the next multiple."""
    padding = [(0, 0)] * array.ndim
    padding[axis] = (0, -array.shape[axis] % multiple)
    return np.pad(array, padding)


def unit_blocks(array: NDArray[Any], hidden: int) -> Floats:
    """(…, parts x hidden) -> (…, columns): blocks of LANES units, with their parts side by side.

    The units are padded with zeros to whole pairs of blocks, as the classifier's kernel needs them.
    """
    leading = array.shape[:-1]
    parts = pad_axis(array.reshape(*leading, -1, hidden), -1, 2 * lanes())
    blocks = parts.reshape(*leading, parts.shape[-2], -1, lanes()).swapaxes(-3, -2)
    return np.ascontiguousarray(blocks.reshape(*leading, -1), dtype=np.float32)


def aligned_zeros(*shape: int, dtype: type[np.int8 | np.int16 | np.float32]) -> NDArray[Any]:
    """Zeros that begin at a cache line, so that no vector crosses two; the memory is taken when it is first written."""
    size = math.prod(shape) * np.dtype(dtype).itemsize
    buffer = np.zeros(size + CACHE_LINE, np.uint8)
    first = -buffer.ctypes.data % CACHE_LINE
    return buffer[first : first + size].view(dtype).reshape(shape)


def dequantise(table: NDArray[np.int16 | np.int8], scale: Floats) -> Floats:
    """A table of integers with one scale per column, as float32."""
    return np.ascontiguousarray(table * scale, dtype=np.float32)
