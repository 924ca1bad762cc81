"""Packed texts: lowercased as in training, truncated before lowercasing."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from distill.errors import UserError
from distill.runtime.constants import MASKED
from distill.runtime.packing import CONTEXT_LOWERED, PackedTexts, pack, pack_beginnings, unpack, without_zero_width
from distill.text.segmentation import Segmenter

PIECES = st.sampled_from(
    [MASKED, "[UN", "K]", "[unk]", *CONTEXT_LOWERED, "ΑΣ", "北京", "iPhone 手机", "１２", " \n", "\u3000", "😀", "\0"]
)
ANY = st.text(st.characters(exclude_categories=()), max_size=12)  # surrogates included
TEXTS = st.lists(st.lists(PIECES | ANY, max_size=5).map("".join), max_size=5)


def read_as(text: str, max_characters: int = 100) -> str:
    """What models read of a text: no zero-width characters, the beginning, in lower case."""
    beginning = without_zero_width(text)[:max_characters]
    return MASKED.join(part.lower() for part in beginning.split(MASKED))


def unpacked(packed: PackedTexts) -> list[str]:
    joined = unpack(packed)
    return [joined[begin:end] for begin, end in zip(packed.starts[:-1], packed.starts[1:], strict=True)]


@given(TEXTS)
def test_texts_come_back_in_lower_case(texts: list[str]) -> None:
    packed = pack(texts)
    assert packed.points.dtype == np.uint32 and packed.starts.dtype == np.int64 and len(packed) == len(texts)
    assert unpacked(packed) == [read_as(text) for text in texts]


def test_only_two_characters_cannot_be_lowercased_alone() -> None:
    """All others become one character, whatever their neighbours are, and never white space."""
    longer = [chr(point) for point in range(0x110000) if len(chr(point).lower()) != 1]
    assert longer == ["\u0130"] and set(CONTEXT_LOWERED) == {"\u0130", "\u03a3"}
    assert not any(char.isspace() for char in map(chr, range(0x110000)) if char.lower() != char)


@given(TEXTS, st.integers(1, 12))
def test_beginnings_are_counted_in_the_raw_text(texts: list[str], max_characters: int) -> None:
    packed = pack_beginnings(texts, pack(texts), max_characters)
    assert unpacked(packed) == [read_as(text, max_characters) for text in texts]


def test_short_texts_are_packed_once() -> None:
    packed = pack(["北京", "iPhone"])
    assert pack_beginnings(["北京", "iPhone"], packed, 6) is packed


def test_a_text_that_is_not_a_string() -> None:
    with pytest.raises(UserError, match="not a string but NoneType: None") as error:
        pack(["北京", None, 3])  # type: ignore[list-item]
    assert error.value.where == "text 1"
    assert len(pack([])) == 0 and len(pack(["", ""])) == 2


def test_characters_of_no_width_are_not_read() -> None:
    """Neither by the runtime nor by the segmenter of training; emoji keep their other parts."""
    texts = ["球\u200b队\ufeff夺冠", "\u200d", "家\U0001f468\u200d\U0001f469庭", "a\u2060b\u00ad"]
    visible = ["球队夺冠", "", "家\U0001f468\U0001f469庭", "ab"]
    assert unpack(pack(texts)) == "".join(visible)
    assert pack(texts).starts.tolist() == pack(visible).starts.tolist()
    assert unpack(pack_beginnings(texts, pack(texts), 2)) == "".join(text[:2] for text in visible)
    assert [Segmenter().segment(text) for text in texts] == [Segmenter().segment(text) for text in visible]
