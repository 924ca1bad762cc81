"""The report: figures computed by hand, JSON rows, tables and plots."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from conftest import COUNTS

from distill.evaluation import metrics, timing
from distill.evaluation.timing import Workload
from distill.reporting import plots
from distill.reporting.report import write
from distill.reporting.results import EvaluationContext, Outcome
from distill.reporting.summary import Estimate, Report, lines, model_scores
from distill.reporting.tables import display_width, file_size, markdown_table, text_table, transposed

GOLD = np.array([0, 0, 1, 1, 1])


def outcome(name: str, predicted: list[int], seed: int = 1, ms: float = 1.0, **more: float) -> Outcome:
    history = [{"epoch": epoch, "dev_accuracy": 0.5, "dev_loss": 0.7} for epoch in (1, 2)]
    logits = np.eye(2, dtype=np.float32)[predicted]
    return Outcome(name, seed, logits, 1000, 4_000_000, {"cpu": ms, **more}, history)


TEACHER = outcome("teacher", [0, 0, 1, 1, 0], ms=8.0)
STUDENTS = [outcome("student", [0, 1, 1, 1, 1], 1, 0.5), outcome("student", [0, 1, 1, 0, 1], 2, 0.25)]
CONTEXT = EvaluationContext(
    texts=list("abcde"),
    gold=GOLD,
    first_of_text=np.array([True, True, True, True, False]),
    labels=("体育", "财经"),
    data=dict.fromkeys(COUNTS, 7),
    settings={"run": {}},
    timing="Time: …",
)
REPORT = Report("titles", CONTEXT, [TEACHER, *STUDENTS], versions={"python": "3"}, missing=["Not there: x"])


def test_dollar_signs_in_a_label_are_not_a_formula(tmp_path: Path) -> None:
    assert plots.draw_confusions([TEACHER], GOLD, ["$\\x$", "a$b_c^^$"], tmp_path / "confusion.png").is_file()


def test_of_very_many_labels_some_are_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[tuple[tuple[int, ...], list[str]]] = []
    monkeypatch.setattr(plots, "_draw_confusion", lambda _, counts, names: drawn.append((counts.shape, names)))
    monkeypatch.setattr(plots, "save", lambda figure, path: path)
    gold = np.arange(200)
    logits = np.eye(200, dtype=np.float32)
    logits[[3, 199]] = logits[[199, 3]]
    model = Outcome("student", 1, logits, 1, 1, {"cpu": 1.0})
    plots.draw_confusions([model], gold, [f"l{index}" for index in gold], tmp_path / "confusion.png")
    ((shape, names),) = drawn
    assert shape == (30, 30) and len(names) == 30 and {"l3", "l199"} <= set(names)


def test_the_callers_matplotlib_settings_stay_as_they_were(tmp_path: Path) -> None:
    from matplotlib import rc_context, rcParams

    with rc_context({"font.sans-serif": ["DejaVu Sans Mono"], "text.parse_math": True, "svg.fonttype": "path"}):
        before = dict(rcParams)
        write(REPORT, tmp_path)
        assert dict(rcParams) == before


def test_rows_by_hand() -> None:
    teacher, student = model_scores(CONTEXT, [TEACHER, *STUDENTS])
    assert teacher.main.mean == 0.8 and teacher.scores["accuracy_distinct"] == Estimate(1.0, None)
    assert teacher.retained == Estimate(1.0, None)
    assert teacher.scores["macro_f1"].mean == pytest.approx((0.8 + 0.8) / 2)
    assert student.scores["accuracy"] == student.main and student.main.mean == pytest.approx((0.8 + 0.6) / 2)
    assert student.main.sd == pytest.approx(np.std([0.8, 0.6], ddof=1))
    assert student.retained is not None and student.retained.mean == pytest.approx(0.7 / 0.8)
    assert student.ms_per_text.mean == 0.375
    assert student.speedup is not None and student.speedup.mean == pytest.approx((16 + 32) / 2)
    assert (student.parameters, student.bytes, student.seeds) == (1000, 4_000_000, 2)


def test_several_teachers_are_compared_with_by_their_mean() -> None:
    second = outcome("teacher", [0, 0, 0, 0, 0], 2, ms=4.0)
    teacher, student = (row.to_json() for row in model_scores(CONTEXT, [TEACHER, second, STUDENTS[0]]))
    assert teacher["accuracy"] == pytest.approx(0.6) and teacher["seeds"] == 2
    assert student["kept"] == pytest.approx(0.8 / 0.6) and student["speedup"] == pytest.approx(6 / 0.5)


def test_without_a_teacher_nothing_is_retained() -> None:
    rows = model_scores(CONTEXT, STUDENTS[:1])
    (row,) = (row.to_json() for row in rows)
    assert row["kept"] is None and row["speedup"] is None and "accuracy_sd" not in row
    assert lines(rows)[1][4] == "-"


def test_the_rows_in_report_json() -> None:
    teacher, student = (row.to_json() for row in model_scores(CONTEXT, [TEACHER, *STUDENTS]))
    figures = ["accuracy", "accuracy_distinct", "macro_f1"]
    assert list(teacher) == ["name", *figures, "parameters", "bytes", "ms_per_text", "kept", "speedup", "seeds"]
    with_sd = [part for key in figures for part in (key, f"{key}_sd")]
    timed = [part for key in ("ms_per_text", "kept", "speedup") for part in (key, f"{key}_sd")]
    assert list(student) == ["name", *with_sd, "parameters", "bytes", *timed, "seeds"]


def test_a_gpu_has_columns_of_its_own() -> None:
    timed = [outcome("teacher", [0] * 5, ms=8, gpu=1.0), outcome("student", [0] * 5, ms=2, gpu=0.1)]
    rows = model_scores(CONTEXT, timed)
    student = rows[1].to_json()
    assert student["ms_per_text_gpu"] == 0.1 and student["speedup_gpu"] == pytest.approx(10)
    assert "ms per text (GPU)" in lines(rows)[0]
    assert "ms per text (GPU)" not in lines(model_scores(CONTEXT, STUDENTS))[0]


def test_tables() -> None:
    table = lines(model_scores(CONTEXT, [TEACHER, *STUDENTS]))
    markdown = markdown_table(table)
    assert markdown.splitlines()[2].startswith("| teacher | 0.8000 | 1.0000 | 0.8000 | 100.0 % | 1,000 | 4 MB |")
    assert "0.7000 ±0.1414" in markdown
    assert all(display_width(line) <= 80 for line in text_table(transposed(table)))


@pytest.mark.parametrize(("size", "shown"), [(999, "999 B"), (999_400, "999 KB"), (999_600, "1 MB"), (12e9, "12 GB")])
def test_sizes_of_files_have_no_exponent(size: float, shown: str) -> None:
    assert file_size(size) == shown


def test_chinese_takes_two_columns() -> None:
    assert display_width("体育ab，") == 8


def test_write(tmp_path: Path) -> None:
    text, files = write(REPORT, tmp_path)
    assert [path.name for path in files] == ["report.json", "report.md", "report.html", "confusion.png", "curves.png"]
    assert text.count("precision    recall  f1-score   support") == 2 and "distilled student, seed 1" in text
    assert "Not there: x" in text and "0.8000" in text
    content = json.loads(files[0].read_text("utf-8"))
    assert content["data"]["leaks"] == 7 and len(content["rows"]) == 2 and content["linear_svc"] == {}


def test_labels_without_a_font_become_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    from matplotlib import font_manager

    monkeypatch.setattr(font_manager.fontManager, "ttflist", [])
    monkeypatch.setattr(font_manager, "findSystemFonts", list)
    assert plots.drawable(["体育", "财经"]) == ["0", "1"]
    assert plots.drawable(["car", "edu"]) == ["car", "edu"]


def test_metrics_by_hand() -> None:
    assert metrics.confusion([0, 1, 1], [0, 0, 1], 3).tolist() == [[1, 0, 0], [1, 1, 0], [0, 0, 0]]
    assert metrics.mean_and_sd([2.0]) == (2.0, 0.0)
    table = metrics.classification_table([0, 1, 1], [0, 0, 1], ["car", "edu", "never"])
    assert "0.6667" in table and "never" in table


def test_times_are_medians_in_milliseconds(monkeypatch: pytest.MonkeyPatch) -> None:
    timed: dict[str, Workload] = {}

    def rounds(tasks: dict[str, Workload]) -> dict[str, tuple[float, ...]]:
        timed.update(tasks)
        return {"quick": (0.75, 0.0, 0.25), "slow": (6.0, 1.0, 2.0)}

    monkeypatch.setattr(timing, "interleaved_rounds", rounds)
    assert timing.ms_per_text({"quick": len, "slow": list}, ["文"]) == {"quick": 250, "slow": 2000}
    assert timed == {"quick": Workload(len, ["文"], 3), "slow": Workload(list, ["文"], 3)}


def test_processor_has_a_name() -> None:
    assert timing.processor()
