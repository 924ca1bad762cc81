"""Case and width of every character, for the kernels; see kernels/characters.h.

The table is built from Python's own ``str.lower`` when it is first needed, in about two milliseconds: the kernels put
texts into lower case as training does in the same Python, whatever version of Unicode it knows.
"""

from __future__ import annotations

import functools

import numpy as np
from numpy.typing import NDArray

from distill.runtime.constants import CASE_IGNORABLE, CASED, DELTA_BITS, ZERO_WIDTH
from distill.runtime.packing import ZERO_WIDTH_CHARACTER
from distill.runtime.structs import CharacterTable

BLOCKS, BLOCK_SIZE = 0x1100, 0x100  # of code points
# Blocks of 256 code points. All others, above all Han and Hangul, have neither case nor zero-width characters.
CASE_BLOCKS = (
    *(range(0x31), range(0xA0, 0xAC), range(0xFB, 0x120), range(0x134, 0x135), range(0x160, 0x170)),
    *(range(0x1A0, 0x200), range(0xE00, 0xE02)),
)
DOTTED_I, SIGMA, FINAL_SIGMA = 0x130, 0x3A3, 0x3C2


@functools.cache
def character_table() -> CharacterTable:
    """The table of this Python's characters, which all encoders share."""
    blocks = np.concatenate([np.array(some) for some in CASE_BLOCKS])
    points = (blocks[:, None] * BLOCK_SIZE + np.arange(BLOCK_SIZE)).astype(np.uint32)
    entries = _entries(points.ravel()).reshape(points.shape)
    is_used = entries.any(axis=1)
    pages = np.zeros(BLOCKS, np.uint8)
    pages[blocks[is_used]] = np.arange(1, is_used.sum() + 1)
    return CharacterTable.of(pages=pages, entries=np.concatenate([np.zeros_like(entries[:1]), entries[is_used]]))


def _entries(points: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """The entry of every code point: how far away its lower case is, and its class.

    The classes are read off the capital sigma: it becomes a final sigma after a cased character and any number of
    case-ignorable ones.
    """
    points = np.where(points == DOTTED_I, np.uint32(ord("I")), points)  # cased as well, one character in lower case
    after_letter = _lower(ord("A"), points, SIGMA, ord(" "))
    has_class = after_letter[:, 2] == FINAL_SIGMA
    entries = (after_letter[:, 1] - points) & np.uint32(DELTA_BITS)
    is_cased = _lower(points[has_class], SIGMA, ord(" "))[:, 1] == FINAL_SIGMA
    entries[has_class] |= np.where(is_cased, np.uint32(CASED), np.uint32(CASE_IGNORABLE))
    entries[[match.start() for match in ZERO_WIDTH_CHARACTER.finditer(_decoded(points))]] |= np.uint32(ZERO_WIDTH)
    return entries


def _lower(*columns: int | NDArray[np.uint32]) -> NDArray[np.uint32]:
    """Strings of one length in lower case, one per row, from code points by column."""
    strings = np.empty((max(map(np.size, columns)), len(columns)), np.uint32)
    for index, column in enumerate(columns):
        strings[:, index] = column
    lowered = _decoded(strings).lower().encode("utf-32-le", "surrogatepass")
    return np.frombuffer(lowered, np.uint32).reshape(strings.shape)


def _decoded(points: NDArray[np.uint32]) -> str:
    return points.tobytes().decode("utf-32-le", "surrogatepass")
