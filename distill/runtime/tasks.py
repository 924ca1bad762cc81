"""Tasks: the questions that a student answers about a text, such as its topic and its sentiment.

A network of several tasks has the outputs of all of them one after another. A task is one label per text, decided by a
softmax over its outputs, or any number of labels, each of them decided by a sigmoid and a threshold of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distill.errors import UserError
from distill.runtime.label_sets import exceeding, names_of, set_probability, sigmoid
from distill.runtime.unsure import (
    Classifier,
    Probabilities,
    check_rejection,
    check_top_k,
    classes_of,
    most_probable,
    thresholds_of,
)

SEPARATOR = "/"  # between a task's name and a label, in the names of a network's outputs
ByTask = float | Mapping[str, float]  # a number for all tasks, or one for each that is named
ByTeacher = NDArray[np.bool_]  # which texts the teacher of a cascade has answered, (texts,) or (texts, tasks)


@dataclass(frozen=True)
class Task:
    """A task and its part of a network's outputs.

    Args:
        name: of the task; empty for the only task of a student.
        labels: the names of its classes.
        thresholds: the probability above which a text gets each label; empty: every text gets one label.
        first: index of its first output.
        teacher_thresholds: in a cascade, what takes the place of ``thresholds`` in texts that the teacher has answered;
            empty: the same.
    """

    name: str
    labels: tuple[str, ...]
    thresholds: tuple[float, ...] = ()
    first: int = 0
    teacher_thresholds: tuple[float, ...] = ()

    @property
    def columns(self) -> slice:
        """Its part of the outputs."""
        return slice(self.first, self.first + len(self.labels))

    @property
    def card(self) -> dict[str, Any]:
        """Its entry in a student's card."""
        thresholds = {"thresholds": list(self.thresholds)} if self.thresholds else {}
        return {"name": self.name, "labels": list(self.labels), **thresholds}

    def probabilities(self, logits: NDArray[np.float32], temperature: float = 1.0) -> Probabilities:
        """Of each of its labels (texts, labels), from the logits of all outputs (texts, outputs)."""
        own = logits[:, self.columns]
        return sigmoid(own, temperature) if self.thresholds else softmax(own, temperature)

    def has_labels(self, own: Probabilities, by_teacher: ByTeacher | None = None) -> NDArray[np.bool_]:
        """Which labels every text gets (texts, labels) by the thresholds, from the labels' probabilities."""
        if by_teacher is None or not self.teacher_thresholds:
            return exceeding(own, self.thresholds)
        return exceeding(own, np.where(by_teacher[:, None], self.teacher_thresholds, self.thresholds))

    def confidence(self, own: Probabilities) -> NDArray[np.float32]:
        """How sure a student is of what it predicts (texts,), from the probabilities of its labels (texts, labels).

        The highest one or, if a text may have any number of labels, that of the whole set.
        """
        return set_probability(own, self.has_labels(own)) if self.thresholds else own.max(axis=1)

    def predict(
        self,
        probabilities: Probabilities,
        reject_below: float = 0.0,
        reject_label: str = "",
        by_teacher: ByTeacher | None = None,
    ) -> list[str] | list[list[str]]:
        """The label of every text, or the list of its labels, from those of all outputs (texts, outputs).

        It is ``reject_label`` where the probability of the label, or of the set of labels, is below ``reject_below``.
        """
        own = probabilities[:, self.columns]
        if self.thresholds:
            has_label = self.has_labels(own, by_teacher)
            names = names_of(has_label, self.labels)
            rejected = np.flatnonzero(set_probability(own, has_label) < reject_below) if reject_below else ()
            for index in rejected:
                names[index] = rejected_labels(reject_label)
            return names
        classes = classes_of(own, reject_below) if reject_below else own.argmax(axis=1)
        labels = [*self.labels, reject_label]
        return [labels[index] for index in classes.tolist()]


def rejected_labels(reject_label: str) -> list[str]:
    """The labels of a rejected text that could have any number of them: that of rejected texts, if there is one."""
    return [reject_label] if reject_label else []


def softmax(logits: NDArray[np.float32], temperature: float = 1.0) -> Probabilities:
    """Probability of every class, shape (texts, classes); those of a text sum to 1."""
    scaled = logits / np.float32(temperature)
    scaled -= scaled.max(axis=1, keepdims=True)
    powers: Probabilities = np.exp(scaled, out=scaled)
    powers /= powers.sum(axis=1, keepdims=True)
    return powers


