"""The recurrent kernel agrees with its specification in plain C, and that one with PyTorch."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import nn

from distill.runtime.native import check_status, forward_pass
from distill.runtime.networks import encoded_texts
from distill.runtime.recurrent import DIRECTIONS, recurrent
from distill.runtime.structs import EncodedTexts, Int32, Pointer, Struct, address

WORDS, WIDTH = 40, 7
GATES = {"lstm": 4, "gru": 3}
PER_DIRECTION = ("input_weights", "bias", "recurrent_weights", "recurrent_bias")


class RecurrentReference(Struct):
    """See kernels/recurrent_reference.c."""

    _fields_ = (
        *((name, Int32) for name in ("gates", "units", "width", "sentence")),
        ("vectors", Pointer),
        *((name, Pointer * 2) for name in PER_DIRECTION),
    )


@dataclass(frozen=True)
class Network:
    """A random network: a bundle's card and arrays, and the same for the reference and for PyTorch."""

    card: dict[str, Any]
    arrays: dict[str, NDArray[Any]]
    vectors: NDArray[np.float32]

    @property
    def hidden(self) -> int:
        return int(self.card["hidden"])

    def directions(self, name: str) -> list[NDArray[np.float32]]:
        return [self.arrays[f"{name}.{direction}"] for direction in DIRECTIONS]


def network(cell: str, hidden: int, sentence: bool, seed: int) -> Network:
    """Weights as large as those of a trained student: gates are half open, states spread over (-1, 1)."""
    random = np.random.default_rng(seed)
    columns = GATES[cell] * hidden

    def normal(deviation: float, *shape: int) -> NDArray[np.float32]:
        return random.normal(0, deviation, shape).astype(np.float32)

    arrays: dict[str, NDArray[Any]] = {
        "words": random.integers(-32767, 32768, (WORDS, WIDTH)).astype(np.int16),
        "words.scale": np.full(WIDTH, 2 / 32767, np.float32),
    }
    for direction in DIRECTIONS:
        arrays[f"input.{direction}"] = normal(1 / np.sqrt(WIDTH), WIDTH, columns)
        arrays[f"recurrent.{direction}"] = normal(1 / np.sqrt(hidden), hidden, columns)
        arrays[f"bias.{direction}"] = normal(0.3, columns)
        arrays[f"recurrent_bias.{direction}"] = np.zeros(columns, np.float32)
        if cell == "gru":
            arrays[f"recurrent_bias.{direction}"][2 * hidden :] = normal(0.3, hidden)
    card = {"architecture": "bilstm", "cell": cell, "hidden": hidden, "sentence": sentence}
    return Network(card, arrays, (arrays["words"] * arrays["words.scale"]).astype(np.float32))


def random_texts(lengths: list[int], seed: int) -> EncodedTexts:
    max_length = max(lengths, default=0) + 1
    ids = np.random.default_rng(seed).integers(0, WORDS, (len(lengths), max_length)).astype(np.int32)
    starts = np.zeros(len(lengths) + 1, np.int64)
    return encoded_texts(ids, np.array(lengths, np.int32), np.empty(0, np.int32), starts)


def pooled(function: str, struct: Struct, texts: EncodedTexts, units: int) -> NDArray[np.float32]:
    """Pooled vectors, shape (texts, [max forward, max backward, mean forward, mean backward], units)."""
    result = np.full((texts.count, 4, units), np.nan, np.float32)
    check_status(forward_pass(function)(ctypes.addressof(struct), ctypes.byref(texts), address(result)))
    return result


