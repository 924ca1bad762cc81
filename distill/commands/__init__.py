"""One pipeline per mode, from data to report."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from distill.commands.benchmark.table import benchmark
from distill.commands.compare import compare
from distill.commands.evaluate import test
from distill.commands.experiment import Run
from distill.commands.export import export
from distill.commands.train_student import train_students
from distill.commands.train_teacher import ask_teachers, label, train_teacher
from distill.commands.tune import tune
from distill.config import Settings
from distill.training import defaults, distributed

READING = ("test", "export", "benchmark")  # modes that train nothing, so config.json stays as it is


def run(settings: Settings) -> list[Path]:
    """Do what ``--mode`` says; returns the files and folders that were written or found current.

    Of several processes all train the teachers and ask them; then the first goes on alone, and finds that done.
    """
    pipelines = {
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
    kept = [begun.keep_settings()] if distributed.is_main_process() and settings.run.mode not in READING else []
    if distributed.is_multi_process():
        distributed.init_process_group()
        _together(begun)
        distributed.destroy_process_group()
    return kept + pipelines[settings.run.mode](begun) if distributed.is_main_process() else []


def with_chosen(settings: Settings) -> Settings:
    """The settings with every number that follows from the data; of a student the epochs too, if no texts are added."""
    run = Run(settings)
    taught = not settings.objective.is_alone
    transfer = run.transfer_settings if taught else settings.transfer
    student = run.student_settings(taught=taught)
    if not settings.transfer.unlabeled and not settings.transfer.augment:
        general = transfer.general_words + transfer.general_sentences if taught else 0
        epochs = defaults.student_epochs(student, len(run.data.train) + general, general)
        student = dataclasses.replace(student, epochs=epochs)
    return dataclasses.replace(settings, teacher=run.teacher_settings, transfer=transfer, student=student)


def _together(run: Run) -> None:
    """What is worth several processes: the teachers' training and answers, as the mode needs them."""
    mode, objective, compare = run.settings.run.mode, run.settings.objective, run.settings.compare
    asks = mode in ("label", "compare") or (mode in ("all", "train_student", "tune") and objective.needs_teacher)
    if asks:
        _ = run.extra  # faults in it show before the teacher is trained
    if mode in ("all", "train_teacher", "compare") and not run.settings.transfer.teacher:
        train_teacher(run)
    if asks:
        ask_teachers(run, compare.objectives if mode == "compare" else objective.objective)


def everything(run: Run) -> list[Path]:
    """Teacher, its logits, student alone, distilled student, report; what is finished and current is kept."""
    _ = run.extra  # faults in it show before the teacher is trained
    files = [] if run.settings.transfer.teacher else train_teacher(run)
    if not run.settings.objective.is_alone:
        files += label(run)
        files += train_students(run, alone=True)
    files += train_students(run)
    return files + test(run)
