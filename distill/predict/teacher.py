"""The teachers of a run, for --cascade and /explain. They are loaded when first used: PyTorch takes seconds."""

from __future__ import annotations

import functools
import importlib.util
import json
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from distill.config import Settings
from distill.errors import UserError, install_hint
from distill.progress import log
from distill.runtime.cascade import Cascade
from distill.runtime.tasks import ByTask, Task
from distill.runtime.unsure import Classifier
from distill.storage.fingerprints import fingerprint_file
from distill.storage.run_folder import TEACHER_CARD, TRAIN_TEACHER, RunFolder

if TYPE_CHECKING:
    from distill.models.text_classifier import TextClassifier


WEIGHTS_AND_TOKENIZER = (".safetensors", ".json", ".txt")  # suffixes of the files that determine a teacher's output


class LazyTeacher:
    """A teacher that is loaded from its folder when it is first used. Threads may share it; it takes one at a time.

    Args:
        folder: as ``--mode train_teacher`` wrote it.
        threads: of PyTorch; 0: PyTorch's own choice.
    """

    def __init__(self, folder: Path, threads: int = 0) -> None:
        self.folder, self._threads, self._lock = folder, threads, threading.Lock()

    @functools.cached_property
    def _classifier(self) -> TextClassifier:
        from distill.models.inference import set_threads
        from distill.models.text_classifier import load_teacher

        set_threads(self._threads)
        return load_teacher(self.folder)

    def load(self) -> None:
        """Load it now; afterwards its folder is not needed any more."""
        _ = self._classifier, self._card

    @functools.cached_property
    def _card(self) -> dict[str, Any]:
        return _read_card(self.folder)

    @property
    def labels(self) -> tuple[str, ...]:
        """The names of the classes."""
        return tuple(self._card["labels"])

    @property
    def thresholds(self) -> tuple[float, ...]:
        """The probability above which each label is given; empty: every text gets one label."""
        return tuple(self._card.get("thresholds", ()))

    @property
    def fingerprints(self) -> dict[str, str]:
        """Fingerprints of the files that determine the output, by name."""
        paths = sorted(path for path in self.folder.iterdir() if path.suffix in WEIGHTS_AND_TOKENIZER)
        return {path.name: fingerprint_file(path) for path in paths}

    def predict_proba(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Probabilities, shape (texts, classes), in the order of ``labels``."""
        with self._lock:
            return self._classifier.predict_proba(texts)

    def cascade(self, student: Classifier, below: ByTask) -> Cascade:
        """The student, whose unsure texts go to this teacher."""
        return Cascade(student, self, below)


class TaskTeachers:
    """The teachers of several tasks, one each.

    Args:
        by_task: by the task's name.
        folder: of the run.
    """

    def __init__(self, by_task: Mapping[str, LazyTeacher], folder: Path) -> None:
        self.by_task, self.folder = dict(by_task), folder

    def load(self) -> None:
        """Load them now; afterwards their folders are not needed any more."""
        for teacher in self.by_task.values():
            teacher.load()

    @property
    def fingerprints(self) -> dict[str, str]:
        """Fingerprints of the files that determine the output, by task and name."""
        teachers = self.by_task.items()
        return {f"{task}/{name}": value for task, own in teachers for name, value in own.fingerprints.items()}

    def cascade(self, student: Classifier, below: ByTask) -> Cascade:
        """The student, whose unsure texts go to the teacher of each task."""
        return Cascade(student, self.by_task, below)


def find_teacher(
    settings: Settings, labels: Sequence[str], thresholds: Sequence[float] = (), tasks: Sequence[Task] = ()
) -> LazyTeacher | TaskTeachers | None:
    """The teacher of ``--teacher`` or of the run, if ``--with_teacher`` allows it and it can be used.

    With --cascade, those of several tasks.

    Args:
        settings: of the command.
        labels: the student's labels, which the teacher must share; the teacher of another run may have others.
        thresholds: the student's.
        tasks: the student's.

    Raises:
        UserError: with ``--with_teacher yes`` or ``--cascade``, the teacher cannot be used.
    """
    run, wanted = RunFolder.from_settings(settings), settings.serve.with_teacher
    is_cascade = settings.unsure.cascade
    if wanted == "no" and is_cascade:
        raise UserError("--cascade needs the teacher", "--with_teacher no", "leave out one of them")
    if wanted == "no":
        return None
    if tasks and not is_cascade:
        if wanted == "yes":
            raise UserError("the teachers of several tasks answer in a cascade only", "--with_teacher yes", "--cascade")
        return None
    if tasks:
        named = settings.transfer.teachers_of([task.name for task in tasks])
        teachers = {task.name: _usable(settings, named[task.name], run.task(task.name), task) for task in tasks}
        return TaskTeachers({name: teacher for name, teacher in teachers.items() if teacher}, run.root)
    return _usable(settings, settings.transfer.teacher, run, Task("", tuple(labels), tuple(thresholds)))


def _usable(settings: Settings, named: Sequence[str], run: RunFolder, task: Task) -> LazyTeacher | None:
    """The teacher of a task that --teacher has ``named``, or the run's own, if it can be used."""
    wanted, is_cascade = settings.serve.with_teacher, settings.unsure.cascade
    folder = Path(named[0]) if named else run.model("teacher")
    flag = f"--teacher {task.name}=" if task.name else "--teacher "
    if len(named) > 1:
        problem: tuple[str, str] | None = (
            f"{len(named)} teachers are named, and only one can be used",
            f"{flag}{folder}",
        )
    else:
        problem = _problem(folder, task, flag, "leave out --cascade" if is_cascade else "--with_teacher no")
    if problem and (is_cascade or wanted == "yes"):
        raise UserError(problem[0], folder, problem[1])
    if problem and named:  # no error: a settings file may name a teacher for training
        log.warning("%s: %s, so the page shows no teacher -> %s", folder, *problem)
    return None if problem else LazyTeacher(folder, settings.run.threads)


def _read_card(folder: Path) -> dict[str, Any]:
    card: dict[str, Any] = json.loads((folder / TEACHER_CARD).read_text(encoding="utf-8"))
    return card


def _problem(folder: Path, task: Task, flag: str, without: str) -> tuple[str, str] | None:
    """Why the teacher of a task cannot be used, and what to do about it; None if it can.

    ``flag`` names another one; ``without`` says how to do without it.
    """
    own_run = "--run FOLDER of the student's own run"
    try:
        card = _read_card(folder)
        teacher_labels, thresholds = set(card["labels"]), card.get("thresholds", card["labels"])
    except (OSError, ValueError, KeyError, TypeError):
        return "there is no trained teacher", f"{TRAIN_TEACHER}, or --run FOLDER, or {flag}FOLDER"
    if not isinstance(thresholds, list) or len(thresholds) != len(card["labels"]):
        return "this teacher is broken: it needs a threshold per label", f"{TRAIN_TEACHER}, or {flag}FOLDER"
    if teacher_labels != set(task.labels):
        return "this teacher has other labels than the student", own_run
    if ("thresholds" in card) != bool(task.thresholds):
        return "one of student and teacher gives a text one label, the other any number", own_run
    if importlib.util.find_spec("torch") is None:
        return "the teacher needs PyTorch", f"{install_hint('train')}, or {without}"
    return None
