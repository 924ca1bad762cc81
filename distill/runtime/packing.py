"""Python strings packed into one buffer of UTF-8, as the kernels read them."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import overload

import numpy as np
from numpy.typing import NDArray

from distill.errors import UserError

# Zero-width characters in Unicode's category Cf: zero-width spaces and joiners, byte order marks, directional marks.
ZERO_WIDTH_CHARACTER = re.compile(
    "[\u00ad\u061c\u180e\u200b-\u200f\u202a-\u202e\u2060-\u2064\u2066-\u206f\ufeff\ufff9-\ufffb\U000e0001\U000e0020-\U000e007f]"
)
LIST_OF_STRINGS = '["…", "…"]'


class Utf8Texts(Sequence[str]):
    """Texts as parts of bytes in UTF-8: ``spans`` (texts, 2) are their beginnings and ends. As strings when read."""

    def __init__(self, content: NDArray[np.uint8], spans: NDArray[np.int64]) -> None:
        self.content, self.spans = content, spans

    def __len__(self) -> int:
        return len(self.spans)

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> Utf8Texts: ...
    def __getitem__(self, index: int | slice) -> str | Utf8Texts:
        if isinstance(index, slice):
            return Utf8Texts(self.content, self.spans[index])
        begin, end = self.spans[index].tolist()
        return self.content[begin:end].tobytes().decode()

    def __iter__(self) -> Iterator[str]:
        content = self.content.tobytes()
        return (content[begin:end].decode() for begin, end in self.spans.tolist())


def without_zero_width(text: str) -> str:
    """A text without zero-width characters, which no model reads."""
    return text if text.isprintable() else ZERO_WIDTH_CHARACTER.sub("", text)  # none of them is printable


def as_list(texts: Iterable[str]) -> list[str]:
    """A copy of the texts, which no other thread can change while they are packed.

    Raises:
        UserError: one string or something else was given.
    """
    if type(texts) is list:
        return texts.copy()
    if isinstance(texts, str | bytes | Mapping) or not isinstance(texts, Iterable):
        found = "one string" if isinstance(texts, str) else type(texts).__name__
        raise UserError(f"{found} was given where a list of strings is needed", None, f"a list: {LIST_OF_STRINGS}")
    return list(texts)


def encode(texts: Sequence[str]) -> list[bytes]:
    """Each text in UTF-8; lone surrogates are encoded like other characters.

    Raises:
        UserError: a text is not a string.
    """
    try:
        return list(map(str.encode, texts, itertools.repeat("utf-8"), itertools.repeat("surrogatepass")))
    except TypeError as error:
        index, text = next((index, text) for index, text in enumerate(texts) if not isinstance(text, str))
        hint = f"a list of strings: {LIST_OF_STRINGS}"
        raise UserError(f"not a string but {type(text).__name__}: {text!r:.40}", f"text {index}", hint) from error


def pack(texts: Sequence[str]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """All texts in UTF-8, one after the other, and each text's begin and end in it, shape (texts, 2).

    Raises:
        UserError: a text is not a string.
    """
    if isinstance(texts, Utf8Texts):
        return texts.content, texts.spans
    encoded = encode(texts)
    starts = np.fromiter(itertools.accumulate(map(len, encoded), initial=0), np.int64, len(encoded) + 1)
    return np.frombuffer(b"".join(encoded), np.uint8), np.repeat(starts, 2)[1:-1].reshape(-1, 2)


def check_spans(content: NDArray[np.uint8], spans: NDArray[np.int64]) -> None:
    """Check where texts are in a buffer, before the kernels read it.

    Raises:
        UserError: the spans are not pairs of 64-bit integers, or one is not within the buffer.
    """
    if spans.dtype != np.int64 or spans.ndim != 2 or spans.shape[1] != 2:
        what = f"an array of int64 of shape (texts, 2) is needed, not {spans.dtype.name} {spans.shape}"
        raise UserError(what, "spans", "begin and end of each text, in bytes")
    wrong = (spans[:, 0] < 0) | (spans[:, 0] > spans[:, 1]) | (spans[:, 1] > len(content))
    if wrong.any():
        index = int(wrong.argmax())
        begin, end = spans[index].tolist()
        what = f"begin {begin} and end {end} are not a part of the buffer, which has {len(content)} bytes"
        raise UserError(what, f"span {index}", "0 <= begin <= end <= bytes of the buffer")
