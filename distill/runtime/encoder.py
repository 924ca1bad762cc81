"""From texts to what the networks read: words, their ids, and the rows of n-grams; see kernels/encoder.c."""

from __future__ import annotations

import ctypes
import itertools
from collections.abc import Sequence

import numpy as np

from distill.runtime import structs
from distill.runtime.arrays import Arrays
from distill.runtime.characters import character_table
from distill.runtime.lexicon import lexicon_of
from distill.runtime.native import check_status, library
from distill.runtime.packing import pack
from distill.runtime.structs import NgramTable, Struct, Texts, address


class NativeEncoder:
    """Segments texts as jieba does, and looks up the ids of their words and the rows of their n-grams.

    Threads may share it.

    Args:
        arrays: of a bundle: those of its lexicon (see :func:`distill.export.trie.lexicon_arrays`) and, if it has
            n-grams, ``ngrams.row_of``, the row of every bucket, 0 for none; others are ignored.
        ngram_characters: of a text, from which n-grams are taken; 0: no n-grams.

    Raises:
        ValueError: the arrays do not form a trie.
    """

    def __init__(self, arrays: Arrays, ngram_characters: int = 0) -> None:
        tables: dict[str, Struct] = {"characters": character_table(), "lexicon": lexicon_of(arrays)}
        if ngram_characters:
            rows = np.array(arrays["ngrams.row_of"], np.uint16, order="C")
            tables["ngrams"] = NgramTable.of(
                row_by_bucket=rows, bucket_count=len(rows), max_characters=ngram_characters
            )
        self._encoder = structs.TextEncoder.of(**tables)
        self.struct = ctypes.byref(self._encoder)

    def segment(self, texts: Sequence[str]) -> list[list[str]]:
        """The words of every text, as :meth:`distill.text.segmentation.Segmenter.segment` returns them."""
        content, spans = pack(texts)
        points, words = np.empty(len(content), np.uint32), np.empty((len(content), 2), np.int64)
        counts = np.empty(len(spans), np.int64)
        arrays = (address(array) for array in (points, words, counts))
        packed = ctypes.byref(Texts(content, address(spans), len(spans)))
        check_status(library().distill_segment(self.struct, packed, *arrays))
        words = words[: counts.sum()]
        lowered = points[: words.max(initial=0)].tobytes().decode("utf-32-le", "surrogatepass")
        found = iter([lowered[begin:end] for begin, end in words.tolist()])
        return [list(itertools.islice(found, count)) for count in counts.tolist()]
