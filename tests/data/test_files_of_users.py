"""Data files as people have them: every shape gives the same rows, and what the program decides is said in one line."""

from __future__ import annotations

import bz2
import dataclasses
import gzip
import json
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from distill.config import DataSettings
from distill.data import Dataset, load
from distill.errors import UserError

SUBJECTS = {
    "体育": ("海港队", "铁塔队", "雪山队"),
    "财经": ("松原保险", "北岭基金", "银河股份"),
    "美食": ("老街面馆", "码头海鲜", "山里火锅"),
}
VERBS = {
    "体育": ("点球出局", "更换主帅", "主场告负", "客场取胜"),
    "财经": ("盈利上升", "公布分红", "接受审计", "回购股票"),
    "美食": ("服务热情", "汤底鲜香", "排队太久", "味道偏咸"),
}
ROWS = [(subject + verb, label) for label in SUBJECTS for subject in SUBJECTS[label] for verb in VERBS[label]]
ROWS = [row for first in range(4) for row in ROWS[first::4]]  # the classes alternate
TABLE = pd.DataFrame(ROWS, columns=["text", "label"])
NUMBERS = {label: number for number, label in enumerate(SUBJECTS)}

Content = str | bytes | Callable[[Path], object]


def csv_of(header: str = "text,label", delimiter: str = ",") -> str:
    rows = [header, *(f"{text},{label}" for text, label in ROWS)] if header else [f"{t},{c}" for t, c in ROWS]
    return "\n".join(rows).replace(",", delimiter) + "\n"


def json_rows(**names: str) -> list[dict[str, Any]]:
    text, label = names.get("text", "text"), names.get("label", "label")
    return [{text: row[0], label: row[1]} for row in ROWS]


def lines_of(records: list[Any], indent: int | None = None) -> str:
    return "".join(json.dumps(record, ensure_ascii=False, indent=indent) + "\n" for record in records)


def zstd(content: str) -> Callable[[Path], object]:
    def write(path: Path) -> None:
        import pyarrow

        with pyarrow.CompressedOutputStream(str(path), "zstd") as file:
            file.write(content.encode())

    return write


def parquet(table: pd.DataFrame, class_names: list[str] | None = None) -> Callable[[Path], object]:
    """A Parquet file, with the metadata of the Hugging Face Hub if there are names of classes."""

    def write(path: Path) -> None:
        import pyarrow
        from pyarrow import parquet

        content = pyarrow.Table.from_pandas(table)
        if class_names:
            features = {"label": {"names": class_names, "_type": "ClassLabel"}, "text": {"dtype": "string"}}
            content = content.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
        parquet.write_table(content, path)

    return write


def write(folder: Path, files: dict[str, Content]) -> DataSettings:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if callable(content):
            content(path)
        else:
            path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return DataSettings(data=str(folder))


def pairs(data: Dataset) -> set[tuple[str, str]]:
    return {(example.text, data.labels[example.label]) for example in (*data.train, *data.dev, *data.test)}


LABEL_FIRST = "".join(f"{label}\t{text}\n" for text, label in ROWS)
COLUMNS = "text in column text, label in column label"
NUMBERED = TABLE.assign(label=TABLE.label.map(NUMBERS))
STUDIO = [
    {
        "id": number,
        "data": {"text": text},
        "annotations": [
            {"was_cancelled": True, "result": [{"type": "choices", "value": {"choices": ["别的"]}}]},
            {"result": [{"type": "choices", "value": {"choices": [label]}}]},
        ],
    }
    for number, (text, label) in enumerate(ROWS)
]

