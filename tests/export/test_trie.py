"""The lexicon cuts and numbers any text as training does in Python: jieba, then the vocabulary."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from distill.cli import main
from distill.commands.experiment import Run
from distill.config import DataSettings, RunSettings, Settings
from distill.errors import UserError
from distill.export.trie import lexicon_arrays
from distill.runtime.constants import FORCE_SPLIT
from distill.runtime.packing import PackedTexts, pack
from distill.runtime.segmentation import NativeSegmenter
from distill.text import segmentation
from distill.text.segmentation import MASKED, Segmenter
from distill.text.vocabulary import Vocabulary, build_vocabulary

SHARED = Path(__file__).parents[3] / "shared" / "data"
needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason="the data for measuring is not beside this checkout")
ODD = [
    "1.5t",
    "1.5",
    "I-PACE",
    "3-1",
    "c++",
    "50%",
    "AT&T",
    "a.b%%",
    "%",
    "_-.",
    "ｉＰｈｏｎｅ１２",
    "😀",
    "𠮷",
    "\ud800",
    "\0",
]
ODD += [
    "\u0130",
    "ΑΣ",
    "Σ",
    MASKED,
    "[UN",
    "K]",
    "[unk]",
    "\u4e00",
    "\u9fd5",
    "\u9fd6",
    "\u3400",
    "\r\n",
    "\u3000",
    "\x1c",
]
PLAIN = [
    "北京大学",
    "天安门",
    "杭研大厦",
    "他来到了网易",
    "小明硕士毕业于中国科学院",
    "的",
    "一",
    "龘龘",
    "乒乓球拍卖完了",
    "永和服装饰品",
]
HAN = st.text(st.characters(min_codepoint=0x4E00, max_codepoint=0x9FD5), max_size=8)
COMMON = st.text("的一是不了人我在有他这为之大来以个中上们到说国和地也子时道出而要于就下得可你年生", max_size=12)
ANY = st.text(st.characters(exclude_categories=()), max_size=8)  # surrogates too
TEXTS = st.lists(st.sampled_from(ODD + PLAIN) | HAN | COMMON | ANY, max_size=6).map("".join)
SEGMENTER = Segmenter()
segment = SEGMENTER.segment
STRANGE = (
    "天安门广场上的",
    "大厦杭",
    MASKED,
    "1.5t",
    "c++",
    "+",
    "😀",
    "𠮷",
    "网易杭",
    "iphone",
)  # jieba knows few of them


@pytest.fixture(scope="module")
def vocabulary() -> Vocabulary:
    return Vocabulary((*build_vocabulary(map(segment, [*ODD[:12], *PLAIN]), 1).words, *STRANGE))


@pytest.fixture(scope="module")
def arrays(vocabulary: Vocabulary) -> dict[str, NDArray[Any]]:
    return lexicon_arrays(vocabulary, SEGMENTER.tables)


@pytest.fixture(scope="module")
def lexicon(arrays: dict[str, NDArray[Any]]) -> NativeSegmenter:
    return NativeSegmenter(arrays)


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    """A user dictionary."""
    path = tmp_path / "mine.txt"
    path.write_text(
        "\ufeffI-PACE电动车\n云计算平台 5 n\n\n小米SU7 nz\n中国 0\n杭研 0\n龘靐 7\n靐乧 7\n", encoding="utf-8"
    )
    return path


def check(
    lexicon: NativeSegmenter,
    vocabulary: Vocabulary,
    texts: list[str],
    most: int,
    segment: Callable[[str], list[str]] = segment,
) -> None:
    cut = [segment(text) for text in texts]
    assert lexicon.segment(texts) == cut
    ids, lengths = lexicon.encode(pack(texts), most)
    assert ids.dtype == lengths.dtype == np.int32 and ids.shape == (len(texts), most)
    assert [row[:length].tolist() for row, length in zip(ids, lengths, strict=True)] == [
        vocabulary.encode(found, most) for found in cut
    ]
    assert not ids[np.arange(most) >= lengths[:, None]].any()


@settings(deadline=None)  # jieba takes its time over some
@given(texts=st.lists(TEXTS, max_size=4), most=st.integers(1, 12))
def test_any_text_is_cut_and_numbered_as_in_training(
    lexicon: NativeSegmenter, vocabulary: Vocabulary, texts: list[str], most: int
) -> None:
    check(lexicon, vocabulary, texts, most)


def test_every_character_alone_and_between_words(lexicon: NativeSegmenter) -> None:
    points = [
        *range(0x500),
        *range(0x1F00, 0x2100),
        *range(0x2FF0, 0x3010),
        0x1680,
        0x180E,
        *range(0x4DF0, 0x4E10),
        *range(0x9FC0, 0xA000),
        *range(0xD7F0, 0xD810),
        0xFEFF,
        0x10FFFF,
    ]
    texts = [f"{chr(point)}北{chr(point)}京1{chr(point)}.5" for point in points]
    assert lexicon.segment(texts) == [segment(text) for text in texts]


def test_words_of_the_dictionary(lexicon: NativeSegmenter, vocabulary: Vocabulary) -> None:
    """Neighbours that do not belong together, and words that are rarer than their characters side by side."""
    chosen = random.Random(0).sample([word for word, count in SEGMENTER.tables.frequencies.items() if count], 6000)
    texts = ["".join(chosen[place : place + 3]) for place in range(0, len(chosen), 3)]
    check(lexicon, vocabulary, [*texts, *chosen[:2000]], 20)


def test_long_texts(lexicon: NativeSegmenter, vocabulary: Vocabulary) -> None:
    check(lexicon, vocabulary, ["".join(PLAIN) * 50, "龘" * 800, "a1+" * 3000, MASKED * 500, " " * 3000, ""], 64)
    million = "他来到了网易杭研大厦" * 100_000
    found = lexicon.segment([million])[0]
    assert found == segment("他来到了网易杭研大厦") * 100_000


def test_more_memory_than_there_is_is_an_error_not_a_crash(lexicon: NativeSegmenter) -> None:
    endless = PackedTexts(np.empty(0, np.uint32), np.array([0, 2**60]))
    with pytest.raises(UserError, match="no memory"):
        lexicon.encode(endless, 4)
    with pytest.raises(UserError, match="no memory"):
        lexicon.spans(endless)


def test_every_beginning_of_a_word_is_in_the_dictionary(lexicon: NativeSegmenter) -> None:
    """So words that only the vocabulary has, with all that they begin with, hang below what jieba would walk."""
    known = SEGMENTER.tables.frequencies
    assert all(word[:-1] in known for word in known if len(word) > 1)


def test_the_arrays_are_small(arrays: dict[str, NDArray[Any]]) -> None:
    assert sum(array.nbytes for array in arrays.values()) < 6e6


def test_a_broken_trie_is_refused(arrays: dict[str, NDArray[Any]]) -> None:
    for name, value in (("children", 9), ("weights", 0x3FFF)):
        broken = arrays[f"lexicon.{name}"].copy()
        broken[-1] = value
        with pytest.raises(ValueError, match="lexicon"):
            NativeSegmenter({**arrays, f"lexicon.{name}": broken})


def test_a_dictionary_of_the_user(mine: Path, tmp_path: Path, vocabulary: Vocabulary) -> None:
    run = RunSettings(run=str(tmp_path / "run"))
    segmenter = Run(Settings(run, DataSettings(user_dict=str(mine)))).segmenter
    segment, tables = segmenter.segment, segmenter.tables
    assert segment("云计算平台和I-pace电动车") == ["云计算平台", "和", "i-pace电动车"]
    assert segment("小米su7") == ["小米su7"] and segment("中国杭研") == [*"中国杭研"]
    assert segment("龘靐乧") == ["龘靐", "乧"]  # both ways score the same, to the bit
    arrays = lexicon_arrays(vocabulary, tables)
    assert (arrays["lexicon.weights"] & FORCE_SPLIT > 0).sum() == len(tables.split) == 2
    check(
        NativeSegmenter(arrays),
        vocabulary,
        ["云计算平台和I-PACE电动车", "小米SU7到了", "中国杭研大厦", "龘靐乧", *PLAIN, *ODD],
        20,
        segment,
    )

    assert set(segmenter.identity) == {"name", "version", "dictionary"}
    mine.write_text("云计算平台\n", encoding="utf-8")
    other = Segmenter(mine)
    assert set(other.identity) == set(segmenter.identity) and other.identity != segmenter.identity
    assert other.segment("中国小米su7") == ["中国", "小米", "su7"] and not other.tables.split

    default = Run(Settings(run)).segmenter
    assert set(default.identity) == {"name", "version"} and default.segment("云计算平台") == ["云", "计算", "平台"]
    assert segment("中国杭研") == [*"中国杭研"] and segment("小米su7") == ["小米su7"]  # as before


def test_the_flag_of_a_dictionary(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--run", str(tmp_path / "run"), "--user_dict", str(tmp_path / "none.txt")]) == 2
    assert "none.txt: this dictionary cannot be read" in capsys.readouterr().err


@pytest.mark.parametrize("line", ["北京 1 n x", "北京\t5", "北京 5.5 n", "北京 n 5", "北京  5", f"北京 {10**20}"])
def test_a_broken_dictionary(tmp_path: Path, line: str) -> None:
    path = tmp_path / "mine.txt"
    path.write_text(f"好词 3\n\n{line}\n", encoding="utf-8")
    with pytest.raises(UserError, match="not a dictionary's entry") as fault:
        Segmenter(path)
    assert str(path) in str(fault.value) and "line 3" in str(fault.value) and "--user_dict" in str(fault.value)
    assert "好词" not in SEGMENTER.tables.frequencies


def test_a_missing_or_foreign_dictionary(tmp_path: Path) -> None:
    for path in (tmp_path / "none.txt", tmp_path):
        with pytest.raises(UserError, match="cannot be read"):
            Segmenter(path)
    (tmp_path / "gbk.txt").write_bytes("a\n北京\n".encode("gbk"))
    with pytest.raises(UserError, match="not UTF-8") as fault:
        Segmenter(tmp_path / "gbk.txt")
    assert "line 2" in str(fault.value)


def test_a_run_loads_jieba_only_when_it_segments(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(segmentation, "_shared_tokenizer", None)  # calling it would fail
    Run(Settings(RunSettings(run=str(tmp_path))))


def shared_texts() -> list[str]:
    files = [*SHARED.glob("*/*.json"), *SHARED.glob("*/*.jsonl")]
    rows = [row for file in files for row in read_rows(file.read_text(encoding="utf-8"))]
    strings = [value for row in rows for value in row.values() if isinstance(value, str)]
    return strings + (SHARED / "unlabeled_headlines.txt").read_text(encoding="utf-8").splitlines()


def read_rows(content: str) -> list[dict[str, object]]:
    try:
        return list(json.loads(content))
    except ValueError:
        return [json.loads(line) for line in content.splitlines()]


@needs_shared
@pytest.mark.slow
def test_all_real_texts() -> None:
    texts = shared_texts()
    cut = [segment(text) for text in texts]
    vocabulary = build_vocabulary(cut, 2)
    lexicon = NativeSegmenter(lexicon_arrays(vocabulary, SEGMENTER.tables))
    ids, lengths = lexicon.encode(pack(texts), 64)
    wrong = [text for text, found in zip(texts, cut, strict=True) if lexicon.segment([text])[0] != found]
    misnumbered = [
        text
        for text, found, row, length in zip(texts, cut, ids, lengths, strict=True)
        if row[:length].tolist() != vocabulary.encode(found, 64)
    ]
    print(f"{len(texts)} texts compared")
    assert len(texts) > 60_000 and wrong == [] == misnumbered
