"""Recorded answers as a teacher: every form of file, matching by text and label, confidence, bad input, whole runs."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pytest
import torch
from conftest import SUBJECTS, output_of, titles

from distill.cli import main
from distill.data import Example
from distill.data.answers import read_label_names
from distill.errors import UserError
from distill.teachers import LabellingTask, resolve
from distill.teachers.recorded import RecordedTeacher
from distill.text.segmentation import Segmenter

LABELS = tuple(SUBJECTS)  # 体育, 财经, 科技
TEXTS = ["球队夺冠", "银行降息", "手机发布"]
ROWS = np.array([[0.7, 0.2, 0.1], [0.1, 0.8, 0.1], [0.25, 0.25, 0.5]])
BY_LABEL = [dict(zip(LABELS, row.tolist(), strict=True)) for row in ROWS]


def task(labels: tuple[str, ...] = LABELS, dev: Sequence[tuple[str, str]] = ()) -> LabellingTask:
    examples = tuple(Example.of(text, labels.index(label)) for text, label in dev)
    return LabellingTask(labels, Segmenter(), 64, examples)


def teacher_of(path: Path, names: dict[str, str] | None = None) -> RecordedTeacher:
    teacher = resolve(str(path), names or {})
    assert isinstance(teacher, RecordedTeacher)
    return teacher


def probabilities(path: Path, texts: list[str] = TEXTS, **options: Any) -> np.ndarray:
    logits = teacher_of(path, options.pop("names", None)).open(task(**options))(texts, "")
    assert logits.dtype == torch.float32
    return np.asarray(logits.softmax(1).numpy())


def lines(path: Path, rows: Sequence[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), "utf-8")
    return path


def table(path: Path, rows: Sequence[dict[str, Any]], **options: Any) -> Path:
    pandas.DataFrame(rows).to_csv(path, index=False, **options)
    return path


def rows_with(key: str, values: Sequence[Any]) -> list[dict[str, Any]]:
    return [{"text": text, key: value} for text, value in zip(TEXTS, values, strict=True)]


SCORES: dict[str, Callable[[Path], object]] = {
    "objects.jsonl": lambda p: lines(p, rows_with("probabilities", BY_LABEL)),
    "lists.jsonl": lambda p: lines(p, rows_with("probabilities", ROWS.tolist())),
    "logits.jsonl": lambda p: lines(p, rows_with("logits", np.log(ROWS).tolist())),
    "array.json": lambda p: p.write_text(json.dumps(rows_with("probs", BY_LABEL)), "utf-8"),
    "pipeline.jsonl": lambda p: lines(
        p, rows_with("scores", [[{"label": k, "score": v} for k, v in row.items()] for row in BY_LABEL])
    ),
    "cells.csv": lambda p: table(p, rows_with("probabilities", [json.dumps(row) for row in BY_LABEL])),
    "python.tsv": lambda p: table(p, rows_with("probabilities", [str(row) for row in BY_LABEL]), sep="\t"),
    "columns.csv": lambda p: table(
        p,
        [
            {"text": t, **{f"probability_{k}": v for k, v in row.items()}}
            for t, row in zip(TEXTS, BY_LABEL, strict=True)
        ],
    ),
    "logit_columns.csv": lambda p: table(
        p,
        [
            {"text": t, **{f"logit_{k}": np.log(v) for k, v in row.items()}}
            for t, row in zip(TEXTS, BY_LABEL, strict=True)
        ],
    ),
    "classes.csv": lambda p: table(p, [{"id": 7, "text": t, **row} for t, row in zip(TEXTS, BY_LABEL, strict=True)]),
    "gb.csv": lambda p: table(
        p, [{"标题": t, **row} for t, row in zip(TEXTS, BY_LABEL, strict=True)], encoding="gb18030"
    ),
    "objects.parquet": lambda p: pandas.DataFrame(rows_with("probabilities", BY_LABEL)).to_parquet(p),
    "lists.parquet": lambda p: pandas.DataFrame(rows_with("logits", np.log(ROWS).tolist())).to_parquet(p),
}


@pytest.mark.parametrize("name", SCORES)
def test_scores_of_every_form_give_the_same_soft_targets(name: str, tmp_path: Path) -> None:
    SCORES[name](tmp_path / name)
    assert np.allclose(probabilities(tmp_path / name), ROWS, atol=1e-6)
    if "lists" in name or name == "logits.jsonl":  # in the order of the data's labels, which the file does not name
        return
    turned = probabilities(tmp_path / name, labels=LABELS[::-1])
    assert np.allclose(turned, ROWS[:, ::-1], atol=1e-6)


def test_labels_get_their_confidence_and_the_rest_is_spread(tmp_path: Path) -> None:
    """A confidence below chance says nothing, and certainty has a bound, or its logit would be infinite."""
    rows = [("球队夺冠", "体育", 0.8), ("银行降息", "财经", 0.1), ("手机发布", "科技", 1.0)]
    path = table(tmp_path / "a.csv", [{"text": t, "label": k, "confidence": c} for t, k, c in rows])
    first, second, third = probabilities(path)
    assert np.allclose(first, [0.8, 0.1, 0.1], atol=1e-6) and np.allclose(second, 1 / 3)
    assert third[2] == pytest.approx(1 / 1.002) and np.isfinite(np.log(third)).all()


def test_confidence_is_estimated_on_dev(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Agreement with the labels of the dev texts that have an answer, smoothed by one right and one wrong answer."""
    dev = [(f"第{n}条", LABELS[n % 3]) for n in range(18)]
    answers = [(text, label if n % 6 else "体育" if label != "体育" else "财经") for n, (text, label) in enumerate(dev)]
    path = table(tmp_path / "a.csv", [{"text": t, "label": k} for t, k in [*answers, ("另一条", "科技")]])
    caplog.set_level("INFO", "distill")
    row = probabilities(path, ["另一条"], dev=[*dev, ("没有答案", "体育")])[0]
    assert row.tolist() == pytest.approx([0.1, 0.1, 0.8]) and "confidence 0.800, estimated on the 18 dev" in caplog.text
    assert probabilities(path, ["另一条"])[0, 2] == pytest.approx(0.9)
    assert "confidence 0.9, a default: no labelled dev text has an answer" in caplog.text