SHAPES: dict[str, tuple[dict[str, Content], str]] = {
    "CSV": ({"train.csv": csv_of()}, f"train.csv: {COLUMNS}"),
    "names in other case": ({"Train.CSV": csv_of(" Text , LABEL ")}, "text in column Text, label in column LABEL"),
    "Chinese names": ({"train.csv": csv_of("评论内容,情感标签")}, "text in column 评论内容, label in column 情感标签"),
    "PaddleNLP": ({"train.tsv": csv_of("text_a,label", "\t")}, "text in column text_a"),
    "tabs in .csv": ({"train.csv": csv_of(delimiter="\t")}, f"separated by tabs, {COLUMNS}"),
    "semicolons": ({"train.csv": csv_of(delimiter=";")}, "separated by semicolons"),
    "bars in .txt": ({"train.txt": csv_of(delimiter="|")}, "separated by vertical bars"),
    "CSV without header": ({"train.csv": csv_of("")}, "no header, text in column 1, label in column 2 (--text_column"),
    "id, label, text": (
        {"train.tsv": "".join(f"{n}\t{label}\t{text}\n" for n, (text, label) in enumerate(ROWS))},
        "no header, text in column 3, label in column 2",
    ),
    "THUCNews": ({"train.txt": csv_of("", "\t")}, "text, then label, separated by a tab (--text_column 2"),
    "cnews": ({"cnews.train.txt": LABEL_FIRST, "cnews.vocab.txt": "好\n"}, "label, then text, separated by a tab"),
    "cnews sorted by class": ({"train.txt": "".join(sorted(LABEL_FIRST.splitlines(True)))}, "label, then text"),
    "header in .txt": ({"train.txt": csv_of("text_a,label", "\t")}, "separated by tabs, text in column text_a"),
    "old Macintosh": ({"train.txt": csv_of("", "\t").replace("\n", "\r")}, "lines end with carriage returns"),
    "old Macintosh CSV": ({"train.csv": csv_of().replace("\n", "\r")}, "lines end with carriage returns"),
    "Excel's empty columns": (
        {"train.csv": b"\xef\xbb\xbf" + (csv_of().replace("\n", ",,\r\n") + ",,,\r\n,,,\r\n").encode()},
        COLUMNS,
    ),
    "GB18030": ({"train.csv": csv_of().encode("gb18030")}, "GB18030"),
    "UTF-16": ({"train.csv": csv_of().encode("utf-16")}, "UTF-16"),
    "UTF-16 without a mark": ({"train.csv": csv_of().encode("utf-16-le")}, "UTF-16"),
    "UTF-16, big end first": ({"train.txt": csv_of("", "\t").encode("utf-16-be")}, "UTF-16"),
    "gzip": ({"train.csv.gz": gzip.compress(csv_of().encode())}, "train.csv.gz: gzip"),
    "bzip2": ({"train.tsv.bz2": bz2.compress(csv_of(delimiter="\t").encode())}, "bzip2"),
    "zstd": ({"train.jsonl.zst": zstd(lines_of(json_rows()))}, "zstd"),
    "gzip in UTF-16": ({"train.csv.gz": gzip.compress(csv_of().encode("utf-16"))}, "gzip, UTF-16"),
    "all quoted": ({"train.tsv": lambda path: TABLE.to_csv(path, sep="\t", index=False, quoting=1)}, COLUMNS),
    "pandas' index": ({"train.csv": TABLE.to_csv}, COLUMNS),
    "JSON lines": ({"train.jsonl": lines_of(json_rows())}, f"one JSON object per line, {COLUMNS}"),
    "JSON lines in .csv": ({"train.csv": lines_of(json_rows())}, "one JSON object per line"),
    "CSV in .json": ({"train.json": csv_of()}, "separated by commas"),
    "CLUE": (
        {"train.json": lines_of([{"label": f"1{NUMBERS[c]}", "label_desc": c, "sentence": t} for t, c in ROWS])},
        "text in column sentence, label in column label, its name in label_desc",
    ),
    "iflytek": (
        {"train.json": lines_of([{"label": str(NUMBERS[c]), "label_des": c, "sentence": t} for t, c in ROWS])},
        "label in column label, its name in label_des",
    ),
    "array": ({"train.json": json.dumps(json_rows())}, f"a JSON document of {len(ROWS)} items"),
    "indented objects": ({"train.json": lines_of(json_rows(), indent=2)}, "a JSON document"),
    "wrapped rows": ({"train.json": json.dumps({"version": "1.0", "data": json_rows()})}, "a JSON document"),
    "Navicat": ({"train.json": json.dumps({"RECORDS": json_rows()}, indent=1)}, "a JSON document"),
    "pandas' columns": ({"train.json": TABLE.to_json()}, "a JSON document"),
    "pandas' rows": ({"train.json": TABLE.to_json(orient="index")}, "a JSON document"),
    "pandas' split": ({"train.json": TABLE.to_json(orient="split")}, "a JSON document"),
    "pandas' values": ({"train.json": TABLE.to_json(orient="values")}, "a JSON document"),
    "object of lists": ({"train.json": json.dumps(TABLE.to_dict("list"))}, "a JSON document"),
    "doccano": ({"train.jsonl": lines_of([{"id": 1, "text": t, "label": [c]} for t, c in ROWS])}, COLUMNS),
    "Label Studio": ({"train.json": json.dumps(STUDIO)}, "a JSON document"),
    "Label Studio's CSV": (
        {"train.csv": "text,id,sentiment,annotator\n" + "".join(f"{t},7,{c},1\n" for t, c in ROWS)},
        "label in column sentiment",
    ),
    "fastText": ({"train.txt": "".join(f"__label__{label} {text}\n" for text, label in ROWS)}, "fastText's __label__"),
    "label at the end": ({"train.txt": "".join(f"{text} __label__{label}\n" for text, label in ROWS)}, "fastText's"),
    "Toutiao": (
        {"train.txt": "".join(f"65{n}_!_10{NUMBERS[c]}_!_{c}_!_{t}_!_关键,词\n" for n, (t, c) in enumerate(ROWS))},
        "Toutiao's _!_",
    ),
    "Parquet": ({"train.parquet": parquet(TABLE)}, f"Parquet, {COLUMNS}"),
    "Parquet of bytes": ({"train.parquet": parquet(TABLE.assign(text=TABLE.text.str.encode("utf-8")))}, "Parquet"),
    "Parquet of categories": ({"train.parquet": parquet(TABLE.astype({"label": "category"}))}, "Parquet"),
    "Parquet in .csv": ({"train.csv": parquet(TABLE)}, "Parquet"),
    "Hub": (
        {
            "data/train-00000-of-00002.parquet": parquet(NUMBERED[:20], list(SUBJECTS)),
            "data/train-00001-of-00002.parquet": parquet(NUMBERED[20:], list(SUBJECTS)),
        },
        "train-00001-of-00002.parquet: Parquet, text in column text, label in column label (names from the metadata)",
    ),
    "converted by the Hub": ({"train/0000.parquet": parquet(TABLE)}, "0000.parquet: Parquet"),
    "shards of JSON lines": (
        {f"train-0000{n}-of-00003.jsonl": lines_of(json_rows()[n::3]) for n in range(3)},
        "train-00002-of-00003.jsonl: one JSON object per line",
    ),
    "a folder per class": ({f"train/{c}/{n}.txt": t for n, (t, c) in enumerate(ROWS)}, "one folder per class"),
    "classes without splits": ({f"{c}/{n}.txt": t for n, (t, c) in enumerate(ROWS)}, "one folder per class"),
    "Excel": (
        {"train.xlsx": lambda path: TABLE.to_excel(path, index=False)},
        f"first sheet of an Excel file, {COLUMNS}",
    ),
}


