"""Folders of trained models: writing them, and reading their logs and sizes."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from distill.commands.experiment import Run
from distill.export import model_card
from distill.export.model_card import Card
from distill.progress import log
from distill.storage.atomic import write_folder, write_json
from distill.storage.fingerprints import PROVENANCE_FILE
from distill.training import defaults, distributed
from distill.training.trainer import Evaluation, write_log

LOG = "log.jsonl"  # the evaluations of a model's training, in its folder


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
    """Write a trained model's folder atomically: the files that ``save`` writes, its log, card and provenance.

    In a launch of several processes all hold the same model: the first writes it, and the others wait.
    """
    if distributed.rank() == 0:
        with write_folder(folder) as temporary:
            save(temporary)
            write_log(temporary / LOG, evaluations)
            write_json(temporary / PROVENANCE_FILE, provenance)
            model_card.write(temporary, dataclasses.replace(card, dev_accuracy=dev_accuracy), size_of(temporary))
    distributed.barrier()
    log.info("%s: dev accuracy %.4f", name, dev_accuracy)


def saved_accuracy(run: Run, accuracies: Sequence[float]) -> float:
    """The dev accuracy of the weights that were saved, given those of all evaluations."""
    return accuracies[-1] if defaults.keeps_last_weights(run.data) else max(accuracies)


def train_seconds(folder: Path) -> float:
    """Duration of a model's training, evaluations included."""
    return float(history(folder)[-1]["seconds"])


def history(folder: Path) -> list[dict[str, Any]]:
    """The evaluations in a trained model's log."""
    return [json.loads(line) for line in (folder / LOG).read_text(encoding="utf-8").splitlines()]


def size_of(folder: Path) -> int:
    """Bytes of the files that are needed to run a model."""
    not_needed = (LOG, PROVENANCE_FILE, model_card.FILE)
    return sum(path.stat().st_size for path in folder.iterdir() if path.name not in not_needed)
