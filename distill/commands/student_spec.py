"""The specification of a student: its network, objective, teachers and texts."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

from distill.commands.experiment import Run, fingerprint_examples
from distill.config import STUDENTS, ObjectiveSettings, StudentSettings
from distill.config.objectives import LABELS
from distill.data import Example
from distill.storage.fingerprints import fingerprint_texts
from distill.teachers import Teacher
from distill.training import defaults


@dataclass(frozen=True)
class StudentSpec:
    """Everything but the seed that determines a student.

    Args:
        student: the network and its training, with every number chosen.
        objective: the terms of the loss.
        teachers: that it imitates; empty for a student that learns from the labels alone.
        unlabelled_and_augmented: texts without labels: the user's own, and augmented copies of train texts.
        general: words and sentences of general Chinese, not of the task, that the teacher labels.
        budget: number of texts of the student that this one is compared with, so that both are trained for the same
            number of steps; 0: the number of its own texts.
        general_budget: how many texts of ``budget`` are general ones.
        left_out: a class whose labelled texts are left out.
        linear_weight: weight of the linear baseline's scores, which are added to the teachers' logits.
    """

    student: StudentSettings
    objective: ObjectiveSettings
    teachers: tuple[Teacher, ...] = ()
    unlabelled_and_augmented: tuple[Example, ...] = ()
    general: tuple[Example, ...] = ()
    budget: int = 0
    general_budget: int = 0
    left_out: int | None = None
    linear_weight: float = 0.0

    def texts(self, run: Run) -> tuple[Example, ...]:
        """All training texts: train first, the general texts last."""
        train = (example for example in run.data.train if example.label != self.left_out)
        return (*train, *self.unlabelled_and_augmented, *self.general)

    @property
    def from_teacher(self) -> bool:
        """Whether word vectors come from the teacher, alone or joined with pretrained ones."""
        return defaults.sources_of_vectors(self.student.vectors)[0]

    def epochs(self, texts: int) -> int:
        """Epochs over ``texts`` texts that make as many steps as the budget allows."""
        counted = self.budget or texts
        general = self.general_budget or len(self.general)
        epochs, batch = defaults.student_epochs(self.student, counted, general), self.student.batch_size
        return math.ceil(epochs * math.ceil(counted / batch) / math.ceil(texts / batch))

    def provenance(self, run: Run) -> dict[str, Any]:
        """The record that is saved with the student; it decides whether a saved student is up to date."""
        vectors = run.vectors(self.student.vectors)
        is_graph = STUDENTS[self.student.architecture].transductive
        graph = {"graph": fingerprint_texts(example.text for example in run.data.test)} if is_graph else {}
        return {
            **graph,  # it holds the texts of test too
            "data": run.data.fingerprint,
            "settings": {key: value for key, value in dataclasses.asdict(self.student).items() if key != "vectors"},
            "objective": {"weights": self.objective.weights, "temperature": self.objective.temperature},
            "word vectors": [self.from_teacher, vectors and vectors.fingerprint],
            "segmenter": run.segmenter.identity,
            "teacher": [teacher.record(run.task) for teacher in self.teachers] or None,
            "linear weight": self.linear_weight or None,
            "extra texts": fingerprint_examples(self.unlabelled_and_augmented),
            "general texts": fingerprint_examples(self.general),
            "general share": run.transfer_settings.general_share if self.general else None,
            "epochs": self.epochs(len(self.texts(run))),
            "target metric": run.target_metric,
            "levels": run.levels if self.objective.weights[LABELS] else None,
            "left out": None if self.left_out is None else run.data.labels[self.left_out],
        }
