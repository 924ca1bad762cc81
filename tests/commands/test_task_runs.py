"""A run of several tasks, from the data to the reports, with tiny real models."""

from __future__ import annotations

import csv
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from benchmarking import quick_benchmark
from conftest import on_data, titles
from safetensors.torch import load_file

from distill import load_student
from distill.cli import main, parser, settings_from
from distill.commands import task_students, task_teachers
from distill.commands.benchmark.table import _check
from distill.commands.saved_models import history
from distill.commands.task_runs import JointRun
from distill.config import DataSettings
from distill.data.tasks import find_tasks, load_tasks
from distill.export import model_card
from distill.models.text_classifier import load_teacher
from distill.progress import remind
from distill.reporting.tasks import write_overview
from distill.runtime import load
from distill.runtime.bundle import read_bundle
from distill.storage.run_folder import MODEL_CARD

__all__ = ["quick_benchmark"]  # a fixture

MOODS = {"好评": "非常喜欢", "差评": "太糟糕了"}


def rows_of(start: int, stop: int) -> list[tuple[str, str, str]]:
    """Text, topic and mood; every fifth text has no topic, every third none of the moods."""
    rows = []
    for number, (title, topic) in enumerate(titles(start, stop)):
        mood = list(MOODS)[number % 2]
        rows.append((title + MOODS[mood], topic if number % 5 else "", mood if number % 3 else ""))
    return rows


def write(path: Path, rows: list[tuple[str, str, str]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file)
        table.writerow(["text", "topic", "mood"])
        table.writerows(rows)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "tasks"
    folder.mkdir()
    write(folder / "train.csv", rows_of(0, 90))
    write(folder / "test.csv", rows_of(90, 120))
    return folder


@pytest.fixture(scope="module")
def flags(folder: Path, tiny_flags: list[str]) -> list[str]:
    return [*on_data(tiny_flags, folder), "--label_column", "topic,mood"]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, flags: list[str]) -> Path:
    root = tmp_path_factory.mktemp("runs") / "tasks"
    assert main([*flags, "--run", str(root)]) == 0
    return root


def test_every_task_has_a_report(run: Path) -> None:
    for task in ("topic", "mood"):
        report = json.loads((run / "tasks" / task / "report" / "report.json").read_text(encoding="utf-8"))
        assert [row["name"] for row in report["rows"]] == ["teacher", "student_alone", "student"]
        [*_, student] = report["rows"]
        assert student["accuracy"] > 0.9
        assert f"--run {run} " in report["usage"][0]["command"]  # the bundle of both


def test_the_heads_of_one_network_answer_as_the_whole_does(run: Path) -> None:
    """A task's student is the whole student with one head; the whole has the temperatures in its classifier."""
    texts = [text for text, _, _ in rows_of(90, 120)]
    whole = load_student(run / "student").logits(texts)
    first = 0
    for task in ("topic", "mood"):
        part = load_student(run / "tasks" / task / "student")
        scaled = part.logits(texts) / part.temperature
        torch.testing.assert_close(scaled, whole[:, first : first + len(part.labels)])
        first += len(part.labels)
    assert first == whole.shape[1]


def test_a_cascade_gives_the_labels_of_the_tasks_teachers(run: Path, tmp_path: Path) -> None:
    texts = [text for text, _, _ in rows_of(90, 100)]
    (tmp_path / "in.txt").write_text("\n".join(texts), encoding="utf-8")
    paths = ["--run", run, "--input", tmp_path / "in.txt", "--output", tmp_path / "out.txt"]
    assert main(["--mode", "predict", "--cascade", "--cascade_below", "1", *map(str, paths)]) == 0
    rows = [line.split("\t") for line in (tmp_path / "out.txt").read_text("utf-8").splitlines()]
    for column, task in ((1, "topic"), (4, "mood")):
        assert [row[column] for row in rows] == load_teacher(run / "tasks" / task / "teacher").predict(texts)
        assert {row[column + 2] for row in rows} == {"teacher"}


def test_no_text_of_dev_or_test_is_in_train_of_another_task(folder: Path) -> None:
    settings = DataSettings(data=str(folder), label_column="topic,mood")
    datasets = load_tasks(find_tasks(settings), 42)
    train, dev, test = (
        {example.id for dataset in datasets.values() for example in getattr(dataset, split)}
        for split in ("train", "dev", "test")
    )
    assert not (train & dev or train & test or dev & test)


