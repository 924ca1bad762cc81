"""Model cards, filled with what a run knows about its models."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path

from distill.commands.experiment import DISTILLED, TEACHER, Run
from distill.commands.student_spec import StudentSpec
from distill.data.examples import ACCURACY, MICRO_F1
from distill.errors import UserError
from distill.export import model_card
from distill.export.model_card import Card
from distill.runtime.bundle import BUNDLE_CARD
from distill.storage.run_folder import STUDENT_CARD, TEACHER_CARD, size_of
from distill.teachers import Teacher
from distill.teachers.saved import SavedTeacher

BUNDLE, LINEAR = "bundle", "LinearSVC"
CELL_NAMES = {"mingru": "minGRU"}  # the others are written in capitals


def teacher_card(run: Run, texts: int, unlabelled: int = 0) -> Card:
    """The card of a teacher that was trained on ``texts`` texts, ``unlabelled`` of which other teachers labelled."""
    return Card(
        kind=TEACHER,
        network=Path(run.pretrained.source).name,
        labels=run.data.labels,
        data=run.data_name,
        texts={"train": texts - unlabelled, "without labels": unlabelled, "dev": len(run.data.dev)},
        objective="labels",
        measured=run.data.measured,
    )


def student_card(run: Run, spec: StudentSpec) -> Card:
    """The card of a student."""
    unlabelled, general = len(spec.unlabelled_and_augmented), len(spec.general)
    train = len(spec.texts(run)) - unlabelled - general
    return Card(
        kind=DISTILLED,
        network=spec.student.architecture,
        labels=run.data.labels,
        data=run.data_name,
        texts={"train": train, "without labels": unlabelled, "general": general, "dev": len(run.data.dev)},
        objective="+".join(f"{term}:{weight:g}" for term, weight in spec.objective.weights.items() if weight),
        taught_by=(*map(_network, spec.teachers), *[LINEAR] * bool(spec.linear_weight)),
        measured=run.data.measured,
        cell=_cell_of(spec.student.architecture, spec.student.cell),
    )


def joint_card(run: Run, common: StudentSpec, tasks: Mapping[str, StudentSpec]) -> Card:
    """The card of a student of several tasks: ``common`` has its network and texts, ``tasks`` what taught each head."""
    cards = {name: student_card(run, spec) for name, spec in tasks.items()}
    objectives = {name: card.objective for name, card in cards.items()}
    objective, *others = dict.fromkeys(objectives.values())
    if others:
        objective = ", ".join(f"{name}: {of_task}" for name, of_task in objectives.items())
    taught_by = dict.fromkeys(teacher for card in cards.values() for teacher in card.taught_by)
    return dataclasses.replace(student_card(run, common), objective=objective, taught_by=tuple(taught_by))


def _cell_of(architecture: str, cell: str) -> str:
    """The name of a recurrent student's cell; empty for an LSTM and for networks without cells."""
    return CELL_NAMES.get(cell, cell.upper()) if architecture == "bilstm" and cell != "lstm" else ""


def _network(teacher: Teacher) -> str:
    """What a teacher is, in a word: the network of one that this program trained, the name of another."""
    return card_of(teacher.folder).network if isinstance(teacher, SavedTeacher) else teacher.name


def card_of(folder: Path) -> Card:
    """The card in a model's folder; without one (an older model, or a deleted card) a card made from its other files.

    Raises:
        UserError: the folder holds no trained model.
    """
    return model_card.read(folder) or _minimal_card(folder)


def _minimal_card(folder: Path) -> Card:
    for kind, name in ((TEACHER, TEACHER_CARD), (DISTILLED, STUDENT_CARD), (BUNDLE, BUNDLE_CARD)):
        if (folder / name).is_file():
            content = json.loads((folder / name).read_text(encoding="utf-8"))
            measured = MICRO_F1 if "thresholds" in content else ACCURACY
            labels, tasks = tuple(content["labels"]), tuple(content.get("tasks", ()))
            network = content.get("network", content).get("architecture", "encoder")
            return Card(kind, network, labels, measured=measured, tasks=tasks)
    raise UserError("there is no trained model", folder, "python distill.py")


def add_results(run: Run, folder: Path, test: dict[str, float]) -> Path:
    """Add a model's results on the run's test texts to its card."""
    card = dataclasses.replace(card_of(folder), data=run.data_name, test=test)
    return model_card.write(folder, card, size_of(folder))


def add_results_of_tasks(folder: Path, heads: Mapping[str, Path]) -> Path:
    """Add to the card of a model of several tasks the results of its heads; ``heads`` are their folders by task."""
    test = {}
    for name, path in heads.items():
        card = card_of(path)
        if card.test:
            test[f"{name}, {card.measured}"] = card.test["micro_f1" if card.is_multi_label else "accuracy"]
    return model_card.write(folder, dataclasses.replace(card_of(folder), test=test), size_of(folder))


def bundle_card(student: Path, bundle: Path, reduced: Mapping[str, float]) -> Path:
    """Write the card of a student's bundle into the bundle's folder; for ``reduced`` see :class:`Card`."""
    card = dataclasses.replace(card_of(student), kind=BUNDLE, reduced=reduced)
    return model_card.write(bundle, card, size_of(bundle))