def tasks_of(cards: Sequence[Mapping[str, Any]]) -> tuple[Task, ...]:
    """The tasks of a student's card, whose outputs follow one another."""
    tasks: list[Task] = []
    for card in cards:
        thresholds = tuple(map(float, card.get("thresholds", ())))
        first = tasks[-1].columns.stop if tasks else 0
        tasks.append(Task(card["name"], tuple(card["labels"]), thresholds, first))
    return tuple(tasks)


def flat_labels(tasks: Sequence[Task]) -> tuple[str, ...]:
    """A name for every output: the task's, a slash and the label."""
    return tuple(f"{task.name}{SEPARATOR}{label}" for task in tasks for label in task.labels)


def tasks_in(classifier: Classifier) -> tuple[Task, ...]:
    """The tasks of a classifier; empty if it has only one."""
    return tuple(getattr(classifier, "tasks", ()))


def names_of_tasks(classifier: Classifier) -> list[str]:
    """The names of the tasks of a classifier; none if it has only one."""
    return [task.name for task in tasks_in(classifier)]


def heads_of(classifier: Classifier) -> tuple[Task, ...]:
    """The tasks of a classifier; of one without tasks, a single one without a name."""
    of_teacher = tuple(getattr(classifier, "teacher_thresholds", ()))
    only = Task("", classifier.labels, thresholds_of(classifier), teacher_thresholds=of_teacher)
    return tasks_in(classifier) or (only,)


def outputs_of(classifier: Classifier) -> Callable[[Sequence[str]], Probabilities]:
    """The method that gives the probabilities of all outputs (texts, outputs), also those of several tasks."""
    method: Callable[[Sequence[str]], Probabilities]
    method = getattr(classifier, "flat_proba" if tasks_in(classifier) else "predict_proba")
    return method


def check_top_k_of(tasks: Sequence[Task], k: int) -> None:
    """Check how many labels are asked for; a task that has fewer gives all of them.

    Raises:
        UserError: it is not a whole number from 1 to the largest number of labels of a task.
    """
    check_top_k(k, max((task.labels for task in tasks), key=len))


def of_each_task(value: ByTask, tasks: Sequence[Task], setting: str) -> list[float]:
    """The number of every task; 0 for those that a mapping leaves out.

    Raises:
        UserError: a mapping names something else than a task.
    """
    if not isinstance(value, Mapping):
        return [value] * len(tasks)
    names = [task.name for task in tasks if task.name]
    if unknown := [name for name in value if name not in names]:
        which = f"the tasks are {', '.join(names)}" if names else "this student has only one"
        what = f"there is no task {unknown[0]!r:.40}; {which}"
        raise UserError(what, setting, f"{setting}={{{names[0]!r}: 0.8}}" if names else f"{setting}=0.8")
    return [value.get(task.name, 0.0) for task in tasks]


def check_rejection_of(tasks: Sequence[Task], below: ByTask, name: str) -> None:
    """Check the threshold and the label of rejected texts.

    Raises:
        UserError: as :func:`of_each_task` and :func:`distill.runtime.unsure.check_rejection`.
    """
    for task, of_task in zip(tasks, of_each_task(below, tasks, "reject_below"), strict=True):
        check_rejection(of_task, name, task.labels)


def flat_proba(tasks: Sequence[Task], logits: NDArray[np.float32], temperature: float = 1.0) -> Probabilities:
    """Probability of every output, shape (texts, outputs), each task's by themselves."""
    return np.concatenate([task.probabilities(logits, temperature) for task in tasks], axis=1)


def labels_by_task(
    tasks: Sequence[Task],
    probabilities: Probabilities,
    reject_below: ByTask = 0.0,
    reject_label: str = "",
    by_teacher: ByTeacher | None = None,
) -> dict[str, list[str] | list[list[str]]]:
    """What :meth:`Task.predict` predicts for every task, by its name; ``by_teacher`` is (texts, tasks)."""
    pairs = zip(tasks, of_each_task(reject_below, tasks, "reject_below"), strict=True)
    return {
        task.name: task.predict(
            probabilities, below, reject_label, None if by_teacher is None else by_teacher[:, index]
        )
        for index, (task, below) in enumerate(pairs)
    }


def top_k_by_task(tasks: Sequence[Task], probabilities: Probabilities, k: int) -> dict[str, list[Any]]:
    """The ``k`` most probable labels of every text in every task, or all if there are fewer, by the task's name."""
    return {task.name: most_probable(probabilities[:, task.columns], task.labels, k) for task in tasks}


def by_task(tasks: Sequence[Task], probabilities: Probabilities) -> dict[str, Probabilities]:
    """The probabilities of all outputs (texts, outputs) by the task's name, each (texts, its labels)."""
    return {task.name: probabilities[:, task.columns] for task in tasks}
