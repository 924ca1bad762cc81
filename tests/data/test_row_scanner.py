"""The kernels find the same rows as the readers in Python: same output, same bad rows, same positions."""

from __future__ import annotations

import dataclasses
import io
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from distill.data.formats import open_lines, parquet, tables, text_lines
from distill.data.formats.records import Selection, cell_text
from distill.data.formats.text_lines import LineRows, Lines
from distill.runtime.packing import Utf8Texts
from distill.runtime.rows import Ending, ScannedRows, trim
from distill.runtime.structs import address

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks" / "reliability"))

from random_files import BEGINNINGS, SPEC, labelled, pieces_of, usual_rows

MANY = settings(max_examples=60, derandomize=True, suppress_health_check=list(HealthCheck))
LIMITS = st.fixed_dictionaries(
    {
        "BLOCK": st.sampled_from([1, 7, 64, 2**20]),
        "CHUNK_ROWS": st.sampled_from([1, 3, 2048]),
        "CHUNK_BYTES": st.sampled_from([16, 2**20]),
        "MAX_LINE": st.sampled_from([40, 2**20]),
        "MAX_ROW_LINES": st.sampled_from([2, 64]),
        "MAX_ROW_SIZE": st.sampled_from([30, 2**20]),
    }
)


def contents(name: str) -> st.SearchStrategy[bytes]:
    """The beginning of a file, then rows that are usual, cut, or made of pieces, some of them invalid."""
    of_pieces = st.lists(st.sampled_from(pieces_of(name)), max_size=12).map(b"".join)
    usual = st.sampled_from(usual_rows(name))
    cut = st.tuples(usual, st.integers(0, 20), of_pieces).map(lambda row: row[0][: row[1]] + row[2] + row[0][row[1] :])
    return st.lists(usual | cut | of_pieces, max_size=12).map(lambda rows: BEGINNINGS[name].encode() + b"".join(rows))


