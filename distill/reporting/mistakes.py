"""The texts of which a model is most sure, and yet wrong."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from distill.evaluation.metrics import softmax
from distill.reporting.results import Outcome

MOST = 20
LONGEST = 200  # characters of a text that are shown


class Mistake(NamedTuple):
    """A text, its label, what the model says, and what another that is asked says; how sure each is, in per cent."""

    text: str
    label: str
    predicted: str
    sure: str
    asked: str
    asked_sure: str
    asked_is_right: bool


def mistakes(
    model: Outcome, asked: Outcome | None, gold: NDArray[np.int64], texts: Sequence[str], labels: Sequence[str]
) -> list[Mistake]:
    """The ``MOST`` most confident mistakes of a model, the surest first, each text once."""
    says, sure = _said(model)
    other, other_sure = _said(asked or model)
    wrong = np.flatnonzero(says != gold)
    once: dict[str, int] = {}
    for place in wrong[np.argsort(-sure[wrong], kind="stable")].tolist():
        once.setdefault(texts[place], place)
    return [
        Mistake(
            text=texts[place] if len(texts[place]) <= LONGEST else f"{texts[place][:LONGEST]}…",
            label=labels[gold[place]],
            predicted=labels[says[place]],
            sure=_percent(sure[place]),
            asked=labels[other[place]],
            asked_sure=_percent(other_sure[place]),
            asked_is_right=bool(other[place] == gold[place]),
        )
        for place in [*once.values()][:MOST]
    ]


def _said(model: Outcome) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Classes and their probabilities, (texts,) each."""
    return model.predicted, softmax(model.logits, model.temperature).max(axis=1)


def _percent(share: float) -> str:
    return f"{100 * share:.0f}\N{NO-BREAK SPACE}%"
