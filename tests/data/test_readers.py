"""All formats give the same rows; every fault is a one-line error."""

from __future__ import annotations

import csv
import json
import tempfile
from collections.abc import Callable
from pathlib import Path

import pandas
import pytest
from hypothesis import given
from hypothesis import strategies as st

from distill.data.formats.records import Columns, Row, visible
from distill.data.readers import Reader
from distill.errors import UserError
from distill.storage.encodings import read_text

PAIRS = [("球队今天夺冠", "体育"), ("基金，为什么涨", "财经"), ('他说"好"', "体育")]


def read_rows(path: Path, columns: Columns | None = None) -> list[Row]:
    """All rows, none of which may be set aside."""
    reader = Reader(columns or Columns(), is_strict=True)
    return [placed.row for placed in reader.read([path])]


def clue(pairs: list[tuple[str, str]]) -> str:
    return "\n".join(json.dumps({"label": "1", "label_desc": b, "sentence": a}, ensure_ascii=False) for a, b in pairs)


WRITERS: dict[str, Callable[[Path], object]] = {
    "train.json": lambda p: p.write_text(json.dumps([{"text": a, "label": b} for a, b in PAIRS]), "utf-8"),
    "clue.json": lambda p: p.write_text(clue(PAIRS) + "\n\n", "utf-8"),
    "lines.jsonl": lambda p: p.write_text(clue(PAIRS), "utf-8-sig"),
    "gb.jsonl": lambda p: p.write_text(clue(PAIRS), "gb18030"),
    "table.csv": lambda p: pandas.DataFrame(PAIRS, columns=["标题", "类别"]).to_csv(p, index=False),
    "bom.csv": lambda p: pandas.DataFrame(PAIRS, columns=["text", "label"]).to_csv(
        p, index=False, encoding="utf-8-sig"
    ),
    "table.tsv": lambda p: pandas.DataFrame(PAIRS, columns=["content", "class"]).to_csv(p, sep="\t", index=False),
    "table.parquet": lambda p: pandas.DataFrame(PAIRS, columns=["review", "category"]).to_parquet(p),
    "thucnews.txt": lambda p: p.write_text("\r\n".join("\t".join(pair) for pair in PAIRS), "utf-8", newline=""),
    "gb.txt": lambda p: p.write_text("\n".join("\t".join(pair) for pair in PAIRS), "gb18030"),
}


@pytest.mark.parametrize("name", WRITERS)
def test_all_formats_give_the_same_rows(name: str, tmp_path: Path) -> None:
    WRITERS[name](tmp_path / name)
    rows = read_rows(tmp_path / name)
    assert [(row.text, row.label_name or row.label) for row in rows] == PAIRS


def test_named_columns_take_precedence(tmp_path: Path) -> None:
    path = tmp_path / "many.csv"
    path.write_text("text,label,正文,栏目\n无,无,球队赢了,体育\n", "utf-8")
    assert read_rows(path, Columns("正文", "栏目")) == [Row("球队赢了", "体育", "", 2)]


def test_integers_in_a_column_with_gaps_stay_integers(tmp_path: Path) -> None:
    pandas.DataFrame({"text": ["甲", "乙"], "label": [3.0, 0.0]}).to_parquet(tmp_path / "t.parquet")
    assert [row.label for row in read_rows(tmp_path / "t.parquet")] == ["3", "0"]


def test_half_a_surrogate_pair_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "cut.jsonl").write_text('{"text": "好\\ud83d", "label": 1}', "utf-8")
    (row,) = read_rows(tmp_path / "cut.jsonl")
    assert row.text == "好\ufffd"


