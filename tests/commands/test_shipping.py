"""What ``--mode all`` and ``--mode test`` end with: a bundle, its speed in the report, and commands that use it."""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import output_of

from distill.cli import main, parser, settings_from
from distill.commands.experiment import Run
from distill.commands.export import bundle_of, export_if_possible, trained_students
from distill.commands.model_cards import card_of
from distill.export.bundle import export_bundle, is_bundle_of, is_current
from distill.models.teacher import default_precision
from distill.runtime import load

ROOT = Path(__file__).parents[2]


def report_of(run: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((run / "report" / "report.json").read_text(encoding="utf-8"))
    return content


@pytest.fixture
def copied(finished_run: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished_run, tmp_path / "run"))


def test_all_ends_with_the_bundle_of_its_student(finished_run: Path, title_folder: Path) -> None:
    assert is_bundle_of(finished_run / "bundle", finished_run / "student")
    assert not is_bundle_of(finished_run / "bundle", finished_run / "student.2")
    runtime = load(finished_run / "bundle")
    assert runtime.examples == () and len(runtime.labels) == 3


def test_the_card_of_the_bundle_has_the_results_on_test(finished_run: Path) -> None:
    bundle, student = (card_of(finished_run / name) for name in ("bundle", "student"))
    assert bundle.test == student.test and bundle.test["accuracy"] == report_of(finished_run)["rows"][-1]["accuracy"]
    assert "Not evaluated on test" not in (finished_run / "bundle" / "README.md").read_text(encoding="utf-8")


def test_the_report_times_what_ships(finished_run: Path) -> None:
    shipped = report_of(finished_run)["shipped"]
    bundle, teacher, bert = (next(row for row in shipped["rows"] if row["name"] == name) for name in NAMES)
    assert shipped["is_bundle"] and bert["speedup"] == 1
    assert shipped["times_bert_base"] == pytest.approx(bert["us_per_text"] / bundle["us_per_text"])
    assert shipped["times_teacher"] == pytest.approx(teacher["us_per_text"] / bundle["us_per_text"])
    assert all(row["p50_us"] > 0 and row["threads"] >= 1 for row in shipped["rows"])
    markdown = (finished_run / "report" / "report.md").read_text(encoding="utf-8")
    head = markdown.partition("| accuracy |")[0]
    assert "× as fast as BERT-base" in head and "× as fast as its teacher" in head and "One thread of" in head
    page = (finished_run / "report" / "report.html").read_text(encoding="utf-8")
    assert "× as fast as BERT-base" in page and "BERT-base has random weights" in page


NAMES = ("student, bundle", f"teacher, {default_precision(torch.device('cpu'))}", "bert-base-chinese, fp32")


