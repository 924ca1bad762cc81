"""What :meth:`fit` is given: its check, and the tasks, teachers, settings and data sets in it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from distill.config import STUDENTS, Settings
from distill.config.argparse import settings_from
from distill.config.toml import NAMES_HINT, typed
from distill.data import Dataset, Example, checked, from_memory
from distill.data.arrays import GivenLabels, are_tasks, as_tasks, class_names, given_labels
from distill.data.tasks import check_names, split_tasks
from distill.errors import InputError, InputTypeError, UserError, join_problems, listed
from distill.progress import remind

TeacherArgument = str | Path | Callable[[list[str]], Any]
Teachers = TeacherArgument | Sequence[TeacherArgument]
ONLY = ""  # the name of the only task
WITHOUT_TEACHER = {"a": 1.0, "T": 0.0}
OBJECTIVE = ("a", "T", "objective")  # settings that decide whether a student has a teacher
GIVEN_OTHERWISE = {  # settings that have a parameter of their own
    **{name: f"{name}=…" for name in ("teacher_model", "student", "threads")},
    "seed": "random_state=…",
    "run": "run_folder=…",
    "teacher": "fit(…, teacher=…)",
    "unlabeled": "fit(…, unlabeled=…)",
}
SECTIONS = ("teacher.", "transfer.", "student.", "objective.")  # of the settings that may be given, besides OTHERS
OTHERS = (
    *("data.user_dict", "data.hierarchy", "data.level_weight", "data.target_metric"),
    *("run.teachers", "export.max_mb", "export.examples"),
)


def unnamed(values: Mapping[str, Any]) -> Any:
    """Values by the task's name; if there is only one task, its value."""
    return values.get(ONLY, values)


def named(value: Any) -> dict[str, Any]:
    """The inverse of :func:`unnamed`."""
    return value if isinstance(value, dict) else {ONLY: value}


def tasks_in(labels: Any, texts: Sequence[str]) -> dict[str, GivenLabels]:
    """The labels of every task.

    Raises:
        InputTypeError: labels have no usable type.
        InputError: labels are missing or too few, or a task cannot have this name.
    """
    if are_tasks(labels):
        tasks = as_tasks(labels, len(texts))
        try:
            check_names(tasks, "labels")
        except UserError as error:
            raise InputError(error.what, error.where, error.hint) from error
        return {name: given_labels(column, f"labels[{name!r}]", rows) for name, (rows, column) in tasks.items()}
    given = given_labels(labels)
    if len(texts) != len(given.labels):
        what = f"{len(texts)} texts and {len(given.labels)} labels: there must be one label per text"
        raise InputError(what, "fit", "take both from the same table")
    return {ONLY: given}


def teachers_in(teacher: Any, tasks: Sequence[str], *, needs_all: bool) -> dict[str, list[TeacherArgument]]:
    """The teachers of every task that has some; all tasks must, if ``needs_all`` and one does.

    Raises:
        InputError: they do not name their task, or name another one, or a task has none.
    """
    if teacher is None:
        return {}
    if ONLY in tasks:
        return {ONLY: _as_list(teacher)} if _as_list(teacher) else {}
    hint = f"teacher={{{tasks[0]!r}: …}}"
    if not isinstance(teacher, Mapping) or not set(teacher) <= set(tasks):
        what = f"with several tasks, a teacher needs the name of its task: {listed(tasks)}"
        raise InputError(what, "teacher", hint)
    teachers = {name: _as_list(teacher[name]) for name in tasks if name in teacher and _as_list(teacher[name])}
    if needs_all and teachers and (without := [name for name in tasks if name not in teachers]):
        what = f"teacher_model is None, and the task {without[0]} has no teacher"
        raise InputError(what, "teacher", 'name one for this task too, or teacher_model="auto"')
    return teachers


def _as_list(teacher: Any) -> list[TeacherArgument]:
    if teacher is None:
        return []
    return list(teacher) if isinstance(teacher, list | tuple) else [teacher]


