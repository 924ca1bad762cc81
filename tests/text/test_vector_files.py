"""Files of word vectors as people have them: what is read, what is left out and counted, what is refused."""

from __future__ import annotations

import bz2
import gzip
import logging
import lzma
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from distill.errors import UserError
from distill.text import word_vectors
from distill.text.vector_files import MAX_LINE, SAMPLE, VectorTable, _lines, decode, read_table
from distill.text.word_vectors import load_vectors

pytestmark = pytest.mark.filterwarnings("error")
WIDTH = 4
WORDS = [f"词{number}" for number in range(12)]
NUMBERS = {word: [number / 4, -1.5, 1e-5, 2.0] for number, word in enumerate(WORDS)}
ROWS = [f"{word} {' '.join(map(str, numbers))}" for word, numbers in NUMBERS.items()]


def write(path: Path, rows: list[str], sizes: str | None = "", end: str = "\n", encoding: str = "utf-8") -> Path:
    """A text file; ``sizes`` is its first line, by default the right one, and None for none."""
    first = [] if sizes is None else [sizes or f"{len(rows)} {WIDTH}"]
    path.write_bytes((end.join([*first, *rows]) + end).encode(encoding))
    return path


def binary(rows: list[tuple[str, list[float]]], end: bytes = b"") -> bytes:
    content = b"".join(f"{word} ".encode() + np.array(numbers, "<f4").tobytes() + end for word, numbers in rows)
    return f"{len(rows)} {WIDTH}\n".encode() + content


def check(path: Path, words: list[str] = WORDS) -> None:
    """All words have their vectors."""
    vectors = load_vectors(path, [*words, "没有", ""])
    assert vectors.index_to_key == words
    assert np.array_equal(vectors.vectors, np.array([NUMBERS[word] for word in words], np.float32))


TEXT_FORMS = {
    "word2vec": {},
    "glove": {"sizes": None},
    "windows": {"end": "\r\n"},
    "byte order mark": {"encoding": "utf-8-sig"},
    "gb18030": {"encoding": "gb18030"},
    "utf-16": {"encoding": "utf-16"},
    "utf-16 with windows line ends": {"encoding": "utf-16", "end": "\r\n"},
    "space before the line end": {"end": " \n"},
    "glove in gb18030": {"sizes": None, "encoding": "gb18030"},
    "empty lines": {"end": "\n\n"},
    "right sizes": {"sizes": f" {len(ROWS)}\t{WIDTH} "},
}


