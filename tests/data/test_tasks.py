"""Several tasks in columns or folders: what they are called, which texts they share, and that none leaks."""

from __future__ import annotations

import csv
import dataclasses
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distill.config import DataSettings
from distill.config.argparse import parser, settings_from
from distill.data import UNLABELLED, Example, load
from distill.data.tasks import check_names, find_tasks, joined, labelled, load_tasks
from distill.errors import UserError

TOPICS, MOODS = ("体育", "财经"), ("好", "坏")


def write(
    path: Path, rows: list[tuple[str, str, str]], header: tuple[str, str, str] = ("text", "topic", "mood")
) -> None:
    path.parent.mkdir(exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("text", "topic", "mood"), *rows])


def rows_of(count: int) -> list[tuple[str, str, str]]:
    return [(f"第{n}条文本", TOPICS[n % 2], MOODS[n // 2 % 2]) for n in range(count)]


def test_columns_are_tasks(tmp_path: Path) -> None:
    write(tmp_path / "train.csv", rows_of(60))
    tasks = find_tasks(DataSettings(data=str(tmp_path), label_column="topic, mood"))
    assert {name: one.label_column for name, one in tasks.items()} == {"topic": "topic", "mood": "mood"}
    datasets = load_tasks(tasks, 42)
    assert datasets["topic"].labels == TOPICS and datasets["mood"].labels == ("坏", "好")
    assert joined(datasets).labels == ("topic/体育", "topic/财经", "mood/坏", "mood/好")


def test_one_column_or_columns_of_zeros_and_ones_are_no_tasks(tmp_path: Path) -> None:
    write(tmp_path / "train.csv", [(text, str(n % 2), str(n // 2 % 2)) for n, (text, _, _) in enumerate(rows_of(60))])
    assert find_tasks(DataSettings(data=str(tmp_path), label_column="topic")) == {}
    assert find_tasks(DataSettings(data=str(tmp_path), label_column="topic,mood")) == {}
    assert find_tasks(DataSettings()) == {}


def test_a_wrong_cell_does_not_make_labels_tasks(tmp_path: Path) -> None:
    rows = [(text, str(n % 2), "?" if n == 7 else "1") for n, (text, _, _) in enumerate(rows_of(60))]
    write(tmp_path / "train.csv", rows)
    assert find_tasks(DataSettings(data=str(tmp_path), label_column="topic,mood")) == {}


def test_folders_are_tasks(tmp_path: Path) -> None:
    for name, rows in (("news", rows_of(40)), ("reviews", rows_of(90)[40:])):
        write(tmp_path / name / "train.csv", rows)
    both = ["--data", str(tmp_path / "news"), "--data", str(tmp_path / "reviews")]
    data = settings_from(vars(parser().parse_args([*both, "--label_column", "mood"]))).data
    assert data.name == "news+reviews"
    assert {name: one.label_column for name, one in find_tasks(data).items()} == {"news": "mood", "reviews": "mood"}
    data = settings_from(vars(parser().parse_args([*both, "--label_column", "topic,mood"]))).data
    tasks = find_tasks(data)
    assert {name: Path(one.data).name for name, one in tasks.items()} == {"topic": "news", "mood": "reviews"}
    datasets = load_tasks(tasks, 42)
    assert datasets["topic"].labels == TOPICS and {*datasets["mood"].labels} == {*MOODS}


def test_a_folder_with_a_comma_in_its_name_is_one(tmp_path: Path) -> None:
    folder = tmp_path / "a,b"
    write(folder / "train.csv", rows_of(40))
    assert DataSettings(data=str(folder)).folders == [folder]
    assert find_tasks(DataSettings(data=str(folder), label_column="topic")) == {}


def test_class_files_of_tasks(tmp_path: Path) -> None:
    write(tmp_path / "train.csv", rows_of(60))
    (tmp_path / "class.mood.txt").write_text("好\n坏\n一般\n", encoding="utf-8")
    datasets = load_tasks(find_tasks(DataSettings(data=str(tmp_path), label_column="topic,mood")), 42)
    assert datasets["mood"].labels == ("好", "坏", "一般") and datasets["topic"].labels == TOPICS
    assert "class.mood.txt: names of 3 classes" in datasets["mood"].notes
    assert not any("not read" in note for dataset in datasets.values() for note in dataset.notes)


def test_a_row_counts_for_the_tasks_that_it_has_labels_for(tmp_path: Path) -> None:
    rows = [(text, topic if n % 3 else "", mood if n % 4 else "") for n, (text, topic, mood) in enumerate(rows_of(120))]
    write(tmp_path / "train.csv", rows)
    datasets = load_tasks(find_tasks(DataSettings(data=str(tmp_path), label_column="topic,mood")), 42)
    assert [dataset.counts["train_rows_read"] for dataset in datasets.values()] == [80, 90]
    assert datasets["topic"].notes[-1] == "40 rows have no label for this task" and not datasets["topic"].set_aside
    texts = joined(datasets)
    found = [labelled(texts.train, dataset) for dataset in datasets.values()]
    assert {example.label for example in found[0]} == {0, 1, UNLABELLED}
    assert all(one.label != UNLABELLED or two.label != UNLABELLED for one, two in zip(*found, strict=True))


def test_held_out_texts_are_the_same_ones(tmp_path: Path) -> None:
    write(tmp_path / "train.csv", rows_of(200))
    topic, mood = load_tasks(find_tasks(DataSettings(data=str(tmp_path), label_column="topic,mood")), 42).values()
    assert [one.id for one in topic.test] == [one.id for one in mood.test] and len(topic.test) == 20
    assert [one.id for one in topic.dev] == [one.id for one in mood.dev] and len(topic.dev) == 18


@settings(max_examples=30)
@given(st.data())
def test_no_text_of_one_task_leaks_into_another(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    """Whatever files there are, and whichever texts they share."""
    folder = tmp_path_factory.mktemp("leaks")
    for name in ("news", "reviews"):
        splits = ["train", *data.draw(st.sets(st.sampled_from(["dev", "test"])))]
        for split in splits:
            drawn = data.draw(st.sets(st.integers(0, 79), min_size=30 if split == "train" else 6, max_size=60))
            write(folder / name / f"{split}.csv", [rows_of(80)[n] for n in sorted(drawn)])
    try:
        datasets = load_tasks(find_tasks(DataSettings(data=f"{folder}/news,{folder}/reviews", label_column="topic")), 1)
    except UserError as error:
        assert "no text is left" in error.what or "fewer than two classes" in error.what
        return
    train, dev, test = (
        {example.id for dataset in datasets.values() for example in getattr(dataset, split)}
        for split in ("train", "dev", "test")
    )
    assert not (train & dev or train & test or dev & test)


def test_labels_of_multi_label_tasks(tmp_path: Path) -> None:
    rows = [
        (text, f"{TOPICS[0]}|{TOPICS[1]}" if n % 3 else topic, mood)
        for n, (text, topic, mood) in enumerate(rows_of(90))
    ]
    write(tmp_path / "train.csv", rows)
    datasets = load_tasks(find_tasks(DataSettings(data=str(tmp_path), label_column="topic,mood")), 42)
    assert datasets["topic"].is_multi_label and not datasets["mood"].is_multi_label
    [one] = labelled([Example.of(rows[1][0], UNLABELLED)], datasets["topic"])
    assert one.label in (frozenset({0, 1}), UNLABELLED)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"label_column": "topic,mood,color", "data": "news,reviews"}, "3 columns for 2 folders"),
        ({"label_column": "topic", "data": "news,news"}, "two tasks have one name: news, news"),
        ({"data": "news,reviews", "train_file": "x.csv"}, "one file cannot replace those of several folders"),
        ({"data": "news,nowhere"}, "no such folder"),
        ({"label_column": "topic,a/b", "data": "news"}, "no column a/b"),
    ],
)
def test_data_that_is_no_set_of_tasks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, more: dict[str, str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("news", "reviews"):
        write(Path(name) / "train.csv", rows_of(40))
    with pytest.raises(UserError, match=message):
        load_tasks(find_tasks(DataSettings(**more)), 42)


def test_an_error_names_the_task(tmp_path: Path) -> None:
    write(tmp_path / "train.csv", [(text, topic, "好") for text, topic, _ in rows_of(40)])
    with pytest.raises(UserError, match="task mood: train has fewer than two classes"):
        load_tasks(find_tasks(DataSettings(data=str(tmp_path), label_column="topic,mood")), 42)


def test_labels_of_one_task_have_levels(tmp_path: Path) -> None:
    levels = ("体育/足球", "体育/篮球", "财经/股票")
    write(tmp_path / "train.csv", [(text, levels[n % 3], mood) for n, (text, _, mood) in enumerate(rows_of(60))])
    data = DataSettings(data=str(tmp_path), label_column="topic,mood", hierarchy="/")
    tasks = load_tasks(find_tasks(data), 42)
    assert tasks["topic"].hierarchy and not tasks["mood"].hierarchy
    with pytest.raises(UserError, match="separated at '>', the labels have no level"):
        load_tasks(find_tasks(dataclasses.replace(data, hierarchy=">")), 42)


def test_a_dev_file_without_a_label_for_a_task(tmp_path: Path) -> None:
    write(tmp_path / "train.csv", rows_of(40))
    write(tmp_path / "dev.csv", [(f"新闻{text}", topic, "") for text, topic, _ in rows_of(20)])
    with pytest.raises(UserError, match="task mood: no row has a label for this task") as error:
        load_tasks(find_tasks(DataSettings(data=str(tmp_path), label_column="topic,mood")), 42)
    assert "leave out a dev or test file" in error.value.hint


def test_tasks_whose_first_rows_have_no_labels(tmp_path: Path) -> None:
    write(tmp_path / "train.csv", [*((f"无标签{n}", "", "") for n in range(300)), *rows_of(60)])
    assert [*find_tasks(DataSettings(data=str(tmp_path), label_column="topic,mood"))] == ["topic", "mood"]


def test_yes_and_no_in_columns_are_tasks_on_request(tmp_path: Path) -> None:
    write(
        tmp_path / "train.csv", [(text, "是是否"[n % 3], "否是"[n % 2]) for n, (text, _, _) in enumerate(rows_of(60))]
    )
    data = DataSettings(data=str(tmp_path), label_column="topic,mood")
    assert find_tasks(data) == {}
    assert "; --single_label makes each column a task of its own" in load(data, 42).notes[-1]
    tasks = load_tasks(find_tasks(dataclasses.replace(data, single_label=True)), 42)
    assert tasks["topic"].labels == tasks["mood"].labels == ("否", "是")


def test_every_class_is_held_out_although_another_task_holds_out_one_of_them(tmp_path: Path) -> None:
    rows = [(f"第{n}条文本", "", ("好", "坏", "中")[n % 3]) for n in range(90)]
    write(tmp_path / "reviews" / "train.csv", rows)
    write(tmp_path / "news" / "train.csv", [(f"新闻{n}", TOPICS[n % 2], "") for n in range(60)])
    of_one_class = [(text, TOPICS[n % 2], "") for n, (text, _, mood) in enumerate(rows[:27]) if mood == "中"]
    write(tmp_path / "news" / "test.csv", of_one_class)
    folders = f"{tmp_path / 'news'},{tmp_path / 'reviews'}"
    reviews = load_tasks(find_tasks(DataSettings(data=folders, label_column="topic,mood")), 42)["mood"]
    for split in (reviews.test, reviews.dev, reviews.train):
        assert {example.label for example in split} == {0, 1, 2}


@pytest.mark.parametrize("name", ["..", "题" * 100, "a/b"])
def test_names_that_no_folder_can_have(name: str) -> None:
    with pytest.raises(UserError, match="a task cannot be called"):
        check_names(["topic", name], "--label_column")


def test_a_task_whose_classes_are_all_in_test_of_another(tmp_path: Path) -> None:
    rows = [(f"第{n}条文本", "", MOODS[n % 2]) for n in range(40)]
    write(tmp_path / "reviews" / "train.csv", rows)
    write(tmp_path / "news" / "train.csv", [(f"新闻{n}", TOPICS[n % 2], "") for n in range(60)])
    write(tmp_path / "news" / "test.csv", [(text, TOPICS[n % 2], "") for n, (text, _, _) in enumerate(rows[1::2])])
    tasks = find_tasks(DataSettings(data=f"{tmp_path / 'news'},{tmp_path / 'reviews'}", label_column="topic,mood"))
    with pytest.raises(UserError, match="task mood: train has fewer than two classes"):
        load_tasks(tasks, 42)


def test_leaks_between_tasks_are_counted_where_they_are(tmp_path: Path) -> None:
    rows = [(f"第{n}条文本", TOPICS[n % 2], MOODS[n // 2 % 2]) for n in range(200)]
    splits = {
        "news": {"train": rows[:60], "dev": rows[60:70], "test": rows[70:80]},
        "reviews": {"train": [*rows[100:160], *rows[60:67], *rows[70:73]], "dev": rows[75:90], "test": rows[90:99]},
    }
    for name, files in splits.items():
        for split, of_split in files.items():
            write(tmp_path / name / f"{split}.csv", of_split)
    folders = f"{tmp_path / 'news'},{tmp_path / 'reviews'}"
    counts = load_tasks(find_tasks(DataSettings(data=folders, label_column="topic,mood")), 42)["mood"].counts
    assert {"train": 60, "dev": 10, "leaks": 3, "leaks_into_dev": 7, "dev_leaks": 5}.items() <= counts.items()
