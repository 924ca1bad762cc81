"""The comparison: objectives and students over several seeds, as table, JSON, Markdown and page."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from distill.data.examples import ACCURACY, MICRO_F1
from distill.evaluation import metrics, multi_label
from distill.reporting import accuracy_speed_plot
from distill.reporting.accuracy_speed_plot import MARKERS, PALETTE, ComparedPoint, cycled
from distill.reporting.html import Drawing, settings_sections, write_page
from distill.reporting.plots import new_figure
from distill.reporting.results import (
    MACRO_F1_MEANING,
    SUBSET_ACCURACY_MEANING,
    EvaluationContext,
    data_sentence,
    from_json,
    to_json,
)
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
        predicted: class numbers (seeds, texts); in multi-label data, which classes each text gets (seeds, texts,
            classes).
        calibration_error: expected calibration error on test, mean over the seeds, before and after temperature
            scaling (None where it is not scaled); None for a model without probabilities.
        train_seconds: of one seed, mean; None if another program trained the model.
        train_texts: number of texts that one seed was trained on.
        ms_per_text: milliseconds from raw text to label.
        parameters: number of trained parameters.
        against: name of the result that its gain is measured from; "" for none.
        teacher: name of the result whose accuracy or micro-F1 it is compared with; "" for none.
    """

    name: str
    objective: str
    student: str
    transfer: str
    teachers: int
    predicted: NDArray[Any]
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
        names, shape = [result.name for result in self.results], self.context.gold.shape
        if len(set(names)) < len(names):
            raise ValueError(f"two results share a name: {sorted(names)}")
        for result in self.results:
            if unknown := {result.against, result.teacher} - {"", *names}:
                raise ValueError(f"{result.name!r} is compared with {unknown}, which is none of {names}")
            if result.predicted.shape[1:] != shape:
                wanted = ", ".join(map(str, shape))
                raise ValueError(f"{result.name!r}: want predictions (seeds, {wanted}), not {result.predicted.shape}")


@dataclass(frozen=True, kw_only=True)
class ComparisonRow:
    """A row of the comparison, as in compare.json; None where a figure does not apply.

    Accuracies, ``retained`` (of the teacher's accuracy) and the gains are shares, not per cent. ``accuracy_sd`` is the
    sample standard deviation over the seeds, 0 for one seed. ``main_figure`` names the one that models are compared by.
    """

    main_figure: ClassVar[str] = "accuracy"

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

    @property
    def main(self) -> float:
        """The main figure, mean over the seeds."""
        return float(getattr(self, self.main_figure))

    @property
    def main_sd(self) -> float:
        """Its sample standard deviation over the seeds."""
        return float(getattr(self, f"{self.main_figure}_sd"))


@dataclass(frozen=True, kw_only=True)
class MultiLabelRow(ComparisonRow):
    """A row in multi-label data: ``retained`` and the gains are of micro-F1; accuracy is that of whole label sets."""

    main_figure: ClassVar[str] = "micro_f1"

    accuracy: float = field(metadata={"key": "subset_accuracy"})
    accuracy_sd: float = field(metadata={"key": "subset_accuracy_sd"})
    micro_f1: float
    micro_f1_sd: float


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
    def measured(self) -> str:
        """The figure that models are compared by."""
        return measured_of(self.rows)

    @property
    def notes(self) -> list[str]:
        """The sentences below the tables."""
        data = data_sentence(self.data, is_multi_label=self.measured == MICRO_F1)
        return [*self.remarks, data, self.timing]


def measured_of(rows: Sequence[ComparisonRow]) -> str:
    """The figure that models are compared by."""
    return MICRO_F1 if any(isinstance(row, MultiLabelRow) for row in rows) else ACCURACY


