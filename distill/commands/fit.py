"""Training on texts in memory: from labelled texts to a bundle, for the estimator."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import torch

from distill.commands.data_checks import warn_of
from distill.commands.experiment import LabelledRun, Run, prepared
from distill.commands.export import write_bundle
from distill.commands.model_cards import card_of
from distill.commands.task_runs import JointRun
from distill.commands.task_students import check_student_settings, train_joint_students
from distill.commands.tasks import train_teachers
from distill.commands.train_student import check_student, train_students
from distill.commands.train_teacher import train_own_teachers
from distill.config import Settings
from distill.data import Dataset, Example
from distill.data.checks import data_checks
from distill.data.unlabelled import new_texts
from distill.progress import log, remind
from distill.teachers import TeacherValue


class _InMemory(LabelledRun):
    """A run whose texts no file holds; ``texts`` are those without labels."""

    texts: Sequence[str] = ()

    @functools.cached_property
    def unlabelled(self) -> tuple[Example, ...]:
        """See Run."""
        if not self.texts:
            return ()
        examples, counts = new_texts(self.texts, self.data)
        self.count_unlabelled(counts)
        return tuple(examples)


class RunInMemory(_InMemory):
    """A run of one task on texts that no file holds.

    Args:
        settings: of the run.
        teachers: used instead of a teacher of its own.
        data: train and dev.
        texts: without labels.
    """

    def __init__(
        self, settings: Settings, teachers: Sequence[TeacherValue], data: Dataset, texts: Sequence[str]
    ) -> None:
        super().__init__(settings, teachers)
        self.data, self.texts = data, texts


class JointRunInMemory(_InMemory, JointRun):
    """A run of several tasks on texts that no file holds.

    Args:
        settings: of the run.
        teachers: of some of the tasks, used instead of teachers of their own.
        datasets: train and dev of every task.
        texts: without labels.
    """

    def __init__(
        self,
        settings: Settings,
        teachers: Mapping[str, Sequence[TeacherValue]],
        datasets: dict[str, Dataset],
        texts: Sequence[str],
    ) -> None:
        super().__init__(settings, dict.fromkeys(datasets, settings.data), teachers)
        self.datasets, self.texts = datasets, texts


def run_in_memory(
    settings: Settings,
    teachers: Mapping[str, Sequence[TeacherValue]],
    datasets: dict[str, Dataset],
    texts: Sequence[str],
) -> Run:
    """A run of one task, whose name is empty, or of several; see the two classes."""
    if "" in datasets:
        return RunInMemory(settings, teachers.get("", ()), datasets[""], texts)
    return JointRunInMemory(settings, teachers, datasets, texts)


def train_bundle(run: Run) -> tuple[Path, float]:
    """Train the teachers that the objective needs and one student, and export it; finished models are kept.

    Returns:
        The bundle, and the student's figure on dev: accuracy, micro-F1, or the mean score of several tasks.
    """
    tasks: Mapping[str, Run] = run.tasks if isinstance(run, JointRun) else {"": run}
    with _process_unchanged(), prepared(run):
        for name, one in tasks.items():
            _report_counts(one.data.counts, f"{name}: " if name else "")
        _ = run.unlabelled  # counted in config.json
        run.write_config()
        for one in tasks.values():
            warn_of(data_checks(one.data))
        if isinstance(run, JointRun):
            check_student_settings(run)
        else:
            check_student(run)
        if run.settings.objective.needs_teacher:
            _ = train_teachers(run) if isinstance(run, JointRun) else train_own_teachers(run)
        student = (train_joint_students(run) if isinstance(run, JointRun) else train_students(run))[0]
        return write_bundle(run, student), card_of(student).dev_accuracy or 0.0


def _report_counts(counts: dict[str, int], task: str) -> None:
    """Log the sizes of the splits, and warn of the texts that are not used."""
    log.info("%sdata: %d train and %d dev texts", task, counts["train"], counts["dev"])
    if repeats := counts["duplicates"]:
        remind(f"{task}repeated texts: {repeats:,}; only the first of each is used", of_model=False)
    if conflicts := counts["conflicts"]:
        what = f"texts with two labels: {conflicts:,}; they are left out, because nobody knows which label is right"
        remind(f"{task}{what}", of_model=False)


@contextlib.contextmanager
def _process_unchanged() -> Iterator[None]:
    """Give the caller's process its random state and its number of PyTorch's threads back."""
    threads = torch.get_num_threads()
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        try:
            yield
        finally:
            torch.set_num_threads(threads)
