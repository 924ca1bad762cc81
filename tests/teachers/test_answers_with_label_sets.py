"""Teachers that this program did not train, for data whose texts have any number of labels."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pytest
import torch
from classifiers import build
from conftest import SUBJECTS, on_data, output_of, titles
from transformers import BertTokenizerFast

from distill.cli import main
from distill.data import Example
from distill.errors import UserError
from distill.teachers import LabellingTask, resolve
from distill.teachers.base import ModelTeacher
from distill.text.segmentation import Segmenter

LABELS = tuple(SUBJECTS)  # 体育, 财经, 科技
TEXTS = ["球队上市", "银行降息", "天气"]
SETS = [["体育", "财经"], ["财经"], []]
ROWS = np.array([[0.9, 0.8, 0.1], [0.05, 0.7, 0.2], [0.25, 0.3, 0.4]])  # no row sums to 1
BY_LABEL = [dict(zip(LABELS, row.tolist(), strict=True)) for row in ROWS]
LOGITS = np.log(ROWS / (1 - ROWS))


def task(labels: tuple[str, ...] = LABELS, dev: Sequence[tuple[str, Sequence[str]]] = ()) -> LabellingTask:
    examples = tuple(Example.of(text, frozenset(map(labels.index, names))) for text, names in dev)
    return LabellingTask(labels, Segmenter(), 64, examples, is_multi_label=True)


def probabilities(teacher: Any, texts: list[str] = TEXTS, names: dict[str, str] | None = None, **options: Any) -> Any:
    logits = resolve(teacher, names or {}).open(task(**options))(texts, "")
    assert logits.dtype == torch.float32
    return logits.sigmoid().numpy()


def lines(path: Path, rows: Sequence[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), "utf-8")
    return path


def table(path: Path, rows: Sequence[dict[str, Any]]) -> Path:
    pandas.DataFrame(rows).to_csv(path, index=False)
    return path


def rows_with(key: str, values: Sequence[Any], **more: Any) -> list[dict[str, Any]]:
    return [{"text": text, key: value, **more} for text, value in zip(TEXTS, values, strict=True)]


def columns(prefix: str, rows: np.ndarray) -> list[dict[str, Any]]:
    pairs = zip(TEXTS, rows.tolist(), strict=True)
    return [{"text": text, **dict(zip([prefix + name for name in LABELS], row, strict=True))} for text, row in pairs]


SCORES: dict[str, Callable[[Path], object]] = {
    "objects.jsonl": lambda p: lines(p, rows_with("probabilities", BY_LABEL)),
    "lists.jsonl": lambda p: lines(p, rows_with("probabilities", ROWS.tolist())),
    "logits.jsonl": lambda p: lines(p, rows_with("logits", LOGITS.tolist())),
    "columns.csv": lambda p: table(p, columns("probability_", ROWS)),
    "logit_columns.csv": lambda p: table(p, columns("logit_", LOGITS)),
    "classes.csv": lambda p: table(p, columns("", ROWS)),
}


@pytest.mark.parametrize("name", SCORES)
def test_probabilities_are_independent_and_logits_are_used_as_they_are(name: str, tmp_path: Path) -> None:
    SCORES[name](tmp_path / name)
    assert np.allclose(probabilities(tmp_path / name), ROWS, atol=1e-6)


CELLS: dict[str, Callable[[Path], object]] = {
    "lists.jsonl": lambda p: lines(p, rows_with("label", SETS, confidence=0.8)),
    "labels.jsonl": lambda p: lines(p, rows_with("labels", SETS, confidence=0.8)),
    "lists.csv": lambda p: table(p, rows_with("label", [json.dumps(s, ensure_ascii=False) for s in SETS], score=0.8)),
    "bars.csv": lambda p: table(p, rows_with("label", ["体育|财经", "财经", "[]"], confidence=0.8)),
    "commas.csv": lambda p: table(p, rows_with("label", ["体育，财经", "财经", "[]"], confidence=0.8)),
}


@pytest.mark.parametrize("name", CELLS)
def test_a_confidence_is_that_of_every_decision(name: str, tmp_path: Path) -> None:
    CELLS[name](tmp_path / name)
    expected = [[0.8, 0.8, 0.2], [0.2, 0.8, 0.2], [0.2, 0.2, 0.2]]
    assert np.allclose(probabilities(tmp_path / name), expected, atol=1e-6)


def test_an_empty_cell_is_no_answer_and_an_empty_list_is_one(tmp_path: Path) -> None:
    path = lines(tmp_path / "a.jsonl", rows_with("label", ["", ["财经"], []]))
    examples = [Example.of(text, 0) for text in TEXTS]
    assert resolve(path, {}).answers(examples, is_multi_label=True).tolist() == [False, True, True]
    assert resolve(path, {}).answers(examples).tolist() == [False, True, False]  # where every text has one label


def test_the_confidences_of_given_and_of_absent_labels_are_estimated(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Of 20 labels that are given on dev 15 are right, of 40 that are not 38."""
    dev = [(f"第{n}条", ["体育"] if n < 15 else ["财经"] if n < 17 else []) for n in range(20)]
    answers = [{"text": text, "label": ["体育"]} for text, _ in dev]
    path = lines(tmp_path / "a.jsonl", [*answers, {"text": "另一条", "label": ["科技"]}])
    caplog.set_level("INFO", "distill")
    given, absent = 16 / 22, 39 / 42
    expected = [1 - absent, 1 - absent, given]
    assert np.allclose(probabilities(path, ["另一条"], dev=dev)[0], expected, atol=1e-6)
    assert "confidence 0.727 of a label that is given, 0.929 of others, estimated on the 20 dev texts" in caplog.text
    assert np.allclose(probabilities(path, ["另一条"])[0], [0.05, 0.05, 0.9], atol=1e-6)
    assert "0.900 of a label that is given, 0.950 of others, defaults: no labelled dev text" in caplog.text


