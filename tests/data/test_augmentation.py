"""Augmented copies: rates as set, replacements with the same part of speech, short n-grams, no repeats."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import pytest

from distill.config import TransferSettings
from distill.data import augmentation
from distill.data.augmentation import MAX_NGRAM, Unigrams, _altered
from distill.errors import UserError
from distill.runtime.constants import MASKED
from distill.text.segmentation import Segmenter

TEXTS = [
    "球队今天在北京赢得比赛，教练非常高兴",
    "股票价格昨天大幅上涨，投资者纷纷买入基金",
    "公司发布新款手机，芯片性能明显提升",
    "老师带领学生参观博物馆，了解历史文化",
]

segment, tag = Segmenter().segment, Segmenter().tag


def augmented(texts: list[str], settings: TransferSettings, seed: int) -> list[str]:
    return augmentation.augment(texts, settings, seed, Segmenter())


def settings(**changes: Any) -> TransferSettings:
    return TransferSettings(**{"augment": 1, "mask": 0.0, "replace": 0.0, "ngram": 0.0, **changes})


@pytest.mark.parametrize(("mask", "replace"), [(0.1, 0.1), (0.1, 0.0), (0.0, 0.3), (0.5, 0.5), (0.9, 0.05)])
def test_words_are_altered_at_the_given_rates(mask: float, replace: float) -> None:
    """Before repeats are dropped: heavily augmented copies repeat less often."""
    text = [(word, "n") for word in ("球队", "教练", "股票", "基金", "手机", "芯片", "老师", "学生")]
    unigrams, rng, fates = Unigrams([text]), random.Random(1), Counter[str]()
    for _ in range(1000):
        copy = _altered(text, unigrams, settings(mask=mask, replace=replace), rng)
        assert len(copy) == len(text)
        fates.update(
            "mask" if n == MASKED else "keep" if n == o else "replace" for n, (o, _) in zip(copy, text, strict=True)
        )
    shares = {fate: fates[fate] / 8000 for fate in ("mask", "replace", "keep")}
    assert shares == pytest.approx({"mask": mask, "replace": replace, "keep": 1 - mask - replace}, abs=0.02)


def test_ngrams_are_as_frequent_and_as_long_as_set() -> None:
    text = [(str(number), "m") for number in range(20)]
    rng = random.Random(1)
    lengths = Counter(len(_altered(text, Unigrams([text]), settings(ngram=0.25), rng)) for _ in range(4000))
    assert {length: count / 4000 for length, count in lengths.items()} == pytest.approx(
        {20: 0.75, **dict.fromkeys(range(1, MAX_NGRAM + 1), 0.05)}, abs=0.025
    )


def test_nothing_is_masked_at_rate_zero() -> None:
    copies = augmented(TEXTS, settings(augment=20, replace=0.3, ngram=0.3), seed=1)
    assert copies and not any(MASKED in copy for copy in copies)


def test_everything_can_be_masked() -> None:
    (copy,) = augmented(TEXTS[:1], settings(mask=1.0), seed=1)
    assert set(segment(copy)) == {MASKED}


def test_replacements_follow_the_frequencies_of_their_part_of_speech() -> None:
    tagged = [("甲", "n"), ("乙", "n"), ("跑", "v"), ("乙", "n"), ("丙", "n"), ("乙", "n"), ("甲", "n")]
    unigrams, rng = Unigrams([tagged]), random.Random(0)
    for word, rest in (("甲", {"乙": 3, "丙": 1}), ("乙", {"甲": 2, "丙": 1}), ("丙", {"甲": 2, "乙": 3})):
        samples = Counter(unigrams.another(word, "n", rng) for _ in range(3000))
        assert samples.keys() == rest.keys()
        for other, count in rest.items():
            assert samples[other] / 3000 == pytest.approx(count / sum(rest.values()), abs=0.04)
    assert unigrams.another("跑", "v", rng) == "跑"


def test_replaced_words_keep_the_parts_of_speech() -> None:
    texts = ["老师喜欢手机", "学生喜欢芯片", "老师参观公司"]
    old = [tag(text) for text in texts]
    parts = {pair for text in old for pair in text}
    for copy in augmented(texts, settings(augment=5, replace=1.0), seed=2):
        words = [copy[start : start + 2] for start in range(0, len(copy), 2)]
        assert any(all((new, part) in parts for new, (_, part) in zip(words, text, strict=True)) for text in old), copy


def test_ngrams_are_one_to_five_consecutive_words() -> None:
    copies = augmented(TEXTS, settings(augment=400, ngram=1.0), seed=3)
    assert all(any(copy in text for text in TEXTS) for copy in copies)
    words = [word for word, _ in tag(TEXTS[0])]
    runs = {"".join(words[a : a + n]): n for n in range(1, MAX_NGRAM + 1) for a in range(len(words) - n + 1)}
    assert {runs[copy] for copy in copies if copy in runs} == {1, 2, 3, 4, 5}
    assert max(len(tag(copy)) for copy in copies) <= MAX_NGRAM + 1  # a piece alone may be segmented differently


def test_copies_depend_on_the_seed() -> None:
    chosen = settings(augment=5, mask=0.2, replace=0.2, ngram=0.2)
    assert augmented(TEXTS, chosen, 7) == augmented(TEXTS, chosen, 7) != augmented(TEXTS, chosen, 8)


def test_copies_are_in_the_order_of_their_texts() -> None:
    copies = augmented(TEXTS, settings(augment=30, mask=0.2), seed=4)
    sources = [
        next(index for index, text in enumerate(TEXTS) if all(part in text for part in copy.split(MASKED)))
        for copy in copies
    ]
    assert sources == sorted(sources) and set(sources) == {0, 1, 2, 3}
    assert max(Counter(sources).values()) <= 30


def test_repeats_and_unaltered_copies_are_dropped() -> None:
    assert augmented(TEXTS, settings(augment=9), seed=5) == []
    copies = augmented(["老师喜欢", "老师", "喜 欢"], settings(augment=50, mask=0.4, ngram=0.4), seed=5)
    assert len(set(copies)) == len(copies) and not {"老师喜欢", "老师", "喜欢"} & set(copies)


def test_no_copies_by_default() -> None:
    assert augmented(TEXTS, TransferSettings(), seed=6) == []


@pytest.mark.parametrize("text", ["", " ", MASKED])
def test_texts_with_nothing_to_alter(text: str) -> None:
    assert augmented([text], settings(augment=3, mask=0.5, replace=0.5, ngram=1.0), seed=7) in ([], [MASKED])


def test_latin_words_stay_separated() -> None:
    copies = augmented(["我 用 iPhone pro 14 拍 天安门 hello world"], settings(augment=50, mask=0.1), seed=8)
    assert any("iphone pro 14拍" in copy for copy in copies)
    assert not any("iphonepro" in copy or "helloworld" in copy for copy in copies)


def test_probabilities_of_more_than_one_are_refused() -> None:
    with pytest.raises(UserError, match="more than 1"):
        augmented(TEXTS, settings(mask=0.6, replace=0.5), seed=9)
    augmented(TEXTS[:1], settings(mask=0.7, replace=0.3), seed=9)
