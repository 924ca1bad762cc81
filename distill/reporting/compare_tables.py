"""The comparison's rows as Markdown and as text for a terminal."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from distill.reporting.tables import aligned, display_width, markdown_of

Row = dict[str, Any]
PICTURE = "Accuracy against speed: points of almost the same speed are drawn side by side."
NAME_WIDTH = 42  # of a terminal's columns; whole names stand in compare.md


def accuracy(row: Row) -> str:
    """Mean and, with several seeds, standard deviation."""
    return f"{row['accuracy']:.4f}" + (f" ±{row['accuracy_sd']:.4f}" if row["seeds"] > 1 else "")


def kept(row: Row) -> str:
    """Per cent of the teacher's accuracy."""
    return "-" if row["kept"] is None else f"{100 * row['kept']:.1f} %"


def gain(row: Row) -> str:
    """Points more than what it is compared with."""
    return "-" if row["gain"] is None else f"{100 * row['gain']:+.2f}"


def gain_and_interval(row: Row) -> str:
    """Points more, and between what and what they lie."""
    return gain(row) + (
        "" if row["gain"] is None else f" ({100 * row['gain_low']:+.2f} to {100 * row['gain_high']:+.2f})"
    )


def p_value(row: Row) -> str:
    """Three digits are enough; a p-value is never 0."""
    if row["p_value"] is None:
        return "-"
    return "<0.001" if row["p_value"] < 0.001 else f"{row['p_value']:.3f}"


def ece(row: Row) -> str:
    """Before and after temperature scaling."""
    figures = [row[key] for key in ("ece", "ece_calibrated") if row[key] is not None]
    return " → ".join(f"{figure:.3f}" for figure in figures) or "-"


# title, cell, what the column means
COLUMNS: tuple[tuple[str, Callable[[Row], str], str], ...] = (
    ("accuracy", accuracy, "share of test texts that are right: mean ± sample standard deviation over the seeds."),
    ("kept", kept, "accuracy as per cent of its teacher's (of the mean single teacher where several taught)."),
    (
        "gain (95 % interval)",
        gain_and_interval,
        "points of accuracy more than the row in the column against; the interval comes from drawing test texts anew, "
        "a text with all its seeds at once (2,000 draws). It holds for other texts, not for other seeds.",
    ),
    (
        "p",
        p_value,
        "exact two-sided McNemar test on the predictions of all seeds pooled. Seeds share their texts, which the test "
        "takes for independent, so p is too small: go by the interval. It is not corrected for the number of rows.",
    ),
    ("against", lambda row: row["against"] or "-", "what gain and p compare it with."),
    (
        "ECE",
        ece,
        "expected calibration error (15 bins): how far probabilities are from accuracy, before → after dividing the "
        "logits by a temperature found on dev; 0 is best.",
    ),
    ("training s", lambda row: f"{row['train_seconds']:,.0f}", "seconds that one seed trained, mean."),
    ("texts seen", lambda row: f"{row['train_texts']:,}", "texts that one seed was trained on."),
    (
        "ms per text",
        lambda row: f"{row['ms_per_text']:.3f}",
        "milliseconds from raw text to label, segmentation included.",
    ),
    ("parameters", lambda row: f"{row['parameters']:,}", "trained numbers in the model."),
    ("seeds", lambda row: str(row["seeds"]), "how many were trained."),
)


def markdown(rows: Sequence[Row], left_out: Sequence[Row], notes: Sequence[str]) -> str:
    """The whole comparison as Markdown."""
    meanings = "\n".join(f"- **{title}**: {meaning}" for title, _, meaning in COLUMNS)
    parts = ["# Comparison", markdown_of(cells(rows)), meanings]
    parts += ["## A class left out", markdown_of(left_out_cells(left_out))] if left_out else []
    parts += ["![accuracy and speed](compare.png)", PICTURE, *notes]
    return "\n\n".join(parts) + "\n"


def cells(rows: Sequence[Row]) -> list[list[str]]:
    """Header and rows with every column; the numbers of the rows are those of the plot."""
    header = ["", "#", *(title for title, _, _ in COLUMNS)]
    return [header, *([row["name"], str(n), *(cell(row) for _, cell, _ in COLUMNS)] for n, row in enumerate(rows, 1))]


def terminal(rows: Sequence[Row], left_out: Sequence[Row], notes: Sequence[str]) -> str:
    """The comparison for a terminal: the few columns that fit 100 characters."""
    header, *body = short(rows)
    parts = ["\n".join(aligned([header, *([_cut(name), *cells] for name, *cells in body)]))]
    parts += ["A class left out\n" + "\n".join(aligned(left_out_cells(left_out)))] if left_out else []
    return "\n\n".join([*parts, "\n".join(notes)])


def short(rows: Sequence[Row]) -> list[list[str]]:
    """Header and the cells that matter most."""
    header = ["", "accuracy", "kept", "gain", "p", "ms/text"]
    return [header, *([row["name"], *_figures(row)] for row in rows)]


def _figures(row: Row) -> list[str]:
    return [accuracy(row), kept(row), gain(row), p_value(row), f"{row['ms_per_text']:.3f}"]


def left_out_cells(rows: Sequence[Row]) -> list[list[str]]:
    """Header and rows of any table: its columns are the keys in the order in which they come up."""
    keys = list(dict.fromkeys(key for row in rows for key in row))
    return [[key.replace("_", " ") for key in keys], *([_any(row.get(key)) for key in keys] for row in rows)]


def _any(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.4f}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def _cut(name: str) -> str:
    if display_width(name) <= NAME_WIDTH:
        return name
    while display_width(name) >= NAME_WIDTH:
        name = name[:-1]
    return f"{name}…"
