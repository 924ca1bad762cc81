"""Data whose texts have any number of labels."""

from __future__ import annotations

import dataclasses
import json
import random
import time
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distill.config import DataSettings
from distill.data import Dataset, Example, is_labelled, load, stratified_split
from distill.errors import UserError

SETS = [["体育"], ["财经", "科技"], ["科技"], ["体育", "科技"], []]


def rows_of(count: int = 60) -> list[tuple[str, list[str]]]:
    return [(f"第{n}条标题", SETS[n % 4]) for n in range(count)]


def read(folder: Path, name: str, content: str, **settings: bool | str) -> Dataset:
    (folder / name).write_text(content, encoding="utf-8")
    return load(DataSettings(data=str(folder), **settings), seed=1)  # type: ignore[arg-type]


def sets_of(data: Dataset) -> dict[str, list[str]]:
    examples = (*data.train, *data.dev, *data.test)
    return {example.text: [data.labels[index] for index in sorted(example.classes)] for example in examples}


def as_json(rows: list[tuple[str, list[str]]]) -> str:
    return "".join(json.dumps({"text": text, "label": labels}, ensure_ascii=False) + "\n" for text, labels in rows)


@pytest.mark.parametrize(
    ("name", "form"),
    [
        ("train.csv", lambda labels: f'"{",".join(labels)}"'),
        ("train.csv", "|".join),
        ("train.csv", lambda labels: f'"{labels}"'),
        ("train.txt", "，".join),
    ],
)
def test_lists_and_separated_names_in_a_cell_are_several_labels(tmp_path: Path, name: str, form: object) -> None:
    separator, header = (",", "text,label\n") if name.endswith(".csv") else ("\t", "")
    content = header + "".join(f"{text}{separator}{form(labels)}\n" for text, labels in rows_of())  # type: ignore[operator]
    data = read(tmp_path, name, content)
    assert data.is_multi_label and data.measured == "micro-F1" and data.labels == ("体育", "科技", "财经")
    assert sets_of(data) == {text: sorted(labels, key=data.labels.index) for text, labels in rows_of()}
    assert "30 of the 60 train rows have more than one of the 3 labels" in str(data.notes)


NAMES = ("体育", "科技", "财经")
SINGLE = [(f"第{n}条", [NAMES[n % 3]]) for n in range(60)]


def as_table(rows: list[tuple[str, list[str]]], one: str = "1", zero: str = "0") -> str:
    """A column per label."""
    cells = (",".join((text, *(one if name in labels else zero for name in NAMES))) for text, labels in rows)
    return "\n".join([",".join(("text", *NAMES)), *cells, ""])


WORDS = [("1", "0"), ("1.0", "0.0"), ("True", "False"), ("true", "FALSE"), ("是", "否"), ("Y", "n"), ("yes", "No")]


@pytest.mark.parametrize(("one", "zero"), [*WORDS, ("１", "０"), ("ＹＥＳ", " no ")])
def test_columns_of_zeros_and_ones_are_labels(tmp_path: Path, one: str, zero: str) -> None:
    rows = [*rows_of(), ("没有标签", [])]
    data = read(tmp_path, "train.csv", as_table(rows, one, zero), label_column="财经, 体育,科技")
    assert data.is_multi_label and data.labels == NAMES and not data.set_aside
    assert sets_of(data) == {text: sorted(labels, key=NAMES.index) for text, labels in rows}
    assert "text in column text, a label in each of the columns 财经, 体育, 科技" in str(data.notes)
    assert "30 of the 61 train rows have more than one of the 3 labels" in str(data.notes)


