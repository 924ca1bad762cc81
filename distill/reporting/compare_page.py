"""The comparison as a page, or as a part of the report's."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from distill.reporting import compare_tables
from distill.reporting.compare_plot import draw_points
from distill.reporting.page import drawn, sections, write_page
from distill.reporting.plots import new_figure
from distill.reporting.tables import data_sentence


def write(content: Mapping[str, Any], path: Path) -> Path:
    """``content`` (what compare.json holds) as a page of its own."""
    shown = {"title": "Comparison", "comparison": shown_of(content), "settings": sections(content["settings"])}
    return write_page(path, "compare.html.jinja", shown)


def shown_of(content: Mapping[str, Any]) -> dict[str, Any]:
    """What the template says of a comparison."""
    rows = content["rows"]
    figure, (axes,) = new_figure(1, 6.0, max(4.0, 0.16 * len(rows) + 2.0))
    draw_points(axes, rows)
    return {
        "lines": compare_tables.cells(rows),
        "meanings": {title: meaning for title, _, meaning in compare_tables.COLUMNS},
        "figure": drawn(figure, compare_tables.PICTURE),
        "left_out": compare_tables.left_out_cells(content["left_out"]),
        "notes": [data_sentence(content["data"]), content["timing"]],
    }
