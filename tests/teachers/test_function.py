"""A Python function as a teacher: called in batches, cached, its answers in any form, its errors reported."""

from __future__ import annotations

import functools
import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas
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


def test_labels_that_are_numbers_may_have_a_confidence() -> None:
    task = LabellingTask(("0", "1"), Segmenter(), 64)
    answers = [{"label": 1, "confidence": 0.8}, {"label": np.int64(0), "confidence": 0.7}]
    assert np.allclose(probabilities(lambda texts: answers, task), [[0.2, 0.8], [0.7, 0.3]])
    assert np.allclose(probabilities(lambda texts: pandas.Series([1, 0]), task), [[0.1, 0.9], [0.9, 0.1]])


def test_logits_are_centred_and_the_first_batch_decides_what_arrays_are() -> None:
    """So a batch of logits that are small by chance stays logits, and a row of bad probabilities is an error."""

    def classify(texts: list[str]) -> list[list[float]]:
        return [[9.0, 1.0, 2.0] if text == "甲" else [0.9, 0.5, 0.1] for text in texts]

    classify.batch_size = 1  # type: ignore[attr-defined]
    logits = resolve(classify, {}).open(TASK)(["甲", "乙"], "")
    assert np.allclose(logits, [[5.0, -3.0, -2.0], [0.4, 0.0, -0.4]])
    with pytest.raises(UserError, match=r"text 1 of 2 \(乙\): the probabilities sum to 1.5"):
        resolve(classify, {}).open(TASK)(["乙", "甲"], "")
    classify.returns = "logits"  # type: ignore[attr-defined]
    assert np.allclose(resolve(classify, {}).open(TASK)(["乙"], ""), [[0.4, 0.0, -0.4]])
    classify.returns = "probabilities"  # type: ignore[attr-defined]
    with pytest.raises(UserError, match=r"text 1 of 1 \(甲\): the probabilities sum to 12"):
        resolve(classify, {}).open(TASK)(["甲"], "")


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("batch_size", 0, "attribute batch_size is 0; it must be a whole number of at least 1"),
        ("batch_size", "x", "attribute batch_size is 'x'"),
        ("batch_size", 2.5, "attribute batch_size is 2.5"),
        ("confidence", 80, "attribute confidence is 80; it must be a number from 0 to 1"),
        ("returns", "scores", 'attribute returns is \'scores\'; it must be "probabilities" or "logits"'),
        ("labels", "体育", "attribute labels is '体育'; it must be a list of the names of labels"),
        ("labels", ["体育", ""], "attribute labels is"),
        ("labels", ["体育", "体育", "财经"], "attribute labels is"),
    ],
)
def test_attributes_that_cannot_be(name: str, value: Any, message: str) -> None:
    def classify(texts: list[str]) -> list[str]:
        return ["体育"] * len(texts)

    setattr(classify, name, value)
    with pytest.raises(UserError, match=message):
        resolve(classify, {})


@pytest.mark.parametrize("attribute", [("labels", list(LABELS[::-1])), ("confidence", 0.8), ("returns", "logits")])
def test_attributes_that_change_an_answer_identify_it(attribute: tuple[str, Any]) -> None:
    def classify(texts: list[str]) -> np.ndarray:
        return first_class(texts)

    before = resolve(classify, {}).record(TASK)
    setattr(classify, *attribute)
    assert resolve(classify, {}).record(TASK) != before


class Rules:
    """A callable object with a state."""

    def __init__(self, label: str) -> None:
        self.label = label

    def __call__(self, texts: list[str]) -> list[str]:
        return [self.label] * len(texts)


def rule(texts: list[str], label: str) -> list[str]:
    return [label] * len(texts)


def closure(label: str) -> Callable[[list[str]], list[str]]:
    return lambda texts: [label] * len(texts)


UNNAMED: dict[str, Callable[[str], Any]] = {
    "closure": closure,
    "object": Rules,
    "method": lambda label: Rules(label).__call__,
    "partial": lambda label: functools.partial(rule, label=label),
}


@pytest.mark.parametrize("kind", UNNAMED)
def test_a_function_whose_state_cannot_be_compared_shares_no_cache(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It is asked again by the next process; in this one each text is asked for once."""
    caplog.set_level("INFO", "distill")
    functions = [UNNAMED[kind](label) for label in LABELS]
    for number, function in enumerate(functions):
        teacher = resolve(function, {})
        assert (answering(tmp_path).mean([teacher], EXAMPLES).logits.argmax(1) == number).all()
        assert resolve(function, {}).record(TASK) == teacher.record(TASK)
    assert "has no version, so its answers are not kept for the next run" in caplog.text
    assert len({resolve(function, {}).source for function in functions}) == len(LABELS)
    before = resolve(functions[0], {}).record(TASK)
    monkeypatch.setattr("distill.teachers.function.SESSION", "another process")
    assert resolve(functions[0], {}).record(TASK) != before


def test_a_version_replaces_what_cannot_be_compared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "distill")
    one, other, again = (functools.partial(rule, label=label) for label in ("体育", "财经", "体育"))
    one.version, other.version, again.version = "a", "b", "a"  # type: ignore[attr-defined]
    first, second = resolve(one, {}), resolve(other, {})
    assert first.source != second.source and first.record(TASK) != second.record(TASK)
    monkeypatch.setattr("distill.teachers.function.SESSION", "another process")
    assert resolve(again, {}).record(TASK) == first.record(TASK)
    first.open(TASK)
    assert "has no version" not in caplog.text


def test_a_function_of_a_module_is_known_by_its_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its file holds the constants and functions that it uses too."""
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "own_rules.py").write_text(
        "LABEL = '体育'\n\ndef label(texts):\n    return [LABEL] * len(texts)\n", "utf-8"
    )
    function = importlib.import_module("own_rules").label
    before = resolve(function, {}).record(TASK)
    assert "session" not in before and before["function"] == "own_rules:label"
    (tmp_path / "own_rules.py").write_text(
        "LABEL = '财经'\n\ndef label(texts):\n    return [LABEL] * len(texts)\n", "utf-8"
    )
    assert resolve(function, {}).record(TASK) != before


