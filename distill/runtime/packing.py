"""Python strings packed into one array of code points, as the kernels read them."""

from __future__ import annotations

import functools
import itertools
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from distill.errors import UserError
from distill.runtime.constants import MASKED
from distill.runtime.structs import Texts, address

# Zero-width characters in Unicode's category Cf: zero-width spaces and joiners, byte order marks, directional marks.
ZERO_WIDTH = re.compile(
    "[\u00ad\u061c\u180e\u200b-\u200f\u202a-\u202e\u2060-\u2064\u2066-\u206f\ufeff\ufff9-\ufffb\U000e0001\U000e0020-\U000e007f]"
)
LIST_OF_STRINGS = '["…", "…"]'
CONTEXT_LOWERED = ("\u03a3", "\u0130")  # Σ is lowered by its neighbours, İ becomes two characters


@dataclass(frozen=True)
class PackedTexts:
    """Lowercased texts, concatenated.

    Shapes: ``points`` (characters,) uint32, code points; ``starts`` (texts + 1,) int64, where each text begins.
    """

    points: NDArray[np.uint32]
    starts: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.starts) - 1

    @functools.cached_property
    def struct(self) -> Texts:
        """The same for the kernels; it must not outlive this object."""
        return Texts(address(self.points), address(self.starts), len(self))


def without_zero_width(text: str) -> str:
    """A text without zero-width characters, which no model reads."""
    return text if text.isprintable() else ZERO_WIDTH.sub("", text)  # none of them is printable


def as_list(texts: Iterable[str]) -> list[str]:
    """A copy of the texts, which no other thread can change while they are packed.

    Raises:
        UserError: one string or something else was given.
    """
    if isinstance(texts, str | bytes | Mapping) or not isinstance(texts, Iterable):
        found = "one string" if isinstance(texts, str) else type(texts).__name__
        raise UserError(f"{found} was given where a list of strings is needed", None, f"a list: {LIST_OF_STRINGS}")
    return list(texts)


def pack(texts: Sequence[str], first: int = 0) -> PackedTexts:
    """Lowercase texts as :meth:`distill.text.segmentation.Segmenter.segment` does, and pack them.

    Zero-width characters are left out.

    They are lowercased in one call, several times faster than one by one, unless one holds ``MASKED`` or a character
    for which the result would differ. ``first`` is the index of the first text in the caller's list, for the message.

    Raises:
        UserError: a text is not a string, or its length is not the number of its characters.
    """
    joined = _join(texts, first)
    if not joined.isprintable() and ZERO_WIDTH.search(joined):
        texts = [without_zero_width(text) for text in texts]
        joined = "".join(texts)
    if MASKED in joined or CONTEXT_LOWERED[0] in joined or CONTEXT_LOWERED[1] in joined:
        texts = [MASKED.join([part.lower() for part in text.split(MASKED)]) for text in texts]
        joined = "".join(texts)
    else:
        joined = joined.lower()
    starts = np.fromiter(itertools.accumulate(map(len, texts), initial=0), np.int64, len(texts) + 1)
    if starts[-1] != len(joined):  # the kernels read as many characters as the lengths say
        raise UserError("a text's length is not the number of its characters", None, "pass plain strings")
    return PackedTexts(np.frombuffer(joined.encode("utf-32-le", "surrogatepass"), np.uint32), starts)


def pack_beginnings(texts: Sequence[str], packed: PackedTexts, max_characters: int) -> PackedTexts:
    """Truncate texts to ``max_characters``, counted before lowercasing, and pack them; ``packed`` if all are short."""
    if len(packed.points) <= max_characters or np.diff(packed.starts).max() <= max_characters:
        return packed  # lowercasing never shortens a text
    return pack([without_zero_width(text)[:max_characters] for text in texts])


def unpack(packed: PackedTexts) -> str:
    """All texts as one string."""
    return packed.points.tobytes().decode("utf-32-le", "surrogatepass")


def _join(texts: Sequence[str], first: int) -> str:
    hint = f"a list of strings: {LIST_OF_STRINGS}"
    try:
        return "".join(texts)
    except TypeError as error:
        index, text = next((index, text) for index, text in enumerate(texts, first) if not isinstance(text, str))
        raise UserError(f"not a string but {type(text).__name__}: {text!r:.40}", f"text {index}", hint) from error
