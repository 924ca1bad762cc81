"""The students' networks as the kernels compute them: arrays laid out for the processor, quantised to 16 bits."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from distill.errors import UserError
from distill.runtime.native import library

Arrays = Mapping[str, NDArray[Any]]
Floats = NDArray[np.float32]
STATE_ONE = 8192  # a state of 1 as an integer: 13 bits, which leave a sum of 128 products 18 bits for the weights
DIRECTIONS = ("ahead", "back")


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


class Network(Protocol):
    """What turns encoded texts into logits."""

    def logits(self, texts: Encoded) -> Floats:
        """Logits, shape (texts, classes)."""
        ...


def network(card: Mapping[str, Any], arrays: Arrays) -> Network:
    """The network of a bundle's card."""
    made: dict[str, Any] = {"bilstm": Recurrent, "textcnn": TextCNN, "average": Average}
    return made[card["architecture"]](card, arrays)  # type: ignore[no-any-return]


def lanes() -> int:
    """Numbers of 32 bits in a vector of the kernels."""
    return int(library().distill_lanes())


def _at(array: NDArray[Any] | None) -> ctypes.c_void_p:
    return ctypes.c_void_p(None if array is None else array.ctypes.data)


def _padded(array: NDArray[Any], axis: int, multiple: int) -> NDArray[Any]:
    """Zeros after an axis, up to a multiple."""
    more = [(0, 0)] * array.ndim
    more[axis] = (0, -array.shape[axis] % multiple)
    return np.pad(array, more)


def _number(table: NDArray[np.int16], scale: Floats) -> Floats:
    return np.ascontiguousarray(table * scale, dtype=np.float32)


class _Struct(ctypes.Structure):
    """A kernel's struct; ``kept`` holds the arrays that its pointers lead to."""

    def __init__(self, **values: Any) -> None:
        self.kept = [value for value in values.values() if isinstance(value, np.ndarray)]
        super().__init__(**{name: _at(value) if isinstance(value, np.ndarray) else value for name, value in values.items()})


def _both(arrays: list[NDArray[Any]]) -> Any:
    """A pointer for each direction."""
    return (ctypes.c_void_p * 2)(*(array.ctypes.data for array in arrays))


class Dense:
    """``in . weight + bias``, weight (in, out), with or without ReLU."""

    def __init__(self, weight: Floats, bias: Floats, relu: bool = False) -> None:
        block, self.out, self.relu = 2 * lanes(), weight.shape[1], relu
        wide = _padded(np.asarray(weight, np.float32), 1, block)
        self.weight = np.ascontiguousarray(wide.reshape(len(wide), -1, block).swapaxes(0, 1))
        self.bias = _padded(np.asarray(bias, np.float32), 0, block)

    def __call__(self, given: Floats) -> Floats:
        """(texts, in) -> (texts, out)."""
        made = np.empty((len(given), len(self.bias)), np.float32)
        sizes = ctypes.c_int64(len(given)), given.shape[1]
        library().distill_dense(_at(given), *sizes, _at(self.weight), _at(self.bias), made.shape[1], self.relu, _at(made))
        return made[:, : self.out]


class _Classified:
    """What all students end with: a classifier, and what n-grams add to its logits."""

    def __init__(self, arrays: Arrays, features: int) -> None:
        """The classifier's weight has rows for (parts, features); each part is padded to whole vectors."""
        weight = arrays["classifier.weight"]
        parts = _padded(weight.reshape(-1, features, weight.shape[1]), 1, 2 * lanes())
        self.classifier = Dense(parts.reshape(-1, weight.shape[1]), arrays["classifier.bias"])
        says = arrays.get("ngrams.says")
        self.says = None if says is None else np.ascontiguousarray(says, dtype=np.float32)

    def __call__(self, pooled: Floats, texts: Encoded) -> Floats:
        made = np.ascontiguousarray(self.classifier(pooled))
        if self.says is not None:
            sizes = ctypes.c_int64(len(made)), made.shape[1]
            library().distill_add_ngrams(_at(self.says), _at(texts.rows), _at(texts.starts), *sizes, _at(made))
        return made


