"""``--mode compare``: objectives x students x seeds, compared with the student alone and the linear baseline."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distill.commands.distillation import choose_linear_weight
from distill.commands.evaluate_comparison import TRAIN, Entry, evaluate_comparison, transfer_name
from distill.commands.experiment import Run, row_folders
from distill.commands.label import label
from distill.commands.label_sets import require_single_label
from distill.commands.left_out_class import class_left_out, train_without_class
from distill.commands.student_spec import StudentSpec
from distill.commands.teachers import cache_outputs, teachers_of
from distill.commands.train_student import check_student, train_seeds
from distill.commands.train_teacher import train_own_teachers
from distill.config import STUDENTS, ObjectiveSettings
from distill.config.objectives import LABELS
from distill.errors import UserError
from distill.progress import log
from distill.teachers import Teacher


def compare(run: Run) -> list[Path]:
    """Train every student with every objective, and write one table of their results on test."""
    students, objectives, left_out = students_of(run), objectives_of(run), class_left_out(run)
    files = train_own_teachers(run) + label(run)
    entries = _entries(run, students, objectives)
    for number, entry in enumerate(entries, 1):
        log.info("compare, row %d of %d: %s", number, len(entries), entry.name)
        train_seeds(run, entry.spec, entry.folders)
    left_out_class = [] if left_out is None else train_without_class(run, left_out, entries[0].spec.student)
    text, written = evaluate_comparison(run, entries, left_out_class)
    log.info("\n%s", text)
    return files + written


def check_settings(run: Run) -> None:
    """Refuse what cannot be compared, before anything is computed."""
    check_teachers(run)
    check_student(run, students_of(run))
    _ = objectives_of(run), class_left_out(run)


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


def students_of(run: Run) -> list[str]:
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


def objectives_of(run: Run) -> list[ObjectiveSettings]:
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
    teachers = teachers_of(run)
    linear_weight = functools.cache(functools.partial(choose_linear_weight, run))
    entries = []
    for row in student_rows(run, students, objectives, len(teachers)):
        own = teachers[: row.teachers]
        spec = spec_of_row(run, row, own, linear_weight(own))
        entries.append(entry_of_row(run, row, spec, row_folders(run, row.name)))
    return entries


@dataclass(frozen=True)
class StudentRow:
    """A row of a comparison: what its students are trained with.

    Args:
        name: of the row.
        student: the network.
        objective: training objective.
        against: name of the row of the student alone that got the same budget.
        teachers: how many of the teachers it imitates, the first ones.
        has_more_texts: whether it reads the texts without labels too.
        budget: see :class:`StudentSpec`.
        general_budget: see :class:`StudentSpec`.
    """

    name: str
    student: str
    objective: ObjectiveSettings
    against: str = ""
    teachers: int = 0
    has_more_texts: bool = False
    budget: int = 0
    general_budget: int = 0


def spec_of_row(
    run: Run, row: StudentRow, teachers: tuple[Teacher, ...] = (), linear_weight: float = 0.0
) -> StudentSpec:
    """What determines the students of a row."""
    reads_general = row.teachers and not STUDENTS[row.student].transductive
    return StudentSpec(
        run.student_settings(row.student, has_teacher=bool(row.teachers)),
        row.objective,
        teachers,
        unlabelled_and_augmented=run.unlabelled_and_augmented if row.has_more_texts else (),
        general=run.general if reads_general else (),
        budget=row.budget,
        general_budget=row.general_budget,
        linear_weight=linear_weight,
    )


def entry_of_row(run: Run, row: StudentRow, spec: StudentSpec, folders: Sequence[Path]) -> Entry:
    """A row whose students are trained from ``spec`` into ``folders``, one per seed."""
    return Entry(
        name=row.name,
        objective=LABELS if row.objective.is_alone else row.objective.objective,
        spec=spec,
        folders=tuple(folders),
        transfer=transfer_name(run) if row.has_more_texts else TRAIN,
        train_texts=len(spec.texts(run)),
        against=row.against,
    )


def student_rows(
    run: Run, students: Sequence[str], objectives: Sequence[ObjectiveSettings], teachers: int
) -> list[StudentRow]:
    """The rows of a comparison with so many teachers."""
    rows = _StudentRows(run, objectives, teachers)
    for student in students:
        rows.add_student(student)
    return rows.rows


class _StudentRows:
    """Collects the rows of the students."""

    def __init__(self, run: Run, objectives: Sequence[ObjectiveSettings], teachers: int) -> None:
        self.run, self.objectives, self.teachers = run, objectives, teachers
        self.alone = run.settings.alone().objective
        self.rows: list[StudentRow] = []

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
            teachers = 1 if objective.needs_teacher else 0
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
        self._add(student, name, first, base, teachers=1, has_more_texts=True)
        self._add_all_teachers(student, name, base, has_more_texts=True)

    def _add_all_teachers(self, student: str, name: str, base: str, **more: Any) -> None:
        """Add the row of the first objective with all teachers, if there are several."""
        if self.teachers > 1:
            name += f", {self.teachers} teachers"
            self._add(student, name, self.objectives[0], base, teachers=self.teachers, **more)

    def _add(self, student: str, name: str, objective: ObjectiveSettings, against: str = "", **more: Any) -> str:
        """Add a row; ``more`` are fields of :class:`StudentRow`. Returns the row's name."""
        row = StudentRow(f"{student}, {name}", student, objective, against, **more)
        self.rows.append(row)
        return row.name