@pytest.mark.parametrize("name", SHAPES)
def test_every_shape_gives_the_same_rows(name: str, tmp_path: Path) -> None:
    if name == "Excel":
        pytest.importorskip("openpyxl")
    files, note = SHAPES[name]
    data = load(write(tmp_path, files), seed=1)
    assert pairs(data) == set(ROWS) and data.counts["train_rows_read"] == len(ROWS)
    assert data.labels == tuple(sorted(SUBJECTS)) and not data.set_aside
    assert note in "\n".join(data.notes)


LISTS = {"version": 1, "data": json_rows(), "meta": [{"author": "无名"}], "errors": []}
LARGE = {"data": json_rows(), "meta": [{"author": "无名" * 2**20}]}


@pytest.mark.parametrize(
    ("document", "note"), [(LISTS, "only the list data of data, meta"), (LARGE, "only the list data")]
)
def test_a_list_that_is_not_read_is_named(document: dict[str, Any], note: str, tmp_path: Path) -> None:
    data = load(write(tmp_path, {"train.json": json.dumps(document, ensure_ascii=False)}), seed=1)
    assert pairs(data) == set(ROWS) and f", {note}, text in column text" in "\n".join(data.notes)


def test_sheets_that_are_not_read_are_counted(tmp_path: Path) -> None:
    pytest.importorskip("openpyxl")
    with pd.ExcelWriter(tmp_path / "train.xlsx") as book:
        for sheet in ("一", "二", "三"):
            TABLE.to_excel(book, sheet_name=sheet, index=False)
    data = load(DataSettings(data=str(tmp_path)), seed=1)
    assert pairs(data) == set(ROWS) and "first of 3 sheets of an Excel file, text in" in "\n".join(data.notes)