@pytest.mark.parametrize("suffix", ["jsonl", "json", "parquet", "xlsx"])
def test_columns_of_labels_in_every_format(tmp_path: Path, suffix: str) -> None:
    records = [{"text": text, **{name: name in labels for name in NAMES}} for text, labels in rows_of()]
    path = tmp_path / f"train.{suffix}"
    if suffix == "parquet":
        parquet = pytest.importorskip("pyarrow.parquet")
        parquet.write_table(pytest.importorskip("pyarrow").Table.from_pylist(records), path)
    elif suffix == "xlsx":
        book = pytest.importorskip("openpyxl").Workbook()
        for row in (records[0], *(record.values() for record in records)):
            book.active.append(list(row))
        book.save(path)
    else:
        lines = [json.dumps(record, ensure_ascii=False) for record in records]
        path.write_text(f"[{','.join(lines)}]" if suffix == "json" else "\n".join(lines), encoding="utf-8")
    data = load(DataSettings(data=str(tmp_path), label_column="体育,科技,财经"), seed=1)
    assert sets_of(data) == {text: sorted(labels, key=NAMES.index) for text, labels in rows_of()}


def test_columns_of_labels_with_one_label_per_text(tmp_path: Path) -> None:
    data = read(tmp_path, "train.csv", as_table([*SINGLE, ("没有", [])]), label_column="体育,科技,财经")
    assert not data.is_multi_label and sets_of(data) == dict(SINGLE) and data.set_aside[0].reason == "there is no label"
    data = read(tmp_path, "train.csv", as_table(SINGLE), label_column="体育,科技,财经", multi_label=True)
    assert data.is_multi_label and sets_of(data) == dict(SINGLE)


@pytest.mark.parametrize("text_column", ["", "1"])
def test_columns_of_labels_by_number_are_named_by_the_header(tmp_path: Path, text_column: str) -> None:
    settings = {"label_column": "3,4", "text_column": text_column}
    data = read(tmp_path, "train.csv", as_table(rows_of()), **settings)
    assert data.labels == ("科技", "财经") and "a label in each of the columns 科技, 财经" in str(data.notes)
    assert not data.set_aside
    expected = {text: sorted({*labels} - {"体育"}) for text, labels in rows_of()}
    assert sets_of(data) == expected


def test_columns_of_labels_without_a_header_are_named_by_their_numbers(tmp_path: Path) -> None:
    table = as_table(rows_of()).partition("\n")[2]
    data = read(tmp_path, "train.csv", table, label_column="2,3,4", text_column="1")
    assert data.labels == ("2", "3", "4") and not data.set_aside
    note = "no header, text in column 1, a label in each of the columns 2, 3, 4 (named so: there is no header)"
    assert any(note in line for line in data.notes), data.notes


def test_a_column_of_zeros_is_a_class_that_no_train_text_has(tmp_path: Path) -> None:
    rows = [(f"新{text}", [*labels, "汽车"]) for text, labels in rows_of(8)]
    for name, of_file in (("train", rows_of()), ("dev", rows), ("test", [(f"再{text}", s) for text, s in rows])):
        table = [",".join((text, *("01"[label in labels] for label in (*NAMES, "汽车")))) for text, labels in of_file]
        (tmp_path / f"{name}.csv").write_text("\n".join(["text,体育,科技,财经,汽车", *table]), encoding="utf-8")
    data = load(DataSettings(data=str(tmp_path), label_column="体育,科技,财经,汽车"), seed=1)
    assert data.labels == ("体育", "汽车", "科技", "财经") and not data.set_aside
    assert "no train row has the labels 汽车, whose columns hold no 1; they are classes nevertheless" in data.notes
    assert sets_of(data)["新第0条标题"] == ["体育", "汽车"]
    for split in ("dev", "test"):
        (tmp_path / f"{split}.csv").unlink()
    table = "".join(f"{line},{'汽车' if not n else 0}\n" for n, line in enumerate(as_table(SINGLE).split()))
    data = read(tmp_path, "train.csv", table, label_column="体育,科技,财经,汽车")
    assert data.labels == NAMES and not data.is_multi_label  # where every text has one label, train has the classes


def test_cells_that_are_neither_zero_nor_one_are_set_aside(tmp_path: Path) -> None:
    table = as_table(rows_of())
    data = read(tmp_path, "train.csv", f"{table}坏的,0,,0\n也坏,1,2,0\n", label_column="体育,科技,财经")
    assert [row.reason for row in data.set_aside] == [
        "an empty cell in the column of a label, and no 1 in the others",
        "'2' in the column of the label 科技 is neither 0 nor 1",
    ]
    with pytest.raises(UserError, match="no column 汽车; there are: text, 体育, 科技, 财经 -> --label"):
        read(tmp_path, "train.csv", table, label_column="体育,汽车")


