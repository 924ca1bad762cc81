"""Teachers that this program saved: labels by name, and what is recorded with the students of any teacher."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from distill.commands.evaluate import _current_models
from distill.config import Settings
from distill.errors import UserError
from distill.models.text_classifier import TextClassifier, load_student
from distill.storage.run_folder import VOCABULARY
from distill.teachers import LabellingTask, resolve
from distill.teachers.base import ModelTeacher
from distill.text.segmentation import Segmenter

FOLDER = Path(__file__).parent.parent / "fixtures" / "student"
TEXTS = ["球队夺冠", "银行降息", "手机发布"]
STUDENT = load_student(FOLDER)
LABELS = STUDENT.labels


def model_of(labels: tuple[str, ...], names: dict[str, str]) -> TextClassifier:
    teacher = resolve(FOLDER, names)
    assert isinstance(teacher, ModelTeacher) and teacher.labels() == labels
    return teacher.classifier(LabellingTask(labels, Segmenter(), 64))


def test_labels_are_merged() -> None:
    """The probability of a label is the sum of those of all of the teacher's labels that have its name."""
    merged = model_of(("合", *LABELS[2:]), {LABELS[0]: "合", LABELS[1]: "合"})
    own = STUDENT.logits(TEXTS).softmax(1)
    wanted = torch.cat([own[:, :2].sum(1, keepdim=True), own[:, 2:]], dim=1)
    assert torch.allclose(merged.logits(TEXTS).softmax(1), wanted, atol=1e-6)
    both = merged.logits_and_vectors(TEXTS)[:, : len(merged.labels)].float()
    assert torch.allclose(both.softmax(1), wanted, atol=1e-2)


def test_what_a_student_answers_depends_on_the_segmenter(tmp_path: Path) -> None:
    (tmp_path / "words.txt").write_text("球队夺冠\n", "utf-8")
    teacher = resolve(FOLDER, {})
    first, again, other = (
        teacher.provenance(LabellingTask(LABELS, segmenter, 64))
        for segmenter in (Segmenter(), Segmenter(), Segmenter(tmp_path / "words.txt"))
    )
    assert first == again != other


@pytest.mark.parametrize("is_in_table", [True, False])
def test_a_label_that_the_data_lacks_is_left_out_and_said(is_in_table: bool, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "distill")
    teacher = resolve(FOLDER, {LABELS[0]: ""} if is_in_table else {})
    assert teacher.labels() == (LABELS[1:] if is_in_table else LABELS)
    logits = teacher.open(LabellingTask(LABELS[1:], Segmenter(), 64))(TEXTS, "")
    assert logits.equal(STUDENT.logits(TEXTS)[:, 1:])
    assert f"labels that the data does not have: {LABELS[0]}; their probability is left out" in caplog.text


def test_labels_are_those_of_the_data_once_and_with_a_name(tmp_path: Path) -> None:
    """So data without labels gets no class without a name, of any kind of teacher."""

    def function(texts: list[str]) -> list[str]:
        return ["甲"] * len(texts)

    function.labels = ["甲", "乙", "丙", "丁"]  # type: ignore[attr-defined]
    (tmp_path / "config.json").write_text(
        json.dumps({"model_type": "bert", "id2label": dict(enumerate(["甲", "乙", "丙", "丁"]))}), "utf-8"
    )
    (tmp_path / "saved").mkdir()
    (tmp_path / "saved" / "student.json").write_text(json.dumps({"labels": ["甲", "乙", "丙", "丁"]}), "utf-8")
    (tmp_path / "a.csv").write_text("text,label\n一,甲\n二,乙\n三,丙\n四,丁\n", "utf-8")
    for value in (function, tmp_path, tmp_path / "saved", tmp_path / "a.csv"):
        assert set(resolve(value, {"甲": "", "乙": "丙"}).labels()) == {"丙", "丁"}, value
        assert len(resolve(value, {"甲": "", "乙": "丙"}).labels()) == 2


def test_the_record_of_a_student_changes_with_the_answers_of_its_teacher(tmp_path: Path) -> None:
    """A saved teacher without a table of labels has the record of earlier versions: the fingerprints of its files."""
    short, long = (LabellingTask(LABELS, Segmenter(), length) for length in (32, 64))
    plain = resolve(FOLDER, {})
    assert plain.record(short) == plain.fingerprints() == plain.record(long) and VOCABULARY in plain.record(short)
    assert resolve(FOLDER, {"a": "b"}).record(short) != plain.record(short)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert"}), "utf-8")
    classifier = resolve(tmp_path, {})
    assert classifier.record(short) != classifier.record(long)


@pytest.mark.parametrize(("names", "is_other"), [({}, False), ({"a": "b"}, True)])
def test_a_student_of_other_answers_is_not_evaluated_with_this_teacher(
    names: dict[str, str], is_other: bool, tmp_path: Path
) -> None:
    task = LabellingTask(LABELS, Segmenter(), 64)
    (tmp_path / "made_from.json").write_text(json.dumps({"teacher": [resolve(FOLDER, {}).record(task)]}), "utf-8")
    run: Any = SimpleNamespace(
        task=task, settings=Settings(), data=SimpleNamespace(has_labels=True), check_same_data=lambda *_: None
    )
    folders: Any = {("student", 42): tmp_path}
    if is_other:
        with pytest.raises(UserError, match="this student was distilled from another teacher"):
            _current_models(run, folders, [resolve(FOLDER, names)])
    else:
        _current_models(run, folders, [resolve(FOLDER, names)])