def test_columns_are_chosen_by_number(tmp_path: Path) -> None:
    """Where there is no header, for tables and for lines of text."""
    for name, content in (("train.csv", csv_of("")), ("train.txt", csv_of("", "\t")), ("train.tsv", csv_of("", "\t"))):
        write(tmp_path / name, {name: content})
        settings = DataSettings(data=str(tmp_path / name), text_column="2", label_column="1")
        with pytest.raises(UserError, match=r"two labels|fewer than two classes"):
            load(settings, seed=1)
        settings = DataSettings(data=str(tmp_path / name), text_column="1", label_column="2")
        assert pairs(load(settings, seed=1)) == set(ROWS)


def test_several_candidates_are_named_and_columns_are_joined(tmp_path: Path) -> None:
    rows = "".join(f"第{n}期,{text},{label},{n % 2}\n" for n, (text, label) in enumerate(ROWS))
    settings = write(tmp_path, {"train.csv": f"title,content,cat,label\n{rows}", "notes.csv": "a,b\n"})
    (note, unused) = load(settings, seed=1).notes
    assert "text in column title (and not in content: --text_column title,content joins them)" in note
    assert "label in column label (and not in cat: --label_column cat chooses another)" in note
    assert unused == "not read: notes.csv"
    data = load(DataSettings(data=str(tmp_path), text_column="title, content", label_column="cat"), seed=1)
    assert pairs(data) == {(f"第{n}期 {text}", label) for n, (text, label) in enumerate(ROWS)}


@pytest.mark.parametrize("split", ["dev", "validation", "valid", "val", "eval"])
def test_names_of_the_dev_file(split: str, tmp_path: Path) -> None:
    settings = write(tmp_path, {"train.csv": csv_of(), f"{split}.csv": "text,label\n新队夺冠,体育\n"})
    assert [example.text for example in load(settings, seed=1).dev] == ["新队夺冠"]


def test_quotes_in_texts_merge_no_rows(tmp_path: Path) -> None:
    """A quote at the beginning of one text and at the end of another one, some rows later."""
    for suffix, delimiter in ((".tsv", "\t"), (".csv", ",")):
        rows = [f"{text}{delimiter}{label}" for text, label in ROWS]
        rows[5], rows[17] = f'"{rows[5]}', rows[17].replace(delimiter, f'"{delimiter}')
        settings = write(tmp_path / suffix, {f"train{suffix}": "\n".join([f"text{delimiter}label", *rows])})
        data = load(settings, seed=1)
        assert data.counts["train_rows_read"] == len(ROWS)
        assert {(f'"{ROWS[5][0]}', ROWS[5][1]), (f'{ROWS[17][0]}"', ROWS[17][1])} <= pairs(data)


def test_unusable_rows_are_set_aside_with_their_place_and_reason(tmp_path: Path) -> None:
    content = csv_of() + "\n,体育\n好看,\n\u200b\ufeff,体育\n甲,乙,体育\n坏".encode().decode()
    settings = write(tmp_path, {"train.csv": content.encode() + b"\xe5\x8f,\xe4\xbd\x93\n"})
    data = load(settings, seed=1)
    last = len(ROWS) + 1
    assert [(row.number - last, row.reason.partition(";")[0]) for row in data.set_aside] == [
        (2, "there is no text"),
        (3, "there is no label"),
        (4, "there is no text"),
        (5, "3 cells where the header has 2"),
        (6, "byte 4 of the line is not UTF-8"),
    ]
    assert data.counts["set_aside"] == 5 and pairs(data) == set(ROWS)
    assert json.loads(data.set_aside[0].to_json()) == {
        "file": str(tmp_path / "train.csv"),
        "line": last + 2,
        "reason": "there is no text",
        "raw": ",体育",
    }
    with pytest.raises(UserError, match=f"train.csv:{last + 2}: there is no text -> .*--strict"):
        load(settings, seed=1, is_strict=True)


