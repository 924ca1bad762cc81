"""The report's tables as text for a terminal and as Markdown."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distill.evaluation.metrics import classification_table
from distill.reporting.results import Outcome

TITLES = {"teacher": "teacher", "student_alone": "student alone", "student": "distilled student"}


def _digits(places: int) -> Callable[[float], str]:
    return lambda value: f"{value:.{places}f}"


def size(value: float) -> str:
    """Bytes with three digits that count."""
    for unit in ("B", "KB", "MB"):
        if value < 1000:
            return f"{value:.3g} {unit}"
        value /= 1000
    return f"{value:.3g} GB"


COLUMNS: tuple[tuple[str, str, Callable[[float], str]], ...] = (
    ("accuracy", "accuracy", _digits(4)),
    ("accuracy_distinct", "on distinct texts", _digits(4)),
    ("macro_f1", "macro-F1", _digits(4)),
    ("kept", "of the teacher", lambda value: f"{100 * value:.1f} %"),
    ("parameters", "parameters", lambda value: f"{value:,.0f}"),
    ("bytes", "on disk", size),
    ("ms_per_text", "ms per text (CPU)", _digits(3)),
    ("speedup", "times faster", lambda value: f"{value:,.1f}"),
    ("ms_per_text_gpu", "ms per text (GPU)", _digits(3)),
    ("speedup_gpu", "times faster (GPU)", lambda value: f"{value:,.1f}"),
)
WITH_SPREAD = ("accuracy", "accuracy_distinct", "macro_f1")


def cells(rows: Sequence[dict[str, Any]]) -> list[list[str]]:
    """Header and rows as text; columns that no row has (a GPU's) are left out."""
    columns = [column for column in COLUMNS if any(column[0] in row for row in rows)]
    header = ["", *(title for _, title, _ in columns), "seeds"]
    body = [
        [TITLES[row["name"]], *(_cell(row, key, show) for key, _, show in columns), str(row["seeds"])] for row in rows
    ]
    return [header, *body]


def _cell(row: dict[str, Any], key: str, show: Callable[[float], str]) -> str:
    if row.get(key) is None:
        return "-"
    spread = row.get(f"{key}_sd") if key in WITH_SPREAD else None
    return show(row[key]) + (f" ±{show(spread)}" if spread is not None else "")


def classification_reports(
    outcomes: Sequence[Outcome], gold: NDArray[np.int64], labels: Sequence[str]
) -> dict[str, str]:
    """A classification report for every kind of model; of several seeds the first."""
    reports: dict[str, str] = {}
    for outcome in outcomes:
        title = TITLES[outcome.name] + ("" if outcome.name == "teacher" else f", seed {outcome.seed}")
        if not any(known.startswith(TITLES[outcome.name]) for known in reports):
            reports[title] = classification_table(gold, outcome.predicted, labels)
    return reports


def data_sentence(data: dict[str, int]) -> str:
    """The counts of a data set in one sentence."""
    return (
        f"{data['train']:,} train, {data['dev']:,} dev and {data['test']:,} test texts "
        f"({data['test_distinct']:,} distinct). Of {data['train_rows_read']:,} train rows were dropped: "
        f"{data['leaks']:,} whose text is in test, {data['leaks_into_dev']:,} in dev, {data['duplicates']:,} repeats, "
        f"and {data['conflicts']:,} texts that had two labels; of dev rows {data['dev_leaks']:,} whose text is in test."
    )


def linear_sentence(linear: Mapping[str, float], rows: Sequence[dict[str, Any]]) -> list[str]:
    """What a linear model reaches on the same texts, and which rows are below it; nothing where none was measured."""
    if not linear:
        return []
    below = [TITLES[row["name"]] for row in rows if row["accuracy"] < linear["accuracy"]]
    more = f"; below it: {', '.join(below)}" if below else ""
    told = (
        f" The student imitates its teacher's logits plus {linear['weight']:g} x its scores."
        if linear["weight"]
        else ""
    )
    return [f"LinearSVC on words and characters, trained in seconds: accuracy {linear['accuracy']:.4f}{more}.{told}"]


def markdown(rows: Sequence[dict[str, Any]], details: dict[str, str], notes: Sequence[str], warning: str = "") -> str:
    """The whole report as Markdown, a warning first."""
    parts = [
        "# Report",
        *([f"**{warning}**"] if warning else []),
        markdown_table(rows),
        *notes,
        "![training curves](curves.png)",
        "![confusions](confusion.png)",
    ]
    parts += [f"## {title}\n\n```\n{report.rstrip()}\n```" for title, report in details.items()]
    return "\n\n".join(parts) + "\n"


def markdown_table(rows: Sequence[dict[str, Any]]) -> str:
    """The rows as a Markdown table."""
    return markdown_of(cells(rows))


def markdown_of(lines: Sequence[Sequence[str]]) -> str:
    """Header and rows as a Markdown table, the first column to the left."""
    header, *body = ([cell.replace("|", "\\|").replace("\n", " ") for cell in line] for line in lines)
    ruled = [header, ["---", *["---:"] * (len(header) - 1)], *body]
    return "\n".join("| " + " | ".join(line) + " |" for line in ruled)


def terminal(rows: Sequence[dict[str, Any]], details: dict[str, str], notes: Sequence[str], warning: str = "") -> str:
    """The whole report for a terminal: a warning, then one figure a line and one model a column, 80 characters wide."""
    lines = aligned([list(line) for line in zip(*cells(rows), strict=True)])
    reports = [f"{title}\n{report.rstrip()}\n" for title, report in details.items()]
    return "\n".join([*([f"warning: {warning}", ""] if warning else []), *reports, *lines, "", *notes])


def aligned(lines: Sequence[Sequence[str]], left: int = 1) -> list[str]:
    """Header and rows for a terminal, columns under each other; the first ``left`` columns begin at their left."""
    widths = [max(map(display_width, column)) for column in zip(*lines, strict=True)]
    return [
        "  ".join(
            _padded(cell, width, place < left) for place, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        for line in lines
    ]


def display_width(text: str) -> int:
    """Columns that a text takes in a terminal: a Chinese character takes two."""
    return sum(2 if unicodedata.east_asian_width(char) in "WF" else 1 for char in text)


def _padded(cell: str, width: int, to_the_left: bool) -> str:
    gap = " " * (width - display_width(cell))
    return cell + gap if to_the_left else gap + cell
