"""The teacher beside the student: read when it is first asked, in a thread of its own, as PyTorch takes seconds."""

from __future__ import annotations

import functools
import importlib.util
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from distill.config import Settings
from distill.errors import UserError
from distill.storage.run_folder import TEACHER_CARD, TRAIN_TEACHER, RunFolder

if TYPE_CHECKING:
    from distill.models.text_classifier import TextClassifier


class LazyTeacher:
    """A teacher from its folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @functools.cached_property
    def _classifier(self) -> TextClassifier:
        from distill.models.text_classifier import load_teacher

        return load_teacher(self.folder)

    @property
    def labels(self) -> tuple[str, ...]:
        """The names of its classes."""
        return self._classifier.labels

    def predict_proba(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Calibrated probabilities, shape (texts, classes)."""
        return self._classifier.predict_proba(texts)


def find_teacher(settings: Settings, labels: Sequence[str]) -> LazyTeacher | None:
    """The run's teacher, as ``--with_teacher`` asks for it.

    Args:
        settings: of the command.
        labels: the student's; the teacher of another run would have others.

    Raises:
        UserError: it is asked for and cannot answer.
    """
    folder = RunFolder.from_settings(settings).model("teacher")
    if settings.serve.with_teacher == "no":
        return None
    lack = _lack(folder, labels)
    if lack and settings.serve.with_teacher == "yes":
        raise UserError(lack[0], folder, lack[1])
    return None if lack else LazyTeacher(folder)


def _lack(folder: Path, labels: Sequence[str]) -> tuple[str, str] | None:
    """Why the teacher cannot answer, and what to do; None when it can."""
    try:
        card = json.loads((folder / TEACHER_CARD).read_text(encoding="utf-8"))
        known = set(card["labels"])
    except (OSError, ValueError, KeyError, TypeError):
        return "there is no trained teacher", f"{TRAIN_TEACHER}, or --run FOLDER"
    if known != set(labels):
        return "this teacher has other labels than the student", "--run FOLDER of the student's own run"
    if importlib.util.find_spec("torch") is None:
        return "the teacher needs PyTorch", "pip install -r requirements.txt, or --with_teacher no"
    return None
