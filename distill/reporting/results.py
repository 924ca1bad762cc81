"""What was measured of every model on test, and the table's rows; several seeds of a model make one row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distill.evaluation.metrics import mean_and_sd, scores

TEACHER = "teacher"
ORDER = (TEACHER, "student_alone", "student")


@dataclass(frozen=True)
class Outcome:
    """One trained model on test.

    ``logits`` are (texts, classes); ``ms_per_text`` maps a device ("cpu", "gpu") to milliseconds from raw text to
    label; ``history`` holds the lines of its training log; ``temperature`` was found on dev, 1: none was.
    """

    name: str
    seed: int
    logits: NDArray[np.float32]
    parameters: int
    bytes: int
    ms_per_text: dict[str, float]
    history: Sequence[dict[str, Any]] = field(default=())
    temperature: float = 1.0

    @property
    def predicted(self) -> NDArray[np.int64]:
        """Class numbers, shape (texts,)."""
        return np.asarray(self.logits.argmax(axis=1))


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


def first_seeds(outcomes: Sequence[Outcome]) -> list[Outcome]:
    """One outcome a kind of model, that of the first seed; the teacher first."""
    first = {outcome.name: outcome for outcome in reversed(outcomes)}
    return [first[name] for name in ORDER if name in first]


def rows_of(
    outcomes: Sequence[Outcome], gold: NDArray[np.int64], first_of_text: NDArray[np.bool_], classes: int
) -> list[dict[str, Any]]:
    """One row a kind of model, teacher first; with several seeds each figure is a mean with its ``_sd`` beside it.

    ``kept`` is the share of the teacher's accuracy (of several teachers their mean), ``speedup`` how many times faster
    than the teacher it is; both are None where there is no teacher to compare with.
    """
    figures = {name: [_figures(o, gold, first_of_text, classes) for o in outcomes if o.name == name] for name in ORDER}
    taught = figures[TEACHER]
    teacher = {key: float(np.mean([one[key] for one in taught])) for key in taught[0]} if taught else None
    return [_row(name, own, teacher) for name, own in figures.items() if own]


def _figures(
    outcome: Outcome, gold: NDArray[np.int64], first_of_text: NDArray[np.bool_], classes: int
) -> dict[str, Any]:
    timed = {_timed_name("ms_per_text", device): ms for device, ms in outcome.ms_per_text.items()}
    return {
        **scores(gold, outcome.predicted, first_of_text, classes),
        "parameters": outcome.parameters,
        "bytes": outcome.bytes,
        **timed,
    }


def _timed_name(figure: str, device: str) -> str:
    return figure if device == "cpu" else f"{figure}_{device}"


def _row(name: str, own: list[dict[str, Any]], teacher: dict[str, Any] | None) -> dict[str, Any]:
    for figures in own:
        figures["kept"] = figures["accuracy"] / teacher["accuracy"] if teacher and teacher["accuracy"] else None
        for ms in [key for key in figures if key.startswith("ms_per_text")]:
            figures[ms.replace("ms_per_text", "speedup")] = teacher[ms] / figures[ms] if teacher else None
    row: dict[str, Any] = {"name": name}
    for key in own[0]:
        values = [figures[key] for figures in own]
        if None in values:
            row[key] = None
        elif key in ("parameters", "bytes"):
            row[key] = round(float(np.mean(values)))
        else:
            row[key], sd = mean_and_sd(values)
            row.update({f"{key}_sd": sd} if len(own) > 1 else {})
    row["seeds"] = len(own)
    return row
