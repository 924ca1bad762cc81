"""Damaged files of every format: rows or a one-line error, in time, and no row that is not damaged is lost."""

from __future__ import annotations

import bz2
import contextlib
import csv
import gzip
import io
import json
import random
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import cast

import numpy as np
import openpyxl
import pandas
import pyarrow
import pytest
from numpy.typing import NDArray
from pyarrow import parquet

from distill.data.formats import open_file, open_lines, suffix_of
from distill.data.formats.labelling import Chunk, OutputSpec, Predictions
from distill.data.formats.records import Columns, Row
from distill.errors import UserError
from distill.predict.in_memory import label_stream
from distill.runtime import Runtime
from distill.storage.encodings import open_text

Pairs = list[tuple[str, str]]
SPEC = OutputSpec(("体育", "财经"), True)
LABELS = ("体育", "财经", "美食")
COMMON = (
    "今天的球队基金股票好吃不了是我有他在人这中大来上国个到说们为子和你地出道也时年得就那要下以生会自着去之过家学对"
)
SECONDS, SECONDS_PER_MIB = 1.0, 1.0


def pairs_of(rng: random.Random, special: str = "，。！") -> Pairs:
    """20 to 60 rows; no two texts are equal."""
    count = rng.randint(20, 60)
    texts = ["".join(rng.choices(COMMON + special, k=rng.randint(4, 12))) for _ in range(count)]
    return [(f"{text}{number}", rng.choice(LABELS)) for number, text in enumerate(texts)]


def table(delimiter: str, end: str = "\n", quoting: int = csv.QUOTE_MINIMAL) -> Callable[[Pairs], str]:
    def write(pairs: Pairs) -> str:
        buffer = io.StringIO()
        writer = csv.writer(buffer, delimiter=delimiter, lineterminator=end, quoting=quoting)
        writer.writerows([("text", "label"), *pairs])
        return buffer.getvalue()

    return write


def objects(pairs: Pairs) -> list[dict[str, str]]:
    return [{"text": text, "label": label} for text, label in pairs]


def frame(pairs: Pairs) -> pandas.DataFrame:
    return pandas.DataFrame(pairs, columns=["text", "label"])


# One row per line, after the header if there is one; the name ends with the suffix.
LINES: dict[str, Callable[[Pairs], str]] = {
    "table.csv": table(","),
    "windows.csv": table(",", "\r\n"),
    "semicolons.csv": table(";"),
    "table.tsv": table("\t"),
    "lines.jsonl": lambda pairs: "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in objects(pairs)),
    "text.txt": lambda pairs: "".join(f"{text}\t{label}\n" for text, label in pairs),
    "label.txt": lambda pairs: "".join(f"{label}\t{text}\n" for text, label in pairs),
    "fasttext.txt": lambda pairs: "".join(f"__label__{label} {text}\n" for text, label in pairs),
    "toutiao.txt": lambda pairs: "".join(f"65_!_10_!_{label}_!_{text}_!_词,语\n" for text, label in pairs),
}
TABLES = [name for name in LINES if not name.endswith((".txt", ".jsonl"))]
DOCUMENTS: dict[str, Callable[[Pairs], str]] = {
    "all-quoted.csv": table(",", "\r\n", csv.QUOTE_ALL),
    "all-quoted.tsv": table("\t", "\n", csv.QUOTE_ALL),
    "compact.json": lambda pairs: json.dumps(objects(pairs), ensure_ascii=False),
    "indented.json": lambda pairs: json.dumps(objects(pairs), indent=2),
    "data.json": lambda pairs: json.dumps({"version": 1, "data": objects(pairs)}, ensure_ascii=False),
    "pandas.json": lambda pairs: frame(pairs).to_json(),
    "split.json": lambda pairs: frame(pairs).to_json(orient="split"),
    "index.json": lambda pairs: frame(pairs).to_json(orient="index", indent=1),
}
ENCODINGS = ("utf-8", "utf-8-sig", "gb18030", "utf-16")
PACKED: dict[str, Callable[[bytes], bytes]] = {
    ".gz": lambda content: gzip.compress(content, 1, mtime=0),
    ".bz2": bz2.compress,
    ".zst": lambda content: pyarrow.compress(content, codec="zstd", asbytes=True),
}
BINARY = (".parquet", ".xlsx")