ERRORS = {
    "empty.json": ("", "the file is empty"),
    "blank.csv": ("text,label\n", "the file is empty"),
    "broken.json": ('[{"text": "甲", "label": 1},\n{"text": ]', "broken.json:2: broken JSON"),
    "broken.jsonl": ('{"text": "甲", "label": 1}\n{"text": "乙"', "broken.jsonl:2: broken JSON"),
    "list.jsonl": ("[1, 2]", "list.jsonl:1: it is not a JSON object"),
    "nolabel.jsonl": ('{"text": "甲", "label": 1}\n{"text": "乙", "label": null}', ":2: there is no label"),
    "notext.csv": ("text,label\n甲,1\n ,2\n,\n", "notext.csv:3: there is no text ->"),
    "neither.jsonl": ('{"text": "甲", "label": 1}\n{"id": 3}\n', ":2: there is no text and no label"),
    "nocolumn.csv": ("玉米,label\n甲,1\n", "no text column"),
    "commas.csv": ("text,label\n好,1\n好吃,推荐,1\n", "commas.csv:3: 3 cells where the header has 2"),
    "twice.csv": ("text,label,label\n好,1,2\n", "twice.csv:1: 2 columns of one name"),
    "nested.json": ('[{"text": ["甲"], "label": {"x": 1}}]', "nested.json:1: there is no text and no label"),
    "notab.txt": ("甲\t1\n乙\n", "notab.txt:2: there is no label"),
    "words.json": ("good morning", "words.json:1: this is not JSON"),
    "no.xlsx": ("not Excel", "not an Excel file"),
    "no.parquet": ("not parquet", "not a Parquet file"),
}


@pytest.mark.parametrize("name", ERRORS)
def test_errors_say_what_and_where(name: str, tmp_path: Path) -> None:
    content, expected = ERRORS[name]
    (tmp_path / name).write_text(content, "utf-8")
    with pytest.raises(UserError) as error:
        read_rows(tmp_path / name)
    assert expected in str(error.value) and name in str(error.value) and " -> " in str(error.value)


def test_a_missing_file() -> None:
    with pytest.raises(UserError, match="no such file"):
        read_rows(Path("nowhere/train.json"))


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ("好\n".encode() + b"\xff\xfe\xfa\n", r"bytes.txt:2: bytes that are neither UTF-8 nor GB18030"),
        (b"abc\n" + b"\x81\x20\n", r"bytes.txt:2: bytes"),
    ],
)
def test_undecodable_bytes(raw: bytes, expected: str, tmp_path: Path) -> None:
    path = tmp_path / "bytes.txt"
    path.write_bytes(raw)
    with pytest.raises(UserError, match=expected):
        read_text(path)


COMMON = "".join(bytes([lead, trail]).decode("gb2312") for lead in range(0xB0, 0xD7) for trail in range(0xA1, 0xFF))


@given(st.text(COMMON, min_size=3), st.sampled_from(["utf-8", "utf-8-sig", "gb18030"]))
def test_encodings_are_distinguished(text: str, encoding: str) -> None:
    """Some common characters in GB18030 are valid UTF-8 too, but they are never Chinese in UTF-8."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "t.txt"
        path.write_text(f"a{text}\n好", encoding)
        assert read_text(path) == f"a{text}\n好"


@given(st.lists(st.text(st.characters(exclude_categories=("Cs", "Cc"))).map(str.strip).filter(visible), min_size=1))
def test_any_text_survives_json_lines_and_csv(texts: list[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        lines, table = Path(folder) / "t.jsonl", Path(folder) / "t.csv"
        lines.write_text(
            "".join(json.dumps({"text": t, "label": 0}, ensure_ascii=False) + "\n" for t in texts), "utf-8"
        )
        with table.open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([("text", "label"), *((text, 0) for text in texts)])
        for path in (lines, table):
            assert [row.text for row in read_rows(path)] == texts


def test_quotes_in_an_unquoted_tsv_belong_to_its_texts(tmp_path: Path) -> None:
    path = tmp_path / "train.tsv"
    path.write_text('label\ttext_a\n1\t"很好"，他说\n0\t不好"\n1\t"引号只有一半\n0\t最后一行\n', encoding="utf-8")
    assert [row.text for row in read_rows(path)] == ['"很好"，他说', '不好"', '"引号只有一半', "最后一行"]


def test_a_quoted_tsv_may_contain_texts_of_several_lines(tmp_path: Path) -> None:
    path = tmp_path / "train.tsv"
    path.write_text('label\ttext\n1\t"两\n行"\n0\t"他说""好"""\n', encoding="utf-8")
    assert [row.text for row in read_rows(path)] == ["两\n行", '他说"好"']
