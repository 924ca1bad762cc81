"""report.html: what report.md says, and what is better looked at."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from distill.reporting import calibration, comparison, confusions, plots, tables
from distill.reporting.html import Drawn, drawn, sections, write_page
from distill.reporting.mistakes import mistakes
from distill.reporting.results import TEACHER, Outcome, Report, first_seeds

Row = dict[str, Any]


class Fact(NamedTuple):
    """A figure that is read first, and what it means."""

    figure: str
    meaning: str


def write(report: Report, rows: Sequence[Row], details: dict[str, str], path: Path) -> Path:
    """Write the page; ``rows`` and ``details`` are those of report.md."""
    first = first_seeds(report.outcomes)
    content = {
        "title": f"Report: {report.name}",
        "data": tables.data_sentence(report.data),
        "warning": report.warning,
        "missing": [*tables.linear_sentence(report.linear, rows), *report.missing],
        "timing": report.timing,
        "facts": _facts(rows),
        "table": _upright(tables.cells(rows)),
        "details": details,
        "speed": _speed(rows),
        "comparison": comparison.shown_of(report.comparison) if report.comparison else None,
        "curves": [_curve(report.outcomes, measured) for measured in plots.CURVES],
        "diagrams": calibration.diagrams(first, report.gold),
        "doubts": report.doubts,
        "settings": sections(report.settings, versions=report.versions, data_counts=report.data),
        **_confusions(report, first),
        **_mistakes(report, first),
    }
    return write_page(path, "report.html.jinja", content)


def _facts(rows: Sequence[Row]) -> list[Fact]:
    """What the last of the models reaches, and what of its teacher's."""
    row, size = rows[-1], tables.size(rows[-1]["bytes"])
    right = Fact(f"{100 * row['accuracy']:.1f} %", f"of the test texts are right by the {tables.TITLES[row['name']]}")
    if row["name"] == TEACHER or row["kept"] is None:
        return [right, Fact(size, "on disk")]
    return [
        right,
        Fact(f"{100 * row['kept']:.1f} %", "of its teacher's accuracy"),
        Fact(_times(row["speedup"]), "as fast as its teacher, on the processor"),
        Fact(size, f"on disk, its teacher {tables.size(rows[0]['bytes'])}"),
    ]


def _times(factor: float) -> str:
    """A factor with two digits that count at least: a student may be slower than a tiny teacher."""
    return f"{factor:,.0f} ×" if factor >= 10 else f"{factor:.2g} ×"


def _upright(lines: Sequence[Sequence[str]]) -> list[list[str]]:
    """One model a column, so that the table fits a phone."""
    return [list(line) for line in zip(*lines, strict=True)]


def _speed(rows: Sequence[Row]) -> Drawn:
    figure, (axes,) = plots.new_figure(1, 4.8, 3.6)
    for row in rows:
        axes.errorbar(
            1000 / row["ms_per_text"],
            row["accuracy"],
            yerr=row.get("accuracy_sd"),
            color=plots.COLOURS[row["name"]],
            label=tables.TITLES[row["name"]],
            linestyle="",
            marker="o",
            capsize=2.5,
        )
    plots.scales_of_speed(axes, "texts per second (log scale)", "accuracy on test", (1.0,))
    axes.legend(frameon=False)
    return drawn(figure, "Accuracy against speed on the processor, from raw text to label.")


def _curve(outcomes: Sequence[Outcome], measured: str) -> Drawn:
    figure, (axes,) = plots.new_figure(1, 4.8, 3.4)
    plots.draw_curves(axes, outcomes, measured)
    return drawn(figure, f"{plots.CURVES[measured].capitalize()} over the epochs, a line a trained model.")


def _confusions(report: Report, first: Sequence[Outcome]) -> dict[str, Any]:
    classes = len(report.labels)
    places = confusions.shown_labels(first, report.gold, classes)
    fewer = f"Of {classes} labels the {len(places)} with most mistakes." if len(places) < classes else ""
    return {
        "names": [report.labels[place] for place in places],
        "matrices": confusions.matrices(first, report.gold, classes),
        "fewer_labels": fewer,
    }


def _mistakes(report: Report, first: Sequence[Outcome]) -> dict[str, Any]:
    """Of the last of the models, with the teacher asked about them."""
    model = first[-1]
    asked = first[0] if first[0].name == TEACHER != model.name else None
    return {
        "mistaken": tables.TITLES[model.name],
        "asked": asked and tables.TITLES[asked.name],
        "mistakes": mistakes(model, asked, report.gold, report.texts, report.labels),
    }
