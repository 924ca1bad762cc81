"""The modes with several tasks: what each of them does with the run of every task and with what they share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from distill.commands.benchmark.table import benchmark
from distill.commands.data_checks import warn_of
from distill.commands.evaluate import test, trained_models
from distill.commands.experiment import TEACHER, Run
from distill.commands.export import bundle_of, check_upload, export, export_if_possible
from distill.commands.label import label
from distill.commands.model_cards import add_results_of_tasks
from distill.commands.task_comparison import compare_joint_students, students_and_objectives
from distill.commands.task_runs import JointRun
from distill.commands.task_students import check_student_settings, train_joint_students
from distill.commands.task_teachers import train_shared_teachers
from distill.commands.train_teacher import train_own_teachers
from distill.commands.tune import tune_tasks
from distill.config import MODES
from distill.data.checks import data_checks
from distill.progress import log
from distill.reporting.tasks import write_overview


def run_tasks(joint: JointRun) -> list[Path]:
    """Run the mode of the settings; return what it wrote or what was up to date."""
    mode = joint.settings.run.mode
    written = []
    if MODES[mode].trains and not joint.settings.transfer.for_labelling:
        written.append(joint.write_config())
        for run in joint.tasks.values():
            warn_of(data_checks(run.data))
    return [*written, *TASK_MODES[mode](joint)]


def train_teachers(joint: JointRun) -> list[Path]:
    """Fine-tune a teacher for every task that has none of --teacher, or one for all (--shared_teacher)."""
    if joint.settings.teacher.shared:
        return train_shared_teachers(joint)
    return _for_each(joint, train_own_teachers)


def _label(joint: JointRun) -> list[Path]:
    return _for_each(joint, label)


def _test(joint: JointRun) -> list[Path]:
    written = _for_each(joint, test)
    table, files = write_overview(joint.folder.report, {name: run.folder.report for name, run in joint.tasks.items()})
    log.info("\n%s", table)
    return [*written, *files, *_update_cards(joint)]


def _update_cards(joint: JointRun) -> list[Path]:
    """Add the test results of the heads to the cards of the whole students, and to that of the bundle."""
    written = []
    for (kind, _), folder in trained_models(joint).items():
        if kind == TEACHER:  # of an earlier run without tasks
            continue
        heads = {name: run.folder.root / folder.name for name, run in joint.tasks.items()}
        bundle, _ = bundle_of(joint, folder)
        written += [add_results_of_tasks(model, heads) for model in (folder, bundle) if model]
    return written


def _for_each(joint: JointRun, function: Callable[[Run], list[Path]]) -> list[Path]:
    written = []
    for name, run in joint.tasks.items():
        log.info("\ntask %s", name)
        written += function(run)
    return written


def _run_all_stages(joint: JointRun) -> list[Path]:
    """Like ``run_all_stages``; what a later stage would refuse shows before the teachers are trained."""
    check_student_settings(joint)
    check_upload(joint)
    written = train_teachers(joint)
    if not joint.settings.objective.is_alone:
        written += _label(joint)
        written += train_joint_students(joint, alone=True)
    written += train_joint_students(joint)
    written += export_if_possible(joint)
    return written + _test(joint)


def _compare(joint: JointRun) -> list[Path]:
    """Like ``compare``: errors in the settings show before hours of training."""
    students, objectives = students_and_objectives(joint)
    return [*train_teachers(joint), *_label(joint), *compare_joint_students(joint, students, objectives)]


TASK_MODES: dict[str, Callable[[JointRun], list[Path]]] = {
    "all": _run_all_stages,
    "train_teacher": train_teachers,
    "label": _label,
    "train_student": train_joint_students,
    "test": _test,
    "compare": _compare,
    "tune": tune_tasks,
    "export": export,
    "benchmark": benchmark,
}