def test_a_column_whose_name_has_a_comma_is_one_column(tmp_path: Path) -> None:
    content = 'text,"一,二"\n' + "".join(f"第{n}条,{NAMES[n % 3]}\n" for n in range(60))
    assert sets_of(read(tmp_path, "train.csv", content, label_column="一,二")) == dict(SINGLE)


def test_a_text_may_have_none_of_the_labels(tmp_path: Path) -> None:
    rows = [*rows_of(), ("没有标签", [])]
    data = read(tmp_path, "train.jsonl", as_json(rows))
    assert sets_of(data)["没有标签"] == [] and not data.set_aside
    table = "text,label\n" + "".join(f"{text},{'|'.join(labels)}\n" for text, labels in rows)
    (tmp_path / "train.jsonl").unlink()
    data = read(tmp_path, "train.csv", table)
    assert "没有标签" not in sets_of(data) and data.set_aside[0].reason == "there is no label"
    assert sets_of(read(tmp_path, "train.csv", table, multi_label=True))["没有标签"] == []


def test_a_few_rows_with_several_labels_are_mistakes(tmp_path: Path) -> None:
    rows = [(f"第{n}条", [("体育", "财经")[n % 2]]) for n in range(300)] + [
        (f"错{n}", ["体育", "财经"]) for n in range(3)
    ]
    data = read(tmp_path, "train.jsonl", as_json(rows))
    assert not data.is_multi_label and len(data.set_aside) == 3
    assert data.set_aside[0].reason == "several labels (体育, 财经); write one label per text"
    data = read(tmp_path, "train.jsonl", as_json(rows), multi_label=True)
    assert data.is_multi_label and not data.set_aside and len(sets_of(data)) == 303


