"""A teacher or student that this program trained and saved to a folder."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from distill.errors import UserError
from distill.models.text_classifier import TextClassifier, load
from distill.storage.fingerprints import fingerprint_file
from distill.storage.run_folder import (
    STUDENT_CARD,
    STUDENT_WEIGHTS,
    TEACHER_CARD,
    TEACHER_HEAD,
    TRAIN_TEACHER,
    VOCABULARY,
    size_of,
)
from distill.teachers.base import LabellingTask, ModelTeacher, TeacherValue, classes_by_label

CARDS = (TEACHER_CARD, STUDENT_CARD)
FILES = ("model.safetensors", TEACHER_HEAD, TEACHER_CARD, "tokenizer.json", STUDENT_CARD, STUDENT_WEIGHTS, VOCABULARY)


def recognise(value: TeacherValue, label_names: Mapping[str, str]) -> SavedTeacher | None:
    """The teacher in a folder with a card of this program; None for anything else."""
    if not isinstance(value, str | Path) or not any((Path(value) / name).is_file() for name in CARDS):
        return None
    return SavedTeacher(Path(value), label_names)


class SavedTeacher(ModelTeacher):
    """A model in a folder of this program."""

    def __init__(self, folder: Path, label_names: Mapping[str, str] | None = None) -> None:
        super().__init__(folder, label_names or {})
        self.folder = folder

    def labels(self) -> tuple[str, ...]:
        """See Teacher."""
        return self.classes(self._card()["labels"])

    @property
    def is_multi_label(self) -> bool:
        """Whether it gives a text any number of labels."""
        return bool(self._card().get("thresholds"))

    def _card(self) -> dict[str, Any]:
        try:
            path = next(path for name in CARDS if (path := self.folder / name).is_file())
            card: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            return {**card, "labels": list(card["labels"])}
        except (StopIteration, ValueError, KeyError, TypeError) as error:
            raise UserError("there is no trained teacher", self.folder, TRAIN_TEACHER) from error

    def fingerprints(self) -> dict[str, str]:
        """See Teacher: fingerprints of the files that determine the logits, by file name."""
        return {name: fingerprint_file(self.folder / name) for name in FILES if (self.folder / name).exists()}

    def vector_provenance(self, task: LabellingTask) -> dict[str, str]:
        """See ModelTeacher; a student reads words."""
        reads_words = (self.folder / STUDENT_CARD).is_file()
        words = {"segmenter": json.dumps(task.segmenter.identity)} if reads_words else {}
        return {**super().vector_provenance(task), **words}

    def classifier(self, task: LabellingTask) -> TextClassifier:
        """See ModelTeacher; a class that the data lacks is left out, which renormalises the others."""
        classifier = load(self.folder, task.segmenter)
        return classifier.grouped(classes_by_label(classifier.labels, task, self), task.labels)

    def size(self) -> int:
        """See ModelTeacher."""
        return size_of(self.folder)