def parquet_bytes(pairs: Pairs) -> bytes:
    buffer = io.BytesIO()
    columns = {"text": [text for text, _ in pairs], "label": [label for _, label in pairs]}
    parquet.write_table(pyarrow.table(columns), buffer, row_group_size=10)
    return buffer.getvalue()


def xlsx_bytes(pairs: Pairs) -> bytes:
    book, buffer = openpyxl.Workbook(), io.BytesIO()
    for pair in [("text", "label"), *pairs]:
        book.active.append(pair)
    book.save(buffer)
    return buffer.getvalue()


KINDS = (*LINES, *DOCUMENTS, "table.parquet", "table.xlsx")


def valid_file(rng: random.Random, kind: str) -> tuple[str, bytes]:
    """The suffixes and the content of a sound file."""
    suffix, pairs = Path(kind).suffix, pairs_of(rng, '，"\n,;\t' if kind in DOCUMENTS else '，"')
    if suffix in BINARY:
        return suffix, parquet_bytes(pairs) if suffix == ".parquet" else xlsx_bytes(pairs)
    content = {**LINES, **DOCUMENTS}[kind](pairs).encode(rng.choice(ENCODINGS))
    if rng.random() < 0.2:
        packed = rng.choice(list(PACKED))
        return suffix + packed, PACKED[packed](content)
    return suffix, content


TOKENS = [
    *(b'"', b'""', b'"""', b'","', b",", b"\t", b";", b"|", b"\n", b"\r", b"\r\n", b"\n\n", b"'", b"\\", b"\\u", b"{"),
    *(b"}", b"[", b"]", b"[[", b":", b"null", b"NaN", b"1e999", b"\x00", b"\x00" * 9, b"\xef\xbb\xbf", b"\xff\xfe"),
    *(b"\xfe\xff", b"\xff", b"\x80", b"\xe5\xa5", b"\x81\x30", b"\xed\xa0\x80", b"__label__", b"_!_", b"\x1f\x8b"),
    *(b"PAR1", b"PK\x03\x04", b"text", b"label", b'"text": ', "\u200b".encode(), "😀".encode(), b" ", b"=1+1"),
]


def scattered(rng: random.Random, content: bytes) -> bytes:
    """Tokens in several places."""
    for token in rng.choices(TOKENS, k=rng.randint(2, 9)):
        place = rng.randint(0, len(content))
        content = content[:place] + token + content[place:]
    return content


def with_swapped_lines(rng: random.Random, content: bytes) -> bytes:
    lines = content.splitlines(keepends=True) or [b""]
    one, two = rng.randrange(len(lines)), rng.randrange(len(lines))
    lines[one], lines[two] = lines[two], lines[one]
    return b"".join(lines)


# Damages of the bytes from one place to another.
DAMAGES: list[Callable[[random.Random, bytes, int, int], bytes]] = [
    lambda rng, c, i, j: c[:i] + bytes(byte ^ (1 << rng.randrange(8)) for byte in c[i : i + 1]) + c[i + 1 :],
    lambda rng, c, i, j: c[:i] + rng.randbytes(rng.randint(1, 4)) + c[i:],
    lambda rng, c, i, j: c[:i] + rng.choice(TOKENS) + c[i:],
    lambda rng, c, i, j: c[:i] + rng.choice(TOKENS) * rng.randint(100, 3000) + c[i:],
    lambda rng, c, i, j: c[:i] + c[i + rng.randint(1, 4) :],
    lambda rng, c, i, j: c[:i] + c[j:],
    lambda rng, c, i, j: c[:j] + c[i:],
    lambda rng, c, i, j: c[:i],
    lambda rng, c, i, j: scattered(rng, c),
    lambda rng, c, i, j: with_swapped_lines(rng, c),
]


def mutated(rng: random.Random, content: bytes) -> bytes:
    """One damage."""
    first, last = sorted(rng.randint(0, len(content)) for _ in range(2))
    return rng.choice(DAMAGES)(rng, content, first, last)


