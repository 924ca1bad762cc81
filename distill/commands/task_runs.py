"""Runs of several tasks: one per task, with teachers and reports of its own, and one for what they share."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence

from torch import Tensor

from distill.commands.experiment import LabelledRun, Run
from distill.config import DataSettings, Settings
from distill.data import Dataset, Example
from distill.data.tasks import joined, labelled, load_tasks
from distill.progress import log
from distill.reporting.results import data_sentence
from distill.storage.run_folder import RunFolder
from distill.teachers import Teacher, TeacherValue
from distill.text.segmentation import Segmenter
from distill.text.word_vectors import VectorReader
from distill.training.heads import Head, make_heads, wide_labels


class JointRun(LabelledRun):
    """What several tasks share: the texts of all of them, without labels, and the student.

    Args:
        settings: of the run. A value of --teacher names its task: TASK=TEACHER.
        tasks: the settings of the tasks' data, by their names.
        teachers: further values of --teacher for some of the tasks, which in Python may be functions.

    Attributes:
        tasks: the runs of the tasks by their names.

    Raises:
        UserError: --teacher does not name a task.
    """

    def __init__(
        self,
        settings: Settings,
        tasks: Mapping[str, DataSettings],
        teachers: Mapping[str, Sequence[TeacherValue]] | None = None,
    ) -> None:
        super().__init__(settings)
        named, further = settings.transfer.teachers_of(list(tasks)), teachers or {}
        self.tasks = {
            name: TaskRun(
                _task_settings(settings, self.folder.task(name), data, named[name]), self, name, further.get(name, ())
            )
            for name, data in tasks.items()
        }
        self._data_settings = tasks

    @functools.cached_property
    def datasets(self) -> dict[str, Dataset]:
        """The data of every task; logs what the checks found."""
        datasets = load_tasks(self._data_settings, self.settings.run.seed, is_strict=self.settings.predict.strict)
        for name, dataset in datasets.items():
            for note in dataset.notes:
                log.info("%s: %s", name, note)
            log.info("%s: %s", name, data_sentence(dataset.counts, is_multi_label=dataset.is_multi_label))
            self.tasks[name].list_set_aside(dataset.set_aside)
        return datasets

    @functools.cached_property
    def data(self) -> Dataset:
        """The texts of all tasks."""
        return joined(self.datasets)

    @property
    def parts(self) -> Sequence[Run]:
        """See Run."""
        return tuple(self.tasks.values())

    @functools.cached_property
    def heads(self) -> tuple[Head, ...]:
        """The heads of a network for all tasks."""
        counts = [len(dataset.labels) for dataset in self.datasets.values()]
        return make_heads(list(self.datasets), counts, [dataset.is_multi_label for dataset in self.datasets.values()])

    def labels_of(self, examples: Sequence[Example]) -> Tensor:
        """The labels that texts have in train and dev of every task, side by side: (texts, columns)."""
        return wide_labels([run.labels_of(labelled(examples, run.data)) for run in self.tasks.values()])

    @functools.cached_property
    def named_teachers(self) -> tuple[Teacher, ...]:
        """None: each teacher is one of a task."""
        return ()

    @property
    def has_model_teacher(self) -> bool:
        """Whether every task has a teacher that is a model, so that any text can be labelled for all tasks."""
        return all(run.has_model_teacher for run in self.tasks.values())


class TaskRun(LabelledRun):
    """The run of one of several tasks; the texts of the others are texts without labels.

    Args:
        settings: of the task.
        joint: what the tasks share.
        name: of the task.
        teachers: further values of its ``--teacher``, which in Python may be functions.
    """

    def __init__(self, settings: Settings, joint: JointRun, name: str, teachers: Sequence[TeacherValue] = ()) -> None:
        super().__init__(settings, teachers)
        self._joint, self._name = joint, name

    @functools.cached_property
    def data(self) -> Dataset:
        """See Run."""
        return self._joint.datasets[self._name]

    @functools.cached_property
    def unlabelled(self) -> tuple[Example, ...]:
        """The train texts of the other tasks, and the texts without labels of all."""
        own = {example.id for example in self.data.train}
        texts = (*self._joint.data.train, *self._joint.unlabelled_and_augmented)
        return tuple(example for example in texts if example.id not in own)

    @functools.cached_property
    def segmenter(self) -> Segmenter:
        """See Run."""
        return self._joint.segmenter

    def vectors(self, name: str) -> VectorReader | None:
        """Those of all tasks, so that a file is opened once."""
        return self._joint.vectors(name)

    def segmented(self, examples: Sequence[Example]) -> list[list[str]]:
        """See Run."""
        return self._joint.segmented(examples)

    @property
    def task_name(self) -> str:
        """See Run."""
        return self._name

    @property
    def of_task(self) -> str:
        """See Run."""
        return f"{self._name}="

    @property
    def shipping(self) -> RunFolder:
        """See Run."""
        return self._joint.folder


def _task_settings(settings: Settings, folder: RunFolder, data: DataSettings, teachers: Sequence[str]) -> Settings:
    transfer = dataclasses.replace(settings.transfer, teacher=tuple(teachers), unlabeled=(), augment=0)
    run = dataclasses.replace(settings.run, run=str(folder.root))
    return dataclasses.replace(settings, run=run, data=data, transfer=transfer)
