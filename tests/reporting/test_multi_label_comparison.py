"""The comparison of multi-label data: figures by hand, what is tested and named, and its files read back."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from test_comparison import ALL, result
from test_multi_label_report import CONTEXT, GOLD, report
from test_report_html import Reader, page_of

from distill.config import TargetMetric
from distill.data.examples import MICRO_F1
from distill.evaluation import multi_label
from distill.reporting import accuracy_speed_plot
from distill.reporting.comparison import terminal, write
from distill.reporting.comparison_record import (
    Comparison,
    ModelResult,
    MultiLabelRow,
    measured_of,
    read_record,
    record_of,
    rows_of,
)
from distill.reporting.results import to_json
from distill.reporting.tables import display_width
from distill.translation import Text


def sets(name: str, objective: str, student: str, *predicted: list[list[int]], **more: object) -> ModelResult:
    made = result(name, objective, student, calibration_error=(0.015, None), **more)
    return replace(made, predicted=np.array(predicted, bool))


RIGHT = GOLD.astype(int).tolist()
TEACHER = sets("teacher", "teacher", "teacher", RIGHT, ms_per_text=4.0, teacher="teacher")
ONE_EXTRA = [[1, 1, 0], *RIGHT[1:]]  # micro-F1 8/9
NONE = [[0, 0, 0]] * 4
ALONE = sets("bilstm, alone", "labels", "bilstm", ONE_EXTRA, NONE, teacher="teacher")
DISTILLED = sets("bilstm, logits", "logits", "bilstm", RIGHT, ONE_EXTRA, against="bilstm, alone", teacher="teacher")
LINEAR = replace(sets("LinearSVC, one-vs-rest", "floor", "LinearSVC", NONE), calibration_error=None)
MADE = Comparison(CONTEXT, (TEACHER, LINEAR, ALONE, DISTILLED), [])


def test_rows_by_hand() -> None:
    teacher, linear, alone, distilled = rows_of(MADE)
    assert isinstance(distilled, MultiLabelRow)
    assert (teacher.main, teacher.accuracy, teacher.retained, linear.main) == (1.0, 1.0, 1.0, 0.0)
    assert distilled.micro_f1 == distilled.main == pytest.approx((1 + 8 / 9) / 2)
    assert distilled.micro_f1_sd == distilled.main_sd == pytest.approx((1 - 8 / 9) / 2**0.5)
    assert distilled.macro_f1 == pytest.approx((2 / 3 + (1 + 0.8) / 3) / 2)
    assert (distilled.accuracy, distilled.accuracy_sd) == pytest.approx(((1 + 0.75) / 2, 0.25 / 2**0.5))
    assert distilled.retained == pytest.approx(17 / 18) and alone.retained == pytest.approx(4 / 9)
    assert distilled.gain == pytest.approx(17 / 18 - 4 / 9)
    interval = multi_label.bootstrap_interval(GOLD, DISTILLED.predicted, ALONE.predicted)
    assert (distilled.gain_low, distilled.gain_high) == interval
    # whole sets: the first seed gains the first text, the second one the second and the last; none is lost
    assert distilled.p_value == pytest.approx(2 / 2**3)
    assert alone.gain is alone.p_value is None


@pytest.mark.parametrize(
    ("metric", "measured", "gain"),
    [("macro_f1", "macro-F1", (2 / 3 + 0.6) / 2 - 0.3), ("subset_accuracy", "subset accuracy", 0.875 - 0.5)],
)
def test_models_are_compared_by_the_target_metric(
    metric: TargetMetric, measured: str, gain: float, tmp_path: Path
) -> None:
    made = replace(MADE, context=replace(CONTEXT, target_metric=metric))
    row = rows_of(made)[-1]
    interval = multi_label.bootstrap_interval(GOLD, DISTILLED.predicted, ALONE.predicted, metric)
    assert row.gain == pytest.approx(gain) and (row.gain_low, row.gain_high) == interval
    figures = [multi_label.scores(GOLD, predicted) for predicted in DISTILLED.predicted]
    assert row.main == pytest.approx(np.mean([getattr(one, metric) for one in figures]))
    assert row.main_sd == pytest.approx(np.std([getattr(one, metric) for one in figures], ddof=1))
    text, files = write(made, tmp_path)
    record = read_record(files[0])
    assert record == record_of(made) and record.measured == measured
    assert text.lstrip().startswith(measured)
    markdown, page = (path.read_text("utf-8") for path in files[1:3])
    assert f"|  | # | {measured} | kept |" in markdown and f"difference in {measured}" in page
    assert f"![{measured} and speed]" in markdown and f"{measured[1:]} against speed" in markdown


def test_keys_of_the_json() -> None:
    keys, single = ({*to_json(rows_of(made)[0])} for made in (MADE, ALL))
    of_sets = {"micro_f1", "micro_f1_sd", "macro_f1_sd", "subset_accuracy", "subset_accuracy_sd", "target_metric"}
    assert keys - single == of_sets
    assert single - keys == {"accuracy", "accuracy_sd"}


def test_a_written_comparison_is_read_back(tmp_path: Path) -> None:
    path = write(MADE, tmp_path)[1][0]
    record = read_record(path)
    assert record == record_of(MADE) and record.measured == MICRO_F1
    assert all(isinstance(row, MultiLabelRow) for row in record.rows)
    assert json.loads(path.read_text("utf-8"))["rows"][3]["micro_f1"] == pytest.approx(17 / 18)
    assert measured_of(rows_of(ALL)) == "accuracy"


def test_every_form_names_what_was_measured(tmp_path: Path) -> None:
    text, files = write(MADE, tmp_path)
    markdown, page = (path.read_text("utf-8") for path in files[1:3])
    shown = "".join(Reader(page).texts)
    assert "| bilstm, logits | 4 | 0.9444 ±0.0786 | 94.4 % | +50.00 (" in markdown
    assert "| 0.6333 | 0.8750 |" in markdown and "| LinearSVC, one-vs-rest | 2 | 0.0000 |" in markdown
    assert "![micro-F1 and speed](compare.png)" in markdown
    for form in (markdown, shown):
        assert "McNemar test on subset accuracy, not on micro-F1" in form
        assert "Micro-F1 against speed" in form and "difference in micro-F1" in form
    assert "micro-F1 on test, mean ± SD over seeds" in shown
    for form in (text, markdown, shown):
        assert "7 texts with two label sets" in form and "p (subset)" in form
        assert not re.search(r"(?<!subset )accuracy|classified|confidence", form, re.IGNORECASE), form


def test_every_column_is_explained(tmp_path: Path) -> None:
    page = write(MADE, tmp_path)[1][1].read_text("utf-8")
    header = [title.strip() for title in page.splitlines()[2].split("|")[3:-1]]
    assert [line.split("**")[1] for line in page.splitlines() if line.startswith("- **")] == header


def test_the_terminal_lines_are_aligned_and_fit_100_columns() -> None:
    long = replace(DISTILLED, name="bilstm，软标签和没有标签的文本，三位老师，外加一个很长很长的名字")
    table = terminal(record_of(Comparison(CONTEXT, (TEACHER, ALONE, long)))).split("\n\n")[0]
    assert {display_width(line) for line in table.splitlines()} <= set(range(101)) and "…" in table
    assert " ".join(table.split("\n")[0].split()) == "micro-F1 kept gain subset acc. p (subset) ms/text"


def test_the_plot_is_of_micro_f1(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    figures = []
    monkeypatch.setattr(accuracy_speed_plot, "save", lambda figure, path: figures.append(figure) or path)
    write(MADE, tmp_path)
    axes = figures[0].axes[0]
    assert axes.get_ylabel() == "micro-F1 on test, mean ± SD over seeds" != Text(axes.get_ylabel()).chinese
    assert sorted(line.get_ydata()[0] for line in axes.lines if line.get_linestyle() in ("--", ":")) == [0.0, 1.0]


def test_the_report_shows_it_in_both_languages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("distill.reporting.html.svg", lambda figure: "<svg></svg>")
    page = page_of(report(comparison=record_of(MADE)), tmp_path)
    assert "p (subset)" in "".join(Reader(page).texts)
    chinese = "".join(Reader(page, "zh").texts)
    assert "p（子集准确率）" in chinese and "McNemar test" not in chinese


def test_predictions_of_another_shape_are_refused() -> None:
    wrong = replace(DISTILLED, predicted=DISTILLED.predicted[:, :, :2])
    with pytest.raises(ValueError, match=r"want predictions \(seeds, 4, 3\), not \(2, 4, 2\)"):
        Comparison(CONTEXT, (TEACHER, ALONE, wrong))