def test_texts_are_joined_without_regard_to_width_and_invisible_characters(tmp_path: Path) -> None:
    path = table(tmp_path / "a.csv", [{"text": "\u200bＡＢ  球队\ufeff", "label": "体育"}])
    teacher = teacher_of(path)
    examples = [Example.of("AB 球队", 0), Example.of("AB球队", 0)]
    assert teacher.answers(examples).tolist() == [True, False]
    assert teacher.open(task())([examples[0].text], "").argmax(1).tolist() == [0]


def test_several_answers_to_a_text_are_votes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("distill.progress.reminders", shown := {})
    answers = [("甲", "体育"), ("甲", "体育"), ("甲", "财经"), ("乙", "科技"), ("乙", "科技"), ("丙", "体育")]
    path = table(tmp_path / "a.csv", [{"text": t, "label": k, "confidence": 1} for t, k in answers])
    rows = probabilities(path, ["甲", "乙", "丙"])
    assert rows[0].tolist() == pytest.approx([2 / 3, 1 / 3, 0.001], abs=1e-3) and rows[1, 2] > 0.99
    logits = lines(tmp_path / "b", [{"text": "甲", "logits": row} for row in ([4.0, 1.0, 0.0], [2.0, 3.0, 1.0])])
    mean = np.array([3.0, 2.0, 0.5])  # centred, as the logits of a trained classifier are
    assert np.allclose(teacher_of(logits).open(task())(["甲"], ""), mean - mean.mean())
    assert any("2 texts have several answers, which differ for 1 of them" in message for message in shown)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (rows_with("probabilities", [[0.7, 0.2, 0.1], [0.5, 0.5, 0.5], ROWS[2].tolist()]), r"a:2: .*sum to 1.5"),
        (rows_with("probabilities", [[1.2, -0.3, 0.1], *ROWS[1:].tolist()]), r"a:1: a probability is -0.3"),
        (rows_with("probabilities", [[float("nan"), 0.5, 0.5], *ROWS[1:].tolist()]), r"a:1: a score is NaN"),
        (rows_with("logits", [[float("inf"), 0.5, 0.5], *ROWS[1:].tolist()]), r"a:1: a score is NaN or infinite"),
        (
            rows_with("probabilities", [[0.5, 0.5], *ROWS[1:].tolist()]),
            r"a:1: 2 scores, but the data has 3 labels: 体育",
        ),
        (rows_with("probabilities", ["0.5", *BY_LABEL[1:]]), r"a:1: a list or an object of scores is needed"),
        (rows_with("probabilities", [{"体育": "much"}, *BY_LABEL[1:]]), r"a:1: a number is needed, this is 'much'"),
        (
            rows_with("probabilities", [{"体育": 0.5, "财经": 0.5}] * 3),
            r"no label 科技, which the data has.*teacher_labels",
        ),
        (rows_with("logits", [{"体育": 1.0}, *BY_LABEL[1:]]), r"a:1: there is no score for the label 财经, 科技"),
        (
            rows_with("label", ["体育", "足球", "财经"]),
            r"a:2: labels that the data does not have: 足球; the labels of the "
            r"data: 体育, 财经, 科技 -> --teacher_labels FILE with a table theirs,ours; an empty name leaves ",
        ),
        ([{"text": "甲", "label": "体育", "confidence": 95}], r"a:1: the confidence is 95, it must be between 0 and 1"),
        ([{"text": "甲", "kind": "体育"}], r"a: this file has no answers: no column label, .* there are: kind ->"),
        (rows_with("probabilities", [{}, *BY_LABEL[1:]]), r"a:1: the object has no scores"),
        (rows_with("probabilities", [{"体育": None}, *BY_LABEL[1:]]), r"a:1: the object has no scores"),
        (
            [{"text": "甲", "probabilities": BY_LABEL[0]}, {"text": "乙"}, {"text": "丙", "label": "体育"}],
            r"a:3: its answer is in the column label, those of other rows are in probabilities -> write",
        ),
        ([{"text": "甲", "label": "体育"}, {"text": "乙", "logits": BY_LABEL[0]}], r"a:1: its answer is in the column"),
        (rows_with("label", ["", "", ""]), r"a: no row has an answer in the column label"),
        ([{"title2": "甲", "label": "体育"}], r"no text column"),
    ],
)
def test_bad_answers_are_errors_with_their_line(rows: list[dict[str, Any]], message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError) as error:
        probabilities(lines(tmp_path / "a", rows))
    assert re.search(message, str(error.value)), str(error.value)