def fast(net: Network, texts: EncodedTexts) -> NDArray[np.float32]:
    built = recurrent(net.card, net.arrays)
    return pooled("distill_recurrent", built.struct, texts, built.width // 4)[:, :, : net.hidden]


def reference(net: Network, texts: EncodedTexts) -> NDArray[np.float32]:
    names = {"input_weights": "input", "recurrent_weights": "recurrent"}
    arrays = {name: net.directions(names.get(name, name)) for name in PER_DIRECTION}
    struct = RecurrentReference.of(
        gates=GATES[net.card["cell"]],
        units=net.hidden,
        width=WIDTH,
        sentence=net.card["sentence"],
        vectors=net.vectors,
        **{name: (Pointer * 2)(*map(address, both)) for name, both in arrays.items()},
    ).keep_alive(arrays)
    return pooled("distill_recurrent_reference", struct, texts, net.hidden)


def in_pytorch(net: Network, words: list[int]) -> NDArray[np.float32]:
    """Maximum and mean of the states of one text, shape (4, hidden)."""
    module = (nn.GRU if net.card["cell"] == "gru" else nn.LSTM)(WIDTH, net.hidden, batch_first=True, bidirectional=True)
    state = {}
    for direction, suffix in zip(DIRECTIONS, ("", "_reverse"), strict=True):
        state[f"weight_ih_l0{suffix}"] = torch.from_numpy(net.arrays[f"input.{direction}"].T.copy())
        state[f"weight_hh_l0{suffix}"] = torch.from_numpy(net.arrays[f"recurrent.{direction}"].T.copy())
        state[f"bias_ih_l0{suffix}"] = torch.from_numpy(net.arrays[f"bias.{direction}"])
        state[f"bias_hh_l0{suffix}"] = torch.from_numpy(net.arrays[f"recurrent_bias.{direction}"])
    module.load_state_dict(state)
    vectors = torch.from_numpy(net.vectors[words])
    inputs = vectors.mean(0, keepdim=True) if net.card["sentence"] else vectors
    with torch.no_grad():
        states = module(inputs[None])[0][0].reshape(-1, 2, net.hidden)  # (steps, directions, hidden)
    return torch.cat([states.amax(0), states.mean(0)]).numpy()


@pytest.mark.parametrize("sentence", [False, True])
@pytest.mark.parametrize("cell", GATES)
@pytest.mark.parametrize("hidden", [1, 5, 16])
def test_reference_agrees_with_pytorch(cell: str, hidden: int, sentence: bool) -> None:
    net = network(cell, hidden, sentence, seed=hidden)
    lengths = [1, 2, 9, 30]
    texts = random_texts(lengths, seed=0)
    ids = np.random.default_rng(0).integers(0, WORDS, (len(lengths), max(lengths) + 1))
    expected = [in_pytorch(net, row[:length].tolist()) for row, length in zip(ids, lengths, strict=True)]
    np.testing.assert_allclose(reference(net, texts), expected, rtol=0, atol=1e-5)


@settings(max_examples=60)
@given(
    cell=st.sampled_from(list(GATES)),
    hidden=st.sampled_from([1, 3, 8, 16, 17, 40, 70]),
    sentence=st.booleans(),
    lengths=st.lists(st.integers(0, 25), max_size=60),
    seed=st.integers(0, 1000),
)
def test_kernel_agrees_with_reference(cell: str, hidden: int, sentence: bool, lengths: list[int], seed: int) -> None:
    """For texts of any lengths, none included: within the rounding of states (1/254) and weights (7 bits).

    Errors of the states accumulate over the steps. In sentence mode, which has one step, only projections are rounded.
    """
    net, texts = network(cell, hidden, sentence, seed), random_texts(lengths, seed)
    errors = np.abs(fast(net, texts) - reference(net, texts))
    assert errors.max(initial=0) < (0.002 if sentence else 0.04)
    assert errors.sum() <= errors.size * (0.0005 if sentence else 0.008)


@pytest.mark.parametrize("sentence", [False, True])
def test_texts_without_words_pool_to_zeros(sentence: bool) -> None:
    net, texts = network("lstm", 5, sentence, 0), random_texts([0, 3, 0], 0)
    for result in (fast(net, texts), reference(net, texts)):
        assert not result[[0, 2]].any() and result[1].any()
