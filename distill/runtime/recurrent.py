"""biLSTM and biGRU as kernels/recurrent.c computes them."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distill.runtime.layers import Arrays, Floats, Made, Struct, aligned, lanes, numbers, padded
from distill.runtime.texts import address

STATE_ONE = 8192  # a state of 1 as an integer: 13 bits, which leave a sum of 128 products 18 bits for the weights
DIRECTIONS = ("ahead", "back")


BOTH = ctypes.c_void_p * 2  # directions
OF_DIRECTION = ("input", "bias", "folded_scale", "recurrent", "recurrent_scale", "recurrent_bias")


class Recurrent(Struct):
    """See kernels/networks.h."""

    _fields_ = (
        *((name, ctypes.c_int32) for name in ("gates", "units", "width", "sentence")),
        ("vectors", ctypes.c_void_p),
        *((name, BOTH) for name in OF_DIRECTION),
        ("folded", ctypes.c_void_p),
        ("known", ctypes.c_void_p),
        ("state_scale", ctypes.c_float),
    )


def recurrent(card: Mapping[str, Any], arrays: Arrays) -> Made:
    """BiLSTM or biGRU of a bundle."""
    gates, hidden = (3 if card["cell"] == "gru" else 4), int(card["hidden"])
    vectors = numbers(arrays["words"], arrays["words.scale"])
    longest = float(np.sqrt((vectors**2).sum(1).max()))
    directions = [_Direction(arrays, name, gates, hidden, longest) for name in DIRECTIONS]
    units = directions[0].units
    struct = Recurrent(
        gates=gates,
        units=units,
        width=vectors.shape[1],
        sentence=bool(card["sentence"]),
        vectors=vectors,
        **{name: (ctypes.c_void_p * 2)(*(address(getattr(one, name)) for one in directions)) for name in OF_DIRECTION},
        folded=aligned(len(vectors), 2, gates * units),
        known=np.zeros(len(vectors), np.uint8),
        state_scale=STATE_ONE,
    )
    return Made(struct.keeping(directions), width=4 * units, features=hidden)


class _Direction:
    """One direction's weights: blocks of units, gates side by side, recurrent weights in 16 bits."""

    def __init__(self, arrays: Arrays, name: str, gates: int, hidden: int, longest: float) -> None:
        block = 2 * lanes()  # whole vectors for the classifier too
        self.units = -(-hidden // block) * block

        def blocks(array: NDArray[Any]) -> Floats:
            """(…, gates x hidden) -> (…, columns), the gates of one block of units side by side."""
            split = padded(array.reshape(*array.shape[:-1], gates, hidden), -1, block)
            split = split.reshape(*array.shape[:-1], gates, -1, lanes()).swapaxes(-3, -2)
            return np.ascontiguousarray(split.reshape(*array.shape[:-1], -1), dtype=np.float32)

        weight, bias = blocks(arrays[f"input.{name}"]), blocks(arrays[f"bias.{name}"])
        bound = longest * np.sqrt((weight**2).sum(0)) + np.abs(bias)  # Cauchy-Schwarz: no word's share is larger
        self.folded_scale = np.maximum(bound / 32767, 1e-12).astype(np.float32)
        self.input, self.bias = weight / self.folded_scale, bias / self.folded_scale
        self.recurrent_bias = blocks(arrays[f"recurrent_bias.{name}"])
        recurrent = padded(blocks(arrays[f"recurrent.{name}"]), 0, block)  # (units, columns)
        sums = np.abs(recurrent).sum(0) * STATE_ONE / (0.999 * 2**31)  # no sum of products leaves 32 bits
        scale = np.maximum(np.maximum(np.abs(recurrent).max(0) / 32767, sums), 1e-12)
        self.recurrent_scale = (scale / STATE_ONE).astype(np.float32)
        whole = np.rint(recurrent / scale).astype(np.int16)
        pairs = whole.reshape(self.units // 2, 2, -1, gates, lanes())  # (k / 2, 2, blocks, gates, lanes)
        pairs = pairs.transpose(2, 0, 3, 4, 1)
        self.recurrent = aligned(*pairs.shape)
        self.recurrent[...] = pairs
