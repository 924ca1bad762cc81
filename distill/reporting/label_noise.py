"""Texts whose label the teacher doubts, as a table for people who correct labels."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from distill.storage.atomic import write_file

# What a spreadsheet takes for the beginning of a formula, also in full width (OWASP, "CSV Injection").
FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")


class Suspect(NamedTuple):
    """A text whose label and teacher disagree; the probabilities are the teacher's."""

    split: str
    text: str
    label: str
    teacher_label: str
    teacher_probability: float
    label_probability: float


def suspects(
    split: str,
    texts: Sequence[str],
    gold: Sequence[int] | NDArray[np.int64],
    probabilities: NDArray[np.floating],
    labels: Sequence[str],
    *,
    least: float = 0.8,
) -> list[Suspect]:
    """Texts whose label is not the teacher's class, where the teacher gives its class ``least`` or more.

    ``gold`` (texts,) class numbers, ``probabilities`` (texts, classes) of the teacher. The most confident come first,
    equally confident ones in their order.
    """
    places = np.asarray(gold, dtype=np.int64)
    taught, sure = probabilities.argmax(axis=1), probabilities.max(axis=1)
    chosen = np.flatnonzero((taught != places) & (sure >= least))
    return [
        Suspect(
            split, texts[i], labels[places[i]], labels[taught[i]], float(sure[i]), float(probabilities[i, places[i]])
        )
        for i in chosen[np.argsort(-sure[chosen], kind="stable")]
    ]


def label_noise(path: Path, rows: Iterable[Suspect]) -> Path:
    """Write ``rows`` as CSV in UTF-8 with a mark at its beginning, without which Excel garbles Chinese."""
    table = io.StringIO(newline="")
    writer = csv.writer(table)
    writer.writerow(Suspect._fields)
    for row in rows:
        writer.writerow([_harmless(cell) if isinstance(cell, str) else f"{cell:.4f}" for cell in row])
    # a lone half of a surrogate pair, which JSON files may hold, has no UTF-8
    return write_file(path, table.getvalue().encode("utf-8-sig", "replace"))


def _harmless(cell: str) -> str:
    """The cell with an apostrophe before what a spreadsheet would calculate."""
    return f"'{cell}" if cell.startswith(FORMULA) else cell
