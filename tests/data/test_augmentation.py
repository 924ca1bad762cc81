"""Altered copies: rates as asked for, words of the same part of speech, short n-grams, nothing twice."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import pytest

from distill.config import TransferSettings
from distill.data import augmentation
from distill.data.augmentation import LONGEST_NGRAM, Unigrams, _altered
from distill.errors import UserError
from distill.text.segmentation import MASKED, Segmenter

TEXTS = [
    "球队今天在北京赢得比赛，教练非常高兴",
    "股票价格昨天大幅上涨，投资者纷纷买入基金",
    "公司发布新款手机，芯片性能明显提升",
    "老师带领学生参观博物馆，了解历史文化",
]

segment, tag = Segmenter().segment, Segmenter().tag


def augmented(texts: list[str], settings: TransferSettings, seed: int) -> list[str]:
    return augmentation.augmented(texts, settings, seed, Segmenter())


def settings(**changes: Any) -> TransferSettings:
    return TransferSettings(**{"augment": 1, "mask": 0.0, "replace": 0.0, "ngram": 0.0, **changes})


@pytest.mark.parametrize(("mask", "replace"), [(0.1, 0.1), (0.1, 0.0), (0.0, 0.3), (0.5, 0.5), (0.9, 0.05)])
def test_as_many_words_are_altered_as_asked_for(mask: float, replace: float) -> None:
    """Before repeats are dropped, which much altered copies are less often."""
    text = [(word, "n") for word in ("球队", "教练", "股票", "基金", "手机", "芯片", "老师", "学生")]
    unigrams, choose, fates = Unigrams([text]), random.Random(1), Counter[str]()
    for _ in range(1000):
        copy = _altered(text, unigrams, settings(mask=mask, replace=replace), choose)
        assert len(copy) == len(text)
        fates.update(
            "mask" if n == MASKED else "keep" if n == o else "replace" for n, (o, _) in zip(copy, text, strict=True)
        )
    shares = {fate: fates[fate] / 8000 for fate in ("mask", "replace", "keep")}
    assert shares == pytest.approx({"mask": mask, "replace": replace, "keep": 1 - mask - replace}, abs=0.02)


def test_ngrams_are_as_often_and_as_long_as_asked_for() -> None:
    text = [(str(place), "m") for place in range(20)]
    choose = random.Random(1)
    lengths = Counter(len(_altered(text, Unigrams([text]), settings(ngram=0.25), choose)) for _ in range(4000))
    assert {length: count / 4000 for length, count in lengths.items()} == pytest.approx(
        {20: 0.75, **dict.fromkeys(range(1, LONGEST_NGRAM + 1), 0.05)}, abs=0.025
    )


def test_nothing_is_masked_without_a_chance_of_it() -> None:
    copies = augmented(TEXTS, settings(augment=20, replace=0.3, ngram=0.3), seed=1)
    assert copies and not any(MASKED in copy for copy in copies)


def test_everything_can_be_masked() -> None:
    (copy,) = augmented(TEXTS[:1], settings(mask=1.0), seed=1)
    assert set(segment(copy)) == {MASKED}


def test_a_word_is_replaced_by_others_of_its_part_as_often_as_they_are_used() -> None:
    tagged = [("甲", "n"), ("乙", "n"), ("跑", "v"), ("乙", "n"), ("丙", "n"), ("乙", "n"), ("甲", "n")]
    unigrams, choose = Unigrams([tagged]), random.Random(0)
    for word, rest in (("甲", {"乙": 3, "丙": 1}), ("乙", {"甲": 2, "丙": 1}), ("丙", {"甲": 2, "乙": 3})):
        drawn = Counter(unigrams.another(word, "n", choose) for _ in range(3000))
        assert drawn.keys() == rest.keys()
        for other, count in rest.items():
            assert drawn[other] / 3000 == pytest.approx(count / sum(rest.values()), abs=0.04)
    assert unigrams.another("跑", "v", choose) == "跑"


def test_replaced_words_keep_the_parts_of_speech() -> None:
    texts = ["老师喜欢手机", "学生喜欢芯片", "老师参观公司"]
    old = [tag(text) for text in texts]
    parts = {pair for text in old for pair in text}
    for copy in augmented(texts, settings(augment=5, replace=1.0), seed=2):
        cut = [copy[place : place + 2] for place in range(0, len(copy), 2)]
        assert any(all((new, part) in parts for new, (_, part) in zip(cut, text, strict=True)) for text in old), copy


def test_ngrams_are_neighbouring_words_one_to_five() -> None:
    copies = augmented(TEXTS, settings(augment=400, ngram=1.0), seed=3)
    assert all(any(copy in text for text in TEXTS) for copy in copies)
    words = [word for word, _ in tag(TEXTS[0])]
    runs = {"".join(words[a : a + n]): n for n in range(1, LONGEST_NGRAM + 1) for a in range(len(words) - n + 1)}
    assert {runs[copy] for copy in copies if copy in runs} == {1, 2, 3, 4, 5}
    assert max(len(tag(copy)) for copy in copies) <= LONGEST_NGRAM + 1  # a piece may be cut otherwise by itself


def test_the_seed_decides() -> None:
    asked = settings(augment=5, mask=0.2, replace=0.2, ngram=0.2)
    assert augmented(TEXTS, asked, 7) == augmented(TEXTS, asked, 7) != augmented(TEXTS, asked, 8)


def test_every_text_has_its_copies_in_its_place() -> None:
    copies = augmented(TEXTS, settings(augment=30, mask=0.2), seed=4)
    owners = [
        next(place for place, text in enumerate(TEXTS) if all(part in text for part in copy.split(MASKED)))
        for copy in copies
    ]
    assert owners == sorted(owners) and set(owners) == {0, 1, 2, 3}
    assert max(Counter(owners).values()) <= 30


def test_repeats_and_unaltered_copies_are_dropped() -> None:
    assert augmented(TEXTS, settings(augment=9), seed=5) == []
    copies = augmented(["老师喜欢", "老师", "喜 欢"], settings(augment=50, mask=0.4, ngram=0.4), seed=5)
    assert len(set(copies)) == len(copies) and not {"老师喜欢", "老师", "喜欢"} & set(copies)


def test_no_copies_when_none_are_asked_for() -> None:
    assert augmented(TEXTS, TransferSettings(), seed=6) == []


@pytest.mark.parametrize("text", ["", " ", MASKED])
def test_texts_with_nothing_to_alter(text: str) -> None:
    assert augmented([text], settings(augment=3, mask=0.5, replace=0.5, ngram=1.0), seed=7) in ([], [MASKED])


def test_latin_words_stay_apart() -> None:
    copies = augmented(["我 用 iPhone pro 14 拍 天安门 hello world"], settings(augment=50, mask=0.1), seed=8)
    assert any("iphone pro 14拍" in copy for copy in copies)
    assert not any("iphonepro" in copy or "helloworld" in copy for copy in copies)


def test_chances_of_more_than_one_are_refused() -> None:
    with pytest.raises(UserError, match="more than 1"):
        augmented(TEXTS, settings(mask=0.6, replace=0.5), seed=9)
    augmented(TEXTS[:1], settings(mask=0.7, replace=0.3), seed=9)