@pytest.mark.parametrize("name", BEGINNINGS)
def test_the_kernels_and_python_read_the_same_rows(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    @MANY
    @given(contents(name), LIMITS)
    def compare(content: bytes, limits: dict[str, int]) -> None:
        for limit, value in limits.items():
            monkeypatch.setattr(tables if limit.startswith("MAX_ROW") else text_lines, limit, value)
        assert labelled(content, name) == labelled(content, name, by_kernels=False)

    compare()


USUAL = {
    "excel.csv": '2,"引用""的"""\r\n\r\n-1.5,好\r\n,"a\r\nb"\r\n',
    "commas.csv": '3, a"b \n"x",\u3000字\u3000\n=1,好\n  \n\n4,"=1,\n2"',
    "quoted.tsv": '"4"\t"a\tb"\n5\tb',
    "tabs.tsv": '3\ta"b"\tx\n',
    "no header.csv": "甲,第十三条",
    "objects.jsonl": '{"a": [1, -2.5e+3, true, {"text": null}, "\\ud83d"], "text": "\\ud83d\\ude00\\n\\"\\u5b57"} \r\n'
    '{"text":"a"}',
    "texts.txt": " a\tb \n\x00好\n第二\u3000",
    "label last.txt": "a\tb\tc\n好\n好\tb\u3000\n",
    "label first.txt": "a\tb\tc\n好\n",
}


@pytest.mark.parametrize("name", USUAL)
def test_usual_rows_do_not_need_python(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    content = (BEGINNINGS[name] + USUAL[name]).encode()
    expected = labelled(content, name, by_kernels=False)
    assert not expected[2]

    def fail(*_: Any) -> None:
        raise AssertionError("a usual row was declined")

    monkeypatch.setattr(LineRows, "_parsed", fail)
    for size in (5, 2**20):
        monkeypatch.setattr(text_lines, "BLOCK", size)
        assert labelled(content, name) == expected


ODD = {  # rows that the kernels must leave to Python
    "commas.csv": [
        *("3,a\rb", "3,\u200b", '3,"a"b', '3,"a\n4,b\n5,c"', "3,a,b", "3", ",", '3,"open', '3,"a""', '3,"a"\r"b"'),
        *('"3\n' + "\n" * 70 + 'x",b', "\ufeff3,a", '3,"' + "a" * 2**20 + '"', "3," + "a" * 2**20),
    ],
    "excel.csv": ["=1,好", "\t=1,b", "＝a,b", '"\n=1",b', "-1e,b", "+1.5.,b", " @a,b", "\t1,b"],
    "tabs.tsv": ['2\t"a"\tb', '2\t"a\t"\tb', '2\t"a\tb', "2\ta\rb\tc"],
    "quoted.tsv": ['"2"\t"a"b', '"2"\t"a'],
    "objects.jsonl": [
        *(
            '{"text": "a", "text": "b"}',
            '{"text": "\\ud83d"}',
            '{"text": "\\ude00"}',
            '{"text": "\\ud83dx"}',
            '{"text": "\\ud83d\\u0041"}',
        ),
        *(
            '{"text": "a", "predicted": 1}',
            '{"text": "a\tb"}',
            '{"text": "a"} x',
            '{"text": "a", "b": NaN}',
            '{"text": "a",}',
        ),
        *(
            '{"text": "a", "b": ' + "[" * 200 + "]" * 200 + "}",
            '{"text": "a", "b": ' + "1" * 5000 + "}",
            '{"te\\u0078t": "a"}',
        ),
        *(
            '{"text": "a", "data": {"text": "b"}, "annotations": []}',
            '{"text": 1}',
            '{"text": null}',
            '{"text": "\\u000"}',
        ),
        *(
            '{"text": "a", "b": 01}',
            '{"text": "a", "b": 1.}',
            '{"text": "a", "b": tru}',
            '{"text": "a" "b": 1}',
            '{"text": "\\x"}',
        ),
        *(
            '["text"]',
            '{"text": "a"',
            '{"text": "a',
            "{}",
            '{"text": "\\u200b"}',
            '{"text": "a", "b": -}',
            '{"text": "a", "b": {"c"}}',
        ),
    ],
    "texts.txt": ["\u200b", "\x01", "\x85", "a" * 2**20],
}
INVALID = [
    b"\xff",
    b"\xe4\xb8",
    b"\xed\xa0\x80",
    b"\xf4\x90\x80\x80",
    b"\xc0\x80",
    b"\xf0\x9f\x98",
    b"\xe0\x9f\x80",
    b"\xf0\x8f\x80\x80",
]


@pytest.mark.parametrize("name", BEGINNINGS)
def test_odd_rows_are_left_to_python(name: str) -> None:
    beginning, usual = BEGINNINGS[name].encode(), usual_rows(name)[0]
    invalid = [usual.replace("第一条".encode(), b"a" + some + b"b") for some in INVALID]
    for row in [*(row.encode() + b"\n" for row in ODD.get(name, [])), *invalid]:
        content = beginning + usual + row + usual
        assert labelled(content, name) == labelled(content, name, by_kernels=False), row[:80]


@pytest.mark.parametrize("name", BEGINNINGS)
def test_reading_goes_on_after_every_chunk(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_lines, "CHUNK_ROWS", 2)
    content = BEGINNINGS[name].encode() + b"".join(usual_rows(name))
    output, texts, bad, ends = labelled(content, name)
    header = len(labelled(content, name, start=ends[-1])[0])
    for number, end in enumerate(ends, 1):
        rest = labelled(content, name, start=end)
        assert output.endswith(rest[0][header:]) and rest[3] == ends[number:]
        assert rest[1] == texts[len(texts) - len(rest[1]) :] and rest[2] == bad[len(bad) - len(rest[2]) :]


def test_what_follows_the_probability_is_the_same() -> None:
    everything = dataclasses.replace(SPEC, probabilities=True, top_k=2, reject_below=0.6, reject_label="?")
    rejecting = dataclasses.replace(SPEC, reject_below=0.6, reject_label="?")
    for name in BEGINNINGS:
        content = BEGINNINGS[name].encode() + b"".join(usual_rows(name))
        for spec in (everything, rejecting):
            assert labelled(content, name, spec) == labelled(content, name, spec, by_kernels=False)


@pytest.mark.parametrize("name", ["predicted", "probability"])
def test_a_text_column_with_the_name_of_a_new_one_makes_bad_rows(name: str) -> None:
    content = f'{{"{name}": "好新闻", "id": 1}}\n'.encode() * 3
    spec = dataclasses.replace(SPEC, text_column=name)
    rows = open_lines(io.BytesIO(content), "a.jsonl", ".jsonl", spec.input_columns, spec)
    (chunk,) = rows.chunks(None)
    assert not chunk.texts and [row.line for row in chunk.bad] == [1, 2, 3]


def test_kernels_are_not_called_for_every_unusual_row(monkeypatch: pytest.MonkeyPatch) -> None:
    calls, scan = [], Lines.scan
    monkeypatch.setattr(Lines, "scan", lambda *arguments: calls.append(1) or scan(*arguments))
    content = b'{"text": "a"}\n{"text": 3}\n' * 1000
    assert len(labelled(content, "a.jsonl")[1]) == 2000 and 2 < len(calls) < 100


CELLS = st.none() | st.text(st.sampled_from(" \t\n\u3000\u200b\x00\x85\ufeff字a😀"), max_size=4)
KINDS = {
    "string": pyarrow.string(),
    "large_string": pyarrow.large_string(),
    "dictionary": pyarrow.dictionary(pyarrow.int8(), pyarrow.string()),
}


@pytest.mark.parametrize("kind", KINDS)
def test_texts_of_arrow_are_those_that_python_reads(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bytes of one array are not copied."""
    selection = Selection(("text",), None, None, dict.get, "")

    @MANY
    @given(st.lists(st.lists(CELLS, max_size=5), min_size=1, max_size=3), st.integers(0, 3), st.integers(0, 9))
    def compare(chunks: list[list[str | None]], begin: int, size: int) -> None:
        column = pyarrow.chunked_array([pyarrow.array(cells, KINDS[kind]) for cells in chunks], KINDS[kind])
        table = pyarrow.table({"text": column}).slice(begin, size)
        found = parquet.texts_of(table, selection)
        with monkeypatch.context() as patch:
            patch.setattr(parquet, "_utf8_texts", lambda column: None)
            assert list(found) == parquet.texts_of(table, selection)
        if isinstance(found, Utf8Texts) and table.column(0).num_chunks == 1 and kind != "dictionary":
            data = table.column(0).chunk(0).buffers()[2]
            assert not len(found.content) or 0 <= address(found.content) - data.address < data.size
            assert len(found.content) == len("".join(filter(None, table.column(0).to_pylist())).encode())

    compare()


def test_other_columns_of_arrow_are_read_by_python() -> None:
    selection = Selection(("text",), None, None, dict.get, "")
    invalid = pyarrow.StringArray.from_buffers(1, pyarrow.py_buffer(np.array([0, 1], "i4")), pyarrow.py_buffer(b"\xff"))
    with pytest.raises(UnicodeDecodeError):
        parquet.texts_of(pyarrow.table({"text": invalid}), selection)
    for cells, texts in (([1, None], ["1", ""]), (["好".encode("gb18030"), b""], ["好", ""])):
        assert parquet.texts_of(pyarrow.table({"text": cells}), selection) == texts
    pair = pyarrow.table({"a": ["好", None], "b": ["x", "y"]})
    assert parquet.texts_of(pair, dataclasses.replace(selection, texts=("a", "b"))) == ["好 x", "y"]


def test_what_is_visible_is_what_python_calls_visible() -> None:
    """Every character of the blocks that have white space or characters of no width, alone between spaces."""
    blocks = [range(0x3100), range(0xFE00, 0x10000), range(0xE0000, 0xE0200), range(0x3100, 0xD800, 97)]
    points = [chr(point) for block in blocks for point in block]
    encoded = [f" {char}\t".encode() for char in points]
    ends = np.cumsum([0, *map(len, encoded)])
    texts = Utf8Texts(np.frombuffer(b"".join(encoded), np.uint8), np.stack([ends[:-1], ends[1:]], axis=1))
    assert trim(texts)
    assert list(texts) == [cell_text(f" {char}\t") for char in points]


@given(
    st.lists(st.floats(2.0**-24, 1.5, width=32) | st.integers(1, 2**17).map(lambda number: number / 2**17), min_size=1)
)
def test_probabilities_have_the_digits_of_python(numbers: list[float]) -> None:
    probabilities = np.array(numbers, np.float32)
    spans = np.zeros((len(numbers), 2), np.int64)
    rows = ScannedRows(np.zeros(1, np.uint8), spans, spans)
    written = rows.with_labels(Ending([b"a"], b"\n"), np.zeros(len(numbers), np.int64), probabilities)
    assert written == "".join(f"a{number:.5f}\n" for number in probabilities.tolist()).encode()


@pytest.mark.parametrize("number", [0.0, -0.0, -1.0, 9.9, 1e9, float("nan"), float("inf")])
def test_other_numbers_are_written_by_python(number: float) -> None:
    spans = np.zeros((1, 2), np.int64)
    rows = ScannedRows(np.zeros(1, np.uint8), spans, spans)
    assert rows.with_labels(Ending([b"a"], b"\n"), np.zeros(1, np.int64), np.array([number], np.float32)) is None
