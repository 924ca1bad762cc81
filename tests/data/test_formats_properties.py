"""Rows of arbitrary text, written in every format and encoding, are read back identically by training and predict."""

from __future__ import annotations

import bz2
import csv
import dataclasses
import gzip
import io
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import openpyxl
import pandas
import pyarrow
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from openpyxl.cell.cell import ILLEGAL_CHARACTERS_RE
from pyarrow import parquet

from distill.data.formats import SUFFIXES, open_file, suffix_of
from distill.data.formats.labelling import OutputSpec, Predictions
from distill.data.formats.records import Columns, Row, cell_text, label_text
from distill.data.readers import Reader

Pairs = Sequence[tuple[str, str]]  # texts and labels
HEADER = ("text", "label")
SPEC = OutputSpec(("体育", "财经"), False, escape_formulas=False)
EVERYTHING = dataclasses.replace(
    SPEC, probabilities=True, top_k=2, reject_below=0.8, reject_label="其他%s", has_cascade=True
)
ALL_CELLS = "\t其他%s\t0.75000\tstudent\t财经\t0.75000\t体育\t0.25000\t0.25000\t0.75000\n"
FEW = settings(max_examples=15, derandomize=True, suppress_health_check=list(HealthCheck))

# Characters that a format may stumble over are drawn as often as all others.
SPECIAL = st.sampled_from(
    [
        *(
            "字",
            "a",
            "1",
            " ",
            '"',
            '""',
            ",",
            ";",
            "|",
            "\t",
            "\n",
            "\r\n",
            "'",
            "=",
            "{",
            "[",
            "\\",
            "#",
            "。",
            "，",
            "％",
        ),
        *("\ufeff", "\u200b", "\u2028", "\x85", "\x1c", "\x0b", "\u3000", "😀", "👨\u200d👩", "e\u0301"),
    ]
)
# Python's and pandas' writers do not quote a carriage return where rows end with a line feed: it is set aside then.
ANY = st.characters(codec="utf-8", exclude_characters="\r\x00")
TEXTS = st.lists(SPECIAL | ANY, max_size=9).map("".join)
LABELS = st.sampled_from(["体育", "财经", "美食", "1", "1.0", "a b"]) | TEXTS
PAIRS = st.lists(st.tuples(TEXTS, LABELS), max_size=8)


KNOWN = [(f"第{number}条新闻", "体育财经美食"[number % 3 * 2 :][:2]) for number in range(9)]


def lines_of(texts: st.SearchStrategy[str], labels: st.SearchStrategy[str]) -> st.SearchStrategy[Pairs]:
    """Pairs of which a part is usual, so that the texts and the labels can be told apart without a header."""
    return st.tuples(st.lists(st.tuples(texts, labels), max_size=8), st.permutations(KNOWN)).map(
        lambda parts: [*parts[1][:1], *parts[0], *parts[1][1:]]  # U+FEFF at the beginning of a file is no text
    )


ONE_LINE = TEXTS.map(lambda text: "".join(char for char in text if char not in "\r\n\t"))
PLAIN_PAIRS = lines_of(ONE_LINE, st.sampled_from(["体育", "财经", "美食", "", " "]))


def table(pairs: Pairs, delimiter: str, end: str, quoting: int) -> str:
    buffer = io.StringIO()
    csv.writer(buffer, delimiter=delimiter, lineterminator=end, quoting=quoting).writerows([HEADER, *pairs])
    return buffer.getvalue()


def frame(pairs: Pairs) -> pandas.DataFrame:
    return pandas.DataFrame(list(pairs), columns=list(HEADER), dtype=object)


def objects(pairs: Pairs) -> list[dict[str, str]]:
    return [dict(zip(HEADER, pair, strict=True)) for pair in pairs]


def tables() -> dict[str, Callable[[Pairs], str]]:
    """Delimited text as Python and pandas write it, by name; the name ends with the suffix."""
    return {
        f"{quoting}{end!r}{suffix}": lambda pairs, d=delimiter, e=end, q=quoting: table(pairs, d, e, q)
        for suffix, delimiter in ((".csv", ","), (".tsv", "\t"), ("-semicolons.csv", ";"))
        for end in ("\n", "\r\n")
        for quoting in (csv.QUOTE_MINIMAL, csv.QUOTE_ALL)
    } | {
        "pandas.csv": lambda pairs: frame(pairs).to_csv(index=False),
        "index.csv": lambda pairs: frame(pairs).to_csv(),
        "pandas.tsv": lambda pairs: frame(pairs).to_csv(sep="\t", index=False),
        "nonnumeric.tsv": lambda pairs: frame(pairs).to_csv(sep="\t", index=False, quoting=csv.QUOTE_NONNUMERIC),
    }