class _RecurrentStruct(_Struct):
    _fields_ = (
        *((name, ctypes.c_int32) for name in ("gates", "units", "width", "sentence")),
        ("vectors", ctypes.c_void_p),
        *((name, ctypes.c_void_p * 2) for name in ("input", "bias", "folded_scale", "recurrent")),
        *((name, ctypes.c_void_p * 2) for name in ("recurrent_scale", "recurrent_bias")),
        ("folded", ctypes.c_void_p),
        ("known", ctypes.c_void_p),
        ("state_scale", ctypes.c_float),
    )


class Recurrent:
    """biLSTM or biGRU: see kernels/recurrent.c."""

    def __init__(self, card: Mapping[str, Any], arrays: Arrays) -> None:
        self.gates, hidden = (3 if card["cell"] == "gru" else 4), int(card["hidden"])
        vectors = _number(arrays["words"], arrays["words.scale"])
        longest = float(np.sqrt((vectors**2).sum(1).max()))
        self.directions = [_Direction(arrays, name, self.gates, hidden, longest) for name in DIRECTIONS]
        self.units = self.directions[0].units
        self.classified = _Classified(arrays, hidden)
        columns = self.gates * self.units
        self.struct = _RecurrentStruct(
            gates=self.gates,
            units=self.units,
            width=vectors.shape[1],
            sentence=bool(card["sentence"]),
            vectors=vectors,
            **{
                name: _both([getattr(direction, name) for direction in self.directions])
                for name in ("input", "bias", "folded_scale", "recurrent", "recurrent_scale", "recurrent_bias")
            },
            folded=np.zeros((len(vectors), 2, columns), np.int16),  # memory is taken when a row is written
            known=np.zeros(len(vectors), np.uint8),
            state_scale=STATE_ONE,
        )

    def logits(self, texts: Encoded) -> Floats:
        """Logits, shape (texts, classes)."""
        count, longest = texts.ids.shape
        pooled = np.empty((count, 4 * self.units), np.float32)
        _check(
            library().distill_recurrent(
                ctypes.byref(self.struct),
                _at(texts.ids),
                _at(texts.lengths),
                ctypes.c_int64(count),
                longest,
                _at(pooled),
            )
        )
        return self.classified(pooled, texts)


