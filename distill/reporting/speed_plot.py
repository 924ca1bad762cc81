"""Speed as a picture: accuracy against texts a second; what gives no accuracy is a line at its speed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distill.reporting.compare_plot import COLOURS, MARKERS
from distill.reporting.plots import new_figure, save, scales_of_speed

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.lines import Line2D

Row = dict[str, Any]
SPEED = "texts per second from raw text to label (log scale); full: one thread, hollow: several"
HEIGHT = "accuracy on test; a line gives no label, or is timing only"
DASHES = ("--", ":", "-.", (0, (6, 2, 1, 2, 1, 2)))


def draw(rows: Sequence[Row], path: Path) -> Path:
    """A colour and mark a model, full for one thread and hollow for several, joined by a line."""
    figure, (axes,) = new_figure(1, 11.0, max(4.8, 0.28 * len(rows) + 1.0))
    names = list(dict.fromkeys(row["name"] for row in rows if row["accuracy"] is not None))
    timed = list(dict.fromkeys(row["name"] for row in rows if row["accuracy"] is None))
    handles = [_points(axes, [row for row in rows if row["name"] == name], n) for n, name in enumerate(names)]
    handles += [_line(axes, next(row for row in rows if row["name"] == name), n) for n, name in enumerate(timed)]
    scales_of_speed(axes, SPEED, HEIGHT, (1.0,))
    figure.legend(handles=handles, loc="outside right upper", frameon=False, fontsize=9)
    return save(figure, path)


def _points(axes: Axes, rows: Sequence[Row], place: int) -> Line2D:
    from matplotlib.lines import Line2D

    colour, marker = COLOURS[place % len(COLOURS)], MARKERS[place % len(MARKERS)]
    speeds, heights = [row["texts_per_s"] for row in rows], [row["accuracy"] for row in rows]
    axes.plot(speeds, heights, color=colour, linewidth=0.8, zorder=1)
    for row, speed, height in zip(rows, speeds, heights, strict=True):
        inside = colour if row["threads"] == 1 else "white"
        axes.plot(speed, height, color=colour, marker=marker, markersize=9, markerfacecolor=inside)
    return Line2D([], [], color=colour, marker=marker, linestyle="", label=rows[0]["name"])


def _line(axes: Axes, row: Row, place: int) -> Line2D:
    style = DASHES[place % len(DASHES)]
    return axes.axvline(
        row["texts_per_s"], color="#666666", linestyle=style, linewidth=1.0, zorder=0, label=row["name"]
    )
