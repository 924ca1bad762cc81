"""Hashed character n-grams: a text without vocabulary or segmentation (Joulin et al., 1607.01759)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from distill.runtime.constants import NGRAM_BITS, NGRAM_BOUNDARY
from distill.text.segmentation import MASKED

LONGEST = 3  # characters of an n-gram at most
BOUNDARY = np.array([NGRAM_BOUNDARY], dtype=np.uint64)  # at both ends of a text; no code point + 1 is as large


def ngram_ids(text: str, buckets: int) -> NDArray[np.int64]:
    """Bucket numbers of a text's character 1- to 3-grams, each in 1 … ``buckets`` - 1 (0 is padding), shape (n-grams,).

    The text counts in lower case and without white space, with a boundary sign at both ends (alone the sign is no
    n-gram). Where the text holds ``MASKED`` it is split: no n-gram reaches into or across it, nor is there a boundary.
    Repeats stay. A text of nothing gives an empty array.
    """
    if buckets < 2:
        raise ValueError(f"{buckets} buckets: 2 are the least, the first is padding's")
    pieces = ["".join(piece.lower().split()) for piece in text.split(MASKED)]
    keys = [_keys(piece, place == 0, place == len(pieces) - 1) for place, piece in enumerate(pieces) if piece]
    mixed = _mixed(np.concatenate(keys)) if keys else np.empty(0, np.uint64)
    return (mixed % np.uint64(buckets - 1) + np.uint64(1)).astype(np.int64)


def _keys(piece: str, first: bool, last: bool) -> NDArray[np.uint64]:
    """One number an n-gram, different for different n-grams: code points + 1 side by side, ``NGRAM_BITS`` bits each."""
    points = np.frombuffer(piece.encode("utf-32-le", "surrogatepass"), dtype="<u4").astype(np.uint64) + np.uint64(1)
    framed = np.concatenate([BOUNDARY[: int(first)], points, BOUNDARY[: int(last)]])
    grown, keys = framed, [points]
    for length in range(1, LONGEST):
        grown = grown[:-1] | framed[length:] << np.uint64(NGRAM_BITS * length)
        keys.append(grown)
    return np.concatenate(keys)


def _mixed(keys: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """MurmurHash3's 64-bit finalizer (Appleby, public domain): the same on every machine, unlike Python's ``hash``."""
    for factor in (0xFF51AFD7ED558CCD, 0xC4CEB9FE1A85EC53):
        keys = (keys ^ (keys >> np.uint64(33))) * np.uint64(factor)
    mixed: NDArray[np.uint64] = keys ^ (keys >> np.uint64(33))
    return mixed
