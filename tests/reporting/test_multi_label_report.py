"""The report of multi-label data: figures by hand, and no sentence that says that texts are classified correctly."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import COUNTS
from test_report_html import Reader, page_of

from distill.data.examples import MICRO_F1
from distill.evaluation import multi_label
from distill.reporting import plots, summary
from distill.reporting.mistakes import confident_label_set_mistakes, f1_by_label, shown_labels
from distill.reporting.report import write
from distill.reporting.results import EvaluationContext, Outcome, data_sentence
from distill.reporting.summary import Estimate, LinearResult, Report, lines, model_scores, summarise

GOLD = np.array([[1, 0, 0], [1, 1, 0], [0, 0, 0], [0, 1, 0]], bool)  # no text has the last label
LABELS = ("体育", "财经", "科技")
CONTEXT = EvaluationContext(
    texts=["一", "二", "三", "四"],
    gold=GOLD,
    first_of_text=np.ones(4, np.bool_),
    labels=LABELS,
    data=dict.fromkeys(COUNTS, 7),
    settings={"run": {}},
    timing="Time: …",
    measured=MICRO_F1,
)


def outcome(name: str, probabilities: list[list[float]], seed: int = 1, **more: Any) -> Outcome:
    history = [{"epoch": epoch, "dev_accuracy": 0.5, "dev_loss": 0.7} for epoch in (1, 2)]
    given = np.array(probabilities)
    logits = np.log(given / (1 - given)).astype(np.float32)
    usual: dict[str, Any] = {"history": history, "thresholds": (0.5, 0.5, 1.0)}
    return Outcome(name, seed, logits, 1000, 4_000_000, {"cpu": 8.0}, **{**usual, **more})


# 3 of 4 gold labels; 3 given
TEACHER = outcome("teacher", [[0.9, 0.1, 0.1], [0.8, 0.3, 0.1], [0.2, 0.2, 0.1], [0.4, 0.9, 0.99]])
# extra: the first text's second label; missing: the second text's first, the last text's second
STUDENT = outcome(
    "student",
    [[0.9, 0.95, 0.1], [0.2, 0.5, 0.1], [0.2, 0.2, 0.1], [0.1, 0.35, 0.1]],
    thresholds=(0.6, 0.4, 1.0),
)
SECOND = outcome("student", [[0.9, 0.1, 0.1], [0.9, 0.9, 0.1], [0.1, 0.1, 0.1], [0.1, 0.9, 0.1]], 2)
LINEAR = LinearResult(multi_label.scores(GOLD, np.ones_like(GOLD), np.ones(GOLD.shape)), 0.0)


def report(**more: Any) -> Report:
    usual: dict[str, Any] = {"name": "tags", "outcomes": [TEACHER, STUDENT, SECOND], "versions": {}, "linear": LINEAR}
    return Report(context=CONTEXT, **{**usual, **more})


def test_rows_by_hand() -> None:
    teacher, student = model_scores(CONTEXT, [TEACHER, STUDENT, SECOND])
    assert teacher.main == Estimate(pytest.approx(2 * 3 / (3 + 4)), None)
    assert student.main.mean == pytest.approx((2 * 2 / (3 + 4) + 1) / 2)
    assert student.retained.mean == pytest.approx((4 / 7 + 1) / 2 / (6 / 7))
    assert teacher.scores["subset_accuracy"].mean == 0.75 and teacher.scores["hamming_loss"].mean == 1 / 12
    assert teacher.scores["sample_f1"].mean == pytest.approx((1 + 2 / 3 + 1 + 1) / 4)
    assert teacher.scores["macro_f1"].mean == pytest.approx((1 + 2 / 3 + 0) / 3)
    assert teacher.scores["mean_average_precision"].mean == 1.0


def test_columns_and_json() -> None:
    rows = model_scores(CONTEXT, [TEACHER, STUDENT, SECOND])
    titles = ["", "micro-F1", "macro-F1", "sample F1", "subset accuracy", "Hamming loss", "mAP", "of the teacher"]
    header, teacher, student = lines(rows, MICRO_F1)
    assert header[:8] == titles and teacher[1] == "0.8571" and student[1] == "0.7857 ±0.3030"
    row = rows[1].to_json()
    assert list(row)[:5] == ["name", "micro_f1", "micro_f1_sd", "macro_f1", "macro_f1_sd"]
    assert row["kept"] == pytest.approx(11 / 12) and "accuracy" not in row


def test_every_form_names_what_was_measured(tmp_path: Path) -> None:
    text, files = write(report(), tmp_path)
    assert [path.name for path in files] == ["report.json", "report.md", "report.html", "confusion.png", "curves.png"]
    content = json.loads(files[0].read_text("utf-8"))
    assert content["measured"] == "micro-F1" and content["unsure"] is None
    assert content["linear_svc"] == {**asdict(LINEAR.scores), "weight": 0.0}
    markdown, page = (path.read_text("utf-8") for path in files[1:3])
    shown = "".join(Reader(page).texts)
    for form in (text, markdown, shown):
        sentence = "Linear baseline (one LinearSVC per label, one-vs-rest, on words and characters): micro-F1 0.5000."
        assert sentence in form and "7 texts with two label sets" in form
        assert not re.search(r"(?<!subset )accuracy|classified|confusions|Unsure", form, re.IGNORECASE), form
        assert "Hamming loss" in form and "micro avg" in form and "samples avg" not in form
    assert "0.7857micro-F1 of the distilled student on the test texts" in shown and "of its teacher's micro-F1" in shown
    assert "![F1 by label](confusion.png)" in markdown and "- **mAP**: mean average precision" in markdown


def test_the_page_is_in_the_chosen_language(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("distill.reporting.html.svg", lambda figure: "<svg></svg>")
    for language, foreign in (("zh", "[A-Za-z]{2,}"), ("en", "[\u4e00-\u9fff]")):
        reader = Reader(page_of(report(), tmp_path), language)
        left = [re.sub(r"ECE|mAP|LinearSVC|one-vs-rest|MB|tags", "", text) for text in reader.of_no_language]
        assert not [text for text in left if re.search(foreign, text)]


def test_missing_and_extra_labels() -> None:
    first, second, third = confident_label_set_mistakes(STUDENT, TEACHER, CONTEXT)
    assert (first.text, first.labels, first.missing, first.extra) == ("一", "体育", "–", "财经 95\u00a0%")
    assert (second.text, second.labels, second.missing, second.extra) == ("二", "体育, 财经", "体育 20\u00a0%", "–")
    assert (second.reference, second.reference_is_correct) == ("体育", False)
    assert (third.text, third.missing, third.reference, third.reference_is_correct) == (
        "四",
        "财经 35\u00a0%",
        "财经",
        True,
    )


def test_labels_that_are_never_given_do_not_come_first() -> None:
    context = replace(CONTEXT, gold=GOLD | np.array([False, False, True]))
    mistakes = confident_label_set_mistakes(STUDENT, None, context)
    assert [mistake.text for mistake in mistakes] == ["一", "二", "四", "三"]
    assert mistakes[-1].missing == "科技 10\u00a0%"


def test_f1_by_label() -> None:
    matrix = f1_by_label([TEACHER, STUDENT], GOLD, np.arange(3))
    assert list(matrix.columns) == ["texts", "threshold", "teacher", "distilled student", "difference"]
    assert [[cell.text for cell in row] for row in matrix.cells] == [
        ["2", "0.600", "1.000", "0.667", "−0.333"],
        ["2", "0.400", "0.667", "0.500", "−0.167"],
        ["0", "–", "0.000", "0.000", "+0.000"],
    ]
    assert [row[-1].css for row in matrix.cells] == ["bad", "bad", ""] and matrix.cells[0][2].css == "full"
    assert len(f1_by_label([TEACHER], GOLD, np.arange(3)).columns) == 3


def test_the_labels_with_the_most_mistakes_are_shown(tmp_path: Path) -> None:
    gold = np.eye(40, dtype=bool)
    logits = np.where(gold, 4.0, -4.0).astype(np.float32)
    logits[[3, 39]] = -4.0
    model = Outcome("student", 1, logits, 1, 1, {"cpu": 1.0}, thresholds=(0.5,) * 40)
    shown = shown_labels([model], gold, 40)
    assert len(shown) == 30 and {3, 39} <= set(shown.tolist())
    path = plots.draw_confusions([model], gold, [f"$l{index}" for index in range(40)], tmp_path / "confusion.png")
    assert path.stat().st_size > 5000


def test_the_threshold_plot_marks_what_was_chosen() -> None:
    with plots.new_figure(1, 4, 3) as (_, (axes,)):
        plots.draw_thresholds(axes, [TEACHER, STUDENT, SECOND], GOLD)
        curve, line, marks = axes.lines[3:]
    assert len(axes.lines) == 6  # two kinds of model
    assert curve.get_ydata()[24] == pytest.approx(multi_label.micro_f1(GOLD, STUDENT.probabilities() > 0.5))
    assert line.get_ydata()[0] == pytest.approx(4 / 7)
    assert marks.get_xdata().tolist() == [0.6, 0.4] and marks.get_ydata().tolist() == pytest.approx([4 / 7] * 2)


def test_without_mistakes(tmp_path: Path) -> None:
    assert "The distilled student made no mistakes." in page_of(report(outcomes=[SECOND]), tmp_path)


def test_conflicts_are_named_by_what_they_are() -> None:
    assert "7 texts with two labels. Dropped" in data_sentence(CONTEXT.data)
    assert "标签集合矛盾的文本 7 条。" in data_sentence(CONTEXT.data, is_multi_label=True).chinese


def test_a_test_set_without_labels_has_no_average_precision() -> None:
    context = replace(CONTEXT, gold=np.zeros_like(GOLD))
    rows = model_scores(context, [STUDENT])
    assert lines(rows, MICRO_F1)[1][6] == "-" and rows[0].to_json()["mean_average_precision"] is None
    assert summary.terminal(summarise(replace(report(), context=context)))