def given_settings(settings: Any) -> dict[str, Any]:
    """The settings by the names of flags, with plain values.

    Raises:
        InputTypeError: they are no dictionary.
        InputError: one has a parameter of its own, or concerns something else than training.
    """
    if not isinstance(settings, Mapping | None):
        raise InputTypeError(f"{settings!r:.40} is no dictionary", "settings", 'settings={"student_epochs": 8}')
    given = {name: plain(value) for name, value in (settings or {}).items()}
    problems = [f"{name} is given by {GIVEN_OTHERWISE[name]}" for name in given if name in GIVEN_OTHERWISE]
    for name, value in given.items():
        fields = [*typed({name: value})[0]]
        if name not in GIVEN_OTHERWISE and fields and not fields[0].startswith(SECTIONS) and fields[0] not in OTHERS:
            problems.append(f"{name} does not concern the training of a student")
    if problems:
        raise InputError(join_problems(problems), "settings", "leave it out there")
    return given


def settings_of(
    parameters: Mapping[str, Any], others: Mapping[str, Any], *, is_alone: bool, has_teacher: bool
) -> Settings:
    """The settings of the run, from the classifier's parameters and :func:`given_settings`.

    Args:
        parameters: by the names of the command line's flags, as ``others`` are.
        others: settings that have no parameter of their own.
        is_alone: whether the student learns from labels alone.
        has_teacher: whether ``fit`` is given a teacher.

    Raises:
        InputError: a parameter or setting is unknown, has a value that is not allowed, or does not go with the others.
    """
    alone = WITHOUT_TEACHER if is_alone and not any(name in others for name in OBJECTIVE) else {}
    values, problems = typed({**parameters, **others, **alone})
    if problems:
        raise InputError(join_problems(list(problems.values())), "settings", NAMES_HINT)
    try:
        settings = settings_from(values)
    except UserError as error:
        raise InputError(error.what, error.where, error.hint) from error
    _check(settings, is_alone, has_teacher)
    return settings


def _check(settings: Settings, is_alone: bool, has_teacher: bool) -> None:
    """Check that student and objective are possible.

    Raises:
        InputError: they are not.
    """
    needs_teacher, student = settings.objective.needs_teacher, settings.student.architecture
    if STUDENTS[student].transductive:
        raise InputError(f"{student} labels only the texts that it was trained with", "student", 'student="bilstm"')
    if is_alone and needs_teacher:
        what = "the objective needs a teacher, but teacher_model is None"
        raise InputError(what, "settings", 'teacher_model="auto", or leave out a, T and objective')
    if has_teacher and not needs_teacher:
        raise InputError("the objective uses no teacher, but one is given", "teacher", "leave out a and T in settings")


def datasets(texts: Sequence[str], tasks: Mapping[str, GivenLabels], settings: Settings) -> dict[str, Dataset]:
    """Train and dev of every task.

    Raises:
        InputError: too few texts are left.
    """
    if empty := [position for position, text in enumerate(texts) if not text]:
        remind(f"{len(empty)} of the texts are empty and are left out; the first: texts[{empty[0]}]", of_model=False)
    seed, hierarchy = settings.run.seed, settings.data.hierarchy
    try:
        splits = {
            name: from_memory(
                [
                    Example.of(texts[row], label)
                    for row, label in zip(task.rows, task.labels, strict=True)
                    if texts[row]
                ],
                class_names(task.classes),
                is_multi_label=bool(task.form),
                hierarchy=hierarchy,
            )
            for name, task in tasks.items()
        }
        if ONLY in splits:
            return {ONLY: checked(splits[ONLY], seed, needs_test=False)}
        return split_tasks(splits, seed, needs_test=False)
    except UserError as error:
        hint = "every class needs texts of its own, and at least one class needs two"
        raise InputError(error.what, "fit", hint) from error


def plain(value: Any) -> Any:
    """A value as TOML and JSON have it: NumPy's numbers, paths and tuples are plain ones."""
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return {name: plain(item) for name, item in value.items()} if isinstance(value, Mapping) else value
