"""``--mode all``: every stage in turn, from the teacher to the report."""

from __future__ import annotations

from pathlib import Path

from distill.commands.evaluate import test
from distill.commands.experiment import Run
from distill.commands.label import label
from distill.commands.teachers import cache_needed_outputs
from distill.commands.train_student import train_students
from distill.commands.train_teacher import train_teacher


def run_all_stages(run: Run) -> list[Path]:
    """Train the teacher, the student alone and the distilled student, and write the report.

    Stages that are finished and up to date are kept.
    """
    files = _teacher(run)
    if not run.settings.objective.is_alone:
        files += label(run)
        files += train_students(run, alone=True)
    files += train_students(run)
    return files + test(run)


def prepare_teachers(run: Run) -> None:
    """Train the teachers and cache the outputs that the objective needs: the part that several processes share."""
    _teacher(run)
    cache_needed_outputs(run)


def _teacher(run: Run) -> list[Path]:
    """Train the run's own teachers, unless ``--teacher`` names others."""
    # read the texts without labels first: an error in them should show before hours of training
    _ = run.unlabelled_and_augmented
    return [] if run.settings.transfer.teacher else train_teacher(run)
