"""Whole runs from the command line, with tiny real models."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
from conftest import output_of
from safetensors.torch import load_file
from transformers import AutoModel, AutoTokenizer

from distill import load_student
from distill.cli import main
from distill.commands import train_student
from distill.progress import remind


def test_all_writes_the_promised_report(finished_run: Path) -> None:
    report = json.loads((finished_run / "report" / "report.json").read_text(encoding="utf-8"))
    assert [row["name"] for row in report["rows"]] == ["teacher", "student_alone", "student"]
    promised = {
        "accuracy",
        "accuracy_distinct",
        "macro_f1",
        "kept",
        "parameters",
        "bytes",
        "ms_per_text",
        "speedup",
        "seeds",
    }
    for row in report["rows"]:
        assert promised <= row.keys()
    teacher, alone, student = report["rows"]
    assert teacher["seeds"] == 1 and "accuracy_sd" not in teacher
    assert alone["seeds"] == student["seeds"] == 2 and "accuracy_sd" in student
    assert teacher["kept"] == 1 and teacher["speedup"] == 1
    assert student["kept"] == pytest.approx(student["accuracy"] / teacher["accuracy"])
    assert report["data"]["train"] == 81 and report["data"]["test"] == 30
    assert report["settings"]["objective"]["logits_weight"] > 0


def test_all_learns_the_toy_task(finished_run: Path) -> None:
    rows = json.loads((finished_run / "report" / "report.json").read_text(encoding="utf-8"))["rows"]
    assert min(row["accuracy"] for row in rows) > 0.6  # chance is a third


def test_report_folder_holds_text_and_plots(finished_run: Path) -> None:
    folder = finished_run / "report"
    markdown = (folder / "report.md").read_text(encoding="utf-8")
    assert "distilled student" in markdown and "体育" in markdown and "0 whose text is in test" in markdown
    for name in ("confusion.png", "curves.png"):
        assert (folder / name).read_bytes().startswith(b"\x89PNG")


def test_the_teacher_folder_is_an_ordinary_checkpoint(finished_run: Path) -> None:
    encoder = AutoModel.from_pretrained(finished_run / "teacher")
    tokenizer = AutoTokenizer.from_pretrained(finished_run / "teacher")
    states = encoder(**tokenizer("球队今天公布新消息", return_tensors="pt")).last_hidden_state
    assert states.shape == (1, 11, 32)


def test_nothing_is_pickled(finished_run: Path) -> None:
    suffixes = {path.suffix for path in finished_run.rglob("*") if path.is_file()}
    assert suffixes <= {".json", ".jsonl", ".safetensors", ".txt", ".md", ".html", ".png", ".csv"}


def test_the_library_predicts_the_labels_that_the_report_counted(finished_run: Path, title_folder: Path) -> None:
    student = load_student(finished_run / "student")
    rows = json.loads((title_folder / "test.json").read_text(encoding="utf-8"))
    predicted = student.predict([row["text"] for row in rows])
    right = sum(label == row["label"] for label, row in zip(predicted, rows, strict=True)) / len(rows)
    other = load_student(finished_run / "student.2").predict([row["text"] for row in rows])
    right_other = sum(label == row["label"] for label, row in zip(other, rows, strict=True)) / len(rows)
    report = json.loads((finished_run / "report" / "report.json").read_text(encoding="utf-8"))
    assert report["rows"][2]["accuracy"] == pytest.approx((right + right_other) / 2)


def test_the_same_command_keeps_finished_stages(
    finished_run: Path, tiny_flags: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path: path.stat().st_mtime_ns for path in finished_run.rglob("*.safetensors")}
    text = output_of(capsys, [*tiny_flags, "--run", str(finished_run), "--seeds", "2"])
    assert text.count("kept, it was trained with the same data and settings") == 5
    assert "teacher logits: complete in the cache" in text
    assert before == {path: path.stat().st_mtime_ns for path in finished_run.rglob("*.safetensors")}


def test_the_same_seed_gives_the_same_weights(finished_run: Path, tiny_flags: list[str], tmp_path: Path) -> None:
    for mode in ("train_teacher", "label", "train_student"):
        assert main([*tiny_flags, "--run", str(tmp_path / "again"), "--mode", mode]) == 0
    for name in ("teacher/model.safetensors", "teacher/head.safetensors", "student/student.safetensors"):
        first, second = load_file(finished_run / name), load_file(tmp_path / "again" / name)
        assert all(first[key].equal(second[key]) for key in first), name


def test_another_setting_trains_again_and_logs_why(
    finished_run: Path, tiny_flags: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(finished_run, folder)
    text = output_of(capsys, [*tiny_flags, "--run", str(folder), "--teacher_epochs", "1"])
    assert "teacher: trained again, settings changed" in text
    assert "teacher logits: the cache is stale (model.safetensors, head.safetensors changed), computed again" in text
    assert "student: trained again, objective changed, teacher changed" in text
    assert "student_alone: kept" in text


@pytest.mark.parametrize("name", ["student.safetensors", "student.json", "vocabulary.txt", "log.jsonl"])
def test_a_damaged_model_is_refused_and_trained_again(
    name: str, finished_run: Path, tiny_flags: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = [*tiny_flags, "--run", str(shutil.copytree(finished_run, tmp_path / "run")), "--mode"]
    path = tmp_path / "run" / "student" / name
    sound = path.read_bytes()
    path.write_bytes(sound[:-1] + bytes([sound[-1] ^ 4]))
    assert f"student: {name} changed since this model was trained" in output_of(capsys, [*flags, "test"], code=2)
    text = output_of(capsys, [*flags, "train_student"])
    assert f"student: trained again, {name} changed" in text
    assert name == "log.jsonl" or path.read_bytes() == sound  # the log holds seconds


def test_modes_one_by_one(tiny_flags: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = [*tiny_flags, "--run", str(tmp_path), "--mode"]
    assert "there is no trained teacher" in output_of(capsys, [*flags, "train_student"], code=2)
    assert "nothing is trained yet" in output_of(capsys, [*flags, "test"], code=2)
    assert "student_alone, seed 42" in output_of(capsys, [*flags, "train_student", "--a", "1", "--T", "0"])
    assert not (tmp_path / "teacher").exists()
    text = output_of(capsys, [*flags, "test"])
    assert (
        "Not trained: teacher. To train it: python distill.py --mode train_teacher" in text and "student alone" in text
    )
    assert "teacher: dev accuracy" in output_of(capsys, [*flags, "train_teacher"])
    output_of(capsys, [*flags, "label"])
    assert "teacher logits: complete in the cache" in output_of(capsys, [*flags, "train_student"])
    assert "distilled student" in output_of(capsys, [*flags, "test"])


def test_a_model_trained_on_another_split_is_refused(
    finished_run: Path, tiny_flags: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    for mode in ("test", "train_student"):
        text = output_of(capsys, [*tiny_flags, "--run", str(finished_run), "--mode", mode, "--seed", "7"], code=2)
        assert "trained on other data, or split with another seed" in text
        assert "train it again: python distill.py --mode train_teacher, or remove this folder" in text


def test_test_evaluates_all_seeds_and_reports_their_provenance(
    finished_run: Path, tiny_flags: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """--seeds need not be repeated; a student of another teacher is refused."""
    folder = tmp_path / "run"
    shutil.copytree(finished_run, folder)
    flags = [*tiny_flags[:6], "--run", str(folder), "--mode"]
    older = folder / "student_alone.2" / "made_from.json"
    record = json.loads(older.read_text(encoding="utf-8"))
    assert record.pop("general share", "") is None  # a version that did not know it wrote nothing
    older.write_text(json.dumps(record), encoding="utf-8")
    output_of(capsys, [*flags, "test"])
    report = json.loads((folder / "report" / "report.json").read_text(encoding="utf-8"))
    assert [row["seeds"] for row in report["rows"]] == [1, 2, 2]
    assert report["settings"]["made_from"]["student"]["settings"]["epochs"] == 30
    (folder / "student.2" / "made_from.json").write_text("{")
    output_of(capsys, [*flags, "test"])  # a student whose record is broken is none
    report = json.loads((folder / "report" / "report.json").read_text(encoding="utf-8"))
    assert [row["seeds"] for row in report["rows"]] == [1, 2, 1]
    output_of(capsys, [*flags, "train_teacher", "--teacher_epochs", "1"])
    assert "this student was distilled from another teacher" in output_of(capsys, [*flags, "test"], code=2)
    alone = output_of(capsys, [*flags, "test", "--a", "1", "--T", "0"])  # trains no distilled student
    left_out = f"{folder / 'student'}: left out, it was trained on other data or by another teacher"
    assert left_out in alone
    other = ["--teacher", str(Path(__file__).parents[1] / "fixtures" / "student")]
    assert left_out in output_of(capsys, [*flags, "test", "--a", "1", "--T", "0", *other])


def test_sentence_input_and_a_frozen_teacher_with_fewer_layers(tiny_flags: list[str], tmp_path: Path) -> None:
    flags = ["--student_input", "sentence", "--teacher_layers", "1", "--freeze", "embeddings", "--teacher_texts", "40"]
    for mode in ("train_teacher", "train_student"):
        assert main([*tiny_flags, *flags, "--run", str(tmp_path), "--teacher_pooling", "cls", "--mode", mode]) == 0
    assert AutoModel.from_pretrained(tmp_path / "teacher").config.num_hidden_layers == 1
    assert load_student(tmp_path / "student").model.config.sentence


def test_ctrl_c_keeps_finished_stages(
    finished_run: Path,
    tiny_flags: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from distill.models.checkpoint import save_student

    def interrupted(folder: Path, *arguments: object, **options: object) -> None:
        save_student(folder, *arguments, **options)  # type: ignore[arg-type]
        raise KeyboardInterrupt

    monkeypatch.setattr("distill.commands.train_student.save_student", interrupted)
    for folder in ("teacher", "cache"):
        shutil.copytree(finished_run / folder, tmp_path / folder)
    flags = [*tiny_flags, "--run", str(tmp_path)]
    assert "run the same command again to continue" in output_of(capsys, flags, code=130)
    assert {path.name for path in tmp_path.iterdir()} == {"teacher", "cache", "config.json", "report"}
    monkeypatch.undo()
    text = output_of(capsys, [*flags, "--mode", "train_student"])
    assert "teacher logits: complete in the cache" in text and "student, seed 42: dev accuracy" in text


def test_a_full_disk_leaves_nothing_half_written(
    tiny_flags: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    text = output_of(capsys, [*tiny_flags, "--run", str(tmp_path)], code=2)
    assert "the disk is full; no incomplete file was left" in text
    assert list(tmp_path.iterdir()) == []


def test_a_student_is_saved_with_its_own_warnings(
    tiny_flags: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(train_student, "remind_of_single_class", lambda run, name, *more: remind(f"{name} is odd"))
    flags = [*tiny_flags, "--mode", "train_student", "--a", "1", "--T", "0", "--student_epochs", "1", "--seeds", "2"]
    assert main([*flags, "--run", str(tmp_path)]) == 0
    for name in ("student_alone", "student_alone.2"):
        warnings = json.loads((tmp_path / name / "warnings.json").read_text(encoding="utf-8"))
        assert [warning for warning in warnings if "is odd" in warning] == [f"{name} is odd"]
