"""Splits, leaks, repeats, conflicts, labels."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distill.config import DataSettings
from distill.data import Example, example_id, load, stratified_split
from distill.data.splits import evenly_spaced, without_leaks, without_repeats
from distill.errors import UserError


def example(text: str, label: int) -> Example:
    return Example(example_id(text), text, label)


def write(folder: Path, **splits: list[tuple[str, object]]) -> DataSettings:
    for name, rows in splits.items():
        content = [{"text": text, "label": label} for text, label in rows]
        (folder / f"{name}.json").write_text(json.dumps(content, ensure_ascii=False), "utf-8")
    return DataSettings(data=str(folder))


MANY: list[tuple[str, object]] = [(f"第{n}条新闻", n % 2) for n in range(40)]


def test_leaks_repeats_and_conflicts_are_dropped_and_counted(tmp_path: Path) -> None:
    odd: list[tuple[str, object]] = [
        ("测试里也有", 0),
        ("测试里也有 ", 0),
        ("重复的一条", 1),
        (" 重复的一条", 1),
        ("两种说法", 0),
        ("两种说法", 1),
    ]
    test: list[tuple[str, object]] = [("测试里也有", 0), ("只在测试", 1), ("只在测试", 1)]
    data = load(write(tmp_path, train=MANY + odd, test=test), seed=1)
    assert data.counts == {
        "train": len(data.train),
        "dev": len(data.dev),
        "test": 3,
        "train_rows_read": 46,
        "leaks": 2,
        "leaks_into_dev": 0,
        "dev_leaks": 0,
        "duplicates": 2,
        "conflicts": 1,
        "test_distinct": 2,
        "set_aside": 0,
    }
    seen = {e.text for e in data.train + data.dev}
    assert len(data.train) + len(data.dev) == 41 and "测试里也有" not in seen and "两种说法" not in seen


def test_a_dev_file_is_used_and_kept_separate(tmp_path: Path) -> None:
    settings = write(tmp_path, train=MANY, valid=[MANY[0], ("新的一条", 0), ("又一条", 1)], test=[("又一条", 1)])
    data = load(settings, seed=1)
    assert {e.text for e in data.dev} == {MANY[0][0], "新的一条"}
    assert (data.counts["leaks_into_dev"], data.counts["dev_leaks"], len(data.train)) == (1, 1, 39)


def test_without_a_test_file_the_held_out_tenth_does_not_depend_on_the_seed(tmp_path: Path) -> None:
    settings = write(tmp_path, train=MANY)
    first, second = load(settings, seed=1), load(settings, seed=2)
    assert first.test == second.test and len(first.test) == 4
    assert first.dev != second.dev and first.fingerprint != second.fingerprint
    assert load(settings, seed=1).fingerprint == first.fingerprint


examples = st.lists(st.tuples(st.text("甲乙丙 ", min_size=1), st.integers(0, 2)).map(lambda pair: example(*pair)))


@given(examples)
def test_without_repeats_keeps_distinct_texts_with_one_label(rows: list[Example]) -> None:
    kept, repeats, conflicts = without_repeats(rows)
    assert len({e.id for e in kept}) == len(kept)
    assert len(kept) + repeats + conflicts == len(rows)
    labels = {e.id: {other.label for other in rows if other.id == e.id} for e in rows}
    assert {e.id for e in kept} == {identity for identity, group in labels.items() if len(group) == 1}


@given(examples, examples)
def test_without_leaks_keeps_no_held_out_text(rows: list[Example], held_out: list[Example]) -> None:
    kept, dropped = without_leaks(rows, held_out)
    assert not {e.id for e in kept} & {e.id for e in held_out}
    assert len(kept) + dropped == len(rows)


@given(st.lists(st.integers(0, 3), min_size=1, max_size=60), st.integers(0, 9))
def test_stratified_split_keeps_shares(labels: list[int], seed: int) -> None:
    rows = [example(f"第{n}条", label) for n, label in enumerate(labels)]
    rest, chosen = stratified_split(rows, seed, 0.25)
    assert sorted(e.id for e in rest + chosen) == sorted(e.id for e in rows)
    assert stratified_split(rows, seed, 0.25) == (rest, chosen)
    counts = Counter(e.label for e in chosen)
    for label, count in Counter(labels).items():
        assert abs(counts[label] - 0.25 * count) <= 1 and counts[label] <= max(count - 1, 0) + (count == 1) * 0


def test_texts_are_evenly_spaced() -> None:
    texts = [str(n) for n in range(100)]
    assert evenly_spaced(texts, 4) == ["0", "25", "50", "75"] and evenly_spaced(texts, 100) is texts
    assert len(set(evenly_spaced(texts, 99))) == 99


def test_a_class_file_names_numbers(tmp_path: Path) -> None:
    (tmp_path / "class.txt").write_text("体育\n财经\n", "utf-8")
    data = load(write(tmp_path, train=[*MANY, ("用名字的", "财经")], test=[("测试", 1)]), seed=1)
    assert data.labels == ("体育", "财经")
    assert {e.label for e in data.train + data.dev if e.text == "用名字的"} == {1}
    assert data.test[0].label == 1


@pytest.mark.parametrize(("labels", "expected"), [((0, 1, 2), (0, 1, 2)), ((1, 2, 3), (0, 1, 2))])
def test_class_names_that_are_numbers(labels: tuple[int, ...], expected: tuple[int, ...], tmp_path: Path) -> None:
    """Stars 1, 2, 3: rows with 0 to 2 contain line numbers, rows with 1 to 3 names."""
    (tmp_path / "class.txt").write_text("1\n2\n3\n", "utf-8")
    rows = [(f"第{n}条", labels[n % 3]) for n in range(30)]
    data = load(write(tmp_path, train=rows, test=[("甲", labels[0]), ("乙", labels[1]), ("丙", labels[2])]), seed=1)
    assert tuple(e.label for e in data.test) == expected


def test_class_names_that_are_numbers_mixed_with_line_numbers(tmp_path: Path) -> None:
    (tmp_path / "class.txt").write_text("1\n2\n9\n", "utf-8")
    assert "rows use both the names and the line numbers" in fault(
        write(tmp_path, train=[("甲", 0), ("乙", 1), ("丙", 9)])
    )


def test_unusual_numbers_are_names(tmp_path: Path) -> None:
    train = [(f"第{n}条", ("①", "②", "--1")[n % 3]) for n in range(30)]
    assert load(write(tmp_path, train=train), seed=1).labels == ("--1", "①", "②")
    train = [(f"第{n}条", ("1", "01", "-2")[n % 3]) for n in range(30)]
    assert load(write(tmp_path, train=train), seed=1).labels == ("-2", "01", "1")


def test_nothing_left_for_test(tmp_path: Path) -> None:
    settings = write(tmp_path, train=[("甲", 0), ("乙", 1)], dev=[("丙", 0)])
    assert "no text is left for test" in fault(settings)


def test_clue_codes_need_not_be_consecutive(tmp_path: Path) -> None:
    codes = [("100", "story"), ("106", "house"), ("101", "culture")]
    lines = "\n".join(json.dumps({"label": code, "label_desc": f"news_{name}"}) for code, name in codes)
    (tmp_path / "labels.json").write_text(lines, "utf-8")
    train = [(f"第{n}条", codes[n % 3][0]) for n in range(30)]
    data = load(write(tmp_path, train=train, test=[("新", "106")]), seed=1)
    assert data.labels == ("news_story", "news_house", "news_culture") and data.test[0].label == 1


def test_labels_without_a_file_come_from_train_in_order(tmp_path: Path) -> None:
    train = [(f"第{n}条", (2, 10, 1)[n % 3]) for n in range(30)]
    assert load(write(tmp_path, train=train), seed=1).labels == ("1", "2", "10")


def fault(settings: DataSettings) -> str:
    with pytest.raises(UserError) as error:
        load(settings, seed=1)
    return str(error.value)


def test_unknown_label_in_test(tmp_path: Path) -> None:
    settings = write(tmp_path, train=MANY, test=[("好", 1), ("怪", 7)])
    (row,) = load(settings, seed=1).set_aside
    assert str(row) == "test.json, item 2: unknown label '7'; the labels of train are 0, 1"
    with pytest.raises(UserError, match=r"test\.json:2: unknown label '7'"):
        load(settings, seed=1, is_strict=True)
    assert "1 of 1 rows cannot be used" in fault(write(tmp_path, train=MANY, test=[("怪", 7)]))


def test_one_class_only(tmp_path: Path) -> None:
    assert "fewer than two classes (0)" in fault(write(tmp_path, train=[(f"第{n}条", 0) for n in range(20)]))


def test_missing_folder_and_files(tmp_path: Path) -> None:
    assert "no such folder" in fault(DataSettings(data=str(tmp_path / "nowhere")))
    assert "there is no train file" in fault(DataSettings(data=str(tmp_path)))
    write(tmp_path, train=MANY)
    (tmp_path / "train.csv").write_text("text,label\n", "utf-8")
    assert "2 files for train" in fault(DataSettings(data=str(tmp_path)))


def test_files_by_flag(tmp_path: Path) -> None:
    write(tmp_path, train=MANY, test=[("好", 1)])
    (tmp_path / "train.json").rename(tmp_path / "mine.json")
    settings = DataSettings(train_file=str(tmp_path / "mine.json"), test_file=str(tmp_path / "test.json"))
    assert load(settings, seed=1).counts["test"] == 1
    for name in ("train.json", "train.csv"):  # a flag settles which of two
        (tmp_path / name).write_text("[]", "utf-8")
    settings = DataSettings(data=str(tmp_path), train_file=str(tmp_path / "mine.json"))
    assert load(settings, seed=1).counts["train_rows_read"] == 40


@pytest.mark.parametrize("content", ["", "体育\n体育\n"])
def test_bad_class_file(content: str, tmp_path: Path) -> None:
    (tmp_path / "class.txt").write_text(content, "utf-8")
    assert "class.txt: class names must exist and differ" in fault(write(tmp_path, train=MANY))


@pytest.mark.parametrize(
    ("content", "expected"), [("{}\n", "labels.json:1"), ("", "the file is empty"), ("x", "labels.json:1")]
)
def test_bad_code_file(content: str, expected: str, tmp_path: Path) -> None:
    (tmp_path / "labels.json").write_text(content, "utf-8")
    assert expected in fault(write(tmp_path, train=MANY))


def test_embedded_reviews() -> None:
    data = load(DataSettings(), seed=42)
    assert data.labels == ("negative", "positive")
    assert data.counts["duplicates"] > 1000 and data.counts["conflicts"] > 0
    texts = [e.text for e in data.train + data.dev + data.test]
    assert len(set(texts)) == len(texts) > 8000 and max(map(len, texts)) <= 64


def test_the_repository_sample(request: pytest.FixtureRequest) -> None:
    data = load(DataSettings(data=str(request.config.rootpath / "data" / "sample")), seed=42)
    assert len(data.train) + len(data.dev) == 300 and len(data.test) == 60 and len(data.labels) == 6
    assert data.counts["leaks"] == data.counts["duplicates"] == data.counts["conflicts"] == 0


def test_a_class_of_two_texts_is_split_and_a_single_text_is_not() -> None:
    sizes = {0: 40, 1: 2, 2: 1}
    examples = [Example(100 * label + n, "", label) for label, size in sizes.items() for n in range(size)]
    rest, chosen = stratified_split(examples, seed=0)
    assert Counter(example.label for example in chosen) == {0: 4, 1: 1}
    assert Counter(example.label for example in rest) == {0: 36, 1: 1, 2: 1}