def test_too_many_unusable_rows_stop(tmp_path: Path) -> None:
    """More than ten, and more than one in a hundred."""
    good = "".join(f"第{n}条,{'01'[n % 2]}\n" for n in range(1100))
    for bad, is_too_much in ((10, False), (11, False), (12, True)):
        settings = write(tmp_path, {"train.csv": f"text,label\n{good}" + ",1\n" * bad})
        if is_too_much:
            with pytest.raises(UserError, match=r"12 of 1,112 rows cannot be used \(train.csv, line 1102: there is no"):
                load(settings, seed=1)
        else:
            assert load(settings, seed=1).counts["set_aside"] == bad


def test_one_label_however_it_is_written(tmp_path: Path) -> None:
    forms = ["0", "0.0", "1", "1.0", "1.00", " 1 "]
    train = "".join(f"第{n}条,{forms[n % 6]}\n" for n in range(60))
    settings = write(tmp_path, {"train.csv": f"text,label\n{train}", "test.jsonl": '{"text": "甲", "label": 1.0}\n'})
    data = load(settings, seed=1)
    assert data.labels == ("0", "1") and data.test[0].label == 1
    stars = "".join(f"第{n}条,{('1', '2.0')[n % 2]}\n" for n in range(60))
    write(
        tmp_path,
        {"class.txt": "1.0\n2.0\n", "train.csv": f"text,label\n{stars}", "test.jsonl": '{"text": "甲", "label": 2}'},
    )
    assert load(settings, seed=1).labels == ("1", "2") and load(settings, seed=1).test[0].label == 1


def test_with_single_label_several_labels_in_one_cell_are_no_classes(tmp_path: Path) -> None:
    rows = "".join(f"{text}\t{label}{',热门' * (n < 12)}\n" for n, (text, label) in enumerate(ROWS))
    data = load(dataclasses.replace(write(tmp_path, {"train.txt": rows}), single_label=True), seed=1)
    assert data.labels == tuple(sorted(SUBJECTS)) and data.counts["set_aside"] == 12
    assert str(data.set_aside[0]) == "train.txt, line 1: several labels (体育, 热门); write one label per text"
    classes = [*SUBJECTS, *(f"{label},热门" for label in SUBJECTS)]
    assert load(write(tmp_path, {"class.txt": "\n".join(classes)}), seed=1).labels == tuple(classes)


def test_texts_that_differ_in_invisible_characters_are_the_same(tmp_path: Path) -> None:
    train = csv_of() + "".join(f"\u200b{text}\ufeff,{label}\n" for text, label in ROWS[:5]) + "ＡＢ\x08 c,体育\n"
    test = "text,label\n" + "".join(f"{text}\u2060,{label}\n" for text, label in ROWS[10:14]) + "AB  c,体育\n"
    data = load(write(tmp_path, {"train.csv": train, "test.csv": test}), seed=1)
    assert (data.counts["leaks"], data.counts["duplicates"]) == (5, 5)
    assert [example.text for example in data.test[:4]] == [text for text, _ in ROWS[10:14]]  # as models read them


def write_twice(path: Path) -> None:
    import pyarrow
    from pyarrow import parquet

    parquet.write_table(pyarrow.Table.from_arrays([["甲"], ["乙"], ["丙"]], ["text", "text", "label"]), path)


