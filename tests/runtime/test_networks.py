"""The kernels' logits equal PyTorch's, for every network, its sizes, and texts of any length."""

from __future__ import annotations

import tracemalloc
from typing import Any

import numpy as np
import pytest
import torch
from conftest import NETWORKS
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from distill.config import StudentSettings
from distill.export.bundle import in_8_bits, network_arrays
from distill.models.build import build_student
from distill.models.inference import predict_logits
from distill.models.student import Student
from distill.runtime import networks
from distill.runtime.arrays import dequantise
from distill.runtime.networks import StudentNetwork
from distill.runtime.structs import EncodedTexts
from distill.runtime.word_vectors import max_word_norm, word_vectors
from distill.text.batching import PackedIds

WORDS, WIDTH, CLASSES, MAX_LENGTH, BUCKETS = 60, 10, 3, 9, 64
TOLERANCE = {
    name: 2e-2 if network["architecture"] == "bilstm" else 2e-3  # recurrent states have eight bits
    for name, network in NETWORKS.items()
}


def student(hidden: int, ngrams: int, **config: Any) -> Student:
    """A student with random weights, large enough that gates and filters differ."""
    torch.manual_seed(0)
    vectors = np.random.default_rng(0).standard_normal((WORDS, WIDTH)).astype(np.float32)
    words = ["<pad>", "<unk>", *(f"w{i}" for i in range(WORDS - 2))]
    model = build_student(StudentSettings(hidden=hidden, ngrams=ngrams, **config), vectors, words, CLASSES)
    finished = model.for_inference().eval()
    assert isinstance(finished, Student)
    with torch.no_grad():
        for parameter in finished.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.3)
        for table in [finished.embedding.weight, *(finished.ngrams.table.weight for _ in range(bool(finished.ngrams)))]:
            table[0] = 0  # type: ignore[index]
    return finished


def encoded(words: list[list[int]], ngrams: list[list[int]]) -> EncodedTexts:
    ids = np.zeros((len(words), MAX_LENGTH), np.int32)
    for row, text in zip(ids, words, strict=True):
        row[: len(text)] = text
    lengths = np.array([len(text) for text in words], np.int32)
    starts = np.cumsum([0, *(len(text) for text in ngrams)]).astype(np.int64)
    return networks.encoded_texts(ids, lengths, np.array([row for text in ngrams for row in text], np.int32), starts)


def texts(count: int, with_ngrams: bool) -> tuple[list[list[int]], list[list[int]]]:
    """Random texts of all lengths; some have no n-grams."""
    random = np.random.default_rng(count)
    words = [random.integers(1, WORDS, random.integers(1, MAX_LENGTH + 1)).tolist() for _ in range(count)]
    ngrams = [random.integers(1, BUCKETS, random.integers(0, 12) * with_ngrams).tolist() for _ in range(count)]
    return words, ngrams


def in_pytorch(model: Student, words: list[list[int]], ngrams: list[list[int]]) -> NDArray[np.float32]:
    ngram_ids = PackedIds([text or [0] for text in ngrams], 0) if model.ngrams else None
    return predict_logits(model, PackedIds(words, 0, ngram_ids), "").numpy()


@pytest.mark.parametrize("ngrams", [0, BUCKETS])
@pytest.mark.parametrize("hidden", [1, 5, 16, 40])
@pytest.mark.parametrize("name", NETWORKS)
def test_logits_are_those_of_pytorch(name: str, hidden: int, ngrams: int) -> None:
    model = student(hidden, ngrams, **NETWORKS[name])
    words, ngram_rows = texts(70, bool(ngrams))
    expected = in_pytorch(model, words, ngram_rows)
    logits = StudentNetwork(*network_arrays(model)).logits(encoded(words, ngram_rows))
    np.testing.assert_allclose(logits, expected, rtol=0, atol=TOLERANCE[name] * np.abs(expected).max())


@pytest.mark.parametrize("name", NETWORKS)
def test_word_vectors_in_8_bits(name: str) -> None:
    model = student(16, BUCKETS, **NETWORKS[name])
    words, ngram_rows = texts(70, with_ngrams=True)
    card, arrays = network_arrays(model)
    arrays |= in_8_bits(arrays["words"], arrays["words.scale"])
    with torch.no_grad():
        model.embedding.weight.copy_(torch.from_numpy(dequantise(arrays["words"], arrays["words.scale"])))  # type: ignore[operator]
    expected = in_pytorch(model, words, ngram_rows)
    logits = StudentNetwork(card, arrays).logits(encoded(words, ngram_rows))
    np.testing.assert_allclose(logits, expected, rtol=0, atol=TOLERANCE[name] * np.abs(expected).max())


@pytest.mark.parametrize("dtype", [np.int8, np.int16])
def test_word_vectors_take_as_much_memory_as_in_the_bundle(dtype: type[np.int8 | np.int16]) -> None:
    random = np.random.default_rng(0)
    words = random.integers(-100, 101, (200_000, 50)).astype(dtype)
    arrays = {"words": words, "words.scale": random.random(50).astype(np.float32)}
    tracemalloc.start()
    vectors, norm = word_vectors(arrays), max_word_norm(arrays)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (vectors.size, vectors.width) == (words.itemsize, 50)
    assert peak < 1.5 * words.nbytes
    assert norm == pytest.approx(np.linalg.norm(words * arrays["words.scale"], axis=1).max())


@pytest.fixture(scope="module")
def lstm() -> StudentNetwork:
    return StudentNetwork(*network_arrays(student(12, BUCKETS, **NETWORKS["bilstm"])))


@settings(max_examples=30)
@given(st.data())
def test_logits_do_not_depend_on_neighbours(lstm: StudentNetwork, data: st.DataObject) -> None:
    words, ngram_rows = texts(data.draw(st.integers(1, 60)), with_ngrams=True)
    order = data.draw(st.permutations(range(len(words))))
    together = lstm.logits(encoded([words[i] for i in order], [ngram_rows[i] for i in order]))
    alone = np.concatenate([lstm.logits(encoded([words[i]], [ngram_rows[i]])) for i in order])
    np.testing.assert_allclose(together, alone, rtol=0, atol=1e-5)


@pytest.mark.parametrize("weight", [0.02, -0.02])
def test_accumulators_do_not_overflow(weight: float) -> None:
    """With equal weights the sums of products are as large as they can be."""
    model = student(40, 0, **NETWORKS["bilstm"])
    with torch.no_grad():
        for name, parameter in model.lstm.named_parameters():  # type: ignore[union-attr]
            parameter.fill_(weight if "hh" in name else 1.0)
    words, ngram_rows = texts(20, with_ngrams=False)
    logits = StudentNetwork(*network_arrays(model)).logits(encoded(words, ngram_rows))
    np.testing.assert_allclose(logits, in_pytorch(model, words, ngram_rows), atol=2e-2)


def test_no_texts(lstm: StudentNetwork) -> None:
    assert lstm.logits(encoded([], [])).shape == (0, CLASSES)
