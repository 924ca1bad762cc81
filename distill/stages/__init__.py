"""The story: one function a mode, from data to report."""

from __future__ import annotations

from pathlib import Path

from distill.config import Settings
from distill.stages.compare import compare
from distill.stages.examine import test
from distill.stages.learn import train_students
from distill.stages.run import Run
from distill.stages.ship import export
from distill.stages.speed import benchmark
from distill.stages.teach import label, train_teacher
from distill.stages.tune import tune

READING = ("test", "export", "benchmark")  # modes that train nothing, so config.json stays as it is


def run(settings: Settings) -> list[Path]:
    """Do what ``--mode`` says; returns the files and folders that were written or found current."""
    story = {
        "all": everything,
        "train_teacher": train_teacher,
        "label": label,
        "train_student": train_students,
        "test": test,
        "compare": compare,
        "tune": tune,
        "export": export,
        "benchmark": benchmark,
    }
    begun = Run(settings)
    kept = [] if settings.run.mode in READING else [begun.keep_settings()]
    return kept + story[settings.run.mode](begun)


def everything(run: Run) -> list[Path]:
    """Teacher, its logits, student alone, distilled student, report; what is finished and current is kept."""
    _ = run.extra  # faults in it show before the teacher is trained
    files = [] if run.settings.transfer.teacher else train_teacher(run)
    if not run.settings.objective.is_alone:
        files += label(run)
        files += train_students(run, alone=True)
    files += train_students(run)
    return files + test(run)
