"""Labelled rows: nothing in them is lost or changed, whatever they contain; what cannot be read is reported."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from distill.data import formats
from distill.data.formats import open_file, open_lines, text_lines
from distill.data.formats.labelling import (
    PREDICTED,
    PROBABILITIES,
    PROBABILITY,
    BadRow,
    Chunk,
    OutputSpec,
    Position,
    Predictions,
    RowFile,
)
from distill.data.formats.records import Columns, Row, Selection, visible
from distill.data.formats.text_lines import Continuation, Lines, RawRow
from distill.errors import UserError
from distill.storage.encodings import sample_encoding

BOM = "\ufeff"
WRITTEN = {PREDICTED, PROBABILITY, PROBABILITIES}  # hypothesis tries string constants of the program
LABELS = ("体育", 'a,"b"\t%s')
ANY = st.text(st.characters(codec="utf-8"), min_size=1)
CELL = st.text(st.one_of(st.sampled_from('",\t\n\r;字 a'), st.characters(codec="utf-8", exclude_characters="\x00")))
JSON = st.none() | st.floats() | st.integers() | ANY | st.lists(ANY)
CHINESE = st.text(st.characters(min_codepoint=0x4E00, max_codepoint=0x9FA5), min_size=4, max_size=12).filter(
    lambda text: "\ufffd" in text.encode("gb18030").decode(errors="replace")  # otherwise the encoding is ambiguous
)


def opened(content: bytes, suffix: str, spec: OutputSpec, *, is_stream: bool = False) -> RowFile:
    source = io.BytesIO(content)
    return open_lines(source, f"a{suffix}", suffix, spec.input_columns, spec, size=len(content), is_stream=is_stream)


def predictions(count: int) -> Predictions:
    """The second label, at three quarters."""
    return Predictions.of(np.tile(np.array([[0.25, 0.75]], "f4"), (count, 1)))


def labelled(
    content: bytes, suffix: str, *, probabilities: bool = False, column: str = "", start: Position | None = None
) -> tuple[str, list[str], list[BadRow]]:
    """The output, the texts and the bad rows of a file."""
    rows = opened(content, suffix, OutputSpec(LABELS, probabilities, column))
    chunks = list(rows.chunks(start))
    written = b"".join([*rows.header(), *(rows.add_labels(chunk, predictions(len(chunk.texts))) for chunk in chunks)])
    texts = [text for chunk in chunks for text in chunk.texts]
    return written.decode(), texts, [bad for chunk in chunks for bad in chunk.bad]


def table(rows: Sequence[Sequence[str]], delimiter: str, end: str = "\r\n") -> str:
    buffer = io.StringIO()
    quoting = csv.QUOTE_MINIMAL if end == "\r\n" else csv.QUOTE_ALL  # minimal: what contains \r or \n
    csv.writer(buffer, delimiter=delimiter, lineterminator=end, quoting=quoting).writerows(rows)
    return buffer.getvalue()


def read(content: str, delimiter: str) -> list[list[str]]:
    return list(csv.reader(io.StringIO(content, newline=""), delimiter=delimiter, strict=True))


@given(st.lists(st.tuples(CELL, CELL), max_size=8), st.sampled_from([".csv", ".tsv"]), st.sampled_from(["\n", "\r\n"]))
def test_tables_keep_their_cells(cells: list[tuple[str, str]], suffix: str, end: str) -> None:
    delimiter = "," if suffix == ".csv" else "\t"
    rows = [[first, f"标{second}", first] for first, second in cells]
    written, texts, bad = labelled(table([["id", "text", "more"], *rows], delimiter, end).encode(), suffix)
    assert not bad and texts == [row[1].strip() for row in rows]
    expected = [["id", "text", "more", "predicted", "probability"], *([*row, LABELS[1], "0.75000"] for row in rows)]
    assert read(written, delimiter) == expected


@given(st.lists(st.dictionaries(ANY.filter(lambda name: name not in WRITTEN), JSON), max_size=5), st.booleans())
def test_json_lines_keep_their_values(records: list[dict[str, object]], ascii_only: bool) -> None:
    rows = [json.dumps({**record, "title": "字"}, ensure_ascii=ascii_only) for record in records]
    written, texts, bad = labelled("\n".join(rows).encode(), ".jsonl", probabilities=True, column="title")
    assert not bad and texts == ["字"] * len(rows)
    new = {"predicted": LABELS[1], "probability": 0.75, "probabilities": {LABELS[0]: 0.25, LABELS[1]: 0.75}}
    for row, line in zip(rows, written.split("\n"), strict=False):
        assert line.startswith(row[:-1])  # number for number: 1.0 stays 1.0
        assert new.items() <= json.loads(line).items()


@given(st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\t\r"), max_size=9)))
def test_plain_text_lines_are_kept(texts: list[str]) -> None:
    lines = "\n".join(texts).split("\n")
    written, parsed, bad = labelled("\n".join(lines).encode(), ".txt")
    non_blank = [line for line in lines if line.strip()]
    with_text = [line for line in non_blank if visible(line.strip())]
    assert len(bad) <= len(lines) - len(with_text)
    assert written == "".join(f'{line.removeprefix(BOM)}\ta,"b" %s\t0.75000\n' for line in with_text)
    assert all(parsed)


@given(st.lists(CHINESE, min_size=1))
def test_gb18030_is_read_and_utf8_written(texts: list[str]) -> None:
    content = "".join(f"{text}\n" for text in ["ascii", *texts])
    written, parsed, bad = labelled(content.encode("gb18030"), ".txt")
    assert not bad and parsed == ["ascii", *texts]
    assert written == labelled(content.encode(), ".txt")[0]


@given(st.data(), st.sampled_from([".txt", ".csv", ".tsv", ".jsonl"]))
def test_reading_resumes_at_every_position(data: st.DataObject, suffix: str) -> None:
    """A resumed job reads exactly what follows the end of a chunk."""
    texts = data.draw(st.lists(CELL.map("标".__add__), min_size=1, max_size=9))
    content = {
        ".txt": "\n".join(texts),
        ".csv": table([["text"], *([text] for text in texts)], ","),
        ".tsv": table([["text"], *([text] for text in texts)], "\t", "\n"),
        ".jsonl": "\n".join(json.dumps({"text": text}) for text in texts),
    }[suffix].encode()
    spec = OutputSpec(LABELS, False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(text_lines, "CHUNK_ROWS", data.draw(st.integers(1, 3)))
        chunks = chunks_of(opened(content, suffix, spec), None)
        for index, chunk in enumerate(chunks):
            assert chunks_of(opened(content, suffix, spec), chunk.end) == chunks[index + 1 :]
            assert chunks_of(opened(content, suffix, spec, is_stream=True), chunk.end) == chunks[index + 1 :]


def chunks_of(rows: RowFile, start: Position | None) -> list[Chunk]:
    """Chunks whose rows and texts are lists of strings."""
    return [replace(chunk, rows=list(chunk.rows), texts=list(chunk.texts)) for chunk in rows.chunks(start)]


BAD_ROWS = {
    "broken JSON": (".jsonl", b'{"text": "\xe5\xa5\xbd"}\n{"text": \n{"text": "b"}', 2, "broken JSON", '{"text": ', 2),
    "no object": (".jsonl", b'{"text": "a"}\n["text"]\n', 2, "not a JSON object", '["text"]', 1),
    "no text": (".jsonl", b'{"text": "a"}\n{"text": null}\n{"id": 1}', 2, "no text", '{"text": null}', 1),
    "a list": (".jsonl", b'{"text": "a"}\n{"text": ["b"]}', 2, "no text", '{"text": ["b"]}', 1),
    "the new name": (".jsonl", b'{"text": "a"}\n{"text": "b", "predicted": 1}', 2, "it already has predicted", "", 1),
    "a cell more": (".csv", b"id,text\n1,a\n2,b,c\n3,d\n", 3, "3 cells where the header has 2", "2,b,c", 2),
    "a cell less": (".tsv", b"id\ttext\n1\n2\tb\n", 2, "1 cell where the header has 2", "1", 1),
    "an empty cell": (".csv", b'id,text\n1,""\n2,b\n', 2, "no text", '1,""', 1),
    "half a line break": (".csv", b"text\na\rb\nc\n", 2, "a carriage return within a line", "a\rb", 1),
    "an open quote": (".csv", b'id,text\n1,"a,c\n2,b\n3,"c"\n', 2, "3 cells where the header has 2", '1,"a,c', 2),
    "another encoding": (
        ".txt",
        "好\n".encode() * 9 + b"\xff\xfe\n",
        10,
        "byte 1 of the line is not UTF-8",
        "\\xff\\xfe",
        9,
    ),
    "within quotes": (".csv", 'text\n"好\n'.encode() + b"\xff\na\nb\n", 3, "byte 1 of the line", "\\xff", 3),
    "a label alone": (".txt", b"\t\n  \tx\na\n", 1, "no text", "\t", 2),
}


@pytest.mark.parametrize("name", BAD_ROWS)
def test_a_bad_row_is_reported_and_the_others_are_labelled(name: str) -> None:
    suffix, content, line, why, raw, good = BAD_ROWS[name]
    written, texts, bad = labelled(content, suffix)
    assert bad[0].line == line and why in bad[0].why and bad[0].raw.startswith(raw)
    assert len(texts) == good == len(written.splitlines()) - (suffix in {".csv", ".tsv"})


def test_a_line_that_is_too_long_is_one_bad_row(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_lines, "MAX_LINE", 16)
    content = b"short\n" + b"x" * 100 + b"\nlast\n"
    _, texts, bad = labelled(content, ".txt")
    assert texts == ["short", "last"] and [(row.line, row.raw) for row in bad] == [(2, "x" * 16)]
    rows = opened(content, ".txt", OutputSpec(LABELS, False), is_stream=True)
    assert [list(chunk.texts) for chunk in rows.chunks(None)] == [texts]


@pytest.mark.parametrize("suffix", [".txt", ".csv", ".tsv", ".jsonl"])
@pytest.mark.parametrize("content", [b"", b"\n\r\n \n", BOM.encode()])
def test_an_empty_file_is_not_an_error(content: bytes, suffix: str) -> None:
    assert labelled(content, suffix) == (BOM * (content == BOM.encode()), [], [])


def test_a_file_with_only_a_header() -> None:
    assert labelled("\ufeffid,标题\r\n".encode(), ".csv", probabilities=True) == (
        '\ufeffid,标题,predicted,probability,probability_体育,"probability_a,""b""\t%s"\n',
        [],
        [],
    )


def test_a_row_of_a_document_that_is_no_object_is_bad() -> None:
    _, texts, bad = labelled('{"data": [{"text": "甲"}, null]}'.encode(), ".json")
    assert texts == ["甲"] and [(row.line, row.why) for row in bad] == [(2, "it is not a JSON object")]


REFUSED = {
    "no column": (".csv", b"a,b\n1,2\n", "no text column"),
    "a new column's name": (".csv", b"text,predicted\na,b\n", "there is already a column predicted"),
    "twice": (".tsv", b"text\ttext\na\tb\n", "2 columns of one name: text"),
    "a broken header": (".csv", b"a\rb,text\na,b\n", "broken header: a carriage return"),
    "no column in JSON": (".jsonl", b'{"a": 1}\n', "no text column"),
    "a broken array": (".json", b'[{"text": "a"},\n {"text": b}]', "broken JSON"),
    "no JSON": (".json", b"good morning", "this is not JSON"),
    "neither": (".txt", b"\xff\xff\n", "neither UTF-8 nor GB18030"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_files(name: str) -> None:
    suffix, content, why = REFUSED[name]
    with pytest.raises(UserError, match=why) as error:
        labelled(content, suffix)
    assert str(error.value.where).startswith(("a.", "the header")) and error.value.hint


def test_the_majority_of_lines_decides_the_encoding() -> None:
    """Neither a broken line before the Chinese text, nor a GB18030 line that is valid UTF-8, changes the result."""
    assert sample_encoding([b"caf\xe9x\n", *["球队今天\n".encode()] * 9], "a") == "utf-8"
    ambiguous = "楼".encode("gb18030")
    assert ambiguous.decode("utf-8") and sample_encoding([ambiguous, *["球队".encode("gb18030")] * 9], "a") == "gb18030"
    assert sample_encoding([b"ascii\n"] * 5000 + ["球队".encode("gb18030")], "a") == "gb18030"


class Numbered:
    """Lines of a number, a bar and a text."""

    note, columns = "numbered lines", Columns()
    selection = Selection((1,), None, None, list.__getitem__, "")

    def parse(self, line: str, lines: Lines) -> RawRow:
        return RawRow(line.rstrip(), line.split("|"))

    def continuation(self, spec: OutputSpec) -> Continuation:
        return Continuation("", tuple(f"|{label}|" for label in spec.labels), "")

    def row_format(self) -> None: ...


def test_a_format_is_one_line_of_the_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Training and --mode predict both know it from then on."""
    recognisers = [lambda lines, suffix, columns: Numbered() if suffix == ".num" else None, *formats.TEXT_FORMATS]
    monkeypatch.setattr(formats, "TEXT_FORMATS", recognisers)
    rows = open_lines(io.BytesIO("1|球队赢了\n".encode()), "a.num", ".num", Columns(is_labelled=False)).rows()
    assert list(rows) == [Row("球队赢了", "", "", 1)]
    assert labelled("1|球队赢了\n".encode(), ".num") == ('1|球队赢了|a,"b"\t%s|0.75000\n', ["球队赢了"], [])


