"""Writes the report: report.json, report.md, report.html and its plots."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from distill.reporting import accuracy_speed_plot, comparison, plots, summary, tables
from distill.reporting.html import Drawing, settings_sections, write_page
from distill.reporting.mistakes import confident_mistakes, confusion_matrices, shown_labels
from distill.reporting.results import TEACHER, EvaluationContext, Outcome, first_seeds
from distill.reporting.summary import ModelScores, Report, Summary, summarise
from distill.storage.atomic import write_file, write_json


def write(report: Report, folder: Path) -> tuple[str, list[Path]]:
    """Write all files of the report; returns the report for a terminal and the files."""
    context, summarised = report.context, summarise(report)
    content = {
        "warning": report.warning,
        "measured": context.measured,
        "rows": [row.to_json() for row in summarised.rows],
        "linear_svc": report.linear.to_json() if report.linear else {},
        "data": context.data,
        "settings": context.settings,
        "timing": context.timing,
        "warnings": list(report.warnings),
        "checks": [asdict(check) for check in report.checks],
        "decisions": list(report.decisions),
    }
    files = [
        write_json(folder / "report.json", content),
        write_file(folder / "report.md", summary.markdown(summarised)),
        write_html(report, summarised, folder / "report.html"),
        plots.draw_confusions(report.outcomes, context.gold, context.labels, folder / "confusion.png"),
        plots.draw_curves(report.outcomes, folder / "curves.png", context.measured),
    ]
    return summary.terminal(summarised), files


@dataclass(frozen=True)
class Highlight:
    """One of the figures at the top of the page, with what it measures."""

    figure: str
    meaning: str


def write_html(report: Report, summarised: Summary, path: Path) -> Path:
    """Write the page: what report.md says, and more plots, confusions and mistakes."""
    models, context = first_seeds(report.outcomes), report.context
    content = {
        "title": f"Report: {report.name}",
        "has_labels": context.has_labels,
        "data": summarised.data,
        "warning": summarised.warning,
        "remarks": summarised.remarks,
        "timing": summarised.timing,
        "warnings": summarised.warnings,
        "passed": summarised.passed,
        "decisions": summarised.decisions,
        "highlights": _highlights(summarised.rows, context),
        "table": tables.transposed(
            summary.lines(summarised.rows, context.measured)
        ),  # one model per column, to fit a phone
        "details": summarised.details,
        "speed": _speed(summarised.rows, context.measured),
        "comparison": comparison.page_part(report.comparison) if report.comparison else None,
        "curves": [_curve(report.outcomes, key, context.measured) for key in plots.CURVES],
        "diagrams": [_diagram(model, context) for model in models],
        "label_noise_file": report.label_noise_file,
        "settings": settings_sections(context.settings, versions=report.versions, data_counts=context.data),
        **_confusions(models, context),
        **_mistakes(models, context),
    }
    return write_page(path, "report.html.jinja", content)


def _highlights(rows: Sequence[ModelScores], context: EvaluationContext) -> list[Highlight]:
    """What the last of the models reaches, and how it compares with its teacher."""
    row = rows[-1]
    meaning = "classified correctly by the {}" if context.has_labels else "get the teacher's label from the {}"
    accuracy = Highlight(tables.percent(1)(row.accuracy.mean), f"of the test texts {meaning.format(row.title)}")
    highlights, is_student = [accuracy], row.name != TEACHER
    if is_student and row.retained is not None and context.has_labels:
        highlights.append(Highlight(tables.percent(1)(row.retained.mean), "of its teacher's accuracy"))
    if is_student and row.speedup is not None:
        highlights.append(Highlight(_times(row.speedup.mean), "as fast as its teacher on the CPU"))
    if row.bytes is not None:
        teacher = rows[0].bytes if is_student and rows[0].name == TEACHER else None
        size = f"on disk; its teacher: {tables.file_size(teacher)}" if teacher else "on disk"
        highlights.append(Highlight(tables.file_size(row.bytes), size))
    return highlights


def _times(factor: float) -> str:
    """A factor with at least two significant digits: a student may be slower than a tiny teacher."""
    return f"{factor:,.0f} ×" if factor >= 10 else f"{factor:.2g} ×"


def _speed(rows: Sequence[ModelScores], measured: str) -> Drawing:
    with plots.new_figure(1, 4.8, 3.6) as (figure, (axes,)):
        for row in rows:
            if row.ms_per_text is None:
                continue
            axes.errorbar(
                1000 / row.ms_per_text.mean,
                row.accuracy.mean,
                yerr=row.accuracy.sd,
                color=plots.COLOURS[row.name],
                label=row.title,
                linestyle="",
                marker="o",
                capsize=2.5,
            )
        accuracy_speed_plot.label_axes(axes, "texts per second (log scale)", f"{measured} on test", (1.0,))
        axes.legend(frameon=False)
        return Drawing.of(figure, f"{measured.capitalize()} against speed on the CPU, from raw text to label.")


def _curve(outcomes: Sequence[Outcome], key: str, measured: str) -> Drawing:
    with plots.new_figure(1, 4.8, 3.4) as (figure, (axes,)):
        plots.draw_curve(axes, outcomes, key, measured)
        title = plots.curve_title(key, measured).capitalize()
        return Drawing.of(figure, f"{title} over the epochs, one line per trained model.")


def _diagram(model: Outcome, context: EvaluationContext) -> Drawing:
    with plots.new_figure(1, 3.6, 3.4) as (figure, (axes,)):
        errors = " → ".join(f"{error:.3f}" for error in plots.draw_reliability(axes, model, context.gold))
        temperature = f"temperature {model.temperature:.3f}" if model.temperature != 1 else "not calibrated"
        caption = f"{model.title}: ECE {errors}, {temperature}. The larger a point, the more texts."
        return Drawing.of(figure, caption)


def _confusions(models: Sequence[Outcome], context: EvaluationContext) -> dict[str, Any]:
    classes = len(context.labels)
    indices = shown_labels(models, context.gold, classes)
    subset = f"The {len(indices)} of {classes} labels with the most mistakes." if len(indices) < classes else ""
    return {
        "names": [context.labels[index] for index in indices],
        "matrices": confusion_matrices(models, context.gold, classes),
        "label_subset": subset,
    }


def _mistakes(models: Sequence[Outcome], context: EvaluationContext) -> dict[str, Any]:
    """The mistakes of the last of the models, next to the teacher's predictions."""
    model = models[-1]
    reference = models[0] if models[0].name == TEACHER != model.name else None
    return {
        "mistaken": model.title,
        "reference": reference.title if reference else None,
        "mistakes": confident_mistakes(model, reference, context),
    }
