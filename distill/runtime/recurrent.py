"""biLSTM and biGRU as kernels/recurrent.c computes them."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distill.runtime.layers import Arrays, Floats, Made, Struct, aligned, lanes, numbers, padded
from distill.runtime.texts import address

STATE_ONE = 127  # a state of 1 as an integer, as in kernels/recurrent.c
GROUP = 16  # states whose products are summed in 16 bits, likewise
SUM = 2**15 - GROUP // 2 * STATE_ONE  # of a group's products; weights that are rounded up take the rest
DIRECTIONS = ("ahead", "back")


BOTH = ctypes.c_void_p * 2  # directions
OF_DIRECTION = ("input", "bias", "folded_scale", "recurrent", "rest", "recurrent_scale", "recurrent_bias")


class Recurrent(Struct):
    """See kernels/networks.h."""

    _fields_ = (
        *((name, ctypes.c_int32) for name in ("gates", "units", "width", "sentence")),
        ("vectors", ctypes.c_void_p),
        *((name, BOTH) for name in OF_DIRECTION),
        ("folded", ctypes.c_void_p),
        ("known", ctypes.c_void_p),
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
    )
    return Made(struct.keeping(directions), width=4 * units, features=hidden)


class _Direction:
    """One direction's weights: blocks of units, gates side by side, recurrent weights in seven bits and a sign.

    A sigmoid is made of tanh of half of what goes in, so the weights of those gates are halved here.
    """

    def __init__(self, arrays: Arrays, name: str, gates: int, hidden: int, longest: float) -> None:
        block = 2 * lanes()  # whole vectors for the classifier too
        self.units = -(-hidden // block) * block

        def blocks(array: NDArray[Any], new: float) -> Floats:
            """(…, gates x hidden) -> (…, columns), the gates of one block of units side by side."""
            share = np.array([0.5, 0.5, new, 0.5][:gates])[:, None]
            split = padded(array.reshape(*array.shape[:-1], gates, hidden) * share, -1, block)
            split = split.reshape(*array.shape[:-1], gates, -1, lanes()).swapaxes(-3, -2)
            return np.ascontiguousarray(split.reshape(*array.shape[:-1], -1), dtype=np.float32)

        weight, bias = blocks(arrays[f"input.{name}"], 1), blocks(arrays[f"bias.{name}"], 1)
        bound = longest * np.sqrt((weight**2).sum(0)) + np.abs(bias)  # Cauchy-Schwarz: no word's share is larger
        self.folded_scale = np.maximum(bound / 32767, 1e-12).astype(np.float32)
        self.input, self.bias = weight / self.folded_scale, bias / self.folded_scale
        new = 0.5 if gates == 3 else 1  # a GRU's is multiplied with the reset gate, a sigmoid, first
        self.recurrent_bias = blocks(arrays[f"recurrent_bias.{name}"], new)
        recurrent = padded(blocks(arrays[f"recurrent.{name}"], new), 0, block)  # (units, columns)
        scale = np.maximum(_scale(recurrent), 1e-12)
        self.recurrent_scale = (scale / STATE_ONE).astype(np.float32)
        whole = np.rint(recurrent / scale).astype(np.int8)
        self.rest = -STATE_ONE * whole.sum(0, dtype=np.int32)
        fours = whole.reshape(self.units // 4, 4, -1, gates, lanes())  # (k / 4, 4, blocks, gates, lanes)
        fours = fours.transpose(2, 0, 3, 4, 1)
        self.recurrent = aligned(*fours.shape, dtype=np.int8)
        self.recurrent[...] = fours


def _scale(weights: Floats) -> Floats:
    """Of each column of (units, columns): the smallest with which no sum of a group is too large, and so no weight.

    A lane sums pairs of products, those of every other pair of a group's states; states are 0 to 2 ``STATE_ONE``.
    """
    groups = weights.reshape(-1, GROUP // 4, 2, 2, weights.shape[-1])
    most = np.maximum(groups.clip(0, None).sum((1, 3)), -groups.clip(None, 0).sum((1, 3)))  # (groups, lanes, columns)
    return np.asarray(most.max((0, 1)) * 2 * STATE_ONE / SUM)