class _Direction:
    """One direction's weights: blocks of units, gates side by side, recurrent weights in 16 bits."""

    def __init__(self, arrays: Arrays, name: str, gates: int, hidden: int, longest: float) -> None:
        block = 2 * lanes()  # whole vectors for the classifier too
        self.units = -(-hidden // block) * block

        def blocks(array: NDArray[Any]) -> Floats:
            """(…, gates x hidden) -> (…, columns), the gates of one block of units side by side."""
            split = _padded(array.reshape(*array.shape[:-1], gates, hidden), -1, block)
            split = split.reshape(*array.shape[:-1], gates, -1, lanes()).swapaxes(-3, -2)
            return np.ascontiguousarray(split.reshape(*array.shape[:-1], -1), dtype=np.float32)

        weight, bias = blocks(arrays[f"input.{name}"]), blocks(arrays[f"bias.{name}"])
        bound = longest * np.sqrt((weight**2).sum(0)) + np.abs(bias)  # Cauchy-Schwarz: no word's share is larger
        self.folded_scale = np.maximum(bound / 32767, 1e-12).astype(np.float32)
        self.input, self.bias = weight / self.folded_scale, bias / self.folded_scale
        self.recurrent_bias = blocks(arrays[f"recurrent_bias.{name}"])
        recurrent = _padded(blocks(arrays[f"recurrent.{name}"]), 0, block)  # (units, columns)
        sums = np.abs(recurrent).sum(0) * STATE_ONE / (0.999 * 2**31)  # no sum of products leaves 32 bits
        scale = np.maximum(np.maximum(np.abs(recurrent).max(0) / 32767, sums), 1e-12)
        self.recurrent_scale = (scale / STATE_ONE).astype(np.float32)
        whole = np.rint(recurrent / scale).astype(np.int16)
        pairs = whole.reshape(self.units // 2, 2, -1, gates, lanes())  # (k / 2, 2, blocks, gates, lanes)
        self.recurrent = np.ascontiguousarray(pairs.transpose(2, 0, 3, 4, 1))


class _Table(_Struct):
    _fields_ = (("rows", ctypes.c_void_p), ("scale", ctypes.c_void_p), ("width", ctypes.c_int32))


def _table(arrays: Arrays, name: str) -> _Table:
    rows = np.ascontiguousarray(_padded(arrays[name], 1, lanes()))
    return _Table(rows=rows, scale=_padded(arrays[f"{name}.scale"], 0, lanes()), width=rows.shape[1])


class Average:
    """Pooled vectors of words and n-grams, a hidden layer: see kernels/pooled.c."""

    def __init__(self, card: Mapping[str, Any], arrays: Arrays) -> None:  # noqa: ARG002
        self.words = _table(arrays, "words")
        self.ngrams = _table(arrays, "ngrams") if "ngrams" in arrays else None
        width, weight = arrays["words"].shape[1], arrays["layer.weight"]
        parts = _padded(weight.reshape(-1, width, weight.shape[1]), 1, lanes())
        self.width = parts.shape[0] * parts.shape[1]
        weight = _padded(parts.reshape(self.width, -1), 1, 2 * lanes())
        self.layer = Dense(weight, _padded(arrays["layer.bias"], 0, 2 * lanes()), relu=True)
        self.classified = _Classified(arrays, arrays["layer.weight"].shape[1])

    def logits(self, texts: Encoded) -> Floats:
        """Logits, shape (texts, classes)."""
        count, longest = texts.ids.shape
        pooled = np.empty((count, self.width), np.float32)
        library().distill_average(
            ctypes.byref(self.words),
            _at(texts.ids),
            _at(texts.lengths),
            ctypes.c_int64(count),
            longest,
            ctypes.byref(self.ngrams) if self.ngrams else None,
            _at(texts.rows),
            _at(texts.starts),
            _at(pooled),
        )
        return self.classified(self.layer(pooled), texts)


class _Convolutions(_Struct):
    _fields_ = (
        *((name, ctypes.c_int32) for name in ("spans", "filters", "width")),
        *((name, ctypes.c_void_p) for name in ("vectors", "taps", "scale", "bias", "folded", "known")),
    )


class TextCNN:
    """Convolutions as sums of what each word says at each place of a filter: see kernels/pooled.c."""

    def __init__(self, card: Mapping[str, Any], arrays: Arrays) -> None:
        spans, hidden, block = int(card["spans"]), int(card["hidden"]), 2 * lanes()
        vectors = _number(arrays["words"], arrays["words.scale"])
        longest = float(np.sqrt((vectors**2).sum(1).max()))
        width, filters = vectors.shape[1], -(-hidden // block) * block
        taps = _padded(arrays["taps"].reshape(width, -1, hidden), 2, block).astype(np.float32)
        bounds = longest * np.sqrt((taps**2).sum(0))  # (taps, filters): no word's share is larger
        ends = np.cumsum(range(spans + 1))
        scale = np.stack([bounds[ends[s] : ends[s + 1]].sum(0) for s in range(spans)]) / 32000
        scale = np.maximum(scale, 1e-12).astype(np.float32)
        self.struct = _Convolutions(
            spans=spans,
            filters=filters,
            width=width,
            vectors=vectors,
            taps=np.ascontiguousarray(taps / np.repeat(scale, np.arange(1, spans + 1), axis=0)),
            scale=scale,
            bias=np.ascontiguousarray(_padded(arrays["taps.bias"].reshape(spans, hidden), 1, block)),
            folded=np.zeros((len(vectors), taps.shape[1], filters), np.int16),  # taken when a row is written
            known=np.zeros(len(vectors), np.uint8),
        )
        self.width = spans * filters
        self.classified = _Classified(arrays, hidden)

    def logits(self, texts: Encoded) -> Floats:
        """Logits, shape (texts, classes)."""
        count, longest = texts.ids.shape
        pooled = np.empty((count, self.width), np.float32)
        _check(
            library().distill_textcnn(
                ctypes.byref(self.struct),
                _at(texts.ids),
                _at(texts.lengths),
                ctypes.c_int64(count),
                longest,
                _at(pooled),
            )
        )
        return self.classified(pooled, texts)


def _check(failed: int) -> None:
    if failed:
        raise UserError("there is no memory left for these texts", None, "give fewer or shorter texts at once")
