"""The comparison: objectives and students over several seeds, as table, JSON, Markdown and page."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distill.config import TargetMetric
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
MACRO_F1, SUBSET_ACCURACY = "macro-F1", "subset accuracy"
MEASURED: dict[TargetMetric, str] = {  # what models are compared by in multi-label data, by --target_metric
    "micro_f1": MICRO_F1,
    "macro_f1": MACRO_F1,
    "subset_accuracy": SUBSET_ACCURACY,
}


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
        teacher: name of the result whose accuracy or target metric it is compared with; "" for none.
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
    sample standard deviation over the seeds, 0 for one seed. ``level_scores`` are means and standard deviations on the
    levels above labels that are paths, by name.
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
    level_scores: Mapping[str, float | None] = field(
        default_factory=dict, metadata={"key": "levels", "is_optional": True}
    )

    @property
    def main_figure(self) -> str:
        """Name of the figure that models are compared by."""
        return "accuracy"

    @property
    def measured(self) -> str:
        """What it is called."""
        return ACCURACY

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
    """A row in multi-label data: ``retained`` and the gains are of ``target_metric``.

    Its accuracy is that of whole label sets.
    """

    accuracy: float = field(metadata={"key": "subset_accuracy"})
    accuracy_sd: float = field(metadata={"key": "subset_accuracy_sd"})
    micro_f1: float
    micro_f1_sd: float
    macro_f1_sd: float | None = None
    target_metric: TargetMetric = "micro_f1"

    @property
    def main_figure(self) -> str:
        """See ComparisonRow."""
        return "accuracy" if self.target_metric == "subset_accuracy" else self.target_metric

    @property
    def measured(self) -> str:
        """See ComparisonRow."""
        return MEASURED[self.target_metric]


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
        data = data_sentence(self.data, is_multi_label=self.measured != ACCURACY)
        return [*self.remarks, data, self.timing]


def measured_of(rows: Sequence[ComparisonRow]) -> str:
    """The figure that models are compared by."""
    return rows[0].measured if rows else ACCURACY


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

    macro_f1, macro_f1_sd = over_seeds("macro_f1")
    ece, ece_calibrated = result.calibration_error or (None, None)
    figures: dict[str, Any] = {
        "name": result.name,
        "objective": result.objective,
        "student": result.student,
        "transfer": result.transfer,
        "teachers": result.teachers,
        "seeds": len(result.predicted),
        "macro_f1": macro_f1,
        "retained": _retained(result, teacher, context),
        "against": result.against,
        "ece": ece,
        "ece_calibrated": ece_calibrated,
        "train_seconds": result.train_seconds,
        "train_texts": result.train_texts,
        "ms_per_text": result.ms_per_text,
        "parameters": result.parameters,
        "level_scores": _level_scores(result, context),
        **_gain(result, against, context),
    }
    if context.is_multi_label:
        (accuracy, accuracy_sd), (micro_f1, micro_f1_sd) = over_seeds("subset_accuracy"), over_seeds("micro_f1")
        return MultiLabelRow(
            **figures,
            accuracy=accuracy,
            accuracy_sd=accuracy_sd,
            micro_f1=micro_f1,
            micro_f1_sd=micro_f1_sd,
            macro_f1_sd=macro_f1_sd,
            target_metric=context.target_metric,
        )
    (accuracy, accuracy_sd), (distinct, _) = over_seeds("accuracy"), over_seeds("accuracy_distinct")
    return ComparisonRow(**figures, accuracy=accuracy, accuracy_sd=accuracy_sd, accuracy_distinct=distinct)


def _level_scores(result: ModelResult, context: EvaluationContext) -> dict[str, float | None]:
    """Means over the seeds and standard deviations on the levels above the labels; None where a seed has no score."""
    seeds, found = [context.level_scores(predicted) for predicted in result.predicted], dict[str, float | None]()
    for name in seeds[0]:
        known = [score for seed in seeds if (score := seed[name]) is not None]
        mean, sd = metrics.mean_and_sd(known) if len(known) == len(seeds) else (None, None)
        found |= {name: mean, f"{name}_sd": sd}
    return found


def _reached(result: ModelResult, context: EvaluationContext) -> float:
    """Its mean accuracy or target metric over the seeds."""
    if context.is_multi_label:
        scores = [context.scores(predicted) for predicted in result.predicted]
        return float(np.mean([getattr(score, context.target_metric) for score in scores]))
    return float((result.predicted == context.gold).mean())


def _retained(result: ModelResult, teacher: ModelResult | None, context: EvaluationContext) -> float | None:
    """What it reaches as a share of what its teacher does."""
    reached = _reached(teacher, context) if teacher else 0.0
    return _reached(result, context) / reached if reached else None


def _gain(result: ModelResult, against: ModelResult | None, context: EvaluationContext) -> dict[str, float]:
    """The fields of a row that hold its gain over ``against``, the gain's interval, and the p-value."""
    if against is None:
        return {}
    right, other = result.predicted == context.gold, against.predicted == context.gold
    if context.is_multi_label:
        right, other = right.all(axis=2), other.all(axis=2)
        low, high = multi_label.bootstrap_interval(
            context.gold, result.predicted, against.predicted, context.target_metric
        )
    else:
        low, high = metrics.bootstrap_interval(right, other)
    return {
        "gain": _reached(result, context) - _reached(against, context),
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


NAME_WIDTH, NARROW_NAME_WIDTH = 42, 33  # terminal columns, the latter in multi-label data; compare.md has full names


def format_gain(gain: float) -> str:
    """A difference of accuracies or F1 in points."""
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

# In multi-label data gain and interval are of the target metric, and the test is on subset accuracy.
LABEL_SET_SCORES: dict[str, Column[ComparisonRow]] = {
    MICRO_F1: Column(
        MICRO_F1,
        lambda row: row.micro_f1 if isinstance(row, MultiLabelRow) else None,
        decimals(4),
        meaning="F1 of all decisions on a test text and a label taken together.",
    ),
    MACRO_F1: Column(MACRO_F1, lambda row: row.macro_f1, decimals(4), meaning=MACRO_F1_MEANING),
    SUBSET_ACCURACY: Column(SUBSET_ACCURACY, lambda row: row.accuracy, decimals(4), meaning=SUBSET_ACCURACY_MEANING),
}
SUBSET_P_VALUE = replace(P_VALUE, title="p (subset)")
LABEL_SET_CALIBRATION = replace(
    CALIBRATION,
    meaning="expected calibration error (15 bins) over all texts and labels: the mean difference between the "
    "probability of a label and the share of the texts that have it. The students were calibrated on dev, each "
    "label by a temperature of its own. 0 is best.",
)


def _main_column(measured: str) -> Column[ComparisonRow]:
    """The column of the score that models are compared by in multi-label data."""
    column = LABEL_SET_SCORES[measured]
    meaning = Text(
        "{meaning} Mean ± sample standard deviation over the seeds; the target metric.", meaning=Text(column.meaning)
    )
    return replace(column, spread=lambda row: row.main_sd if row.seeds > 1 else None, meaning=meaning)


def multi_label_columns(measured: str) -> tuple[Column[ComparisonRow], ...]:
    """The columns of the full table in multi-label data."""
    score = Text(measured)
    retained = Text(
        "{measured} in per cent of the teacher's; with several teachers, of the mean of theirs.", measured=score
    )
    gain = Text(
        "difference in {measured}, in percentage points, from the row named under against. The interval comes from "
        "resampling the test texts, each with all its labels and seeds (2,000 bootstrap samples). It holds for other "
        "texts, not for other seeds.",
        measured=score,
    )
    p_value = Text(
        "p-value of an exact two-sided McNemar test on subset accuracy: a text counts as right if all its labels are. "
        "The predictions of all seeds are pooled as if they were independent although they share their texts, so p is "
        "too small: rely on the interval. p is not corrected for the number of rows."
        if measured == SUBSET_ACCURACY
        else "p-value of an exact two-sided McNemar test on subset accuracy, not on {measured}: a text counts as right "
        "if all its labels are. The predictions of all seeds are pooled as if they were independent although they "
        "share their texts, so p is too small: rely on the interval. p is not corrected for the number of rows.",
        measured=score,
    )
    return (
        _main_column(measured),
        replace(RETAINED, meaning=retained),
        replace(GAIN, meaning=gain),
        *(column for name, column in LABEL_SET_SCORES.items() if name != measured),
        replace(SUBSET_P_VALUE, meaning=p_value),
        AGAINST,
        LABEL_SET_CALIBRATION,
        *COSTS,
    )


def _short_label_set_columns(measured: str) -> tuple[Column[ComparisonRow], ...]:
    second = LABEL_SET_SCORES[MICRO_F1]
    if measured != SUBSET_ACCURACY:
        second = replace(LABEL_SET_SCORES[SUBSET_ACCURACY], title="subset acc.")
    return NAME, _main_column(measured), RETAINED, SHORT_GAIN, second, SUBSET_P_VALUE, SHORT_TIME


LEFT_OUT_CLASS_COLUMNS: tuple[Column[LeftOutClassRow], ...] = (
    Column("name", lambda row: row.name),
    Column("recall", lambda row: row.recall, decimals(4)),
    Column("recall sd", lambda row: row.recall_sd, decimals(4)),
    Column("accuracy", lambda row: row.accuracy, decimals(4)),
    Column("accuracy sd", lambda row: row.accuracy_sd, decimals(4)),
)


def columns(rows: Sequence[ComparisonRow]) -> tuple[Column[ComparisonRow], ...]:
    """The columns of the full table."""
    measured = measured_of(rows)
    first, *others = COLUMNS if measured == ACCURACY else multi_label_columns(measured)
    return first, *_level_columns(rows), *others


def _level_columns(rows: Sequence[ComparisonRow]) -> list[Column[ComparisonRow]]:
    """The columns of the accuracy or micro-F1 on the levels above labels that are paths."""
    found = []
    for name in rows[0].level_scores if rows else ():
        score, is_of_level, number = name.partition("_level_")
        if is_of_level and score != "macro_f1" and not name.endswith("_sd"):
            title = "accuracy, level {number}" if score == "accuracy" else "micro-F1, level {number}"
            found.append(_level_column(Text(title, number=int(number)), name))
    return found


def _level_column(title: str, name: str) -> Column[ComparisonRow]:
    return Column(
        title,
        lambda row: row.level_scores.get(name),
        decimals(4),
        lambda row: row.level_scores.get(f"{name}_sd") if row.seeds > 1 else None,
    )


def plot_caption(measured: str) -> Text:
    """The sentence below the plot."""
    return {
        ACCURACY: Text("Accuracy against speed: points of almost the same speed are drawn side by side."),
        MICRO_F1: Text("Micro-F1 against speed: points of almost the same speed are drawn side by side."),
        MACRO_F1: Text("Macro-F1 against speed: points of almost the same speed are drawn side by side."),
        SUBSET_ACCURACY: Text("Subset accuracy against speed: points of almost the same speed are drawn side by side."),
    }[measured]


def numbered_lines(rows: Sequence[ComparisonRow]) -> list[list[str]]:
    """Header and rows with every column; the numbers are those of the plot."""
    lines = lines_of(rows, (NAME, *columns(rows)))
    return [[name, str(number) if number else "#", *cells] for number, (name, *cells) in enumerate(lines)]


def short_lines(rows: Sequence[ComparisonRow]) -> list[list[str]]:
    """Header and rows with the most important columns."""
    measured = measured_of(rows)
    return lines_of(rows, SHORT_COLUMNS if measured == ACCURACY else _short_label_set_columns(measured))


def markdown(record: ComparisonRecord) -> str:
    """The whole comparison as Markdown."""
    table, explained = numbered_lines(record.rows), meanings(columns(record.rows))
    parts = ["# Comparison", markdown_table(table), markdown_list(explained)]
    if record.left_out_class:
        parts += ["## A class left out", markdown_table(lines_of(record.left_out_class, LEFT_OUT_CLASS_COLUMNS))]
    parts += [f"![{record.measured} and speed](compare.png)", plot_caption(record.measured), *record.notes]
    return "\n\n".join(parts) + "\n"


def terminal(record: ComparisonRecord) -> str:
    """The comparison for a terminal, 100 columns wide."""
    width = NAME_WIDTH if record.measured == ACCURACY else NARROW_NAME_WIDTH
    short = [[truncated(name, width), *cells] for name, *cells in short_lines(record.rows)]
    parts = ["\n".join(text_table(short))]
    if record.left_out_class:
        lines = lines_of(record.left_out_class, LEFT_OUT_CLASS_COLUMNS)
        parts.append("\n".join(["A class left out", *text_table(lines)]))
    return "\n\n".join([*parts, "\n".join(record.notes)])


def page_part(record: ComparisonRecord) -> dict[str, Any]:
    """The values of the macro ``comparison`` in parts.html.jinja, for compare.html and report.html."""
    return {
        "lines": numbered_lines(record.rows),
        "meanings": meanings(columns(record.rows)),
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
