"""Segmentation and vocabulary."""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from distill import load_student
from distill.config import StudentSettings
from distill.errors import UserError
from distill.models.build import build_student
from distill.models.checkpoint import save_student
from distill.models.tokenizer import WordTokenizer
from distill.runtime.constants import MASKED
from distill.runtime.packing import without_zero_width
from distill.text.segmentation import Segmenter
from distill.text.vocabulary import PAD, PAD_ID, UNKNOWN, UNKNOWN_ID, Vocabulary, build_vocabulary

segment, tag = Segmenter().segment, Segmenter().tag


def test_segment() -> None:
    assert segment("我爱 北京天安门，用iPhone拍") == ["我", "爱", "北京", "天安门", "，", "用", "iphone", "拍"]


@given(st.text())
@example("\xad球\u200b队")
def test_segmentation_drops_only_white_space_and_characters_of_no_width(text: str) -> None:
    assert "".join("".join(segment(text)).split()) == "".join(without_zero_width(text).lower().split())


def test_a_masked_word_stays_one_word() -> None:
    assert segment(f"我爱{MASKED}天安门{MASKED}{MASKED}iPhone {MASKED}") == [
        *("我", "爱", MASKED, "天安门", MASKED, MASKED, "iphone", MASKED)
    ]
    assert segment(MASKED) == [MASKED] and MASKED not in segment("[unk]")


def test_a_masked_word_is_unknown_even_if_its_characters_are_known() -> None:
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


def test_a_vocabulary_has_frequent_words_and_their_characters() -> None:
    vocabulary = build_vocabulary([["北京", "北京", "人"], ["南京"]], min_count=2)
    assert vocabulary.words == (PAD, UNKNOWN, "京", "北", "北京")


def test_unknown_words_are_replaced_by_their_characters() -> None:
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


def test_a_saved_vocabulary_loads(tmp_path: Path) -> None:
    vocabulary = build_vocabulary([segment("一行\u2028两行\u0085三行 a b")], 1)
    vocabulary.save(tmp_path / "v.txt")
    assert Vocabulary.load(tmp_path / "v.txt") == vocabulary
    (tmp_path / "v.txt").write_text("北京\n", "utf-8")
    with pytest.raises(UserError, match="not a vocabulary"):
        Vocabulary.load(tmp_path / "v.txt")


def test_the_identity_names_jieba() -> None:
    assert Segmenter().identity["name"] == "jieba"


TEXT = "小米SU7在云计算平台，中国杭研"
WITHOUT = ["小米", "su7", "在", "云", "计算", "平台", "，", "中国", "杭研"]
DICTIONARIES = {  # entries -> the words of TEXT
    "小米SU7 nz\n杭研 0": ["小米su7", "在", "云", "计算", "平台", "，", "中国", "杭", "研"],
    "云计算平台 5 n\n中国 0": ["小米", "su7", "在", "云计算平台", "，", "中", "国", "杭研"],
}


@pytest.fixture
def segmenters(tmp_path: Path) -> dict[Segmenter, list[str]]:
    """Segmenters with different dictionaries and without one, and the words of TEXT that each must give."""
    expected = {Segmenter(): WITHOUT}
    for number, (entries, words) in enumerate(DICTIONARIES.items()):
        path = tmp_path / f"{number}.txt"
        path.write_text(entries, "utf-8")
        expected[Segmenter(path)] = words
    return expected


def test_segmenters_do_not_influence_each_other(segmenters: dict[Segmenter, list[str]]) -> None:
    for _ in range(2):
        for segmenter, words in segmenters.items():
            assert segmenter.segment(TEXT) == words
    first, second, third = segmenters
    assert first == Segmenter() and second not in (first, third) and len({first, second, third}) == 3
    assert ("小米su7", "nz") in second.tag(TEXT) and ("小米su7", "nz") not in third.tag(TEXT)
    assert [len(segmenter.tables.split) for segmenter in segmenters] == [0, 1, 1]
    assert "小米su7" in second.tables.frequencies and "小米su7" not in third.tables.frequencies


