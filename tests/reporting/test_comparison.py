"""The comparison by hand, as people and programs read it; the table of doubted labels."""

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
from distill.reporting.comparison import Comparison, ModelResult, p_value, rows_of, terminal, write
from distill.reporting.label_noise import Suspect, label_noise, suspects
from distill.reporting.tables import display_width

GOLD = np.array([0, 0, 1, 1, 2])
FIRST = np.array([True, True, True, True, False])
PROMISED = [
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
    usual: dict[str, object] = {"logits_calibration": (0.08, 0.0154), "train_seconds": 61.4, "ms_per_text": 0.165}
    sizes = {"train_texts": 14_000, "parameters": 1_575_885}
    return ModelResult(name, objective, student, "train", 1, np.array(predicted), **{**usual, **sizes, **more})  # type: ignore[arg-type]


TEACHER = result(
    "teacher",
    "teacher",
    "teacher",
    [0, 0, 1, 1, 0],
    ms_per_text=4.0,
    teacher="teacher",
    logits_calibration=(0.09, None),
)
FLOOR = result("floor", "floor", "LinearSVC", [0, 0, 1, 0, 0], logits_calibration=None)
ALONE = result("bilstm, alone", "labels", "bilstm", [0, 1, 0, 1, 1], [0, 1, 0, 0, 0], teacher="teacher")
TAUGHT = result(
    "bilstm, logits", "logits", "bilstm", [0, 0, 1, 1, 2], [0, 0, 0, 1, 0], against="bilstm, alone", teacher="teacher"
)


def comparison(*results: ModelResult, **more: object) -> Comparison:
    usual = {"data": dict.fromkeys(COUNTS, 7), "settings": {"seed": 1}, "timing": "Time: 2 cores."}
    return Comparison(GOLD, FIRST, ("体育", "财经", "科技"), results, **{**usual, **more})  # type: ignore[arg-type]


ALL = comparison(TEACHER, FLOOR, ALONE, TAUGHT)


def test_rows_by_hand() -> None:
    teacher, floor, alone, taught = rows_of(ALL)
    assert all(list(row) == PROMISED for row in (teacher, floor, alone, taught))
    assert (teacher["accuracy"], teacher["accuracy_sd"], teacher["seeds"], teacher["kept"]) == (0.8, 0.0, 1, 1.0)
    assert floor["kept"] is floor["ece"] is floor["ece_calibrated"] is floor["gain"] is floor["p_value"] is None
    # seeds: 1.0 and 0.6; against 0.4 and 0.2
    assert taught["accuracy"] == pytest.approx(0.8) and taught["accuracy_sd"] == pytest.approx(0.4 / 2**0.5)
    assert taught["kept"] == pytest.approx(1.0) and alone["kept"] == pytest.approx(0.3 / 0.8)
    assert taught["gain"] == pytest.approx(0.5) and taught["gain_low"] <= 0.5 <= taught["gain_high"]
    assert taught["p_value"] == pytest.approx(2 / 2**5)  # five pairs were gained (three, two), none lost
    assert taught["accuracy_distinct"] == pytest.approx((1.0 + 0.75) / 2)
    each = [metrics.scores(GOLD, one, FIRST, 3)["macro_f1"] for one in TAUGHT.predicted]
    assert taught["macro_f1"] == pytest.approx(np.mean(each))
    assert (taught["ece"], taught["ece_calibrated"], taught["against"]) == (0.08, 0.0154, "bilstm, alone")


def test_the_single_floor_can_be_compared_with() -> None:
    (_, row) = rows_of(comparison(FLOOR, replace(TAUGHT, against="floor", teacher="")))
    # right of 2 x 5: floor 3 + 3, taught 5 + 3
    assert row["gain"] == pytest.approx(0.2) and row["kept"] is None


def test_a_teacher_that_is_never_right_leaves_nothing_to_keep() -> None:
    hopeless = replace(TEACHER, predicted=np.array([[2, 2, 2, 2, 0]]))
    assert [row["kept"] for row in rows_of(comparison(hopeless, ALONE))] == [None, None]


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (replace(TAUGHT, name="teacher"), "one name"),
        (replace(TAUGHT, against="nobody"), "nobody"),
        (replace(TAUGHT, teacher="nobody"), "nobody"),
        (replace(TAUGHT, predicted=np.zeros((2, 4), dtype=np.int64)), r"want \(seeds, 5\), not \(2, 4\)"),
        (replace(TAUGHT, predicted=np.zeros(5, dtype=np.int64)), r"not \(5,\)"),
    ],
)
def test_what_does_not_fit_together_is_refused(wrong: ModelResult, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        comparison(TEACHER, ALONE, wrong)


def test_write(tmp_path: Path) -> None:
    left_out = [{"class": "体育", "student alone": 0.0, "distilled": 0.41256, "texts": 1200, "p": None}]
    text, files = write(replace(ALL, left_out=left_out), tmp_path / "compare")
    assert [path.name for path in files] == ["compare.json", "compare.md", "compare.html", "compare.png"]
    content = json.loads(files[0].read_text("utf-8"))
    assert content["rows"] == rows_of(ALL) and content["left_out"] == left_out
    assert content["data"]["leaks"] == 7 and content["settings"] == {"seed": 1} and content["timing"].startswith("Time")
    assert files[3].read_bytes().startswith(b"\x89PNG")
    page = files[1].read_text("utf-8")
    assert "| bilstm, logits | 4 | 0.8000 ±0.2828 | 100.0 % | +50.00 (" in page
    assert "| 0.062 | bilstm, alone | 0.080 → 0.015 | 61 | 14,000 | 0.165 | 1,575,885 | 2 |" in page
    assert "| teacher | 1 | 0.8000 | 100.0 % | - | - | - | 0.090 | 61 |" in page
    assert "| floor | 2 | 0.6000 | - | - | - | - | - | 61 |" in page
    assert "| 体育 | 0.0000 | 0.4126 | 1,200 | - |" in page
    assert all(said in page for said in ("Time: 2 cores.", "![accuracy and speed](compare.png)", "McNemar"))
    assert all(said in text for said in ("Time: 2 cores.", "A class left out", "0.4126"))


def test_the_page_says_what_the_table_says(tmp_path: Path) -> None:
    left_out = [{"class": "<b>体育</b>", "distilled": 0.41256}]
    page = write(replace(ALL, left_out=left_out), tmp_path)[1][2].read_text("utf-8")
    cells = [
        "bilstm, logits",
        "0.8000 ±0.2828",
        "100.0 %",
        "0.080 → 0.015",
        "1,575,885",
        "&lt;b&gt;体育&lt;/b&gt;",
        "0.4126",
    ]
    assert all(f">{cell}</t" in page for cell in cells)
    assert page.count("<svg") == 1 and "Time: 2 cores." in page


def test_every_column_is_explained(tmp_path: Path) -> None:
    page = write(ALL, tmp_path)[1][1].read_text("utf-8")
    header = [title.strip() for title in page.splitlines()[2].split("|")[3:-1]]
    assert [line.split("**")[1] for line in page.splitlines() if line.startswith("- **")] == header
    assert "left out" not in page


def test_the_terminal_lines_fit_and_stand_under_each_other() -> None:
    long = replace(TAUGHT, name="bilstm，软标签和没有标签的文本，三位老师，外加一个很长很长的名字")
    left_out = [{"class": "体育", "distilled": 0.4}, {"class": "财经新闻", "distilled": 0.5, "texts": 3}]
    table, other = terminal(rows_of(comparison(TEACHER, ALONE, TAUGHT, long)), left_out, []).split("\n\n")[:2]
    for lines in (table.splitlines(), other.splitlines()[1:]):
        assert len({display_width(line) for line in lines}) == 1 and display_width(lines[0]) <= 100
    assert "…" in table and "0.8000 ±0.2828  100.0 %  +50.00  0.062    0.165" in table
    assert other.splitlines()[2].endswith("0.4000      -")


def test_a_bar_in_a_label_does_not_break_the_table(tmp_path: Path) -> None:
    page = write(replace(ALL, left_out=[{"class": "a|b", "x": 1}]), tmp_path)[1][1].read_text("utf-8")
    assert "| a\\|b | 1 |" in page


def test_p_is_never_zero() -> None:
    assert [p_value({"p_value": p}) for p in (0.0, 0.00099, 0.0312, 1.0)] == ["<0.001", "<0.001", "0.031", "1.000"]


def test_only_points_of_like_speed_move() -> None:
    drawn = accuracy_speed_plot.apart(np.array([100.0, 6000.0, 9000.0, 6050.0, 5990.0]))
    assert drawn[[0, 2]] == pytest.approx([100.0, 9000.0])
    assert drawn[1] < drawn[3] < drawn[4]  # in the order of the rows
    assert np.exp(np.log(drawn[[1, 3, 4]]).mean()) == pytest.approx(np.exp(np.log([6000, 6050, 5990]).mean()))
    steps = np.diff(np.log10(drawn[[1, 3, 4]]))
    assert steps == pytest.approx([accuracy_speed_plot.STEP] * 2)


def test_the_plots_numbers_do_not_cover_each_other(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    figures = []
    monkeypatch.setattr(accuracy_speed_plot, "save", lambda figure, path: figures.append(figure) or path)
    many = [replace(TAUGHT, name=f"student {n}", ms_per_text=0.1 + n / 5e3, against="", teacher="") for n in range(8)]
    accuracy_speed_plot.draw_comparison(
        rows_of(comparison(TEACHER, FLOOR, *many, replace(TEACHER, name="2 teachers"))), tmp_path / "a.png"
    )
    figure = figures[0]
    figure.draw_without_rendering()
    texts = figure.axes[0].texts
    boxes = [text.get_window_extent() for text in texts]
    assert [text.get_text() for text in texts] == [str(n) for n in range(1, 12)]
    assert not any(one.overlaps(other) for n, one in enumerate(boxes) for other in boxes[:n])
    assert [key.get_text() for key in figure.legends[0].get_texts()][:3] == ["1  teacher", "2  floor", "3  student 0"]
    lines = [line for line in figure.axes[0].lines if line.get_linestyle() in ("--", ":")]
    assert [line.get_ydata()[0] for line in lines] == pytest.approx([0.8, 0.6])


def test_students_have_colours_and_objectives_marks() -> None:
    rows = rows_of(comparison(TEACHER, FLOOR, ALONE, TAUGHT, replace(TAUGHT, name="other", student="average")))
    teacher, floor, alone, taught, other = accuracy_speed_plot._looks(rows)
    assert teacher == accuracy_speed_plot.SPECIAL["teacher"] and floor == accuracy_speed_plot.SPECIAL["floor"]
    assert alone[0] == taught[0] != other[0] and alone[1] != taught[1] == other[1]


PROBABILITIES = np.array([[0.9, 0.1, 0.0], [0.05, 0.95, 0.0], [0.2, 0.8, 0.0], [0.3, 0.1, 0.6], [0.0, 0.0, 1.0]])


def test_suspects_are_confident_and_of_another_mind() -> None:
    found = suspects("train", list("abcde"), [1, 0, 2, 0, 2], PROBABILITIES, ("体育", "财经", "科技"))
    assert found == [
        Suspect("train", "b", "体育", "财经", 0.95, 0.05),
        Suspect("train", "a", "财经", "体育", 0.9, 0.1),
        Suspect("train", "c", "科技", "财经", 0.8, 0.0),
    ]
    assert [row.text for row in suspects("dev", list("abcde"), [1, 0, 2, 0, 2], PROBABILITIES, "xyz", least=0.5)] == [
        *"bacd"
    ]


def test_label_noise_is_safe_in_a_spreadsheet(tmp_path: Path) -> None:
    texts = ["=HYPERLINK(1)", "+1", "-1", "@a", "＝1", "\t=1", '他说:"好",\n走了', "a=b", "half \ud800"]
    rows = [Suspect("train", text, "财经", "-体育", 0.95, 0.00004) for text in texts]
    path = label_noise(tmp_path / "noise.csv", rows)
    assert path.read_bytes().startswith("\ufeffsplit,".encode())
    with path.open(encoding="utf-8-sig", newline="") as file:
        header, *body = csv.reader(file)
    assert header == ["split", "text", "label", "teacher_label", "teacher_probability", "label_probability"]
    assert [line[1] for line in body] == [*(f"'{text}" for text in texts[:6]), *texts[6:8], "half ?"]
    assert body[0][2:] == ["财经", "'-体育", "0.9500", "0.0000"]
