"""Hashed n-grams: the same on every machine, for any text, and never across a masked word."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from distill.runtime.constants import MASKED
from distill.text.ngrams import ngram_ids

ANY = st.text(st.characters(exclude_categories=()), max_size=30)  # surrogates too


def reference(text: str, buckets: int) -> list[int]:
    """The documented hash, one n-gram at a time, with Python integers."""
    pieces = ["".join(piece.lower().split()) for piece in text.split(MASKED)]
    ids = []
    for index, piece in enumerate(pieces):
        points = [ord(char) + 1 for char in piece]
        start, end = [0x110001] * (index == 0), [0x110001] * (index == len(pieces) - 1)
        framed = start + points + end if points else []
        grams = [[point] for point in points]
        grams += [framed[i : i + n] for n in (2, 3) for i in range(len(framed) - n + 1)]
        for gram in grams:
            key = sum(point << 21 * i for i, point in enumerate(gram))
            for factor in (0xFF51AFD7ED558CCD, 0xC4CEB9FE1A85EC53):
                key = (key ^ key >> 33) * factor % 2**64
            ids.append((key ^ key >> 33) % (buckets - 1) + 1)
    return ids


@given(ANY, st.integers(2, 2**24))
def test_any_text_equals_the_reference(text: str, buckets: int) -> None:
    ids = ngram_ids(text, buckets)
    assert ids.dtype == np.int64 and sorted(ids.tolist()) == sorted(reference(text, buckets))
    assert all(1 <= number < buckets for number in ids)


@given(ANY, ANY)
def test_no_ngram_reaches_across_a_masked_word(left: str, right: str) -> None:
    assert sorted(ngram_ids(left + MASKED + right, 2**20)) == sorted(reference(left + MASKED + right, 2**20))
    alone = {*ngram_ids(left, 2**62).tolist(), *ngram_ids(right, 2**62).tolist()}
    assert set(ngram_ids(left + MASKED + right, 2**62).tolist()) <= alone


def test_the_numbers_that_saved_students_depend_on() -> None:
    assert ngram_ids("北京", 2**18).tolist() == reference("北京", 2**18)
    assert ngram_ids("北京", 2**18).tolist() == [233172, 192825, 236764, 172677, 137471, 214280, 36613]


def test_the_number_of_ngrams() -> None:
    assert len(ngram_ids("北京人", 99)) == 3 + 4 + 3
    assert len(ngram_ids("京", 99)) == 1 + 2 + 1
    assert len(ngram_ids(f"京{MASKED}人", 99)) == (1 + 1) + (1 + 1)  # ^京 and 人$, no more
    assert len(ngram_ids(f"{MASKED}京{MASKED}", 99)) == 1


@pytest.mark.parametrize("text", ["", " \n\t　", MASKED, f"{MASKED} {MASKED}"])
def test_an_empty_text_has_no_ngrams(text: str) -> None:
    assert ngram_ids(text, 99).shape == (0,)


def test_white_space_and_case_are_ignored() -> None:
    assert ngram_ids(" iPhone 手机\n", 2**20).tolist() == ngram_ids("iphone手机", 2**20).tolist()
    assert ngram_ids("手机", 2**20).tolist() != ngram_ids("机手", 2**20).tolist()


def test_buckets_fill_evenly() -> None:
    text = "".join(chr(0x4E00 + i) for i in range(6000))
    counts = np.bincount(ngram_ids(text, 65), minlength=65)
    assert counts[0] == 0 and counts[1:].min() > 200 and counts[1:].max() < 360  # 281 on average


def test_too_few_buckets() -> None:
    with pytest.raises(ValueError, match="at least 2 are needed"):
        ngram_ids("京", 1)
