"""Texts whose label the teacher contradicts, as a CSV file for people who correct labels."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from distill.data.formats.tables import without_formula
from distill.runtime.label_sets import SEPARATOR, names_of
from distill.storage.atomic import write_file


class ContradictedLabel(NamedTuple):
    """A text whose label differs from the teacher's prediction, with the teacher's probabilities of both."""

    split: str
    text: str
    label: str
    teacher_label: str
    teacher_probability: float
    label_probability: float


def contradicted_labels(
    split: str,
    texts: Sequence[str],
    gold: Sequence[int] | NDArray[np.int64],
    probabilities: NDArray[np.floating],
    labels: Sequence[str],
    *,
    min_probability: float = 0.8,
) -> list[ContradictedLabel]:
    """Texts for which the teacher predicts another class than the label, with probability ``min_probability`` or more.

    ``gold`` are class numbers (texts,), ``probabilities`` the teacher's (texts, classes). The most confident come
    first; equally confident ones stay in their order.
    """
    classes = np.asarray(gold, dtype=np.int64)
    predicted, confidence = probabilities.argmax(axis=1), probabilities.max(axis=1)
    chosen = np.flatnonzero((predicted != classes) & (confidence >= min_probability))
    return [
        ContradictedLabel(
            split=split,
            text=texts[i],
            label=labels[classes[i]],
            teacher_label=labels[predicted[i]],
            teacher_probability=float(confidence[i]),
            label_probability=float(probabilities[i, classes[i]]),
        )
        for i in chosen[np.argsort(-confidence[chosen], kind="stable")]
    ]


def contradicted_sets(
    split: str,
    texts: Sequence[str],
    gold: NDArray[np.bool_],
    probabilities: NDArray[np.floating],
    labels: Sequence[str],
    *,
    min_probability: float = 0.8,
) -> list[ContradictedLabel]:
    """:func:`contradicted_labels` where a text may have several labels: a label that the text has or lacks is doubted.

    ``gold`` and ``probabilities`` are (texts, classes). Of a text's labels, the one that the teacher is surest to be
    wrong decides; ``teacher_label`` is the whole set that the teacher finds likelier than not.
    """
    predicted = probabilities > 0.5
    confidence = np.where(predicted != gold, np.maximum(probabilities, 1 - probabilities), 0).max(axis=1)
    chosen = np.flatnonzero(confidence >= min_probability)
    given, expected = names_of(gold[chosen], labels), names_of(predicted[chosen], labels)
    rows = [
        ContradictedLabel(
            split, texts[i], SEPARATOR.join(own), SEPARATOR.join(theirs), float(confidence[i]), 1 - float(confidence[i])
        )
        for i, own, theirs in zip(chosen.tolist(), given, expected, strict=True)
    ]
    return sorted(rows, key=lambda row: -row.teacher_probability)


def write_label_noise(path: Path, rows: Iterable[ContradictedLabel]) -> Path:
    """Write ``rows`` as CSV in UTF-8 with a byte order mark, without which Excel garbles Chinese."""
    table = io.StringIO(newline="")
    writer = csv.writer(table)
    writer.writerow(ContradictedLabel._fields)
    for row in rows:
        writer.writerow([without_formula(cell) if isinstance(cell, str) else f"{cell:.4f}" for cell in row])
    # UTF-8 has no lone surrogates, which JSON files may hold
    return write_file(path, table.getvalue().encode("utf-8-sig", "replace"))