PUBLIC: dict[str, tuple[dict[str, Content], DataSettings, list[str]]] = {
    "ChnSentiCorp": (
        {
            f"{split}.tsv": f"qid\tlabel\ttext_a\n0\t1\t{split}好\n1\t0\t{split}不好\n"
            for split in ("train", "dev", "test")
        },
        DataSettings(data="."),
        ["0", "1"],
    ),
    "waimai_10k": (
        {"waimai_10k.csv": "label,review\n" + "".join(f"{n % 2},第{n}单很快\n" for n in range(20))},
        DataSettings(train_file="waimai_10k.csv"),
        ["0", "1"],
    ),
    "online_shopping_10_cats": (
        {"online.csv": "cat,label,review\n" + "".join(f"{'书手'[n % 2]},1,第{n}条\n" for n in range(20))},
        DataSettings(train_file="online.csv", label_column="cat"),
        ["书", "手"],
    ),
    "THUCNews": (
        {f"{c}/{n}.txt": f"{c}第{n}条\n\n正文" for n in range(20) for c in "体财"},
        DataSettings(data="."),
        ["体", "财"],
    ),
    "cnews": (
        {
            f"cnews.{split}.txt": "".join(f"{'体财'[n % 2]}\t{split}第{n}条\n" for n in range(20))
            for split in ("train", "val", "test")
        },
        DataSettings(data="."),
        ["体", "财"],
    ),
    "Toutiao": (
        {"toutiao_cat_data.txt": "".join(f"65{n}_!_10{n % 2}_!_news_{'ab'[n % 2]}_!_第{n}条_!_\n" for n in range(20))},
        DataSettings(train_file="toutiao_cat_data.txt"),
        ["news_a", "news_b"],
    ),
    "IFLYTEK": (
        {
            f"{split}.json": lines_of(
                [{"label": f"{n % 2}", "label_des": "甲乙"[n % 2], "sentence": f"{split}第{n}条"} for n in range(20)]
            )
            for split in ("train", "dev")
        },
        DataSettings(train_file="train.json", test_file="dev.json"),
        ["乙", "甲"],
    ),
}