def test_probabilities_within_one_per_cent_are_normalised_with_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("distill.progress.reminders", shown := {})
    rows = [[0.7, 0.2, 0.1], [0.1004, 0.8, 0.1], [0.25, 0.255, 0.5]]
    assert np.allclose(probabilities(lines(tmp_path / "a", rows_with("probabilities", rows))).sum(1), 1)
    assert [m for m in shown if "the first:" in m] == [
        f"a: some probabilities do not sum to 1 (within 1 %) and were normalised, the first: {tmp_path / 'a'}:3"
    ]


def test_labels_are_renamed_and_an_empty_name_leaves_an_answer_out(tmp_path: Path) -> None:
    names = {"sports": "体育", "足球": "体育", "其他": ""}
    path = lines(tmp_path / "a", rows_with("label", ["足球", "其他", "财经"]))
    teacher = teacher_of(path, names)
    assert teacher.labels() == ("体育", "财经")
    assert teacher.answers([Example.of(text, 0) for text in TEXTS]).tolist() == [True, False, True]
    scores = lines(
        tmp_path / "b",
        rows_with("probabilities", [{"sports": 0.3, "足球": 0.3, "财经": 0.2, "科技": 0.1, "其他": 0.1}] * 3),
    )
    assert probabilities(scores, names=names)[0].tolist() == pytest.approx([6 / 9, 2 / 9, 1 / 9])


def test_a_row_of_names_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    (tmp_path / "names.csv").write_text("theirs,ours\nsports,体育\n股票,证券,财经\n", "utf-8")
    with pytest.raises(UserError, match=r"names\.csv, line 3: 3 cells where the header has 2"):
        read_label_names(tmp_path / "names.csv")