def damaged_file(rng: random.Random, kind: str) -> tuple[str, bytes]:
    suffix, content = valid_file(rng, kind)
    for _ in range(rng.choice([1, 1, 1, 2, 3, 6])):
        content = mutated(rng, content)
    if rng.random() < 0.1:
        content += valid_file(rng, rng.choice(KINDS))[1]
    if rng.random() < 0.1:
        suffix = rng.choice([".csv", ".tsv", ".txt", ".json", ".jsonl", ".parquet", ".xlsx"])
    return suffix, content


def predictions(chunk: Chunk) -> Predictions:
    return Predictions.of(np.tile(np.array([[0.25, 0.75]], "f4"), (len(chunk.texts), 1)))


def check_training(path: Path, lines: int) -> None:
    """Rows or a one-line error; at most one row per line, in order."""
    with open_file(path, Columns()) as file:
        numbers = [row.number if isinstance(row, Row) else row.line for row in file.rows()]
        assert numbers == sorted(set(numbers))
        assert file.row_unit != "line" or not numbers or numbers[-1] <= lines


def check_predict(path: Path, lines: int) -> None:
    """The same, and every row is written with its label."""
    with open_file(path, SPEC.input_columns, SPEC) as file:
        chunks = list(file.chunks(None))
        rows, bad = sum(len(chunk.texts) for chunk in chunks), sum(len(chunk.bad) for chunk in chunks)
        written = [file.add_labels(chunk, predictions(chunk)) for chunk in chunks]
        assert file.row_unit != "line" or rows + bad <= lines
        if all(isinstance(part, bytes) for part in written):
            assert b"".join(written).count(b"0.75000") >= rows


def check_stream(suffix: str, content: bytes) -> None:
    """What can be read once only gives the same chunks."""

    def chunks(is_stream: bool) -> list[Chunk] | None:
        source = io.BytesIO(content)
        try:
            rows = open_lines(source, "a", suffix, SPEC.input_columns, SPEC, is_stream=is_stream)
            return [replace(chunk, rows=list(chunk.rows), texts=list(chunk.texts)) for chunk in rows.chunks(None)]
        except UserError:  # of what differs: damage far behind the beginning is found first in a file
            return None

    assert chunks(True) == chunks(False)


def line_count(content: bytes) -> int:
    try:
        return open_text(io.BytesIO(content), "a").file.read().count(b"\n") + 1
    except UserError:
        return len(content)


def check_damaged(folder: Path, suffix: str, content: bytes) -> None:
    path = folder / f"a{suffix}"
    path.write_bytes(content)
    lines = line_count(content)
    for check in (check_training, check_predict):
        start = time.process_time()
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                check(path, lines)
        except UserError as error:
            assert "\n" not in str(error) and error.hint, error
        seconds = time.process_time() - start
        assert seconds < SECONDS + SECONDS_PER_MIB * len(content) / 2**20, (check.__name__, seconds)
    if suffix_of(path) not in BINARY and content[:4] not in (b"PAR1", b"PK\x03\x04"):
        check_stream(suffix_of(path), content)


