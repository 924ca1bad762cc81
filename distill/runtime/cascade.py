"""A cascade: the texts of which a student is not sure go to a slower, more accurate classifier, such as its teacher."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self

import numpy as np

from distill.errors import UserError
from distill.runtime.packing import as_list
from distill.runtime.tasks import (
    ByTask,
    ByTeacher,
    Task,
    by_task,
    check_rejection_of,
    check_top_k_of,
    heads_of,
    labels_by_task,
    names_of_tasks,
    of_each_task,
    outputs_of,
    top_k_by_task,
)
from distill.runtime.unsure import Classifier, Probabilities, check_threshold, listed_labels, thresholds_of

MAX_PROBABILITY = 1.001  # with rounding errors
Teacher = Classifier | Callable[[list[str]], Any]


class Cascade:
    """A student whose unsure texts go to a slower, more accurate classifier, such as its teacher.

    Args:
        student: labels all texts first.
        teacher: a classifier, or a function that turns texts into probabilities, shape (texts, classes). It is called
            once per call of this object, with the unsure texts sorted by length. With several tasks, a dictionary of
            them by the task's name; the student alone answers the tasks that it leaves out.
        below: a text is unsure if the student's highest probability is below this; where a text may have any number of
            labels, if the probability of the whole set is. With several tasks, one number or a dictionary of the same
            tasks as that of the teachers.
        labels: the order of the teacher's columns; empty: that of its ``labels`` or ``classes_``, for a function
            without them that of the student's labels.

    Attributes:
        labels: the student's, and so are ``tasks`` and ``thresholds``.
        teacher_thresholds: those by which the teacher gives a text any number of labels; empty: the student's.
        parts: the cascade of every task that has a teacher, by the index of the task.

    Raises:
        UserError: ``below`` is not a number from 0 to 1, a teacher's labels are not the student's or not known, a
            teacher or a threshold is of no task, only one of student and teacher gives a text any number of labels, or
            one of them is itself a cascade that does.
    """

    def __init__(
        self,
        student: Classifier,
        teacher: Teacher | Mapping[str, Teacher],
        below: ByTask,
        labels: Sequence[str] = (),
    ) -> None:
        heads, names = heads_of(student), names_of_tasks(student)
        teachers = _by_name(teacher, names)
        limits = of_each_task(below, heads, "below")
        if isinstance(below, Mapping) and set(below) != set(teachers):
            what = f"thresholds and teachers are of different tasks: {listed_labels(list(below)) or 'none'}; "
            raise UserError(f"{what}{listed_labels(list(teachers))}", "below", "name the same tasks in both")
        if any(getattr(one, "teacher_thresholds", ()) for one in (*heads, *teachers.values())):
            what = "student and teacher cannot be cascades that give a text any number of labels"
            raise UserError(what, "teacher", "give the classifiers that they are made of")
        self._student, self.below, self.labels = student, below, student.labels
        self._ask: Callable[[TaskCascade, list[str]], Probabilities] = TaskCascade.teacher_proba
        self.parts = {
            index: TaskCascade(task, teachers[task.name], limit, labels)
            for index, (task, limit) in enumerate(zip(heads, limits, strict=True))
            if task.name in teachers
        }
        self._heads = tuple(self.parts[index].task if index in self.parts else task for index, task in enumerate(heads))
        self.tasks = self._heads if names else ()
        self.thresholds = thresholds_of(student)
        self.teacher_thresholds = () if self.tasks else self._heads[0].teacher_thresholds

    def asking(self, ask: Callable[[TaskCascade, list[str]], Probabilities]) -> Self:
        """The same cascade, in which ``ask`` takes the place of :meth:`TaskCascade.teacher_proba`."""
        other = copy.copy(self)
        other._ask = ask
        return other

    def answer(self, texts: Sequence[str]) -> tuple[Any, Any]:
        """Probabilities (texts, classes), and which texts the teacher answered (texts,); of several tasks, by task.

        Raises:
            UserError: a text is not a string, or a teacher returns something else than probabilities.
        """
        probabilities, by_teacher = self.flat_answer(texts)
        if not self.tasks:
            return probabilities, by_teacher[:, 0]
        answered = {task.name: by_teacher[:, index] for index, task in enumerate(self.tasks)}
        return by_task(self.tasks, probabilities), answered

    def flat_answer(self, texts: Sequence[str]) -> tuple[Probabilities, ByTeacher]:
        """As :meth:`answer`, those of all tasks in one array: (texts, outputs) and (texts, tasks)."""
        texts = as_list(texts)
        probabilities = np.array(outputs_of(self._student)(texts))
        by_teacher = np.zeros((len(texts), len(self._heads)), np.bool_)
        for index, part in self.parts.items():
            if unsure := part.unsure(texts, probabilities):
                probabilities[unsure, part.task.columns] = self._ask(part, [texts[one] for one in unsure])
                by_teacher[unsure, index] = True
        return probabilities, by_teacher

    def predict(self, texts: Sequence[str], *, reject_below: ByTask = 0.0, reject_label: str = "") -> list[Any] | Any:
        """The label of every text; ``reject_label`` where the probability is below ``reject_below``.

        Lists of labels, and dictionaries by the task's name, are as in :meth:`Runtime.predict`.
        """
        check_rejection_of(self._heads, reject_below, reject_label)
        probabilities, by_teacher = self.flat_answer(texts)
        found = labels_by_task(self._heads, probabilities, reject_below, reject_label, by_teacher)
        return found if self.tasks else found[""]

    def predict_proba(self, texts: Sequence[str]) -> Probabilities | Any:
        """Probabilities, shape (texts, classes): the student's, or for unsure texts the teacher's; by task, if any."""
        return self.answer(texts)[0]

    def flat_proba(self, texts: Sequence[str]) -> Probabilities:
        """As :meth:`predict_proba`, those of all tasks in one array, shape (texts, outputs)."""
        return self.flat_answer(texts)[0]

    def top_k(self, texts: Sequence[str], k: int) -> list[list[tuple[str, float]]] | Any:
        """The ``k`` most probable labels of every text with their probabilities, the most probable first."""
        check_top_k_of(self._heads, k)
        found = top_k_by_task(self._heads, self.flat_proba(texts), k)
        return found if self.tasks else found[""]


def _by_name(teacher: Teacher | Mapping[str, Teacher], names: Sequence[str]) -> Mapping[str, Teacher]:
    """The teachers by the names of the tasks; without tasks, one without a name."""
    if isinstance(teacher, Mapping) != bool(names):
        what = "a student of several tasks needs a dictionary of teachers by the task's name, and no other does"
        raise UserError(what, "teacher", f"{{{names[0]!r}: teacher}}" if names else "one teacher")
    teachers = teacher if isinstance(teacher, Mapping) else {"": teacher}
    if unknown := [name for name in teachers if names and name not in names]:
        raise UserError(f"there is no task {unknown[0]!r:.40}", "teacher", f"name {listed_labels(names)}")
    if not teachers:
        raise UserError("a cascade needs the teacher of one task at least", "teacher", f"{{{names[0]!r}: teacher}}")
    return teachers


def _labels_of(teacher: Teacher, labels: Sequence[str], of_student: Sequence[str]) -> list[str]:
    """The labels of a teacher's columns: the given ones, its own, or those of the student for a function."""
    for own in (labels, getattr(teacher, "labels", ()), getattr(teacher, "classes_", ())):
        if len(own):
            return list(map(str, own))
    if hasattr(teacher, "predict_proba"):
        what = "the teacher does not say which labels its columns are of"
        raise UserError(what, "labels", "labels=[…], in the order of the columns, or an attribute labels")
    return list(of_student)


