"""A Python function as a teacher: called in batches, cached, its answers in any form, its errors reported."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import SUBJECTS, output_of

from distill.data import Example
from distill.errors import UserError
from distill.storage.run_folder import RunFolder
from distill.teachers import LabellingTask, resolve
from distill.teachers.answering import Answering
from distill.teachers.function import FunctionTeacher
from distill.text.segmentation import Segmenter

LABELS = tuple(SUBJECTS)
TASK = LabellingTask(LABELS, Segmenter(), 64)
EXAMPLES = [Example.of(f"第{number}条", 0) for number in range(10)]
SOURCE = """
calls = []


def classify(texts):
    calls.append(len(texts))
    return [["体育", "财经", "科技"][len(text) % 3] for text in texts]


classify.batch_size = 4
"""


def first_class(texts: list[str]) -> np.ndarray:
    return np.tile([0.8, 0.1, 0.1], (len(texts), 1))


def answering(tmp_path: Path) -> Answering:
    return Answering(RunFolder(tmp_path / "run"), TASK)


def probabilities(function: Callable[[list[str]], Any], task: LabellingTask = TASK, **names: str) -> np.ndarray:
    logits = resolve(function, names).open(task)(["甲", "乙"], "")
    assert logits.dtype == torch.float32
    return np.asarray(logits.softmax(1).numpy())


@pytest.mark.parametrize(
    "answers",
    [
        np.array([[0.8, 0.1, 0.1], [0.1, 0.1, 0.8]]),
        torch.tensor([[0.8, 0.1, 0.1], [0.1, 0.1, 0.8]]),
        np.log([[0.8, 0.1, 0.1], [0.1, 0.1, 0.8]]) + 5,
        [[0.8, 0.1, 0.1], [0.1, 0.1, 0.8]],
        [{"体育": 0.8, "财经": 0.1, "科技": 0.1}, {"科技": 0.8, "体育": 0.1, "财经": 0.1}],
        [{"label": "体育", "confidence": 0.8}, {"label": "科技", "score": 0.8}],
    ],
)
def test_answers_of_any_form(answers: Any) -> None:
    assert np.allclose(probabilities(lambda texts: answers), [[0.8, 0.1, 0.1], [0.1, 0.1, 0.8]], atol=1e-6)


def test_labels_have_the_confidence_of_the_function() -> None:
    def classify(texts: list[str]) -> list[str]:
        return ["sports", "科技"]

    assert probabilities(classify, sports="体育")[0].tolist() == pytest.approx([0.9, 0.05, 0.05])
    classify.confidence = 0.6  # type: ignore[attr-defined]
    assert probabilities(classify, sports="体育")[1].tolist() == pytest.approx([0.2, 0.2, 0.6])


def test_a_function_may_name_its_own_labels() -> None:
    def classify(texts: list[str]) -> list[list[float]]:
        return [[0.1, 0.2, 0.3, 0.4]] * 2

    classify.labels = ["科技", "其他", "财经", "体育"]  # type: ignore[attr-defined]
    assert probabilities(classify)[0].tolist() == pytest.approx([0.5, 0.375, 0.125])
    assert resolve(classify, {}).labels() == ("科技", "其他", "财经", "体育")
    with pytest.raises(UserError, match=r"give the function an attribute: FUNCTION.labels"):
        resolve(first_class, {}).labels()


def test_it_is_called_in_batches_and_each_text_once(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(SOURCE, "utf-8")
    value = f"{tmp_path / 'mine.py'}:classify"
    teacher = resolve(value, {})
    assert isinstance(teacher, FunctionTeacher)
    calls: list[int] = teacher.function.__globals__["calls"]  # type: ignore[attr-defined]
    first = answering(tmp_path).mean([teacher], EXAMPLES[:6]).logits
    second = answering(tmp_path).mean([teacher], EXAMPLES).logits
    assert calls == [4, 2, 4] and second[:6].equal(first)
    again = resolve(value, {})
    assert answering(tmp_path).mean([again], EXAMPLES).logits.equal(second)
    assert again.function.__globals__["calls"] == []  # type: ignore[attr-defined]
    (tmp_path / "mine.py").write_text(SOURCE + "classify.version = 2\n", "utf-8")
    changed = resolve(value, {})
    assert changed.fingerprints()["version"] == "2"
    answering(tmp_path).mean([changed], EXAMPLES)
    assert changed.function.__globals__["calls"] == [4, 4, 2]  # type: ignore[attr-defined]


@pytest.mark.parametrize("error", [RuntimeError("rate limit"), KeyboardInterrupt()])
def test_what_was_answered_before_an_error_is_kept(error: BaseException, tmp_path: Path) -> None:
    calls: list[int] = []

    def classify(texts: list[str]) -> np.ndarray:
        calls.append(len(texts))
        if len(calls) == 3:
            raise error
        return first_class(texts)

    classify.batch_size = 4  # type: ignore[attr-defined]
    with pytest.raises((UserError, KeyboardInterrupt)) as raised:
        answering(tmp_path).mean([resolve(classify, {})], EXAMPLES)
    if isinstance(error, RuntimeError):
        message = "the function failed on texts 9 to 10 of 10: RuntimeError: rate limit -> earlier answers are kept"
        assert message in str(raised.value) and raised.value.__cause__ is error
    answering(tmp_path).mean([resolve(classify, {})], EXAMPLES)
    assert calls == [4, 4, 2, 2]


@pytest.mark.parametrize(
    ("answers", "message"),
    [
        (["体育"], "1 answers to 2 texts"),
        (np.zeros((2, 4)), r"an array of shape \(2, 4\), expected \(2, 3\)"),
        (np.full((2, 3), np.nan), "a number is NaN or infinite"),
        (["体育", "足球"], "labels that the data does not have, in the answers to texts 1 to 2 of 2: 足球"),
        ([{"体育": 0.9}, {"体育": 0.5}], "texts 1 to 2 of 2: the probabilities sum to 0.9"),
        (None, "cannot be used"),
        ([{"label": "体育", "confidence": 80}] * 2, "the confidence 80 is not between 0 and 1"),
    ],
)
def test_what_is_no_answer_is_reported(answers: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        probabilities(lambda texts: answers)


def test_values_that_name_no_function(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "mine.py").write_text(SOURCE, "utf-8")
    (tmp_path / "broken.py").write_text("import no_such_package", "utf-8")
    assert resolve("mine:classify", {}).name == "mine:classify"
    for value, message in {
        "mine.py": "the name of the function in this file is missing -> --teacher mine.py:FUNCTION",
        "mine.py:label": "there is no function label in mine.py; there are: classify",
        "other.py:label": "no such file -> FILE.py:FUNCTION",
        "broken.py:label": "broken.py cannot be imported: ModuleNotFoundError: No module named 'no_such_package'",
        "no_such_package:label": "no_such_package cannot be imported",
    }.items():
        with pytest.raises(UserError) as error:
            resolve(value, {})
        assert message in str(error.value)


def test_a_function_teaches_from_the_command_line_and_from_python(
    tiny_flags: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from distill.commands import run_mode
    from distill.config.argparse import parser, settings_from

    rules = {subject[0]: label for label, subjects in SUBJECTS.items() for subject in subjects}
    source = f"RULES = {rules}\n\n\ndef label(texts):\n    return [RULES[text[0]] for text in texts]\n"
    (tmp_path / "rules.py").write_text(source, "utf-8")
    flags = [*tiny_flags, "--run", str(tmp_path / "run"), "--student_epochs", "4"]
    output = output_of(capsys, [*flags, "--teacher", f"{tmp_path / 'rules.py'}:label"])
    assert "distilled student" in output and (tmp_path / "run" / "cache").is_dir()
    table = (tmp_path / "run" / "report" / "report.md").read_text("utf-8").splitlines()
    assert any(line.startswith("| teacher | 1.0000 | 1.0000 | 1.0000 | 100.0 % | - | - | - | - |") for line in table)
    settings = settings_from(vars(parser().parse_args([*flags, "--mode", "label", "--run", str(tmp_path / "python")])))
    assert run_mode(settings, [first_class])[-1].name == "label_noise.csv"
