"""Texts packed for the kernels, and the rows of their n-grams: as Python does it, number by number."""

from __future__ import annotations

import functools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from distill.errors import UserError
from distill.runtime.lexicon import Ngrams
from distill.runtime.texts import ALONE, MASKED, Packed, beginnings, pack, unpack
from distill.text import segmentation
from distill.text.ngrams import ngram_ids

PIECES = st.sampled_from(
    [MASKED, "[UN", "K]", "[unk]", *ALONE, "ΑΣ", "北京", "iPhone 手机", "１２", " \n", "\u3000", "😀", "\0"]
)
ANY = st.text(st.characters(exclude_categories=()), max_size=12)  # surrogates too
TEXTS = st.lists(st.lists(PIECES | ANY, max_size=5).map("".join), max_size=5)


def lowered(text: str) -> str:
    return MASKED.join(part.lower() for part in text.split(MASKED))


def texts_of(packed: Packed) -> list[str]:
    joined = unpack(packed)
    return [joined[begin:end] for begin, end in zip(packed.starts[:-1], packed.starts[1:], strict=True)]


def test_what_is_masked_is_written_alike() -> None:
    assert MASKED == segmentation.MASKED


@given(TEXTS)
def test_texts_come_back_in_lower_case(texts: list[str]) -> None:
    packed = pack(texts)
    assert packed.points.dtype == np.uint32 and packed.starts.dtype == np.int64 and len(packed) == len(texts)
    assert texts_of(packed) == [lowered(text) for text in texts]


def test_only_two_characters_need_care() -> None:
    """A capital sigma looks at its neighbours, a dotted capital I grows; all others lower alone and stay one."""
    grown = [chr(point) for point in range(0x110000) if len(chr(point).lower()) != 1]
    assert grown == ["\u0130"] and set(ALONE) == {"\u0130", "\u03a3"}
    assert not any(char.isspace() for char in map(chr, range(0x110000)) if char.lower() != char)


@given(TEXTS, st.integers(1, 12))
def test_beginnings_are_counted_in_the_raw_text(texts: list[str], most: int) -> None:
    assert texts_of(beginnings(texts, pack(texts), most)) == [lowered(text[:most]) for text in texts]


def test_short_texts_are_packed_once() -> None:
    packed = pack(["北京", "iPhone"])
    assert beginnings(["北京", "iPhone"], packed, 6) is packed


def test_what_is_no_string() -> None:
    with pytest.raises(UserError, match="no string but NoneType: None") as fault:
        pack(["北京", None, 3])  # type: ignore[list-item]
    assert fault.value.where == "text 1"
    with pytest.raises(UserError, match="one string was given"):
        pack("北京")
    assert len(pack([])) == 0 and len(pack(["", ""])) == 2


@functools.cache
def rows_of_buckets(buckets: int) -> NDArray[np.uint16]:
    """A third of the buckets has none."""
    return (np.arange(buckets) * 7 % 65536 * (np.arange(buckets) % 3 > 0)).astype(np.uint16)


@settings(deadline=None)  # the first call compiles the kernels
@given(TEXTS, st.sampled_from([2, 3, 99, 2**18, 2**18 - 5]))
def test_rows_of_ngrams(texts: list[str], buckets: int) -> None:
    row_of = rows_of_buckets(buckets)
    rows, starts = Ngrams(row_of).rows(pack(texts))
    wanted = [row_of[ngram_ids(text, buckets)] for text in texts]
    assert rows.dtype == np.int32 and starts.tolist() == [0, *np.cumsum([(row > 0).sum() for row in wanted], dtype=int)]
    assert rows.tolist() == [number for row in wanted for number in row.tolist() if number]


def test_rows_of_a_long_text_and_of_none() -> None:
    ngrams = Ngrams(np.ones(2**10, np.uint16))
    assert len(ngrams.rows(pack(["北京人" * 100_000]))[0]) == 3 * 300_000 + 1
    rows, starts = ngrams.rows(pack([]))
    assert len(rows) == 0 and starts.tolist() == [0]


def test_more_memory_than_there_is_is_an_error_not_a_crash() -> None:
    with pytest.raises(UserError, match="no memory"):
        Ngrams(np.ones(9, np.uint16)).rows(Packed(np.empty(0, np.uint32), np.array([0, 2**59])))
