"""The checks of a run: warnings before training, and in the report, which another command may write."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from conftest import on_data, output_of, titles

from distill.commands.data_checks import teacher_checks
from distill.commands.saved_models import training_warnings
from distill.config import TeacherSettings
from distill.data import Dataset, Example, example_id
from distill.models import teacher

TRADITIONAL = "電腦與網際網路"


def data_of(texts: list[str]) -> Dataset:
    examples = tuple(Example(example_id(text), text, 0) for text in texts)
    return Dataset(examples, examples, examples, ("科技",), {})


@pytest.mark.parametrize(
    ("texts", "max_length", "truncated", "unknown"),
    [
        (["球队今天公布新消息"], 11, 0.0, 0.0),  # 9 characters, [CLS] and [SEP]
        (["球队今天公布新消息"], 10, 1.0, 0.0),
        (["球队今天公布", TRADITIONAL], 40, 0.0, 7 / 13),
        ([""], 40, 0.0, 0.0),
    ],
)
def test_the_teachers_word_pieces(
    tiny_bert: Path, texts: list[str], max_length: int, truncated: float, unknown: float
) -> None:
    _, tokenizer = teacher.build(str(tiny_bert), TeacherSettings(max_length=max_length), 2)
    cut, unk = teacher_checks(tokenizer, data_of(texts))
    assert (cut.figure, unk.figure) == (truncated, pytest.approx(unknown))
    assert not unknown or "(most frequent: 網 電 腦 與 際)" in unk.message


@pytest.fixture
def small_class(tmp_path: Path) -> Path:
    """A data folder with four texts of a class in train, and words in test that train lacks."""
    folder = tmp_path / "data"
    folder.mkdir()
    odd = [f"{TRADITIONAL}{number}" for number in "一二三四"]
    rows = {
        "train": [*titles(0, 60), *[(text, "其他") for text in odd]],
        "dev": titles(60, 75),
        "test": [(text, label) for text, label in titles(90, 99)],
    }
    for split, pairs in rows.items():
        content = [{"text": text, "label": label} for text, label in pairs]
        (folder / f"{split}.json").write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
    return folder


def test_warnings_come_before_training_and_stand_in_the_report(
    small_class: Path, tiny_flags: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = f"--student_epochs 1 --student_max_length 2 --run {tmp_path / 'r'}"
    flags = [*on_data(tiny_flags, small_class), *settings.split(), "--mode"]
    text = output_of(capsys, [*flags, "train_student", "--a", "1", "--T", "0"])
    warnings = [line for line in text.splitlines() if line.startswith("warning: ")]
    assert [line.split(":")[1] for line in warnings] == [
        " 1 of 4 classes has fewer than 10 train texts",
        " texts that the student truncates to 2 words",
        " words of test that never occur in train",
    ]
    assert all(text.index(line.removeprefix("warning: ")) < text.index("dev accuracy") for line in warnings)
    assert not (tmp_path / "r" / "student_alone" / "warnings.json").exists(), "the report computes these again"
    tested = output_of(capsys, [*flags, "test"])
    assert all(line in tested for line in warnings)
    report = tmp_path / "r" / "report"
    content = json.loads((report / "report.json").read_text("utf-8"))
    assert content["warnings"] == [line.removeprefix("warning: ") for line in warnings]
    assert [check["is_warning"] for check in content["checks"]].count(True) == 3
    page, markdown = ((report / name).read_text("utf-8") for name in ("report.html", "report.md"))
    for check in content["checks"]:
        assert check["message"] in page and check["message"] in markdown


def test_a_warning_of_the_training_is_saved_with_the_model(
    tiny_flags: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The report of a later command has it, until the model is trained again without it."""
    flags = [*tiny_flags, "--run", str(tmp_path), "--mode"]
    alone = [*flags, "train_student", "--a", "1", "--T", "0"]
    output_of(capsys, [*alone, "--student_lr", "0", "--vector_lr", "0", "--student_epochs", "1"])
    (of_student,) = training_warnings(tmp_path / "student_alone")
    assert of_student.startswith("student_alone predicts the class")
    bad_teacher = ["--teacher_epochs", "1", "--teacher_lr", "10", "--teacher_max_length", "8"]
    text = output_of(capsys, [*flags, "train_teacher", *bad_teacher])
    truncated = "texts that the teacher truncates to 8 word pieces: 100.0 % of train"
    assert truncated in text.partition("dev accuracy")[0], "before training, but not saved with the teacher"
    (of_teacher,) = training_warnings(tmp_path / "teacher")
    assert of_teacher.startswith("teacher predicts the class")
    output_of(capsys, [*flags, "test"])
    report = json.loads((tmp_path / "report" / "report.json").read_text("utf-8"))
    assert {of_student, of_teacher} < set(report["warnings"])
    assert [warning for warning in report["warnings"] if warning.startswith(truncated)]
    assert len(report["decisions"]) == 2 and "label" in report["decisions"][0]
    output_of(capsys, alone)
    assert training_warnings(tmp_path / "student_alone") == []