def test_zeros_and_ones_are_labels_whose_confidence_is_estimated(tmp_path: Path) -> None:
    path = table(tmp_path / "a.csv", columns("", np.array([[1, 1, 0], [0, 1, 0], [0, 0, 0]])))
    expected = [[0.9, 0.9, 0.05], [0.05, 0.9, 0.05], [0.05, 0.05, 0.05]]
    assert np.allclose(probabilities(path), expected, atol=1e-6)


def test_votes_are_averaged_label_by_label(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("distill.progress.reminders", shown := {})
    votes = [("甲", ["体育"]), ("甲", ["体育", "科技"]), ("乙", ["财经"]), ("乙", ["财经"])]
    path = lines(tmp_path / "a", [{"text": text, "label": names, "confidence": 1} for text, names in votes])
    assert np.allclose(probabilities(path, ["甲", "乙"]), [[0.999, 0.001, 0.5], [0.001, 0.999, 0.001]], atol=1e-6)
    assert any("2 texts have several answers, which differ for 1 of them" in message for message in shown)


def test_labels_are_renamed_merged_and_left_out(tmp_path: Path) -> None:
    names = {"足球": "体育", "篮球": "体育", "其他": ""}
    path = lines(tmp_path / "a", rows_with("label", ["足球|财经", ["篮球", "足球", "其他"], ["其他"]], confidence=0.8))
    assert np.allclose(probabilities(path, TEXTS[:2], names), [[0.8, 0.8, 0.2], [0.8, 0.2, 0.2]], atol=1e-6)
    examples = [Example.of(text, 0) for text in TEXTS]
    assert resolve(path, names).answers(examples, is_multi_label=True).tolist() == [True, True, False]
    scores = [{"足球": 0.6, "篮球": 0.7, "财经": 0.9, "科技": 0.1, "其他": 0.9}] * 3
    path = lines(tmp_path / "b", rows_with("probabilities", scores))
    assert np.allclose(probabilities(path, names=names)[0], [0.7, 0.9, 0.1], atol=1e-6)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (rows_with("label", ["体育|足球", "财经", "科技"]), "labels that the data does not have: 足球; the labels of"),
        (rows_with("probabilities", [[0.7, 1.2, 0.1], [0.5] * 3, [0.5] * 3]), "a probability is 1.2; it must be betw"),
        (rows_with("probabilities", [[0.7, 0.2], [0.5] * 3, [0.5] * 3]), "2 scores, but the data has 3 labels"),
        (rows_with("label", [["体育"]] * 3, confidence=95), "the confidence is 95, it must be between 0 and 1"),
    ],
)
def test_bad_answers_are_errors_with_their_line(rows: list[dict[str, Any]], message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message) as error:
        probabilities(lines(tmp_path / "a.jsonl", rows))
    assert "a.jsonl:1" in str(error.value)


