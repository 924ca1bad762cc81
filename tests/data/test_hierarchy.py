"""Labels that are paths: what is detected, and the levels above the labels."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distill.config import DataSettings
from distill.data import Dataset, Example, from_memory, load
from distill.data.hierarchy import find_hierarchy
from distill.errors import UserError

PATHS = ("体育##篮球", "体育##足球", "财经##股票", "财经##基金##债券", "财经##基金##货币")
NOTE = "labels are paths separated by ##: 2 classes on level 1, 4 on level 2, 5 on level 3"


def read(folder: Path, labels: list[str], name: str = "train.csv", separator: str = ",", **settings: object) -> Dataset:
    header = f"text{separator}label\n" if name.endswith(".csv") else ""
    rows = (f'第{n}条标题{separator}"{label}"\n' for n, label in enumerate(labels * 12))
    content = "".join(rows) if header else "".join(rows).replace('"', "")
    (folder / name).write_text(header + content, encoding="utf-8")
    return load(DataSettings(data=str(folder), **settings), seed=1)  # type: ignore[arg-type]


def test_levels_by_hand() -> None:
    hierarchy = find_hierarchy(PATHS)
    assert hierarchy and hierarchy.note == NOTE
    first, second = hierarchy.levels
    assert first.names == ("体育", "财经") and first.ancestors == (0, 0, 1, 1, 1)
    assert second.names == ("体育##篮球", "体育##足球", "财经##股票", "财经##基金")
    assert second.ancestors == (0, 1, 2, 3, 3), "a shorter path is its own ancestor"


def test_the_same_name_below_two_classes_is_two_classes() -> None:
    hierarchy = find_hierarchy(["国内##其他##甲", "国内##其他##乙", "国外##其他##丙", "国外##其他##丁"])
    assert hierarchy and hierarchy.levels[1].names == ("国内##其他", "国外##其他")


@pytest.mark.parametrize(
    ("labels", "separator"),
    [
        (("体育", "财经", "科技"), "auto"),
        (("体育", "财经##股票", "科技", "汽车"), "auto"),  # one class only
        (("财经/股票", "财经/基金", "体育/足球"), "auto"),  # another separator
        (PATHS, "none"),
        (("财经##股票", "财经##基金"), "auto"),  # all below one class
        (("财经##股票", "体育##足球"), "auto"),  # a class above each label
        (("体育##财经", "财经##科技", "科技##汽车", "体育##汽车"), "auto"),  # label sets: names keep to no depth
        ((), "auto"),
    ],
)
def test_what_has_no_levels(labels: tuple[str, ...], separator: str) -> None:
    assert find_hierarchy(labels, separator) is None


def test_another_separator_is_given() -> None:
    hierarchy = find_hierarchy(["财经/股票", "财经 / 基金", "体育/足球", "其他"], "/")
    assert hierarchy and hierarchy.levels[0].names == ("财经", "体育", "其他")


@given(st.lists(st.lists(st.sampled_from("甲乙丙丁"), min_size=1, max_size=4), min_size=1, max_size=12))
def test_a_level_divides_the_classes_of_the_level_above(paths: list[list[str]]) -> None:
    labels = list(dict.fromkeys("##".join(path) for path in paths))
    hierarchy = find_hierarchy(labels, "##")
    levels = hierarchy.levels if hierarchy else ()
    for level in levels:
        assert 1 < len(level.names) < len(labels) and set(level.ancestors) == set(range(len(level.names)))
        for label, ancestor in zip(labels, level.ancestors, strict=True):
            assert f"{label}##".startswith(f"{level.names[ancestor]}##")
    for upper, lower in itertools.pairwise(levels):
        assert len(set(zip(upper.ancestors, lower.ancestors, strict=True))) == len(lower.names)


@pytest.mark.parametrize(("name", "separator"), [("train.csv", ","), ("train.tsv", "\t"), ("train.txt", "\t")])
def test_a_path_is_one_label(tmp_path: Path, name: str, separator: str) -> None:
    data = read(tmp_path, list(PATHS), name, separator)
    assert data.labels == tuple(sorted(PATHS)) and not data.is_multi_label and not data.set_aside
    assert NOTE in data.notes and data.hierarchy


def test_a_path_in_a_line_of_fasttext(tmp_path: Path) -> None:
    lines = (f"__label__{PATHS[n % 5]} 第{n}条标题\n" for n in range(60))
    (tmp_path / "train.txt").write_text("".join(lines), encoding="utf-8")
    assert load(DataSettings(data=str(tmp_path)), seed=1).hierarchy == find_hierarchy(sorted(PATHS))


def test_names_of_a_class_file_are_paths(tmp_path: Path) -> None:
    (tmp_path / "class.txt").write_text("\n".join(PATHS), encoding="utf-8")
    data = read(tmp_path, ["0", "1", "2", "3", "4"])
    assert data.labels == PATHS and data.hierarchy == find_hierarchy(PATHS)


def test_marks_within_a_name_on_a_path_do_not_separate_labels(tmp_path: Path) -> None:
    labels = ["房产、家居##装修", "房产、家居##买房", "财经##股票、基金", "财经##银行", "房产、家居##租房"]
    data = read(tmp_path, labels)
    assert data.labels == tuple(sorted(labels)) and not data.is_multi_label and data.hierarchy


@pytest.mark.parametrize("form", ["、".join, lambda labels: json.dumps(labels, ensure_ascii=False).replace('"', '""')])
def test_each_of_several_labels_is_a_path(tmp_path: Path, form: object) -> None:
    sets = [[PATHS[0]], [PATHS[1], PATHS[2]], [PATHS[3]], [PATHS[2], PATHS[4]]]
    data = read(tmp_path, [form(labels) for labels in sets])  # type: ignore[operator]
    assert data.is_multi_label and data.labels == tuple(sorted(PATHS)) and NOTE in data.notes
    (found,) = (example for example in (*data.train, *data.dev, *data.test) if example.text == "第1条标题")
    assert {data.labels[index] for index in found.classes} == set(sets[1])


def test_label_sets_that_look_like_paths_are_label_sets(tmp_path: Path) -> None:
    data = read(tmp_path, ["体育##财经", "财经##科技", "科技##汽车", "体育##汽车", "体育##科技"])
    assert data.is_multi_label and data.labels == ("体育", "汽车", "科技", "财经") and data.hierarchy is None


def test_without_a_hierarchy_paths_are_names(tmp_path: Path) -> None:
    data = read(tmp_path, list(PATHS), hierarchy="none")
    assert not data.is_multi_label and data.hierarchy is None and data.labels == tuple(sorted(PATHS))


def test_labels_without_levels_are_refused_where_a_separator_is_given(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="separated at '/', the labels have no level") as error:
        read(tmp_path, ["体育##足球", "财经##股票"], hierarchy="/")
    assert error.value.where == "--hierarchy /" and "--hierarchy none" in error.value.hint
    assert read(tmp_path, ["体育/足球", "体育/篮球", "财经/股票"], hierarchy="/").hierarchy


def test_levels_of_labels_in_memory() -> None:
    examples = [Example.of(f"第{n}条", n % 5) for n in range(60)]
    assert from_memory(examples, PATHS).hierarchy == find_hierarchy(PATHS)
    assert from_memory(examples, PATHS, hierarchy="none").hierarchy is None


def test_a_short_path_beside_longer_ones_is_a_label(tmp_path: Path) -> None:
    cells = ["体育/足球,其他", "其他", "体育/足球", "财经/股票", "体育/篮球,财经/股票"]
    data = read(tmp_path, cells, hierarchy="/")
    assert data.is_multi_label and set(data.labels) == {"其他", "体育/足球", "财经/股票", "体育/篮球"}
