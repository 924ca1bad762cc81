"""Unlabelled texts: all formats; texts of the data set are left out; errors are clear."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pandas
import pytest

from distill.config import DataSettings
from distill.data import UNLABELLED, Columns, Dataset, Example, example_id, load_texts, read_unlabelled
from distill.data.readers import Reader
from distill.errors import UserError

TEXTS = ["球队今天夺冠", "基金，为什么涨", '他说"好"']


def dataset(train: str = "甲", dev: str = "乙", test: str = "丙") -> Dataset:
    split = {
        name: tuple(Example(example_id(text), text, 0) for text in texts.split())
        for name, texts in (("train", train), ("dev", dev), ("test", test))
    }
    return Dataset(split["train"], split["dev"], split["test"], ("x", "y"), {})


def read(*paths: Path, columns: Columns | None = None) -> tuple[list[str], dict[str, int]]:
    reader = Reader(columns or Columns(is_labelled=False))
    examples, counts = read_unlabelled(paths, reader, dataset())
    assert all(e.label == UNLABELLED and e.id == example_id(e.text) for e in examples)
    return [example.text for example in examples], counts


def lines(texts: list[str], **more: object) -> str:
    return "".join(json.dumps({"text": text, **more}, ensure_ascii=False) + "\n" for text in texts)


WRITERS: dict[str, Callable[[Path], object]] = {
    "lines.txt": lambda p: p.write_text("\n\n".join(TEXTS) + "\n  \n", "utf-8"),
    "bom.txt": lambda p: p.write_text("\r\n".join(TEXTS), "utf-8-sig", newline=""),
    "gb.txt": lambda p: p.write_text("\n".join(TEXTS), "gb18030"),
    "labelled.txt": lambda p: p.write_text("\n".join(f"{text}\t体育" for text in TEXTS), "utf-8"),
    "lines.jsonl": lambda p: p.write_text(lines([TEXTS[0], "", *TEXTS[1:]]), "utf-8"),
    "gb.jsonl": lambda p: p.write_text(lines(TEXTS), "gb18030"),
    "train.jsonl": lambda p: p.write_text(lines(TEXTS, label=7, label_desc="news"), "utf-8"),
    "lines.json": lambda p: p.write_text("\n" + lines(TEXTS), "utf-8"),
    "array.json": lambda p: p.write_text(json.dumps([{"text": text} for text in TEXTS], indent=1), "utf-8"),
    "table.csv": lambda p: pandas.DataFrame({"id": [1, 2, 3], "标题": TEXTS}).to_csv(p, index=False),
    "gb.csv": lambda p: pandas.DataFrame({"标题": TEXTS}).to_csv(p, index=False, encoding="gb18030"),
    "table.tsv": lambda p: pandas.DataFrame({"text": TEXTS, "label": [0, 1, 0]}).to_csv(p, index=False, sep="\t"),
    "table.parquet": lambda p: pandas.DataFrame({"text": [*TEXTS, None]}).to_parquet(p, row_group_size=2),
}


@pytest.mark.parametrize("name", WRITERS)
def test_all_formats_give_the_same_texts(name: str, tmp_path: Path) -> None:
    WRITERS[name](tmp_path / name)
    assert read(tmp_path / name)[0] == TEXTS


def test_texts_of_the_data_set_are_dropped_and_counted(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("新\n丙\n 丙 \n乙\n甲\n新\n", "utf-8")
    (tmp_path / "b.jsonl").write_text(lines(["甲", "新", "又新"]), "utf-8")
    texts, counts = read(tmp_path / "a.txt", tmp_path / "b.jsonl")
    assert texts == ["新", "又新"]
    assert counts == {
        "unlabelled": 2,
        "unlabelled_repeats": 2,
        "unlabelled_in_train": 2,
        "unlabelled_in_dev": 1,
        "unlabelled_in_test": 2,
    }


def test_a_line_with_a_tab_among_lines_of_text_is_one_text(tmp_path: Path) -> None:
    (tmp_path / "t.txt").write_text("标题\t内容\n一条\n又一条\n", "utf-8")
    assert read(tmp_path / "t.txt")[0] == ["标题\t内容", "一条", "又一条"]


def test_no_files_give_no_texts() -> None:
    texts, counts = read()
    assert texts == [] and set(counts.values()) == {0}


def test_a_named_column_takes_precedence(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("text,正文\n无,有\n", "utf-8")
    assert read(tmp_path / "t.csv", columns=Columns("正文", is_labelled=False))[0] == ["有"]


@pytest.mark.parametrize("name", ["t.txt", "t.jsonl", "t.json", "t.csv"])
def test_files_are_streamed(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No file is read as a whole, and the first row comes before an error in a later one."""
    content = {"t.txt": "好\n坏\n", "t.csv": 'text\n好\n"坏\n'}.get(name, lines(["好"]) + "{broken\n")
    (tmp_path / name).write_text(content, "utf-8")
    monkeypatch.setattr(Path, "read_bytes", None)
    monkeypatch.setattr(Path, "read_text", None)
    assert next(Reader(Columns(is_labelled=False)).stream(tmp_path / name)).row.text == "好"


