"""The report: what was measured of every model, as text, report.md, report.json, report.html and plots."""

from __future__ import annotations

from pathlib import Path

from distill.reporting import plots, report_html, tables
from distill.reporting.results import Report, rows_of
from distill.storage.atomic import write_file, write_json


def write(report: Report, folder: Path) -> tuple[str, list[Path]]:
    """Write report.json, report.md, report.html and the plots; returns the report for a terminal and the files."""
    rows = rows_of(report.outcomes, report.gold, report.first_of_text, len(report.labels))
    content = {
        "warning": report.warning,
        "rows": rows,
        "linear_svc": report.linear,
        "data": report.data,
        "settings": report.settings,
        "timing": report.timing,
    }
    details = tables.classification_reports(report.outcomes, report.gold, report.labels)
    notes = [
        *tables.linear_sentence(report.linear, rows),
        *report.missing,
        tables.data_sentence(report.data),
        report.timing,
    ]
    files = [
        write_json(folder / "report.json", content),
        write_file(folder / "report.md", tables.markdown(rows, details, notes, report.warning)),
        report_html.write(report, rows, details, folder / "report.html"),
        plots.confusions(report.outcomes, report.gold, report.labels, folder / "confusion.png"),
        plots.curves(report.outcomes, folder / "curves.png"),
    ]
    return tables.terminal(rows, details, notes, report.warning), files
