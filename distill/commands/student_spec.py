"""What students are made from."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distill.commands.experiment import Run
from distill.commands.train_teacher import fingerprint_of, identity
from distill.config import ObjectiveSettings, StudentSettings
from distill.data import Example
from distill.storage.fingerprints import fingerprint_file, fingerprint_texts
from distill.training import defaults


@dataclass(frozen=True)
class StudentSpec:
    """What students are made from: the network, what teaches it, and the texts beside train.

    ``extra`` are the user's texts without labels and altered copies; ``general`` are words and sentences of the
    language, not of the task, that the teacher labels. ``budget`` is how many texts another student has, of which
    ``general_budget`` are general: a student alone is trained for as many steps; 0: what its own texts ask for.
    ``left_out`` is a class whose labelled texts are left out. ``linear_weight`` is what the linear model's scores weigh
    beside the teachers' logits.
    """

    student: StudentSettings
    objective: ObjectiveSettings
    teachers: tuple[Path, ...] = ()
    extra: tuple[Example, ...] = ()
    general: tuple[Example, ...] = ()
    budget: int = 0
    general_budget: int = 0
    left_out: int | None = None
    linear_weight: float = 0.0

    def texts(self, run: Run) -> tuple[Example, ...]:
        """The transfer set, train first, the general texts last."""
        train = (example for example in run.data.train if example.label != self.left_out)
        return (*train, *self.extra, *self.general)

    @property
    def from_teacher(self) -> bool:
        """Whether the teacher makes the word vectors, alone or with others."""
        return self.student.vectors.startswith(defaults.FROM_TEACHER)

    def epochs(self, texts: int) -> int:
        """Passes over the texts: as many as make the steps that the budget allows."""
        counted = self.budget or texts
        general = self.general_budget or len(self.general)
        epochs, batch = defaults.student_epochs(self.student, counted, general), self.student.batch_size
        return math.ceil(epochs * math.ceil(counted / batch) / math.ceil(texts / batch))

    def made_from(self, run: Run) -> dict[str, Any]:
        """The record of a student's folder; a textgcn's graph holds the texts of test too."""
        vectors = run.vectors(self.student.vectors)
        asked = [example.text for example in run.data.test] if self.student.architecture == "textgcn" else []
        return {
            **({"graph": fingerprint_texts(asked)} if asked else {}),
            "data": run.data.fingerprint,
            "settings": {key: value for key, value in dataclasses.asdict(self.student).items() if key != "vectors"},
            "objective": {"weights": self.objective.weights, "temperature": self.objective.temperature},
            "word vectors": [self.from_teacher, vectors and fingerprint_file(vectors.path)],
            "segmenter": run.segmenter.identity,
            "teacher": [identity(folder) for folder in self.teachers] or None,
            "linear weight": self.linear_weight or None,
            "extra texts": fingerprint_of(self.extra),
            "general texts": fingerprint_of(self.general),
            "general share": run.transfer_settings.general_share if self.general else None,
            "epochs": self.epochs(len(self.texts(run))),
            "left out": None if self.left_out is None else run.data.labels[self.left_out],
        }