JSON: dict[str, Callable[[Pairs], str]] = {
    "lines.jsonl": lambda pairs: "".join(json.dumps(row) + "\n" for row in objects(pairs)),
    "unicode.json": lambda pairs: "\r\n".join(json.dumps(row, ensure_ascii=False) for row in objects(pairs)),
    "compact.json": lambda pairs: json.dumps(objects(pairs), ensure_ascii=False, separators=(",", ":")),
    "indented.json": lambda pairs: json.dumps(objects(pairs), indent=2),
    "data.json": lambda pairs: json.dumps({"version": 1, "data": objects(pairs)}, ensure_ascii=False),
    "one-after-another.json": lambda pairs: "\n".join(json.dumps(row, indent=1) for row in objects(pairs)),
    **{
        f"{orient}{'' if is_ascii else '-unicode'}.json": lambda pairs, o=orient, a=is_ascii: frame(pairs).to_json(
            orient=o, force_ascii=a
        )
        for orient in ("columns", "split", "records", "index", "table")
        for is_ascii in (True, False)
    },
    "pandas.jsonl": lambda pairs: frame(pairs).to_json(orient="records", lines=True),
}
PLAIN: dict[str, Callable[[Pairs], str]] = {
    "text.txt": lambda pairs: "".join(f"{text}\t{label}\n" for text, label in pairs),
    "label.txt": lambda pairs: "".join(f"{label}\t{text}\r\n" for text, label in pairs),
    "fasttext.txt": lambda pairs: "".join(f"__label__{label} {text}\n" for text, label in pairs),
    "toutiao.txt": lambda pairs: "".join(
        f"65_!_{'10' if label.strip() else ''}_!_{label}_!_{text}_!_词,语\n" for text, label in pairs
    ),
}


WRITTEN = {**tables(), **JSON, **PLAIN}


def write_parquet(path: Path, pairs: Pairs) -> None:
    texts, labels = [text for text, _ in pairs], [label for _, label in pairs]
    parquet.write_table(pyarrow.table({"text": pyarrow.array(texts, "string"), "label": labels}), path)


def write_xlsx(path: Path, pairs: Pairs) -> None:
    book = openpyxl.Workbook()
    for number, pair in enumerate([HEADER, *pairs], 1):
        for column, value in enumerate(pair, 1):
            cell = book.active.cell(number, column)
            cell.value, cell.data_type = value, "s"  # otherwise = begins a formula
    book.save(path)


def zstd(content: bytes) -> bytes:
    return pyarrow.compress(content, codec="zstd", asbytes=True)


ENCODED: dict[str, Callable[[str], bytes]] = {
    "utf-8": str.encode,
    "utf-8-sig": lambda text: text.encode("utf-8-sig"),
    "utf-16": lambda text: text.encode("utf-16"),
    "utf-16-be": lambda text: ("\ufeff" + text).encode("utf-16-be"),
    ".gz": lambda text: gzip.compress(text.encode(), 1),
    ".bz2": lambda text: bz2.compress(text.encode()),
    ".zst": lambda text: zstd(text.encode()),
}


def usable(pairs: Pairs) -> list[tuple[str, str]]:
    """The rows that have a text and a label, as they are read."""
    return [row for text, label in pairs if all(row := (cell_text(text), label_text(label)))]


def read_as_training(path: Path) -> tuple[list[tuple[str, str]], int]:
    """The rows, and how many were set aside."""
    reader = Reader(Columns())
    rows = [(placed.row.text, placed.row.label_name or placed.row.label) for placed in reader.stream(path)]
    return rows, len(reader.set_aside)


def read_as_predict(path: Path, output: Path, spec: OutputSpec = SPEC) -> tuple[list[str], int]:
    """The texts, and how many rows have none; the labelled rows are written."""
    texts, bad = [], 0
    with open_file(path, spec.input_columns, spec) as file, file.writer(output) as write:
        for piece in file.header():
            write(piece)
        for chunk in file.chunks(None):
            probabilities = np.tile(np.array([[0.25, 0.75]], "f4"), (len(chunk.texts), 1))
            by_teacher = np.zeros(len(chunk.texts), np.bool_)
            write(file.add_labels(chunk, Predictions.of(probabilities, spec.reject_below, by_teacher)))
            texts, bad = texts + [text for text in chunk.texts if text], bad + len(chunk.bad)
    return texts, bad


def read_output(output: Path) -> list[str]:
    """The texts of labelled rows."""
    with open_file(output, Columns(is_labelled=False)) as file:
        return [row.text for row in file.rows() if isinstance(row, Row)]


