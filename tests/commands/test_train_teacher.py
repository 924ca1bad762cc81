"""Teachers that other teachers teach (self-training, merging several), and masked-language-model pretraining."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from conftest import output_of

from distill.cli import main
from distill.commands import train_teacher
from distill.commands.experiment import labels_of
from distill.commands.saved_models import remind_of_single_class
from distill.config import TeacherSettings
from distill.data import Dataset, Example
from distill.training.losses import Loss


def test_a_teacher_learns_from_another_one_on_unlabelled_texts(
    finished_run: Path, tiny_flags: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "more.txt").write_text("球队又上了头条新闻\n基金出了大问题\n手机为什么这么贵\n", "utf-8")
    first, run = finished_run / "teacher", tmp_path / "run"
    taught = [*tiny_flags, "--mode", "train_teacher", "--run", str(run), "--teacher_taught_by", str(first)]
    text = output_of(capsys, [*taught, "--unlabeled", str(tmp_path / "more.txt")])
    assert "teacher: dev accuracy" in text
    record = json.loads((run / "teacher" / "made_from.json").read_text("utf-8"))
    assert len(record["teacher"]) == 1 and record["extra texts"]
    losses = [
        json.loads(line)["train_loss"] for line in (run / "teacher" / "log.jsonl").read_text("utf-8").splitlines()
    ]
    assert losses[0].keys() == {"labels", "soft"} and losses[-1]["soft"] < losses[0]["soft"]
    assert "teacher: kept" in output_of(capsys, [*taught, "--unlabeled", str(tmp_path / "more.txt")])
    assert "extra texts changed" in output_of(capsys, taught)


def test_long_batches_are_computed_in_parts_where_the_loss_is_a_mean_over_texts() -> None:
    examples = tuple(Example(number, "字", number % 2) for number in range(4))
    data = Dataset(examples, examples, examples, ("甲", "乙"), {})
    settings = TeacherSettings(epochs=1, batch_size=2)
    assert train_teacher.teacher_schedule(settings, data).tokens_at_once == train_teacher.TOKENS_AT_ONCE
    for given in ({"shared": True}, {"taught_by": ("teacher",)}):
        other = dataclasses.replace(settings, **given)
        assert train_teacher.teacher_schedule(other, data).tokens_at_once == 0


def test_the_provenance_of_an_ordinary_teacher_has_not_changed(finished_run: Path) -> None:
    record = json.loads((finished_run / "teacher" / "made_from.json").read_text("utf-8"))
    new = {"epochs of masked word pieces", "teacher", "extra texts", "target metric", "levels", "tasks"}
    assert {key for key, value in record.items() if value is None} == new
    assert not record["settings"].keys() & {"model", "pretrain", "taught_by"}


def test_pretraining_is_part_of_the_provenance(
    tiny_flags: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = [*tiny_flags, "--mode", "train_teacher", "--teacher_epochs", "1", "--run", str(tmp_path)]
    assert "masked word pieces: loss" in output_of(capsys, [*flags, "--teacher_pretrain", "1"])
    assert "trained again, epochs of masked word pieces changed" in output_of(capsys, flags)


def test_a_teacher_that_would_overwrite_its_own_teacher_is_refused(
    finished_run: Path, tiny_flags: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(finished_run / "teacher", tmp_path / "teacher")
    itself = [*tiny_flags, "--mode", "train_teacher", "--run", str(tmp_path), "--teacher_taught_by"]
    assert main([*itself, str(tmp_path / "teacher")]) == 2
    assert "a teacher cannot teach itself: the run would overwrite it" in capsys.readouterr().err
    shutil.copytree(finished_run / "teacher", second := tmp_path / "new" / "teacher.2")
    assert main([*itself, str(second), "--run", str(second.parent), "--teachers", "2"]) == 2
    assert "a teacher cannot teach itself" in capsys.readouterr().err and not (second.parent / "teacher").exists()
    assert main([*itself, str(tmp_path / "nowhere")]) == 2
    assert "there is no trained teacher" in capsys.readouterr().err
    twice = [str(finished_run / "teacher"), "--teacher_taught_by", str(finished_run / "teacher")]
    assert main([*itself, *twice]) == 2
    assert "--teacher_taught_by: the same teacher is named twice" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("predicted", "gold", "warning"),
    [
        (
            [1, 1, 1, 1],
            [0, 1, 2, 0],
            "teacher predicts the class 乙 for 100 % of the 4 dev texts, but 25 % of them have this label: it does not "
            "tell the classes apart. Train it longer (--teacher_epochs), change the learning rate (--teacher_lr), or "
            "start from other weights (--teacher_model).",
        ),
        ([1, 1, 1, 0], [0, 1, 2, 0], None),
        ([1, 1, 1, 1], [1, 1, 1, 1], None),  # dev has one class only
    ],
)
def test_a_single_class_is_reported(
    predicted: list[int], gold: list[int], warning: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("distill.progress.reminders", reminders := {})
    data = SimpleNamespace(
        dev=[Example(index, "", label) for index, label in enumerate(gold)], labels=("甲", "乙", "丙")
    )
    run, logits = SimpleNamespace(data=data, labels_of=labels_of), torch.eye(3)[predicted]
    remind_of_single_class(run, "teacher", "teacher", logits)  # type: ignore[arg-type]
    assert list(reminders) == ([warning] if warning else [])


def test_a_model_that_predicts_a_single_class_is_reported_at_the_end(
    tiny_flags: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A teacher and a student whose learning rates are far too high."""
    run = [*tiny_flags, "--run", str(tmp_path), "--mode"]
    teacher = ["train_teacher", "--teacher_epochs", "2", "--teacher_lr", "10"]
    assert "warning: teacher predicts the class" in output_of(capsys, [*run, *teacher]).split("written:")[1]
    student = [
        "train_student",
        "--a",
        "1",
        "--T",
        "0",
        "--student_epochs",
        "1",
        "--student_lr",
        "0",
        "--vector_lr",
        "0",
    ]
    text = output_of(capsys, [*run, *student]).split("written:")[1]
    assert "warning: student_alone predicts the class" in text and "(--student_lr)" in text


