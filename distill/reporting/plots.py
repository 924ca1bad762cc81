"""The report's plots: confusion matrices and training curves; a figure as PNG, or as SVG within a page."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from distill.evaluation.metrics import confusion
from distill.progress import log
from distill.reporting.confusions import shown_labels
from distill.reporting.results import Outcome, first_seeds
from distill.reporting.tables import TITLES
from distill.storage.atomic import write_file

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

CJK_FONTS = (
    "Noto Sans CJK SC",
    "Noto Sans CJK JP",
    "Source Han Sans SC",
    "WenQuanYi Micro Hei",
    "WenQuanYi Zen Hei",
    "SimHei",
    "Microsoft YaHei",
    "PingFang SC",
    "Heiti SC",
    "Arial Unicode MS",
)
CURVES = {"dev_accuracy": "dev accuracy", "dev_loss": "dev cross-entropy"}
COLOURS = {"teacher": "#444444", "student_alone": "#d1803a", "student": "#2a6fb0"}


def new_figure(panels: int, width: float, height: float) -> tuple[Figure, list[Axes]]:
    """A figure of ``panels`` panels side by side, each ``width`` by ``height`` inches."""
    from matplotlib import rcParams
    from matplotlib.figure import Figure

    rcParams["font.sans-serif"] = [*CJK_FONTS, "DejaVu Sans"]
    rcParams["text.parse_math"] = False  # a label with two dollar signs is no formula
    figure = Figure(figsize=(width * panels, height), layout="constrained")
    return figure, [figure.add_subplot(1, panels, place + 1) for place in range(panels)]


def scales_of_speed(axes: Axes, speed: str, height: str, marked: Sequence[float]) -> None:
    """Texts a second on a log scale, ``marked`` in each decade; both axes named."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=tuple(marked)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda speed, _: f"{speed:,.0f}" if speed >= 1 else f"{speed:g}"))
    axes.set_xlabel(speed)
    axes.set_ylabel(height)
    axes.margins(0.08)
    axes.grid(alpha=0.25)
    axes.set_axisbelow(True)


def save(figure: Figure, path: Path) -> Path:
    """Write the figure as PNG, atomically."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=120, bbox_inches="tight")
    return write_file(path, buffer.getvalue())


def svg(figure: Figure) -> str:
    """The figure as an ``svg`` element for a page: the browser draws its texts, black and grey take the page's colour.

    The same figure gives the same element, without ids that another figure has too.
    """
    from matplotlib import rc_context

    buffer = io.StringIO()
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "distill"}):
        figure.savefig(buffer, format="svg", transparent=True)
    element = buffer.getvalue()[buffer.getvalue().index("<svg") :]
    element = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>", "", element, flags=re.DOTALL)
    return re.sub(r"#000000|#444444", "currentColor", re.sub(r'<g id="[^"]*"', "<g", element))


def drawable(labels: Sequence[str]) -> list[str]:
    """The labels, or their numbers where no font on this machine has their characters."""
    if all(label.isascii() for label in labels) or _has_cjk_font():
        return list(labels)
    log.info("plots: no font for Chinese labels, their numbers are drawn (Debian has one: fonts-noto-cjk)")
    return [str(number) for number in range(len(labels))]


def _has_cjk_font() -> bool:
    """Whether there is one of our fonts; one that was installed after matplotlib listed them is added to its list."""
    from matplotlib import font_manager

    known = {font.fname for font in font_manager.fontManager.ttflist}
    files = {name.replace(" ", "").removesuffix("SC").removesuffix("JP").lower() for name in CJK_FONTS}
    for path in font_manager.findSystemFonts():
        if path not in known and any(file in Path(path).stem.replace("-", "").lower() for file in files):
            font_manager.fontManager.addfont(path)
    return bool({font.name for font in font_manager.fontManager.ttflist}.intersection(CJK_FONTS))


def confusions(outcomes: Sequence[Outcome], gold: NDArray[np.int64], labels: Sequence[str], path: Path) -> Path:
    """One confusion matrix a kind of model (of several seeds the first): rows are labels, columns predictions.

    Of very many labels those with most mistakes, as on the page: every cell is a text, which takes its time to draw.
    """
    shown = first_seeds(outcomes)
    places = shown_labels(shown, gold, len(labels))
    known = drawable(labels)
    names = [known[place] for place in places]
    fewer = f", {len(places)} of {len(labels)} labels" if len(places) < len(labels) else ""
    side = max(3.2, 0.45 * len(names) + 1.6)
    figure, panels = new_figure(len(shown), side, side)
    for axes, outcome in zip(panels, shown, strict=True):
        counts = confusion(gold, outcome.predicted, len(labels))[np.ix_(places, places)]
        _draw_confusion(axes, counts, names)
        axes.set_title(TITLES[outcome.name] + fewer)
    return save(figure, path)


def _draw_confusion(axes: Axes, counts: NDArray[np.int64], names: Sequence[str]) -> None:
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    axes.imshow(shares, cmap="Blues", vmin=0.0, vmax=1.0)
    axes.set_xticks(range(len(names)), names, rotation=45, ha="right")
    axes.set_yticks(range(len(names)), names)
    axes.set_xlabel("predicted")
    axes.set_ylabel("label")
    for row, column in np.ndindex(*counts.shape):
        colour = "white" if shares[row, column] > 0.5 else "black"
        text = axes.text(column, row, str(counts[row, column]), ha="center", va="center", color=colour, fontsize=8)
        text.set_in_layout(False)  # it lies within the axes; to lay out hundreds takes seconds


def curves(outcomes: Sequence[Outcome], path: Path) -> Path:
    """Dev accuracy and dev loss over the epochs, one line a trained model."""
    figure, panels = new_figure(2, 5.0, 3.6)
    for axes, measured in zip(panels, CURVES, strict=True):
        draw_curves(axes, outcomes, measured)
    return save(figure, path)


def draw_curves(axes: Axes, outcomes: Sequence[Outcome], measured: str) -> None:
    """One of ``CURVES`` over the epochs, one line a trained model."""
    named: set[str] = set()
    for outcome in outcomes:
        axes.plot(
            [line["epoch"] for line in outcome.history],
            [line[measured] for line in outcome.history],
            color=COLOURS[outcome.name],
            label=TITLES[outcome.name] if outcome.name not in named else None,
            marker=".",
            linewidth=1.2,
        )
        named.add(outcome.name)
    axes.set_xlabel("epoch")
    axes.set_title(CURVES[measured])
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
