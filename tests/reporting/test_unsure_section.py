"""The report's section on unsure texts: figures by hand, JSON, Markdown and page."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from conftest import COUNTS

from distill.evaluation.selective import Confidences
from distill.reporting import selective
from distill.reporting.report import write
from distill.reporting.results import EvaluationContext, Outcome
from distill.reporting.selective import OnDev, Section, section_of
from distill.reporting.speed import Measurement, Shipped, rows_of
from distill.reporting.summary import Report

GOLD = np.array([0, 0, 0, 1, 1, 1, 1, 1])
CONTEXT = EvaluationContext(
    texts=list("abcdefgh"),
    gold=GOLD,
    first_of_text=np.ones(8, np.bool_),
    labels=("体育", "财经"),
    data=dict.fromkeys(COUNTS, 7),
    settings={"run": {}},
    timing="Time: …",
)


def outcome(name: str, probabilities: list[float], ms: float) -> Outcome:
    """A model with a temperature of 2 that gives the second class these probabilities."""
    p = np.array(probabilities)
    logits = 2 * np.log(np.stack([1 - p, p], 1)).astype(np.float32)
    history = [{"epoch": epoch, "dev_accuracy": 0.5, "dev_loss": 0.7} for epoch in (1, 2)]
    return Outcome(name, 1, logits, 1000, 4_000_000, {"cpu": ms}, history, temperature=2.0)


TEACHER = outcome("teacher", [0.1, 0.1, 0.1, 0.9, 0.9, 0.9, 0.9, 0.1], 8.0)  # 7 of 8 are right
STUDENT = outcome("student", [0.05, 0.2, 0.6, 0.95, 0.95, 0.9, 0.4, 0.3], 0.5)  # 5 of 8: the last two and the third


def on_dev(sure: int = 40, *, teacher: bool = True, targets: tuple[float, ...] = ()) -> OnDev:
    """``sure`` dev texts of .9 that the student gets right, 20 of .65 of which it gets half right."""
    confidence = np.array([0.9] * sure + [0.65] * 20)
    correct = np.array([True] * sure + [True, False] * 10)
    teacher_correct = np.array([True] * sure + [True] * 18 + [False] * 2)
    return OnDev(Confidences(confidence, correct), teacher_correct if teacher else None, targets)


def test_targets_by_hand() -> None:
    section = section_of([TEACHER, STUDENT], GOLD, on_dev(targets=(0.95, 0.8)))
    assert section is not None and (section.model, section.dev_texts) == ("student", 60)
    everything = section.to_json()["every_text"]
    assert (everything["dev_accuracy"], everything["test_accuracy"]) == (pytest.approx(50 / 60), 5 / 8)
    high, low = section.targets
    assert high.threshold == pytest.approx(0.651) and low.threshold == 0.0
    assert high.dev is not None and high.test is not None
    assert (high.dev.accuracy, high.dev.texts, high.test.share, high.test.accuracy) == (1.0, 40, 6 / 8, 5 / 6)
    header, first, *rows = selective.target_lines(section)
    assert first == ["-", "0.000", "100.0 %", "0.8333", "0.7197", "100.0 %", "0.6250"] and len(header) == len(first)
    assert rows[0] == ["0.950", "0.651", "66.7 %", "1.0000", "0.9124", "75.0 %", "0.8333"]
    student = (1 / 6 + 2 / 7 + 3 / 8) / 8
    assert section.areas == {"teacher": pytest.approx(1 / 8), "student": pytest.approx(student)}


@pytest.mark.parametrize("targets", [(), (0.99,)])
def test_what_is_written_as_json_is_read_back(targets: tuple[float, ...]) -> None:
    section = section_of([TEACHER, STUDENT], GOLD, on_dev(sure=30, targets=targets))
    assert section is not None
    assert Section.from_json(json.loads(json.dumps(section.to_json()))) == section


def test_a_threshold_above_all_test_texts_has_no_accuracy() -> None:
    dev = OnDev(Confidences(np.array([0.99] * 40 + [0.96] * 9), np.array([True] * 40 + [False] * 9)), None, (1.0,))
    section = section_of([STUDENT], GOLD, dev)
    assert section is not None and section.to_json()["targets"][0]["test_accuracy"] is None
    assert selective.target_lines(section)[-1][-2:] == ["0.0 %", "-"]
    json.dumps(section.to_json(), allow_nan=False)


def test_targets_that_dev_does_not_reach() -> None:
    section = section_of([STUDENT], GOLD, on_dev(sure=20, targets=(0.99,)))
    assert section is not None and section.to_json()["targets"] == [
        {"target": 0.99, "threshold": None}
        | {f"{split}_{name}": None for split in ("dev", "test") for name in ("texts", "share", "accuracy", "low")}
    ]
    assert selective.target_lines(section)[-1] == ["0.990", "not reached", *["-"] * 5]
    text = selective.markdown(section)
    assert "Not reached on dev: 0.990. No threshold leaves 30 or more dev texts" in text and "40 dev texts" in text


def test_the_default_targets_are_relative_to_the_accuracy_on_dev() -> None:
    section = section_of([STUDENT], GOLD, on_dev())
    assert section is not None and [row.target for row in section.targets] == [0.875, 0.917, 0.958]


def test_cascades_by_hand() -> None:
    section = section_of([TEACHER, STUDENT], GOLD, on_dev())
    assert section is not None
    rows = {row.name or row.threshold: row for row in section.cascade}
    assert list(rows) == ["student only", 0.5, 0.6, "chosen on dev", 0.7, 0.8, 0.9, 0.95, 0.99, "teacher only"]
    chosen = rows["chosen on dev"]
    assert chosen.threshold == pytest.approx(0.651)  # the student alone has .833 on dev, the teacher .967
    assert (chosen.dev_accuracy, chosen.share, chosen.accuracy) == (pytest.approx(58 / 60), 2 / 8, 7 / 8)
    assert chosen.us_per_text == pytest.approx(500 + 0.25 * 8000) and chosen.cost == pytest.approx(2500 / 8000)
    alone, teacher = rows["student only"], rows["teacher only"]
    assert (alone.share, alone.accuracy, alone.us_per_text) == (0, 5 / 8, 500)
    assert (teacher.share, teacher.accuracy, teacher.us_per_text, teacher.cost) == (1, 7 / 8, 8000, 1)
    lines = selective.cascade_lines(section)
    assert [line[:2] for line in lines[3:5]] == [["0.600", ""], ["0.651", "chosen on dev"]]
    assert lines[-1][:2] == ["-", "teacher only"]


def test_a_student_that_is_not_worse_than_its_teacher_sends_nothing() -> None:
    dev = on_dev()
    equal = dataclasses.replace(dev, teacher_correct=dev.student.correct)
    section = section_of([TEACHER, STUDENT], GOLD, equal)
    assert section is not None and section.cascade[0].name == "student only, chosen on dev"
    assert selective.cascade_lines(section)[1][:2] == ["0.000", "student only, chosen on dev"]


@pytest.mark.parametrize("outcomes", [[STUDENT], [dataclasses.replace(TEACHER, ms_per_text={}), STUDENT]])
def test_without_a_teacher_that_is_a_model_there_is_no_cascade(outcomes: list[Outcome]) -> None:
    section = section_of(outcomes, GOLD, on_dev(teacher=len(outcomes) > 1))
    assert section is not None and not section.cascade and "Cascade" not in selective.markdown(section)


def test_without_a_student_there_is_no_section() -> None:
    assert section_of([TEACHER], GOLD, on_dev()) is None and section_of([STUDENT], GOLD, None) is None
    assert selective.markdown(None) == "" and selective.page_part(None, [TEACHER], GOLD) is None


def test_the_section_is_in_every_form_of_the_report(tmp_path: Path) -> None:
    report = Report("titles", CONTEXT, [TEACHER, STUDENT], versions={}, on_dev=on_dev())
    write(report, tmp_path)
    content = json.loads((tmp_path / "report.json").read_text("utf-8"))["unsure"]
    assert content["aurc"].keys() == {"teacher", "student"} and len(content["targets"]) == 3
    assert [row["name"] for row in content["cascade"] if row["name"]][1] == "chosen on dev"
    text, page = ((tmp_path / name).read_text("utf-8") for name in ("report.md", "report.html"))
    for shown in (text, page):
        assert "Unsure texts" in shown and "0.651" in shown and "teacher only" in shown and "AURC" in shown
    assert 'href="#unsure"' in page
    write(dataclasses.replace(report, on_dev=None), tmp_path)
    assert json.loads((tmp_path / "report.json").read_text("utf-8"))["unsure"] is None
    assert "Unsure texts" not in (tmp_path / "report.html").read_text("utf-8")


def test_times_are_those_of_what_ships() -> None:
    times = {"bundle": 20e-6, "bert": 4000e-6}
    rows = rows_of([Measurement(name, 1, 1, 1, [seconds]) for name, seconds in times.items()], "bert")
    shipped = Shipped(rows, "bundle", "bert", "bert", is_bundle=True, machine="")
    section = section_of([TEACHER, STUDENT], GOLD, on_dev(), shipped)
    assert section is not None
    chosen = next(row for row in section.cascade if row.name == "chosen on dev")
    assert (section.cascade[0].us_per_text, chosen.us_per_text) == pytest.approx((20, 20 + 0.25 * 4000))
    assert chosen.cost == pytest.approx(1020 / 4000)


SETS = np.array([[1, 0], [1, 1], [0, 0], [0, 1]], np.bool_)
SET_CONTEXT = dataclasses.replace(
    CONTEXT, texts=list("abcd"), gold=SETS, first_of_text=np.ones(4, np.bool_), measured="micro-F1"
)


def of_sets(name: str, probabilities: list[list[float]], ms: float) -> Outcome:
    """A model that gives a label from .6 on."""
    p = np.array(probabilities)
    return dataclasses.replace(
        outcome(name, [0.5], ms), logits=np.log(p / (1 - p)).astype(np.float32), temperature=1.0, thresholds=(0.6, 0.6)
    )


def test_the_section_of_label_sets_by_hand(tmp_path: Path) -> None:
    student = of_sets("student", [[0.9, 0.1], [0.9, 0.5], [0.2, 0.2], [0.1, 0.8]], 0.5)  # the second lacks a label
    teacher = of_sets("teacher", [[0.9, 0.1], [0.9, 0.9], [0.7, 0.2], [0.1, 0.8]], 8.0)  # the third has one too many
    section = section_of([teacher, student], SETS, on_dev(targets=(0.95,)))
    assert section is not None and section.everything.test is not None and section.everything.test.accuracy == 3 / 4
    target = section.targets[0]  # .651 on dev; of the sets .81, .45, .64 and .72, two are above
    assert target.test is not None and (target.test.texts, target.test.accuracy) == (2, 1.0)
    rows = {row.name or row.threshold: row for row in section.cascade}
    assert (rows["teacher only"].accuracy, rows["student only"].accuracy) == (3 / 4, 3 / 4)
    assert (rows[0.6].share, rows[0.6].accuracy) == (1 / 4, 1.0) and (rows[0.7].share, rows[0.7].accuracy) == (
        2 / 4,
        3 / 4,
    )
    assert Section.from_json(json.loads(json.dumps(section.to_json()))) == section
    assert section.areas["student"] == pytest.approx((0 + 0 + 0 + 1 / 4) / 4)
    report = Report("titles", SET_CONTEXT, [teacher, student], versions={}, on_dev=on_dev())
    write(report, tmp_path)
    text, page = ((tmp_path / name).read_text("utf-8") for name in ("report.md", "report.html"))
    for shown in (text, page):
        assert "dev: subset accuracy" in shown and "dev: accuracy" not in shown and "whole label set" in shown
    assert "and subset accuracy on these" in page and "开发集：子集准确率" in page


def test_the_section_of_one_label_says_nothing_of_sets() -> None:
    section = section_of([TEACHER, STUDENT], GOLD, on_dev())
    assert section is not None and "of_label_sets" not in section.to_json()
    assert "subset" not in selective.markdown(section) and "label set" not in selective.markdown(section)
