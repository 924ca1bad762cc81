"""The report: what was measured of every model, as text, report.md, report.json, report.html and plots."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distill.reporting import plots, report_page, tables
from distill.reporting.rows import Outcome, rows_of
from distill.storage.run_folder import write_file, write_json

__all__ = ["Outcome", "Report", "write"]


@dataclass(frozen=True)
class Report:
    """Everything a report says.

    ``texts`` are those of test, ``gold`` (texts,) their labels, ``first_of_text`` (texts,) marks one row of every
    distinct text; ``linear`` are the scores of the linear model, which a student must beat; ``warning`` is what must be
    read before any figure; ``comparison`` is what compare.json holds, ``doubts`` the name of the file of labels that
    the teacher doubts, each where there is one.
    """

    name: str
    texts: Sequence[str]
    gold: NDArray[np.int64]
    first_of_text: NDArray[np.bool_]
    labels: tuple[str, ...]
    outcomes: Sequence[Outcome]
    data: dict[str, int]
    settings: dict[str, Any]
    versions: dict[str, str]
    timing: str
    missing: Sequence[str] = field(default=())
    linear: Mapping[str, float] = field(default_factory=dict)
    warning: str = ""
    comparison: Mapping[str, Any] | None = None
    doubts: str = ""


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
        report_page.write(report, rows, details, folder / "report.html"),
        plots.confusions(report.outcomes, report.gold, report.labels, folder / "confusion.png"),
        plots.curves(report.outcomes, folder / "curves.png"),
    ]
    return tables.terminal(rows, details, notes, report.warning), files
