"""The comparison: objectives and students side by side, each over several seeds, as one table in three forms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distill.evaluation import metrics
from distill.reporting import compare_page, compare_plot, compare_tables
from distill.reporting.tables import data_sentence
from distill.storage.atomic import write_file, write_json

__all__ = ["COMPARISON", "Comparison", "Contestant", "rows_of", "write"]

COMPARISON = "compare.json"


@dataclass(frozen=True)
class Contestant:
    """One combination of objective, student and transfer set, trained with several seeds and asked on test.

    Args:
        name: as shown; no two contestants share one.
        objective: "logits", "soft", "labels" (the student alone) and so on; "floor"; "teacher".
        student: "bilstm", "average" and so on; "LinearSVC"; "teacher".
        transfer: what it learnt from: "train", "train + unlabelled".
        teachers: how many taught it.
        predicted: class numbers (seeds, texts).
        logits_calibration: expected calibration error on test, mean over the seeds, before and after temperature
            scaling (None where it is not scaled); None for a model without probabilities.
        train_seconds: of one seed, mean.
        train_texts: texts that one seed was trained on.
        ms_per_text: milliseconds from raw text to label.
        parameters: trained numbers in it.
        against: name of the contestant that its gain is measured from; "" for none.
        teacher: name of the contestant whose accuracy it may keep; "" for none.
    """

    name: str
    objective: str
    student: str
    transfer: str
    teachers: int
    predicted: NDArray[np.int64]
    logits_calibration: tuple[float, float | None] | None
    train_seconds: float
    train_texts: int
    ms_per_text: float
    parameters: int
    against: str = ""
    teacher: str = ""


@dataclass(frozen=True)
class Comparison:
    """Everything a comparison says.

    ``gold`` (texts,) are the test labels, ``first_of_text`` (texts,) marks one row of every distinct text;
    ``left_out`` holds rows of a table of its own (the experiment with a class that the students saw no label of).
    """

    gold: NDArray[np.int64]
    first_of_text: NDArray[np.bool_]
    labels: tuple[str, ...]
    contestants: Sequence[Contestant]
    data: dict[str, int]
    settings: dict[str, Any]
    timing: str
    left_out: Sequence[Mapping[str, Any]] = field(default=())

    def __post_init__(self) -> None:
        names = [contestant.name for contestant in self.contestants]
        if len(set(names)) < len(names):
            raise ValueError(f"two contestants have one name: {sorted(names)}")
        for contestant in self.contestants:
            if unknown := {contestant.against, contestant.teacher} - {"", *names}:
                raise ValueError(f"{contestant.name!r} is compared with {unknown}, which is not there: {names}")
            if contestant.predicted.ndim != 2 or contestant.predicted.shape[1] != len(self.gold):
                raise ValueError(
                    f"{contestant.name!r}: want (seeds, {len(self.gold)}), not {contestant.predicted.shape}"
                )


def rows_of(comparison: Comparison) -> list[dict[str, Any]]:
    """One row a contestant in the order given; what cannot be said of it is None.

    Accuracies, ``kept`` and the gains are shares, not per cent. ``accuracy_sd`` is the sample standard deviation over
    the seeds, 0 for one.
    """
    known = {contestant.name: contestant for contestant in comparison.contestants}
    return [_row(contestant, known, comparison) for contestant in comparison.contestants]


def _row(contestant: Contestant, known: Mapping[str, Contestant], comparison: Comparison) -> dict[str, Any]:
    before, after = contestant.logits_calibration or (None, None)
    return {
        "name": contestant.name,
        "objective": contestant.objective,
        "student": contestant.student,
        "transfer": contestant.transfer,
        "teachers": contestant.teachers,
        "seeds": len(contestant.predicted),
        **_scores(contestant, comparison),
        "kept": _kept(contestant, known.get(contestant.teacher), comparison.gold),
        **_gain(contestant, known.get(contestant.against), comparison.gold),
        "against": contestant.against,
        "ece": before,
        "ece_calibrated": after,
        "train_seconds": contestant.train_seconds,
        "train_texts": contestant.train_texts,
        "ms_per_text": contestant.ms_per_text,
        "parameters": contestant.parameters,
    }


def _scores(contestant: Contestant, comparison: Comparison) -> dict[str, float]:
    classes = len(comparison.labels)
    each = [metrics.scores(comparison.gold, one, comparison.first_of_text, classes) for one in contestant.predicted]
    accuracy, sd = metrics.mean_and_sd([figures["accuracy"] for figures in each])
    others = {key: float(np.mean([figures[key] for figures in each])) for key in ("accuracy_distinct", "macro_f1")}
    return {"accuracy": accuracy, "accuracy_sd": sd, **others}


def _kept(contestant: Contestant, teacher: Contestant | None, gold: NDArray[np.int64]) -> float | None:
    """Its mean accuracy as a share of its teacher's."""
    reached = float((teacher.predicted == gold).mean()) if teacher else 0.0
    return float((contestant.predicted == gold).mean()) / reached if reached else None


def _gain(contestant: Contestant, against: Contestant | None, gold: NDArray[np.int64]) -> dict[str, float | None]:
    """How much more often it is right than ``against``, with interval and p-value."""
    if against is None:
        return dict.fromkeys(("gain", "gain_low", "gain_high", "p_value"))
    right, other = contestant.predicted == gold, against.predicted == gold
    low, high = metrics.bootstrap_interval(right, other)
    gain = float(right.mean() - other.mean())
    return {"gain": gain, "gain_low": low, "gain_high": high, "p_value": metrics.mcnemar(right, other)}


def write(comparison: Comparison, folder: Path) -> tuple[str, list[Path]]:
    """Write compare.json, .md, .html and .png; returns the comparison for a terminal and the files."""
    rows, left_out = rows_of(comparison), [dict(row) for row in comparison.left_out]
    content = {
        "rows": rows,
        "left_out": left_out,
        "data": comparison.data,
        "settings": comparison.settings,
        "timing": comparison.timing,
    }
    notes = [data_sentence(comparison.data), comparison.timing]
    files = [
        write_json(folder / COMPARISON, content),
        write_file(folder / "compare.md", compare_tables.markdown(rows, left_out, notes)),
        compare_page.write(content, folder / "compare.html"),
        compare_plot.draw(rows, folder / "compare.png"),
    ]
    return compare_tables.terminal(rows, left_out, notes), files
