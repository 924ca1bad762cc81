"""Texts in UTF-8 give the ids, rows and logits of the Python code that training uses, whatever is in them."""

from __future__ import annotations

import codecs
import ctypes
import functools
import itertools
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "benchmarks" / "reliability"))

from encoding import encode  # noqa: E402
from random_bundles import VOCABULARY, lexicon, random_bundle, to_bytes, write_bundle  # noqa: E402

from distill.errors import UserError  # noqa: E402
from distill.export.trie import lexicon_arrays  # noqa: E402
from distill.runtime import MAX_THREAD_BATCH, Runtime  # noqa: E402
from distill.runtime.characters import CASE_BLOCKS  # noqa: E402
from distill.runtime.constants import MASKED  # noqa: E402
from distill.runtime.encoder import NativeEncoder  # noqa: E402
from distill.runtime.native import check_status, library  # noqa: E402
from distill.runtime.networks import encoded_texts  # noqa: E402
from distill.runtime.packing import MANY, pack, without_zero_width  # noqa: E402
from distill.runtime.structs import Texts, address  # noqa: E402
from distill.text.ngrams import ngram_ids  # noqa: E402
from distill.text.segmentation import Segmenter  # noqa: E402
from distill.text.vocabulary import PAD, UNKNOWN, Vocabulary  # noqa: E402

PIECES = st.sampled_from(
    [MASKED, "[UN", "K]", "[unk]", "Σ", "İ", "ΑΣ", "'", "\u0301", "北京", "银行", "iPhone 手机", "１２"]
)
PIECES |= st.sampled_from([" \n", "\u3000", "😀", "\0", "\u200b", "\ufeff", "\ufffd", "Ａ", "ǅ", "\U00010400"])
ANY = st.text(st.characters(exclude_categories=()), max_size=12)  # surrogates included
TEXT = st.lists(PIECES | ANY, max_size=6).map("".join)
TEXTS = st.lists(TEXT, max_size=5)
ROW_OF = (np.arange(97) * 7 % 31).astype(np.uint16)  # of the buckets of random_bundles.py
SEGMENTER, WORDS = Segmenter(), Vocabulary((PAD, UNKNOWN, *VOCABULARY))


def read_as(text: str) -> str:
    """What models read of a text: no zero-width characters, lower case, but "[UNK]" as it is."""
    return MASKED.join(part.lower() for part in without_zero_width(text).split(MASKED))


@pytest.fixture(scope="module")
def arrays() -> dict[str, NDArray[Any]]:
    return lexicon(np.random.default_rng(0))


def lowered(arrays: dict[str, NDArray[Any]], content: bytes, spans: NDArray[np.int64]) -> str:
    """All texts as the kernels put them into lower case."""
    points, words = np.zeros(len(content), np.uint32), np.empty((len(content), 2), np.int64)
    counts, texts = np.empty(len(spans), np.int64), ctypes.byref(Texts(content, address(spans), len(spans)))
    check_status(library().distill_segment(NativeEncoder(arrays).struct, texts, *map(address, (points, words, counts))))
    return points.tobytes().decode("utf-32-le", "surrogatepass")


def check_lowered(arrays: dict[str, NDArray[Any]], texts: list[str]) -> None:
    expected = "".join(map(read_as, texts))
    assert lowered(arrays, *pack(texts)).rstrip("\0") == expected.rstrip("\0")  # the array is as long as the bytes


@settings(deadline=None)  # the first call compiles the kernels
@given(texts=TEXTS)
@example(texts=["[U\u200bNK]A[UNK]ΑΣ[UNK]Σ", "ΑΣ'\u0301", "ΑΣ'Α ΣΣ", "İΣ", "'Σ[UNK", "A[UNK]Σ"])
def test_texts_in_lower_case(arrays: dict[str, NDArray[Any]], texts: list[str]) -> None:
    check_lowered(arrays, texts)


