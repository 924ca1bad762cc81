"""The comparison: objectives and students over several seeds, as table, JSON, Markdown and page."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distill.evaluation import metrics
from distill.reporting import accuracy_speed_plot
from distill.reporting.accuracy_speed_plot import MARKERS, PALETTE, ComparedPoint, cycled
from distill.reporting.html import Drawing, settings_sections, write_page
from distill.reporting.plots import new_figure
from distill.reporting.results import EvaluationContext, data_sentence, from_json, to_json
from distill.reporting.tables import (
    MISSING,
    Column,
    decimals,
    lines_of,
    markdown_list,
    markdown_table,
    meanings,
    percent,
    text_table,
    thousands,
    truncated,
)
from distill.reporting.translation import Text
from distill.storage.atomic import write_file, write_json

COMPARISON = "compare.json"
TEACHER, LINEAR = "teacher", "floor"  # as objectives in compare.json: these rows are not students
CASCADE = "cascade"  # the objective of a student together with its teacher


@dataclass(frozen=True)
class ModelResult:
    """One combination of objective, student and transfer set, trained with several seeds and evaluated on test.

    Args:
        name: as shown; no two results share one.
        objective: "logits", "soft", "labels" (the student alone) and so on; ``LINEAR``; ``TEACHER``.
        student: "bilstm", "average" and so on; "LinearSVC"; "teacher".
        transfer: what it was trained on: "train", "train + unlabelled".
        teachers: number of its teachers.
        predicted: class numbers (seeds, texts).
        calibration_error: expected calibration error on test, mean over the seeds, before and after temperature
            scaling (None where it is not scaled); None for a model without probabilities.
        train_seconds: of one seed, mean; None if another program trained the model.
        train_texts: number of texts that one seed was trained on.
        ms_per_text: milliseconds from raw text to label.
        parameters: number of trained parameters.
        against: name of the result that its gain is measured from; "" for none.
        teacher: name of the result whose accuracy it is compared with; "" for none.
    """

    name: str
    objective: str
    student: str
    transfer: str
    teachers: int
    predicted: NDArray[np.int64]
    calibration_error: tuple[float, float | None] | None
    train_seconds: float | None
    train_texts: int
    ms_per_text: float
    parameters: int
    against: str = ""
    teacher: str = ""


@dataclass(frozen=True)
class LeftOutClassRow:
    """A student trained without labelled texts of one class: recall of that class and accuracy on test, over seeds."""

    name: str
    recall: float
    recall_sd: float
    accuracy: float
    accuracy_sd: float


@dataclass(frozen=True)
class Comparison:
    """Everything that a comparison is computed from.

    ``left_out_class`` are the rows of the experiment with a class left out, a table of their own. ``remarks`` are
    sentences on rows.

    Raises:
        ValueError: two results share a name, one refers to a name that is missing, or shapes differ.
    """

    context: EvaluationContext
    results: Sequence[ModelResult]
    left_out_class: Sequence[LeftOutClassRow] = field(default=())
    remarks: Sequence[str] = field(default=())

    def __post_init__(self) -> None:
        names, texts = [result.name for result in self.results], len(self.context.gold)
        if len(set(names)) < len(names):
            raise ValueError(f"two results share a name: {sorted(names)}")
        for result in self.results:
            if unknown := {result.against, result.teacher} - {"", *names}:
                raise ValueError(f"{result.name!r} is compared with {unknown}, which is none of {names}")
            if result.predicted.ndim != 2 or result.predicted.shape[1] != texts:
                raise ValueError(f"{result.name!r}: want predictions (seeds, {texts}), not {result.predicted.shape}")


@dataclass(frozen=True, kw_only=True)
class ComparisonRow:
    """A row of the comparison, as in compare.json; None where a figure does not apply.

    Accuracies, ``retained`` (of the teacher's accuracy) and the gains are shares, not per cent. ``accuracy_sd`` is the
    sample standard deviation over the seeds, 0 for one seed.
    """

    name: str
    objective: str
    student: str
    transfer: str = ""
    teachers: int = 0
    seeds: int
    accuracy: float
    accuracy_sd: float
    accuracy_distinct: float | None = None
    macro_f1: float | None = None
    retained: float | None = field(default=None, metadata={"key": "kept"})
    gain: float | None = None
    gain_low: float | None = None
    gain_high: float | None = None
    p_value: float | None = None
    against: str = ""
    ece: float | None = None
    ece_calibrated: float | None = None
    train_seconds: float | None
    train_texts: int
    ms_per_text: float
    parameters: int


@dataclass(frozen=True)
class ComparisonRecord:
    """What compare.json holds."""

    rows: Sequence[ComparisonRow]
    left_out_class: Sequence[LeftOutClassRow]
    data: Mapping[str, int]
    settings: Mapping[str, Any]
    timing: str
    remarks: Sequence[str] = field(default=())

    def to_json(self) -> dict[str, Any]:
        """The contents of compare.json."""
        return {
            "rows": [to_json(row) for row in self.rows],
            "left_out": [to_json(row) for row in self.left_out_class],
            "data": self.data,
            "settings": self.settings,
            "timing": self.timing,
            "remarks": list(self.remarks),
        }

    @property
    def notes(self) -> list[str]:
        """The sentences below the tables."""
        return [*self.remarks, data_sentence(self.data), self.timing]


def read_record(path: Path) -> ComparisonRecord:
    """Read compare.json."""
    content = json.loads(path.read_text(encoding="utf-8"))
    return ComparisonRecord(
        rows=[from_json(ComparisonRow, row) for row in content["rows"]],
        left_out_class=[from_json(LeftOutClassRow, row) for row in content["left_out"]],
        data=content["data"],
        settings=content["settings"],
        timing=content["timing"],
        remarks=content.get("remarks", []),  # older files have none
    )


def record_of(comparison: Comparison) -> ComparisonRecord:
    """Compute all figures of a comparison."""
    context = comparison.context
    return ComparisonRecord(
        rows_of(comparison),
        comparison.left_out_class,
        context.data,
        context.settings,
        context.timing,
        list(comparison.remarks),
    )


def rows_of(comparison: Comparison) -> list[ComparisonRow]:
    """One row per result, in the order of the results."""
    by_name = {result.name: result for result in comparison.results}
    return [
        _row(result, comparison.context, by_name.get(result.teacher), by_name.get(result.against))
        for result in comparison.results
    ]


def _row(
    result: ModelResult, context: EvaluationContext, teacher: ModelResult | None, against: ModelResult | None
) -> ComparisonRow:
    scores = [
        metrics.scores(context.gold, predicted, context.first_of_text, len(context.labels))
        for predicted in result.predicted
    ]
    accuracy, accuracy_sd = metrics.mean_and_sd([score.accuracy for score in scores])
    ece, ece_calibrated = result.calibration_error or (None, None)
    row = ComparisonRow(
        name=result.name,
        objective=result.objective,
        student=result.student,
        transfer=result.transfer,
        teachers=result.teachers,
        seeds=len(result.predicted),
        accuracy=accuracy,
        accuracy_sd=accuracy_sd,
        accuracy_distinct=float(np.mean([score.accuracy_distinct for score in scores])),
        macro_f1=float(np.mean([score.macro_f1 for score in scores])),
        retained=_retained(result, teacher, context.gold),
        against=result.against,
        ece=ece,
        ece_calibrated=ece_calibrated,
        train_seconds=result.train_seconds,
        train_texts=result.train_texts,
        ms_per_text=result.ms_per_text,
        parameters=result.parameters,
    )
    return _with_gain(row, result, against, context.gold)


def _retained(result: ModelResult, teacher: ModelResult | None, gold: NDArray[np.int64]) -> float | None:
    """Its mean accuracy as a share of its teacher's."""
    reached = float((teacher.predicted == gold).mean()) if teacher else 0.0
    return float((result.predicted == gold).mean()) / reached if reached else None


def _with_gain(
    row: ComparisonRow, result: ModelResult, against: ModelResult | None, gold: NDArray[np.int64]
) -> ComparisonRow:
    """The row with its gain in accuracy over ``against``, with interval and p-value."""
    if against is None:
        return row
    right, other = result.predicted == gold, against.predicted == gold
    low, high = metrics.bootstrap_interval(right, other)
    gain = float(right.mean() - other.mean())
    return replace(row, gain=gain, gain_low=low, gain_high=high, p_value=metrics.mcnemar(right, other))


def write(comparison: Comparison, folder: Path) -> tuple[str, list[Path]]:
    """Write compare.json, .md, .html and .png; returns the comparison for a terminal and the files."""
    record = record_of(comparison)
    content = {
        "title": Text("Comparison"),
        "comparison": page_part(record),
        "settings": settings_sections(record.settings),
    }
    files = [
        write_json(folder / COMPARISON, record.to_json()),
        write_file(folder / "compare.md", markdown(record)),
        write_page(folder / "compare.html", "compare.html.jinja", content),
        accuracy_speed_plot.draw_comparison(points_of(record.rows), folder / "compare.png"),
    ]
    return terminal(record), files


PLOT_CAPTION = Text("Accuracy against speed: points of almost the same speed are drawn side by side.")
NAME_WIDTH = 42  # terminal columns; compare.md has the full names


def format_gain(gain: float) -> str:
    """A difference of accuracies in points."""
    return f"{100 * gain:+.2f}"


def gain_and_interval(row: ComparisonRow) -> str | None:
    """The gain with its 95 % interval."""
    if row.gain is None or row.gain_low is None or row.gain_high is None:
        return None
    return f"{format_gain(row.gain)} ({format_gain(row.gain_low)} to {format_gain(row.gain_high)})"


def format_p_value(p_value: float) -> str:
    """Three digits; a p-value is never 0."""
    return "<0.001" if p_value < 0.001 else f"{p_value:.3f}"


def calibration_errors(row: ComparisonRow) -> str:
    """ECE before and after temperature scaling."""
    return " → ".join(f"{error:.3f}" for error in (row.ece, row.ece_calibrated) if error is not None) or MISSING


NAME: Column[ComparisonRow] = Column("", lambda row: row.name)
ACCURACY: Column[ComparisonRow] = Column(
    "accuracy",
    lambda row: row.accuracy,
    decimals(4),
    lambda row: row.accuracy_sd if row.seeds > 1 else None,
    "share of test texts classified correctly: mean ± sample standard deviation over the seeds.",
)
RETAINED: Column[ComparisonRow] = Column(
    "kept",
    lambda row: row.retained,
    percent(1),
    meaning="accuracy in per cent of the teacher's; with several teachers, of the mean of their accuracies.",
)
P_VALUE: Column[ComparisonRow] = Column(
    "p",
    lambda row: row.p_value,
    format_p_value,
    meaning="p-value of an exact two-sided McNemar test on the pooled predictions of all seeds. The test treats the "
    "seeds as independent although they share their texts, so p is too small: rely on the interval. p is not corrected "
    "for the number of rows.",
)
COLUMNS: tuple[Column[ComparisonRow], ...] = (
    ACCURACY,
    RETAINED,
    Column(
        "gain (95 % interval)",
        gain_and_interval,
        meaning="difference in accuracy, in percentage points, from the row named under against. The interval comes "
        "from resampling the test texts, each with all its seeds (2,000 bootstrap samples). It holds for other texts, "
        "not for other seeds.",
    ),
    P_VALUE,
    Column("against", lambda row: row.against or None, meaning="the row that gain and p compare with."),
    Column(
        "ECE",
        calibration_errors,
        meaning="expected calibration error (15 bins), the mean difference between confidence and accuracy: before → "
        "after dividing the logits by a temperature chosen on dev. 0 is best.",
    ),
    Column(
        "training s",
        lambda row: row.train_seconds,
        thousands(),
        meaning="training time of one seed in seconds, mean.",
    ),
    Column(
        "texts seen", lambda row: row.train_texts, thousands(), meaning="number of texts that one seed was trained on."
    ),
    Column(
        "ms per text",
        lambda row: row.ms_per_text,
        decimals(3),
        meaning="milliseconds from raw text to label, segmentation included.",
    ),
    Column("parameters", lambda row: row.parameters, thousands(), meaning="number of trained parameters."),
    Column("seeds", lambda row: row.seeds, meaning="number of trained models."),
)
SHORT_COLUMNS: tuple[Column[ComparisonRow], ...] = (  # these fit 100 characters
    NAME,
    ACCURACY,
    RETAINED,
    Column("gain", lambda row: row.gain, format_gain),
    P_VALUE,
    Column("ms/text", lambda row: row.ms_per_text, decimals(3)),
)
LEFT_OUT_CLASS_COLUMNS: tuple[Column[LeftOutClassRow], ...] = (
    Column("name", lambda row: row.name),
    Column("recall", lambda row: row.recall, decimals(4)),
    Column("recall sd", lambda row: row.recall_sd, decimals(4)),
    Column("accuracy", lambda row: row.accuracy, decimals(4)),
    Column("accuracy sd", lambda row: row.accuracy_sd, decimals(4)),
)


def numbered_lines(rows: Sequence[ComparisonRow]) -> list[list[str]]:
    """Header and rows with every column; the numbers are those of the plot."""
    lines = lines_of(rows, (NAME, *COLUMNS))
    return [[name, str(number) if number else "#", *cells] for number, (name, *cells) in enumerate(lines)]


def short_lines(rows: Sequence[ComparisonRow]) -> list[list[str]]:
    """Header and rows with the most important columns."""
    return lines_of(rows, SHORT_COLUMNS)


def markdown(record: ComparisonRecord) -> str:
    """The whole comparison as Markdown."""
    parts = ["# Comparison", markdown_table(numbered_lines(record.rows)), markdown_list(meanings(COLUMNS))]
    if record.left_out_class:
        parts += ["## A class left out", markdown_table(lines_of(record.left_out_class, LEFT_OUT_CLASS_COLUMNS))]
    parts += ["![accuracy and speed](compare.png)", PLOT_CAPTION, *record.notes]
    return "\n\n".join(parts) + "\n"


def terminal(record: ComparisonRecord) -> str:
    """The comparison for a terminal, 100 columns wide."""
    short = [[truncated(name, NAME_WIDTH), *cells] for name, *cells in short_lines(record.rows)]
    parts = ["\n".join(text_table(short))]
    if record.left_out_class:
        lines = lines_of(record.left_out_class, LEFT_OUT_CLASS_COLUMNS)
        parts.append("\n".join(["A class left out", *text_table(lines)]))
    return "\n\n".join([*parts, "\n".join(record.notes)])


def page_part(record: ComparisonRecord) -> dict[str, Any]:
    """The values of the macro ``comparison`` in parts.html.jinja, for compare.html and report.html."""
    return {
        "lines": numbered_lines(record.rows),
        "meanings": meanings(COLUMNS),
        "figure": _page_figure(record.rows),
        "left_out_class": lines_of(record.left_out_class, LEFT_OUT_CLASS_COLUMNS),
        "notes": record.notes,
    }


def _page_figure(rows: Sequence[ComparisonRow]) -> Drawing:
    with new_figure(1, 6.0, max(4.0, 0.16 * len(rows) + 2.0)) as (figure, (axes,)):
        accuracy_speed_plot.draw_numbered(axes, points_of(rows))
        return Drawing.of(figure, PLOT_CAPTION)


def points_of(rows: Sequence[ComparisonRow]) -> list[ComparedPoint]:
    """The rows in the plot: a colour per student, a marker per objective, lines at the first teacher and baseline."""
    references = {
        TEACHER: (accuracy_speed_plot.GREY, accuracy_speed_plot.STAR, "--"),
        LINEAR: (accuracy_speed_plot.GREY, accuracy_speed_plot.CROSS, ":"),
    }
    student_rows = [row for row in rows if row.objective not in references]
    students = list(dict.fromkeys(row.student for row in student_rows))
    objectives = list(dict.fromkeys(row.objective for row in student_rows))
    with_line = {row.objective: row.name for row in reversed(rows)}

    def point(row: ComparisonRow) -> ComparedPoint:
        if row.objective in references:
            colour, marker, line = references[row.objective]
        else:
            colour = cycled(PALETTE, students.index(row.student))
            marker = cycled(MARKERS, objectives.index(row.objective))
            line = ""
        line = line if with_line[row.objective] == row.name else ""
        return ComparedPoint(row.name, 1000 / row.ms_per_text, row.accuracy, row.accuracy_sd, colour, marker, line)

    return [point(row) for row in rows]
