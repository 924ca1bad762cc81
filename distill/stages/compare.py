"""Which way of teaching gives most: objectives x students x seeds, against the student alone and a linear floor."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distill.classifiers import TextClassifier, load, load_student
from distill.config import ARCHITECTURES, ObjectiveSettings
from distill.config.objectives import LABELS
from distill.errors import UserError
from distill.floor import Floor
from distill.metrics import expected_calibration_error, softmax
from distill.progress import log
from distill.report import timing
from distill.report.compare import Comparison, Contestant, write
from distill.stages.examine import first_of_text, timing_sentence
from distill.stages.learn import Course, take
from distill.stages.left_out import class_left_out, without_class
from distill.stages.run import Run, labels_of, train_seconds
from distill.stages.teach import label, teachers_of, train_teacher

FLOOR, ONE, EACH, TOGETHER = "LinearSVC", "teacher", "teachers, each", "teachers together"
TRAIN = "train"


@dataclass(frozen=True)
class Entry:
    """One row to be: a course, its name in words, the row of the student alone that got the same budget."""

    name: str
    course: Course
    objective: str
    against: str = ""

    @property
    def slug(self) -> str:
        """The name as a folder's."""
        return re.sub(r"[^\w+.-]+", "_", self.name)


def compare(run: Run) -> list[Path]:
    """Train what --students, --objectives, --unlabeled and --teachers ask for; one table of all of it on test.

    What is asked for is read first, so that a fault in it shows before hours of training.
    """
    wanted = _objectives(run), _students(run)
    left_out = class_left_out(run)
    files = [] if run.settings.transfer.teacher else train_teacher(run)
    files += label(run)
    entries = _entries(run, teachers_of(run), *wanted)
    for number, entry in enumerate(entries, 1):
        log.info("compare, row %d of %d: %s", number, len(entries), entry.name)
        take(run, entry.course, lambda place, entry=entry: folder_of(run, entry, place))  # type: ignore[misc]
    without = [] if left_out is None else without_class(run, left_out, teachers_of(run), entries[0].course.student)
    text, written = _report(run, entries, without)
    log.info("\n%s", text)
    return files + written


def folder_of(run: Run, entry: Entry, place: int) -> Path:
    """Folder of one seed's student of a row."""
    return run.folder.compare / (entry.slug if place == 0 else f"{entry.slug}.{place + 1}")


def _students(run: Run) -> list[str]:
    names = [name.strip() for name in run.settings.compare.students.split(",") if name.strip()]
    unknown = [name for name in names if name not in ARCHITECTURES]
    if unknown or not names:
        what = f"--students: {', '.join(unknown) or 'nothing'} is none of {', '.join(ARCHITECTURES)}"
        raise UserError(what, "settings", "--students bilstm,average")
    return list(dict.fromkeys(names))


def _objectives(run: Run) -> list[ObjectiveSettings]:
    names = [name.strip() for name in run.settings.compare.objectives.split(",") if name.strip()]
    chosen = [dataclasses.replace(run.settings.objective, objective=name) for name in dict.fromkeys(names)]
    if not chosen or any(objective.is_alone for objective in chosen):
        what = "--objectives: one leaves the teacher out; the student alone is among the rows anyway"
        raise UserError(what, "settings", "--objectives logits,soft")
    return chosen


def _entries(
    run: Run, teachers: tuple[Path, ...], objectives: Sequence[ObjectiveSettings], students: Sequence[str]
) -> list[Entry]:
    """The rows: every student alone and by every objective; the first objective with more texts and more teachers."""
    alone, several = run.settings.alone().objective, f", {len(teachers)} teachers"
    one, first = teachers[:1], objectives[0]
    entries: list[Entry] = []
    for student in students:
        settings = run.settings.student.suited(student)

        def add(what: str, objective: ObjectiveSettings, against: str = "", **course: Any) -> str:
            name = f"{student}, {what}"  # noqa: B023
            entries.append(Entry(name, Course(settings, objective, **course), _named(objective), against))  # noqa: B023
            return name

        base = add("alone", alone)
        for objective in objectives:
            add(objective.objective, objective, base, teachers=one)
        if len(teachers) > 1:
            add(first.objective + several, first, base, teachers=teachers)
        if run.extra:
            base = add("alone, as many steps", alone, budget=len(run.transfer_set))
            add(f"{first.objective}, {_transfer(run)}", first, base, teachers=one, extra=run.extra)
        if run.extra and len(teachers) > 1:
            add(f"{first.objective}, {_transfer(run)}{several}", first, base, teachers=teachers, extra=run.extra)
    return entries


def _transfer(run: Run) -> str:
    """What the transfer set holds, in words."""
    settings = run.settings.transfer
    return TRAIN + " + unlabelled" * bool(settings.unlabeled) + " + augmented" * bool(settings.augment)


def _named(objective: ObjectiveSettings) -> str:
    return LABELS if objective.is_alone else objective.objective


