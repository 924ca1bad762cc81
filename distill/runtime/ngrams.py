"""Rows of the hashed character n-grams of packed texts; see kernels/ngrams.c."""

from __future__ import annotations

import ctypes

import numpy as np
from numpy.typing import NDArray

from distill.runtime.native import check_status, library
from distill.runtime.packing import PackedTexts
from distill.runtime.structs import NgramTable, address


class NgramRows:
    """Looks up the rows of a student's n-gram table that a text's n-grams have. Threads may share it.

    Args:
        row_by_bucket: row of every bucket, shape (buckets,) uint16, 0 for none; see :mod:`distill.text.ngrams`.
    """

    def __init__(self, row_by_bucket: NDArray[np.uint16]) -> None:
        rows = np.array(row_by_bucket, np.uint16, order="C")
        self._table = NgramTable.of(row_by_bucket=rows, bucket_count=len(rows))
        self.struct = ctypes.byref(self._table)

    def rows(self, packed: PackedTexts) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        """Rows of the n-grams that have one, shape (n-grams,), and where each text's begin, shape (texts + 1,).

        The texts are the beginnings that n-grams are taken from: :func:`distill.runtime.packing.pack_beginnings`.
        """
        rows = np.empty(3 * len(packed.points) + len(packed), np.int32)
        starts = np.empty(len(packed) + 1, np.int64)
        texts = ctypes.byref(packed.struct)
        check_status(library().distill_ngram_rows(self.struct, texts, address(rows), address(starts)))
        return rows[: starts[-1]], starts
