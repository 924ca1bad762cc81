"""Which way of teaching gives most: objectives x students x seeds, against the student alone and a linear floor."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from distill.commands.distillation import choose_linear_weight
from distill.commands.evaluate_comparison import Entry, evaluate_comparison, transfer_name
from distill.commands.experiment import Run, row_folders
from distill.commands.held_out_class import class_left_out, without_class
from distill.commands.label import label
from distill.commands.student_spec import StudentSpec
from distill.commands.teachers import cache_outputs, teacher_folders
from distill.commands.train_student import train_seeds
from distill.commands.train_teacher import train_teacher
from distill.config import STUDENTS, ObjectiveSettings
from distill.config.objectives import LABELS
from distill.errors import UserError
from distill.progress import log


def compare(run: Run) -> list[Path]:
    """Train what --students, --objectives, --unlabeled and --teachers ask for; one table of all of it on test.

    What is asked for is read first, so that a fault in it shows before hours of training.
    """
    students, objectives, left_out, _ = _students(run), _objectives(run), class_left_out(run), run.extra
    files = [] if run.settings.transfer.teacher else train_teacher(run)
    files += label(run)
    entries = _entries(run, students, objectives)
    for number, entry in enumerate(entries, 1):
        log.info("compare, row %d of %d: %s", number, len(entries), entry.name)
        train_seeds(run, entry.spec, entry.folders)
    without = [] if left_out is None else without_class(run, left_out, entries[0].spec.student)
    text, written = evaluate_comparison(run, entries, without)
    log.info("\n%s", text)
    return files + written


def prepare_teachers(run: Run) -> None:
    """Train the teachers and cache the outputs that the objectives need: the part that several processes share."""
    _ = run.extra  # read the texts without labels first: an error in them should show before hours of training
    if not run.settings.transfer.teacher:
        train_teacher(run)
    cache_outputs(run, run.settings.compare.objectives)


def _students(run: Run) -> list[str]:
    names = [name.strip() for name in run.settings.compare.students.split(",") if name.strip()]
    unknown = [name for name in names if name not in STUDENTS]
    if unknown or not names:
        what = f"--students: {', '.join(unknown) or 'nothing'} is none of {', '.join(STUDENTS)}"
        raise UserError(what, "settings", "--students bilstm,average")
    return list(dict.fromkeys(names))


def _objectives(run: Run) -> list[ObjectiveSettings]:
    names = [name.strip() for name in run.settings.compare.objectives.split(",") if name.strip()]
    chosen = [dataclasses.replace(run.settings.objective, objective=name) for name in dict.fromkeys(names)]
    if not chosen or any(objective.is_alone for objective in chosen):
        what = "--objectives: one leaves the teacher out; the student alone is among the rows anyway"
        raise UserError(what, "settings", "--objectives logits,soft")
    return chosen


def _entries(run: Run, students: Sequence[str], objectives: Sequence[ObjectiveSettings]) -> list[Entry]:
    """The rows: every student alone and by every objective; the first objective with more texts and more teachers."""
    teachers, alone, first = teacher_folders(run), run.settings.alone().objective, objectives[0]
    several = f", {len(teachers)} teachers"
    entries: list[Entry] = []

    @functools.cache
    def weight(teachers: tuple[Path, ...]) -> float:
        return choose_linear_weight(run, teachers)

    def add(student: str, what: str, objective: ObjectiveSettings, against: str = "", **spec: Any) -> str:
        taught = bool(spec.get("teachers"))
        entry = Entry(
            name=f"{student}, {what}",
            objective=LABELS if objective.is_alone else objective.objective,
            spec=StudentSpec(
                run.student_settings(student, taught=taught),
                objective,
                general=run.general if taught and not STUDENTS[student].transductive else (),
                linear_weight=weight(spec.get("teachers", ())),
                **spec,
            ),
            folders=row_folders(run, f"{student}, {what}"),
            against=against,
        )
        entries.append(entry)
        return entry.name

    for student in students:
        base, general = add(student, "alone", alone), 0 if STUDENTS[student].transductive else len(run.general)
        if general:
            texts = len(run.data.train) + general
            base = add(student, "alone, as many steps", alone, budget=texts, general_budget=general)
        for objective in objectives:
            one = teachers[:1] if objective.needs_teacher else ()
            add(student, objective.objective, objective, base, teachers=one)
        if len(teachers) > 1:
            add(student, first.objective + several, first, base, teachers=teachers)
        if run.extra:
            texts = len(run.transfer_set) + general
            name = "alone, as many steps" + f" as {transfer_name(run)}" * bool(general)
            base = add(student, name, alone, budget=texts, general_budget=general)
            more = f"{first.objective}, {transfer_name(run)}"
            add(student, more, first, base, teachers=teachers[:1], extra=run.extra)
            if len(teachers) > 1:
                add(student, more + several, first, base, teachers=teachers, extra=run.extra)
    return entries