ERRORS = {
    "empty.txt": ("", "the file is empty"),
    "blank.jsonl": ('{"text": ""}\n{"text": null}\n', "2 of 2 rows cannot be used (blank.jsonl, line 1: there is no"),
    "column.csv": ("id,玉米\n1,好\n", "no text column"),
    "list.jsonl": ("[1, 2]", "2 of 2 rows cannot be used"),
    "columns.txt": ("1\t好\t体育\n2\t坏\t财经\n", "columns.txt:1: 3 columns, one of which holds the texts"),
    "known.txt": ("甲\n丙\n丙\n", "no text is left: all 3 texts are in train (1) and in test (2)"),
    "no.parquet": ("not parquet", "not a Parquet file"),
}


@pytest.mark.parametrize("name", ERRORS)
def test_errors_say_what_and_where(name: str, tmp_path: Path) -> None:
    content, expected = ERRORS[name]
    (tmp_path / name).write_text(content, "utf-8")
    with pytest.raises(UserError) as error:
        read(tmp_path / name)
    assert expected in str(error.value) and name in str(error.value) and " -> " in str(error.value)


def test_a_missing_file_and_bad_bytes(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file"):
        read(tmp_path / "nowhere.txt")
    (tmp_path / "bad.txt").write_bytes("好\n坏".encode() + b"\xff\n")
    assert read(tmp_path / "bad.txt")[0] == ["好"]


@pytest.mark.parametrize("header", ["id\ttext", "text\tid"])
def test_a_header_names_the_texts_of_lines_with_tabs(header: str, tmp_path: Path) -> None:
    is_first = header.startswith("text")
    rows = [f"{text}\t{n}" if is_first else f"{n}\t{text}" for n, text in enumerate(TEXTS)]
    (tmp_path / "a.txt").write_text("\n".join([header, *rows]), "utf-8")
    assert read(tmp_path / "a.txt")[0] == TEXTS


@pytest.mark.parametrize(
    "labels",
    [["新闻", "财经"], ["新闻", "财经", "新闻"], ["新闻", "财经", "体育", "财经", "体育", "体育"]],
)
def test_a_label_with_a_usual_name_of_texts_is_no_header(labels: list[str], tmp_path: Path) -> None:
    texts = [f"{text}{n}" for n, text in enumerate(2 * TEXTS)][: len(labels)]
    rows = (f"{text}\t{label}" for text, label in zip(texts, labels, strict=True))
    (tmp_path / "a.txt").write_text("\n".join(rows), "utf-8")
    assert read(tmp_path / "a.txt")[0] == texts


@pytest.mark.parametrize(("content", "what"), [("id,text\n" + "1\n" * 40, "40 of 40 rows"), ("", "the file is empty")])
def test_of_data_without_labels_a_long_file_hides_no_broken_one(content: str, what: str, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("".join(f"文本{n}\n" for n in range(5000)), "utf-8")
    (tmp_path / "b.csv").write_text(content, "utf-8")
    with pytest.raises(UserError, match=what):
        load_texts(DataSettings(), [tmp_path / "a.txt", tmp_path / "b.csv"], Reader(Columns(is_labelled=False)))
