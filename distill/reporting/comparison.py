"""The comparison: objectives and students side by side, each over several seeds, as a table and as a page."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distill.evaluation import metrics
from distill.reporting import accuracy_speed_plot
from distill.reporting.accuracy_speed_plot import draw_points
from distill.reporting.html import drawn, sections, write_page
from distill.reporting.plots import new_figure
from distill.reporting.tables import aligned, data_sentence, display_width, markdown_of
from distill.storage.atomic import write_file, write_json

COMPARISON = "compare.json"


@dataclass(frozen=True)
class ModelResult:
    """One combination of objective, student and transfer set, trained with several seeds and asked on test.

    Args:
        name: as shown; no two results share one.
        objective: "logits", "soft", "labels" (the student alone) and so on; "floor"; "teacher".
        student: "bilstm", "average" and so on; "LinearSVC"; "teacher".
        transfer: what it learnt from: "train", "train + unlabelled".
        teachers: how many taught it.
        predicted: class numbers (seeds, texts).
        logits_calibration: expected calibration error on test, mean over the seeds, before and after temperature
            scaling (None where it is not scaled); None for a model without probabilities.
        train_seconds: of one seed, mean.
        train_texts: texts that one seed was trained on.
        ms_per_text: milliseconds from raw text to label.
        parameters: trained numbers in it.
        against: name of the result that its gain is measured from; "" for none.
        teacher: name of the result whose accuracy it may keep; "" for none.
    """

    name: str
    objective: str
    student: str
    transfer: str
    teachers: int
    predicted: NDArray[np.int64]
    logits_calibration: tuple[float, float | None] | None
    train_seconds: float
    train_texts: int
    ms_per_text: float
    parameters: int
    against: str = ""
    teacher: str = ""


@dataclass(frozen=True)
class Comparison:
    """Everything a comparison says.

    ``gold`` (texts,) are the test labels, ``first_of_text`` (texts,) marks one row of every distinct text;
    ``left_out`` holds rows of a table of its own (the experiment with a class that the students saw no label of).
    """

    gold: NDArray[np.int64]
    first_of_text: NDArray[np.bool_]
    labels: tuple[str, ...]
    results: Sequence[ModelResult]
    data: dict[str, int]
    settings: dict[str, Any]
    timing: str
    left_out: Sequence[Mapping[str, Any]] = field(default=())

    def __post_init__(self) -> None:
        names = [result.name for result in self.results]
        if len(set(names)) < len(names):
            raise ValueError(f"two results have one name: {sorted(names)}")
        for result in self.results:
            if unknown := {result.against, result.teacher} - {"", *names}:
                raise ValueError(f"{result.name!r} is compared with {unknown}, which is not there: {names}")
            if result.predicted.ndim != 2 or result.predicted.shape[1] != len(self.gold):
                raise ValueError(f"{result.name!r}: want (seeds, {len(self.gold)}), not {result.predicted.shape}")


def rows_of(comparison: Comparison) -> list[dict[str, Any]]:
    """One row a result in the order given; what cannot be said of it is None.

    Accuracies, ``kept`` and the gains are shares, not per cent. ``accuracy_sd`` is the sample standard deviation over
    the seeds, 0 for one.
    """
    known = {result.name: result for result in comparison.results}
    return [_row(result, known, comparison) for result in comparison.results]


def _row(result: ModelResult, known: Mapping[str, ModelResult], comparison: Comparison) -> dict[str, Any]:
    before, after = result.logits_calibration or (None, None)
    return {
        "name": result.name,
        "objective": result.objective,
        "student": result.student,
        "transfer": result.transfer,
        "teachers": result.teachers,
        "seeds": len(result.predicted),
        **_scores(result, comparison),
        "kept": _kept(result, known.get(result.teacher), comparison.gold),
        **_gain(result, known.get(result.against), comparison.gold),
        "against": result.against,
        "ece": before,
        "ece_calibrated": after,
        "train_seconds": result.train_seconds,
        "train_texts": result.train_texts,
        "ms_per_text": result.ms_per_text,
        "parameters": result.parameters,
    }


def _scores(result: ModelResult, comparison: Comparison) -> dict[str, float]:
    classes = len(comparison.labels)
    each = [metrics.scores(comparison.gold, one, comparison.first_of_text, classes) for one in result.predicted]
    accuracy, sd = metrics.mean_and_sd([figures["accuracy"] for figures in each])
    others = {key: float(np.mean([figures[key] for figures in each])) for key in ("accuracy_distinct", "macro_f1")}
    return {"accuracy": accuracy, "accuracy_sd": sd, **others}


def _kept(result: ModelResult, teacher: ModelResult | None, gold: NDArray[np.int64]) -> float | None:
    """Its mean accuracy as a share of its teacher's."""
    reached = float((teacher.predicted == gold).mean()) if teacher else 0.0
    return float((result.predicted == gold).mean()) / reached if reached else None


def _gain(result: ModelResult, against: ModelResult | None, gold: NDArray[np.int64]) -> dict[str, float | None]:
    """How much more often it is right than ``against``, with interval and p-value."""
    if against is None:
        return dict.fromkeys(("gain", "gain_low", "gain_high", "p_value"))
    right, other = result.predicted == gold, against.predicted == gold
    low, high = metrics.bootstrap_interval(right, other)
    gain = float(right.mean() - other.mean())
    return {"gain": gain, "gain_low": low, "gain_high": high, "p_value": metrics.mcnemar(right, other)}


def write(comparison: Comparison, folder: Path) -> tuple[str, list[Path]]:
    """Write compare.json, .md, .html and .png; returns the comparison for a terminal and the files."""
    rows, left_out = rows_of(comparison), [dict(row) for row in comparison.left_out]
    content = {
        "rows": rows,
        "left_out": left_out,
        "data": comparison.data,
        "settings": comparison.settings,
        "timing": comparison.timing,
    }
    notes = [data_sentence(comparison.data), comparison.timing]
    files = [
        write_json(folder / COMPARISON, content),
        write_file(folder / "compare.md", markdown(rows, left_out, notes)),
        _write_html(content, folder / "compare.html"),
        accuracy_speed_plot.draw_comparison(rows, folder / "compare.png"),
    ]
    return terminal(rows, left_out, notes), files


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


def _write_html(content: Mapping[str, Any], path: Path) -> Path:
    """``content`` (what compare.json holds) as a page of its own."""
    shown = {"title": "Comparison", "comparison": shown_of(content), "settings": sections(content["settings"])}
    return write_page(path, "compare.html.jinja", shown)


def shown_of(content: Mapping[str, Any]) -> dict[str, Any]:
    """What the template says of a comparison."""
    rows = content["rows"]
    figure, (axes,) = new_figure(1, 6.0, max(4.0, 0.16 * len(rows) + 2.0))
    draw_points(axes, rows)
    return {
        "lines": cells(rows),
        "meanings": {title: meaning for title, _, meaning in COLUMNS},
        "figure": drawn(figure, PICTURE),
        "left_out": left_out_cells(content["left_out"]),
        "notes": [data_sentence(content["data"]), content["timing"]],
    }