def read_record(path: Path) -> ComparisonRecord:
    """Read compare.json."""
    content = json.loads(path.read_text(encoding="utf-8"))
    return ComparisonRecord(
        rows=[from_json(MultiLabelRow if "micro_f1" in row else ComparisonRow, row) for row in content["rows"]],
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
    scores = [context.scores(predicted) for predicted in result.predicted]

    def over_seeds(name: str) -> tuple[float, float]:
        return metrics.mean_and_sd([getattr(score, name) for score in scores])

    ece, ece_calibrated = result.calibration_error or (None, None)
    figures: dict[str, Any] = {
        "name": result.name,
        "objective": result.objective,
        "student": result.student,
        "transfer": result.transfer,
        "teachers": result.teachers,
        "seeds": len(result.predicted),
        "macro_f1": over_seeds("macro_f1")[0],
        "retained": _retained(result, teacher, context.gold),
        "against": result.against,
        "ece": ece,
        "ece_calibrated": ece_calibrated,
        "train_seconds": result.train_seconds,
        "train_texts": result.train_texts,
        "ms_per_text": result.ms_per_text,
        "parameters": result.parameters,
        **_gain(result, against, context.gold),
    }
    if context.is_multi_label:
        (accuracy, accuracy_sd), (micro_f1, micro_f1_sd) = over_seeds("subset_accuracy"), over_seeds("micro_f1")
        return MultiLabelRow(
            **figures, accuracy=accuracy, accuracy_sd=accuracy_sd, micro_f1=micro_f1, micro_f1_sd=micro_f1_sd
        )
    (accuracy, accuracy_sd), (distinct, _) = over_seeds("accuracy"), over_seeds("accuracy_distinct")
    return ComparisonRow(**figures, accuracy=accuracy, accuracy_sd=accuracy_sd, accuracy_distinct=distinct)


def _reached(result: ModelResult, gold: NDArray[Any]) -> float:
    """Its mean accuracy or micro-F1 over the seeds."""
    if gold.ndim == 2:
        return float(np.mean([multi_label.micro_f1(gold, predicted) for predicted in result.predicted]))
    return float((result.predicted == gold).mean())


def _retained(result: ModelResult, teacher: ModelResult | None, gold: NDArray[Any]) -> float | None:
    """What it reaches as a share of what its teacher does."""
    reached = _reached(teacher, gold) if teacher else 0.0
    return _reached(result, gold) / reached if reached else None


def _gain(result: ModelResult, against: ModelResult | None, gold: NDArray[Any]) -> dict[str, float]:
    """The fields of a row that hold its gain over ``against``, the gain's interval, and the p-value."""
    if against is None:
        return {}
    right, other = result.predicted == gold, against.predicted == gold
    if gold.ndim == 2:
        right, other = right.all(axis=2), other.all(axis=2)
        low, high = multi_label.bootstrap_interval(gold, result.predicted, against.predicted)
    else:
        low, high = metrics.bootstrap_interval(right, other)
    return {
        "gain": _reached(result, gold) - _reached(against, gold),
        "gain_low": low,
        "gain_high": high,
        "p_value": metrics.mcnemar(right, other),
    }


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
        accuracy_speed_plot.draw_comparison(points_of(record.rows), folder / "compare.png", record.measured),
    ]
    return terminal(record), files


NAME_WIDTH = {ACCURACY: 42, MICRO_F1: 33}  # terminal columns; compare.md has the full names