def test_finished_stages_are_kept(run: Path, flags: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*.safetensors")}
    assert main([*flags, "--run", str(run), "--mode", "train_student"]) == 0
    assert before == {path: path.stat().st_mtime_ns for path in run.rglob("*.safetensors")}
    assert "kept" in capsys.readouterr().out


def test_the_overview_has_a_row_per_task_and_model(run: Path) -> None:
    overview = json.loads((run / "report" / "report.json").read_text(encoding="utf-8"))
    assert list(overview["tasks"]) == ["topic", "mood"]
    table = (run / "report" / "report.md").read_text(encoding="utf-8")
    assert table.count("\n| topic |") == table.count("\n| mood |") == 3
    assert "(../tasks/mood/report/report.html)" in table


def test_links_to_tasks_with_any_names(run: Path, tmp_path: Path) -> None:
    name = "c# [1] (心情)"
    shutil.copytree(run / "tasks" / "mood" / "report", tmp_path / "tasks" / name / "report")
    write_overview(tmp_path / "report", {name: tmp_path / "tasks" / name / "report"})
    link = "[c# \\[1\\] (心情)](../tasks/c%23%20%5B1%5D%20%28%E5%BF%83%E6%83%85%29/report/report.html)"
    assert f"- {link}\n" in (tmp_path / "report" / "report.md").read_text("utf-8")


def test_the_record_of_a_head_is_that_of_its_task(run: Path) -> None:
    for task in ("topic", "mood"):
        folder = run / "tasks" / task
        record = json.loads((folder / "student" / "made_from.json").read_text("utf-8"))
        assert {key: record[key] for key in record["tasks"][task]} == record["tasks"][task] and record["teacher"]
        report = json.loads((folder / "report" / "report.json").read_text("utf-8"))
        assert report["linear_svc"]["weight"] == (record["linear weight"] or 0)


def test_the_cards_say_what_taught_each_head(run: Path) -> None:
    whole, alone = (model_card.read(run / kind) for kind in ("student", "student_alone"))
    assert whole and alone and not alone.taught_by
    taught_by = []
    for task in ("topic", "mood"):
        counts = json.loads((run / "tasks" / task / "report" / "report.json").read_text("utf-8"))["data"]
        card = model_card.read(run / "tasks" / task / "student")
        assert card and (card.texts["train"], card.texts["dev"]) == (counts["train"], counts["dev"])
        assert card.texts["train"] + card.texts["without labels"] == whole.texts["train"] > card.texts["train"]
        assert card.objective in whole.objective and card.taught_by
        taught_by += card.taught_by
    assert set(whole.taught_by) == set(taught_by)
    for folder in (run / "student", run / "bundle"):
        card = model_card.read(folder)
        assert card and list(card.test) == ["topic, accuracy", "mood, accuracy"] and min(card.test.values()) > 0.9
        shown = (folder / "README.md").read_text("utf-8")
        assert (
            "Not evaluated" not in shown
            and f"| topic, accuracy on test | {card.test['topic, accuracy']:.4f} |" in shown
        )
    assert "distilled from its teacher" in (run / "bundle" / "README.md").read_text("utf-8")


def test_the_log_of_a_head_has_the_figures_of_its_task(run: Path) -> None:
    whole, topic, mood = (history(folder / "student") for folder in (run, run / "tasks/topic", run / "tasks/mood"))
    for line, *of_tasks in zip(whole, topic, mood, strict=True):
        for figure in ("dev_accuracy", "dev_loss"):
            assert line[figure] == pytest.approx(sum(one[figure] for one in of_tasks) / 2)
    assert [line["dev_loss"] for line in topic] != [line["dev_loss"] for line in mood]


def test_students_of_another_teacher_are_not_evaluated(
    run: Path, flags: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(run, copy := tmp_path / "run")
    changed = [*flags, "--run", str(copy), "--teacher_epochs", "1"]
    assert main([*changed, "--mode", "train_teacher"]) == 0
    assert main([*changed, "--mode", "test"]) == 2
    assert "this student was distilled from another teacher" in capsys.readouterr().err


def test_settings_of_the_students_are_checked_before_the_teachers_are_trained(
    flags: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*flags, "--run", str(tmp_path), "--task_weights", "1"]) == 2
    assert "2 positive numbers are needed" in capsys.readouterr().err and not list(tmp_path.rglob("*.safetensors"))


@pytest.fixture(scope="module")
def separate(tmp_path_factory: pytest.TempPathFactory, tiny_flags: list[str]) -> dict[str, Path]:
    """Two folders without a common text, each with a teacher that was trained on it alone."""
    root, rows = tmp_path_factory.mktemp("separate"), rows_of(0, 120)
    folders = {"topics": root / "topics", "moods": root / "moods"}
    for name, column, part in (("topics", 1, rows[:60]), ("moods", 2, rows[60:])):
        folders[name].mkdir()
        lines = [f"{row[0]}\t{row[column]}" for row in part if row[column]]
        (folders[name] / "train.txt").write_text("\n".join(lines), encoding="utf-8")
        flags = [*on_data(tiny_flags, folders[name]), "--run", str(root / f"run_{name}"), "--mode", "train_teacher"]
        assert main(flags) == 0
    return folders


def test_two_teachers_that_share_no_text_teach_one_student(
    separate: dict[str, Path], tiny_flags: list[str], tmp_path: Path
) -> None:
    teachers = [f"--teacher={name}={folder.parent}/run_{name}/teacher" for name, folder in separate.items()]
    data = [part for folder in separate.values() for part in ("--data", str(folder))]
    flags = [*tiny_flags[2:], *data, *teachers, "--run", str(tmp_path), "--mode", "train_student"]
    assert tiny_flags[0] == "--data" and main(flags) == 0
    assert not list(tmp_path.rglob("teacher.json"))  # none was trained here
    for name in separate:
        texts, labels = zip(*((row[0], row[1 if name == "topics" else 2]) for row in rows_of(0, 120)), strict=True)
        answers = load_student(tmp_path / "tasks" / name / "student").predict(texts)
        known = [answer == label for answer, label in zip(answers, labels, strict=True) if label]
        assert np.mean(known) > 0.9


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--teacher", "somewhere"], "a teacher needs the name of its task: topic, mood -> --teacher topic=somewhere"),
        (["--teacher", "color=somewhere"], "a teacher needs the name of its task: topic, mood"),
        (["--objective", "logits+hint"], "a hint imitates the vectors of one teacher, and here every task has its own"),
        (["--student", "textgcn"], "this student reads one graph, which cannot hold several tasks"),
        (["--sampling", "stratified"], "texts are drawn by task, so that a small one is not drowned, and not by class"),
        (
            ["--mode", "train_teacher", "--shared_teacher", "--teacher_texts", "9"],
            "--teacher_texts: this is for a teacher of one task",
        ),
        (["--task_weights", "1,2,3"], "2 positive numbers are needed, one for each task"),
        (["--label_column", "topic,color"], "no column color"),
        (["--label_column", "topic,topic"], "two tasks have one name: topic, topic"),
    ],
)
def test_what_does_not_apply_is_refused(
    more: list[str], message: str, run: Path, flags: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    mode = [] if "--mode" in more else ["--mode", "train_student"]
    assert main([*flags, "--run", str(run), *mode, *more]) == 2
    assert message in capsys.readouterr().err


def test_a_small_task_is_drawn_more_often(
    tmp_path: Path, tiny_flags: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [(text, topic, mood if number % 8 < 2 else "") for number, (text, topic, mood) in enumerate(rows_of(0, 120))]
    write(tmp_path / "train.csv", rows)
    flags = [*on_data(tiny_flags, tmp_path), "--label_column", "topic,mood", "--run", str(tmp_path / "run")]
    assert main([*flags, "--a", "1", "--T", "0", "--mode", "train_student", "--student_epochs", "1"]) == 0
    assert "texts of small tasks are drawn more often: topic" in capsys.readouterr().out


def test_one_encoder_may_teach_all_tasks(flags: list[str], tmp_path: Path) -> None:
    assert (
        main([*flags, "--run", str(tmp_path), "--mode", "train_teacher", "--shared_teacher", "--teacher_epochs", "40"])
        == 0
    )
    encoders = [load_file(tmp_path / "tasks" / task / "teacher" / "model.safetensors") for task in ("topic", "mood")]
    assert encoders[0].keys() == encoders[1].keys()
    assert all(torch.equal(tensor, encoders[1][name]) for name, tensor in encoders[0].items())
    rows = rows_of(0, 120)
    texts = [model_card.read(tmp_path / "tasks" / task / "teacher").texts["train"] for task in ("topic", "mood")]
    assert texts[0] > texts[1], "the card counts the texts with a label for the task"
    logs = [history(tmp_path / "tasks" / task / "teacher") for task in ("topic", "mood")]
    assert [line["dev_loss"] for line in logs[0]] != [line["dev_loss"] for line in logs[1]]
    for column, task in enumerate(("topic", "mood"), 1):
        teacher = load_teacher(tmp_path / "tasks" / task / "teacher")
        known = [row for row in rows if row[column]]
        right = [a == row[column] for a, row in zip(teacher.predict([row[0] for row in known]), known, strict=True)]
        assert np.mean(right) > 0.9


def test_a_file_is_labelled_for_all_tasks(run: Path, folder: Path, tmp_path: Path) -> None:
    """Also one that has the tasks' own columns."""
    flags = ["--mode", "predict", "--run", str(run), "--input", str(folder / "test.csv"), "--output"]
    assert main([*flags, str(tmp_path / "out.csv")]) == 0
    with (tmp_path / "out.csv").open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    for task in ("topic", "mood"):
        assert np.mean([row[f"{task}_predicted"] == row[task] for row in rows if row[task]]) > 0.9


def test_the_whole_student_is_exported(
    run: Path, flags: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(run, copy := tmp_path / "run")
    size = sum(array.nbytes for array in read_bundle(run / "bundle").arrays.values()) - 500
    assert main([*flags, "--run", str(copy), "--mode", "export", "--max_mb", f"{size / 1e6:.6f}"]) == 0
    pruned = re.search(
        r"dev mean score of the tasks [01]\.\d{4}, with all words in 16 bits 1\.0000", capsys.readouterr().out
    )
    assert pruned and load(copy / "bundle").tasks == load(run / "bundle").tasks
    head = [
        *flags,
        "--run",
        str(copy),
        "--mode",
        "export",
        "--student_folder",
        str(copy / "tasks" / "mood" / "student"),
    ]
    assert main(head) == 0
    size = sum(array.nbytes for array in read_bundle(copy / "bundle").arrays.values()) - 500
    assert main([*head, "--max_mb", f"{size / 1e6:.6f}"]) == 0
    assert re.search(r"dev accuracy [01]\.\d{4}, with all words in 16 bits 1\.0000", capsys.readouterr().out)
    assert main([*flags, "--run", str(copy), "--mode", "export", "--format", "onnx"]) == 0
    assert {path.parent.name for path in copy.rglob("*.onnx")} == {"student", "teacher", "teacher-int8"}
    assert [task.name for task in load(run / "bundle").tasks] == ["topic", "mood"]


@pytest.mark.usefixtures("quick_benchmark")
def test_a_benchmark_has_a_score_per_task(run: Path, flags: list[str]) -> None:
    """Of the student for both, and of each task's teacher and linear baseline for its own."""
    assert main([*flags, "--run", str(run), "--mode", "benchmark"]) == 0
    content = json.loads((run / "benchmark" / "benchmark.json").read_text("utf-8"))
    rows = {row["name"]: row for row in content["rows"] if row["threads"] == 1}
    assert content["tasks"] == {"topic": "accuracy", "mood": "accuracy"}
    for task in content["tasks"]:
        report = json.loads((run / "tasks" / task / "report" / "report.json").read_text("utf-8"))
        reached = {row["name"]: row["accuracy"] for row in report["rows"]}
        assert rows["student, bundle"]["tasks"][task] == pytest.approx(reached["student"])
        assert rows["student, PyTorch"]["tasks"][task] == pytest.approx(reached["student"])
        assert rows[f"teacher of {task}, fp32"]["tasks"] == {task: pytest.approx(reached["teacher"])}
        assert rows[f"teacher of {task}, ONNX"]["labels_equal"] == 1
        linear = report["linear_svc"]["accuracy"]
        assert rows[f"LinearSVC of {task}"]["tasks"] == {task: pytest.approx(linear)}
    assert rows["student, bundle"]["labels_equal"] == 1 and rows["student, bundle"]["accuracy"] is None
    assert "tasks" not in rows["jieba alone"]
    page = (run / "benchmark" / "benchmark.md").read_text("utf-8")
    assert "| topic, accuracy | mood, accuracy |" in page and "- **mood, accuracy**: share of test texts" in page


def test_a_head_was_trained_on_the_data_of_its_task(run: Path, flags: list[str]) -> None:
    head = run / "tasks" / "mood" / "student"
    given = [*flags, "--run", str(run), "--mode", "benchmark", "--student_folder", str(head)]
    settings = settings_from(vars(parser().parse_args(given)))
    assert _check(JointRun(settings, find_tasks(settings.data)), head) == []


def test_a_teacher_of_several_tasks_is_made_of_all_its_settings(
    flags: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in "ab":
        Path(f"{name}.txt").write_text("".join(f"今天{name}第{n}条消息\n" for n in range(20)), encoding="utf-8")
    place = flags.index("--label_column") + 1
    swapped = [*flags[:place], "mood,topic", *flags[place + 1 :]]
    common = ["--run", "run", "--mode", "train_teacher", "--shared_teacher", "--teacher_epochs", "1"]
    common += ["--teacher_pretrain", "1", "--task_weights", "1,9", "--unlabeled"]
    for changed, is_kept in (([*flags, *common, "a.txt"], False), ([*flags, *common, "a.txt"], True)):
        assert main(changed) == 0
        assert ("topic/teacher: kept" in capsys.readouterr().out) == is_kept
    for changed in ([*flags, *common, "b.txt"], [*swapped, *common, "b.txt"]):
        assert main(changed) == 0
        assert "kept" not in capsys.readouterr().out


def test_a_shared_teacher_is_none_of_a_tasks_own(
    flags: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    common = ["--run", str(tmp_path), "--mode", "train_teacher", "--teacher_epochs", "1"]
    for shared in (["--shared_teacher"], []):
        assert main([*flags, *common, *shared]) == 0
    assert "kept" not in capsys.readouterr().out


def test_a_run_without_tasks_may_have_used_the_folder(run: Path, flags: list[str], tmp_path: Path) -> None:
    shutil.copytree(run, copy := tmp_path / "run")
    shutil.copytree(run / "tasks" / "mood" / "teacher", copy / "teacher")
    before = (copy / "teacher" / MODEL_CARD).read_bytes()
    assert main([*flags, "--run", str(copy), "--mode", "test"]) == 0
    assert (copy / "teacher" / MODEL_CARD).read_bytes() == before


def test_texts_to_label_do_not_touch_the_record_of_the_run(
    run: Path, flags: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(run, copy := tmp_path / "run")
    before = (copy / "config.json").read_bytes()
    (tmp_path / "more.txt").write_text("".join(f"今天第{n}条消息\n" for n in range(20)), encoding="utf-8")
    more = ["--mode", "label", "--for_labelling", "3", "--unlabeled", str(tmp_path / "more.txt")]
    assert main([*flags, "--run", str(copy), *more]) == 0
    assert f"--teacher topic={copy / 'tasks' / 'topic' / 'for_labelling.csv'}" in capsys.readouterr().out
    assert (copy / "config.json").read_bytes() == before


def test_students_that_teach_each_other_need_no_teacher(flags: list[str], tmp_path: Path) -> None:
    mutual = ["--mode", "train_student", "--objective", "labels:1+mutual:1", "--student_epochs", "2"]
    assert main([*flags, *mutual, "--run", str(tmp_path)]) == 0


def test_a_head_is_saved_with_its_own_warnings(
    flags: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (task_students, task_teachers):
        monkeypatch.setattr(module, "remind_of_single_class", lambda run, name, *more: remind(f"{name} is odd"))
    common = ["--shared_teacher", "--teacher_epochs", "1", "--student_epochs", "1", "--run", str(tmp_path)]
    for mode, folder in (("train_teacher", "teacher"), ("train_student", "student")):
        assert main([*flags, *common, "--mode", mode]) == 0
        for task in ("topic", "mood"):
            path = tmp_path / "tasks" / task / folder / "warnings.json"
            (odd,) = (line for line in json.loads(path.read_text(encoding="utf-8")) if "is odd" in line)
            assert odd.startswith(task)
