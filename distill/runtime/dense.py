"""Dense layers as kernels/dense.c computes them."""

from __future__ import annotations

import numpy as np

from distill.runtime.arrays import Floats, pad_axis
from distill.runtime.native import lanes
from distill.runtime.structs import Dense


def dense_layer(weight: Floats, bias: Floats) -> Dense:
    """The layer ``in . weight + bias`` with its output padded to whole vectors: weight (in, out), bias (out,)."""
    block = 2 * lanes()
    padded = pad_axis(np.asarray(weight, np.float32), 1, block)
    blocks = np.ascontiguousarray(padded.reshape(len(padded), -1, block).swapaxes(0, 1))
    return Dense.of(weight=blocks, bias=pad_axis(np.asarray(bias, np.float32), 0, block), out=padded.shape[1])
