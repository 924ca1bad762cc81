"""A run's folder: where each thing lies."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from distill.config import Settings
from distill.errors import UserError
from distill.storage.atomic import TEMPORARY_SUFFIX
from distill.storage.fingerprints import fingerprint_texts

DEMO = "demo"  # the run of the embedded reviews
# files in a model's folder; named here so that code without PyTorch can look for them
TEACHER_CARD, TEACHER_HEAD = "teacher.json", "head.safetensors"
STUDENT_CARD, STUDENT_WEIGHTS, VOCABULARY = "student.json", "student.safetensors", "vocabulary.txt"
# commands that write them, for messages
TRAIN_TEACHER = "python distill.py --mode train_teacher"
TRAIN_STUDENT = "python distill.py --mode train_student"


@dataclass(frozen=True)
class RunFolder:
    """The layout of ``runs/NAME``; the only place that knows it."""

    root: Path

    @classmethod
    def from_settings(cls, settings: Settings) -> Self:
        """The folder of a run: ``--run``, or runs/ and the name of the data's folder.

        Raises:
            UserError: it is a file.
        """
        root = Path(settings.run.run or Path("runs", settings.data.name or DEMO))
        if root.exists() and not root.is_dir():
            raise UserError("a run's folder is needed, this is a file", root, "--run FOLDER")
        return cls(root)

    def teacher_cache(self, teacher: Path, what: str) -> Path:
        """Folder where a teacher's answers are kept; of a teacher from elsewhere its whole path counts."""
        own = teacher.parent.resolve() == self.root.resolve()
        name = teacher.name if own else f"{teacher.resolve().name}-{fingerprint_texts([str(teacher.resolve())])[:8]}"
        return self.root / "cache" / f"{name}.{what}"

    @property
    def report(self) -> Path:
        """Folder of the report."""
        return self.root / "report"

    @property
    def config(self) -> Path:
        """File of the run's settings."""
        return self.root / "config.json"

    def model(self, kind: str, place: int = 0) -> Path:
        """Folder of a model; the first seed's is ``KIND``, later ones ``KIND.2``, ``KIND.3`` and so on."""
        return self.root / (kind if place == 0 else f"{kind}.{place + 1}")

    @property
    def label_noise(self) -> Path:
        """Table of the labels that the teacher doubts."""
        return self.report / "label_noise.csv"

    @property
    def bundle(self) -> Path:
        """Folder of the student that runs without PyTorch."""
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
        """Folder of the comparison: its table, and a folder of students for every row."""
        return self.root / "compare"

    @property
    def benchmark(self) -> Path:
        """Folder of the table of speed."""
        return self.root / "benchmark"


def bundle_folder(settings: Settings) -> Path:
    """The bundle that is used: that of ``--bundle``, or the run's own."""
    return Path(settings.predict.bundle) if settings.predict.bundle else RunFolder.from_settings(settings).bundle


def remove_leftovers(root: Path) -> None:
    """Remove the temporary files that killed processes left in a run's folder, and nothing else."""
    for folder in (root, *(root / name for name in ("cache", "report", "compare", "tune", "benchmark"))):
        for left in [*folder.glob(f".*{TEMPORARY_SUFFIX}"), *folder.glob(f"*/.*{TEMPORARY_SUFFIX}")]:
            if left.is_dir():
                shutil.rmtree(left, ignore_errors=True)
            else:
                left.unlink()
