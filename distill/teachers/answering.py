"""The answers of several teachers to the same texts: each teacher's from its cache, and their mean."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from distill.data import Example
from distill.storage.run_folder import RunFolder
from distill.teachers.base import LabellingTask, ModelTeacher, Teacher
from distill.training.teacher_cache import TeacherCache


class Answers(NamedTuple):
    """What teachers say about some texts: logits (texts, classes), 0 where there are none, and which texts have some.

    ``answered`` has the shape (texts,).
    """

    logits: Tensor
    answered: Tensor

    @property
    def mask(self) -> Tensor | None:
        """``answered``, or None if all texts are."""
        return None if bool(self.answered.all()) else self.answered


@dataclass(frozen=True)
class Answering:
    """Teachers at work on a task, with their caches in the folder of a run."""

    folder: RunFolder
    task: LabellingTask

    def mean(self, teachers: Sequence[Teacher], examples: Sequence[Example]) -> Answers:
        """Mean logits of the teachers that have an answer to each text, computed where the cache lacks them."""
        answered = torch.from_numpy(np.stack([self._answers(teacher, examples) for teacher in teachers]))
        if answered.all():
            logits = torch.stack([self.logits(teacher, examples) for teacher in teachers]).mean(0)
            return Answers(logits, answered.any(0))
        total = torch.zeros(len(examples), len(self.task.labels))
        for teacher, has_answer in zip(teachers, answered, strict=True):
            own = [example for example, is_own in zip(examples, has_answer.tolist(), strict=True) if is_own]
            if own:
                total[has_answer] += self.logits(teacher, own)
        return Answers(total / answered.sum(0).clamp(min=1)[:, None], answered.any(0))

    def _answers(self, teacher: Teacher, examples: Sequence[Example]) -> NDArray[np.bool_]:
        return teacher.answers(examples, is_multi_label=self.task.is_multi_label)

    def logits(self, teacher: Teacher, examples: Sequence[Example]) -> Tensor:
        """A teacher's logits of texts that it can label, shape (texts, classes)."""
        if teacher.is_cached:
            return self.logits_cache(teacher).outputs(examples)
        return teacher.open(self.task)([example.text for example in examples], "")

    def logits_cache(self, teacher: Teacher) -> TeacherCache:
        """The cache of a teacher's logits."""
        return TeacherCache(
            self.folder.teacher_cache(teacher.source, "logits"),
            teacher.provenance(self.task),
            lambda: teacher.open(self.task),
            shard_size=teacher.shard_size,
        )

    def logits_and_vectors_cache(self, teacher: ModelTeacher) -> TeacherCache:
        """The cache of a model's logits together with its last vectors."""
        return TeacherCache(
            self.folder.teacher_cache(teacher.source, "logits+vectors"),
            teacher.provenance(self.task),
            lambda: teacher.classifier(self.task).logits_and_vectors,
            "teacher logits and vectors",
        )

    def layers_cache(self, teacher: ModelTeacher) -> TeacherCache:
        """The cache of the vectors of several of a model's layers."""
        return TeacherCache(
            self.folder.teacher_cache(teacher.source, "vectors"),
            teacher.vector_provenance(self.task),
            lambda: teacher.classifier(self.task).vectors,
            "teacher vectors",
        )


def answered_texts(
    teachers: Sequence[Teacher], examples: Sequence[Example], *, is_multi_label: bool = False
) -> tuple[Example, ...]:
    """The texts for which at least one teacher has an answer."""
    if not examples or any(teacher.is_model for teacher in teachers):
        return tuple(examples)
    answered = np.any([teacher.answers(examples, is_multi_label=is_multi_label) for teacher in teachers], axis=0)
    return tuple(example for example, has_answer in zip(examples, answered, strict=True) if has_answer)
