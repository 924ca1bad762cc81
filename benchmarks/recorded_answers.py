"""What a teacher answers, recorded as a label and a confidence, in a file for ``--teacher``."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path

from distill import load_teacher

Answer = tuple[str, str, float]  # text, label, confidence


def answers_of(teacher: Path, texts: Sequence[str]) -> list[Answer]:
    """What the teacher in a folder says of the texts."""
    classifier = load_teacher(teacher)
    rows = zip(texts, classifier.predict_proba(texts), strict=True)
    return [(text, classifier.labels[int(row.argmax())], float(row.max())) for text, row in rows]


def write_answers(path: Path, answers: Iterable[Answer]) -> Path:
    """Write the file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file)
        table.writerow(["text", "label", "confidence"])
        table.writerows((text, label, f"{sure:.4f}") for text, label, sure in answers)
    return path
