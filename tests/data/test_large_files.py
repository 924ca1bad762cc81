"""Files that are large, or that a few bytes describe as large: what is read is bounded, and nothing else is lost."""

from __future__ import annotations

import contextlib
import io
import json
import os
import random
import tracemalloc
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import openpyxl
import pandas
import pyarrow
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from distill.data.formats import (
    excel,
    json_records,
    json_stream,
    open_file,
    open_lines,
    parquet_pages,
    text_lines,
)
from distill.data.formats.json_stream import JsonText, TooLong
from distill.data.formats.labelling import BadRow, Chunk, OutputSpec, Position
from distill.data.formats.records import Columns, Row
from distill.data.labels import find_labels
from distill.data.readers import Reader
from distill.errors import UserError
from distill.storage import encodings
from distill.storage.encodings import MAX_LINE, read_text
from distill.text import segmentation
from distill.text.segmentation import Segmenter

SPEC = OutputSpec(("体育", "财经"), True)
UNLABELLED = Columns(is_labelled=False)


def blocks(text: str, size: int) -> Iterator[str]:
    return (text[start : start + size] for start in range(0, len(text), size))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text('ab"\\{}[],: 好'),
    lambda values: st.lists(values, max_size=4) | st.dictionaries(st.text('a"\\{', max_size=3), values, max_size=3),
    max_leaves=8,
)


@given(st.lists(JSON, max_size=6), st.integers(1, 9), st.sampled_from([None, 1]), st.integers(1, 40))
@settings(max_examples=60)
def test_a_stream_has_the_values_of_the_document(items: list[Any], size: int, indent: int | None, longest: int) -> None:
    """However the text is divided into blocks; a value that is too long leaves its place to a mark."""
    text = json.dumps(items, indent=indent, ensure_ascii=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_stream, "BLOCK", 1)
        patch.setattr(json_stream, "MAX_RECORD", longest)
        stream = JsonText(blocks(text, size), "a.json")
        stream.expect("[")
        found = list(stream.items())
        stream.require_end()
    assert len(found) == len(items)
    for one, other in zip(found, items, strict=True):
        if isinstance(one, TooLong):
            assert indent or len(json.dumps(other, ensure_ascii=False)) > longest
        else:
            assert one == other


ROWS = [{"text": f"第{number}条，好", "label": "甲乙"[number % 2]} for number in range(12)]
FRAME = pandas.DataFrame(ROWS)
DOCUMENTS: dict[str, str] = {
    "an array": json.dumps(ROWS),
    "an array, indented": json.dumps(ROWS, indent=1, ensure_ascii=False),
    "arrays of cells": json.dumps([["text", "label"], *([row["text"], row["label"]] for row in ROWS)]),
    "rows in an object": json.dumps({"version": {"a": [1, "]}"]}, "data": ROWS, "more": [[{}]]}),
    "rows of the Hub": json.dumps({"features": [[1]], "rows": [{"row": row} for row in ROWS]}, ensure_ascii=False),
    "objects": "\n".join(json.dumps(row, indent=1, ensure_ascii=False) for row in ROWS),
    "columns": FRAME.to_json(),
    "index": FRAME.to_json(orient="index"),
    "split": FRAME.to_json(orient="split"),
    "values": FRAME.to_json(orient="values"),
    "lists": json.dumps(FRAME.to_dict("list")),
}


