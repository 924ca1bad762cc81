"""The layout of a run's folder: which file or subfolder holds what."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from distill.config import Settings
from distill.errors import UserError
from distill.storage.fingerprints import PROVENANCE_FILE, fingerprint_texts

DEMO = "demo"  # name of the run on the embedded reviews
# Files in a model's folder; named here so that code without PyTorch can look for them.
TEACHER_CARD, TEACHER_HEAD = "teacher.json", "head.safetensors"
MODEL_CARD = "README.md"
LOG = "log.jsonl"  # the evaluations of a model's training
WARNINGS = "warnings.json"  # the warnings of its training, if there were any
STUDENT_CARD, STUDENT_WEIGHTS, VOCABULARY = "student.json", "student.safetensors", "vocabulary.txt"
# The commands that write them, for messages.
TRAIN_TEACHER = "python distill.py --mode train_teacher"
TRAIN_STUDENT = "python distill.py --mode train_student"


def size_of(folder: Path) -> int:
    """Bytes of the files that are needed to run a model."""
    not_needed = (LOG, WARNINGS, PROVENANCE_FILE, MODEL_CARD)
    return sum(path.stat().st_size for path in folder.iterdir() if path.name not in not_needed)


@dataclass(frozen=True)
class RunFolder:
    """Paths within ``runs/NAME``; no other module spells them out."""

    root: Path

    @classmethod
    def from_settings(cls, settings: Settings) -> Self:
        """The folder that ``--run`` names, or runs/ and the name of the data folder.

        Raises:
            UserError: the path is a file.
        """
        root = Path(settings.run.run or Path("runs", settings.data.name or DEMO))
        if root.exists() and not root.is_dir():
            raise UserError("this is a file; a run needs a folder", root, "--run FOLDER")
        return cls(root)

    def teacher_cache(self, teacher: Path | str, outputs: str) -> Path:
        """Folder that caches a teacher's ``outputs`` ("logits", "vectors", …).

        A teacher outside the run's folder gets a hash of its path in the name, as teachers of two runs may be
        called the same; so does one that is no path.
        """
        if isinstance(teacher, str):
            safe = re.sub(r"[^\w.-]+", "_", teacher)[-40:]
            return self.root / "cache" / f"{safe}-{fingerprint_texts([teacher])[:8]}.{outputs}"
        is_own = teacher.parent.resolve() == self.root.resolve()
        path = teacher.resolve()
        name = teacher.name if is_own else f"{path.name}-{fingerprint_texts([str(path)])[:8]}"
        return self.root / "cache" / f"{name}.{outputs}"

    @property
    def report(self) -> Path:
        """Folder of the report."""
        return self.root / "report"

    @property
    def config(self) -> Path:
        """File with the run's settings."""
        return self.root / "config.json"

    def model(self, kind: str, index: int = 0) -> Path:
        """Folder of a model: ``KIND`` for the first seed (index 0), ``KIND.2`` for the second, and so on."""
        return self.root / (kind if index == 0 else f"{kind}.{index + 1}")

    def task(self, name: str) -> Self:
        """The folder of one of several tasks, which is that of a run."""
        return type(self)(self.root / "tasks" / name)

    @property
    def label_noise(self) -> Path:
        """Table of labels that the teacher contradicts."""
        return self.report / "label_noise.csv"

    @property
    def for_labelling(self) -> Path:
        """Table of texts that are worth labelling."""
        return self.root / "for_labelling.csv"

    @property
    def set_aside(self) -> Path:
        """List of the rows of the data files that cannot be used."""
        return self.report / "set_aside.jsonl"

    @property
    def bundle(self) -> Path:
        """Folder of the bundle: the student that runs without PyTorch."""
        return self.root / "bundle"

    @property
    def tensorboard(self) -> Path:
        """Folder of the training curves for TensorBoard."""
        return self.root / "tensorboard"

    @property
    def onnx(self) -> Path:
        """Folder of the ONNX files."""
        return self.root / "onnx"

    @property
    def compare(self) -> Path:
        """Folder of the comparison: its tables, and a folder of students per row."""
        return self.root / "compare"

    @property
    def benchmark(self) -> Path:
        """Folder of the speed measurements."""
        return self.root / "benchmark"


def bundle_folder(settings: Settings) -> Path:
    """The bundle to use: that of ``--bundle``, or the run's own."""
    return Path(settings.predict.bundle) if settings.predict.bundle else RunFolder.from_settings(settings).bundle