def _report(run: Run, entries: Sequence[Entry], left_out: list[dict[str, Any]]) -> tuple[str, list[Path]]:
    texts = [example.text for example in run.data.test]
    gold = labels_of(run.data.test).numpy()
    teachers = [load(folder) for folder in teachers_of(run)]
    students = {
        entry.name: [load_student(folder_of(run, entry, place)) for place in range(run.settings.run.seeds)]
        for entry in entries
    }
    floor = _floor(run)
    timed: dict[str, Callable[[Sequence[str]], object]] = {ONE: teachers[0].predict, FLOOR: floor.predict}
    timed.update({name: models[0].predict for name, models in students.items()})
    measured = timing.ms_per_text(timed, texts[: timing.TEXTS])
    rows = _teacher_rows(run, teachers, texts, gold, measured[ONE])
    rows.append(_floor_row(run, floor, texts, measured[FLOOR]))
    for entry in entries:
        rows.append(_student_row(run, entry, students[entry.name], texts, gold, measured[entry.name]))
    comparison = Comparison(
        gold=gold,
        first_of_text=first_of_text(run.data.test),
        labels=run.data.labels,
        contestants=rows,
        data=run.data.counts,
        settings=dataclasses.asdict(run.settings),
        timing=timing_sentence(min(len(texts), timing.TEXTS)),
        left_out=left_out,
        notes=(),
    )
    return write(comparison, run.folder.compare)


def _floor(run: Run) -> Floor:
    train, dev = run.data.train, run.data.dev
    return Floor().fit(
        [example.text for example in train],
        run.segmented(train),
        [example.label for example in train],
        dev_texts=[example.text for example in dev],
        dev_segmented=run.segmented(dev),
        dev_labels=[example.label for example in dev],
    )


def _floor_row(run: Run, floor: Floor, texts: Sequence[str], milliseconds: float) -> Contestant:
    return Contestant(
        name=FLOOR,
        objective="floor",
        student=FLOOR,
        transfer=TRAIN,
        teachers=0,
        predicted=floor.predict(texts)[None],
        logits_calibration=None,
        train_seconds=floor.seconds,
        train_texts=len(run.data.train),
        ms_per_text=milliseconds,
        parameters=floor.parameters,
        against="",
        teacher=ONE,
    )


def _teacher_rows(
    run: Run, teachers: Sequence[TextClassifier], texts: Sequence[str], gold: NDArray[np.int64], milliseconds: float
) -> list[Contestant]:
    """The first teacher; and of several the mean of them one by one, and all together."""
    logits = np.stack([teacher.logits(texts, "test, teacher").numpy() for teacher in teachers])
    seconds = [train_seconds(folder) for folder in teachers_of(run)]

    def row(name: str, of: NDArray[np.float32], count: int, spent: float, slower: int = 1) -> Contestant:
        calibration = float(np.mean([expected_calibration_error(softmax(each), gold) for each in of]))
        return Contestant(
            name=name,
            objective="teacher",
            student="teacher",
            transfer=TRAIN,
            teachers=count,
            predicted=of.argmax(2),
            logits_calibration=(calibration, None),
            train_seconds=spent,
            train_texts=len(run.data.train),
            ms_per_text=milliseconds * slower,
            parameters=teachers[0].parameters * slower,
            against="",
            teacher=ONE if count == 1 and name == ONE else EACH,
        )

    rows = [row(ONE, logits[:1], 1, seconds[0])]
    if len(teachers) > 1:
        rows.append(row(EACH, logits, 1, float(np.mean(seconds))))
        rows.append(row(TOGETHER, logits.mean(0, keepdims=True), len(teachers), sum(seconds), len(teachers)))
    return rows


def _student_row(
    run: Run,
    entry: Entry,
    models: Sequence[TextClassifier],
    texts: Sequence[str],
    gold: NDArray[np.int64],
    milliseconds: float,
) -> Contestant:
    logits = np.stack([model.logits(texts).numpy() for model in models])
    errors = [
        [expected_calibration_error(softmax(own / by), gold) for by in (1.0, model.temperature)]
        for own, model in zip(logits, models, strict=True)
    ]
    before, after = np.mean(errors, axis=0)
    seconds = [train_seconds(folder_of(run, entry, place)) for place in range(len(models))]
    count = len(entry.course.teachers)
    return Contestant(
        name=entry.name,
        objective=entry.objective,
        student=entry.course.student.architecture,
        transfer=_transfer(run) if entry.course.extra else TRAIN,
        teachers=count,
        predicted=logits.argmax(2),
        logits_calibration=(float(before), float(after)),
        train_seconds=float(np.mean(seconds)),
        train_texts=len(entry.course.texts(run)),
        ms_per_text=milliseconds,
        parameters=models[0].parameters,
        against=entry.against,
        teacher=ONE if count < 2 else EACH,
    )