class TaskCascade:
    """The cascade of one task: which texts go to its teacher, and the teacher's answers.

    Args:
        task: of the student; without several tasks, its only one.
        teacher: a classifier or a function, as in :class:`Cascade`.
        below: the threshold.
        labels: the order of the teacher's columns, as in :class:`Cascade`.

    Attributes:
        task: the student's, with the teacher's thresholds.

    Raises:
        UserError: ``below`` is not a number from 0 to 1, the teacher has other labels, not a threshold for each of
            them, or only one of both gives a text any number of them.
    """

    def __init__(self, task: Task, teacher: Teacher, below: float, labels: Sequence[str] = ()) -> None:
        check_threshold(below, "below")
        self._classify: Any = getattr(teacher, "predict_proba", teacher)
        own = _labels_of(teacher, labels, task.labels)
        if sorted(own) != sorted(task.labels):
            what = "the teacher has other labels than the student"
            raise UserError(what, "labels", f"name {listed_labels(task.labels)}")
        thresholds = tuple(getattr(teacher, "thresholds", ()))
        if len(thresholds) not in (0, len(own)):
            what = f"the teacher has {len(own)} labels and thresholds for {len(thresholds)}"
            raise UserError(what, task.name or "teacher", "give it a threshold per label")
        if self._classify is not teacher and bool(thresholds) != bool(task.thresholds):
            what = "one of student and teacher gives a text one label, the other any number"
            raise UserError(what, task.name or "teacher", "give the teacher that the student was distilled from")
        self._order, self.below = [own.index(label) for label in task.labels], below
        of_teacher = tuple(thresholds[index] for index in self._order) if thresholds else ()
        self.task = dataclasses.replace(task, teacher_thresholds=of_teacher)

    def unsure(self, texts: Sequence[str], probabilities: Probabilities) -> list[int]:
        """Indices of the texts that go to the teacher, the shortest first; an empty text tells it nothing.

        ``probabilities`` (texts, outputs) are the student's.
        """
        confidence = self.task.confidence(probabilities[:, self.task.columns])
        indices = np.flatnonzero(confidence < self.below).tolist()
        return sorted((index for index in indices if texts[index].strip()), key=lambda index: len(texts[index]))

    def teacher_proba(self, texts: list[str]) -> Probabilities:
        """The teacher's probabilities (texts, labels), in the order of the student's labels.

        Raises:
            UserError: the teacher returns something else.
        """
        rows, count = np.asarray(self._classify(texts), np.float32), len(self._order)
        has_shape = rows.shape == (len(texts), count)
        if not has_shape or not ((rows >= 0) & (rows <= MAX_PROBABILITY)).all():
            what = f"{len(texts)} rows of {count} probabilities are needed, the teacher returned "
            what += "numbers that are not from 0 to 1" if has_shape else f"an array of shape {rows.shape}"
            raise UserError(what, "cascade", "the function must return a row per text and a column per label")
        return rows[:, self._order]
