"""Plots of accuracy against texts per second: of a comparison, of a speed table, of a report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from distill.data.examples import ACCURACY, MACRO_F1, MICRO_F1, SUBSET_ACCURACY
from distill.reporting.plots import new_figure, save

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.lines import Line2D

PALETTE = ("#2a6fb0", "#d1803a", "#3a8f4d", "#8a56a8", "#b5423c", "#1f8a8a", "#a0753a", "#c2529a")
MARKERS = ("o", "s", "^", "D", "v", "P", "h", "<", ">", "p")
GREY, STAR, CROSS = "#444444", "*", "X"
Y_LABELS = {
    ACCURACY: "accuracy on test, mean ± SD over seeds",
    MICRO_F1: "micro-F1 on test, mean ± SD over seeds",
    MACRO_F1: "macro-F1 on test, mean ± SD over seeds",
    SUBSET_ACCURACY: "subset accuracy on test, mean ± SD over seeds",
}
SAME_SPEED = 0.05  # decades: points closer than this are drawn side by side
SPREAD = 0.028  # decades between points that are drawn side by side

# In pixels: candidate positions of a number around its point, and the distance from everything else that is enough.
OFFSETS = ((14, 0), (-14, 0), (13, 9), (-13, 9), (13, -9), (-13, -9), (13, 16), (-13, 16), (13, -16), (-13, -16))
CLEARANCE = 11.0


@dataclass(frozen=True)
class ComparedPoint:
    """A row of a comparison in its plot.

    Args:
        name: in the legend.
        texts_per_s: texts per second from raw text to label.
        accuracy: mean over the seeds; in multi-label data, of the target metric.
        accuracy_sd: standard deviation over the seeds.
        colour: of the point.
        marker: shape of the point.
        line: style of a horizontal line at its accuracy; "" for none.
    """

    name: str
    texts_per_s: float
    accuracy: float
    accuracy_sd: float
    colour: str
    marker: str
    line: str = ""

    @property
    def is_reference(self) -> bool:
        """Whether the row is a reference, not a student."""
        return self.colour == GREY


@dataclass(frozen=True)
class TimedPoint:
    """A row of a speed table in its plot; a model without an accuracy is drawn as a vertical line."""

    name: str
    texts_per_s: float
    accuracy: float | None
    threads: int


def cycled(values: Sequence[str], index: int) -> str:
    """The value at an index, from the first again after the last."""
    return values[index % len(values)]


def draw_comparison(points: Sequence[ComparedPoint], path: Path, measured: str = ACCURACY) -> Path:
    """The numbered points of a comparison with a legend of the numbers."""
    with new_figure(1, 11.0, max(4.8, 0.25 * len(points) + 1.0)) as (figure, (axes,)):
        handles = [
            _handle(f"{number}  {point.name}", point.colour, point.marker) for number, point in enumerate(points, 1)
        ]
        figure.legend(handles=handles, loc="outside right upper", frameon=False, fontsize=9)
        draw_numbered(axes, points, measured)
        return save(figure, path)


def draw_numbered(axes: Axes, points: Sequence[ComparedPoint], measured: str = ACCURACY) -> None:
    """Accuracy or micro-F1 with its standard deviation against texts per second, a number at every point."""
    xs = side_by_side(np.array([point.texts_per_s for point in points], dtype=np.float64))
    for point, x in zip(points, xs, strict=True):
        axes.errorbar(
            float(x),
            point.accuracy,
            yerr=point.accuracy_sd or None,
            color=point.colour,
            marker=point.marker,
            markersize=13 if point.marker == STAR else 7,
            elinewidth=0.9,
            capsize=2.5,
        )
    for point in points:
        if point.line:
            axes.axhline(point.accuracy, color=point.colour, linestyle=point.line, linewidth=0.8, zorder=0)
    label_axes(axes, "texts per second (log scale)", Y_LABELS[measured], (1.0, 2.0, 5.0))
    _draw_numbers(axes, points, xs)


def side_by_side(speeds: NDArray[np.float64]) -> NDArray[np.float64]:
    """Where points are drawn: speeds that are nearly equal are spread around their mean, in the order of the rows."""
    logs = np.log10(speeds)
    drawn = logs.copy()
    order = np.argsort(logs, kind="stable")
    for group in np.split(order, np.flatnonzero(np.diff(logs[order]) > SAME_SPEED) + 1):
        if len(group) > 1:
            offsets = SPREAD * (np.arange(len(group)) - (len(group) - 1) / 2)
            drawn[np.sort(group)] = logs[group].mean() + offsets
    return np.asarray(10.0**drawn)


def label_axes(axes: Axes, x_label: str, y_label: str, ticks: Sequence[float]) -> None:
    """Name the axes and put texts per second on a log scale with ``ticks`` in each decade."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=tuple(ticks)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda speed, _: f"{speed:,.0f}" if speed >= 1 else f"{speed:g}"))
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    axes.margins(0.08)
    axes.grid(alpha=0.25)
    axes.set_axisbelow(True)