@pytest.mark.parametrize("name", PUBLIC)
def test_public_data_sets_as_data_readme_says(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files, settings, labels = PUBLIC[name]
    write(tmp_path, files)
    monkeypatch.chdir(tmp_path)
    data = load(settings, seed=1)
    assert list(data.labels) == labels and not data.set_aside
    assert len(data.train) + len(data.dev) + len(data.test) == {
        "THUCNews": 40,
        "ChnSentiCorp": 6,
        "cnews": 60,
        "IFLYTEK": 40,
    }.get(name, 20)


def test_dev_and_test_are_read_like_train(tmp_path: Path) -> None:
    """Without a header, three lines or a constant column do not show which column holds the labels."""
    rows = [f"{n % 2},{n % 3},{text}" for n, (text, _) in enumerate(ROWS)]
    files: dict[str, Content] = {
        "train.csv": "\n".join(rows[6:]),
        "test.csv": "\n".join(rows[:6:3]),
        "dev.csv": rows[4],
    }
    data = load(write(tmp_path / "table", files), seed=1)
    assert [(example.text, example.label) for example in data.test] == [(ROWS[0][0], 0), (ROWS[3][0], 1)]
    assert [example.text for example in data.dev] == [ROWS[4][0]] and not data.set_aside
    lines = LABEL_FIRST.splitlines(keepends=True)
    data = load(write(tmp_path / "lines", {"train.txt": "".join(lines[3:]), "test.txt": "".join(lines[:3])}), seed=1)
    assert [(example.text, data.labels[example.label]) for example in data.test] == ROWS[:3]


def test_columns_are_those_of_files_of_the_same_format(tmp_path: Path) -> None:
    label_first = gzip.compress("\n".join(f"{label},{text}" for text, label in ROWS[6:]).encode())
    text_first = gzip.compress("\n".join(map("\t".join, ROWS[:6])).encode())
    data = load(write(tmp_path / "compressed", {"train.csv.gz": label_first, "test.tsv.gz": text_first}), seed=1)
    assert len(data.test) == 6 and not data.set_aside
    rows = [f"{n % 2},{n % 3},{text}" for n, (text, _) in enumerate(ROWS)]
    data = load(write(tmp_path / "upper", {"train.CSV": "\n".join(rows[6:]), "test.csv": rows[0]}), seed=1)
    assert [example.text for example in data.test] == [ROWS[0][0]] and not data.set_aside


def test_of_label_first_lines_the_order_is_remembered_and_no_columns(tmp_path: Path) -> None:
    train, test = LABEL_FIRST.splitlines()[3:], LABEL_FIRST.splitlines()[:3]
    data = load(
        write(tmp_path, {"train.txt": "\n".join(train), "test.txt": "\n".join([*test, "体育\t甲\t乙"])}), seed=1
    )
    assert data.test[-1].text == "甲\t乙" and not data.set_aside
    assert not any("does not apply" in note for note in data.notes)


def test_a_stray_quote_among_quoted_rows_merges_none(tmp_path: Path) -> None:
    rows = [f'"{text}, ""好""",{label}' for text, label in ROWS] + ['"好看,体育', "一般般,财经", '很差",美食']
    data = load(write(tmp_path, {"train.csv": "\n".join(["text,label", *rows])}), seed=1)
    assert data.counts["train_rows_read"] == len(ROWS) + 3 and {('"好看', "体育"), ("一般般", "财经")} <= pairs(data)


def test_a_header_is_no_row(tmp_path: Path) -> None:
    for header in ("text,label", "内文,分组"):
        write(tmp_path, {"train.csv": csv_of(header)})
        settings = DataSettings(data=str(tmp_path), text_column="1", label_column="2")
        assert pairs(load(settings, seed=1)) == set(ROWS)
    settings = write(tmp_path / "lines", {"train.txt": csv_of("内文,分组", "\t")})
    with pytest.raises(
        UserError, match=r"train.txt:1: the first line looks like the names of .* -> --label_column 分组"
    ):
        load(settings, seed=1)
    settings = DataSettings(data=settings.data, text_column="内文", label_column="分组")
    assert pairs(load(settings, seed=1)) == set(ROWS)


@pytest.mark.parametrize("form", ['{{"choices": ["{0}"]}}', "['{0}']", '["{0}"]'])
def test_a_list_of_one_label_in_a_cell(form: str, tmp_path: Path) -> None:
    table = TABLE.assign(label=TABLE.label.map(form.format))
    settings = write(tmp_path, {"train.csv": lambda path: table.to_csv(path, index=False)})
    assert pairs(load(settings, seed=1)) == set(ROWS)


def test_a_gap_among_the_names_of_labels_makes_no_class(tmp_path: Path) -> None:
    records = [{"text": t, "label": NUMBERS[c], "label_desc": c if n % 5 else ""} for n, (t, c) in enumerate(ROWS)]
    assert pairs(load(write(tmp_path, {"train.jsonl": lines_of(records)}), seed=1)) == set(ROWS)


def test_files_that_name_the_classes(tmp_path: Path) -> None:
    names = lines_of([{"label": str(number), "label_des": label} for label, number in NUMBERS.items()])
    table = NUMBERED.to_csv(index=False)
    data = load(write(tmp_path, {"data/train.csv": table, "labels.json": names}), seed=1)
    assert pairs(data) == set(ROWS) and data.notes[-1] == "labels.json: names of 3 classes"
    write(tmp_path, {"class.txt": "体育\n\n财经\n美食\n"})
    with pytest.raises(UserError, match=r"class.txt:2: a blank line among the class names"):
        load(DataSettings(data=str(tmp_path)), seed=1)


def test_the_second_text_of_a_pair_is_named(tmp_path: Path) -> None:
    settings = write(tmp_path, {"train.csv": "sentence1,sentence2,label\n" + "".join(f"{t},乙,{c}\n" for t, c in ROWS)})
    assert "(and not in sentence2: --text_column sentence1,sentence2 joins them)" in load(settings, seed=1).notes[0]


def test_what_a_folder_holds_besides(tmp_path: Path) -> None:
    """Neither results beside the data, nor hidden files, nor older names of shards confuse; other cases count."""
    files: dict[str, Content] = {
        "eval_results.json": "{}",
        "data/train-00000-of-00001-a0b1.ndjson": lines_of(json_rows()),
    }
    data = load(write(tmp_path / "hub", files), seed=1)
    assert pairs(data) == set(ROWS) and data.notes[-1] == "not read: eval_results.json"
    texts: dict[str, Content] = {f"{c}/{n}.{'tT'[n % 2]}xt": t for n, (t, c) in enumerate(ROWS)}
    settings = write(tmp_path / "folders", {**texts, "体育/._0.txt": b"\0\xff", ".git/a.txt": "x"})
    data = load(settings, seed=1)
    assert pairs(data) == set(ROWS) and not data.set_aside


def test_folders_of_classes_with_names_in_gbk(tmp_path: Path) -> None:
    """A zip file that was made on Windows is unpacked so."""
    encoded = {label: os.fsdecode(label.encode("gb18030")) for label in SUBJECTS}
    settings = write(tmp_path, {f"{encoded[c]}/{n}.txt": t for n, (t, c) in enumerate(ROWS)})
    (tmp_path / os.fsdecode(b"\xff\xff")).mkdir()
    (tmp_path / os.fsdecode(b"\xff\xff") / "a.txt").write_text("球队赢了", "utf-8")
    data = load(settings, seed=1)
    assert pairs(data) == set(ROWS) and data.labels == tuple(sorted(SUBJECTS))
    (row,) = data.set_aside
    assert "the name of its folder" in row.reason


def packed(kind: str) -> bytes:
    """An archive of a table."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "data").mkdir()
        (Path(folder) / "data" / "train.csv").write_text(csv_of(), "utf-8")
        return Path(shutil.make_archive(f"{folder}/packed", kind, f"{folder}/data")).read_bytes()


REFUSED: dict[str, tuple[dict[str, Content], str]] = {
    "an unknown header": (
        {"train.csv": csv_of("wenben,biaoqian")},
        "there are: wenben, biaoqian -> --text_column NAME",
    ),
    "two dev files": ({"train.csv": csv_of(), "dev.csv": "", "valid.csv": ""}, "2 files for dev: dev.csv, valid.csv"),
    "a missing shard": ({"train-00000-of-00002.csv": csv_of()}, "found 1 of 2 shards: train-00000"),
    "damaged gzip": ({"train.csv.gz": gzip.compress(csv_of().encode())[:-30]}, "damaged gzip file"),
    "old Excel": ({"train.csv": b"\xd0\xcf\x11\xe0\xa1\xb1"}, "an old format of Excel -> save it as .xlsx"),
    "half of the shards in a folder": ({"train/train-00000-of-00002.csv": csv_of()}, "found 1 of 2 shards"),
    "a split without data": ({"train.csv": csv_of(), "test/notes.md": "x"}, "this folder has the name of a split"),
    "Big5": ({"train.csv": "text,label\n我們的球隊是在今天到的,體育\n".encode("big5")}, "this looks like Big5"),
    "damaged Excel": ({"train.xlsx": b"PK\x03\x04 no workbook"}, "not an Excel file"),
    "no text at all": ({"train.csv": b"%PDF-1.4\n\xff\xfe\xfd\xf0\x00" * 50}, "neither UTF-8 nor GB18030"),
    "two encodings": ({"train.csv": csv_of().encode() + csv_of("")[:300].encode("gb18030")}, "is not UTF-8"),
    "another name": ({"data.csv": csv_of()}, "there is no train file; there are: data.csv"),
    "archives": (
        {"data.zip": packed("zip"), "tnews.tar.gz": packed("gztar")},
        "are: data.zip, tnews.tar.gz -> unpack data.zip",
    ),
    "an archive as Excel": ({"train.xlsx": packed("zip")}, "a zip archive, not an Excel file -> unpack it first"),
    "an archive as text": ({"train.csv.gz": packed("gztar")}, "a tar archive, not a text file -> unpack it first"),
    "two columns": ({"train.parquet": write_twice}, "2 columns of one name: text"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_folders(name: str, tmp_path: Path) -> None:
    files, what = REFUSED[name]
    with pytest.raises(UserError) as error:
        load(write(tmp_path, files), seed=1)
    assert what in str(error.value) and " -> " in str(error.value)


def test_a_file_in_place_of_a_folder(tmp_path: Path) -> None:
    write(tmp_path, {"train.csv": csv_of()})
    with pytest.raises(UserError, match="not a folder but a file -> --data FOLDER"):
        load(DataSettings(data=str(tmp_path / "train.csv")), seed=1)


def test_damaged_parquet_pages(tmp_path: Path) -> None:
    settings = write(tmp_path, {"train.parquet": parquet(TABLE)})
    content = bytearray((tmp_path / "train.parquet").read_bytes())
    content[20:200] = b"\xff" * 180
    (tmp_path / "train.parquet").write_bytes(content)
    with pytest.raises(UserError, match="not a Parquet file, or a damaged one"):
        load(settings, seed=1)