def test_a_teacher_that_diverges_stops(
    tiny_flags: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(
        train_teacher, "labels_only", lambda *_: lambda output, targets: Loss(output.logits.sum() / 0, {})
    )
    text = output_of(capsys, [*tiny_flags, "--mode", "train_teacher", "--run", str(tmp_path)], code=2)
    assert "error: teacher: the loss is NaN or infinite at step 1 of" in text and "--teacher_lr" in text
    assert not (tmp_path / "teacher").exists()


def test_a_vocabulary_that_does_not_cover_the_texts_is_reported(
    tiny_flags: list[str], tiny_bert: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(tiny_bert, tmp_path / "mine")
    (tmp_path / "mine" / "tokenizer.json").unlink()
    pieces = (tmp_path / "mine" / "vocab.txt").read_text("utf-8").splitlines()
    (tmp_path / "mine" / "vocab.txt").write_text("\n".join(pieces[:30]), "utf-8")
    flags = [*tiny_flags, "--mode", "train_teacher", "--teacher_epochs", "1", "--run", str(tmp_path / "run")]
    text = output_of(capsys, [*flags, "--teacher_model", str(tmp_path / "mine")])
    assert re.search(r"warning: word pieces of the teacher that are \[UNK\]: \d\d", text)


def test_a_teacher_is_saved_with_the_warnings_about_its_own_teachers(
    finished_run: Path, tiny_flags: list[str], tmp_path: Path
) -> None:
    flags = [*tiny_flags, "--mode", "train_teacher", "--teacher_epochs", "1", "--teachers", "2"]
    flags += ["--seed", "7"]  # another split, so that it may have seen texts of dev
    assert main([*flags, "--teacher_taught_by", str(finished_run / "teacher"), "--run", str(tmp_path / "run")]) == 0
    for name in ("teacher", "teacher.2"):
        assert "it may have seen texts of dev or test" in (tmp_path / "run" / name / "warnings.json").read_text("utf-8")
