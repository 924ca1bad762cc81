"""Figures as PNG files and as SVG within a page: confusions, training curves, reliability diagrams, thresholds."""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from html import escape, unescape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from distill.data.examples import ACCURACY
from distill.evaluation.metrics import confusion, expected_calibration_error, reliability
from distill.evaluation.multi_label import NEVER, class_f1, micro_f1
from distill.progress import log
from distill.reporting.mistakes import shown_labels
from distill.reporting.results import TITLES, Outcome, first_seeds
from distill.storage.atomic import write_file
from distill.translation import Text

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
CURVES = {"dev_accuracy": "dev accuracy", "dev_loss": "dev cross-entropy"}  # keys of a training log
TRIED_THRESHOLDS = np.linspace(0.02, 0.98, 49)
COLOURS = {"teacher": "#444444", "student_alone": "#d1803a", "student": "#2a6fb0"}


@contextlib.contextmanager
def new_figure(panels: int, width: float, height: float) -> Iterator[tuple[Figure, list[Axes]]]:
    """A figure of ``panels`` panels side by side, each ``width`` by ``height`` inches, to be drawn and saved inside.

    matplotlib reads fonts while it draws, so its settings change for the whole block; then the caller's are restored.
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    # parse_math: a label with two dollar signs is not a formula
    with rc_context({"font.sans-serif": [*CJK_FONTS, "DejaVu Sans"], "text.parse_math": False}):
        figure = Figure(figsize=(width * panels, height), layout="constrained")
        yield figure, [figure.add_subplot(1, panels, index + 1) for index in range(panels)]


def save(figure: Figure, path: Path) -> Path:
    """Write the figure as PNG, atomically."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=120, bbox_inches="tight")
    return write_file(path, buffer.getvalue())


def svg(figure: Figure) -> str:
    """The figure as an ``svg`` element for a page.

    The browser draws its texts, and black and grey take the page's colour. The element depends on the figure alone and
    has no ids that could clash with another figure's.
    """
    from matplotlib import rc_context

    buffer = io.StringIO()
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "distill"}):
        figure.savefig(buffer, format="svg", transparent=True)
    element = buffer.getvalue()[buffer.getvalue().index("<svg") :]
    element = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>", "", element, flags=re.DOTALL)
    element = re.sub(r"#000000|#444444", "currentColor", re.sub(r'<g id="[^"]*"', "<g", element))
    return re.sub(r"<text ([^>]*)>([^<]*)</text>", _in_both_languages, element)


def _in_both_languages(text: re.Match[str]) -> str:
    """A ``text`` element; if its text has a translation, one element per language."""
    attributes, english = text.groups()
    chinese = escape(Text(unescape(english)).chinese)
    if chinese == english:
        return text[0]
    return "".join(
        f'<text class="{language}" lang="{language}" {attributes}>{shown}</text>'
        for language, shown in (("en", english), ("zh", chinese))
    )


def drawable(labels: Sequence[str]) -> list[str]:
    """The labels, or their numbers where no font on this machine has their characters."""
    if all(label.isascii() for label in labels) or _has_cjk_font():
        return list(labels)
    log.info("plots: no font for Chinese labels is installed, so their numbers are drawn (on Debian: fonts-noto-cjk)")
    return [str(number) for number in range(len(labels))]


def _has_cjk_font() -> bool:
    """Whether one of ``CJK_FONTS`` is installed; matplotlib learns of those newer than its own font list."""
    from matplotlib import font_manager

    listed = {font.fname for font in font_manager.fontManager.ttflist}
    names = {name.replace(" ", "").removesuffix("SC").removesuffix("JP").lower() for name in CJK_FONTS}
    for path in font_manager.findSystemFonts():
        if path not in listed and any(name in Path(path).stem.replace("-", "").lower() for name in names):
            font_manager.fontManager.addfont(path)
    return bool({font.name for font in font_manager.fontManager.ttflist}.intersection(CJK_FONTS))


def draw_confusions(outcomes: Sequence[Outcome], gold: NDArray[Any], labels: Sequence[str], path: Path) -> Path:
    """One confusion matrix per kind of model (its first seed): rows are labels, columns predictions.

    In multi-label data it is the F1 of every label: there, a label is missing or extra, and takes no other's place. If
    there are very many labels, only those with the most mistakes are drawn, as on the page: every cell is a text, and
    drawing texts is slow.
    """
    models = first_seeds(outcomes)
    indices = shown_labels(models, gold, len(labels))
    all_names = drawable(labels)
    names = [all_names[index] for index in indices]
    subset = f", {len(indices)} of {len(labels)} labels" if len(indices) < len(labels) else ""
    if gold.ndim == 2:
        with new_figure(1, 6.4, 0.26 * len(names) + 1.4) as (figure, (axes,)):
            _draw_label_f1(axes, {one.name: class_f1(gold, one.predicted)[indices] for one in models}, names)
            axes.set_title("F1 by label" + subset)
            return save(figure, path)
    side = max(3.2, 0.45 * len(names) + 1.6)
    with new_figure(len(models), side, side) as (figure, panels):
        for axes, outcome in zip(panels, models, strict=True):
            counts = confusion(gold, outcome.predicted, len(labels))[np.ix_(indices, indices)]
            _draw_confusion(axes, counts, names)
            axes.set_title(outcome.title + subset)
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
        text.set_in_layout(False)  # it lies within the axes, and the layout of hundreds of texts takes seconds


