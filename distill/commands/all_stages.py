"""``--mode all``: every stage in turn, from the teacher to the report."""

from __future__ import annotations

from pathlib import Path

from distill.commands.evaluate import test
from distill.commands.experiment import Run
from distill.commands.export import check_upload, export_if_possible
from distill.commands.label import label
from distill.commands.teachers import cache_needed_outputs
from distill.commands.train_student import check_student, train_students
from distill.commands.train_teacher import train_own_teachers


def check_stages(run: Run) -> None:
    """Refuse what a later stage would refuse, before hours of training."""
    check_student(run)
    check_upload(run)


def run_all_stages(run: Run) -> list[Path]:
    """Train the teacher, the student alone and the distilled student, export its bundle, and write the report.

    Stages that are finished and up to date are kept.
    """
    files = train_own_teachers(run)
    if not run.settings.objective.is_alone:
        files += label(run)
        if run.data.has_labels:
            files += train_students(run, alone=True)
    files += train_students(run)
    files += export_if_possible(run)
    return files + test(run)


def prepare_teachers(run: Run) -> None:
    """Train the teachers and cache the outputs that the objective needs: the part that several processes share."""
    train_own_teachers(run)
    cache_needed_outputs(run)
