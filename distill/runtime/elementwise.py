"""The students without a matrix between states, as kernels/elementwise.c computes them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from distill.runtime.arrays import Arrays, Floats, aligned_zeros, unit_blocks
from distill.runtime.constants import ELEMENTWISE_CELLS
from distill.runtime.native import lanes
from distill.runtime.pooling import DIRECTIONS, PoolingNetwork
from distill.runtime.structs import Int32, Pointer, Struct, address
from distill.runtime.word_vectors import WordVectors, max_word_norm, word_vectors

PARTS = {"mingru": 2, "sru": 3, "qrnn": 6}  # numbers of a unit in a word's row
PART_SIZES = {"mingru": 1, "sru": 2, "qrnn": 2}  # bytes of each
MAX_PRODUCT = 32000  # of a word in 16 bits, with room for the rounding of float32
TINY = 1e-12  # the smallest scale: a column may be all zeros
PER_DIRECTION = ("input_weights", "bias", "scale", "state_weights")


class Elementwise(Struct):
    """Weights of both directions, and the rows of words; see kernels/elementwise.c."""

    _fields_ = (
        *((name, Int32) for name in ("cell", "parts", "part_size", "units", "words")),
        ("vectors", WordVectors),
        *((name, Pointer * 2) for name in PER_DIRECTION),
        ("rows", Pointer),
        ("states", Pointer),
    )


def elementwise(card: Mapping[str, Any], arrays: Arrays) -> PoolingNetwork:
    """The minGRU, SRU or QRNN of a bundle, in both directions."""
    cell, hidden = card["cell"], int(card["hidden"])
    words, norm = len(arrays["words"]), max_word_norm(arrays)
    directions = [_ElementwiseDirection(arrays, name, cell, hidden, norm) for name in DIRECTIONS]
    units, parts = directions[0].units, PARTS[cell]
    struct = Elementwise.of(
        cell=ELEMENTWISE_CELLS[cell],
        parts=parts,
        part_size=PART_SIZES[cell],
        units=units,
        words=words,
        vectors=word_vectors(arrays),
        **{name: (Pointer * 2)(*(address(getattr(one, name)) for one in directions)) for name in PER_DIRECTION},
        rows=aligned_zeros(words + 1, 2, parts * units, PART_SIZES[cell], dtype=np.int8),
        states=np.zeros(words, np.uint8),
    ).keep_alive(directions)
    return PoolingNetwork("distill_elementwise", struct, 4 * units, part_features=hidden)


def column_scale(weights: Floats, bias: Floats, max_norm: float) -> Floats:
    """What to divide ``vector . weights + bias`` by so that it fits 16 bits, for any vector with at most that norm.

    Shapes: ``weights`` (width, columns), ``bias`` and the result (columns,).
    """
    bounds = max_norm * np.sqrt((weights**2).sum(0)) + np.abs(bias)  # Cauchy-Schwarz
    scale: Floats = np.maximum(bounds / MAX_PRODUCT, TINY).astype(np.float32)
    return scale


class _ElementwiseDirection:
    """The weights of one direction in the kernel's order of columns.

    The weights of sigmoid gates are halved, as sigmoid(x) = (1 + tanh(x / 2)) / 2. A minGRU's are not: its gates are
    computed exactly, once for each word.
    """

    def __init__(self, arrays: Arrays, name: str, cell: str, hidden: int, max_norm: float) -> None:
        self.units = -(-hidden // (2 * lanes())) * 2 * lanes()
        halved = {"mingru": (1.0, 1.0), "sru": (1.0, 0.5, 0.5), "qrnn": (1.0, 0.5, 0.5) * 2}[cell]
        factors = np.repeat(np.array(halved, np.float32), hidden)
        weights, bias = arrays[f"input.{name}"], arrays[f"bias.{name}"]
        if cell == "qrnn":  # what a word adds to its own step, then to the next one
            weights = np.concatenate(np.split(weights, 2), axis=1)
            bias = np.concatenate([bias, np.zeros_like(bias)])
        self._quantise(unit_blocks(weights * factors, hidden), unit_blocks(bias * factors, hidden), cell, max_norm)
        state_weights = arrays.get(f"state.{name}", np.zeros((2, hidden), np.float32))
        padding = ((0, 0), (0, self.units - hidden))
        self.state_weights = np.pad(np.asarray(state_weights, np.float32) / 2, padding)

    def _quantise(self, weights: Floats, bias: Floats, cell: str, max_norm: float) -> None:
        """Scales with which the rows of all words fit 16 bits, and the weights divided by them."""
        scale = np.ones_like(bias) if cell == "mingru" else column_scale(weights, bias, max_norm)
        if cell == "qrnn":  # a word's own part and that of the word before are added as integers
            parts = scale.reshape(-1, 2, 3, lanes())
            scale = np.broadcast_to(parts.max(axis=1, keepdims=True), parts.shape).reshape(-1).copy()
        self.scale, self.input_weights, self.bias = scale, weights / scale, bias / scale
