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

from distill.runtime.label_sets import exceeding, names_of, sigmoid
from distill.runtime.unsure import (
    Classifier,
    Probabilities,
    check_one_label,
    check_rejection,
    check_top_k,
    chosen_labels,
    most_probable,
    thresholds_of,
)

SEPARATOR = "/"  # between a task's name and a label, in the names of a network's outputs


@dataclass(frozen=True)
class Task:
    """A task and its part of a network's outputs.

    Args:
        name: of the task; empty for the only task of a student.
        labels: the names of its classes.
        thresholds: the probability above which a text gets each label; empty: every text gets one label.
        first: index of its first output.
    """

    name: str
    labels: tuple[str, ...]
    thresholds: tuple[float, ...] = ()
    first: int = 0

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

    def predict(
        self, probabilities: Probabilities, reject_below: float = 0.0, reject_label: str = ""
    ) -> list[str] | list[list[str]]:
        """The label of every text, or the list of its labels, from those of all outputs (texts, outputs).

        Of a task of one label per text, ``reject_label`` where the probability is below ``reject_below``.
        """
        own = probabilities[:, self.columns]
        if self.thresholds:
            return names_of(exceeding(own, self.thresholds), self.labels)
        if reject_below:
            return chosen_labels(own, self.labels, reject_below, reject_label)
        return [self.labels[index] for index in own.argmax(axis=1).tolist()]

    def top_k(self, probabilities: Probabilities, k: int) -> list[list[tuple[str, float]]]:
        """The ``k`` most probable labels of every text, or all if there are fewer, the most probable first."""
        return most_probable(probabilities[:, self.columns], self.labels, k)


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


def heads_of(classifier: Classifier) -> tuple[Task, ...]:
    """The tasks of a classifier; of one without tasks, a single one without a name."""
    return tasks_in(classifier) or (Task("", classifier.labels, thresholds_of(classifier)),)


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


def check_rejection_of(tasks: Sequence[Task], below: float, name: str, setting: str = "reject_below") -> None:
    """Check the threshold and the label of rejected texts; they are rejected in the tasks of one label per text.

    Raises:
        UserError: there is a threshold, but no such task; or as :func:`distill.runtime.unsure.check_rejection`.
    """
    if below and all(task.thresholds for task in tasks):
        check_one_label(tasks[0].thresholds, setting)
    for task in tasks:
        check_rejection(below, name, task.labels)


def flat_proba(tasks: Sequence[Task], logits: NDArray[np.float32], temperature: float = 1.0) -> Probabilities:
    """Probability of every output, shape (texts, outputs), each task's by themselves."""
    return np.concatenate([task.probabilities(logits, temperature) for task in tasks], axis=1)


def labels_by_task(
    tasks: Sequence[Task], probabilities: Probabilities, reject_below: float = 0.0, reject_label: str = ""
) -> dict[str, list[str] | list[list[str]]]:
    """What :meth:`Task.predict` predicts for every task, by its name."""
    return {task.name: task.predict(probabilities, reject_below, reject_label) for task in tasks}


def by_task(tasks: Sequence[Task], probabilities: Probabilities) -> dict[str, Probabilities]:
    """The probabilities of all outputs (texts, outputs) by the task's name, each (texts, its labels)."""
    return {task.name: probabilities[:, task.columns] for task in tasks}
