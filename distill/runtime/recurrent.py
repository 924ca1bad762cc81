"""The biLSTM and biGRU students as kernels/recurrent.c computes them; the quantisation is described there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distill.runtime.arrays import Arrays, Floats, aligned_zeros, pad_axis, unit_blocks
from distill.runtime.constants import ELEMENTWISE_CELLS, STATE_GROUP, STATE_ONE
from distill.runtime.elementwise import TINY, column_scale, elementwise
from distill.runtime.native import lanes
from distill.runtime.pooling import DIRECTIONS, PoolingNetwork
from distill.runtime.structs import Int32, Pointer, Struct, address
from distill.runtime.word_vectors import WordVectors, max_word_norm, word_vectors

PER_DIRECTION = (
    *("input_weights", "bias", "projection_scale"),
    *("recurrent_weights", "zero_point", "recurrent_scale", "recurrent_bias"),
)
MAX_GROUP_SUM = 2**15 - STATE_GROUP // 2 * STATE_ONE  # of 16 bits; the rest is for weights that are rounded up


class Recurrent(Struct):
    """Weights of both directions, and the projections of words; see kernels/recurrent.c."""

    _fields_ = (
        *((name, Int32) for name in ("gates", "units", "sentence")),
        ("vectors", WordVectors),
        *((name, Pointer * 2) for name in PER_DIRECTION),
        ("projections", Pointer),
        ("states", Pointer),
    )


def recurrent(card: Mapping[str, Any], arrays: Arrays) -> PoolingNetwork:
    """The recurrent network of a bundle."""
    if card["cell"] in ELEMENTWISE_CELLS:
        return elementwise(card, arrays)
    gates, hidden = (3 if card["cell"] == "gru" else 4), int(card["hidden"])
    words, norm = len(arrays["words"]), max_word_norm(arrays)
    directions = [_Direction(arrays, name, gates, hidden, norm) for name in DIRECTIONS]
    units = directions[0].units
    struct = Recurrent.of(
        gates=gates,
        units=units,
        sentence=bool(card["sentence"]),
        vectors=word_vectors(arrays),
        **{name: (Pointer * 2)(*(address(getattr(one, name)) for one in directions)) for name in PER_DIRECTION},
        projections=aligned_zeros(words, 2, gates * units, dtype=np.int16),
        states=np.zeros(words, np.uint8),
    ).keep_alive(directions)
    return PoolingNetwork("distill_recurrent", struct, 4 * units, part_features=hidden, sorts_texts=True)


class _Direction:
    """The weights of one direction, in the kernel's order of columns: blocks of LANES units with gates side by side.

    The weights of sigmoid gates are halved, as sigmoid(x) = (1 + tanh(x / 2)) / 2.
    """

    def __init__(self, arrays: Arrays, name: str, gates: int, hidden: int, max_norm: float) -> None:
        self._gates, self._hidden, self._block = gates, hidden, 2 * lanes()  # whole vectors for the classifier too
        self.units = -(-hidden // self._block) * self._block
        self._quantise_input(arrays[f"input.{name}"], arrays[f"bias.{name}"], max_norm)
        recurrent_factor = 0.5 if gates == 3 else 1  # a GRU multiplies it by the reset gate, a sigmoid
        self.recurrent_bias = self._columns(arrays[f"recurrent_bias.{name}"], recurrent_factor)
        recurrent = self._columns(arrays[f"recurrent.{name}"], recurrent_factor)
        self._quantise_recurrent(pad_axis(recurrent, 0, self._block))

    def _columns(self, array: NDArray[Any], new_factor: float) -> Floats:
        """(…, gates x hidden) -> (…, columns); the third gate (LSTM's cell, GRU's new) is multiplied by the factor."""
        factors = np.array([0.5, 0.5, new_factor, 0.5][: self._gates])
        return unit_blocks(array * np.repeat(factors, self._hidden), self._hidden)

    def _quantise_input(self, weights: NDArray[Any], bias: NDArray[Any], max_norm: float) -> None:
        """Scales with which the projections of all words fit 16 bits, and the weights divided by them."""
        input_weights, input_bias = self._columns(weights, 1), self._columns(bias, 1)
        self.projection_scale = column_scale(input_weights, input_bias, max_norm)
        self.input_weights, self.bias = input_weights / self.projection_scale, input_bias / self.projection_scale

    def _quantise_recurrent(self, weights: Floats) -> None:
        """Weights (units, columns) in 8 bits, with their scales and the zero-point correction."""
        scale = np.maximum(_weight_scale(weights), TINY)
        self.recurrent_scale = (scale / STATE_ONE).astype(np.float32)
        quantised = np.rint(weights / scale).astype(np.int8)
        self.zero_point = -STATE_ONE * quantised.sum(0, dtype=np.int32)
        fours = quantised.reshape(self.units // 4, 4, -1, self._gates, lanes())  # (units / 4, 4, blocks, gates, lanes)
        fours = fours.transpose(2, 0, 3, 4, 1)
        self.recurrent_weights = aligned_zeros(*fours.shape, dtype=np.int8)
        self.recurrent_weights[...] = fours


def _weight_scale(weights: Floats) -> Floats:
    """The smallest scale of each column of (units, columns) with which no 16-bit sum of a group overflows.

    A 16-bit accumulator adds up every other pair of a group's products. A state is 0 to 2 ``STATE_ONE``, so the sum is
    largest where all states with positive weights, or all with negative ones, are at their maximum.
    """
    groups = weights.reshape(-1, STATE_GROUP // 4, 2, 2, weights.shape[-1])
    positive, negative = groups.clip(0, None).sum((1, 3)), -groups.clip(None, 0).sum((1, 3))
    max_sums = np.maximum(positive, negative)  # (groups, accumulators, columns)
    return np.asarray(max_sums.max((0, 1)) * 2 * STATE_ONE / MAX_GROUP_SUM)
