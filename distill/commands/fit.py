"""Training on texts in memory: from labelled texts to a bundle, for the estimator."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch

from distill.commands.data_checks import warn_of
from distill.commands.experiment import Run, prepared
from distill.commands.export import write_bundle
from distill.commands.model_cards import card_of
from distill.commands.train_student import train_students
from distill.commands.train_teacher import train_own_teachers
from distill.config import Settings
from distill.data import Dataset, Example
from distill.data.checks import data_checks
from distill.data.unlabelled import new_texts
from distill.progress import log, remind
from distill.teachers import TeacherValue


class RunInMemory(Run):
    """A run on texts that no file holds.

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
        self.data, self.has_labels, self._texts = data, True, texts

    @property
    def has_embedded_data(self) -> bool:
        """See Run."""
        return False

    @functools.cached_property
    def unlabelled(self) -> tuple[Example, ...]:
        """See Run."""
        if not self._texts:
            return ()
        examples, counts = new_texts(self._texts, self.data)
        self.count_unlabelled(counts)
        return tuple(examples)


def train_bundle(run: Run) -> tuple[Path, float]:
    """Train the teachers that the objective needs and one student, and export it; finished models are kept.

    Returns:
        The bundle, and the student's accuracy on dev.
    """
    with _process_unchanged(), prepared(run):
        _report_counts(run.data.counts)
        _ = run.unlabelled  # counted in config.json
        run.write_config()
        warn_of(data_checks(run.data))
        if run.settings.objective.needs_teacher:
            train_own_teachers(run)
        student = train_students(run)[0]
        return write_bundle(run, student), card_of(student).dev_accuracy or 0.0


def _report_counts(counts: dict[str, int]) -> None:
    """Log the sizes of the splits, and warn of the texts that are not used."""
    log.info("data: %d train and %d dev texts", counts["train"], counts["dev"])
    if repeats := counts["duplicates"]:
        remind(f"repeated texts: {repeats:,}; only the first of each is used", of_model=False)
    if conflicts := counts["conflicts"]:
        what = f"texts with two labels: {conflicts:,}; they are left out, because nobody knows which label is right"
        remind(what, of_model=False)


@contextlib.contextmanager
def _process_unchanged() -> Iterator[None]:
    """Give the caller's process its random state and its number of PyTorch's threads back."""
    threads = torch.get_num_threads()
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        try:
            yield
        finally:
            torch.set_num_threads(threads)