def test_lists_of_labels_are_refused_where_a_text_has_one(tmp_path: Path) -> None:
    teacher = resolve(lines(tmp_path / "a.jsonl", rows_with("label", SETS)), {})
    with pytest.raises(UserError, match=r"a.jsonl:1: several labels \(体育, 财经\); write one label per text"):
        teacher.open(LabellingTask(LABELS, Segmenter(), 64))(TEXTS, "")


@pytest.mark.parametrize(
    "answers",
    [
        ROWS,
        torch.tensor(ROWS),
        LOGITS,
        ROWS.tolist(),
        BY_LABEL,
    ],
)
def test_a_function_returns_scores(answers: Any) -> None:
    assert np.allclose(probabilities(lambda texts: answers), ROWS, atol=1e-6)


SOFT = [[0.9, 0.9, 0.05], [0.05, 0.9, 0.05], [0.05, 0.05, 0.05]]  # by default
EVERY = [[0.8, 0.8, 0.2], [0.2, 0.8, 0.2], [0.2, 0.2, 0.2]]  # with the confidence .8 of every decision


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        (SETS, SOFT),
        ([set(names) for names in SETS], SOFT),
        (["体育|财经", "财经", []], SOFT),
        (np.array([[1, 1, 0], [0, 1, 0], [0, 0, 0]]), SOFT),
        (np.array([[True, True, False], [False, True, False], [False, False, False]]), SOFT),
        ([{"label": names} for names in SETS], SOFT),
        ([{"labels": names, "confidence": 0.8} for names in SETS], EVERY),
    ],
)
def test_a_function_returns_label_sets(answers: Any, expected: list[list[float]]) -> None:
    assert np.allclose(probabilities(lambda texts: answers), expected, atol=1e-6)


@pytest.mark.parametrize(
    ("answers", "message"),
    [
        ([["体育"], ["足球"], []], "labels that the data does not have, in the answers to texts 1 to 3 of 3: 足球"),
        ([["体育"], None, []], r"there is no answer to text 2 of 3 \(银行降息\)"),
        ([["体育"], "", []], r"there is no answer to text 2 of 3 \(银行降息\)"),
        ([{"label": ["体育"]}, {"label": ""}, {"label": []}], r"there is no answer to text 2 of 3"),
        ([["体育"], []], "2 answers to 3 texts"),
        ([[0.5, 1.5, 0.2], [0.5, 0.5, 0.5], [2.5, -3.0, 0.5]], None),
    ],
)
def test_what_a_function_may_not_return(answers: Any, message: str | None) -> None:
    if message is None:  # logits, then: not all values are probabilities
        assert np.allclose(probabilities(lambda texts: answers)[0, 0], 1 / (1 + np.exp(-0.5)))
        return
    with pytest.raises(UserError, match=message):
        probabilities(lambda texts: answers)


MULTI_LABEL = "multi_label_classification"


def test_a_classifier_of_transformers_gives_its_logits_as_they_are(tiny_bert: Path, tmp_path: Path) -> None:
    own = build(tmp_path / "model", tiny_bert, LABELS, MULTI_LABEL)
    teacher = resolve(tmp_path / "model", {})
    assert isinstance(teacher, ModelTeacher) and teacher.is_multi_label
    model = teacher.classifier(task(LABELS[::-1]))
    model.model.bf16 = False  # type: ignore[assignment]
    encoded = BertTokenizerFast.from_pretrained(tiny_bert)(TEXTS, return_tensors="pt", padding=True)
    assert torch.allclose(model.logits(TEXTS), own(**encoded).logits.flip(1), atol=1e-5)
    assert model.thresholds == (0.5, 0.5, 0.5)


def test_a_classifier_of_the_other_kind_is_refused(tiny_bert: Path, tmp_path: Path) -> None:
    for problem in (None, "single_label_classification"):
        build(tmp_path / "one", tiny_bert, LABELS, problem)
        with pytest.raises(UserError, match=r"this model gives one label per text .*a text may have any number"):
            resolve(tmp_path / "one", {}).open(task())
    build(tmp_path / "several", tiny_bert, LABELS, MULTI_LABEL)
    with pytest.raises(UserError, match=r"this model gives several labels per text .*in this data a text has one"):
        resolve(tmp_path / "several", {}).open(LabellingTask(LABELS, Segmenter(), 64))