def test_the_column_and_the_number_of_answers_are_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "distill")
    teacher_of(path := lines(tmp_path / "a", rows_with("label", ["体育", "", "财经"]))).labels()
    assert f"{path}: answers in the column label; 2 rows have one, 1 have none" in caplog.messages


@pytest.mark.parametrize(("label", "wanted"), [("102", "体育"), ("", "体育"), ("财经", "财经")])
def test_a_number_is_named_by_the_column_of_names_as_in_labelled_data(label: str, wanted: str, tmp_path: Path) -> None:
    path = table(tmp_path / "a.csv", [{"text": "甲", "label": label, "label_name": "体育"}])
    assert teacher_of(path).labels() == (wanted,)


def write_answers(path: Path, pairs: Sequence[tuple[str, str]]) -> Path:
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("text", "label"), *pairs])
    return path


def quick(flags: list[str]) -> list[str]:
    return [*flags, "--student_epochs", "6", "--general_words", "-1", "--general_sentences", "-1", "--vectors", "auto"]


def test_answers_for_a_part_of_the_texts_teach(
    tiny_flags: list[str], tmp_path: Path, toy_vectors: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Train texts without an answer rely on their label, unlabelled ones are left out; defaults suit the teacher."""
    more = [(f"{text}第二季", label) for text, label in titles(0, 30)]
    (tmp_path / "more.txt").write_text("\n".join(text for text, _ in more), "utf-8")
    path = write_answers(tmp_path / "answers.csv", [*titles(0, 60), *more[:20]])
    flags = [*quick(tiny_flags), "--run", str(tmp_path / "run"), "--unlabeled", str(tmp_path / "more.txt")]
    flags += ["--vectors", str(toy_vectors), "--teacher", str(path)]
    untrained = output_of(capsys, [*flags, "--mode", "test"], code=2)
    assert "nothing is trained yet, and the teachers' answers do not cover the test texts" in untrained
    output = output_of(capsys, flags)
    assert "% of train, " in output and "66.7 % of the texts without labels" in output
    assert "left out: 10 of 30 texts without labels, for which no teacher has an answer" in output
    assert "no word vectors from the teacher and no general texts: the teachers are not models" not in output
    report = json.loads((tmp_path / "run" / "report" / "report.json").read_text("utf-8"))
    assert [row["name"] for row in report["rows"]] == ["student_alone", "student"] and report["measured"] == "accuracy"
    assert "answers.csv has no answers for the test texts" in (tmp_path / "run" / "report" / "report.md").read_text(
        "utf-8"
    )
    assert "answers.csv" in (tmp_path / "run" / "student" / "README.md").read_text("utf-8")
    assert not (tmp_path / "run" / "cache").exists()
    for flag, message in (
        ("--objective=hint", "--objective hint needs a teacher with hidden vectors"),
        ("--vectors=teacher", "no teacher of this run has hidden vectors"),
    ):
        assert message in output_of(capsys, [*flags, "--mode", "train_student", flag], code=2)
    assert "answers.csv is no model" in output_of(capsys, [*flags, "--mode", "compare"], code=2)


def test_the_default_settings_do_without_vectors_and_general_texts(
    title_folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    from distill.commands.distillation import choose_objective
    from distill.commands.experiment import Run
    from distill.config.argparse import parser, settings_from

    caplog.set_level("INFO", "distill")
    path = write_answers(tmp_path / "answers.csv", titles(0, 40))
    flags = ["--data", str(title_folder), "--run", str(tmp_path / "run"), "--teacher", str(path)]
    run = Run(settings_from(vars(parser().parse_args(flags))))
    assert run.student_settings(has_teacher=True).vectors == "auto" and run.general == ()
    assert choose_objective(run, run.named_teachers).weights == {"labels": 0.3, "logits": 1.0}
    assert "no word vectors from the teacher and no general texts: the teachers are not models" in caplog.text


def test_kinds_are_mixed_and_their_mean_teaches(
    finished_run: Path, tiny_flags: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from distill.commands.experiment import Run
    from distill.config.argparse import parser, settings_from

    path = write_answers(tmp_path / "answers.csv", titles(0, 40))
    flags = [*tiny_flags, "--run", str(tmp_path / "run"), "--mode", "train_student", "--student_epochs", "2"]
    flags += ["--teacher", str(finished_run / "teacher"), "--teacher", str(path)]
    output = output_of(capsys, flags)
    assert "answers.csv: has answers for" in output and "student, seed 42: dev accuracy" in output
    run = Run(settings_from(vars(parser().parse_args(flags))))
    saved, recorded = run.named_teachers
    texts = run.data.train
    both, has_answer = run.answering.mean([saved, recorded], texts).logits, torch.from_numpy(recorded.answers(texts))
    alone = run.answering.mean([saved], texts).logits
    assert 30 < has_answer.sum() < len(texts) and both[~has_answer].equal(alone[~has_answer])
    own = recorded.open(run.task)([text.text for text in texts if recorded.answers([text])[0]], "")
    assert torch.allclose(both[has_answer], (alone[has_answer] + own) / 2)


def test_a_file_that_matches_no_text_is_refused(
    tiny_flags: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_answers(tmp_path / "answers.csv", [("别的文本", "体育"), ("另一条", "财经")])
    flags = [*tiny_flags, "--run", str(tmp_path / "run"), "--mode", "train_student", "--teacher", str(path)]
    text = output_of(capsys, flags, code=2)
    assert "answers.csv: it has no answer for any of the 90 texts of train, dev and --unlabeled" in text


def test_without_any_labels_the_answers_alone_teach_and_agreement_is_measured(
    tiny_flags: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, run = write_answers(tmp_path / "answers.csv", titles(0, 110)), tmp_path / "run"
    place = tiny_flags.index("--data")
    flags = [*tiny_flags[:place], *tiny_flags[place + 2 :], "--run", str(run), "--teacher", str(path)]
    output = output_of(capsys, flags)
    assert "learn from the teachers' answers to 110 of 110 texts, and every figure measures agreement" in output
    assert "student, seed 42: dev agreement" in output and "dev accuracy" not in output
    assert not (run / "student_alone").exists()
    report = json.loads((run / "report" / "report.json").read_text("utf-8"))
    assert report["measured"] == "agreement" and [row["name"] for row in report["rows"]] == ["teacher", "student"]
    teacher, student = report["rows"]
    assert teacher["accuracy"] == 1 and teacher["parameters"] is None and 0.5 < student["accuracy"] <= 1
    assert json.loads((run / "student" / "made_from.json").read_text("utf-8"))["objective"]["weights"]["labels"] == 0
    markdown = (run / "report" / "report.md").read_text("utf-8")
    assert "| agreement |" in markdown and "Every figure measures agreement" in markdown
    page = (run / "report" / "report.html").read_text("utf-8")
    assert "Agreement against speed" in page and "classified correctly" not in page and "accuracy on" not in page
    card = (run / "student" / "README.md").read_text("utf-8")
    assert "agreement on dev" in card and "| accuracy" not in card and "model-index" not in card
    assert "has no labels" in output_of(capsys, [*flags, "--mode", "train_student", "--a", "1", "--T", "0"], code=2)
    assert "a comparison needs labels" in output_of(capsys, [*flags, "--mode", "compare"], code=2)
    assert main([*flags, "--mode", "export"]) == 0


@pytest.mark.parametrize("layout", ["train_file", "unlabeled", "the answers as train_file"])
def test_data_without_labels_is_recognised(layout: str, tmp_path: Path) -> None:
    from distill.commands.experiment import Run
    from distill.config.argparse import parser, settings_from

    texts = tmp_path / "texts.txt"
    texts.write_text("\n".join(text for text, _ in titles(0, 60)), "utf-8")
    path = write_answers(tmp_path / "answers.csv", titles(0, 50))
    flag = {"train_file": ["--train_file", str(texts)], "unlabeled": ["--unlabeled", str(texts)]}
    flags = ["--run", str(tmp_path / "run"), "--teacher", str(path), *flag.get(layout, ["--train_file", str(path)])]
    run = Run(settings_from(vars(parser().parse_args(flags))))
    assert not run.has_labels and not run.data.has_labels and run.unlabelled == ()
    assert len(run.data.train) + len(run.data.dev) + len(run.data.test) == 50
    assert run.data.labels == tuple(sorted(LABELS))
    gold = dict(titles(0, 50))
    assert all(run.data.labels[example.label] == gold[example.text] for example in run.data.dev)
