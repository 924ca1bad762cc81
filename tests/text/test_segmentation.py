"""Segmentation and vocabulary."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distill.errors import UserError
from distill.text.segmentation import MASKED, segment, segmenter, tag
from distill.text.vocabulary import PAD, PAD_ID, UNKNOWN, UNKNOWN_ID, Vocabulary, build_vocabulary


def test_segment() -> None:
    assert segment("我爱 北京天安门，用iPhone拍") == ["我", "爱", "北京", "天安门", "，", "用", "iphone", "拍"]


@given(st.text())
def test_segment_loses_nothing_but_white_space(text: str) -> None:
    assert "".join("".join(segment(text)).split()) == "".join(text.lower().split())


def test_a_masked_word_stays_one_word() -> None:
    assert segment(f"我爱{MASKED}天安门{MASKED}{MASKED}iPhone {MASKED}") == [
        *("我", "爱", MASKED, "天安门", MASKED, MASKED, "iphone", MASKED)
    ]
    assert segment(MASKED) == [MASKED] and MASKED not in segment("[unk]")


def test_a_masked_word_is_unknown_even_where_its_characters_are_known() -> None:
    texts = [segment(text) for text in (MASKED, f"{MASKED}好", "[ U N K ] [ u n k ]")]
    vocabulary = build_vocabulary(texts, min_count=1)
    assert vocabulary.ids.keys() == {PAD, UNKNOWN, "好", *"[unk]"}
    assert vocabulary.encode([MASKED, "好", MASKED], 9) == [UNKNOWN_ID, vocabulary.ids["好"], UNKNOWN_ID]
    assert vocabulary.encode([MASKED] * 3, 2) == [UNKNOWN_ID] * 2
    assert build_vocabulary([[MASKED] * 9], 1).words == (PAD, UNKNOWN)


def test_tag() -> None:
    assert tag(f"我爱 北京天安门{MASKED}iPhone") == [
        ("我", "r"),
        ("爱", "v"),
        ("北京", "ns"),
        ("天安门", "ns"),
        (MASKED, MASKED),
        ("iphone", "eng"),
    ]
    assert tag("") == [] == tag(" \n")


def test_vocabulary_has_frequent_words_and_their_characters() -> None:
    vocabulary = build_vocabulary([["北京", "北京", "人"], ["南京"]], min_count=2)
    assert vocabulary.words == (PAD, UNKNOWN, "京", "北", "北京")


def test_unknown_words_fall_back_to_their_characters() -> None:
    vocabulary = build_vocabulary([["北京", "人"], ["北京", "人"]], min_count=2)
    ids = vocabulary.ids
    assert vocabulary.encode(["北京", "北人", "海"], 9) == [ids["北京"], ids["北"], ids["人"], UNKNOWN_ID]
    assert vocabulary.encode(["北人北人"], 3) == [ids["北"], ids["人"], ids["北"]]
    assert vocabulary.encode([], 3) == [UNKNOWN_ID]


@given(st.lists(st.lists(st.text("北京人海 <pad>", min_size=1), max_size=6)), st.integers(1, 3))
def test_ids_are_in_range_and_never_padding(texts: list[list[str]], min_count: int) -> None:
    vocabulary = build_vocabulary(texts, min_count)
    assert len(set(vocabulary.words)) == len(vocabulary)
    for words in texts:
        ids = vocabulary.encode(words, 5)
        assert 1 <= len(ids) <= 5 and all(PAD_ID < index < len(vocabulary) for index in ids)


def test_a_vocabulary_comes_back(tmp_path: Path) -> None:
    vocabulary = build_vocabulary([segment("一行\u2028两行\u0085三行 a b")], 1)
    vocabulary.save(tmp_path / "v.txt")
    assert Vocabulary.load(tmp_path / "v.txt") == vocabulary
    (tmp_path / "v.txt").write_text("北京\n", "utf-8")
    with pytest.raises(UserError, match="not a vocabulary"):
        Vocabulary.load(tmp_path / "v.txt")


def test_segmenter_names_what_it_is() -> None:
    assert segmenter()["name"] == "jieba"