@pytest.mark.parametrize("form", TEXT_FORMS)
@pytest.mark.parametrize("separator", [" ", "\t", "  "])
def test_text(form: str, separator: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    check(write(tmp_path / "v.txt", [row.replace(" ", separator) for row in ROWS], **TEXT_FORMS[form]))
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


def test_a_tab_after_the_word_only(tmp_path: Path) -> None:
    check(write(tmp_path / "v.txt", [row.replace(" ", "\t", 1) for row in ROWS]))


@pytest.mark.parametrize("compress", [gzip.compress, bz2.compress, lzma.compress])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_the_content_decides_about_compression(
    compress: Callable[[bytes], bytes], encoding: str, tmp_path: Path
) -> None:
    path = write(tmp_path / "v.txt", ROWS, encoding=encoding)
    path.write_bytes(compress(path.read_bytes()))
    check(path)
    path.write_bytes(path.read_bytes()[:-12])
    with pytest.raises(UserError, match="the file is cut short or not readable"):
        load_vectors(path, WORDS)


@pytest.mark.parametrize("compress", [gzip.compress, bz2.compress, lzma.compress, bytes])
def test_damaged_files(compress: Callable[[bytes], bytes], tmp_path: Path) -> None:
    """Some bytes in the middle are changed: compressed data, or UTF-16."""
    path = write(tmp_path / "v.txt", ROWS * 99, encoding="utf-16")
    content = bytearray(compress(path.read_bytes()))
    middle = len(content) // 4 * 2
    content[middle : middle + 8] = b"\0\xd8" * 4  # half a surrogate pair each
    path.write_bytes(content)
    with pytest.raises(UserError, match="the file is cut short or not readable"):
        load_vectors(path, WORDS)


def test_a_gzip_file_without_sense(tmp_path: Path) -> None:
    (tmp_path / "v.gz").write_bytes(gzip.compress(b"")[:10] + b"\xff" * 99)
    with pytest.raises(UserError, match=r"the file is cut short or not readable: .*invalid block type"):
        load_vectors(tmp_path / "v.gz", WORDS)


@pytest.mark.parametrize("end", [b"", b"\n"])
def test_binary(end: bytes, tmp_path: Path) -> None:
    path = tmp_path / "v.bin"
    path.write_bytes(binary(list(NUMBERS.items()), end))
    check(path)


def test_a_binary_file_whose_first_row_looks_like_text(tmp_path: Path) -> None:
    first = np.frombuffer(b" 1.5 2.5 0 .5 12", "<f4").tolist()
    path = tmp_path / "v.bin"
    path.write_bytes(binary([("首", first), *NUMBERS.items()], b"\n"))
    assert path.read_bytes().split(b"\n")[1].decode() == "首  1.5 2.5 0 .5 12"
    check(path)


def test_text_whose_first_rows_are_unusual(tmp_path: Path) -> None:
    check(write(tmp_path / "v.txt", ["首0.5 1 2 3", *ROWS], sizes=None))
    check(write(tmp_path / "v.txt", ["2008 0.5 1.5 2.5 3.5", "1 1 2 3 4", *ROWS], sizes=None))
    check(write(tmp_path / "v.txt", ["New York 0.5 1.5 2.5 3.5", *ROWS], sizes=None))


SPACES = [". . .", "at name@domain.com", "iPhone 6", "\u3000", "\u00a0", "a\u3000b", "\u2028", "\u0085"]


@pytest.mark.parametrize("sizes", ["", None])
def test_words_with_spaces(sizes: str | None, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    rows = [f"{word} 0.5 1.5 2.5 3.5" for word in SPACES]
    path = write(tmp_path / "v.txt", rows + ROWS, sizes)
    assert load_vectors(path, [*SPACES, *WORDS]).index_to_key == [*SPACES, *WORDS]
    assert not caplog.messages


def test_a_repeated_word_has_its_first_usable_vector(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    path = write(tmp_path / "v.txt", ["词0 nan 1 2 3", *ROWS, "词0 9 9 9 9", "词1 9 9 9 9", "别的 1 2 3 4"])
    check(path)
    assert f"{path}: 2 rows repeat a word of the texts; its first row is used" in caplog.messages


def test_the_encoding_is_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    check(path := write(tmp_path / "v.txt", ROWS, encoding="gb18030"))
    assert caplog.messages == [f"{path}: read as GB18030, because it is not UTF-8"]


UNUSABLE = {  # row: the problem that is named; the word is 坏
    "坏 nan 1 2 3": "'nan' is not a finite number",
    "坏 1 -nan 2 3": "'-nan' is not a finite number",
    "坏 1 2 inf 3": "'inf' is not a finite number",
    "坏 1 2 3 -Infinity": "'-Infinity' is not a finite number",
    "坏 1 1e400 2 3": "'1e400' is not a finite number",
    "坏 1 2 3 1e39": "'1e39' is not a finite number",
    f"坏 1 2 3 {'9' * 40}": f"'{'9' * 20}' is not a finite number",
    "坏 1 2 3 1.2.3": "'1.2.3' is not a finite number",
    "坏 1 2 3 1_0": "'1_0' is not a finite number",
    "坏 1 2 3 0x1": "'0x1' is not a finite number",
    "坏 1 2 3 三": "'三' is not a finite number",
    "坏 1 2 3": "3 numbers, 4 expected",
    "坏 1  2 3": "3 numbers, 4 expected",
    "坏 1 2 3 4 5": "5 numbers, 4 expected",
    "坏 0.1 1.5 2.5 3.5 4.5": "5 numbers, 4 expected",
    "坏0.5 1 2 3": "3 numbers, 4 expected",
    "坏": "0 numbers, 4 expected",
    " 1 2 3 4": "no word",
    "\t1\t2\t3\t4": "no word",
}


@pytest.mark.parametrize("row", UNUSABLE)
@pytest.mark.parametrize("sizes", ["", None])
def test_an_unusable_row_is_left_out_and_counted(
    row: str, sizes: str | None, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = write(tmp_path / "v.txt", [*ROWS[:6], row, *ROWS[6:]], sizes)
    vectors = load_vectors(path, [*WORDS, "坏", "坏 1", "坏 0.1"])
    assert vectors.index_to_key == WORDS and np.isfinite(vectors.vectors).all()
    line = 7 if sizes is None else 8
    expected = (
        f"{path}: 1 of 13 rows cannot be used and were left out: line {line} ({row.strip()[:20]!r}): {UNUSABLE[row]}"
    )
    assert caplog.messages == [expected]


@pytest.mark.parametrize("row", ["别 nan 1 2 3", "别 1 1e400 2 3", "别 1 2", "别 inf 1 2 3"])
def test_rows_of_other_words_are_counted_too(row: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    check(write(tmp_path / "v.txt", [*ROWS, row]))
    assert "v.txt: 1 of 13 rows cannot be used and were left out: line 14" in caplog.text


@pytest.mark.parametrize("end", [b"", b"\n"])
@pytest.mark.parametrize("bad", [("坏", [1, np.nan, 0, 0]), ("坏", [0, 0, 0, -np.inf]), ("", [1, 2, 3, 4])])
def test_an_unusable_binary_row(
    bad: tuple[str, list[float]], end: bytes, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "v.bin"
    rows = list(NUMBERS.items())
    path.write_bytes(binary([*rows[:5], bad, ("大", [3e38, -3e38, 0, 0]), *rows[5:]], end))
    assert load_vectors(path, [*WORDS, "坏", "大", ""]).index_to_key == [*WORDS[:5], "大", *WORDS[5:]]
    problem = "not finite" if bad[0] else "no word"
    assert caplog.messages == [f"{path}: 1 of 14 rows cannot be used and were left out: row 6 ({bad[0]!r}): {problem}"]


def test_too_many_unusable_rows_are_an_error_with_three_examples(tmp_path: Path) -> None:
    path = write(tmp_path / "v.txt", [*ROWS, "坏 nan 1 2 3", *ROWS, "坏 1 2", " 1 2 3 4", "怪 1 2 3 inf"])
    with pytest.raises(UserError) as error:
        load_vectors(path, WORDS)
    assert str(error.value) == (
        f"{path}: 4 of 28 rows are not a word and 4 finite numbers: line 14 ('坏 nan 1 2 3'): 'nan' is not a finite "
        "number; line 27 ('坏 1 2'): 2 numbers, 4 expected; line 28 ('1 2 3 4'): no word"
        " -> copy or download it again, or correct these rows; up to 3 would be left out"
    )


@pytest.mark.parametrize(
    ("total", "allowed"), [(1, 0), (5, 0), (7, 1), (20, 2), (150, 3), (3_999, 3), (4_000, 4), (1_000_000, 1_000)]
)
def test_one_row_in_a_thousand_may_be_unusable(total: int, allowed: int) -> None:
    assert VectorTable(WIDTH, total=total).max_unusable == allowed


@pytest.mark.parametrize("announced", [0, 3, 11])
@pytest.mark.parametrize("is_binary", [False, True])
def test_more_rows_than_announced_are_read(
    announced: int, is_binary: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    path = write(tmp_path / "v", ROWS, f"{announced} {WIDTH}")
    if is_binary:
        path.write_bytes(binary(list(NUMBERS.items())).replace(b"12 4", f"{announced} 4".encode(), 1))
    check(path)
    assert caplog.messages == [f"{path}: the first line says {announced} rows, there are 12; all were read"]


def test_bytes_after_the_last_binary_row(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "v.bin"
    path.write_bytes(binary(list(NUMBERS.items()), b"\n") + b"junk")
    check(path)
    assert "after the last row ('junk'): 4 bytes" in caplog.text


@pytest.mark.parametrize("chunk", [7, 1000])
def test_rows_across_chunks(chunk: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(word_vectors, "CHUNK", chunk)
    filler = [f"別{number} {' '.join(['0.25'] * WIDTH)}" for number in range(SAMPLE // 20)]
    check(write(tmp_path / "v.txt", [*filler, *ROWS]))
    (tmp_path / "v.bin").write_bytes(
        binary([*((f"別{n}", [0.1] * WIDTH) for n in range(SAMPLE // 20)), *NUMBERS.items()])
    )
    check(tmp_path / "v.bin")


REFUSED = {
    b"": "the file is empty",
    b" \n\n": "the file is empty",
    b"PK\3\4...": "this is a zip archive, not a file of word vectors -> unpack it",
    b"\xba\x16\x4f\x2f\0\0": "this is a model of fastText, not a file of word vectors -> use the .vec file",
    b"\x93NUMPY\1\0": "this is an array without words",
    b"v.txt".ljust(257, b"\0") + b"ustar": "this is a tar archive",
    "12 300\n词 1 2 3 4\n".encode(): "the first line says 300 numbers per word, but the next line has 4",
    ("12 8\n" + "\n".join(ROWS)).encode(): "the first line says 8 numbers per word, but the next line has 4",
    "今天的新闻\n明天的新闻\n".encode(): "no line is a word and numbers; the first line is '今天的新闻'",
    '[{"text": "今天"},\n{"text": "明天"}]\n'.encode(): "no line is a word and numbers",
    "3 2\n的 1 2\n了 3 4\n".encode(): "the file is cut short: 2 rows of 3",
    b"3 2\n": "the file is cut short: 0 rows of 3",
}


@pytest.mark.parametrize("content", REFUSED)
def test_refused_files(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "v"
    path.write_bytes(content)
    with pytest.raises(UserError, match="^" + str(path)) as error:
        load_vectors(path, ["的"])
    assert REFUSED[content] in str(error.value)


def test_decode_leaves_out_half_a_character() -> None:
    assert decode("北京".encode()[:-1]) == "北" and decode("北京".encode("gb18030")) == "北京"
    assert decode(b"\xff\xff ") == "\ufffd\ufffd "


def test_a_line_that_is_too_long_is_an_unusable_row(tmp_path: Path) -> None:
    """Its rest is dropped, wherever the chunks end; the rows around it are read."""
    rows = [f"w{number} 1 2" for number in range(2000)]
    content = "\n".join([*rows[:9], "x 1 " + "2" * (3 * MAX_LINE), *rows[9:], ""]).encode()
    (tmp_path / "v.txt.gz").write_bytes(gzip.compress(content))
    for chunk in (1000, 2**20, 2**22):
        table = read_table(tmp_path / "v.txt.gz", {b"w8", b"w9"}, chunk)
        assert (table.total, table.unusable, len(table.vectors)) == (2001, 1, 2)
        assert table.examples == ["line 10 ('x 1 2222222222222222'): longer than 1,048,576 bytes"]


def test_lines_are_bounded_however_the_chunks_end() -> None:
    chunk = b"a" * 2**20
    (line,) = _lines(iter([chunk] * 64))
    assert MAX_LINE < len(line) <= MAX_LINE + len(chunk)
    for size in (1, 2, 3, 7):
        text = b"ab\n\ncde\n" * 3 + b"f"
        assert list(_lines(text[start : start + size] for start in range(0, len(text), size))) == text.split(b"\n")


LARGE = {
    "numbers": (b"1000000000 1000000000\na 1 2\n", "1,000,000,000 numbers per word; at most 65,536 are read"),
    "digits": (b"1" * 5000 + b" " + b"1" * 5000 + b"\na 1 2\nb 1 2\nc 1 2\n", ""),
    "rows": (b"1000000000 2\na 1 2\n", "the file is cut short: 1 rows of 1000000000"),
    "no word": (
        b"9 2\na " + bytes(8) + b"\1" * (MAX_LINE + 99),
        "row 2 has no word: it is longer than 1,048,576 bytes",
    ),
}


@pytest.mark.parametrize("name", LARGE)
def test_sizes_that_the_file_does_not_have(name: str, tmp_path: Path) -> None:
    content, problem = LARGE[name]
    (tmp_path / "v.bin").write_bytes(content)
    with pytest.raises(UserError) as error:
        read_table(tmp_path / "v.bin", {b"a"}, 2**19)
    assert problem in error.value.what


def test_blank_lines_at_the_beginning(tmp_path: Path) -> None:
    check(write(tmp_path / "blank.txt", [*[""] * 300, *ROWS], sizes=None))
    with pytest.raises(UserError, match="no line is a word and numbers"):
        load_vectors(write(tmp_path / "text.txt", [*[""] * 300, "正文"], sizes=None), WORDS)