def _handle(label: str, colour: str, marker: str) -> Line2D:
    from matplotlib.lines import Line2D

    return Line2D([], [], color=colour, marker=marker, linestyle="", label=label)


def _draw_numbers(axes: Axes, points: Sequence[ComparedPoint], xs: NDArray[np.float64]) -> None:
    """Number the points where a number covers no point, no error bar and no earlier number."""
    axes.figure.draw_without_rendering()  # type: ignore[union-attr] # the layout decides the pixel coordinates
    heights = [[point.accuracy + share * point.accuracy_sd for share in (0, -1, -0.5, 0.5, 1)] for point in points]
    bars = [axes.transData.transform([(x, y) for y in ys]) for x, ys in zip(xs, heights, strict=True)]
    occupied = [pixel for bar in bars for pixel in bar]
    for number, (point, bar) in enumerate(zip(points, bars, strict=True), 1):
        offsets = OFFSETS[2:] if point.is_reference else OFFSETS  # a horizontal line passes through references
        candidates = [bar[0] + np.array(offset) for offset in offsets]
        distances = [min(float(np.hypot(*(pixel - other))) for other in occupied) for pixel in candidates]
        best = candidates[int(np.argmax(np.minimum(distances, CLEARANCE)))]
        occupied.append(best)
        axes.annotate(
            str(number),
            (xs[number - 1], point.accuracy),
            tuple((best - bar[0]) * 72 / axes.figure.dpi),
            textcoords="offset points",
            ha="center",
            va="center",
            fontsize=8,
        )


X_LABEL_THREADS = "texts per second from raw text to label (log scale); filled: one thread, hollow: several"
Y_LABEL_OR_LINE = "{measured} on test (vertical lines: timing only)"
DASHES = ("--", ":", "-.", (0, (6, 2, 1, 2, 1, 2)))


def draw_speed(points: Sequence[TimedPoint], path: Path, measured: str = ACCURACY) -> Path:
    """A colour and marker per model, filled for one thread and hollow for several, joined by a line."""
    with new_figure(1, 11.0, max(4.8, 0.28 * len(points) + 1.0)) as (figure, (axes,)):
        names = list(dict.fromkeys(point.name for point in points if point.accuracy is not None))
        timed = {point.name: point for point in reversed(points) if point.accuracy is None}
        handles = [
            _draw_threads(axes, [point for point in points if point.name == name], index)
            for index, name in enumerate(names)
        ]
        for index, point in enumerate(reversed(timed.values())):
            style = DASHES[index % len(DASHES)]
            x, name = point.texts_per_s, point.name
            handles.append(axes.axvline(x, color="#666666", linestyle=style, linewidth=1.0, zorder=0, label=name))
        label_axes(axes, X_LABEL_THREADS, Y_LABEL_OR_LINE.format(measured=measured), (1.0,))
        figure.legend(handles=handles, loc="outside right upper", frameon=False, fontsize=9)
        return save(figure, path)


def _draw_threads(axes: Axes, points: Sequence[TimedPoint], index: int) -> Line2D:
    """The points of one model, one per number of threads."""
    colour, marker = cycled(PALETTE, index), cycled(MARKERS, index)
    speeds, accuracies = [point.texts_per_s for point in points], [point.accuracy for point in points]
    axes.plot(speeds, accuracies, color=colour, linewidth=0.8, zorder=1)  # type: ignore[arg-type]
    for point in points:
        fill = colour if point.threads == 1 else "white"
        axes.plot(point.texts_per_s, point.accuracy, color=colour, marker=marker, markersize=9, markerfacecolor=fill)  # type: ignore[arg-type]
    return _handle(points[0].name, colour, marker)