@pytest.mark.parametrize("plane", range(17))
def test_every_character_in_lower_case(arrays: dict[str, NDArray[Any]], plane: int) -> None:
    """Alone, between letters, and wherever it may decide about a final sigma."""
    contexts = "\n?\n a?B\n ?Σ\n A?Σ\n AΣ?\n AΣ?A\n ?Σ?\n"
    pattern = np.array([list(map(ord, contexts))], np.uint32)
    points = plane * 0x10000 + np.arange(0x10000, dtype=np.uint32)[:, None]
    text = np.where(pattern == ord("?"), points, pattern).astype("<u4").tobytes().decode("utf-32-le", "surrogatepass")
    check_lowered(arrays, [text])


def test_only_two_characters_cannot_be_lowercased_alone() -> None:
    """All others become one character, never white space; the kernels' table has all that have case."""
    characters = list(map(chr, range(0x110000)))
    assert [char for char in characters if len(char.lower()) != 1] == ["\u0130"]
    changed = [char for char in characters if char.lower() != char]
    assert not any(char.isspace() for char in changed)
    assert {ord(char) >> 8 for char in changed} <= {block for blocks in CASE_BLOCKS for block in blocks}


@functools.cache
def row_by_bucket(buckets: int) -> NDArray[np.uint16]:
    """A third of the buckets has no row."""
    return (np.arange(buckets) * 7 % 65536 * (np.arange(buckets) % 3 > 0)).astype(np.uint16)


@given(texts=TEXTS, buckets=st.sampled_from([2, 3, 99, 2**18, 2**18 - 5]), characters=st.integers(1, 14))
@example(texts=["İİİab", "ΑΣΑ", "a[UNK]b", "\u200bab\u200bcd", "İ[UNK]Σ"], buckets=2**18, characters=2)
@example(texts=["ab[UNK]cΣΑ", "İb[UNK]cΣ"], buckets=2**18, characters=5)
def test_rows_of_ngrams(arrays: dict[str, NDArray[Any]], texts: list[str], buckets: int, characters: int) -> None:
    """They are taken from the beginning of a text, counted before it is put into lower case."""
    table = row_by_bucket(buckets)
    found = encode(NativeEncoder(arrays | {"ngrams.row_of": table}, characters), *pack(texts), 4)
    expected = [table[ngram_ids(without_zero_width(text)[:characters], buckets)] for text in texts]
    counts = [(row > 0).sum() for row in expected]
    assert found.ngram_rows.dtype == np.int32 and found.ngram_starts.tolist() == [0, *np.cumsum(counts, dtype=int)]
    assert found.ngram_rows.tolist() == [number for row in expected for number in row.tolist() if number]


def test_rows_of_a_long_text_and_of_no_text(arrays: dict[str, NDArray[Any]]) -> None:
    encoder = NativeEncoder(arrays | {"ngrams.row_of": np.ones(2**10, np.uint16)}, 10**6)
    assert len(encode(encoder, *pack(["北京人" * 100_000]), 1).ngram_rows) == 3 * 300_000 + 1
    found = encode(encoder, *pack([]), 1)
    assert len(found.ngram_rows) == 0 and found.ngram_starts.tolist() == [0]


def test_characters_of_no_width_are_not_read(arrays: dict[str, NDArray[Any]]) -> None:
    """Neither by the runtime nor by the segmenter of training; emoji keep their other parts."""
    texts = ["球\u200b队\ufeff夺冠", "\u200d", "家\U0001f468\u200d\U0001f469庭", "a\u2060b\u00ad"]
    visible = ["球队夺冠", "", "家\U0001f468\U0001f469庭", "ab"]
    check_lowered(arrays, texts)
    assert list(map(read_as, texts)) == visible
    assert NativeEncoder(arrays).segment(texts) == NativeEncoder(arrays).segment(visible)
    assert [SEGMENTER.segment(text) for text in texts] == [SEGMENTER.segment(text) for text in visible]


