"""How far a model's probabilities are from what comes true: the reliability diagram (Niculescu-Mizil, Caruana 2005)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from distill.evaluation.metrics import expected_calibration_error, reliability, softmax
from distill.reporting.html import Drawn, drawn
from distill.reporting.plots import COLOURS, new_figure
from distill.reporting.results import Outcome
from distill.reporting.tables import TITLES

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def diagrams(outcomes: Sequence[Outcome], gold: NDArray[np.int64]) -> list[Drawn]:
    """A reliability diagram a model; one whose temperature was found on dev is drawn before and after."""
    return [_diagram(outcome, gold) for outcome in outcomes]


def _diagram(outcome: Outcome, gold: NDArray[np.int64]) -> Drawn:
    figure, (axes,) = new_figure(1, 3.6, 3.4)
    axes.plot((0, 1), (0, 1), color="#444444", linestyle=":", linewidth=0.9)
    scaled = outcome.temperature != 1
    errors = [_draw(axes, outcome, 1.0, gold, "before" if scaled else "as it is")]
    errors += [_draw(axes, outcome, outcome.temperature, gold, "after")] if scaled else []
    axes.set_xlabel("probability of the label that it chose")
    axes.set_ylabel("share that is right")
    axes.set_title(TITLES[outcome.name])
    axes.grid(alpha=0.3)
    axes.legend(frameon=False, loc="upper left")
    said = " → ".join(f"{error:.3f}" for error in errors)
    temperature = f", temperature {outcome.temperature:.3f}" if scaled else ", not calibrated"
    return drawn(figure, f"{TITLES[outcome.name]}: ECE {said}{temperature}. A larger point stands for more texts.")


def _draw(axes: Axes, outcome: Outcome, temperature: float, gold: NDArray[np.int64], label: str) -> float:
    """Draw the points of a temperature; returns the calibration error."""
    probabilities = softmax(outcome.logits, temperature)
    points = reliability(probabilities, gold)
    colour, hollow = COLOURS[outcome.name], label == "before"
    axes.plot(points.confidence, points.accuracy, color=colour, linewidth=1.0, linestyle="--" if hollow else "-")
    axes.scatter(
        points.confidence,
        points.accuracy,
        s=12 + 160 * points.texts / points.texts.sum(),
        facecolors="none" if hollow else colour,
        edgecolors=colour,
        label=label,
        zorder=3,
    )
    return expected_calibration_error(probabilities, gold)