def _draw_label_f1(axes: Axes, f1: Mapping[str, NDArray[np.float64]], names: Sequence[str]) -> None:
    rows = range(len(names))
    for name, values in f1.items():
        axes.plot(values, rows, "o", color=COLOURS[name], label=TITLES[name], alpha=0.8)
    axes.set_yticks(rows, names)
    axes.invert_yaxis()
    axes.set_xlim(-0.03, 1.03)
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)


def curve_title(key: str, measured: str) -> str:
    """The title of one of ``CURVES``; ``measured`` is "accuracy", "agreement" or "micro-F1"."""
    return CURVES[key].replace(ACCURACY, measured)


def draw_curves(outcomes: Sequence[Outcome], path: Path, measured: str = ACCURACY) -> Path:
    """Dev accuracy and dev loss over the epochs, one line per trained model."""
    with new_figure(2, 5.0, 3.6) as (figure, panels):
        for axes, key in zip(panels, CURVES, strict=True):
            draw_curve(axes, outcomes, key, measured)
        return save(figure, path)


def draw_curve(axes: Axes, outcomes: Sequence[Outcome], key: str, measured: str = ACCURACY) -> None:
    """One of ``CURVES`` over the epochs, one line per trained model."""
    titled: set[str] = set()
    for outcome in (one for one in outcomes if one.history):
        axes.plot(
            [line["epoch"] for line in outcome.history],
            [line[key] for line in outcome.history],
            color=COLOURS[outcome.name],
            label=outcome.title if outcome.name not in titled else None,
            marker=".",
            linewidth=1.2,
        )
        titled.add(outcome.name)
    axes.set_xlabel("epoch")
    axes.set_title(curve_title(key, measured))
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)


def draw_reliability(axes: Axes, outcome: Outcome, gold: NDArray[Any]) -> list[float]:
    """The reliability diagram of a model (Niculescu-Mizil and Caruana 2005), before and after calibration.

    In multi-label data it is that of all texts and labels. Returns the expected calibration error before and, if the
    model has a temperature, after.
    """
    has_temperature = outcome.temperature != 1
    only = "calibrated" if outcome.is_calibrated else "uncalibrated"
    axes.plot((0, 1), (0, 1), color="#444444", linestyle=":", linewidth=0.9)
    errors = [_draw_bins(axes, outcome, 1.0, gold, "before" if has_temperature else only)]
    if has_temperature:
        errors.append(_draw_bins(axes, outcome, outcome.temperature, gold, "after"))
    axes.set_xlabel("probability of a label" if gold.ndim == 2 else "probability of the predicted label")
    axes.set_ylabel("share of the texts that have it" if gold.ndim == 2 else "accuracy")
    axes.set_title(outcome.title)
    axes.grid(alpha=0.3)
    axes.legend(frameon=False, loc="upper left")
    return errors


def _draw_bins(axes: Axes, outcome: Outcome, temperature: float, gold: NDArray[Any], label: str) -> float:
    """Draw the bins of confidence at a temperature; returns the expected calibration error."""
    probabilities = outcome.probabilities(temperature)
    bins = reliability(probabilities, gold)
    colour, is_before = COLOURS[outcome.name], label == "before"
    axes.plot(bins.confidence, bins.accuracy, color=colour, linewidth=1.0, linestyle="--" if is_before else "-")
    axes.scatter(
        bins.confidence,
        bins.accuracy,
        s=12 + 160 * bins.texts / bins.texts.sum(),
        facecolors="none" if is_before else colour,
        edgecolors=colour,
        label=label,
        zorder=3,
    )
    return expected_calibration_error(probabilities, gold)


def draw_thresholds(axes: Axes, outcomes: Sequence[Outcome], gold: NDArray[np.bool_]) -> None:
    """Micro-F1 over a threshold that all labels share; on a line at what the model reaches, its own thresholds."""
    for model in first_seeds(outcomes):
        probabilities, colour = model.probabilities(), COLOURS[model.name]
        values = [micro_f1(gold, probabilities > threshold) for threshold in TRIED_THRESHOLDS]
        axes.plot(TRIED_THRESHOLDS, values, color=colour, linewidth=1.2, label=model.title)
        reached = micro_f1(gold, model.predicted)
        own = [threshold for threshold in model.thresholds if threshold < NEVER]
        axes.axhline(reached, color=colour, linestyle=":", linewidth=0.9)
        axes.plot(own, [reached] * len(own), "|", color=colour, markersize=9)
    axes.set_xlabel("threshold of all labels")
    axes.set_ylabel("micro-F1 on test")
    axes.set_xlim(0, 1)
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