def format_gain(gain: float) -> str:
    """A difference of accuracies or of micro-F1 in points."""
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
ACCURACY_COLUMN: Column[ComparisonRow] = Column(
    ACCURACY,
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
GAIN: Column[ComparisonRow] = Column(
    "gain (95 % interval)",
    gain_and_interval,
    meaning="difference in accuracy, in percentage points, from the row named under against. The interval comes "
    "from resampling the test texts, each with all its seeds (2,000 bootstrap samples). It holds for other texts, "
    "not for other seeds.",
)
P_VALUE: Column[ComparisonRow] = Column(
    "p",
    lambda row: row.p_value,
    format_p_value,
    meaning="p-value of an exact two-sided McNemar test on the pooled predictions of all seeds. The test treats the "
    "seeds as independent although they share their texts, so p is too small: rely on the interval. p is not corrected "
    "for the number of rows.",
)
AGAINST: Column[ComparisonRow] = Column(
    "against", lambda row: row.against or None, meaning="the row that gain and p compare with."
)
CALIBRATION: Column[ComparisonRow] = Column(
    "ECE",
    calibration_errors,
    meaning="expected calibration error (15 bins), the mean difference between confidence and accuracy: before → "
    "after dividing the logits by a temperature chosen on dev. 0 is best.",
)
COSTS: tuple[Column[ComparisonRow], ...] = (
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
COLUMNS: tuple[Column[ComparisonRow], ...] = (ACCURACY_COLUMN, RETAINED, GAIN, P_VALUE, AGAINST, CALIBRATION, *COSTS)
SHORT_GAIN: Column[ComparisonRow] = Column("gain", lambda row: row.gain, format_gain)
SHORT_TIME: Column[ComparisonRow] = Column("ms/text", lambda row: row.ms_per_text, decimals(3))
SHORT_COLUMNS: tuple[Column[ComparisonRow], ...] = (  # these fit 100 characters
    NAME,
    ACCURACY_COLUMN,
    RETAINED,
    SHORT_GAIN,
    P_VALUE,
    SHORT_TIME,
)

# In multi-label data gain and interval are of micro-F1, and the test is on subset accuracy.
MICRO_F1_COLUMN: Column[ComparisonRow] = Column(
    MICRO_F1,
    lambda row: row.main,
    decimals(4),
    lambda row: row.main_sd if row.seeds > 1 else None,
    "F1 of all decisions on a test text and a label taken together: mean ± sample standard deviation over the seeds.",
)
MULTI_LABEL_RETAINED = replace(
    RETAINED, meaning="micro-F1 in per cent of the teacher's; with several teachers, of the mean of theirs."
)
SUBSET_ACCURACY: Column[ComparisonRow] = Column(
    "subset accuracy", lambda row: row.accuracy, decimals(4), meaning=SUBSET_ACCURACY_MEANING
)
SUBSET_P_VALUE = replace(
    P_VALUE,
    title="p (subset)",
    meaning="p-value of an exact two-sided McNemar test on subset accuracy, not on micro-F1: a text counts as right if "
    "all its labels are. The predictions of all seeds are pooled as if they were independent although they share their "
    "texts, so p is too small: rely on the interval. p is not corrected for the number of rows.",
)
MULTI_LABEL_COLUMNS: tuple[Column[ComparisonRow], ...] = (
    MICRO_F1_COLUMN,
    MULTI_LABEL_RETAINED,
    replace(
        GAIN,
        meaning="difference in micro-F1, in percentage points, from the row named under against. The interval comes "
        "from resampling the test texts, each with all its labels and seeds (2,000 bootstrap samples). It holds for "
        "other texts, not for other seeds.",
    ),
    Column("macro-F1", lambda row: row.macro_f1, decimals(4), meaning=MACRO_F1_MEANING),
    SUBSET_ACCURACY,
    SUBSET_P_VALUE,
    AGAINST,
    replace(
        CALIBRATION,
        meaning="expected calibration error (15 bins) over all texts and labels: the mean difference between the "
        "probability of a label and the share of the texts that have it. The students were calibrated on dev, each "
        "label by a temperature of its own. 0 is best.",
    ),
    *COSTS,
)
SHORT_MULTI_LABEL_COLUMNS: tuple[Column[ComparisonRow], ...] = (
    NAME,
    MICRO_F1_COLUMN,
    MULTI_LABEL_RETAINED,
    SHORT_GAIN,
    replace(SUBSET_ACCURACY, title="subset acc."),
    SUBSET_P_VALUE,
    SHORT_TIME,
)
LEFT_OUT_CLASS_COLUMNS: tuple[Column[LeftOutClassRow], ...] = (
    Column("name", lambda row: row.name),
    Column("recall", lambda row: row.recall, decimals(4)),
    Column("recall sd", lambda row: row.recall_sd, decimals(4)),
    Column("accuracy", lambda row: row.accuracy, decimals(4)),
    Column("accuracy sd", lambda row: row.accuracy_sd, decimals(4)),
)


def columns(measured: str) -> tuple[Column[ComparisonRow], ...]:
    """The columns of the full table; ``measured`` is the figure that models are compared by."""
    return MULTI_LABEL_COLUMNS if measured == MICRO_F1 else COLUMNS


def plot_caption(measured: str) -> Text:
    """The sentence below the plot."""
    return Text(
        "Micro-F1 against speed: points of almost the same speed are drawn side by side."
        if measured == MICRO_F1
        else "Accuracy against speed: points of almost the same speed are drawn side by side."
    )


def numbered_lines(rows: Sequence[ComparisonRow]) -> list[list[str]]:
    """Header and rows with every column; the numbers are those of the plot."""
    lines = lines_of(rows, (NAME, *columns(measured_of(rows))))
    return [[name, str(number) if number else "#", *cells] for number, (name, *cells) in enumerate(lines)]


def short_lines(rows: Sequence[ComparisonRow]) -> list[list[str]]:
    """Header and rows with the most important columns."""
    return lines_of(rows, SHORT_MULTI_LABEL_COLUMNS if measured_of(rows) == MICRO_F1 else SHORT_COLUMNS)


def markdown(record: ComparisonRecord) -> str:
    """The whole comparison as Markdown."""
    table, explained = numbered_lines(record.rows), meanings(columns(record.measured))
    parts = ["# Comparison", markdown_table(table), markdown_list(explained)]
    if record.left_out_class:
        parts += ["## A class left out", markdown_table(lines_of(record.left_out_class, LEFT_OUT_CLASS_COLUMNS))]
    parts += [f"![{record.measured} and speed](compare.png)", plot_caption(record.measured), *record.notes]
    return "\n\n".join(parts) + "\n"


def terminal(record: ComparisonRecord) -> str:
    """The comparison for a terminal, 100 columns wide."""
    short = [[truncated(name, NAME_WIDTH[record.measured]), *cells] for name, *cells in short_lines(record.rows)]
    parts = ["\n".join(text_table(short))]
    if record.left_out_class:
        lines = lines_of(record.left_out_class, LEFT_OUT_CLASS_COLUMNS)
        parts.append("\n".join(["A class left out", *text_table(lines)]))
    return "\n\n".join([*parts, "\n".join(record.notes)])


def page_part(record: ComparisonRecord) -> dict[str, Any]:
    """The values of the macro ``comparison`` in parts.html.jinja, for compare.html and report.html."""
    return {
        "lines": numbered_lines(record.rows),
        "meanings": meanings(columns(record.measured)),
        "figure": _page_figure(record.rows),
        "left_out_class": lines_of(record.left_out_class, LEFT_OUT_CLASS_COLUMNS),
        "notes": record.notes,
    }


def _page_figure(rows: Sequence[ComparisonRow]) -> Drawing:
    with new_figure(1, 6.0, max(4.0, 0.16 * len(rows) + 2.0)) as (figure, (axes,)):
        accuracy_speed_plot.draw_numbered(axes, points_of(rows), measured_of(rows))
        return Drawing.of(figure, plot_caption(measured_of(rows)))


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
        return ComparedPoint(row.name, 1000 / row.ms_per_text, row.main, row.main_sd, colour, marker, line)

    return [point(row) for row in rows]
