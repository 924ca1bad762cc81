"""Accuracy against speed, as a picture: of a comparison, and of the table of speed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from distill.reporting.plots import new_figure, save, scales_of_speed

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.lines import Line2D

Row = dict[str, Any]
SPEED = "texts per second (log scale)"
HEIGHT = "accuracy on test, mean ± SD over seeds"
SPECIAL = {"teacher": ("#444444", "*"), "floor": ("#444444", "X")}
COLOURS = ("#2a6fb0", "#d1803a", "#3a8f4d", "#8a56a8", "#b5423c", "#1f8a8a", "#a0753a", "#c2529a")
MARKERS = ("o", "s", "^", "D", "v", "P", "h", "<", ">", "p")
NEAR, STEP = 0.05, 0.028  # decades of speed: what counts as the same, and how far apart such points are drawn

# in pixels: where a row's number may stand about its point, and how far from everything else is far enough
OFFSETS = ((14, 0), (-14, 0), (13, 9), (-13, 9), (13, -9), (-13, -9), (13, 16), (-13, 16), (13, -16), (-13, -16))
ENOUGH = 11.0


def draw_comparison(rows: Sequence[Row], path: Path) -> Path:
    """The picture with a key of its numbers."""
    figure, (axes,) = new_figure(1, 11.0, max(4.8, 0.25 * len(rows) + 1.0))
    keys = [_key(number, row, look) for number, (row, look) in enumerate(zip(rows, _looks(rows), strict=True), 1)]
    figure.legend(handles=keys, loc="outside right upper", frameon=False, fontsize=9)
    draw_points(axes, rows)
    return save(figure, path)


def draw_points(axes: Axes, rows: Sequence[Row]) -> None:
    """Accuracy with its standard deviation against texts a second; colour is the student, shape the objective.

    Lines go through the first teacher and the first floor.
    """
    looks = _looks(rows)
    xs = apart(1000 / np.array([row["ms_per_text"] for row in rows], dtype=np.float64))
    for row, look, x in zip(rows, looks, xs, strict=True):
        _point(axes, row, look, float(x))
    for objective, (colour, _) in SPECIAL.items():
        for row in [row for row in rows if row["objective"] == objective][:1]:
            line = "--" if objective == "teacher" else ":"
            axes.axhline(row["accuracy"], color=colour, linestyle=line, linewidth=0.8, zorder=0)
    scales_of_speed(axes, SPEED, HEIGHT, (1.0, 2.0, 5.0))
    _numbers(axes, rows, xs)


def _key(number: int, row: Row, look: tuple[str, str]) -> Line2D:
    from matplotlib.lines import Line2D

    colour, marker = look
    return Line2D([], [], color=colour, marker=marker, linestyle="", label=f"{number}  {row['name']}")


def _looks(rows: Sequence[Row]) -> list[tuple[str, str]]:
    """Colour and marker of every row."""
    usual = [row for row in rows if row["objective"] not in SPECIAL]
    students = list(dict.fromkeys(row["student"] for row in usual))
    objectives = list(dict.fromkeys(row["objective"] for row in usual))
    return [
        SPECIAL[row["objective"]]
        if row["objective"] in SPECIAL
        else (
            COLOURS[students.index(row["student"]) % len(COLOURS)],
            MARKERS[objectives.index(row["objective"]) % len(MARKERS)],
        )
        for row in rows
    ]


def apart(speeds: NDArray[np.float64]) -> NDArray[np.float64]:
    """Where the points are drawn: those of nearly the same speed side by side around it, in the rows' order."""
    logs = np.log10(speeds)
    drawn = logs.copy()
    order = np.argsort(logs, kind="stable")
    for group in np.split(order, np.flatnonzero(np.diff(logs[order]) > NEAR) + 1):
        places = np.sort(group)
        drawn[places] = logs[group].mean() + STEP * (np.arange(len(group)) - (len(group) - 1) / 2)
        if len(group) == 1:
            drawn[places] = logs[group]
    return np.asarray(10.0**drawn)


def _point(axes: Axes, row: Row, look: tuple[str, str], x: float) -> None:
    colour, marker = look
    axes.errorbar(
        x,
        row["accuracy"],
        yerr=row["accuracy_sd"] or None,
        color=colour,
        marker=marker,
        markersize=13 if marker == "*" else 7,
        elinewidth=0.9,
        capsize=2.5,
    )


def _numbers(axes: Axes, rows: Sequence[Row], xs: NDArray[np.float64]) -> None:
    """The rows' numbers beside their points, where a number covers neither point nor bar nor an earlier number."""
    axes.figure.draw_without_rendering()  # type: ignore[union-attr] # places are only known once all is laid out
    heights = [[row["accuracy"] + share * row["accuracy_sd"] for share in (0, -1, -0.5, 0.5, 1)] for row in rows]
    bars = [axes.transData.transform([(x, y) for y in ys]) for x, ys in zip(xs, heights, strict=True)]
    taken = [place for bar in bars for place in bar]
    for number, (row, bar) in enumerate(zip(rows, bars, strict=True), 1):
        # beside a teacher or floor there is a line
        offsets = OFFSETS[2:] if row["objective"] in SPECIAL else OFFSETS
        spots = [bar[0] + np.array(offset) for offset in offsets]
        room = [min(float(np.hypot(*(spot - other))) for other in taken) for spot in spots]
        spot = spots[int(np.argmax(np.minimum(room, ENOUGH)))]
        taken.append(spot)
        axes.annotate(
            str(number),
            (xs[number - 1], heights[number - 1][0]),
            tuple((spot - bar[0]) * 72 / axes.figure.dpi),
            textcoords="offset points",
            ha="center",
            va="center",
            fontsize=8,
        )


TEXTS_A_SECOND = "texts per second from raw text to label (log scale); full: one thread, hollow: several"
ACCURACY_OR_LINE = "accuracy on test; a line gives no label, or is timing only"
DASHES = ("--", ":", "-.", (0, (6, 2, 1, 2, 1, 2)))


def draw_speed(rows: Sequence[Row], path: Path) -> Path:
    """A colour and mark a model, full for one thread and hollow for several, joined by a line."""
    figure, (axes,) = new_figure(1, 11.0, max(4.8, 0.28 * len(rows) + 1.0))
    names = list(dict.fromkeys(row["name"] for row in rows if row["accuracy"] is not None))
    timed = list(dict.fromkeys(row["name"] for row in rows if row["accuracy"] is None))
    handles = [_points(axes, [row for row in rows if row["name"] == name], n) for n, name in enumerate(names)]
    handles += [_line(axes, next(row for row in rows if row["name"] == name), n) for n, name in enumerate(timed)]
    scales_of_speed(axes, TEXTS_A_SECOND, ACCURACY_OR_LINE, (1.0,))
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
