"""Folders of trained models: writing them, and reading their logs and sizes."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from distill.commands.experiment import Run
from distill.commands.label_sets import given_labels
from distill.errors import listed
from distill.export import model_card
from distill.export.model_card import Card
from distill.progress import log, model_reminders, remind
from distill.storage.atomic import write_folder, write_json
from distill.storage.fingerprints import FILES, PROVENANCE_FILE, fingerprint_file
from distill.storage.run_folder import LOG, MODEL_CARD, WARNINGS, size_of
from distill.training import defaults, distributed
from distill.training.trainer import Evaluation, write_log


def save_model(
    name: str,
    folder: Path,
    save: Callable[[Path], None],
    evaluations: Sequence[Evaluation],
    provenance: dict[str, Any],
    *,
    dev_accuracy: float,
    card: Card,
) -> None:
    """Write a model's folder atomically: the files that ``save`` writes, its log, warnings, card and provenance.

    The provenance includes the files' fingerprints, which reveal a damaged model.

    In a launch of several processes all hold the same model: the first writes it, and the others wait.
    """
    if distributed.rank() == 0:
        with write_folder(folder) as temporary:
            save(temporary)
            write_log(temporary / LOG, evaluations)
            if model_reminders:
                write_json(temporary / WARNINGS, list(model_reminders))
            model_card.write(temporary, dataclasses.replace(card, dev_accuracy=dev_accuracy), size_of(temporary))
            files = {path.name: fingerprint_file(path) for path in temporary.iterdir() if path.name != MODEL_CARD}
            write_json(temporary / PROVENANCE_FILE, {**provenance, FILES: files})
    distributed.barrier()
    log.info("%s: dev %s %.4f", name, card.measured, dev_accuracy)


def remind_of_single_class(run: Run, name: str, kind: str, logits: Tensor, thresholds: Sequence[float] = ()) -> None:
    """Warn about a model that gives all dev texts the same label, or label set, although their labels differ.

    The warning is repeated when the command ends.

    Args:
        run: the run.
        name: of the model, for the warning.
        kind: "teacher" or "student".
        logits: of the dev texts, shape (texts, classes).
        thresholds: in multi-label data, of the model's classes.
    """
    gold, predicted = run.labels_of(run.data.dev).numpy(), logits.argmax(1).numpy()
    if thresholds:
        predicted = given_labels(logits, thresholds)
    if len(np.unique(predicted, axis=0)) > 1 or len(np.unique(gold, axis=0)) < 2:
        return
    share = 100 * (gold == predicted).reshape(len(gold), -1).all(1).mean()
    classes = np.flatnonzero(predicted[0]).tolist() if thresholds else [int(predicted[0])]
    only = f"{'labels' if thresholds else 'class'} {listed([run.data.labels[index] for index in classes]) or 'none'}"
    start = {"teacher": "weights (--teacher_model)"}.get(kind, "word vectors (--vectors)")
    remind(
        f"{name} predicts the {only} for 100 % of the {len(predicted)} dev texts, but "
        f"{share:.0f} % of them have this label: it does not tell the classes apart. Train it "
        f"longer (--{kind}_epochs), change the learning rate (--{kind}_lr), or start from other {start}."
    )


def saved_accuracy(run: Run, accuracies: Sequence[float]) -> float:
    """The dev accuracy of the weights that were saved, given those of all evaluations."""
    return accuracies[-1] if defaults.keeps_last_weights(run.data) else max(accuracies)


def train_seconds(folder: Path) -> float:
    """Duration of a model's training, evaluations included."""
    return float(history(folder)[-1]["seconds"])


def history(folder: Path) -> list[dict[str, Any]]:
    """The evaluations in a trained model's log."""
    return [json.loads(line) for line in (folder / LOG).read_text(encoding="utf-8").splitlines()]


def training_warnings(folder: Path) -> list[str]:
    """The warnings of a model's training."""
    path = folder / WARNINGS
    return [str(warning) for warning in json.loads(path.read_text(encoding="utf-8"))] if path.is_file() else []
