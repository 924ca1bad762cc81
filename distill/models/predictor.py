"""A trained teacher or student as one thing: raw texts in, labels and probabilities out."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from distill.errors import require_texts
from distill.models.inference import best_device, predict, predict_logits
from distill.models.registry import CARD as STUDENT_CARD
from distill.models.registry import load_student_parts
from distill.models.teacher import load_teacher_parts
from distill.text.batching import Batch, ModelOutput, PackedIds
from distill.text.segmentation import Segmenter


class Input(Protocol):
    """How raw texts become token ids."""

    def encode(self, texts: Sequence[str]) -> PackedIds:
        """Token ids of raw texts."""
        ...


@dataclass(frozen=True)
class TextClassifier:
    """A model with its input and the names of its classes."""

    model: nn.Module
    input: Input
    labels: tuple[str, ...]
    temperature: float = 1.0  # of its probabilities, set on dev
    order: tuple[int, ...] = ()  # places of the model's outputs; empty: as they are

    def logits(self, texts: Sequence[str], what: str = "") -> Tensor:
        """Logits in input order, shape (texts, classes); with a progress bar if ``what`` names it."""
        require_texts(texts)
        if not len(texts):
            return torch.empty(0, len(self.labels))
        logits = predict_logits(self.model, self.input.encode(texts), what)
        return logits[:, list(self.order)] if self.order else logits

    def in_order(self, places: Sequence[int]) -> TextClassifier:
        """The same classifier with its classes in another order: ``places`` says where each stood."""
        labels = tuple(self.labels[place] for place in places)
        return dataclasses.replace(self, labels=labels, order=tuple(places))

    def vectors(self, texts: Sequence[str], what: str = "") -> Tensor:
        """What a student may imitate: an encoder's layers or a student's vector, (texts, layers, width), float16."""
        model: Any = self.model
        layers = getattr(model, "layer_vectors", lambda batch: model.answer(batch).vector[:, None].half())
        return predict(model, layers, self.input.encode(texts), what)

    def logits_and_vectors(self, texts: Sequence[str], what: str = "") -> Tensor:
        """A text's logits, then the vector that they were made from: (texts, classes + width), float16."""
        model: Any = self.model
        order = list(self.order) or list(range(len(self.labels)))

        def ask(batch: Batch) -> Tensor:
            answer: ModelOutput = model.answer(batch)
            return torch.cat([answer.logits[:, order], answer.vector], dim=1).half()

        return predict(model, ask, self.input.encode(texts), what)

    def predict(self, texts: Sequence[str]) -> list[str]:
        """The label of every text."""
        return [self.labels[index] for index in self.logits(texts).argmax(1).tolist()]

    def predict_proba(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Calibrated probabilities, shape (texts, classes), in the order of ``labels``."""
        return np.asarray((self.logits(texts) / self.temperature).softmax(1).numpy())

    def to(self, device: torch.device) -> TextClassifier:
        """Move the model; returns self."""
        self.model.to(device)
        return self

    @property
    def parameters(self) -> int:
        """Number of the model's parameters."""
        return sum(parameter.numel() for parameter in self.model.parameters())


def load(folder: str | Path, segmenter: Segmenter | None = None) -> TextClassifier:
    """A teacher or a student, whichever the folder holds; ``segmenter`` as in :func:`load_student`."""
    return load_student(folder, segmenter) if (Path(folder) / STUDENT_CARD).is_file() else load_teacher(folder)


def load_student(folder: str | Path, segmenter: Segmenter | None = None) -> TextClassifier:
    """A student from its folder, for example ``runs/demo/student``, on the CPU.

    Args:
        folder: the student's.
        segmenter: the one of its training; needed if it was trained with --user_dict.
    """
    return TextClassifier(*load_student_parts(Path(folder), segmenter))


def load_teacher(folder: str | Path) -> TextClassifier:
    """A teacher from its folder, for example ``runs/demo/teacher``, on CUDA when present."""
    return TextClassifier(*load_teacher_parts(Path(folder))).to(best_device())