def test_flags_decide(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--multi_label and --single_label exclude each other"):
        read(tmp_path, "train.jsonl", as_json(rows_of()), single_label=True, multi_label=True)
    single = as_json([(f"第{n}条", [("体育", "财经")[n % 2]]) for n in range(40)])
    assert read(tmp_path, "train.jsonl", single, multi_label=True).is_multi_label
    assert not read(tmp_path, "train.jsonl", single).is_multi_label


def test_class_files_name_the_classes_and_decide_what_is_whole(tmp_path: Path) -> None:
    (tmp_path / "class.txt").write_text("财经\n科技,数码\n体育\n", encoding="utf-8")
    labels = ["体育|财经", "科技,数码", "财经", "2|0"]
    content = "".join(f"第{n}条\t{labels[n % 4]}\n" for n in range(80))
    data = read(tmp_path, "train.txt", content, multi_label=True)
    assert data.labels == ("财经", "科技,数码", "体育")
    found = sets_of(data)
    assert found["第0条"] == found["第3条"] == ["财经", "体育"] and found["第1条"] == ["科技,数码"]


def test_unknown_labels_and_conflicts(tmp_path: Path) -> None:
    (tmp_path / "dev.jsonl").write_text(as_json([*rows_of(8), ("新的", ["体育", "汽车"])]), encoding="utf-8")
    rows = [(f"训练{n}", labels) for n, (_, labels) in enumerate(rows_of())]
    rows += [("两次", ["体育"]), ("两次", ["体育", "科技"]), ("同样", ["科技", "体育"]), ("同样", ["体育", "科技"])]
    data = read(tmp_path, "train.jsonl", as_json(rows))
    assert data.set_aside[0].reason.startswith("unknown label '汽车'; the labels of train are 体育")
    assert (data.counts["conflicts"], data.counts["duplicates"]) == (1, 2)


def test_one_set_alone_teaches_nothing(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"train has fewer than two classes \(体育, 财经\)"):
        read(tmp_path, "train.jsonl", as_json([(f"第{n}条", ["体育", "财经"]) for n in range(40)]))


@given(st.lists(st.frozensets(st.integers(0, 4), max_size=3), min_size=1, max_size=200), st.integers(0, 3))
def test_splits_are_partitions_that_repeat(sets: list[frozenset[int]], seed: int) -> None:
    examples = [Example(n, str(n), classes) for n, classes in enumerate(sets)]
    rest, held_out = stratified_split(examples, seed)
    assert sorted(e.id for e in (*rest, *held_out)) == list(range(len(examples)))
    assert stratified_split(examples, seed)[1] == held_out


def test_splits_hold_out_a_tenth_of_every_class(tmp_path: Path) -> None:
    draw = random.Random(0)
    sets = [frozenset(draw.choices(range(8), [1, 2, 4, 8, 16, 32, 64, 128], k=draw.randrange(4))) for _ in range(2000)]
    _, held_out = stratified_split([Example(n, str(n), classes) for n, classes in enumerate(sets)], 3)
    sizes = Counter(c for classes in sets for c in classes)
    shares = {c: sum(c in example.classes for example in held_out) / size for c, size in sizes.items()}
    assert min(sizes.values()) < 30 and all(0.08 <= share <= 0.13 for share in shares.values()), shares
    assert 0.08 < sum(not example.classes for example in held_out) / sum(not classes for classes in sets) < 0.12


def test_fingerprints_tell_label_sets_apart(tmp_path: Path) -> None:
    data = read(tmp_path, "train.jsonl", as_json(rows_of()))
    first = data.train[0]
    other = dataclasses.replace(first, label=first.classes ^ {0})
    assert dataclasses.replace(data, train=(other, *data.train[1:])).fingerprint != data.fingerprint


def test_a_text_without_any_label_is_not_labelled(tmp_path: Path) -> None:
    (tmp_path / "train.jsonl").write_text(as_json([(f"第{n}条", []) for n in range(40)]), encoding="utf-8")
    settings = DataSettings(data=str(tmp_path))
    assert not is_labelled(settings) and is_labelled(dataclasses.replace(settings, multi_label=True))


@pytest.mark.parametrize(
    ("cell", "labels"),
    [
        ("['体育' '财经']", ["体育", "财经"]),
        ("('体育', '财经')", ["体育", "财经"]),
        ("体育｜财经", ["体育", "财经"]),
        ("[体育,财经]", ["体育", "财经"]),
        ("体育\n财经", ["体育", "财经"]),
        ("体育 | 财经", ["体育", "财经"]),
    ],
)
def test_cells_as_programs_write_them(tmp_path: Path, cell: str, labels: list[str]) -> None:
    single = ["体育", "财经", "科技"]
    rows = [(f"第{n}条", single[n % 3] if n % 2 else cell) for n in range(60)]
    data = read(tmp_path, "train.csv", "text,label\n" + "".join(f'{text},"{label}"\n' for text, label in rows))
    assert data.is_multi_label and sorted(data.labels) == sorted(single)
    assert sets_of(data)["第0条"] == sorted(labels, key=data.labels.index)


@pytest.mark.parametrize("cell", ["|", "[null]", '[\\"\\"]'])
def test_separators_and_blanks_are_no_labels(tmp_path: Path, cell: str) -> None:
    rows = [f'{{"text": "第{n}条", "label": "{"体育|财经" if n % 2 else "体育"}"}}\n' for n in range(60)]
    content = "".join([*rows, f'{{"text": "空", "label": "{cell}"}}\n'])
    data = read(tmp_path, "train.jsonl", content)
    assert data.is_multi_label and len(data.set_aside) == 1 and "空" not in sets_of(data)


def test_numbers_and_their_names(tmp_path: Path) -> None:
    rows = [("1", "体育"), ("2", "财经"), ("1,2", "体育,财经")]
    train = "".join(f'第{n}条,"{rows[n % 3][0]}","{rows[n % 3][1]}"\n' for n in range(60))
    (tmp_path / "test.csv").write_text("text,label\n甲,1\n乙,2\n", encoding="utf-8")
    data = read(tmp_path, "train.csv", "text,label,label_name\n" + train)
    assert data.is_multi_label and data.labels == ("体育", "财经") and not data.set_aside
    assert sets_of(data)["第2条"] == ["体育", "财经"] and sets_of(data)["甲"] == ["体育"]


@pytest.mark.parametrize(
    ("cells", "labels"),
    [
        (["体育|财经", "时政、国际", "体育", "财经", "时政、国际|体育"], {"体育", "财经", "时政、国际"}),
        (["C#|Java", "C#", "C", "Java"], {"C", "C#", "Java"}),
    ],
)
def test_one_separator_splits_the_labels(tmp_path: Path, cells: list[str], labels: set[str]) -> None:
    rows = "".join(f"第{n}条\t{cells[n % len(cells)]}\n" for n in range(80))
    data = read(tmp_path, "train.txt", rows)
    assert data.is_multi_label and set(data.labels) == labels and "separated by '|'" in str(data.notes)


def test_aspects_are_classes(tmp_path: Path) -> None:
    cells = ["FOOD#PRICE", "FOOD#TASTE", "SERVICE#PRICE"]
    data = read(tmp_path, "train.txt", "".join(f"第{n}条\t{cells[n % 3]}\n" for n in range(60)))
    assert not data.is_multi_label and data.labels == tuple(cells)


def test_single_label_sets_rows_aside(tmp_path: Path) -> None:
    content = "".join(f"第{n}条\t{'体育|财经' if n % 5 == 0 else ('体育', '财经')[n % 2]}\n" for n in range(100))
    data = read(tmp_path, "train.txt", content, single_label=True)
    assert not data.is_multi_label and data.counts["set_aside"] == 20 and len(sets_of(data)) == 80
    assert "20 rows have several labels and are set aside (--single_label)" in str(data.notes)


@pytest.mark.parametrize("name", ["train.tsv", "train.txt"])
def test_a_table_without_a_header_may_have_texts_without_labels(tmp_path: Path, name: str) -> None:
    cells = ["体育|财经", "财经", "科技", ""]
    rows = [f"这是第{n}条标题，它比标签长\t{cells[n % 4]}\n" for n in range(80)]
    (tmp_path / f"test{name[-4:]}").write_text("测试的一条标题\t体育\n另一条\t\n", encoding="utf-8")
    data = read(tmp_path, name, "".join(rows), multi_label=True)
    assert not data.set_aside and sum(not labels for labels in sets_of(data).values()) == 21


def test_hints_name_the_flag(tmp_path: Path) -> None:
    rows = [(f"第{n}条", [("体育", "财经")[n % 2]] if n % 5 else []) for n in range(100)]
    with pytest.raises(UserError) as raised:
        read(tmp_path, "train.jsonl", as_json(rows))
    assert "--multi_label" in raised.value.hint


def test_large_data_are_split_quickly() -> None:
    draw = random.Random(0)
    examples = [Example(n, "", frozenset(draw.sample(range(400), 3))) for n in range(20_000)]
    started = time.process_time()
    stratified_split(examples, 0)
    assert time.process_time() - started < 2


def test_lists_of_class_numbers_in_parquet_have_names(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    labels = [[0, 1], [0], [1], [1, 2]] * 20
    feature = {"feature": {"names": ["体育", "财经", "科技"], "_type": "ClassLabel"}, "_type": "Sequence"}
    info = {"info": {"features": {"text": {"dtype": "string", "_type": "Value"}, "label": feature}}}
    table = pa.table({"text": [f"第{n}条" for n in range(80)], "label": labels})
    table = table.replace_schema_metadata({"huggingface": json.dumps(info)})
    parquet.write_table(table, tmp_path / "train.parquet")
    data = load(DataSettings(data=str(tmp_path)), seed=1)
    assert data.is_multi_label and sets_of(data)["第3条"] == ["科技", "财经"]


@pytest.mark.parametrize(
    ("cells", "labels", "is_multi_label"),
    [
        (
            ["美食、餐饮"] * 30 + ["旅游、酒店"] * 30 + ["体育"] * 30 + ["美食、餐饮|体育"],
            {"美食、餐饮", "旅游、酒店", "体育"},
            False,
        ),
        (["房产、家居", "时尚、家居", "体育"] * 20, {"房产、家居", "时尚、家居", "体育"}, False),
        (
            ["体育|足球", "体育|篮球", "财经|股票", "财经|基金"] * 15,
            {"体育|足球", "体育|篮球", "财经|股票", "财经|基金"},
            False,
        ),
        (
            ["美食、餐饮", "旅游、酒店", "体育"] * 10 + ["美食、餐饮|旅游、酒店", "体育|旅游、酒店"] * 15,
            {"美食、餐饮", "旅游、酒店", "体育"},
            True,
        ),
        (["(1,2)|(3,4)"] * 20 + ["5", "6"] * 20, {"(1,2)|(3,4)", "5", "6"}, False),
        (["[体育, 财经]", "[体育]", "[财经]"] * 20, {"体育", "财经"}, True),
    ],
)
def test_names_that_contain_a_separator_are_not_split(
    tmp_path: Path, cells: list[str], labels: set[str], is_multi_label: bool
) -> None:
    data = read(tmp_path, "train.txt", "".join(f"第{n}条\t{cell}\n" for n, cell in enumerate(cells)))
    assert (set(data.labels), data.is_multi_label) == (labels, is_multi_label)


def test_a_class_file_chooses_the_separator(tmp_path: Path) -> None:
    (tmp_path / "class.txt").write_text("美食、餐饮\n旅游、酒店\n体育\n", encoding="utf-8")
    cells = ["美食、餐饮", "旅游、酒店", "体育"] * 10 + ["美食、餐饮|旅游、酒店", "体育|旅游、酒店"] * 15
    data = read(tmp_path, "train.txt", "".join(f"第{n}条\t{cell}\n" for n, cell in enumerate(cells)))
    assert data.is_multi_label and len(data.labels) == 3 and not data.set_aside
    (tmp_path / "class.txt").write_text("1\n2\n3\n", encoding="utf-8")
    data = read(tmp_path, "train.txt", "".join(f"第{n}条\t{['1', '2|3', '3'][n % 3]}\n" for n in range(60)))
    assert data.is_multi_label and sets_of(data)["第1条"] == ["2", "3"]


def test_other_splits_may_use_another_separator(tmp_path: Path) -> None:
    (tmp_path / "test.csv").write_text('text,label\n甲,"体育,科技"\n乙,财经、科技\n丙,体育\n', encoding="utf-8")
    data = read(tmp_path, "train.jsonl", as_json(rows_of()))
    assert not data.set_aside and sets_of(data)["甲"] == ["体育", "科技"] and sets_of(data)["乙"] == ["科技", "财经"]


def test_single_label_leaves_out_sets_of_labels_that_never_occur_alone(tmp_path: Path) -> None:
    cells = ["X"] * 100 + ["Y"] * 50 + ["A|B"] * 50 + ["B|C"] * 50 + ["A|C"] * 50 + ["A|B|C"] * 10
    content = "".join(f"第{n}条\t{cell}\n" for n, cell in enumerate(cells))
    data = read(tmp_path, "train.txt", content, single_label=True)
    assert data.labels == ("X", "Y") and data.counts["set_aside"] == 160


def test_many_texts_without_labels_may_come_first(tmp_path: Path) -> None:
    rows = [(f"第{n}条", []) for n in range(250)] + [(f"另{n}条", ["体育"]) for n in range(50)]
    (tmp_path / "train.jsonl").write_text(as_json(rows), encoding="utf-8")
    assert is_labelled(DataSettings(data=str(tmp_path)))


def test_an_empty_cell_beside_a_one_is_a_zero(tmp_path: Path) -> None:
    rows = "".join(f"第{n}条,{['1,', '0,1', '1,1', ',1'][n % 4]}\n" for n in range(80)) + "空,,\n"
    (tmp_path / "train.csv").write_text("text,体育,财经\n" + rows, encoding="utf-8")
    data = load(DataSettings(data=str(tmp_path), label_column="体育,财经,"), seed=1)
    assert data.is_multi_label and sets_of(data)["第0条"] == ["体育"] and len(data.set_aside) == 1