def check(path: Path, pairs: Pairs, blank: int = 0) -> None:
    """Both read all pairs except ``blank`` ones, which are no rows to the format, and set aside what lacks a cell."""
    rows, set_aside = read_as_training(path)
    assert rows == usable(pairs)
    assert set_aside == len(pairs) - len(rows) - blank
    output = path.with_name(f"labelled{SUFFIXES[suffix_of(path)]}")
    texts, bad = read_as_predict(path, output)
    assert texts == [cell for text, _ in pairs if (cell := cell_text(text))]
    assert bad == len(pairs) - len(texts) - blank
    if output.suffix == ".txt":
        assert output.read_text("utf-8").count("\t财经\t0.75000\n") == len(texts)
    else:
        assert read_output(output) == texts
    assert read_as_predict(path, output, EVERYTHING) == (texts, bad)
    if output.suffix == ".txt":
        assert output.read_text("utf-8").count(ALL_CELLS) == len(texts)
    else:
        assert read_output(output) == texts


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("formats")


# A cell of a TSV with both a tab and a line break looks like two rows with a quote each, and TSV has no quoting unless
# other rows show it.
UNQUOTED = ("0'\\n'.tsv", "0'\\r\\n'.tsv", "pandas.tsv")


def without_tabs(pairs: Pairs) -> Pairs:
    return [(text.replace("\t", ""), label.replace("\t", "")) for text, label in pairs]


def blank_rows(pairs: Pairs) -> int:
    return sum(not text.strip() and not label.strip() for text, label in pairs)


@pytest.mark.parametrize("name", tables())
@FEW
@given(pairs=PAIRS)
def test_tables(name: str, pairs: Pairs, folder: Path) -> None:
    path, pairs = folder / f"a{Path(name).suffix}", without_tabs(pairs) if name in UNQUOTED else pairs
    path.write_bytes(WRITTEN[name](pairs).encode())
    check(path, pairs, blank_rows(pairs) if name != "index.csv" else 0)
    numbers = [1 + tables()[name](pairs[:index]).count("\n") for index, pair in enumerate(pairs) if usable([pair])]
    with open_file(path, Columns()) as file:
        assert [row.number for row in file.rows() if isinstance(row, Row)] == numbers


@pytest.mark.parametrize("name", JSON)
@FEW
@given(pairs=PAIRS)
def test_json(name: str, pairs: Pairs, folder: Path) -> None:
    assume(pairs or not name.startswith("index"))  # an empty object names no columns
    path = folder / f"a{Path(name).suffix}"
    path.write_bytes(JSON[name](pairs).encode())
    check(path, pairs)


@pytest.mark.parametrize("name", PLAIN)
@FEW
@given(pairs=PLAIN_PAIRS)
def test_plain(name: str, pairs: Pairs, folder: Path) -> None:
    path = folder / "a.txt"
    path.write_bytes(PLAIN[name](pairs).encode())
    check(path, pairs)


@FEW
@given(pairs=PAIRS)
def test_parquet(pairs: Pairs, folder: Path) -> None:
    path = folder / "a.parquet"
    write_parquet(path, pairs)
    check(path, pairs)


@FEW
@given(pairs=PAIRS)
def test_xlsx(pairs: Pairs, folder: Path) -> None:
    # XML has no control characters, and reads \r\n as \n.
    pairs = [tuple(ILLEGAL_CHARACTERS_RE.sub("", cell).replace("\r", "") for cell in pair) for pair in pairs]
    path = folder / "a.xlsx"
    write_xlsx(path, pairs)
    check(path, pairs, sum(not cell_text(text) and not cell_text(label) for text, label in pairs))


@pytest.mark.parametrize("encoding", ENCODED)
@pytest.mark.parametrize("name", ["0'\\n'.csv", "pandas.tsv", "unicode.json", "indented.json", "text.txt"])
@FEW
@given(data=st.data())
def test_encodings(name: str, encoding: str, data: st.DataObject, folder: Path) -> None:
    pairs = data.draw(PLAIN_PAIRS if name in PLAIN else PAIRS)
    pairs = without_tabs(pairs) if name in UNQUOTED else pairs
    path = folder / f"a{Path(name).suffix}{encoding if encoding[0] == '.' else ''}"
    path.write_bytes(ENCODED[encoding](WRITTEN[name](pairs)))
    check(path, pairs, blank_rows(pairs) if name in tables() else 0)


@pytest.mark.parametrize("name", ["0'\\n'.csv", "pandas.tsv", "unicode.json", "indented.json", "text.txt"])
@FEW
@given(data=st.data())
def test_gb18030(name: str, data: st.DataObject, folder: Path) -> None:
    """Half of the lines beyond ASCII are usual Chinese: others may be valid UTF-8 as well."""
    pairs = data.draw(PLAIN_PAIRS if name in PLAIN else PAIRS)
    pairs = without_tabs(pairs) if name in UNQUOTED else pairs
    usual = [("球队今天夺冠", "体育")] * sum(not line.isascii() for line in WRITTEN[name](pairs).split("\n"))
    path = folder / f"a{Path(name).suffix}"
    path.write_bytes(WRITTEN[name]([*pairs, *usual, *usual[:1]]).encode("gb18030"))
    check(path, [*pairs, *usual, *usual[:1]], blank_rows(pairs) if name in tables() else 0)
