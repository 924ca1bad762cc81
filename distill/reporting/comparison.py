"""The comparison as files: JSON, Markdown, page and plot; and as text for a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from distill.data.examples import ACCURACY, MACRO_F1, MICRO_F1, SUBSET_ACCURACY
from distill.reporting import accuracy_speed_plot
from distill.reporting.accuracy_speed_plot import MARKERS, PALETTE, ComparedPoint, cycled
from distill.reporting.comparison_record import (
    COMPARISON,
    LINEAR,
    TEACHER,
    Comparison,
    ComparisonRecord,
    ComparisonRow,
    measured_of,
    record_of,
)
from distill.reporting.comparison_tables import LEFT_OUT_CLASS_COLUMNS, columns, numbered_lines, short_lines
from distill.reporting.html import Drawing, settings_sections, write_page
from distill.reporting.plots import new_figure
from distill.reporting.tables import lines_of, markdown_list, markdown_table, meanings, text_table, truncated
from distill.storage.atomic import write_file, write_json
from distill.translation import Text

NAME_WIDTH, NARROW_NAME_WIDTH = 42, 33  # terminal columns, the latter in multi-label data; compare.md has full names


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


def plot_caption(measured: str) -> Text:
    """The sentence below the plot."""
    return {
        ACCURACY: Text("Accuracy against speed: points of almost the same speed are drawn side by side."),
        MICRO_F1: Text("Micro-F1 against speed: points of almost the same speed are drawn side by side."),
        MACRO_F1: Text("Macro-F1 against speed: points of almost the same speed are drawn side by side."),
        SUBSET_ACCURACY: Text("Subset accuracy against speed: points of almost the same speed are drawn side by side."),
    }[measured]


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