@pytest.mark.parametrize("kind", KINDS)
def test_damaged_files(kind: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for seed in range(15):
        check_damaged(tmp_path, *damaged_file(random.Random(f"{kind} {seed}"), kind))
    assert capfd.readouterr() == ("", "")


def read(content: bytes, suffix: str) -> tuple[Pairs, int]:
    """The rows as training reads them, and the number of those set aside; predict reads the same texts."""
    found = list(open_lines(io.BytesIO(content), "a", suffix, Columns()).rows())
    rows = [(row.text, row.label_name or row.label) for row in found if isinstance(row, Row)]
    chunks = list(open_lines(io.BytesIO(content), "a", suffix, SPEC.input_columns, SPEC).chunks(None))
    texts = [text for chunk in chunks for text in chunk.texts]
    assert len(rows) <= len(texts) <= len(found) and set(texts) >= {text for text, _ in rows}
    return rows, len(found) - len(rows)


def insert(line: bytes, place: int, what: bytes) -> bytes:
    return line[:place] + what + line[place:]


def check_lines(rng: random.Random, kind: str) -> None:
    """Damage within one line changes that row alone."""
    suffix, pairs, has_header = Path(kind).suffix, pairs_of(rng), kind in TABLES
    encoding = rng.choice(["utf-8", "utf-8-sig", "gb18030"])
    content = LINES[kind](pairs).encode(encoding)
    lines = content.splitlines(keepends=True)
    assert read(content, suffix) == (pairs, 0)

    def joined(changed: dict[int, bytes]) -> bytes:
        return b"".join([changed.get(index, line) for index, line in enumerate(lines)])

    def read_unless_a_header(content: bytes) -> tuple[Pairs, int] | None:
        """The rows; None if the first label, which the others do not repeat now, is refused as a column's name."""
        try:
            return read(content, suffix)
        except UserError as error:
            assert not has_header and "looks like the names of the columns" in error.what
            return None

    def without(rows: Pairs, texts: set[str]) -> Pairs:
        return [row for row in rows if row[0] in texts]

    one, two = sorted(rng.sample(range(len(pairs)), 2))
    intact = [row for index, row in enumerate(pairs) if index not in (one, two)]
    texts = {text for text, _ in intact}
    body = {index: lines[index + has_header].rstrip(b"\r\n") for index in (one, two)}
    end = lines[one + has_header].removeprefix(body[one])

    def check(changed: dict[int, bytes], what: str) -> None:
        damaged = joined({index + has_header: line + end for index, line in changed.items()})
        if (found := read_unless_a_header(damaged)) is None:
            return
        rows, aside = found
        lost = [row for index, row in enumerate(pairs) if index not in changed and row not in rows]
        assert not lost, (what, changed, lost)
        assert len(pairs) - len(changed) <= len(rows) + aside <= len(pairs), (what, changed)
        assert without(rows, texts) == intact, (what, changed)

    def place(index: int) -> int:
        return rng.randint(0, len(body[index]))

    noise = bytes(byte for byte in rng.randbytes(rng.randint(1, 9)) if byte not in b'"\r\n')
    check({one: insert(body[one], place(one), noise)}, "noise")
    check({one: noise}, "noise alone")
    check({one: body[one][: place(one)]}, "cut line")
    check({one: insert(body[one], place(one), b'"')}, "a quote")
    check({index: insert(line, place(index), b'"') for index, line in body.items()}, "two quotes")
    check({index: b'"' + line for index, line in body.items()}, "quotes at the beginning")
    check({one: b'"' + body[one], two: body[two] + b'"'}, "quotes around rows")
    check({one: insert(body[one], place(one), rng.choice([b'""', b'"""', b'"\\"', b'","', b'"\t"', b'";"']))}, "quotes")
    check({one: insert(body[one], place(one), rng.choice([b"\x00", "\u200b".encode(encoding), b","]))}, "a character")
    if len(pairs) > 40 and not has_header:
        assert read(b"".join(lines[:20]) + rng.randbytes(9).replace(b"\n", b""), suffix)[0][:19] == pairs[:19]
    cut = rng.randint(len(content) // 2, len(content))
    complete = content[:cut].count(b"\n") - has_header
    if (found := read_unless_a_header(content[:cut])) is not None:
        rows, aside = found
        assert rows[:complete] == pairs[:complete] and len(rows) + aside <= complete + 1
    assert read(joined({one + has_header: lines[one + has_header] + b" " + end * 2}), suffix) == (pairs, 0)
    more = pairs_of(rng)
    assert read(LINES[kind]([*pairs, *more, pairs[one]]).encode(encoding), suffix) == ([*pairs, *more, pairs[one]], 0)


@pytest.mark.parametrize("kind", LINES)
def test_damage_within_a_line_changes_that_row_alone(kind: str) -> None:
    for seed in range(6):
        check_lines(random.Random(f"{kind} {seed}"), kind)


class Student:
    """Predicts the second label."""

    labels = LABELS[:2]

    def predict_proba(self, texts: Sequence[str]) -> NDArray[np.float32]:
        return np.tile(np.array([[0.25, 0.75]], "f4"), (len(texts), 1))


SIZE = 200_000
LARGE: dict[str, bytes] = {
    "quotes that open in every row.csv": b'a",b,"c\n' * (SIZE // 8),
    "the same after a header.csv": b"text,label\n" + b'a",b,"c\n' * (SIZE // 8),
    "the same with two cells.csv": b"text,label\n" + b'a","c\n' * (SIZE // 6),
    "text after quotes.csv": b"text,label\n" + b'"a,b"c\n' * (SIZE // 7),
    "three quotes.csv": b"text,label\n" + b'"""\n' * (SIZE // 4),
    "one quote.csv": b'text\n"a\n' + b"bbbbbbb\n" * (SIZE // 8),
    "an open quote in every row.csv": b"text,label\n" + b'"a,b\n' * (SIZE // 5),
    "an open quote in every row.tsv": b"text\tlabel\n" + b'a\t"b\n' * (SIZE // 5),
    "only quotes.csv": b"text,label\n" + b'""""""""\n' * (SIZE // 9),
    "only quotes without header.tsv": b'""\n' * (SIZE // 3),
    "one line of quotes.csv": b"text,label\n" + b'"' * SIZE,
    "one line.csv": b"text,label\n" + b"a" * SIZE,
    "one line.txt": b"a" * SIZE,
    "one line without header.csv": b"a" * SIZE,
    "cells of 64 lines.csv": b"text,label\n" + (b'"' + b"aaaaaaa\n" * 63 + b'b",1\n') * (SIZE // 510),
    "cells of 65 lines.csv": b"text,label\n" + (b'"' + b"aaaaaaa\n" * 65 + b'b",1\n') * (SIZE // 526),
    "long cells of many lines.csv": b"text,label\n" + (b'"' + b"a,b,c" * 600 + b"\n") * (SIZE // 3000),
    "delimiters.csv": b"text,label\n" + b"," * 100_000 + b"\n",
    "delimiters.tsv": b"\t" * 100_000,
    "delimiters.json": b"," * 100_000,
    "tabs.txt": b"\t" * SIZE,
    "lines of tabs.txt": b"\t\t\t\t\t\t\t\t\t\n" * (SIZE // 10),
    "marks.txt": b"_!_" * (SIZE // 3),
    "labels.txt": b"__label__" * (SIZE // 9),
    "nested.json": b"[" * SIZE,
    "nested and closed.json": b"[" * (SIZE // 2) + b"]" * (SIZE // 2),
    "nested objects.json": b'{"a":' * (SIZE // 5),
    "nested.jsonl": b'{"text": "a"}\n{"text": ' + b"[" * SIZE + b"\n",
    "nested.txt": b"[" * SIZE,
    "nested rows.json": b'{"data": ' + b"[" * SIZE + b"]" * SIZE + b"}",
    "a string.json": b'[{"text": "' + b"a" * SIZE + b'", "label": "b"}]',
    "an open string.json": b'{"text": "' + b"a" * SIZE,
    "an open string.txt": b'{"' + b"a" * SIZE,
    "backslashes.txt": b'{"' + b"\\" * SIZE,
    "white space.txt": b" " * SIZE + b"a",
    "white space.json": b"[" + b" " * SIZE + b"a",
    "numbers.json": b"[" + b"1" * SIZE,
    "carriage returns.csv": b"text,label\r" + b"a,b\r" * (SIZE // 4),
}


@pytest.mark.parametrize("name", LARGE)
def test_files_that_could_take_long(name: str, tmp_path: Path) -> None:
    """Training and the service read 200 kB in less than a second each; the limit is for slow machines."""
    suffix, content = Path(name).suffix, LARGE[name]
    path, start = tmp_path / f"a{suffix}", time.process_time()
    path.write_bytes(content)
    with contextlib.suppress(UserError):
        check_training(path, line_count(content))
    with contextlib.suppress(UserError):
        label_stream(cast(Runtime, Student()), io.BytesIO(content), io.BytesIO(), path.name, SPEC)
    assert time.process_time() - start < 10


@pytest.mark.slow
def test_twenty_thousand_damaged_files(tmp_path: Path) -> None:
    for number in range(20_000):
        kind = KINDS[number % len(KINDS)]
        check_damaged(tmp_path, *damaged_file(random.Random(f"slow {number}"), kind))
        if kind in LINES:
            check_lines(random.Random(f"slow {number}"), kind)
