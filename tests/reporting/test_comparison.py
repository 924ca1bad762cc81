"""The comparison: figures computed by hand, JSON, tables, page and plot; the table of contradicted labels."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import COUNTS

from distill.evaluation import metrics
from distill.reporting import accuracy_speed_plot
from distill.reporting.comparison import points_of, terminal, write
from distill.reporting.comparison_record import (
    Comparison,
    LeftOutClassRow,
    ModelResult,
    read_record,
    record_of,
    rows_of,
)
from distill.reporting.comparison_tables import format_p_value
from distill.reporting.label_noise import ContradictedLabel, contradicted_labels, write_label_noise
from distill.reporting.results import EvaluationContext, to_json
from distill.reporting.tables import display_width

GOLD = np.array([0, 0, 1, 1, 2])
FIRST = np.array([True, True, True, True, False])
KEYS = [  # of a row in compare.json
    "name",
    "objective",
    "student",
    "transfer",
    "teachers",
    "seeds",
    "accuracy",
    "accuracy_sd",
    "accuracy_distinct",
    "macro_f1",
    "kept",
    "gain",
    "gain_low",
    "gain_high",
    "p_value",
    "against",
    "ece",
    "ece_calibrated",
    "train_seconds",
    "train_texts",
    "ms_per_text",
    "parameters",
]


def result(name: str, objective: str, student: str, *predicted: list[int], **more: object) -> ModelResult:
    usual: dict[str, object] = {"calibration_error": (0.08, 0.0154), "train_seconds": 61.4, "ms_per_text": 0.165}
    sizes = {"train_texts": 14_000, "parameters": 1_575_885}
    return ModelResult(name, objective, student, "train", 1, np.array(predicted), **{**usual, **sizes, **more})  # type: ignore[arg-type]


TEACHER = result(
    "teacher",
    "teacher",
    "teacher",
    [0, 0, 1, 1, 0],
    ms_per_text=4.0,
    teacher="teacher",
    calibration_error=(0.09, None),
)
LINEAR = result("linear", "floor", "LinearSVC", [0, 0, 1, 0, 0], calibration_error=None)
ALONE = result("bilstm, alone", "labels", "bilstm", [0, 1, 0, 1, 1], [0, 1, 0, 0, 0], teacher="teacher")
DISTILLED = result(
    "bilstm, logits", "logits", "bilstm", [0, 0, 1, 1, 2], [0, 0, 0, 1, 0], against="bilstm, alone", teacher="teacher"
)


CONTEXT = EvaluationContext(
    texts=list("abcde"),
    gold=GOLD,
    first_of_text=FIRST,
    labels=("体育", "财经", "科技"),
    data=dict.fromkeys(COUNTS, 7),
    settings={"seed": 1},
    timing="Time: 2 cores.",
)


def comparison(*results: ModelResult) -> Comparison:
    return Comparison(CONTEXT, results)


ALL = comparison(TEACHER, LINEAR, ALONE, DISTILLED)
LEFT_OUT_CLASS = [LeftOutClassRow("distilled <b>体育</b>", 0.0, 0.01, 0.41256, 0.0)]


def test_rows_by_hand() -> None:
    rows = rows_of(ALL)
    assert all(list(to_json(row)) == KEYS for row in rows)
    teacher, linear, alone, distilled = rows
    assert (teacher.accuracy, teacher.accuracy_sd, teacher.seeds, teacher.retained) == (0.8, 0.0, 1, 1.0)
    assert linear.retained is linear.ece is linear.ece_calibrated is linear.gain is linear.p_value is None
    # accuracies of the seeds: 1.0 and 0.6; of the student alone 0.4 and 0.2
    assert distilled.accuracy == pytest.approx(0.8) and distilled.accuracy_sd == pytest.approx(0.4 / 2**0.5)
    assert distilled.retained == pytest.approx(1.0) and alone.retained == pytest.approx(0.3 / 0.8)
    assert distilled.gain == pytest.approx(0.5) and distilled.gain_low <= 0.5 <= distilled.gain_high
    assert distilled.p_value == pytest.approx(2 / 2**5)  # five pairs were gained (three, two), none lost
    assert distilled.accuracy_distinct == pytest.approx((1.0 + 0.75) / 2)
    macro_f1 = [metrics.scores(GOLD, predicted, FIRST, 3).macro_f1 for predicted in DISTILLED.predicted]
    assert distilled.macro_f1 == pytest.approx(np.mean(macro_f1))
    assert (distilled.ece, distilled.ece_calibrated, distilled.against) == (0.08, 0.0154, "bilstm, alone")


def test_a_single_run_is_paired_with_every_seed() -> None:
    (_, row) = rows_of(comparison(LINEAR, replace(DISTILLED, against="linear", teacher="")))
    # right of 2 x 5: the linear baseline 3 + 3, the distilled student 5 + 3
    assert row.gain == pytest.approx(0.2) and row.retained is None


def test_nothing_is_retained_of_a_teacher_that_is_never_right() -> None:
    hopeless = replace(TEACHER, predicted=np.array([[2, 2, 2, 2, 0]]))
    assert [row.retained for row in rows_of(comparison(hopeless, ALONE))] == [None, None]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (replace(DISTILLED, name="teacher"), "two results share a name"),
        (replace(DISTILLED, against="nobody"), "compared with {'nobody'}, which is none of"),
        (replace(DISTILLED, teacher="nobody"), "compared with {'nobody'}, which is none of"),
        (
            replace(DISTILLED, predicted=np.zeros((2, 4), dtype=np.int64)),
            r"want predictions \(seeds, 5\), not \(2, 4\)",
        ),
        (replace(DISTILLED, predicted=np.zeros(5, dtype=np.int64)), r"not \(5,\)"),
    ],
)
def test_inconsistent_results_are_refused(wrong: ModelResult, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        comparison(TEACHER, ALONE, wrong)


def test_write(tmp_path: Path) -> None:
    text, files = write(replace(ALL, left_out_class=LEFT_OUT_CLASS), tmp_path / "compare")
    assert [path.name for path in files] == ["compare.json", "compare.md", "compare.html", "compare.png"]
    content = json.loads(files[0].read_text("utf-8"))
    assert content["rows"] == [to_json(row) for row in rows_of(ALL)]
    left_out = {
        "name": "distilled <b>体育</b>",
        "recall": 0.0,
        "recall_sd": 0.01,
        "accuracy": 0.41256,
        "accuracy_sd": 0.0,
    }
    assert content["left_out"] == [left_out]
    assert content["data"]["leaks"] == 7 and content["settings"] == {"seed": 1} and content["timing"].startswith("Time")
    assert files[3].read_bytes().startswith(b"\x89PNG")
    page = files[1].read_text("utf-8")
    assert "| bilstm, logits | 4 | 0.8000 ±0.2828 | 100.0 % | +50.00 (" in page
    assert "| 0.062 | bilstm, alone | 0.080 → 0.015 | 61 | 14,000 | 0.165 | 1,575,885 | 2 |" in page
    assert "| teacher | 1 | 0.8000 | 100.0 % | - | - | - | 0.090 | 61 |" in page
    assert "| linear | 2 | 0.6000 | - | - | - | - | - | 61 |" in page
    assert "| distilled <b>体育</b> | 0.0000 | 0.0100 | 0.4126 | 0.0000 |" in page
    assert all(part in page for part in ("Time: 2 cores.", "![accuracy and speed](compare.png)", "McNemar"))
    assert all(part in text for part in ("Time: 2 cores.", "A class left out", "0.4126"))


def test_a_written_comparison_is_read_back(tmp_path: Path) -> None:
    made = replace(ALL, left_out_class=LEFT_OUT_CLASS)
    assert read_record(write(made, tmp_path)[1][0]) == record_of(made)


def test_the_page_shows_the_table(tmp_path: Path) -> None:
    page = write(replace(ALL, left_out_class=LEFT_OUT_CLASS), tmp_path)[1][2].read_text("utf-8")
    cells = [
        "bilstm, logits",
        "0.8000 ±0.2828",
        "100.0 %",
        "0.080 → 0.015",
        "1,575,885",
        "distilled &lt;b&gt;体育&lt;/b&gt;",
        "0.4126",
    ]
    assert all(f">{cell}</t" in page for cell in cells)
    assert page.count("<svg") == 1 and "Time: 2 cores." in page


def test_every_column_is_explained(tmp_path: Path) -> None:
    page = write(ALL, tmp_path)[1][1].read_text("utf-8")
    header = [title.strip() for title in page.splitlines()[2].split("|")[3:-1]]
    assert [line.split("**")[1] for line in page.splitlines() if line.startswith("- **")] == header
    assert "left out" not in page


def test_the_terminal_lines_are_aligned_and_fit_100_columns() -> None:
    long = replace(DISTILLED, name="bilstm，软标签和没有标签的文本，三位老师，外加一个很长很长的名字")
    left_out_class = [LeftOutClassRow("体育", 0.4, 0.0, 0.5, 0.0), LeftOutClassRow("财经新闻", 0.5, 0.01, 0.6, 0.02)]
    made = replace(comparison(TEACHER, ALONE, DISTILLED, long), left_out_class=left_out_class)
    table, held_out = terminal(record_of(made)).split("\n\n")[:2]
    for lines in (table.splitlines(), held_out.splitlines()[1:]):
        assert len({display_width(line) for line in lines}) == 1 and display_width(lines[0]) <= 100
    assert "…" in table and "0.8000 ±0.2828  100.0 %  +50.00  0.062    0.165" in table
    assert held_out.splitlines()[2].split() == ["体育", "0.4000", "0.0000", "0.5000", "0.0000"]


def test_a_bar_in_a_name_does_not_break_the_table(tmp_path: Path) -> None:
    row = LeftOutClassRow("a|b", 1.0, 0.0, 1.0, 0.0)
    page = write(replace(ALL, left_out_class=[row]), tmp_path)[1][1].read_text("utf-8")
    assert "| a\\|b | 1.0000 |" in page


def test_p_is_never_zero() -> None:
    assert [format_p_value(p) for p in (0.0, 0.00099, 0.0312, 1.0)] == ["<0.001", "<0.001", "0.031", "1.000"]


def test_only_points_of_like_speed_move() -> None:
    drawn = accuracy_speed_plot.side_by_side(np.array([100.0, 6000.0, 9000.0, 6050.0, 5990.0]))
    assert drawn[[0, 2]] == pytest.approx([100.0, 9000.0])
    assert drawn[1] < drawn[3] < drawn[4]  # in the order of the rows
    assert np.exp(np.log(drawn[[1, 3, 4]]).mean()) == pytest.approx(np.exp(np.log([6000, 6050, 5990]).mean()))
    steps = np.diff(np.log10(drawn[[1, 3, 4]]))
    assert steps == pytest.approx([accuracy_speed_plot.SPREAD] * 2)


def test_the_plots_numbers_do_not_overlap(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    figures = []
    monkeypatch.setattr(accuracy_speed_plot, "save", lambda figure, path: figures.append(figure) or path)
    students = [
        replace(DISTILLED, name=f"student {n}", ms_per_text=0.1 + n / 5e3, against="", teacher="") for n in range(8)
    ]
    results = (TEACHER, LINEAR, *students, replace(TEACHER, name="2 teachers"))
    accuracy_speed_plot.draw_comparison(points_of(rows_of(comparison(*results))), tmp_path / "a.png")
    figure = figures[0]
    figure.draw_without_rendering()
    texts = figure.axes[0].texts
    boxes = [text.get_window_extent() for text in texts]
    assert [text.get_text() for text in texts] == [str(n) for n in range(1, 12)]
    assert not any(one.overlaps(other) for n, one in enumerate(boxes) for other in boxes[:n])
    legend = [entry.get_text() for entry in figure.legends[0].get_texts()]
    assert legend[:3] == ["1  teacher", "2  linear", "3  student 0"]
    lines = [line for line in figure.axes[0].lines if line.get_linestyle() in ("--", ":")]
    assert [line.get_ydata()[0] for line in lines] == pytest.approx([0.8, 0.6])


def test_students_have_colours_and_objectives_have_markers() -> None:
    results = (TEACHER, LINEAR, ALONE, DISTILLED, replace(DISTILLED, name="other", student="average"))
    teacher, linear, alone, distilled, other = points_of(rows_of(comparison(*results)))
    assert (teacher.marker, linear.marker) == ("*", "X") and teacher.is_reference and linear.is_reference
    assert alone.colour == distilled.colour != other.colour
    assert alone.marker != distilled.marker == other.marker
    assert not alone.is_reference and not alone.line


PROBABILITIES = np.array([[0.9, 0.1, 0.0], [0.05, 0.95, 0.0], [0.2, 0.8, 0.0], [0.3, 0.1, 0.6], [0.0, 0.0, 1.0]])


def test_contradicted_labels_are_confident_predictions_of_another_label() -> None:
    contradicted = contradicted_labels("train", list("abcde"), [1, 0, 2, 0, 2], PROBABILITIES, ("体育", "财经", "科技"))
    assert contradicted == [
        ContradictedLabel("train", "b", "体育", "财经", 0.95, 0.05),
        ContradictedLabel("train", "a", "财经", "体育", 0.9, 0.1),
        ContradictedLabel("train", "c", "科技", "财经", 0.8, 0.0),
    ]
    assert [
        row.text
        for row in contradicted_labels("dev", list("abcde"), [1, 0, 2, 0, 2], PROBABILITIES, "xyz", min_probability=0.5)
    ] == [*"bacd"]


def test_labels_that_are_numbers_are_no_formulas(tmp_path: Path) -> None:
    path = write_label_noise(tmp_path / "noise.csv", [ContradictedLabel("train", "+86", "-1", "1", 0.9, 0.1)])
    assert path.read_text("utf-8-sig").splitlines()[1] == "train,+86,-1,1,0.9000,0.1000"


def test_label_noise_cannot_start_formulas_in_a_spreadsheet(tmp_path: Path) -> None:
    texts = ["=HYPERLINK(1)", "+1+1", "-1+1", "@a", "＝1", "\t=1", '他说:"好",\n走了', "a=b", "half \ud800"]
    rows = [ContradictedLabel("train", text, "财经", "-体育", 0.95, 0.00004) for text in texts]
    path = write_label_noise(tmp_path / "noise.csv", rows)
    assert path.read_bytes().startswith("\ufeffsplit,".encode())
    with path.open(encoding="utf-8-sig", newline="") as file:
        header, *body = csv.reader(file)
    assert header == ["split", "text", "label", "teacher_label", "teacher_probability", "label_probability"]
    assert [line[1] for line in body] == [*(f"'{text}" for text in texts[:6]), *texts[6:8], "half ?"]
    assert body[0][2:] == ["财经", "'-体育", "0.9500", "0.0000"]
