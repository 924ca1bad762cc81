"""``--mode compare`` with several tasks: every student answers all tasks, and each task has a comparison of its own."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from pathlib import Path

from distill.commands.compare import (
    check_teachers,
    entry_of_row,
    objectives_of,
    spec_of_row,
    student_rows,
    students_of,
)
from distill.commands.distillation import choose_linear_weight
from distill.commands.evaluate_comparison import Entry, evaluate_comparison
from distill.commands.experiment import row_folders
from distill.commands.student_spec import StudentSpec
from distill.commands.task_runs import JointRun
from distill.commands.task_students import (
    NO_HINTS,
    JointSpec,
    check_network,
    check_sampling,
    train_joint_seeds,
)
from distill.commands.teachers import teachers_of
from distill.commands.train_student import check_student
from distill.config import ObjectiveSettings
from distill.errors import UserError
from distill.progress import log
from distill.reporting.tasks import write_comparison_overview


def students_and_objectives(joint: JointRun) -> tuple[list[str], list[ObjectiveSettings]]:
    """The networks and the objectives to compare; the settings are checked, before any training.

    Raises:
        UserError: a setting is for one task, or a teacher is no model.
    """
    for run in joint.tasks.values():
        check_teachers(run)
    students, objectives = students_of(joint), objectives_of(joint)
    for student in students:
        check_network(student, "--students", "--students bilstm,average")
    check_sampling(joint)
    check_student(joint, students)
    if joint.settings.compare.leave_out:
        what = "a class that students do not see is for one task"
        raise UserError(what, f"--leave_out {joint.settings.compare.leave_out}", "leave this flag out")
    joint.settings.objective.weights_of_tasks(len(joint.tasks))  # an error in --task_weights shows now
    usable = [objective for objective in objectives if not objective.hints]
    left_out = ", ".join(objective.objective for objective in objectives if objective.hints)
    if not usable:
        raise UserError(NO_HINTS, f"--objectives {left_out}", "--objectives logits,soft")
    if left_out:
        log.info("left out: %s, because %s", left_out, NO_HINTS)
    return students, usable


def compare_joint_students(
    joint: JointRun, students: Sequence[str], objectives: Sequence[ObjectiveSettings]
) -> list[Path]:
    """Train every student with every objective; write a comparison per task, and an overview of all tasks."""
    teachers = {name: teachers_of(run) for name, run in joint.tasks.items()}
    rows = student_rows(joint, students, objectives, max(map(len, teachers.values())))
    weights = joint.settings.objective.weights_of_tasks(len(joint.tasks))
    linear_weights = [functools.cache(functools.partial(choose_linear_weight, run)) for run in joint.tasks.values()]
    entries: dict[str, list[Entry]] = {name: [] for name in joint.tasks}
    for number, row in enumerate(rows, 1):
        tasks = {}
        for (name, run), linear_weight in zip(joint.tasks.items(), linear_weights, strict=True):
            own = teachers[name][: row.teachers]
            settings = run.student_settings(row.student, has_teacher=bool(row.teachers))
            tasks[name] = StudentSpec(settings, row.objective, own, linear_weight=linear_weight(own))
        spec = JointSpec(spec_of_row(joint, row), tasks, weights)
        log.info("compare, row %d of %d: %s", number, len(rows), row.name)
        whole, *heads = (row_folders(run, row.name) for run in (joint, *joint.tasks.values()))
        train_joint_seeds(joint, spec, list(zip(whole, *heads, strict=True)))
        entry = entry_of_row(joint, row, spec.common, whole)
        for name, folders in zip(tasks, heads, strict=True):
            # its teachers are those of the task; the network is that of all
            of_task = dataclasses.replace(spec.common, teachers=tasks[name].teachers)
            entries[name].append(dataclasses.replace(entry, spec=of_task, folders=folders))
    return _evaluate(joint, entries)


def _evaluate(joint: JointRun, entries: Mapping[str, Sequence[Entry]]) -> list[Path]:
    """Evaluate every head on the test texts of its task."""
    written = []
    for name, run in joint.tasks.items():
        text, files = evaluate_comparison(run, entries[name], [])
        log.info("\ntask %s\n%s", name, text)
        written += files
    folders = {name: run.folder.compare for name, run in joint.tasks.items()}
    table, files = write_comparison_overview(joint.folder.compare, folders)
    log.info("\n%s", table)
    return [*written, *files]
