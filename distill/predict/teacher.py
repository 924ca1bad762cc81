"""The optional teacher of /explain. It loads in its own thread after the service has started: PyTorch takes seconds."""

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
from distill.errors import UserError, install_hint
from distill.storage.run_folder import TEACHER_CARD, TRAIN_TEACHER, RunFolder

if TYPE_CHECKING:
    from distill.models.text_classifier import TextClassifier


class LazyTeacher:
    """A teacher that is loaded from its folder when it is first used."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @functools.cached_property
    def _classifier(self) -> TextClassifier:
        from distill.models.text_classifier import load_teacher

        return load_teacher(self.folder)

    @property
    def labels(self) -> tuple[str, ...]:
        """The names of the classes."""
        return self._classifier.labels

    def predict_proba(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Calibrated probabilities, shape (texts, classes), in the order of ``labels``."""
        return self._classifier.predict_proba(texts)


def find_teacher(settings: Settings, labels: Sequence[str]) -> LazyTeacher | None:
    """The run's teacher, if ``--with_teacher`` allows it and it can be used.

    Args:
        settings: of the command.
        labels: the student's labels, which the teacher must share; the teacher of another run may have others.

    Raises:
        UserError: with ``--with_teacher yes``, the teacher cannot be used.
    """
    folder = RunFolder.from_settings(settings).model("teacher")
    if settings.serve.with_teacher == "no":
        return None
    problem = _problem(folder, labels)
    if problem and settings.serve.with_teacher == "yes":
        raise UserError(problem[0], folder, problem[1])
    return None if problem else LazyTeacher(folder)


def _problem(folder: Path, labels: Sequence[str]) -> tuple[str, str] | None:
    """Why the teacher cannot be used, and what to do about it; None if it can."""
    try:
        card = json.loads((folder / TEACHER_CARD).read_text(encoding="utf-8"))
        teacher_labels = set(card["labels"])
    except (OSError, ValueError, KeyError, TypeError):
        return "there is no trained teacher", f"{TRAIN_TEACHER}, or --run FOLDER"
    if teacher_labels != set(labels):
        return "this teacher has other labels than the student", "--run FOLDER of the student's own run"
    if importlib.util.find_spec("torch") is None:
        return "the teacher needs PyTorch", f"{install_hint('train')}, or --with_teacher no"
    return None
