"""The kernels segment any text as jieba does and number its words as the vocabulary does."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from encoding import encode
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from distill.cli import main
from distill.commands.experiment import Run
from distill.config import DataSettings, RunSettings, Settings
from distill.errors import UserError
from distill.export.trie import lexicon_arrays
from distill.runtime.constants import FORCE_SPLIT, MASKED
from distill.runtime.encoder import NativeEncoder
from distill.runtime.packing import pack
from distill.text import segmentation
from distill.text.segmentation import Segmenter
from distill.text.vocabulary import Vocabulary, build_vocabulary

SHARED = Path(__file__).parents[3] / "shared" / "data"
needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason="shared/data is not next to this checkout")
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
RARE_WORDS = (  # most are not in jieba's dictionary
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
)


@pytest.fixture(scope="module")
def vocabulary() -> Vocabulary:
    return Vocabulary((*build_vocabulary(map(segment, [*ODD[:12], *PLAIN]), 1).words, *RARE_WORDS))


@pytest.fixture(scope="module")
def arrays(vocabulary: Vocabulary) -> dict[str, NDArray[Any]]:
    return lexicon_arrays(vocabulary, SEGMENTER.tables)


@pytest.fixture(scope="module")
def native(arrays: dict[str, NDArray[Any]]) -> NativeEncoder:
    return NativeEncoder(arrays)


@pytest.fixture
def user_dict(tmp_path: Path) -> Path:
    path = tmp_path / "mine.txt"
    path.write_text(
        "\ufeffI-PACE电动车\n云计算平台 5 n\n\n小米SU7 nz\n中国 0\n杭研 0\n龘靐 7\n靐乧 7\n", encoding="utf-8"
    )
    return path


def check_segmentation_and_ids(
    native: NativeEncoder,
    vocabulary: Vocabulary,
    texts: list[str],
    max_length: int,
    segment: Callable[[str], list[str]] = segment,
) -> None:
    segmented = [segment(text) for text in texts]
    assert native.segment(texts) == segmented
    ids, lengths, *_ = encode(native, *pack(texts), max_length)
    assert ids.dtype == lengths.dtype == np.int32 and ids.shape == (len(texts), max_length)
    assert [row[:length].tolist() for row, length in zip(ids, lengths, strict=True)] == [
        vocabulary.encode(words, max_length) for words in segmented
    ]
    assert not ids[np.arange(max_length) >= lengths[:, None]].any()


@settings(deadline=None)  # jieba is slow on some texts
@given(texts=st.lists(TEXTS, max_size=4), max_length=st.integers(1, 12))
def test_any_text_is_segmented_and_encoded_as_in_training(
    native: NativeEncoder, vocabulary: Vocabulary, texts: list[str], max_length: int
) -> None:
    check_segmentation_and_ids(native, vocabulary, texts, max_length)


def test_every_character_alone_and_between_words(native: NativeEncoder) -> None:
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
    assert native.segment(texts) == [segment(text) for text in texts]


def test_words_of_the_dictionary(native: NativeEncoder, vocabulary: Vocabulary) -> None:
    """Random neighbours, and words that are less likely than their characters one by one."""
    chosen = random.Random(0).sample([word for word, count in SEGMENTER.tables.frequencies.items() if count], 6000)
    texts = ["".join(chosen[first : first + 3]) for first in range(0, len(chosen), 3)]
    check_segmentation_and_ids(native, vocabulary, [*texts, *chosen[:2000]], 20)


def test_long_texts(native: NativeEncoder, vocabulary: Vocabulary) -> None:
    check_segmentation_and_ids(
        native, vocabulary, ["".join(PLAIN) * 50, "龘" * 800, "a1+" * 3000, MASKED * 500, " " * 3000, ""], 64
    )
    million = "他来到了网易杭研大厦" * 100_000
    assert native.segment([million])[0] == segment("他来到了网易杭研大厦") * 100_000


def test_every_beginning_of_a_word_is_in_the_dictionary(native: NativeEncoder) -> None:
    """The trie relies on it: nodes that only the vocabulary adds are then never on jieba's path to one of its words."""
    frequencies = SEGMENTER.tables.frequencies
    assert all(word[:-1] in frequencies for word in frequencies if len(word) > 1)


def test_the_arrays_are_small(arrays: dict[str, NDArray[Any]]) -> None:
    assert sum(array.nbytes for array in arrays.values()) < 6e6


