"""From texts to what the networks read: words, their ids, and the rows of n-grams; see kernels/encoder.c."""

from __future__ import annotations

import ctypes
import itertools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from distill.runtime import structs
from distill.runtime.arrays import Arrays
from distill.runtime.characters import character_table
from distill.runtime.lexicon import lexicon_of
from distill.runtime.native import check_status, library
from distill.runtime.packing import pack
from distill.runtime.structs import EncodedTexts, NgramTable, Struct, Texts, address


class Encoding(NamedTuple):
    """What the networks read of texts.

    Shapes: ``ids`` (texts, max_length) int32, padded with 0; ``lengths`` (texts,) int32, how many ids each text has, at
    least 1; ``ngram_rows`` (n-grams,) int32, one text after the other; ``ngram_starts`` (texts + 1,) int64, where each
    text's begin.
    """

    ids: NDArray[np.int32]
    lengths: NDArray[np.int32]
    ngram_rows: NDArray[np.int32]
    ngram_starts: NDArray[np.int64]


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
        self._ngram_characters = ngram_characters
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

    def encode(self, content: bytes, spans: NDArray[np.int64], max_length: int) -> Encoding:
        """Ids and rows as :class:`distill.text.vocabulary.Vocabulary` and :mod:`distill.text.ngrams` give them.

        Args:
            content: UTF-8.
            spans: begin and end of each text in ``content``, shape (texts, 2).
            max_length: ids that are kept of a text, at least 1.
        """
        count, max_rows = len(spans), 3 * int((spans[:, 1] - spans[:, 0]).sum()) + len(spans)
        rows = np.empty(max_rows if self._ngram_characters else 0, np.int32)
        found = Encoding(
            np.zeros((count, max_length), np.int32), np.empty(count, np.int32), rows, np.empty(count + 1, np.int64)
        )
        encoded = EncodedTexts.of(**found._asdict(), count=count, max_length=max_length)
        texts = ctypes.byref(Texts(content, address(spans), count))
        check_status(library().distill_encode(self.struct, texts, ctypes.byref(encoded)))
        return found._replace(ngram_rows=rows[: found.ngram_starts[-1]])
