"""The modes that work on a run's data and models; :func:`run_mode` starts the one that the settings name."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from pkgutil import resolve_name

from distill.commands.compare import students_of
from distill.commands.data_checks import warn_of
from distill.commands.experiment import Run, prepared
from distill.commands.task_runs import JointRun
from distill.commands.tasks import run_tasks
from distill.config import MODES, DataSettings, Settings
from distill.data.checks import data_checks
from distill.data.tasks import find_tasks
from distill.errors import UserError
from distill.progress import log
from distill.teachers import TeacherValue
from distill.training import defaults, distributed


def run_mode(settings: Settings, teachers: Sequence[TeacherValue] = ()) -> list[Path]:
    """Run the mode of ``--mode``; return the files and folders that it wrote or that were up to date.

    ``teachers`` are further values of ``--teacher``, which in Python may be functions.

    In a launch of several processes all of them do the mode's shared part. Then the first process alone runs the mode,
    and finds that part done.
    """
    if tasks := find_tasks(settings.data):
        return _run_tasks(settings, tasks, teachers)
    mode, run = MODES[settings.run.mode], Run(settings, teachers)
    with prepared(run):
        if mode.check:
            resolve_name(mode.check)(run)
        written = []
        if distributed.is_main_process() and mode.trains and not settings.transfer.for_labelling:
            written.append(run.write_config())
            warn_of(data_checks(run.data))
            _say_what_is_unused(run)
        if distributed.is_multi_process():
            distributed.init_process_group()
            if mode.all_processes:
                resolve_name(mode.all_processes)(run)
            distributed.destroy_process_group()
        return [*written, *resolve_name(mode.function)(run)] if distributed.is_main_process() else []


def _say_what_is_unused(run: Run) -> None:
    settings, has_named_teachers = run.settings, bool(run.named_teachers)
    is_taught_by_them = has_named_teachers and "transfer" in MODES[settings.run.mode].sections
    unused = {
        "--teachers, as --teacher names them": is_taught_by_them and settings.run.teachers > 1,
        "--teacher_labels, as there is no --teacher": bool(settings.transfer.teacher_labels) and not has_named_teachers,
        "--task_weights, as there is one task": bool(settings.objective.task_weights),
        "--shared_teacher, as there is one task": settings.teacher.shared,
    }
    for flag, is_unused in unused.items():
        if is_unused:
            log.info("not used: %s", flag)


def _run_tasks(settings: Settings, tasks: Mapping[str, DataSettings], teachers: Sequence[TeacherValue]) -> list[Path]:
    if teachers:
        what = "with several tasks, a teacher needs the name of its task"
        raise UserError(what, "teachers", "DistilledTextClassifier().fit(texts, table, teacher={TASK: TEACHER})")
    if distributed.is_multi_process():
        name = next(iter(tasks))
        what = "several processes train one task at a time, and here there are several"
        raise UserError(
            what, "accelerate launch", f"train each teacher by itself, then --teacher {name}=FOLDER/teacher"
        )
    joint = JointRun(settings, tasks)
    with prepared(joint):
        return run_tasks(joint)


def with_chosen_settings(settings: Settings) -> Settings:
    """Replace every number that is left at -1 by the one chosen from the data.

    A number stays at -1 where models of the run get different ones: the student alone reads fewer texts than the
    distilled one and has no word vectors from a teacher, a comparison has several networks, and a teacher that
    LinearSVC beats is trained for more epochs. The student's epochs stay open too if texts are added, whose number is
    known only after reading them. With several tasks nothing is replaced.
    """
    if tasks := find_tasks(settings.data):
        log.info("the numbers at -1 stay: each of the %d tasks chooses its own", len(tasks))
        return settings
    run = Run(settings)
    with prepared(run):
        return _with_chosen_settings(run)


def _with_chosen_settings(run: Run) -> Settings:
    settings = run.settings
    has_teacher = settings.objective.needs_teacher
    transfer = run.transfer_settings if has_teacher else settings.transfer
    general = transfer.general_words + transfer.general_sentences if has_teacher else 0
    has_several = MODES[settings.run.mode].has_several_networks
    networks = students_of(run) if has_several else [settings.student.architecture]
    students = [run.student_settings(name, has_teacher=taught) for name in networks for taught in {has_teacher, False}]
    if not (general or settings.transfer.unlabeled or settings.transfer.augment):
        epochs = [defaults.student_epochs(student, len(run.data.train)) for student in students]
        students = [dataclasses.replace(student, epochs=n) for student, n in zip(students, epochs, strict=True)]
    first, *others = (dataclasses.asdict(student) for student in students)
    shared = {name: value for name, value in first.items() if all(other[name] == value for other in others)}
    shared["architecture"] = settings.student.architecture
    student = dataclasses.replace(settings.student, **shared)
    teacher = dataclasses.replace(run.teacher_settings, epochs=settings.teacher.epochs)
    return dataclasses.replace(settings, teacher=teacher, transfer=transfer, student=student)