@pytest.mark.parametrize("name", DOCUMENTS)
def test_a_document_of_any_size_has_the_same_rows(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A document is large here if it is longer than 60 characters, so that its rows are read one by one."""
    monkeypatch.setattr(json_stream, "MAX_RECORD", 60)
    monkeypatch.setattr(json_stream, "BLOCK", 7)
    monkeypatch.setattr(json_records, "BLOCK", 5)
    file = open_lines(io.BytesIO(DOCUMENTS[name].encode()), "a", ".json", Columns())
    assert [(row.text, row.label) for row in file.rows() if isinstance(row, Row)] == [
        tuple(row.values()) for row in ROWS
    ]


def bad_rows(content: str, suffix: str = ".json") -> tuple[list[str], list[BadRow]]:
    rows = list(open_lines(io.BytesIO(content.encode()), "a", suffix, UNLABELLED).rows())
    return [row.text for row in rows if isinstance(row, Row)], [row for row in rows if isinstance(row, BadRow)]


@pytest.mark.parametrize(
    "value", ['"' + "\\n好" * 40 + '"', "[" * 90 + "]" * 90, "[[],{}," * 30 + "1" + "]" * 30, "1" * 90]
)
def test_a_record_that_is_too_long_is_one_bad_row(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_stream, "MAX_RECORD", 60)
    monkeypatch.setattr(json_stream, "BLOCK", 7)
    record = '{"text":\n"好"}'
    for content in (f'[{record}, {{"a": {value}}}, {record}]', f'{record}\n{{"a":\n{value}}}\n{record}'):
        texts, bad = bad_rows(content)
        assert texts == ["好", "好"] and [(row.line, row.why) for row in bad] == [
            (2, "the record is longer than 60 characters")
        ]


BROKEN = {
    "a letter": (
        '[{"text": "好"},\n {"text": b},' + ' {"text": "好"},' * 20 + "1]",
        "a:2: broken JSON: Expecting value",
    ),
    "no comma": (
        '[{"text": "好"},' + ' {"text": "好"},' * 9 + '\n1 {"text": "好"}]',
        "a:2: broken JSON: Expecting ','",
    ),
    "an end within a record": (
        "[" + ' {"text": "好"},' * 9 + '\n{"text": "' + "a" * 99,
        "the text ends within a value",
    ),
    "an end within an object": ('{"data": [' + ' {"text": "好"},' * 9 + "1]", "the text ends within a value"),
    "more": ("[" + ' {"text": "好"},' * 9 + "1]\n[", "a:2: broken JSON: Extra data"),
    "a large object": ('{"a":\n"' + "a" * 9999 + '"}', "a JSON object of more than 60 characters that cannot be"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_document_is_refused(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_stream, "MAX_RECORD", 60)
    monkeypatch.setattr(json_records, "MAX_RECORD", 60)
    monkeypatch.setattr(json_stream, "BLOCK", 7)
    monkeypatch.setattr(json_stream, "MAX_WHOLE", 1000)
    content, problem = BROKEN[name]
    with pytest.raises(UserError) as error:
        bad_rows(content)
    assert problem in str(error.value) and error.value.hint


def peak_of(path: Path, columns: Columns = UNLABELLED) -> tuple[int, int]:
    """How many rows a file has, and how many bytes reading them took at most."""
    tracemalloc.start()
    try:
        with open_file(path, columns) as file:
            return sum(isinstance(row, Row) for row in file.rows()), tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


ONE_LINE: dict[str, tuple[str, str, str, str, int]] = {  # name, beginning, middle, end, rows
    "an array": ("a.json", "[", ', {"text": "' + "好" * 80_000 + '"}', "]", 99),
    "one record": ("a.json", '[{"text": "好"}, {"text": "', "好" * 80_000, '"}, {"text": "好"}]', 2),
    "a text": ("a.txt", "", "好" * 80_000, "\n好\n", 1),
    "a cell": ("a.csv", "text,label\n", "好" * 80_000, "\n好,甲\n", 1),
    "a quoted cell": ("a.csv", 'text,label\n"', "好" * 80_000, '"\n好,甲\n', 1),
}


@pytest.mark.parametrize("name", ONE_LINE)
def test_one_line_does_not_fill_the_memory(name: str, tmp_path: Path) -> None:
    """A line of 24 MB, in which no line feed or blank shows where a character begins."""
    file, before, middle, after, rows = ONE_LINE[name]
    content = before + middle.lstrip(", ") + middle * 98 + after
    (tmp_path / file).write_text(content, "utf-8")
    found, peak = peak_of(tmp_path / file)
    assert found == rows and peak < 22 * 2**20, peak


def test_the_sample_of_the_encoding_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encodings, "SAMPLE_SIZE", 30)
    lines = iter([b"\xff\n", *["球队今天\n".encode()] * 9])
    assert encodings.sample_encoding(lines, "a") == "utf-8" and len(list(lines)) == 6
    for offset in range(3):  # where the beginning of a line that is too long ends within a character
        line = (b"a" * offset + "好".encode() * 2**19)[:MAX_LINE]
        assert encodings.sample_encoding([line], "a") == "utf-8"


def test_small_files_are_not_large(tmp_path: Path) -> None:
    (tmp_path / "class.txt").write_bytes(b"a" * (encodings.MAX_FILE + 1))
    with pytest.raises(UserError, match="longer than 16,777,216 bytes"):
        read_text(tmp_path / "class.txt")
    for number, size in enumerate([1, MAX_LINE, MAX_LINE + 1]):
        path = tmp_path / "train" / "甲乙"[number % 2] / f"{number}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("a" * size)
    reader = Reader(UNLABELLED)
    assert sorted(len(placed.row.text) for placed in reader.stream(tmp_path / "train")) == [1, MAX_LINE]
    assert [row.reason for row in reader.set_aside] == [f"it is longer than {MAX_LINE:,} bytes"]


def test_a_user_dictionary_is_not_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segmentation, "MAX_ENTRIES", 3)
    (tmp_path / "words.txt").write_text("好好\n学习\n天天\n", "utf-8")
    assert Segmenter(tmp_path / "words.txt")
    (tmp_path / "words.txt").write_text("好好\n学习\n天天\n向上\n", "utf-8")
    with pytest.raises(UserError, match="this dictionary is longer than 3 lines"):
        Segmenter(tmp_path / "words.txt")


CLASSES = {
    "class.txt": ("['a', 'b']\n", "a line is not one name: several labels"),
    "labels.json": ('{"label": ["a", "b"]}\n', "no label and label_desc"),
    "labels.jsonl": ('{"label": ' + "1" * 5000 + "}\n", "no label and label_desc"),
}


@pytest.mark.parametrize("name", CLASSES)
def test_damaged_names_of_classes(name: str, tmp_path: Path) -> None:
    content, problem = CLASSES[name]
    (tmp_path / name).write_text(content)
    with pytest.raises(UserError, match=problem):
        find_labels([tmp_path], [])
    assert find_labels([tmp_path / "none"], [Row("a", "1" * 5000, "", 1), Row("b", "2", "", 2)]).names == (
        "1" * 5000,
        "2",
    )


def write_parquet(path: Path, columns: dict[str, Any], **options: Any) -> None:
    parquet.write_table(pyarrow.table(columns), path, **options)


def repeated(count: int, text: str) -> pyarrow.DictionaryArray:
    return pyarrow.DictionaryArray.from_arrays(pyarrow.array([0] * count, pyarrow.int32()), pyarrow.array([text]))


def test_a_long_string_of_many_rows_is_read_in_small_batches(tmp_path: Path) -> None:
    """2,000 rows of 300 kB, which the file holds once: 600 MB."""
    path = tmp_path / "a.parquet"
    write_parquet(path, {"text": repeated(2000, "好" * 10**5), "n": list(range(2000))})
    assert path.stat().st_size < 500_000
    with open_file(path, SPEC.input_columns, SPEC) as file:
        chunk = next(file.chunks(None))
        assert 100 < len(chunk.texts) <= parquet_pages.MAX_BATCH // 300_000
    with open_file(path, UNLABELLED) as file:
        tracemalloc.start()
        next(file.rows())
        assert tracemalloc.get_traced_memory()[1] < 2**27
        tracemalloc.stop()


def rows_of_batch(path: Path, max_rows: int) -> int:
    with contextlib.ExitStack() as stack:
        file = stack.enter_context(open_file(path, SPEC.input_columns, SPEC))
        content = stack.enter_context(path.open("rb"))
        return parquet_pages.rows_per_batch(content, file._file, 0, None, max_rows)  # type: ignore[attr-defined]


TEXTS = [f"第{number}条新闻" * 3 for number in range(5000)]
OPTIONS: dict[str, dict[str, Any]] = {
    "usual": {},
    "pages of version 2": {"data_page_version": "2.0", "compression": "zstd"},
    "gzip": {"compression": "gzip"},
    "no dictionary": {"use_dictionary": False, "compression": "none"},
    "indices": {"write_page_index": True, "data_page_size": 1000},
    "statistics": {"write_statistics": True, "use_dictionary": ["text"], "compression": "brotli"},
}


@pytest.mark.parametrize("name", OPTIONS)
def test_usual_files_are_read_in_full_batches(name: str, tmp_path: Path) -> None:
    write_parquet(tmp_path / "a.parquet", {"text": TEXTS, "tags": [["a", "b"]] * 5000}, **OPTIONS[name])
    assert rows_of_batch(tmp_path / "a.parquet", 4096) == 4096
    with open_file(tmp_path / "a.parquet", UNLABELLED) as file:
        assert [row.text for row in file.rows() if isinstance(row, Row)] == TEXTS


def test_strings_that_repeat_each_other_are_read_in_small_batches(tmp_path: Path) -> None:
    options = {"use_dictionary": False, "column_encoding": {"text": "DELTA_BYTE_ARRAY"}}
    write_parquet(tmp_path / "a.parquet", {"text": ["好" * 10**4] * 500}, **options)
    assert rows_of_batch(tmp_path / "a.parquet", 4096) < 1200


def test_pages_that_are_too_large_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.parquet"
    write_parquet(path, {"text": ["a" * 2**20, "b"]}, use_dictionary=False)
    monkeypatch.setattr(parquet_pages, "MAX_PAGE", 2**20)
    with (
        open_file(path, UNLABELLED) as file,
        pytest.raises(UserError, match=r"a page of 1,048,\d+ bytes; at most 1,048,576"),
    ):
        list(file.rows())
    write_parquet(path, {"text": ["a"] * 2, "tags": [["b"] * 90, []]})
    monkeypatch.setattr(parquet_pages, "MAX_NESTED", (50, 10))
    with pytest.raises(parquet_pages.PageError, match="91 values in 2 rows"):
        rows_of_batch(path, 4096)


EXTREME = (b"\xff" * 4, b"\0" * 4, b"\xff\xff\xff\x7f", b"\xff\xff\xff\xff\x0f")
DAMAGES: list[Callable[[random.Random, bytes, int], bytes]] = [
    lambda rng, c, i: c[:i] + bytes([c[i] ^ (1 << rng.randrange(8))]) + c[i + 1 :],
    lambda rng, c, i: c[:i] + rng.choice(EXTREME) + c[i + 4 :],
    lambda rng, c, i: c[:i] + rng.randbytes(3) + c[i + 3 :],
    lambda rng, c, i: c[:i] + c[i + rng.randint(1, 5) :],
    lambda rng, c, i: c[:i] + rng.randbytes(rng.randint(1, 5)) + c[i:],
]


def damaged_parquet(rng: random.Random) -> bytes:
    """A small file, mostly with a damage in its footer or in the headers of its pages."""
    count, buffer = rng.randint(5, 60), io.BytesIO()
    columns = {
        "text": ["".join(rng.choices("今天的球队基金", k=rng.randint(1, 9))) for _ in range(count)],
        "label": rng.choices("甲乙", k=count),
        "tags": [["a", "b"] * rng.randint(0, 2) for _ in range(count)],
    }
    schema = pyarrow.table(columns).replace_schema_metadata({"huggingface": '{"info": {"features": {"label": [1]}}}'})
    options = {"data_page_version": rng.choice(["1.0", "2.0"]), "use_dictionary": rng.random() < 0.7}
    parquet.write_table(schema, buffer, 10, compression=rng.choice(["snappy", "zstd", "gzip", "none"]), **options)
    content = buffer.getvalue()
    for _ in range(rng.choice([1, 1, 1, 2, 5])):
        place = rng.randrange(len(content)) if rng.random() < 0.6 else max(0, len(content) - 1 - rng.randrange(900))
        content = rng.choice(DAMAGES)(rng, content, place) or b"P"
    return content


def check_damaged_parquet(path: Path, seed: int) -> None:
    path.write_bytes(damaged_parquet(random.Random(seed)))
    try:
        with open_file(path, Columns()) as file:
            list(file.rows())
    except UserError as error:
        assert "\n" not in str(error) and error.hint
    try:
        with open_file(path, SPEC.input_columns, SPEC) as file:
            list(file.chunks(None))
    except UserError as error:
        assert "\n" not in str(error) and error.hint


def test_damaged_parquet(tmp_path: Path) -> None:
    for seed in range(80):
        check_damaged_parquet(tmp_path / "a.parquet", seed)


@pytest.mark.parametrize("seed", [1524, 1808])
def test_damaged_size_statistics_do_not_end_the_process(tmp_path: Path, seed: int) -> None:
    check_damaged_parquet(tmp_path / "a.parquet", seed)


@pytest.mark.slow
def test_fifteen_hundred_damaged_parquet_files(tmp_path: Path) -> None:
    for seed in range(1500):
        check_damaged_parquet(tmp_path / "a.parquet", 1000 + seed)


def write_sheet(path: Path, rows: str) -> None:
    """An Excel file with these rows in XML after the header."""
    book, small = openpyxl.Workbook(), io.BytesIO()
    book.active.append(["text"])
    book.save(small)
    head = '<row r="1"><c r="A1" t="str"><v>text</v></c></row>'
    with zipfile.ZipFile(small) as source, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as target:
        for name in source.namelist():
            content = f"<worksheet><sheetData>{head}{rows}</sheetData></worksheet>"
            target.writestr(name, content if name.endswith("sheet1.xml") else source.read(name))


@pytest.mark.parametrize("cell", ["XFD1048576", "T1048576"])
def test_a_sheet_of_far_cells_is_refused(cell: str, tmp_path: Path) -> None:
    """Two cells, in the opposite corners of a sheet of 17 thousand million or 20 million."""
    write_sheet(tmp_path / "a.xlsx", f'<row r="1048576"><c r="{cell}"><v>1</v></c></row>')
    with pytest.raises(UserError, match="needs more than 320 MB"), open_file(tmp_path / "a.xlsx", UNLABELLED):
        pass


def test_a_row_of_a_sheet_that_is_too_long_is_set_aside(tmp_path: Path) -> None:
    cell = f'<c t="str"><v>{"a" * 2**19}</v></c>'
    write_sheet(tmp_path / "a.xlsx", f"<row>{cell}</row><row>{cell * 3}</row><row><c><v>7</v></c></row>")
    with open_file(tmp_path / "a.xlsx", UNLABELLED) as file:
        texts = [row.text[:3] if isinstance(row, Row) else row.why for row in file.rows()]
    assert texts == ["aaa", "the row is longer than 1,048,576 characters", "7"]


def test_an_excel_file_that_unpacks_to_too_much_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_sheet(tmp_path / "a.xlsx", " " * 10**6)
    monkeypatch.setattr(excel, "MAX_UNPACKED", 10**6)
    with pytest.raises(UserError, match=r"it unpacks to 1,\d+,\d+ bytes"), open_file(tmp_path / "a.xlsx", UNLABELLED):
        pass


def test_labelling_a_document_resumes_at_every_chunk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_lines, "CHUNK_ROWS", 5)

    def chunks(start: Position | None) -> list[Chunk]:
        return list(open_lines(io.BytesIO(content), "a", ".json", SPEC.input_columns, SPEC).chunks(start))

    content = json.dumps([*ROWS, 1, *ROWS], ensure_ascii=False).encode()
    found = chunks(None)
    assert [len(chunk.rows) + len(chunk.bad) for chunk in found] == [5] * 5
    for index, chunk in enumerate(found):
        assert chunks(chunk.end) == found[index + 1 :]
    monkeypatch.setattr(text_lines, "CHUNK_BYTES", 60)
    assert max(len(chunk.texts) for chunk in chunks(None)) == 2


@pytest.mark.parametrize("metadata", ['{"info": {"features": {"label": {"names": 5}}}}', "[" * 10**5])
def test_metadata_that_name_no_classes_are_ignored(metadata: str, tmp_path: Path) -> None:
    table = pyarrow.table({"text": ["好"], "label": [1]}).replace_schema_metadata({"huggingface": metadata})
    parquet.write_table(table, tmp_path / "a.parquet")
    with open_file(tmp_path / "a.parquet", Columns()) as file:
        assert list(file.rows()) == [Row("好", "1", "", 1)]


def test_a_column_whose_name_is_no_text(tmp_path: Path) -> None:
    parquet.write_table(pyarrow.table({"text": ["好"], "label": [1]}), tmp_path / "a.parquet", store_schema=False)
    content = (tmp_path / "a.parquet").read_bytes()
    (tmp_path / "a.parquet").write_bytes(content.replace(b"label", b"\xff\xfebel"))
    with (
        pytest.raises(UserError, match="not a Parquet file, or a damaged one"),
        open_file(tmp_path / "a.parquet", Columns()),
    ):
        pass


def test_a_column_with_a_dot_has_limits_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_parquet(tmp_path / "a.parquet", {"text.zh": ["a" * 2**20, "b"]}, use_dictionary=False)
    monkeypatch.setattr(parquet_pages, "MAX_PAGE", 2**20)
    with (
        open_file(tmp_path / "a.parquet", Columns("text.zh", is_labelled=False)) as file,
        pytest.raises(UserError, match=r"a page of 1,048,\d+ bytes.* -> write the file again, with smaller pages"),
    ):
        list(file.rows())


def test_a_column_of_long_vectors_is_no_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """1,024 numbers per row, as sentence encoders give them; pyarrow writes a million rows into a row group."""
    monkeypatch.setattr(parquet_pages, "MAX_NESTED", (1000, parquet_pages.MAX_NESTED[1]))
    vectors = pyarrow.array([[0.5] * 1024] * 2, pyarrow.list_(pyarrow.float32()))
    parquet.write_table(pyarrow.table({"text": ["好", "差"], "vector": vectors}), tmp_path / "a.parquet")
    spec = OutputSpec(("a", "b"), False, "", False)
    with open_file(tmp_path / "a.parquet", UNLABELLED, spec) as file:
        assert [len(chunk.texts) for chunk in file.chunks(None)] == [2]


def test_a_file_that_becomes_shorter_while_it_is_read_is_an_error(tmp_path: Path) -> None:
    """The process would die of a bus error if the file were mapped into memory."""
    path = tmp_path / "a.parquet"
    rows = pyarrow.table({"text": [f"{number}" * 2000 for number in range(400)], "label": ["a"] * 400})
    parquet.write_table(rows, path, row_group_size=100, compression="none", use_dictionary=False)
    with open_file(path, Columns()) as file, pytest.raises(UserError, match="not a Parquet file, or a damaged one"):
        for number, _ in enumerate(file.rows()):
            if number == 0:
                os.truncate(path, 1000)


def test_a_header_that_repeats_long_strings(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    options = {"compression": "none", "use_dictionary": False, "write_statistics": True}
    parquet.write_table(pyarrow.table({"text": ["a" * 300_000, "b" * 300_000]}), path, **options)
    with open_file(path, UNLABELLED) as file:
        assert [len(row.text) for row in file.rows()] == [300_000] * 2
