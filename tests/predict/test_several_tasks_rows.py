"""Rows of a student of several tasks, in every format."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from test_several_labels_rows import SUFFIXES, TEXTS, certainty_of, read, run, write

from distill.config import RunSettings, Settings, TransferSettings, UnsureSettings
from distill.data.formats.labelling import OutputSpec
from distill.errors import UserError
from distill.predict import local
from distill.predict.teacher import TaskTeachers, find_teacher
from distill.runtime import Runtime, Task

COLUMNS = ("topic_predicted", "topic_probability", "sign_predicted", "sign_probability")


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_every_task_has_its_columns(
    suffix: str, bundle_of_tasks: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runtime = Runtime(bundle_of_tasks)
    output = tmp_path / f"out.{suffix}".replace("xlsx", "csv")
    assert run(bundle_of_tasks, write(tmp_path / f"in.{suffix}"), output) == 0
    assert "sign: a text may have any number of labels; in tables and plain text they are joined by |" in (
        capsys.readouterr().err
    )
    rows, expected, probabilities = read(output, COLUMNS), runtime.predict(TEXTS), runtime.predict_proba(TEXTS)
    assert [name for name in rows[0] if name in COLUMNS] == list(COLUMNS)
    assert [row["text"] for row in rows] == TEXTS and [row["topic_predicted"] for row in rows] == expected["topic"]
    is_list = suffix in ("jsonl", "parquet")
    assert [row["sign_predicted"] for row in rows] == [
        found if is_list else "|".join(found) for found in expected["sign"]
    ]
    highest = probabilities["topic"].max(axis=1)
    np.testing.assert_allclose([float(row["topic_probability"]) for row in rows], highest, atol=1e-4)
    least = certainty_of(probabilities["sign"], runtime.tasks[1].labels, expected["sign"])
    np.testing.assert_allclose([float(row["sign_probability"]) for row in rows], least, atol=1e-4)


@pytest.mark.parametrize("suffix", ["tsv", "jsonl", "parquet"])
def test_all_that_may_be_added(suffix: str, bundle_of_tasks: Path, tmp_path: Path) -> None:
    runtime, output = Runtime(bundle_of_tasks), tmp_path / f"out.{suffix}"
    below = float(np.median(runtime.predict_proba(TEXTS)["topic"].max(axis=1)))
    flags = ("--probabilities", "--top_k", "3", "--reject_below", below, "--reject_label", "其他")
    assert run(bundle_of_tasks, write(tmp_path / f"in.{suffix}"), output, *flags) == 0
    rows, top, probabilities = read(output), runtime.top_k(TEXTS, 3), runtime.predict_proba(TEXTS)
    assert [row["topic_predicted"] for row in rows] == runtime.predict(TEXTS, reject_below=below, reject_label="其他")[
        "topic"
    ]
    assert "其他" in {row["topic_predicted"] for row in rows} and len({row["topic_predicted"] for row in rows}) > 1
    for task in runtime.tasks:
        if suffix == "jsonl":
            of_labels = [row[f"{task.name}_probabilities"] for row in rows]
            of_top = [[one["label"] for one in row[f"{task.name}_top_k"]] for row in rows]
        else:
            of_labels = [{name: row[f"{task.name}_probability_{name}"] for name in task.labels} for row in rows]
            ranks = range(1, len(task.labels) + 1)
            of_top = [[row[f"{task.name}_top_{rank}"] for rank in ranks] for row in rows]
            assert f"{task.name}_top_{len(task.labels) + 1}" not in rows[0]
        assert of_top == [[name for name, _ in row] for row in top[task.name]]
        found = [[float(row[name]) for name in task.labels] for row in of_labels]
        np.testing.assert_allclose(found, probabilities[task.name], atol=1e-4)


def test_parquet_has_lists_for_a_task_of_any_number_of_labels(bundle_of_tasks: Path, tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    from pyarrow import parquet

    assert run(bundle_of_tasks, write(tmp_path / "in.parquet", ["", *TEXTS[:3]]), tmp_path / "out.parquet") == 0
    schema = parquet.read_schema(tmp_path / "out.parquet")
    assert [str(schema.field(name).type) for name in COLUMNS] == ["string", "float", "list<element: string>", "float"]
    assert set(read(tmp_path / "out.parquet")[0].values()) == {"", None}


def test_a_rejected_row_counts_once(bundle_of_tasks: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(bundle_of_tasks, write(tmp_path / "in.csv"), tmp_path / "out.csv", "--reject_below", "1") == 0
    assert f"rejected: {len(TEXTS)} of {len(TEXTS)} rows" in capsys.readouterr().err
    assert {row["topic_predicted"] for row in read(tmp_path / "out.csv")} == {""}


def test_a_task_of_any_number_of_labels_rejects_too(bundle_of_tasks: Path, tmp_path: Path) -> None:
    flags = ("--reject_below", "1", "--reject_label", "?")
    assert run(bundle_of_tasks, write(tmp_path / "in.jsonl"), tmp_path / "out.jsonl", *flags) == 0
    rows = read(tmp_path / "out.jsonl")
    new = ["topic_predicted", "topic_probability", "sign_predicted", "sign_probability", "sign_set_probability"]
    assert [name for name in rows[0] if name != "text"] == new
    assert {(row["topic_predicted"], *row["sign_predicted"]) for row in rows} == {("?", "?")}


class TaskTeacher:
    """Gives every text the last of the student's labels."""

    fingerprints: dict[str, str] = {"model": "1"}  # noqa: RUF012 (of the class)

    def __init__(self, task: Task) -> None:
        self.labels, self.thresholds, self.texts = task.labels[::-1], task.thresholds, 0

    def predict_proba(self, texts: Sequence[str]) -> NDArray[np.float32]:
        self.texts += len(texts)
        return np.tile(np.eye(len(self.labels), dtype=np.float32)[0], (len(texts), 1))


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_each_task_has_a_cascade(
    suffix: str,
    bundle_of_tasks: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    runtime, output = Runtime(bundle_of_tasks), tmp_path / f"out.{suffix}"
    by_task: Any = {task.name: TaskTeacher(task) for task in runtime.tasks}
    teachers = TaskTeachers(by_task, tmp_path)
    assert teachers.fingerprints == {"topic/model": "1", "sign/model": "1"}
    monkeypatch.setattr(local, "find_teacher", lambda settings, labels, thresholds, tasks: teachers)
    below = float(np.median(runtime.predict_proba(TEXTS)["topic"].max(axis=1)))
    assert run(bundle_of_tasks, write(tmp_path / f"in.{suffix}"), output, "--cascade", "--cascade_below", below) == 0
    sent = {name: teacher.texts for name, teacher in by_task.items()}
    cascade = teachers.cascade(runtime, below)
    _, by_teacher = cascade.answer(TEXTS)
    rows, expected = read(output), cascade.predict(TEXTS)
    for name, answered in by_teacher.items():
        assert [row[f"{name}_answered_by"] for row in rows] == [
            ("student", "teacher")[one] for one in answered.tolist()
        ]
        assert sent[name] == answered.sum()
    assert 0 < sent["topic"] < len(TEXTS) and sent["topic"] != sent["sign"]
    is_list = suffix in ("jsonl", "parquet")
    signs = [labels if is_list else "|".join(labels) for labels in expected["sign"]]
    assert [row["topic_predicted"] for row in rows] == expected["topic"]
    assert [row["sign_predicted"] for row in rows] == signs
    count = int((by_teacher["topic"] | by_teacher["sign"]).sum())  # a row counts once
    assert f"labelled by the teacher: {count} of {len(TEXTS)} rows" in capsys.readouterr().err


def test_each_task_may_have_a_threshold_of_its_own(
    bundle_of_tasks: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    runtime, source = Runtime(bundle_of_tasks), write(tmp_path / "in.jsonl")
    flags = ["--reject_below", "0.5", "--task_reject_below", "sign=0.9", "--reject_label", "?"]
    assert run(bundle_of_tasks, source, tmp_path / "out.jsonl", *flags) == 0
    expected = runtime.predict(TEXTS, reject_below={"topic": 0.5, "sign": 0.9}, reject_label="?")
    rows = read(tmp_path / "out.jsonl")
    assert [row["topic_predicted"] for row in rows] == expected["topic"]
    assert [row["sign_predicted"] for row in rows] == expected["sign"] and ["?"] in expected["sign"]
    assert expected["sign"] != runtime.predict(TEXTS, reject_below=0.5, reject_label="?")["sign"]
    assert "(the probability is below 0.5, sign=0.9)" in capsys.readouterr().err
    by_task: Any = {task.name: TaskTeacher(task) for task in runtime.tasks}
    teachers = TaskTeachers(by_task, tmp_path)
    monkeypatch.setattr(local, "find_teacher", lambda settings, labels, thresholds, tasks: teachers)
    flags = ["--cascade", "--cascade_below", "0", "--task_cascade_below", "sign=1"]
    assert run(bundle_of_tasks, source, tmp_path / "out.jsonl", *flags) == 0
    found = [(row["topic_answered_by"], row["sign_answered_by"]) for row in read(tmp_path / "out.jsonl")]
    assert set(found) == {("student", "teacher")}


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (
            ["--task_reject_below", "tone=0.5"],
            "there is no task tone; the tasks are topic, sign -> --task_reject_below t",
        ),
        (
            ["--task_reject_below", "0.5"],
            "a task's name and a probability from 0 to 1 are needed -> --task_reject_below",
        ),
        (
            ["--task_reject_below", "topic=0.5,sign=0.4"],
            "there is no task topic=0.5,sign; the tasks are topic, sign -> repeat the flag for every task: --task_rej",
        ),
        (
            ["--task_reject_below", "topic=0.5", "--task_reject_below", "topic=0.9"],
            "--task_reject_below topic=0.9: the task topic has a threshold already -> give one per task",
        ),
        (["--task_reject_below", "topic=1.5"], "a task's name and a probability from 0 to 1 are needed"),
        (["--task_reject_below", "topic=nan"], "a task's name and a probability from 0 to 1 are needed"),
        (
            ["--task_cascade_below", "sign=1"],
            "--task_cascade_below has no effect without --cascade -> --cascade --task",
        ),
    ],
)
def test_wrong_thresholds_of_a_task(
    flags: list[str], expected: str, bundle_of_tasks: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(bundle_of_tasks, write(tmp_path / "in.csv"), tmp_path / "out.csv", *flags) == 2
    assert expected in capsys.readouterr().err and not (tmp_path / "out.csv").exists()


def test_a_threshold_of_a_task_where_there_is_only_one(
    several_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["--task_reject_below", "topic=0.5"]
    assert run(several_bundle, write(tmp_path / "in.csv"), tmp_path / "out.csv", *flags) == 2
    assert "there is no task topic; this student has only one -> --reject_below 0.5" in capsys.readouterr().err


def test_a_cascade_needs_the_teacher_of_every_task(tmp_path: Path) -> None:
    tasks = (Task("topic", ("a", "b")), Task("sign", ("c",), (0.5,), first=2))
    settings = Settings(run=RunSettings(run=str(tmp_path)), unsure=UnsureSettings(cascade=True))
    for task in tasks:
        folder = tmp_path / "tasks" / task.name / "teacher"
        with pytest.raises(UserError, match="there is no trained teacher") as error:
            find_teacher(settings, (), (), tasks)
        assert error.value.where == str(folder)
        folder.mkdir(parents=True)
        thresholds = {"thresholds": list(task.thresholds)} if task.thresholds else {}
        (folder / "teacher.json").write_text(json.dumps({"labels": task.labels, **thresholds}))
    found = find_teacher(settings, (), (), tasks)
    assert isinstance(found, TaskTeachers) and list(found.by_task) == ["topic", "sign"]
    assert found.by_task["sign"].thresholds == (0.5,)
    (tmp_path / "tasks" / "sign").rename(tmp_path / "elsewhere")
    elsewhere = replace(settings, transfer=TransferSettings(teacher=(f"sign={tmp_path / 'elsewhere' / 'teacher'}",)))
    found = find_teacher(elsewhere, (), (), tasks)
    assert isinstance(found, TaskTeachers) and found.by_task["sign"].folder == tmp_path / "elsewhere" / "teacher"
    with pytest.raises(UserError, match="a teacher needs the name of its task: topic, sign"):
        find_teacher(replace(settings, transfer=TransferSettings(teacher=("runs/a/teacher",))), (), (), tasks)
    (tmp_path / "elsewhere").rename(tmp_path / "tasks" / "sign")
    other = (tasks[0], Task("sign", ("c", "d"), (0.5, 0.5), first=2))
    with pytest.raises(UserError, match="this teacher has other labels than the student"):
        find_teacher(settings, (), (), other)


def test_a_task_has_one_teacher_that_is_whole(tmp_path: Path) -> None:
    tasks = (Task("topic", ("a", "b")), Task("sign", ("c", "d"), (0.5, 0.5), first=2))
    settings = Settings(run=RunSettings(run=str(tmp_path)), unsure=UnsureSettings(cascade=True))
    with pytest.raises(UserError, match="there is no trained teacher") as error:
        find_teacher(settings, (), (), tasks)
    assert error.value.hint.endswith("or --teacher topic=FOLDER")
    twice = replace(settings, transfer=TransferSettings(teacher=("topic=x", "topic=y")))
    with pytest.raises(UserError, match="2 teachers are named, and only one can be used -> --teacher topic=x"):
        find_teacher(twice, (), (), tasks)
    for task, thresholds in ((tasks[0], {}), (tasks[1], {"thresholds": [0.5, 0.5]})):
        folder = tmp_path / "tasks" / task.name / "teacher"
        folder.mkdir(parents=True)
        (folder / "teacher.json").write_text(json.dumps({"labels": task.labels, **thresholds}))
    assert find_teacher(settings, (), (), tasks)
    for wrong in ([0.5], None, "ab"):
        (folder / "teacher.json").write_text(json.dumps({"labels": task.labels, "thresholds": wrong}))
        with pytest.raises(UserError, match="this teacher is broken: it needs a threshold per label"):
            find_teacher(settings, (), (), tasks)


def test_the_limits_in_messages_are_those_that_have_an_effect() -> None:
    assert UnsureSettings(task_reject_below=("topic=0.5",)).rejection_limits == "topic=0.5"
    assert UnsureSettings(reject_below=0.3, task_reject_below=("topic=0.5",)).rejection_limits == "0.3, topic=0.5"
    assert UnsureSettings(cascade=True, cascade_below=0).cascade_limits == "0"


def test_what_a_label_set_adds_is_part_of_what_a_job_resumes_with(bundle_of_tasks: Path) -> None:
    runtime = Runtime(bundle_of_tasks)
    of_topic = OutputSpec(runtime.labels, False, tasks=runtime.tasks[:1], reject_below=0.5)
    assert "set_probability" in replace(of_topic, tasks=runtime.tasks).record
    assert "set_probability" not in of_topic.record
    assert "set_probability" not in OutputSpec(runtime.labels, False, tasks=runtime.tasks).record


def test_a_column_with_the_name_of_a_task(
    bundle_of_tasks: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "in.csv").write_text("text,topic_predicted\n球队,体育\n", "utf-8")
    assert run(bundle_of_tasks, tmp_path / "in.csv", tmp_path / "out.csv") == 2
    assert "there is already a column topic_predicted, and the output needs this name" in capsys.readouterr().err


def test_names_that_a_pattern_or_a_table_could_misread() -> None:
    spec = OutputSpec((), True, tasks=(Task('50%"s', ("a", "b")), Task("=x", ("c,", "d"), (0.5, 0.5), first=2)))
    assert spec.columns[:2] == ('50%"s_predicted', '50%"s_probability') and spec.columns[-1] == "=x_probability_d"
    with pytest.raises(UserError, match="two columns a_probability_predicted, one for each of two tasks"):
        OutputSpec((), True, tasks=(Task("a", ("predicted", "c")), Task("a_probability", ("b", "c"), first=2)))


def test_odd_names_of_tasks_in_json(bundle_of_tasks: Path, tmp_path: Path) -> None:
    from distill.predict.in_memory import label_stream

    runtime = Runtime(bundle_of_tasks)
    (topic, sign), expected = runtime.tasks, runtime.predict(TEXTS)["topic"]
    runtime.tasks = (Task('50%"s', topic.labels), Task("=x", sign.labels, sign.thresholds, sign.first))
    spec = OutputSpec(runtime.labels, True, tasks=runtime.tasks, top_k=1)
    for suffix in ("jsonl", "csv"):
        output = tmp_path / f"out.{suffix}"
        with write(tmp_path / f"in.{suffix}").open("rb") as source, output.open("wb") as out:
            assert label_stream(runtime, source, out, f"in.{suffix}", spec).rows == len(TEXTS)
        assert [row['50%"s_predicted'] for row in read(output)] == expected
    assert math.isclose(sum(read(tmp_path / "out.jsonl")[0]['50%"s_probabilities'].values()), 1, abs_tol=1e-4)
    assert json.loads((tmp_path / "out.jsonl").read_text("utf-8").splitlines()[0])["=x_top_k"]