def test_the_commands_of_the_report_use_this_bundle(
    finished_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """They are run as printed; only the port of the service is added."""
    commands = [one["command"] for one in report_of(finished_run)["usage"]]
    label, serve, python = map(shlex.split, commands)
    (tmp_path / "texts.txt").write_text("球队今天公布新消息\n股票出了问题\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    assert label[:2] == serve[:2] == ["python", "distill.py"] and main(label[2:]) == 0
    rows = (tmp_path / "labelled.txt").read_text(encoding="utf-8").splitlines()
    labels = load(finished_run / "bundle").labels
    assert len(rows) == 2 and all(row.split("\t")[1] in labels for row in rows)
    predicted = subprocess.run(
        [sys.executable, *python[1:]], capture_output=True, text=True, check=True, env={"PYTHONPATH": str(ROOT)}
    )
    assert eval(predicted.stdout)[0] in labels  # noqa: S307 (a list that our own code printed)
    served: list[Path] = []
    monkeypatch.setattr("distill.serve.server.run", lambda app, *_: served.append(app))
    pytest.importorskip("fastapi", reason="the service's packages are not installed")
    assert main([*serve[2:], "--port", "0"]) == 0
    assert len(served) == 1 and f"serving {finished_run / 'bundle'}" in capsys.readouterr().err


def test_the_terminal_ends_with_the_headline_and_the_commands(
    copied: Path, tiny_flags: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    text = output_of(capsys, [*tiny_flags, "--run", str(copied), "--mode", "test"])
    end = text.partition("\nwritten:")[0].strip().splitlines()[-9:]
    assert "× as fast as BERT-base, " in end[0] and end[1].startswith("One thread of ") and not end[2]
    assert end[-1].startswith("python -c ") and str(copied / "bundle") in end[-1]
    assert [line[0] for line in end[3:7:2]] == ["#", "#"] and f"serve --run {copied}" in end[6]


def run_of(folder: Path, flags: Sequence[str]) -> Run:
    return Run(settings_from(vars(parser().parse_args([*flags, "--run", str(folder)]))))


@pytest.mark.parametrize("flags", [[], ["--examples", "2"], ["--max_mb", "0"]])
def test_an_up_to_date_bundle_is_kept(
    copied: Path, tiny_flags: list[str], caplog: pytest.LogCaptureFixture, flags: list[str]
) -> None:
    assert export_if_possible(run_of(copied, [*tiny_flags, *flags])) == [copied / "bundle"]
    assert ("bundle: kept, it was exported from this student" in caplog.text) == (not flags)
    assert len(load(copied / "bundle").examples) == (2 if "--examples" in flags else 0)


def test_the_student_that_the_settings_train_is_exported(copied: Path, tiny_flags: list[str]) -> None:
    alone = [*tiny_flags, "--a", "1", "--T", "0"]
    assert [path.name for path in trained_students(run_of(copied, alone))] == ["student_alone"]
    assert [path.name for path in trained_students(run_of(copied, tiny_flags))] == ["student"]


def damaged(folder: Path) -> None:
    (folder / "bundle.safetensors").write_bytes(b"")


def of_another_student(folder: Path) -> None:
    export_bundle(folder.parent / "student.2", folder)


def without_provenance(folder: Path) -> None:
    card = json.loads((folder / "bundle.json").read_text(encoding="utf-8"))
    del card["made_from"]
    (folder / "bundle.json").write_text(json.dumps(card), encoding="utf-8")


def test_a_bundle_that_an_older_version_made_smaller_is_exported_again(
    copied: Path, tiny_flags: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    path, run = copied / "bundle" / "bundle.json", run_of(copied, tiny_flags)
    card = json.loads(path.read_text(encoding="utf-8"))
    del card["made_from"]["reduction"]
    path.write_text(json.dumps(card), encoding="utf-8")
    assert bundle_of(run, copied / "student") == (copied / "bundle", "")
    assert export_if_possible(run) == [copied / "bundle"] and "kept" not in caplog.text


@pytest.mark.parametrize("change", [shutil.rmtree, damaged, of_another_student, without_provenance])
def test_a_bundle_must_belong_to_its_student(
    change: Callable[[Path], None], copied: Path, tiny_flags: list[str]
) -> None:
    """Older bundles do not say which student they belong to."""
    run = run_of(copied, tiny_flags)
    assert bundle_of(run, copied / "student") == (copied / "bundle", "")
    change(copied / "bundle")
    bundle, remark = bundle_of(run, copied / "student")
    assert bundle is None and "There is no bundle of this student" in remark and "--mode export" in remark


def test_without_a_bundle_the_report_falls_back_to_pytorch(
    copied: Path, tiny_flags: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """``--mode test`` exports nothing."""
    shutil.rmtree(copied / "bundle")
    text = output_of(capsys, [*tiny_flags, "--run", str(copied), "--mode", "test"])
    assert "There is no bundle of this student" in text and "python -c" not in text
    assert not (copied / "bundle").exists()
    report = report_of(copied)
    assert not report["shipped"]["is_bundle"] and report["usage"] == []
    assert report["shipped"]["rows"][0]["name"] == "student, PyTorch"
    assert "the student in PyTorch" in (copied / "report" / "report.md").read_text(encoding="utf-8")


def test_figures_are_those_of_the_student_alone_if_it_ships(copied: Path, tiny_flags: list[str]) -> None:
    assert main([*tiny_flags, "--run", str(copied), "--mode", "test", "--a", "1", "--T", "0"]) == 0
    report = report_of(copied)
    rows = {row["name"]: row for row in report["rows"]}
    assert report["unsure"]["model"] == "student_alone" and list(rows) == ["teacher", "student", "student_alone"]
    page = (copied / "report" / "report.html").read_text(encoding="utf-8")
    assert "classified correctly by the student alone" in page


def test_a_student_that_cannot_be_exported_does_not_stop_the_run(
    copied: Path, tiny_flags: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.rmtree(copied / "bundle")
    for folder in copied.glob("student*"):
        shutil.rmtree(folder)
    flags = [*tiny_flags, "--student", "textgcn", "--student_epochs", "2", "--run", str(copied)]
    text = output_of(capsys, flags)
    assert text.count("no bundle was exported: ") == 1 and "labels only the texts of its graph" in text
    assert "A textgcn cannot be exported as a bundle" in text
    assert report_of(copied)["shipped"]["times_bert_base"] > 0


def test_a_teacher_alone_has_no_speed_to_show(tiny_flags: list[str], copied: Path) -> None:
    for folder in copied.glob("student*"):
        shutil.rmtree(folder)
    assert main([*tiny_flags, "--run", str(copied), "--mode", "test"]) == 0
    assert report_of(copied)["shipped"] is None and report_of(copied)["usage"] == []


def test_examples_are_short_test_texts_of_each_class_in_turn(
    copied: Path, tiny_flags: list[str], title_folder: Path
) -> None:
    export_if_possible(run_of(copied, [*tiny_flags, "--examples", "4"]))
    label_of = {row["text"]: row["label"] for row in json.loads((title_folder / "test.json").read_text("utf-8"))}
    labels = [label_of[text] for text in load(copied / "bundle").examples]
    assert len(labels) == 4 and len(set(labels[:3])) == 3


def test_what_an_export_depends_on(finished_run: Path, tmp_path: Path) -> None:
    student = finished_run / "student"
    bundle = export_bundle(student, tmp_path / "bundle", 2e7, examples=["一"])
    assert is_current(bundle, student, 2e7, ["一"])
    assert not is_current(bundle, student, 1e7, ["一"]) and not is_current(bundle, student, 2e7, [])
    assert is_bundle_of(bundle, student)
