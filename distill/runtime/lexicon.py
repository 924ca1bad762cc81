"""Words and n-grams of packed texts, as ids: the kernels of lexicon.c and ngrams.c as Python sees them."""

from __future__ import annotations

import ctypes
import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distill.runtime.layers import check, pointer
from distill.runtime.native import library
from distill.runtime.texts import Packed, address, pack, unpack

CELL = np.uint64  # as wide as a cell of lexicon.h
POINTS = 0x110000  # code points there are
SPLIT = 0x8000  # beside a weight; see distill.export.trie
SCORES = {"scores": np.float64, "start": np.float64, "transitions": np.float64, "emissions": np.float64}
TRIE = {"letters": np.uint32, "labels": np.uint16, "children": np.uint16, "weights": np.uint16, "words": np.int32}


class _Lexicon(ctypes.Structure):
    _fields_ = (
        ("letter_of", ctypes.c_void_p),
        ("cells", ctypes.c_void_p),
        ("ids", ctypes.c_void_p),
        ("scores", ctypes.c_void_p),
        ("start", ctypes.c_void_p),
        ("transitions", ctypes.c_void_p),
        ("emissions", ctypes.c_void_p),
        ("letters", ctypes.c_int64),
        ("bits", ctypes.c_int64),
    )


class _Ngrams(ctypes.Structure):
    _fields_ = (("row_of", ctypes.c_void_p), ("buckets", ctypes.c_int64))


class Lexicon:
    """Cuts texts as jieba does and numbers their words; its methods may be called from several threads.

    Args:
        arrays: what :func:`distill.export.trie.lexicon_arrays` made; others among them do not matter.
    """

    def __init__(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        kinds = {**SCORES, **TRIE}
        given = {name: np.require(arrays[f"lexicon.{name}"], kind, ("C", "A")) for name, kind in kinds.items()}
        letters, nodes = len(given["letters"]), len(given["labels"])
        bits = (2 * nodes).bit_length()  # at most half of the cells are taken
        cells = np.zeros(letters + 1 + 2**bits, CELL)
        slots = np.empty(nodes + 1, np.uint32)
        trie = [pointer(given[name]) for name in ("labels", "children", "weights")]
        broken = library().distill_index(pointer(cells), *_longs(letters, bits), *trie, *_longs(nodes), pointer(slots))
        if broken or (given["weights"] & ~np.uint16(SPLIT)).max(initial=0) >= len(given["scores"]):
            raise ValueError("this lexicon is broken")
        letter_of = np.zeros(POINTS, np.uint16)
        letter_of[given["letters"]] = np.arange(1, letters + 1)
        ids = np.zeros(len(cells), np.int32)
        ids[slots[given["words"]]] = np.arange(len(given["words"]))
        ids[0] = 0  # what padding and unknown wrote there
        scores = {name: given[name] for name in SCORES}
        self._kept = {"letter_of": letter_of, "cells": cells, "ids": ids, **scores}
        pointers = {name: address(array) for name, array in self._kept.items()}
        self._lexicon = _Lexicon(**pointers, letters=letters, bits=bits)
        self.struct = ctypes.byref(self._lexicon)

    def cut(self, text: str) -> list[str]:
        """The words of a text, as :func:`distill.text.segmentation.segment` gives them."""
        return self.cut_all([text])[0]

    def cut_all(self, texts: Sequence[str]) -> list[list[str]]:
        """The words of every text; many at once are quicker."""
        packed = pack(texts)
        lowered, (spans, counts) = unpack(packed), self.spans(packed)
        begins, ends = spans[:, 0].tolist(), spans[:, 1].tolist()
        words = iter([lowered[begin:end] for begin, end in zip(begins, ends, strict=True)])
        return [list(itertools.islice(words, count)) for count in counts.tolist()]

    def spans(self, packed: Packed) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Where all words begin and end in ``packed.points``, shape (words, 2), and how many each text has (texts,)."""
        spans, counts = np.empty((len(packed.points), 2), np.int64), np.empty(len(packed), np.int64)
        check(library().distill_cut(*self._with(packed), pointer(spans), pointer(counts)))
        return spans[: counts.sum()], counts

    def encode(self, packed: Packed, most: int) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """Ids of the words of every text, as :meth:`distill.text.vocabulary.Vocabulary.encode` gives them.

        Args:
            packed: the texts.
            most: ids of a text at most, at least 1.

        Returns:
            ids, shape (texts, most), 0 where a text has no more; how many each has, at least 1, shape (texts,).
        """
        ids, lengths = np.zeros((len(packed), most), np.int32), np.empty(len(packed), np.int32)
        check(library().distill_encode(*self._with(packed), *_longs(most), pointer(ids), pointer(lengths)))
        return ids, lengths

    def _with(self, packed: Packed) -> tuple[Any, Any]:
        return self.struct, ctypes.byref(packed.struct)


class Ngrams:
    """The rows of texts' character n-grams in a student's table.

    Args:
        row_of: row of every bucket, shape (buckets,) uint16, 0: none; see :mod:`distill.text.ngrams`.
    """

    def __init__(self, row_of: NDArray[np.uint16]) -> None:
        self._row_of = np.require(row_of, np.uint16, ("C", "A"))
        self._ngrams = _Ngrams(address(self._row_of), len(self._row_of))
        self.struct = ctypes.byref(self._ngrams)

    def rows(self, packed: Packed) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        """Rows of the n-grams that have one, shape (n-grams,), and where each text's begin, shape (texts + 1,).

        The texts are what is read of them for n-grams: see :func:`distill.runtime.texts.beginnings`.
        """
        rows = np.empty(3 * len(packed.points) + len(packed), np.int32)
        starts = np.empty(len(packed) + 1, np.int64)
        texts = ctypes.byref(packed.struct)
        check(library().distill_ngrams(self.struct, texts, pointer(rows), pointer(starts)))
        return rows[: starts[-1]], starts


def _longs(*numbers: int) -> list[ctypes.c_int64]:
    return [ctypes.c_int64(number) for number in numbers]
