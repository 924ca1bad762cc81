"""Kernels that read the input projection of a word from a table: numpy, numba, floating-point C."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from distill.export.bundle import network_arrays
from distill.models.bilstm import BiLSTM
from distill.runtime import native
from distill.runtime.arrays import CACHE_LINE
from distill.runtime.native import lanes
from distill.runtime.recurrent import DIRECTIONS
from distill.runtime.structs import address

Floats = NDArray[np.float32]
END = np.float32(7.90531110763549805)
NUMERATOR = tuple(
    np.float32(
        [
            *(-2.76076847742355e-16, 2.00018790482477e-13, -8.60467152213735e-11, 5.12229709037114e-08),
            *(1.48572235717979e-05, 6.37261928875436e-04, 4.89352455891786e-03),
        ]
    )
)
DENOMINATOR = tuple(
    np.float32([1.19825839466702e-06, 1.18534705686654e-04, 2.26843463243900e-03, 4.89352518554385e-03])
)
MOST_ROWS = 6  # of LSTM_ROWS in vectors.h


@dataclass(frozen=True)
class Texts:
    """Padded word ids (texts, longest) and lengths (texts,); the longest text comes first."""

    ids: NDArray[np.int32]
    lengths: NDArray[np.int32]


Run = Callable[[Texts], Floats]  # logits (texts, classes)


@dataclass(frozen=True)
class Folded:
    """A student with precomputed input projections.

    ``table`` (words, 2, 4 x hidden) holds every word's contribution to the gates in both directions, biases included;
    ``recurrent`` is (2, hidden, 4 x hidden).
    """

    table: Floats
    recurrent: Floats
    classifier: Floats
    bias: Floats

    @property
    def hidden(self) -> int:
        """Units in each direction."""
        return int(self.recurrent.shape[1])

    def logits(self, pooled: Floats) -> Floats:
        """Apply the classifier to maximum and mean of both directions, (texts, 4 x hidden) in any shape."""
        return pooled.reshape(len(pooled), -1) @ self.classifier + self.bias


def fold(model: BiLSTM) -> Folded:
    """Precompute the input projections of a student, and halve the sigmoid inputs so that all gates use tanh.

    This uses sigmoid(x) = (1 + tanh(x / 2)) / 2.
    """
    _, arrays = network_arrays(model)
    half = np.repeat(np.float32([0.5, 0.5, 1, 0.5]), model.config.hidden)
    vectors = model.state_dict()["embedding.weight"].numpy()
    projections = [vectors @ arrays[f"input.{name}"] + arrays[f"bias.{name}"] for name in DIRECTIONS]
    recurrent = np.stack([arrays[f"recurrent.{name}"] for name in DIRECTIONS])
    halved = [np.ascontiguousarray(array * half) for array in (np.stack(projections, axis=1), recurrent)]
    return Folded(*halved, arrays["classifier.weight"], arrays["classifier.bias"])


def quantised(table: Floats, kind: str) -> tuple[NDArray[Any], Floats]:
    """Return a table in another type, and the scale of its columns, (2, 4 x hidden)."""
    if kind.startswith("float"):
        return table.astype(kind), np.ones(table.shape[1:], np.float32)
    scale = np.abs(table).max(0) / np.iinfo(kind).max
    return np.rint(table / scale).astype(kind), scale


def in_numpy(net: Folded, kind: str) -> Run:
    """Use one matrix product per step, over the texts that still have words; ``kind`` is the type of the table."""
    table, scale = quantised(net.table, kind)

    def walk(batch: Texts, direction: int) -> tuple[Floats, Floats]:
        """Return maximum and sum of the states of one direction, both (texts, hidden)."""
        state, cell, total = np.zeros((3, len(batch.ids), net.hidden), np.float32)
        maximum = np.full_like(total, -2)
        for step in range(batch.lengths[0]):
            alive = int((batch.lengths > step).sum())
            positions = batch.lengths[:alive] - 1 - step if direction else step
            gates = table[batch.ids[np.arange(alive), positions], direction]
            if kind != "float32":
                gates = gates * scale[direction]
            gates += state[:alive] @ net.recurrent[direction]
            into, forget, new, out = np.tanh(gates, out=gates).reshape(alive, 4, -1).swapaxes(0, 1)
            cell = (forget * 0.5 + 0.5) * cell[:alive] + (into * 0.5 + 0.5) * new
            state = np.tanh(cell) * (out * 0.5 + 0.5)
            np.maximum(maximum[:alive], state, out=maximum[:alive])
            total[:alive] += state
        return maximum, total

    def run(batch: Texts) -> Floats:
        (maximum, total), (back_maximum, back_total) = walk(batch, 0), walk(batch, 1)
        return net.logits(
            np.hstack([maximum, back_maximum, *(part / batch.lengths[:, None] for part in (total, back_total))])
        )

    return run


@numba.njit(fastmath=True, inline="always")  # type: ignore[untyped-decorator]
def quick_tanh(x: Any) -> Any:
    """A more exact fraction than that of vectors.h. numba calls np.tanh for each number, but it vectorises this."""
    x = max(min(x, END), -END)
    square, numerator, denominator = x * x, np.float32(0), np.float32(0)
    for factor in NUMERATOR:
        numerator = numerator * square + factor
    for factor in DENOMINATOR:
        denominator = denominator * square + factor
    return numerator * x / denominator


@numba.njit(fastmath=True)  # type: ignore[untyped-decorator]
def looped(table: Floats, recurrent: Floats, ids: Any, lengths: Any, pooled: Floats) -> None:
    """Write maximum and mean of both directions to ``pooled`` (texts, 2, 2, hidden), one text and word at a time."""
    hidden, half = recurrent.shape[1], np.float32(0.5)
    gates, state, cell = np.empty(4 * hidden, np.float32), np.empty(hidden, np.float32), np.empty(hidden, np.float32)
    for text in range(len(ids)):
        for direction in range(2):
            maximum, total = pooled[text, 0, direction], pooled[text, 1, direction]
            state[:], cell[:], maximum[:], total[:] = 0, 0, -2, 0
            for step in range(lengths[text]):
                position = lengths[text] - 1 - step if direction else step
                gates[:] = table[ids[text, position], direction]
                for k in range(hidden):
                    for j in range(4 * hidden):
                        gates[j] += state[k] * recurrent[direction, k, j]
                for j in range(4 * hidden):
                    gates[j] = quick_tanh(gates[j])
                for j in range(hidden):
                    kept = (half + half * gates[hidden + j]) * cell[j]
                    cell[j] = kept + (half + half * gates[j]) * gates[2 * hidden + j]
                    state[j] = (half + half * gates[3 * hidden + j]) * quick_tanh(cell[j])
                    maximum[j] = max(maximum[j], state[j])
                    total[j] += state[j]
            for j in range(hidden):
                total[j] /= lengths[text]


def in_numba(net: Folded) -> Run:
    """Use the loop above; its first call compiles."""

    def run(batch: Texts) -> Floats:
        pooled = np.empty((len(batch.ids), 2, 2, net.hidden), np.float32)
        looped(net.table, net.recurrent, batch.ids, batch.lengths, pooled)
        return net.logits(pooled)

    return run


def in_c_floats(net: Folded, folder: Path) -> Run:
    """Use the loops of fp32.c, compiled like the kernels in use."""
    path = folder / "fp32.so"
    native.build([Path(__file__).with_name("fp32.c")], path)
    function = ctypes.CDLL(str(path)).float_recurrent
    blocks = net.recurrent.reshape(2, net.hidden, 4, -1, lanes()).transpose(0, 3, 1, 2, 4)
    table, weights = in_lines(net.table), in_lines(blocks)
    buffer = in_lines(np.zeros((5, 8 * MOST_ROWS, net.hidden), np.float32))

    def run(batch: Texts) -> Floats:
        pooled = np.empty((len(batch.ids), 4 * net.hidden), np.float32)
        texts, longest = batch.ids.shape
        ids, lengths = pointer(batch.ids), pointer(batch.lengths)
        sizes = net.hidden, ids, lengths, texts, longest
        function(pointer(table), pointer(weights), *sizes, pointer(buffer), pointer(pooled))
        return net.logits(pooled)

    return run


def pointer(array: NDArray[Any]) -> ctypes.c_void_p:
    """The address of an array's data, as an argument of a C function."""
    return ctypes.c_void_p(address(array))


def in_lines(array: Floats) -> Floats:
    """Return a copy that begins at a cache line."""
    buffer = np.empty(array.size + CACHE_LINE // 4, np.float32)
    first = -buffer.ctypes.data % CACHE_LINE // 4
    copy = buffer[first : first + array.size].reshape(array.shape)
    copy[:] = array
    return copy
