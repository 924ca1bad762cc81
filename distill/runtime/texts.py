"""Python's strings as one array of code points for the kernels."""

from __future__ import annotations

import ctypes
import functools
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distill.errors import UserError

MASKED = "[UNK]"  # as distill.text.segmentation has it; the only capitals that reach the kernels
ALONE = ("\u03a3", "\u0130")  # lowered as its neighbours are; longer when lowered


class Texts(ctypes.Structure):
    """See kernels/kernels.h."""

    _fields_ = (("points", ctypes.c_void_p), ("starts", ctypes.c_void_p), ("texts", ctypes.c_int64))


def address(array: NDArray[Any]) -> int:
    """Where an array lies, several times quicker than ``array.ctypes`` says it."""
    return int(array.__array_interface__["data"][0])


@dataclass(frozen=True)
class Packed:
    """Texts in lower case, one after the other.

    Shapes: ``points`` (characters,) uint32, code points; ``starts`` (texts + 1,) int64, where each text begins.
    """

    points: NDArray[np.uint32]
    starts: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.starts) - 1

    @functools.cached_property
    def struct(self) -> Texts:
        """The same for the kernels; it lives no longer than this."""
        return Texts(address(self.points), address(self.starts), len(self.starts) - 1)


def pack(texts: Sequence[str], first: int = 0) -> Packed:
    """Texts lowered as :func:`distill.text.segmentation.segment` lowers them.

    All are lowered at once, which is several times quicker, but for those few characters where that would differ.
    ``first`` is the place of the first among the caller's texts, for the message.

    Raises:
        UserError: a text is no string.
    """
    joined = _joined(texts, first)
    if MASKED in joined or ALONE[0] in joined or ALONE[1] in joined:
        texts = [MASKED.join([part.lower() for part in text.split(MASKED)]) for text in texts]
        joined = "".join(texts)
    else:
        joined = joined.lower()
    starts = np.fromiter(itertools.accumulate(map(len, texts), initial=0), np.int64, len(texts) + 1)
    return Packed(np.frombuffer(joined.encode("utf-32-le", "surrogatepass"), np.uint32), starts)


def beginnings(texts: Sequence[str], packed: Packed, most: int) -> Packed:
    """The first ``most`` characters of every text, counted before it is lowered; ``packed`` where none is longer."""
    if len(packed.points) <= most or np.diff(packed.starts).max() <= most:  # no text is shorter when lowered
        return packed
    return pack([text[:most] for text in texts])


def unpack(packed: Packed) -> str:
    """All texts as one string: a code point is a character."""
    return packed.points.tobytes().decode("utf-32-le", "surrogatepass")


def _joined(texts: Sequence[str], first: int) -> str:
    hint = 'a list of strings: ["…", "…"]'
    if isinstance(texts, str):
        raise UserError("one string was given where a list of them is needed", None, hint)
    try:
        return "".join(texts)
    except TypeError as error:
        found = ((place, text) for place, text in enumerate(texts, first) if not isinstance(text, str))
        place, text = next(found)
        raise UserError(f"it is no string but {type(text).__name__}: {text!r:.40}", f"text {place}", hint) from error