def test_an_invalid_trie_is_refused(arrays: dict[str, NDArray[Any]]) -> None:
    for name, value, message in (("children", 9, "is not a trie"), ("weights", 0x3FFF, "point outside its scores")):
        broken = arrays[f"lexicon.{name}"].copy()
        broken[-1] = value
        with pytest.raises(ValueError, match=message):
            NativeEncoder({**arrays, f"lexicon.{name}": broken})


def test_a_user_dictionary(user_dict: Path, tmp_path: Path, vocabulary: Vocabulary) -> None:
    run = RunSettings(run=str(tmp_path / "run"))
    segmenter = Run(Settings(run, DataSettings(user_dict=str(user_dict)))).segmenter
    segment, tables = segmenter.segment, segmenter.tables
    assert segment("云计算平台和I-pace电动车") == ["云计算平台", "和", "i-pace电动车"]
    assert segment("小米su7") == ["小米su7"] and segment("中国杭研") == [*"中国杭研"]
    assert segment("龘靐乧") == ["龘靐", "乧"]  # both segmentations have the same score, bit for bit
    arrays = lexicon_arrays(vocabulary, tables)
    assert (arrays["lexicon.weights"] & FORCE_SPLIT > 0).sum() == len(tables.split) == 2
    check_segmentation_and_ids(
        NativeEncoder(arrays),
        vocabulary,
        ["云计算平台和I-PACE电动车", "小米SU7到了", "中国杭研大厦", "龘靐乧", *PLAIN, *ODD],
        20,
        segment,
    )

    assert set(segmenter.identity) == {"name", "version", "dictionary"}
    user_dict.write_text("云计算平台\n", encoding="utf-8")
    other = Segmenter(user_dict)
    assert set(other.identity) == set(segmenter.identity) and other.identity != segmenter.identity
    assert other.segment("中国小米su7") == ["中国", "小米", "su7"] and not other.tables.split

    default = Run(Settings(run)).segmenter
    assert set(default.identity) == {"name", "version"} and default.segment("云计算平台") == ["云", "计算", "平台"]
    assert segment("中国杭研") == [*"中国杭研"] and segment("小米su7") == ["小米su7"]  # as before


def test_a_missing_dictionary_of_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--run", str(tmp_path / "run"), "--user_dict", str(tmp_path / "none.txt")]) == 2
    assert "none.txt: this dictionary cannot be read" in capsys.readouterr().err


@pytest.mark.parametrize("line", ["北京 1 n x", "北京\t5", "北京 5.5 n", "北京 n 5", "北京  5", f"北京 {10**20}"])
def test_an_invalid_line_of_a_dictionary(tmp_path: Path, line: str) -> None:
    path = tmp_path / "mine.txt"
    path.write_text(f"好词 3\n\n{line}\n", encoding="utf-8")
    with pytest.raises(UserError, match="not a dictionary entry") as error:
        Segmenter(path)
    assert str(path) in str(error.value) and "line 3" in str(error.value) and "--user_dict" in str(error.value)
    assert "好词" not in SEGMENTER.tables.frequencies


def test_a_missing_dictionary_or_one_in_another_encoding(tmp_path: Path) -> None:
    for path in (tmp_path / "none.txt", tmp_path):
        with pytest.raises(UserError, match="cannot be read"):
            Segmenter(path)
    (tmp_path / "binary.txt").write_bytes(b"a\n\xff\xfe\n")
    with pytest.raises(UserError, match=r"binary.txt:2: bytes that are neither UTF-8 nor GB18030"):
        Segmenter(tmp_path / "binary.txt")


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
    segmented = [segment(text) for text in texts]
    vocabulary = build_vocabulary(segmented, 2)
    native = NativeEncoder(lexicon_arrays(vocabulary, SEGMENTER.tables))
    ids, lengths, *_ = encode(native, *pack(texts), 64)
    native_words = native.segment(texts)
    wrong_words = [text for text, words, other in zip(texts, segmented, native_words, strict=True) if words != other]
    wrong_ids = [
        text
        for text, words, row, length in zip(texts, segmented, ids, lengths, strict=True)
        if row[:length].tolist() != vocabulary.encode(words, 64)
    ]
    print(f"{len(texts)} texts compared")
    assert len(texts) > 60_000 and wrong_words == [] == wrong_ids
