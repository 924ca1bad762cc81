"""Rows of n-grams: the same numbers in the same order as distill.text.ngrams."""

from __future__ import annotations

import functools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from test_packing import TEXTS

from distill.errors import UserError
from distill.runtime.ngrams import NgramRows
from distill.runtime.packing import PackedTexts, pack, without_zero_width
from distill.text.ngrams import ngram_ids


@functools.cache
def row_by_bucket(buckets: int) -> NDArray[np.uint16]:
    """A third of the buckets has no row."""
    return (np.arange(buckets) * 7 % 65536 * (np.arange(buckets) % 3 > 0)).astype(np.uint16)


@settings(deadline=None)  # the first call compiles the kernels
@given(TEXTS, st.sampled_from([2, 3, 99, 2**18, 2**18 - 5]))
def test_rows_of_ngrams(texts: list[str], buckets: int) -> None:
    table = row_by_bucket(buckets)
    rows, starts = NgramRows(table).rows(pack(texts))
    expected = [table[ngram_ids(without_zero_width(text), buckets)] for text in texts]
    counts = [(row > 0).sum() for row in expected]
    assert rows.dtype == np.int32 and starts.tolist() == [0, *np.cumsum(counts, dtype=int)]
    assert rows.tolist() == [number for row in expected for number in row.tolist() if number]


def test_rows_of_a_long_text_and_of_no_text() -> None:
    ngrams = NgramRows(np.ones(2**10, np.uint16))
    assert len(ngrams.rows(pack(["北京人" * 100_000]))[0]) == 3 * 300_000 + 1
    rows, starts = ngrams.rows(pack([]))
    assert len(rows) == 0 and starts.tolist() == [0]


def test_too_little_memory_is_an_error_not_a_crash() -> None:
    endless = PackedTexts(np.empty(0, np.uint32), np.array([0, 2**59]))
    with pytest.raises(UserError, match="not enough memory for these texts"):
        NgramRows(np.ones(9, np.uint16)).rows(endless)
