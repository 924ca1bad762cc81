"""``--mode compare``: objectives x students x seeds, compared with the student alone and the linear baseline."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from distill.commands.distillation import choose_linear_weight
from distill.commands.evaluate_comparison import Entry, evaluate_comparison, transfer_name
from distill.commands.experiment import Run, row_folders
from distill.commands.label import label
from distill.commands.label_sets import require_single_label
from distill.commands.left_out_class import class_left_out, train_without_class
from distill.commands.student_spec import StudentSpec
from distill.commands.teachers import cache_outputs, teachers_of
from distill.commands.train_student import train_seeds
from distill.commands.train_teacher import train_own_teachers
from distill.config import STUDENTS, ObjectiveSettings
from distill.config.objectives import LABELS
from distill.errors import UserError
from distill.progress import log
from distill.teachers import Teacher


def compare(run: Run) -> list[Path]:
    """Train every student with every objective, and write one table of their results on test.

    All settings and texts are read first, so that an error in them shows before hours of training.
    """
    students, objectives, left_out = _students(run), _objectives(run), class_left_out(run)
    files = train_own_teachers(run) + label(run)
    entries = _entries(run, students, objectives)
    for number, entry in enumerate(entries, 1):
        log.info("compare, row %d of %d: %s", number, len(entries), entry.name)
        train_seeds(run, entry.spec, entry.folders)
    left_out_class = [] if left_out is None else train_without_class(run, left_out, entries[0].spec.student)
    text, written = evaluate_comparison(run, entries, left_out_class)
    log.info("\n%s", text)
    return files + written


def check_teachers(run: Run) -> None:
    """Refuse data without labels, and teachers that are no models, before any text is labelled."""
    if not run.has_labels:
        raise UserError("a comparison needs labels, and the data has none", "--mode compare", "--mode all")
    teachers = teachers_of(run) if run.named_teachers else ()
    if others := [teacher.name for teacher in teachers if not teacher.is_model]:
        what = f"{', '.join(others)} is no model that can be timed and labels every text"
        raise UserError(what, "--mode compare", "--mode train_student and --mode test with this teacher")


def prepare_teachers(run: Run) -> None:
    """Train the teachers and cache the outputs that the objectives need: the part that several processes share."""
    train_own_teachers(run)
    cache_outputs(run, run.settings.compare.objectives)


def _students(run: Run) -> list[str]:
    """The networks of --students."""
    names = _split(run.settings.compare.students)
    unknown = [name for name in names if name not in STUDENTS]
    if unknown or not names:
        what = f"unknown network {', '.join(unknown)}" if unknown else "no network is named"
        what += f"; the networks are {', '.join(STUDENTS)}"
        raise UserError(what, "--students", "--students bilstm,average")
    if graphs := [name for name in names if STUDENTS[name].transductive]:
        require_single_label(run, f"--students {graphs[0]}", "--students bilstm,average")
    return names


def _objectives(run: Run) -> list[ObjectiveSettings]:
    """The objectives of --objectives; each needs something besides the labels."""
    objective = run.settings.objective
    objectives = [dataclasses.replace(objective, objective=name) for name in _split(run.settings.compare.objectives)]
    alone = [objective.objective for objective in objectives if objective.is_alone]
    if alone or not objectives:
        what = (
            f"{alone[0]} learns from the labels alone, which is compared anyway" if alone else "no objective is named"
        )
        raise UserError(what, "--objectives", "--objectives logits,soft")
    return objectives


def _split(names: str) -> list[str]:
    """Comma-separated names, each once."""
    return list(dict.fromkeys(name.strip() for name in names.split(",") if name.strip()))


def _entries(run: Run, students: Sequence[str], objectives: Sequence[ObjectiveSettings]) -> list[Entry]:
    """The rows of the comparison."""
    rows = _Rows(run, objectives)
    for student in students:
        rows.add_student(student)
    return rows.entries


class _Rows:
    """Collects the rows of the comparison."""

    def __init__(self, run: Run, objectives: Sequence[ObjectiveSettings]) -> None:
        self.run, self.objectives = run, objectives
        self.teachers = teachers_of(run)
        self.alone = run.settings.alone().objective
        self.linear_weight = functools.cache(functools.partial(choose_linear_weight, run))
        self.entries: list[Entry] = []

    def add_student(self, student: str) -> None:
        """Add a network's rows: alone, with every objective, and with the first objective and all teachers.

        A student that reads more texts than train is compared with the student alone that is trained for as many steps.
        """
        base = self._add(student, "alone", self.alone)
        general = 0 if STUDENTS[student].transductive else len(self.run.general)
        if general:
            texts = len(self.run.data.train) + general
            base = self._add(student, "alone, as many steps", self.alone, budget=texts, general_budget=general)
        for objective in self.objectives:
            teachers = self.teachers[:1] if objective.needs_teacher else ()
            self._add(student, objective.objective, objective, base, teachers=teachers)
        self._add_all_teachers(student, self.objectives[0].objective, base)
        if self.run.unlabelled_and_augmented:
            self._add_extra_texts(student, general)

    def _add_extra_texts(self, student: str, general: int) -> None:
        """Add the rows of the student that reads the texts without labels too."""
        first, transfer = self.objectives[0], transfer_name(self.run)
        texts = len(self.run.transfer_set) + general
        name = "alone, as many steps" + f" as {transfer}" * bool(general)
        base = self._add(student, name, self.alone, budget=texts, general_budget=general)
        name = f"{first.objective}, {transfer}"
        self._add(
            student,
            name,
            first,
            base,
            teachers=self.teachers[:1],
            unlabelled_and_augmented=self.run.unlabelled_and_augmented,
        )
        self._add_all_teachers(student, name, base, unlabelled_and_augmented=self.run.unlabelled_and_augmented)

    def _add_all_teachers(self, student: str, name: str, base: str, **spec: Any) -> None:
        """Add the row of the first objective with all teachers, if there are several."""
        if len(self.teachers) > 1:
            name += f", {len(self.teachers)} teachers"
            self._add(student, name, self.objectives[0], base, teachers=self.teachers, **spec)

    def _add(self, student: str, name: str, objective: ObjectiveSettings, against: str = "", **spec: Any) -> str:
        """Add a row; ``spec`` are fields of :class:`StudentSpec`. Returns the row's name."""
        teachers: tuple[Teacher, ...] = spec.get("teachers", ())
        name = f"{student}, {name}"
        self.entries.append(
            Entry(
                name=name,
                objective=LABELS if objective.is_alone else objective.objective,
                spec=StudentSpec(
                    self.run.student_settings(student, has_teacher=bool(teachers)),
                    objective,
                    general=self.run.general if teachers and not STUDENTS[student].transductive else (),
                    linear_weight=self.linear_weight(teachers),
                    **spec,
                ),
                folders=row_folders(self.run, name),
                against=against,
            )
        )
        return name