def test_segmenters_in_several_threads(segmenters: dict[Segmenter, list[str]]) -> None:
    """They are first used by the threads, so that they load their dictionaries at the same time."""

    def work(segmenter: Segmenter) -> list[list[str]]:
        return [segmenter.segment(TEXT) for _ in range(300)]

    with ThreadPoolExecutor(6) as pool:
        for words, results in zip(list(segmenters.values()) * 2, pool.map(work, list(segmenters) * 2), strict=True):
            assert results == [words] * 300


def test_a_forbidden_word_is_forbidden_for_its_segmenter_alone(tmp_path: Path) -> None:
    """A dictionary's last line of a word counts, and what is no Chinese word is never split."""
    path = tmp_path / "mine.txt"
    path.write_text("杭研 0\nabc 0\n北京 0\n北京 900\n", "utf-8")
    segmenter = Segmenter(path)
    assert segmenter.segment("杭研abc北京") == ["杭", "研", "abc", "北京"]
    assert segment("杭研abc北京") == ["杭研", "abc", "北京"]
    from jieba import finalseg

    assert not finalseg.Force_Split_Words


@pytest.mark.parametrize("encoding", ["utf-8-sig", "gb18030", "utf-16"])
def test_dictionaries_in_the_encodings_of_data_files(encoding: str, tmp_path: Path) -> None:
    expected, path = tmp_path / "expected.txt", tmp_path / "mine.txt"
    expected.write_text("云计算平台 100 n\n折叠屏手机\n", "utf-8")
    path.write_text("云计算平台 100 n\n折叠屏手机\n", encoding)
    assert Segmenter(path).segment("云计算平台和折叠屏手机") == ["云计算平台", "和", "折叠屏手机"]
    assert Segmenter(path) == Segmenter(expected)


def test_words_that_jieba_can_never_produce_are_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    possible, impossible = (
        ["c++", "5g-a", "小米su7", "50%", "/", "é", "云\u200b计算平台"],
        ["ac/dc", "让·雷诺", "北京！", "鿿鿿"],
    )
    path = tmp_path / "mine.txt"
    path.write_text("\n".join([*possible, *impossible, "和/或 0", "ac/dc 3"]), "utf-8")
    segmenter = Segmenter(path)
    assert caplog.messages == [
        f"{path}: jieba can never produce 4 words of this dictionary, because it splits texts at characters such as "
        "/ and ·: ac/dc; 让·雷诺; 北京！; 鿿鿿"
    ]
    for word in possible:
        assert segmenter.segment(f"我{word}我") == ["我", word.replace("\u200b", ""), "我"]
    assert not any(word in segmenter.segment(f"我{word}我") for word in impossible)


def test_students_with_different_dictionaries_side_by_side(
    segmenters: dict[Segmenter, list[str]], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    vocabulary = build_vocabulary(segmenters.values(), 1)
    vectors = np.random.default_rng(0).normal(size=(len(vocabulary), 6)).astype(np.float32)
    settings = StudentSettings(architecture="average", ngrams=0, hidden=5)
    model, students = build_student(settings, vectors, vocabulary.words, 2).for_inference(), {}
    for number, segmenter in enumerate(segmenters):
        folder = tmp_path / f"student.{number}"
        folder.mkdir()
        save_student(folder, model, WordTokenizer(vocabulary, 16, 0, segmenter), ["a", "b"])
        students[segmenter] = load_student(folder, segmenter)
    assert not caplog.text
    alone = {segmenter: student.logits([TEXT]).numpy() for segmenter, student in students.items()}
    assert len({logits.tobytes() for logits in alone.values()}) == len(students)
    for segmenter, student in students.items():
        assert student.tokenizer.encode([TEXT]).flat.tolist() == vocabulary.encode(segmenters[segmenter], 16)
        assert np.array_equal(student.logits([TEXT]).numpy(), alone[segmenter])
    with caplog.at_level(logging.WARNING):
        load_student(tmp_path / "student.1", list(segmenters)[2])
    assert "student.1: its texts were segmented by" in caplog.text