# Whole runs


def sets_of(start: int, stop: int) -> list[tuple[str, list[str]]]:
    """Titles of one class, of two classes joined into one text, and texts without any label."""
    pairs = titles(start, stop)
    joined = [
        (text + other, [label, second])
        for (text, label), (other, second) in itertools.pairwise(pairs)
        if label != second
    ]
    empty: list[tuple[str, list[str]]] = [(f"今天天气第{n}天", []) for n in range(start, stop, 10)]
    return [*((text, [label]) for text, label in pairs), *joined, *empty]


def as_records(rows: Sequence[tuple[str, list[str]]]) -> list[dict[str, Any]]:
    return [{"text": text, "label": names} for text, names in rows]


@pytest.fixture(scope="module")
def flags(tmp_path_factory: pytest.TempPathFactory, tiny_flags: list[str]) -> list[str]:
    folder = tmp_path_factory.mktemp("data") / "sets"
    folder.mkdir()
    lines(folder / "train.jsonl", as_records(sets_of(0, 90)))
    lines(folder / "test.jsonl", as_records(sets_of(90, 120)))
    quick = ["--student_epochs", "12", "--general_words", "0", "--general_sentences", "0"]
    return [*on_data(tiny_flags, folder), *quick]


SOURCE = """
SUBJECTS = {subjects!r}


def label(texts):
    return [[name for name, words in SUBJECTS.items() if any(word in text for word in words)] for text in texts]
"""


def test_answers_and_a_function_teach_together(
    flags: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    more = [(f"{text}第二季", names) for text, names in sets_of(0, 30)]
    (tmp_path / "more.txt").write_text("\n".join(text for text, _ in more), "utf-8")
    answers = lines(tmp_path / "answers.jsonl", as_records([*sets_of(0, 60), *more[:20], *sets_of(90, 120)]))
    (tmp_path / "rules.py").write_text(SOURCE.format(subjects=SUBJECTS), "utf-8")
    teachers = ["--teacher", str(answers), "--teacher", f"{tmp_path / 'rules.py'}:label"]
    run = tmp_path / "run"
    output = output_of(capsys, [*flags, *teachers, "--unlabeled", str(tmp_path / "more.txt"), "--run", str(run)])
    assert "answers.jsonl: has answers for" in output and "of a label that is given" in output
    report = json.loads((run / "report" / "report.json").read_text("utf-8"))
    assert report["measured"] == "micro-F1"
    rows = {row["name"]: row["micro_f1"] for row in report["rows"]}
    assert rows["teacher"] == 1 and rows["student"] > 0.6
    assert [path.name for path in (run / "cache").iterdir()]  # of the function


def test_answers_for_a_part_of_the_test_texts_are_scored_on_these(flags: list[str], tmp_path: Path) -> None:
    rows = [*sets_of(0, 60), *sets_of(90, 100)]
    answers = lines(tmp_path / "answers.jsonl", as_records(rows))
    run = tmp_path / "run"
    assert main([*flags, "--teacher", str(answers), "--run", str(run)]) == 0
    assert "test texts: micro-F1 1.0000 on these." in (run / "report" / "report.md").read_text("utf-8")


def test_a_classifier_of_transformers_teaches(flags: list[str], tiny_bert: Path, tmp_path: Path) -> None:
    build(tmp_path / "model", tiny_bert, LABELS, MULTI_LABEL)
    run = tmp_path / "run"
    arguments = [*flags, "--teacher", str(tmp_path / "model"), "--run", str(run), "--mode", "train_student"]
    assert main([*arguments, "--student_epochs", "2", "--objective", "logits"]) == 0
    assert json.loads((run / "student" / "student.json").read_text("utf-8"))["thresholds"]


def test_a_classifier_of_the_other_kind_is_refused_before_training(
    flags: list[str], tiny_bert: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    build(tmp_path / "model", tiny_bert, LABELS)
    arguments = [*flags, "--teacher", str(tmp_path / "model"), "--run", str(tmp_path / "run")]
    assert "this model gives one label per text" in output_of(capsys, arguments, code=2)