def test_labelling_parquet_leaves_pyarrows_allocator_as_it_was(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    parquet.write_table(pyarrow.table({"text": ["好"], "predicted": ["a"]}), tmp_path / "a.parquet")
    (tmp_path / "b.parquet").write_text("text")
    before = pyarrow.default_memory_pool().backend_name
    spec = OutputSpec(LABELS, False)
    for name, fault in (("a", "already a column predicted"), ("b", "not a Parquet file")):
        path = tmp_path / f"{name}.parquet"
        with pytest.raises(UserError, match=fault), open_file(path, spec.input_columns, spec):
            pass
        assert pyarrow.default_memory_pool().backend_name == before
    parquet.write_table(pyarrow.table({"text": ["好"]}), tmp_path / "a.parquet")
    with open_file(tmp_path / "a.parquet", spec.input_columns, spec) as rows:
        assert pyarrow.default_memory_pool().backend_name == "system"
        assert [list(chunk.texts) for chunk in rows.chunks(None)] == [["好"]]
    assert pyarrow.default_memory_pool().backend_name == before


def unlabelled_rows(*lines: str, delimiter: str = "\t", count: int = 12) -> str:
    """A table of ids and texts; some of its lines are replaced."""
    rows = [f"{number}{delimiter}第{number}条" for number in range(count)]
    rows[3 : 3 + len(lines)] = [line.replace("|", delimiter) for line in lines]
    return "\n".join([f"id{delimiter}text", *rows, ""])


# Files, and how many rows and bad rows they have.
JUDGED = {
    "two lone quotes in TSV": (".tsv", unlabelled_rows('3|"一半', "4|中间", '5|另一半"'), 12, 0),
    "two lone quotes in CSV": (".csv", unlabelled_rows('3|"一半', "4|中间", '5|另一半"', delimiter=","), 12, 0),
    "without numbers": (".tsv", 'title\ttext\n甲\t"一半\n乙\t中间\n丙\t另一半"\n', 3, 0),
    "other quotes show quoting": (".csv", 'id,text\n1,"a,b"\n2,"c\n3,d"\n', 2, 0),
    "a quoted header shows quoting": (".tsv", '"id"\t"text"\n"1"\t"a\n2\tb"\n', 1, 0),
    "other quotes show none": (".csv", 'a,text\nx,他说"好"\ny,"c\nz,d"\n', 3, 0),
    "the text before the tab is empty": (".txt", "好\t体育\n\t财经\n坏\t体育\n", 2, 1),
    "brackets, but no JSON": (".txt", "[[哈哈]] 好\n[坏]\n", 2, 0),
    "a brace, but no JSON": (".txt", '{"好" 坏\n好\n', 2, 0),
    "one row by index": (".json", '{"0": {"text": "好", "label": "a"}}', 1, 0),
    "a key that is spelt wrongly once": (".jsonl", '{"text": "好"}\n' * 11 + '{"Text": "好"}\n', 11, 1),
    "an integer of 5,000 digits": (".jsonl", '{"text": "好"}\n{"text": "好", "n": ' + "1" * 5000 + "}\n", 1, 1),
}


@pytest.mark.parametrize("name", JUDGED)
def test_what_could_be_misread(name: str) -> None:
    suffix, content, rows, bad_rows = JUDGED[name]
    _, texts, bad = labelled(content.encode(), suffix)
    assert (len(texts), len(bad)) == (rows, bad_rows), (texts, bad)


def test_a_zero_byte_does_not_make_gb18030_utf16() -> None:
    content = "".join(f"第{number}条新闻\n" for number in range(20)).encode("gb18030")
    _, texts, bad = labelled(content[:9] + b"\x00" + content[9:], ".txt")
    assert len(texts) == 20 and not bad and texts[5] == "第5条新闻"
