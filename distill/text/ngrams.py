"""Hashed character n-grams, which need neither vocabulary nor segmentation (Joulin et al., 1607.01759)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from distill.runtime.constants import MASKED, NGRAM_BITS, NGRAM_BOUNDARY

MAX_ORDER = 3  # characters of the longest n-grams
BOUNDARY = np.array([NGRAM_BOUNDARY], dtype=np.uint64)  # at both ends of a text; larger than any code point + 1


def ngram_ids(text: str, buckets: int) -> NDArray[np.int64]:
    """Bucket numbers of a text's character 1- to 3-grams, each in 1 … ``buckets`` - 1 (0 is padding), shape (n-grams,).

    The text is lowercased and white space is removed; a boundary sign is added at both ends, which alone is not an
    n-gram. ``MASKED`` splits the text: no n-gram reaches into or across it, and it has no boundary signs. Repeats are
    kept. An empty text gives an empty array.

    Raises:
        ValueError: there are fewer than 2 buckets.
    """
    if buckets < 2:
        raise ValueError(f"{buckets} buckets: at least 2 are needed, as the first is for padding")
    pieces = ["".join(piece.lower().split()) for piece in text.split(MASKED)]
    keys = [_keys(piece, index == 0, index == len(pieces) - 1) for index, piece in enumerate(pieces) if piece]
    hashes = _hash(np.concatenate(keys)) if keys else np.empty(0, np.uint64)
    return (hashes % np.uint64(buckets - 1) + np.uint64(1)).astype(np.int64)


def _keys(piece: str, first: bool, last: bool) -> NDArray[np.uint64]:
    """One unique number per n-gram: its code points + 1, ``NGRAM_BITS`` bits each, the first in the lowest bits."""
    points = np.frombuffer(piece.encode("utf-32-le", "surrogatepass"), dtype="<u4").astype(np.uint64) + np.uint64(1)
    framed = np.concatenate([BOUNDARY[: int(first)], points, BOUNDARY[: int(last)]])
    grams, keys = framed, [points]
    for order in range(1, MAX_ORDER):
        grams = grams[:-1] | framed[order:] << np.uint64(NGRAM_BITS * order)
        keys.append(grams)
    return np.concatenate(keys)


def _hash(keys: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """MurmurHash3's 64-bit finalizer (Appleby, public domain). Unlike Python's ``hash``, it is the same everywhere."""
    for factor in (0xFF51AFD7ED558CCD, 0xC4CEB9FE1A85EC53):
        keys = (keys ^ (keys >> np.uint64(33))) * np.uint64(factor)
    hashes: NDArray[np.uint64] = keys ^ (keys >> np.uint64(33))
    return hashes