MODULE = """
from __future__ import annotations
from dataclasses import dataclass
from own_helper import LABEL

@dataclass
class Rule:
    label: str

def label(texts):
    import own_late_helper
    return [Rule(LABEL).label] * len(texts)
"""


def test_a_file_may_hold_dataclasses_and_import_its_neighbours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", before := list(sys.path))
    (folder := tmp_path / "mine").mkdir()
    (folder / "json.py").write_text(MODULE, "utf-8")  # it must not replace the module of this name
    (folder / "own_helper.py").write_text("LABEL = '体育'", "utf-8")
    (folder / "own_late_helper.py").touch()
    assert probabilities(f"{folder / 'json.py'}:label")[0, 0] == pytest.approx(0.9)  # type: ignore[arg-type]
    assert sys.modules["json"].__file__ != str(folder / "json.py") and before[-1] == str(folder)


def test_the_end_of_the_program_is_an_error_like_others(tmp_path: Path) -> None:
    (tmp_path / "ends.py").write_text("import sys\nsys.exit()\n", "utf-8")
    with pytest.raises(UserError, match="cannot be imported: SystemExit"):
        resolve(f"{tmp_path / 'ends.py'}:label", {})
    with pytest.raises(UserError, match="the function failed on texts 1 to 2 of 2: SystemExit: 0"):
        probabilities(lambda texts: sys.exit(0))


def test_comparisons_refuse_it_before_it_is_called(
    tiny_flags: list[str], tmp_path: Path, title_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    called = tmp_path / "called"
    source = f"def label(texts):\n    open({str(called)!r}, 'w')\n    return ['体育'] * len(texts)\n"
    (tmp_path / "rules.py").write_text(source + "\nlabel.labels = ['体育', '财经']\n", "utf-8")
    texts = tmp_path / "texts.txt"
    texts.write_text("甲\n乙\n丙\n", "utf-8")
    flags = ["--mode", "compare", "--run", str(tmp_path / "run"), "--teacher", f"{tmp_path / 'rules.py'}:label"]
    output = output_of(capsys, [*tiny_flags, *flags, "--unlabeled", str(texts)], code=2)
    assert "rules.py:label is no model that can be timed and labels every text" in output
    assert "a comparison needs labels" in output_of(capsys, [*flags, "--unlabeled", str(texts)], code=2)
    assert not called.exists()


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
    calls: list[int] = teacher.function.__globals__["calls"]
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
        ([{"体育": 0.9}, {"体育": 0.5}], r"text 1 of 2 \(甲\): the probabilities sum to 0.9"),
        (None, "cannot be used: it returned None, not a list or an array of 2 answers"),
        ("体育", "it returned one str, not a list"),
        ({"体育": 1.0}, "it returned one dict, not a list"),
        (pandas.DataFrame({"体育": [1.0, 0.0]}), "it returned one DataFrame, not a list"),
        (["体育", None], r"there is no answer to text 2 of 2 \(乙\)"),
        ([None, [0.1, 0.1, 0.8]], r"there is no answer to text 1 of 2 \(甲\)"),
        (["体育", ""], r"there is no answer to text 2 of 2 \(乙\)"),
        ([{"体育": 1}, {}], r"there is no answer to text 2 of 2 \(乙\)"),
        ([{"体育": None}] * 2, r"text 1 of 2 \(甲\): there are no scores"),
        ([{"label": None}] * 2, r"there is no answer to text 1 of 2 \(甲\)"),
        ([{"label": "体育"}, "财经"], "cannot be used: some answers are dictionaries and others are not"),
        (
            ["体育", {"label": "财经", "confidence": 0.4}],
            "cannot be used: some answers are dictionaries and others are",
        ),
        ([{"label": "体育", "confidence": 80}] * 2, r"the confidence of text 1 of 2 \(甲\) is 80, it must be between"),
        ([[0.8, 0.1, 0.1], [0.5, 0.5, 0.5]], r"text 2 of 2 \(乙\): the probabilities sum to 1.5.*FUNCTION.returns"),
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
