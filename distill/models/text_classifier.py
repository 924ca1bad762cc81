"""A trained teacher or student behind one interface: raw texts in, labels and probabilities out."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from distill.errors import UserError, require_texts
from distill.models.checkpoint import load_student_parts
from distill.models.inference import best_device, predict, predict_logits
from distill.models.teacher import load_teacher_parts
from distill.models.tokenizer import TextTokenizer
from distill.runtime.label_sets import exceeding, names_of, sigmoid
from distill.runtime.tasks import Task, by_task, flat_proba, labels_by_task
from distill.storage.run_folder import STUDENT_CARD
from distill.text.batching import Batch, ModelOutput
from distill.text.segmentation import Segmenter


@dataclass(frozen=True)
class TextClassifier:
    """A model with its tokenizer and the names of its classes.

    Args:
        model: gives logits, and by ``output(batch)`` the vectors that they are computed from.
        tokenizer: raw texts to token ids.
        labels: the classes, in the order of the logits that :meth:`logits` returns.
        temperature: logits are divided by it before the softmax or, with ``thresholds``, the sigmoid; calibrated on
            dev.
        thresholds: of a model that gives a text any number of labels, the probability above which it gives each label;
            empty: every text gets one label.
        tasks: of a model of several tasks, each with its labels and thresholds; empty: there is only one.
        groups: for each label the model's outputs that belong to it; empty: one each, in the same order. The
            probability of a label with several outputs is their sum.
    """

    model: nn.Module
    tokenizer: TextTokenizer
    labels: tuple[str, ...]
    temperature: float = 1.0
    thresholds: tuple[float, ...] = ()
    tasks: tuple[Task, ...] = ()
    groups: tuple[tuple[int, ...], ...] = ()

    def logits(self, texts: Sequence[str], progress_label: str = "") -> Tensor:
        """Logits in input order, shape (texts, classes); ``progress_label`` names a progress bar; empty: none.

        Raises:
            UserError: a logit is NaN or infinite.
        """
        require_texts(texts)
        if not len(texts):
            return torch.empty(0, len(self.labels))
        logits = predict_logits(self.model, self.tokenizer.encode(texts), progress_label)
        if broken := int((~logits.isfinite()).any(1).sum()):
            what = f"the logits of {broken} of {len(texts)} texts are NaN or infinite"
            raise UserError(what, None, "train this model again, with a lower learning rate")
        return self._grouped(logits)

    def grouped(self, groups: Sequence[Sequence[int]], labels: Sequence[str]) -> TextClassifier:
        """The same model for other ``labels``: ``groups`` holds the model's outputs that belong to each.

        Raises:
            UserError: a label has several outputs, of a model that gives a text any number of labels; or the model has
                several tasks.
        """
        if self.tasks:
            what = f"a model of several tasks, {', '.join(task.name for task in self.tasks)}, cannot take other labels"
            raise UserError(what, None, "give data of the same tasks and labels")
        thresholds: tuple[float, ...] = ()
        if self.thresholds:
            if merged := [label for label, group in zip(labels, groups, strict=True) if len(group) > 1]:
                what = f"several labels of this model are to become {merged[0]}, but it gives each by itself"
                raise UserError(what, None, "give each of its labels a name of its own")
            thresholds = tuple(self.thresholds[group[0]] for group in groups)
        return dataclasses.replace(self, labels=tuple(labels), thresholds=thresholds, groups=tuple(map(tuple, groups)))

    def _grouped(self, logits: Tensor) -> Tensor:
        """The labels' logits (texts, labels) from the model's outputs (texts, outputs)."""
        if all(len(group) == 1 for group in self.groups):
            return logits[:, [group[0] for group in self.groups]] if self.groups else logits
        return torch.stack([logits[:, list(group)].logsumexp(1) for group in self.groups], dim=1)

    def vectors(self, texts: Sequence[str], progress_label: str = "") -> Tensor:
        """Representations for hints: a teacher's layers or a student's vector, (texts, layers, width), float16."""
        model: Any = self.model
        layers = getattr(model, "layer_vectors", lambda batch: model.output(batch).vector[:, None].half())
        return predict(model, layers, self.tokenizer.encode(texts), progress_label)

    def logits_and_vectors(self, texts: Sequence[str], progress_label: str = "") -> Tensor:
        """A text's logits, then the vector that they were computed from: (texts, classes + width), float16."""
        model: Any = self.model

        def concatenated(batch: Batch) -> Tensor:
            output: ModelOutput = model.output(batch)
            return torch.cat([self._grouped(output.logits), output.vector], dim=1).half()

        return predict(model, concatenated, self.tokenizer.encode(texts), progress_label)

    def predict(self, texts: Sequence[str]) -> list[Any] | Any:
        """The label of every text; with ``thresholds``, the list of its labels; with ``tasks``, by the task's name."""
        if self.tasks:
            return labels_by_task(self.tasks, self.flat_proba(texts))
        if self.thresholds:
            return names_of(exceeding(self.predict_proba(texts), self.thresholds), self.labels)
        return [self.labels[index] for index in self.logits(texts).argmax(1).tolist()]

    def predict_proba(self, texts: Sequence[str]) -> NDArray[np.float32] | Any:
        """Calibrated probabilities, shape (texts, classes), in the order of ``labels``; with ``tasks``, by task."""
        probabilities = self.flat_proba(texts)
        return by_task(self.tasks, probabilities) if self.tasks else probabilities

    def flat_proba(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """As :meth:`predict_proba`, those of all tasks in one array, shape (texts, outputs)."""
        if self.tasks:
            return flat_proba(self.tasks, self.logits(texts).numpy(), self.temperature)
        if self.thresholds:
            return sigmoid(self.logits(texts).numpy(), self.temperature)
        return np.asarray((self.logits(texts) / self.temperature).softmax(1).numpy())

    def to(self, device: torch.device) -> TextClassifier:
        """Move the model to a device; returns self."""
        self.model.to(device)
        return self

    @property
    def parameters(self) -> int:
        """Number of the model's parameters."""
        return sum(parameter.numel() for parameter in self.model.parameters())


def load(folder: str | Path, segmenter: Segmenter | None = None) -> TextClassifier:
    """Load a student or a teacher, whichever the folder holds; ``segmenter`` as in :func:`load_student`."""
    return load_student(folder, segmenter) if (Path(folder) / STUDENT_CARD).is_file() else load_teacher(folder)


def load_student(folder: str | Path, segmenter: Segmenter | None = None) -> TextClassifier:
    """Load a student from its folder, for example ``runs/demo/student``, on the CPU.

    Args:
        folder: the student's folder.
        segmenter: the one of its training; needed if it was trained with --user_dict.
    """
    return TextClassifier(*load_student_parts(Path(folder), segmenter))


def load_teacher(folder: str | Path) -> TextClassifier:
    """Load a teacher from its folder, for example ``runs/demo/teacher``, on the GPU if there is one."""
    model, tokenizer, labels, thresholds = load_teacher_parts(Path(folder))
    return TextClassifier(model, tokenizer, labels, thresholds=thresholds).to(best_device())
