"""The figures on unsure texts in the report of a run, and the thresholds of a comparison's cascade."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from distill.cli import main
from distill.commands.experiment import label_sets_of, labels_of
from distill.commands.unsure import cascades
from distill.data import Example
from distill.reporting.results import Outcome


def test_the_report_has_the_figures_of_the_first_seed(finished_run: Path) -> None:
    report = json.loads((finished_run / "report" / "report.json").read_text("utf-8"))
    unsure, rows = report["unsure"], {row["name"]: row for row in report["rows"]}
    assert unsure["model"] == "student" and unsure["dev_texts"] == report["data"]["dev"] == 9
    assert unsure["aurc"].keys() == {"teacher", "student_alone", "student"}
    assert unsure["every_text"]["test_texts"] == 30 and unsure["every_text"]["dev_share"] == 1
    assert all(row["threshold"] is None for row in unsure["targets"])  # 9 texts are too few
    student, teacher = unsure["cascade"][0], unsure["cascade"][-1]
    assert student["name"].startswith("student only") and student["accuracy"] == unsure["every_text"]["test_accuracy"]
    assert teacher["name"] == "teacher only" and teacher["accuracy"] == pytest.approx(rows["teacher"]["accuracy"])
    shares = [row["share"] for row in unsure["cascade"]]
    assert shares == sorted(shares) and (shares[0], shares[-1]) == (0, 1)
    assert "Not reached on dev" in (finished_run / "report" / "report.md").read_text("utf-8")


@pytest.mark.parametrize("wrong", ["95", "-0.5", "nan", "all", "1.01", ""])
def test_a_wrong_target_is_refused_at_once(wrong: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--run", str(tmp_path / "run"), "--target_accuracy", "0.9", f"--target_accuracy={wrong}"]) == 2
    expected = f"--target_accuracy is {wrong!r}, must be a number between 0 and 1 -> --target_accuracy 0.95"
    assert expected in capsys.readouterr().err


def test_thresholds_of_a_comparison_are_chosen_on_dev() -> None:
    """The first student is wrong where it is unsure on dev, the second one is as good as the teacher."""
    dev = [Example(number, f"{number}", number % 2) for number in range(4)]

    def logits_of(right: list[bool], sure: list[bool]) -> torch.Tensor:
        classes = [
            example.label if is_right else 1 - example.label for example, is_right in zip(dev, right, strict=True)
        ]
        scale = torch.tensor([4.0 if is_sure else 1.0 for is_sure in sure])
        return torch.nn.functional.one_hot(torch.tensor(classes), 2) * scale[:, None]

    def student(*arguments: Any) -> Any:
        return SimpleNamespace(logits=lambda texts: logits_of(*arguments))

    sure = [True, True, True, False]
    students = [student([True, True, True, False], sure), student([True] * 4, sure)]
    run: Any = SimpleNamespace(data=SimpleNamespace(dev=dev, test=dev[:2]), labels_of=labels_of)
    test = np.array([[1, 0], [0, 1]], np.float32) * np.array([[4], [1]], np.float32)  # sure, unsure
    outcomes = [Outcome("student", seed, test, None, None, {}) for seed in (42, 43)]
    found = cascades(run, students, outcomes, np.array([True] * 4), np.array([1, 0]))
    assert found.predicted.tolist() == [[0, 0], [0, 1]]
    assert found.share == 0.25 and found.threshold == pytest.approx((0.732 + 0) / 2)


def test_a_label_set_goes_to_the_teacher_as_a_whole() -> None:
    """On dev the student is wrong where one of two labels is unsure; on test the second text is so."""
    dev = [Example(0, "0", frozenset({0})), Example(1, "1", frozenset({0, 1}))]
    logits = np.array([[4, -4], [4, -0.5]], np.float32)
    run: Any = SimpleNamespace(
        data=SimpleNamespace(dev=dev, test=dev), labels_of=lambda examples: label_sets_of(examples, 2)
    )
    outcome = Outcome("student", 42, logits, None, None, {}, thresholds=(0.5, 0.5))
    student: Any = SimpleNamespace(logits=lambda texts: torch.from_numpy(logits))
    found = cascades(run, [student], [outcome], np.array([True, True]), np.array([[False, False], [True, True]]))
    assert found.predicted.tolist() == [[[True, False], [True, True]]]
    assert found.share == 0.5 and 0.6 < found.threshold < 0.7
