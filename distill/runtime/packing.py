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
MANY = 16  # texts that are faster to encode at once
LIST_OF_STRINGS = '["…", "…"]'


class Utf8Texts(Sequence[str]):
    """Texts as parts of bytes in UTF-8, decoded when they are read: ``spans`` (texts, 2) are begin and end of each."""

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
        content = self.content.data
        return (str(content[begin:end], "utf-8") for begin, end in self.spans.tolist())


def text_size(texts: Sequence[str]) -> int:
    """How long all texts are together: characters, or bytes where the texts are bytes."""
    if isinstance(texts, Utf8Texts):
        return int((texts.spans[:, 1] - texts.spans[:, 0]).sum())
    return sum(map(len, texts))


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


def encode(text: str) -> bytes:
    """A text in UTF-8; lone surrogates are encoded like other characters.

    Raises:
        UserError: it is not a string.
    """
    try:
        return str.encode(text, "utf-8", "surrogatepass")
    except TypeError as error:
        raise _not_a_string(text, 0) from error


def pack(texts: Sequence[str]) -> tuple[bytes, NDArray[np.int64]]:
    """All texts in UTF-8 in one buffer, and each text's begin and end in it, shape (texts, 2).

    Raises:
        UserError: a text is not a string.
    """
    try:
        return (_pack_many(texts) if len(texts) >= MANY else None) or _pack_each(texts)
    except TypeError as error:
        raise next(_not_a_string(text, i) for i, text in enumerate(texts) if not isinstance(text, str)) from error


def _pack_many(texts: Sequence[str]) -> tuple[bytes, NDArray[np.int64]] | None:
    """The texts separated by NUL, encoded at once, which takes less than half as long; None if a text contains NUL."""
    content = "\0".join(texts).encode("utf-8", "surrogatepass")
    separators = np.flatnonzero(np.frombuffer(content, np.uint8) == 0)
    if len(separators) != len(texts) - 1:
        return None
    spans = np.zeros((len(texts), 2), np.int64)
    np.add(separators, 1, out=spans[1:, 0])
    spans[:-1, 1], spans[-1, 1] = separators, len(content)
    return content, spans


def _pack_each(texts: Sequence[str]) -> tuple[bytes, NDArray[np.int64]]:
    """The texts one after the other, encoded one by one."""
    encoded = list(map(str.encode, texts, itertools.repeat("utf-8"), itertools.repeat("surrogatepass")))
    starts = np.fromiter(itertools.accumulate(map(len, encoded), initial=0), np.int64, len(encoded) + 1)
    return b"".join(encoded), starts.repeat(2)[1:-1].reshape(-1, 2)


def _not_a_string(text: object, index: int) -> UserError:
    hint = f"a list of strings: {LIST_OF_STRINGS}"
    return UserError(f"not a string but {type(text).__name__}: {text!r:.40}", f"text {index}", hint)


def check_spans(spans: NDArray[np.int64], size: int) -> None:
    """Check where texts are in a buffer of ``size`` bytes, before the kernels read it.

    Raises:
        UserError: the spans are not pairs of 64-bit integers, or one is not within the buffer.
    """
    if spans.dtype != np.int64 or spans.ndim != 2 or spans.shape[1] != 2:
        what = f"an array of int64 of shape (texts, 2) is needed, not {spans.dtype.name} {spans.shape}"
        raise UserError(what, "spans", "begin and end of each text, in bytes")
    wrong = (spans[:, 0] < 0) | (spans[:, 0] > spans[:, 1]) | (spans[:, 1] > size)
    if wrong.any():
        index = int(wrong.argmax())
        begin, end = spans[index].tolist()
        what = f"begin {begin} and end {end} are not a part of the buffer, which has {size} bytes"
        raise UserError(what, f"span {index}", "0 <= begin <= end <= bytes of the buffer")
