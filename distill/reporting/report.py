"""Writes the report: report.json, report.md, report.html and its plots."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from distill.data.examples import ACCURACY, MICRO_F1
from distill.reporting import accuracy_speed_plot, comparison, plots, selective, summary, tables
from distill.reporting.html import Drawing, settings_sections, write_page
from distill.reporting.mistakes import (
    confident_label_set_mistakes,
    confident_mistakes,
    confusion_matrices,
    f1_by_label,
    shown_labels,
)
from distill.reporting.results import TEACHER, EvaluationContext, Outcome, first_seeds
from distill.reporting.speed import Shipped, factor, shipped_lines
from distill.reporting.summary import ModelScores, Report, Summary, summarise
from distill.storage.atomic import write_file, write_json
from distill.translation import Listed, Text


def write(report: Report, folder: Path) -> tuple[str, list[Path]]:
    """Write all files of the report; returns the report for a terminal and the files."""
    context, summarised = report.context, summarise(report)
    unsure = selective.section_of(report.outcomes, context.gold, report.on_dev, report.shipped)
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
        "shipped": report.shipped.to_json() if report.shipped else None,
        "usage": [asdict(one) for one in report.usage],
        "unsure": unsure.to_json() if unsure else None,
    }
    files = [
        write_json(folder / "report.json", content),
        write_file(folder / "report.md", summary.markdown(summarised) + selective.markdown(unsure)),
        write_html(report, summarised, unsure, folder / "report.html"),
        plots.draw_confusions(report.outcomes, context.gold, context.labels, folder / "confusion.png"),
        plots.draw_curves(report.outcomes, folder / "curves.png", context.measured),
    ]
    return summary.terminal(summarised), files


@dataclass(frozen=True)
class Highlight:
    """One of the figures at the top of the page, with what it measures."""

    figure: str
    meaning: str


def write_html(report: Report, summarised: Summary, unsure: selective.Section | None, path: Path) -> Path:
    """Write the page: what report.md says, and more plots, confusions and mistakes."""
    models, context = first_seeds(report.outcomes), report.context
    content = {
        "title": Text("Report: {name}", name=report.name),
        "has_labels": context.has_labels,
        "is_multi_label": context.is_multi_label,
        "shipped": report.shipped,
        "shipped_table": shipped_lines(report.shipped) if report.shipped else [],
        "usage": report.usage,
        "checks_link": _checks_link(len(summarised.warnings)),
        "data": summarised.data,
        "warning": summarised.warning,
        "remarks": summarised.remarks,
        "timing": summarised.timing,
        "warnings": summarised.warnings,
        "passed": summarised.passed,
        "decisions": summarised.decisions,
        "highlights": _highlights(summarised.rows, context, report.shipped),
        "table": tables.transposed(summarised.table),  # one model per column, to fit a phone
        "meanings": summarised.meanings,
        "details": summarised.details,
        "speed": _speed(summarised.rows, context.measured, report.shipped),
        "comparison": comparison.page_part(report.comparison) if report.comparison else None,
        "curves": [_curve(report.outcomes, key, context.measured) for key in plots.CURVES],
        "diagrams": [_diagram(model, context) for model in models],
        "thresholds": _thresholds(report.outcomes, context) if context.is_multi_label else None,
        "label_noise_file": report.label_noise_file,
        "settings": settings_sections(context.settings, versions=report.versions, data_counts=context.data),
        "unsure": selective.page_part(unsure, report.outcomes, context.gold),
        **_confusions(models, context),
        **_mistakes(models, context),
    }
    return write_page(path, "report.html.jinja", content)


def _checks_link(warnings: int) -> Text:
    """The link to the checks, which says how many warnings there are."""
    if not warnings:
        return Text("Checks")
    return Text("Checks ({count} warnings)" if warnings > 1 else "Checks ({count} warning)", count=warnings)


def _highlights(rows: Sequence[ModelScores], context: EvaluationContext, shipped: Shipped | None) -> list[Highlight]:
    """What the last of the models reaches, and how it compares with its teacher.

    How fast it is stands here only without ``shipped``: the headline says how fast that is.
    """
    row = rows[-1]
    meaning = Text(
        "micro-F1 of the {model} on the test texts"
        if context.is_multi_label
        else "of the test texts classified correctly by the {model}"
        if context.has_labels
        else "of the test texts get the teacher's label from the {model}",
        model=row.title,
    )
    show = tables.decimals(4) if context.is_multi_label else tables.percent(1)
    highlights, is_student = [Highlight(show(row.main.mean), meaning)], row.name != TEACHER
    if is_student and row.retained is not None and context.has_labels:
        of_teacher = Text("of its teacher's micro-F1" if context.is_multi_label else "of its teacher's accuracy")
        highlights.append(Highlight(tables.percent(1)(row.retained.mean), of_teacher))
    if is_student and row.speedup is not None and shipped is None:
        highlights.append(Highlight(f"{factor(row.speedup.mean)} ×", Text("as fast as its teacher on the CPU")))
    bundle = shipped.bundle_bytes if shipped else None
    size = row.bytes if bundle is None else bundle
    if size is not None:
        where = Text("on disk" if bundle is None else "size of the bundle")
        if is_student and rows[0].name == TEACHER and rows[0].bytes:
            where = Text("{size}; its teacher: {teacher}", size=where, teacher=tables.file_size(rows[0].bytes))
        highlights.append(Highlight(tables.file_size(size), where))
    return highlights


def _speed(rows: Sequence[ModelScores], measured: str, shipped: Shipped | None) -> Drawing:
    caption = Text(
        "Accuracy against speed on the CPU, from raw text to label."
        if measured == ACCURACY
        else "Micro-F1 against speed on the CPU, from raw text to labels."
        if measured == MICRO_F1
        else "Agreement against speed on the CPU, from raw text to label."
    )
    with plots.new_figure(1, 4.8, 3.6) as (figure, (axes,)):
        for row in rows:
            if row.ms_per_text is None:
                continue
            axes.errorbar(
                1000 / row.ms_per_text.mean,
                row.main.mean,
                yerr=row.main.sd,
                color=plots.COLOURS[row.name],
                label=row.title,
                linestyle="",
                marker="o",
                capsize=2.5,
            )
        if shipped and shipped.is_bundle:
            caption = Listed([caption, Text("The star is the bundle on one thread.")], " ", "")
            colour, x = plots.COLOURS[rows[-1].name], shipped.row(shipped.student).texts_per_s
            axes.plot(x, rows[-1].main.mean, "*", color=colour, markersize=13, label="bundle")
        accuracy_speed_plot.label_axes(axes, "texts per second (log scale)", f"{measured} on test", (1.0,))
        axes.legend(frameon=False)
        return Drawing.of(figure, caption)


def _curve(outcomes: Sequence[Outcome], key: str, measured: str) -> Drawing:
    with plots.new_figure(1, 4.8, 3.4) as (figure, (axes,)):
        plots.draw_curve(axes, outcomes, key, measured)
        title = plots.curve_title(key, measured)
        title = Text(title[0].upper() + title[1:])
        return Drawing.of(figure, Text("{title} over the epochs, one line per trained model.", title=title))


def _diagram(model: Outcome, context: EvaluationContext) -> Drawing:
    with plots.new_figure(1, 3.6, 3.4) as (figure, (axes,)):
        errors = " → ".join(f"{error:.3f}" for error in plots.draw_reliability(axes, model, context.gold))
        calibrated = Text("temperature {value:.3f}", value=model.temperature)
        if model.thresholds and model.is_calibrated:
            calibrated = Text("calibrated for each label")
        temperature = calibrated if model.is_calibrated else Text("not calibrated")
        caption = Text(
            "{model}: ECE {errors}, {temperature}. The larger a point, the more texts.",
            model=model.title,
            errors=errors,
            temperature=temperature,
        )
        return Drawing.of(figure, caption)


def _thresholds(outcomes: Sequence[Outcome], context: EvaluationContext) -> Drawing:
    with plots.new_figure(1, 4.8, 3.6) as (figure, (axes,)):
        plots.draw_thresholds(axes, outcomes, context.gold)
        caption = Text(
            "Curves: micro-F1 on the test set if all labels had the same threshold. Dotted lines: micro-F1 with the "
            "model's own thresholds, which the ticks on the line show."
        )
        return Drawing.of(figure, caption)


def _confusions(models: Sequence[Outcome], context: EvaluationContext) -> dict[str, Any]:
    classes = len(context.labels)
    indices = shown_labels(models, context.gold, classes)
    if context.is_multi_label:
        matrices = [f1_by_label(models, context.gold, indices)]
    else:
        matrices = confusion_matrices(models, context.gold, classes)
    subset = Text("The {count} of {classes} labels with the most mistakes.", count=len(indices), classes=classes)
    return {
        "names": [context.labels[index] for index in indices],
        "matrices": matrices,
        "label_subset": subset if len(indices) < classes else "",
    }


def _mistakes(models: Sequence[Outcome], context: EvaluationContext) -> dict[str, Any]:
    """The mistakes of the last of the models, next to the teacher's predictions."""
    model = models[-1]
    reference = models[0] if models[0].name == TEACHER != model.name else None
    mistakes = confident_label_set_mistakes if context.is_multi_label else confident_mistakes
    return {
        "mistaken": model.title,
        "reference": reference.title if reference else None,
        "mistakes": mistakes(model, reference, context),
    }
