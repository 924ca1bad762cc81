"""The library functions ``load_student`` and ``load_teacher``."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file, save_file

import distill
from distill.errors import UserError

TEXTS = ["球队今天公布新消息", "", "　", "🙂🙂", "股票\x00大涨", "基" * 5000]


def test_any_text_gets_a_label(finished_run: Path) -> None:
    student = distill.load_student(finished_run / "student")
    assert len(student.predict(TEXTS)) == len(TEXTS)
    assert set(student.predict(TEXTS)) <= set(student.labels) == {"体育", "财经", "科技"}
    assert student.predict([]) == []


def test_probabilities_sum_to_one_and_agree_with_labels(finished_run: Path) -> None:
    for load, folder in ((distill.load_student, "student"), (distill.load_teacher, "teacher")):
        model = load(finished_run / folder)
        probabilities = model.predict_proba(TEXTS)
        assert probabilities.shape == (len(TEXTS), 3) and np.allclose(probabilities.sum(1), 1, atol=1e-6)
        assert [model.labels[index] for index in probabilities.argmax(1)] == model.predict(TEXTS)


@pytest.mark.parametrize("wrong", ["一个字符串", [1, 2], [None]])
def test_wrong_types(wrong: object, finished_run: Path) -> None:
    with pytest.raises(UserError, match="texts must be a list of strings"):
        distill.load_student(finished_run / "student").predict(wrong)  # type: ignore[arg-type]


def test_a_folder_without_a_student(tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"not a student's folder: student\.json, student\.safetensors, vocabulary\.txt missing"
    ):
        distill.load_student(tmp_path)


def test_a_broken_student(finished_run: Path, tmp_path: Path) -> None:
    def broken(name: str, content: str) -> str:
        shutil.copytree(finished_run / "student", tmp_path / name, dirs_exist_ok=True)
        (tmp_path / name / name).write_text(content, "utf-8")
        with pytest.raises(UserError) as error:
            distill.load_student(tmp_path / name)
        return str(error.value)

    card = json.loads((finished_run / "student" / "student.json").read_text("utf-8"))
    assert "this student is broken" in broken("student.json", "{")
    assert "this student is broken" in broken("student.safetensors", "short")
    card["config"]["hidden"] += 1
    assert "this student is broken" in broken("student.json", json.dumps(card))
    assert "not a vocabulary" in broken("vocabulary.txt", "")


def test_unknown_names_of_the_library() -> None:
    with pytest.raises(AttributeError, match="no attribute 'load_pupil'"):
        distill.load_pupil  # noqa: B018


def test_weights_and_logits_that_are_not_finite(finished_run: Path, tmp_path: Path) -> None:
    shutil.copytree(finished_run / "student", tmp_path / "student")
    weights = load_file(tmp_path / "student" / "student.safetensors")
    model = distill.load_student(tmp_path / "student")
    for parameter in model.model.parameters():
        parameter.data.fill_(3e38)
    with pytest.raises(UserError, match="the logits of 2 of 2 texts are NaN or infinite"):
        model.predict(["球队", "股票"])
    name = next(name for name, tensor in weights.items() if tensor.is_floating_point())
    weights[name].view(-1)[0] = np.inf
    save_file(weights, tmp_path / "student" / "student.safetensors")
    with pytest.raises(UserError, match=f"some weights are NaN or infinite, in {name}"):
        distill.load_student(tmp_path / "student")
