"""The step between texts and networks, which the kernels do within one call: ids of words and rows of n-grams."""

from __future__ import annotations

import ctypes
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from distill.runtime.encoder import NativeEncoder
from distill.runtime.native import check_status, library
from distill.runtime.structs import EncodedTexts, Texts, address


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


def encode(encoder: NativeEncoder, content: bytes, spans: NDArray[np.int64], max_length: int) -> Encoding:
    """Ids and rows of texts as :func:`distill.runtime.packing.pack` packs them, at most ``max_length`` ids each."""
    count, max_rows = len(spans), 3 * int((spans[:, 1] - spans[:, 0]).sum()) + len(spans)
    rows = np.empty(max_rows if encoder._encoder.ngrams.row_by_bucket else 0, np.int32)
    found = Encoding(
        np.zeros((count, max_length), np.int32), np.empty(count, np.int32), rows, np.empty(count + 1, np.int64)
    )
    encoded = EncodedTexts.of(**found._asdict(), count=count, max_length=max_length)
    texts = ctypes.byref(Texts(content, address(spans), count))
    check_status(library().distill_encode(encoder.struct, texts, ctypes.byref(encoded)))
    return found._replace(ngram_rows=rows[: found.ngram_starts[-1]])
