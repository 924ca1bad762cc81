"""What every kind of teacher offers: logits of texts, and a record of what determines them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distill.data import Example
from distill.errors import UserError, listed
from distill.models.inference import best_device
from distill.models.teacher import default_precision
from distill.models.text_classifier import TextClassifier
from distill.progress import log, remind
from distill.text.segmentation import Segmenter
from distill.training.teacher_cache import TeacherFunction

TeacherValue = str | Path | Callable[[list[str]], Any]
MAX_LISTED = 20  # labels in a message
TEACHER_LABELS = "--teacher_labels FILE with a table theirs,ours"


@dataclass(frozen=True)
class LabellingTask:
    """The task of a run, as far as a teacher's answers depend on it.

    Args:
        labels: the classes, in the order of the logits.
        segmenter: for students that teach.
        max_length: word pieces to which a Hugging Face classifier truncates a text.
        dev: labelled texts by which confidence is estimated; empty if the data has no labels.
        is_multi_label: whether a text may have any number of the labels.
    """

    labels: tuple[str, ...]
    segmenter: Segmenter
    max_length: int
    dev: tuple[Example, ...] = ()
    is_multi_label: bool = False


class Teacher(ABC):
    """Something that labels texts.

    Attributes:
        name: for messages, tables and model cards.
        source: identifies it among a run's teachers and names its cache: a path, or another name.
        label_names: the data's names of labels that the teacher calls differently.
        is_cached: whether its logits are kept on disk.
        is_model: whether it is a model that labels any text at no cost but time, and that has hidden vectors: a
            :class:`ModelTeacher`.
    """

    is_cached = True
    is_model = False
    shard_size = 0  # texts per file of the cache, and so the work that a killed run may lose; 0: the usual number

    def __init__(self, source: Path | str, label_names: Mapping[str, str]) -> None:
        self.name = Path(source).name if isinstance(source, Path) else source
        self.source, self.label_names = source, dict(label_names)
        self._said: set[str] = set()

    @property
    def is_multi_label(self) -> bool | None:
        """Whether it gives a text any number of labels; None: it can do both, and the data decide."""
        return None

    @abstractmethod
    def labels(self) -> tuple[str, ...]:
        """The classes that it knows, by the data's names, in its own order; for data without labels.

        Raises:
            UserError: it does not say which.
        """

    @abstractmethod
    def fingerprints(self) -> dict[str, str]:
        """What identifies it: fingerprints of files, names, settings of its own."""

    def record(self, task: LabellingTask) -> dict[str, str]:
        """What determines its answers, whatever machine computes them. Recorded with every student that it teaches."""
        renamed = {"label names": "\t".join(sorted(map("=".join, self.label_names.items())))}
        return {**self.fingerprints(), **(renamed if self.label_names else {})}

    def provenance(self, task: LabellingTask) -> dict[str, str]:
        """Everything that determines its logits, for the cache's manifest."""
        return {**self.record(task), "labels": "\t".join(task.labels)}

    @abstractmethod
    def open(self, task: LabellingTask) -> TeacherFunction:
        """Get ready to label texts: (texts, name of a progress bar) -> logits (texts, classes), float32.

        Raises:
            UserError: it cannot be opened, or lacks a label of the task.
        """

    def answers(self, examples: Sequence[Example], *, is_multi_label: bool = False) -> NDArray[np.bool_]:
        """Which of the texts it can label, shape (texts,); ``is_multi_label`` as in :class:`LabellingTask`."""
        return np.ones(len(examples), np.bool_)

    def say(self, message: str) -> None:
        """Log a line once."""
        if message not in self._said:
            self._said.add(message)
            log.info("%s", message)

    def warn(self, kind: str, message: str) -> None:
        """Log a warning that is repeated at the end; of each kind only the first."""
        if kind not in self._said:
            self._said.add(kind)
            remind(f"{self.name}: {message}")

    def renamed(self, labels: Sequence[str]) -> tuple[str, ...]:
        """Its labels by the data's names; "" for one that is left out."""
        return tuple(self.label_names.get(label, label) for label in labels)

    def classes(self, labels: Sequence[str]) -> tuple[str, ...]:
        """The classes that its labels stand for, by the data's names: each once, without those that are left out."""
        return tuple(dict.fromkeys(label for label in self.renamed(labels) if label))


class ModelTeacher(Teacher):
    """A teacher with weights: it labels any text, has hidden vectors, and can be timed."""

    is_model = True

    @abstractmethod
    def classifier(self, task: LabellingTask) -> TextClassifier:
        """The model, its classes in the order of the task's labels.

        Raises:
            UserError: it cannot be loaded, or lacks a label of the task.
        """

    @abstractmethod
    def size(self) -> int | None:
        """Bytes of the files that are needed to run it; None if they are not in a folder."""

    def open(self, task: LabellingTask) -> TeacherFunction:
        """See Teacher."""
        return self.classifier(task).logits

    def provenance(self, task: LabellingTask) -> dict[str, str]:
        """See Teacher."""
        return {**self.vector_provenance(task), **super().provenance(task)}

    def vector_provenance(self, task: LabellingTask) -> dict[str, str]:
        """Everything that determines its vectors: its files and the precision of the computation."""
        return {**self.fingerprints(), "precision": default_precision(best_device())}


def classes_by_label(theirs: Sequence[str], task: LabellingTask, teacher: Teacher) -> list[list[int]]:
    """For every label of the task the teacher's classes with that name, by number; says which others are dropped.

    Args:
        theirs: the teacher's labels by its own names.
        task: its labels are wanted.
        teacher: for messages.

    Raises:
        UserError: the teacher lacks a label of the task.
    """
    renamed = teacher.renamed(theirs)
    groups = [[number for number, label in enumerate(renamed) if label == ours] for ours in task.labels]
    missing = [label for label, group in zip(task.labels, groups, strict=True) if not group]
    extra = list(dict.fromkeys(own for own, label in zip(theirs, renamed, strict=True) if label not in task.labels))
    if missing:
        what = f"this teacher has no label {listed(missing, MAX_LISTED)}, which the data has"
        found = f"its other labels: {listed(extra, MAX_LISTED) or 'none'}"
        raise UserError(what, teacher.source, TEACHER_LABELS, found)
    if extra:
        dropped = listed(extra, MAX_LISTED)
        teacher.say(f"{teacher.name}: labels that the data does not have: {dropped}; their probability is left out")
    return groups
