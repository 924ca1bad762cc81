"""The columns and lines of a comparison's tables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from distill.data.examples import ACCURACY, MACRO_F1, MICRO_F1, SUBSET_ACCURACY
from distill.reporting.comparison_record import (
    ComparisonRow,
    LeftOutClassRow,
    MultiLabelRow,
    measured_of,
)
from distill.reporting.results import MACRO_F1_MEANING, SUBSET_ACCURACY_MEANING
from distill.reporting.tables import MISSING, Column, decimals, lines_of, percent, thousands
from distill.translation import Text


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


def numbered_lines(rows: Sequence[ComparisonRow]) -> list[list[str]]:
    """Header and rows with every column; the numbers are those of the plot."""
    lines = lines_of(rows, (NAME, *columns(rows)))
    return [[name, str(number) if number else "#", *cells] for number, (name, *cells) in enumerate(lines)]


def short_lines(rows: Sequence[ComparisonRow]) -> list[list[str]]:
    """Header and rows with the most important columns."""
    measured = measured_of(rows)
    return lines_of(rows, SHORT_COLUMNS if measured == ACCURACY else _short_label_set_columns(measured))