def test_too_little_memory_is_an_error_not_a_crash(arrays: dict[str, NDArray[Any]]) -> None:
    with pytest.raises(UserError, match="not enough memory for these texts"):
        encode(NativeEncoder(arrays), b"", np.array([[0, 2**60]]), 4)


@pytest.fixture(scope="module", params=["average", "gru"])
def runtime(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Runtime:
    """A student with jieba's dictionary and random weights."""
    card, arrays = random_bundle(request.param, ngrams=True)
    arrays |= lexicon_arrays(WORDS, SEGMENTER.tables) | {"ngrams.row_of": ROW_OF}
    return Runtime(write_bundle(tmp_path_factory.mktemp("bundle"), card, to_bytes(arrays)), threads=2)


def specified_logits(runtime: Runtime, texts: list[str]) -> NDArray[np.float32]:
    """Logits of the ids and rows that training's code finds; the sizes are those of random_bundles.py."""
    ids = [WORDS.encode(SEGMENTER.segment(text), 9) for text in texts]
    rows = [ROW_OF[ngram_ids(without_zero_width(text)[:36], len(ROW_OF))] for text in texts]
    rows = [row[row > 0] for row in rows]
    padded = np.array([row + [0] * (9 - len(row)) for row in ids], np.int32).reshape(-1, 9)
    starts = np.cumsum([0, *map(len, rows)], dtype=np.int64)
    lengths = np.array(list(map(len, ids)), np.int32)
    encoded = encoded_texts(padded, lengths, np.concatenate([np.empty(0), *rows]).astype(np.int32), starts)
    return runtime._network.logits(encoded)


@given(texts=TEXTS)
@example(texts=["球队" * 20 + "ΑΣ", "İ" * 40, "银行" * 17 + "Σ[UNK]5g", "[UNK]" * 9])
def test_logits_are_those_of_the_specification(runtime: Runtime, texts: list[str]) -> None:
    logits = runtime.logits(texts)
    np.testing.assert_array_equal(logits, specified_logits(runtime, texts))
    labels = [runtime.labels[index] for index in logits.argmax(axis=1)]
    assert runtime.predict(texts) == labels
    assert [runtime.predict([text])[0] for text in texts] == labels


@given(texts=st.lists(TEXT, min_size=MANY, max_size=MANY + 3), nul=st.sampled_from(["", "\0", "\0\0"]))
def test_packed_texts_come_back(texts: list[str], nul: str) -> None:
    """Texts with NUL, which separates many texts, and without."""
    texts = [text.replace("\0", "") for text in texts[1:]] + [texts[0].replace("\0", "") + nul]
    content, spans = pack(texts)
    assert spans.dtype == np.int64 and spans.flags.c_contiguous
    assert [content[begin:end].decode("utf-8", "surrogatepass") for begin, end in spans.tolist()] == texts


def one_by_one(error: UnicodeError) -> tuple[str, int]:
    """An error handler of codecs: lone surrogates are read, and every other invalid byte becomes U+FFFD."""
    assert isinstance(error, UnicodeDecodeError)
    first = error.object[error.start : error.start + 3]
    if len(first) == 3 and first[0] == 0xED and 0xA0 <= first[1] <= 0xBF and first[2] >> 6 == 2:
        return first.decode("utf-8", "surrogatepass"), error.start + 3
    return "\ufffd", error.start + 1


codecs.register_error("one by one", one_by_one)
# the ends of the ranges that the first and the second byte of a character have, and those of all others
BYTES_OF_A_CHARACTER = (range(256), b"\x7f\x80\x8f\x90\x9f\xa0\xbf\xc0", b"A\x80\xbf\xc0", b"\0\x80\xbf\xff")
ODD_BYTES = st.sampled_from([b"\xe4", b"\xe7\x90", b"\xf0\x9f\x98", b"\xc3", b"\x80", b"\xff", b"\xed\xa0\x80"])


def test_every_kind_of_byte_that_is_not_valid(arrays: dict[str, NDArray[Any]]) -> None:
    """Too long encodings, code points that are too large, characters that others or the text's end cut off."""
    content = b"".join(map(bytes, itertools.product(*BYTES_OF_A_CHARACTER)))
    ends = np.arange(4, len(content) + 1, 4)
    for length in (1, 2, 3, 4):
        texts = [content[end - 4 : end - 4 + length].decode("utf-8", "one by one") for end in ends.tolist()]
        spans = np.stack([ends - 4, ends - 4 + length], axis=1)
        assert lowered(arrays, content, spans).rstrip("\0") == "".join(map(read_as, texts)).rstrip("\0")


BYTES = st.lists(
    TEXT.map(lambda text: text.encode("utf-8", "surrogatepass")) | st.binary(max_size=6) | ODD_BYTES, max_size=4
)


@given(
    texts=st.lists(BYTES.map(b"".join), max_size=5),
    gaps=st.lists(BYTES.map(b"".join), min_size=6, max_size=6),
    order=st.permutations(range(5)),
)
def test_any_bytes_anywhere_in_a_buffer(
    runtime: Runtime, texts: list[bytes], gaps: list[bytes], order: list[int]
) -> None:
    """Texts between other bytes, in any order; an invalid byte is read as U+FFFD."""
    content, spans = bytearray(gaps[-1]), np.empty((len(texts), 2), np.int64)
    order = [index for index in order if index < len(texts)]
    for index in order:
        spans[index] = len(content), len(content) + len(texts[index])
        content += texts[index] + gaps[index]
    decoded = [text.decode("utf-8", "one by one") for text in texts]
    expected = runtime.logits(decoded)
    for buffer in (content, bytes(content), memoryview(content)):
        np.testing.assert_array_equal(runtime.logits_of_utf8(buffer, spans), expected)


@pytest.mark.parametrize("count", [0, 1, MAX_THREAD_BATCH, MAX_THREAD_BATCH + 1, 5 * MAX_THREAD_BATCH + 3])
def test_the_same_part_of_a_buffer_many_times(runtime: Runtime, count: int) -> None:
    content = "球队今天公布,银行".encode()
    logits = runtime.logits_of_utf8(content, np.array([[0, 18], [19, 25]] * (count + 1))[:count])
    expected = runtime.logits(["球队今天公布", "银行"])
    assert logits.shape == (count, 3)
    np.testing.assert_array_equal(logits, np.tile(expected, (count, 1))[:count])


@pytest.mark.parametrize(
    ("spans", "message"),
    [
        ([[0, 3], [-1, 2]], "begin -1 and end 2 are not a part of the buffer, which has 6 bytes"),
        ([[3, 0]], "begin 3 and end 0 are not a part"),
        ([[0, 7]], "begin 0 and end 7 are not a part"),
        ([[7, 7]], "begin 7 and end 7 are not a part"),
        ([0, 3], r"an array of int64 of shape \(texts, 2\) is needed, not int64 \(2,\)"),
        ([[0.0, 3.0]], r"not float64 \(1, 2\)"),
    ],
)
def test_spans_outside_the_buffer(runtime: Runtime, spans: list[Any], message: str) -> None:
    with pytest.raises(UserError, match=message) as error:
        runtime.logits_of_utf8("北京".encode(), np.array(spans))
    assert error.value.where in ("spans", f"span {len(spans) - 1}") and error.value.hint


@pytest.mark.parametrize("texts", [["北京", None, 3], [None], ["北京"] * MAX_THREAD_BATCH + [b"x"]])
def test_a_text_that_is_not_a_string(runtime: Runtime, texts: list[Any]) -> None:
    index = next(index for index, text in enumerate(texts) if not isinstance(text, str))
    for method in (runtime.predict, runtime.logits, runtime.segment):
        with pytest.raises(UserError, match=f"not a string but {type(texts[index]).__name__}: ") as error:
            method(texts)
        assert error.value.where == f"text {index}"
