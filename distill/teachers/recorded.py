"""Recorded answers as a teacher: it labels the texts of its file, and no others."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from distill.data import Example, example_id
from distill.data.answers import LABEL, LOGITS, Answer, AnswerFile, read_answers
from distill.errors import UserError, listed
from distill.runtime.label_sets import distinct
from distill.storage.fingerprints import fingerprint_file
from distill.teachers.base import MAX_LISTED, TEACHER_LABELS, LabellingTask, Teacher, TeacherValue, classes_by_label
from distill.teachers.label_sets import WrittenLabels, are_indicators, default_confidences, indicators, softened
from distill.teachers.scores import DEFAULT_CONFIDENCE, as_logits, by_class, spread
from distill.training.teacher_cache import TeacherFunction

MAX_CONFIDENCE = 0.99  # that is estimated: a few texts on which all agree do not make answers certain


def recognise(value: TeacherValue, label_names: Mapping[str, str]) -> RecordedTeacher | None:
    """The answers in a file; None for anything else."""
    if not isinstance(value, str | Path) or not Path(value).is_file() or Path(value).suffix == ".py":
        return None
    return RecordedTeacher(Path(value), label_names)


@dataclass(frozen=True)
class _Table:
    """Logits (texts, classes) by the position of a text's id."""

    position: Mapping[int, int]
    logits: NDArray[np.float32]


class RecordedTeacher(Teacher):
    """A file of answers, joined to texts by the normalised text."""

    is_cached = False  # the file is the record

    def __init__(self, path: Path, label_names: Mapping[str, str]) -> None:
        super().__init__(path, label_names)
        self.path = path
        self._opened: tuple[LabellingTask, _Table] | None = None

    @functools.cached_property
    def file(self) -> AnswerFile:
        """The answers."""
        file = read_answers(self.path)
        if "" not in self.label_names.values():
            return file
        kept = [(text, a) for text, a in zip(file.texts, file.answers, strict=True) if self._is_kept(a)]
        return AnswerFile(tuple(answer for _, answer in kept), file.kind, tuple(text for text, _ in kept))

    def _is_kept(self, answer: Answer) -> bool:
        """Whether an answer says something: not if the data has a name for none of its labels."""
        labels = [answer.label] if answer.labels is None else answer.labels
        return bool(answer.scores or answer.is_empty or any(map(self._name, labels)))

    def labels(self) -> tuple[str, ...]:
        """See Teacher: the labels that occur in the file, in alphabetical order."""
        names: set[str] = set()
        for answer in self.file.answers:
            if isinstance(answer.scores, Sequence):
                what = "lists of scores do not say which label each belongs to, and the data has no labels"
                raise UserError(what, answer.place, 'write them as an object: {"体育": 0.9, "财经": 0.1}')
            names.update(answer.scores or [answer.single_label])
        return tuple(sorted(self.classes(sorted(names - {""}))))

    def fingerprints(self) -> dict[str, str]:
        """See Teacher: the fingerprint of the file."""
        return {"answers": fingerprint_file(self.path)}

    def answers(self, examples: Sequence[Example], *, is_multi_label: bool = False) -> NDArray[np.bool_]:
        """See Teacher."""
        ids = self._ids[is_multi_label]
        return np.array([example.id in ids for example in examples], np.bool_)

    @functools.cached_property
    def _ids(self) -> tuple[frozenset[int], frozenset[int]]:
        """The texts with an answer: with one label per text, and with any number of them."""
        answers = self.file.answers
        return frozenset(a.text_id for a in answers if not a.is_empty), frozenset(a.text_id for a in answers)

    def open(self, task: LabellingTask) -> TeacherFunction:
        """See Teacher; the function labels only texts that have an answer."""
        if self._opened is None or self._opened[0] is not task:
            self._opened = (task, self._table(task))
        table = self._opened[1]

        def logits(texts: Sequence[str], _: str = "") -> Tensor:
            rows = [table.position[example_id(text)] for text in texts]
            return torch.from_numpy(table.logits[rows])

        return logits

    def _table(self, task: LabellingTask) -> _Table:
        """The mean answer to every text as logits."""
        answers = [answer for answer in self.file.answers if task.is_multi_label or not answer.is_empty]
        labels, are_logits = self._labels_of(answers, task), self.file.kind == LOGITS
        self._check_labels(answers, labels, task)
        if self.file.kind != LABEL:
            rows = np.stack([self._scores(answer, task) for answer in answers])
            if task.is_multi_label and not are_logits and are_indicators(rows):
                rows = self._softened(answers, rows > 0, task)
        elif task.is_multi_label:
            rows = self._softened(answers, indicators([self.renamed(own) for own in labels], task.labels), task)
        else:
            rows = self._spread(answers, labels, task)
        position = {text_id: index for index, text_id in enumerate(dict.fromkeys(a.text_id for a in answers))}
        rows_of = np.array([position[answer.text_id] for answer in answers])
        sums = np.zeros((len(position), len(task.labels)))
        np.add.at(sums, rows_of, rows)
        mean = sums / np.bincount(rows_of)[:, None]
        decided = distinct(rows > (0 if are_logits else 0.5))[1] if task.is_multi_label else rows.argmax(1)
        self._say_conflicts(rows_of, decided, len(position))
        return _Table(position, as_logits(mean, task, are_logits=are_logits).astype(np.float32))

    def _labels_of(self, answers: Sequence[Answer], task: LabellingTask) -> list[list[str]]:
        """The labels of every answer by the teacher's names; none of answers that are scores."""
        if not task.is_multi_label:
            return [[label] if (label := answer.single_label) else [] for answer in answers]
        written = WrittenLabels(self, task)
        return [written.of(answer.label if answer.labels is None else list(answer.labels)) for answer in answers]

    def _check_labels(self, answers: Sequence[Answer], labels: Sequence[Sequence[str]], task: LabellingTask) -> None:
        """Refuse labels that the data does not have; classes with a score that it does not have are left out."""
        known, unknown = {"", *task.labels}, dict[str, str]()
        for answer, own in zip(answers, labels, strict=True):
            for label in own:
                if self._name(label) not in known:
                    unknown.setdefault(label, answer.place)
        if unknown:
            what = f"labels that the data does not have: {listed(list(unknown), MAX_LISTED)}"
            found = f"the labels of the data: {listed(task.labels, MAX_LISTED)}"
            hint = f"{TEACHER_LABELS}; an empty name leaves the answer out"
            raise UserError(what, next(iter(unknown.values())), hint, found)
        keys = {frozenset(answer.scores) for answer in answers if isinstance(answer.scores, Mapping)}
        if len(keys) == 1:  # every answer scores the same labels
            classes_by_label(sorted(keys.pop()), task, self)

    def _scores(self, answer: Answer, task: LabellingTask) -> NDArray[np.float64]:
        assert answer.scores is not None  # noqa: S101 (the kind of the file says so)
        by_label = answer.scores
        if isinstance(by_label, Sequence):
            if len(by_label) != len(task.labels):
                what = f"{len(by_label)} scores, but the data has {len(task.labels)} labels: "
                what += listed(task.labels, MAX_LISTED)
                raise UserError(what, answer.place, "write them in this order, or as an object by label")
            by_label = dict(zip(task.labels, by_label, strict=True))
        return by_class(by_label, task, answer.place, self, are_logits=self.file.kind == LOGITS)

    def _name(self, label: str) -> str:
        return self.label_names.get(label, label)

    def _spread(
        self, answers: Sequence[Answer], labels: Sequence[Sequence[str]], task: LabellingTask
    ) -> NDArray[np.float64]:
        """Labels as soft targets, (answers, classes): their confidence, the rest spread evenly over the others."""
        number = {label: index for index, label in enumerate(task.labels)}
        classes = np.array([number[self._name(label)] for (label,) in labels])
        given = np.array([answer.confidence for answer in answers])
        if np.isnan(given).any():
            given = np.where(np.isnan(given), self._confidence(answers, classes, task), given)
        return spread(classes, given, len(task.labels))

    def _confidence(self, answers: Sequence[Answer], classes: NDArray[np.int64], task: LabellingTask) -> float:
        """How often the answers agree with the labels of dev, smoothed; a default if no dev text has an answer."""
        gold = {example.id: example.label for example in task.dev}
        agree = [gold[a.text_id] == own for a, own in zip(answers, classes.tolist(), strict=True) if a.text_id in gold]
        if not agree:
            self.say(f"{self.name}: confidence {DEFAULT_CONFIDENCE:g}, a default: no labelled dev text has an answer")
            return DEFAULT_CONFIDENCE
        estimate = (sum(agree) + 1) / (len(agree) + 2)
        confidence = float(np.clip(estimate, 1 / len(task.labels), MAX_CONFIDENCE))
        self.say(f"{self.name}: confidence {confidence:.3f}, estimated on the {len(agree):,} dev texts with an answer")
        return confidence

    def _softened(
        self, answers: Sequence[Answer], has_class: NDArray[np.bool_], task: LabellingTask
    ) -> NDArray[np.float64]:
        """Label sets as soft targets, (answers, classes): a confidence is the probability that each decision is right.

        Without one, labels that are given and those that are not have a confidence each, see :meth:`_confidences`.
        """
        confidence = np.array([answer.confidence for answer in answers])
        is_missing = np.isnan(confidence)
        given, not_given = self._confidences(answers, has_class, task) if is_missing.any() else (0.0, 0.0)
        return softened(has_class, np.where(is_missing, given, confidence), np.where(is_missing, not_given, confidence))

    def _confidences(
        self, answers: Sequence[Answer], has_class: NDArray[np.bool_], task: LabellingTask
    ) -> tuple[float, float]:
        """How often a label that is given is right on dev, and one that is not given; smoothed, or defaults."""
        gold = {example.id: [task.labels[index] for index in example.classes] for example in task.dev}
        on_dev = [index for index, answer in enumerate(answers) if answer.text_id in gold]
        if not on_dev:
            given, not_given = default_confidences(DEFAULT_CONFIDENCE, len(task.labels))
            reason = "defaults: no labelled dev text has an answer"
        else:
            own, right = has_class[on_dev], indicators([gold[answers[index].text_id] for index in on_dev], task.labels)
            counts = [((own == right)[part].sum(), part.sum()) for part in (own, ~own)]
            given, not_given = (float((agreeing + 1) / (decided + 2)) for agreeing, decided in counts)
            given, reason = min(given, MAX_CONFIDENCE), f"estimated on the {len(on_dev):,} dev texts with an answer"
        self.say(f"{self.name}: confidence {given:.3f} of a label that is given, {not_given:.3f} of others, {reason}")
        return given, not_given

    def _say_conflicts(self, rows_of: NDArray[np.int64], classes: NDArray[np.int64], texts: int) -> None:
        """Say how many texts have several answers, and how many of these differ."""
        repeated = int((np.bincount(rows_of) > 1).sum())
        first = np.full(texts, -1)
        first[rows_of[::-1]] = classes[::-1]
        differing = len(np.unique(rows_of[classes != first[rows_of]]))
        if differing:
            several = f"{repeated:,} texts have several answers, which differ for {differing:,} of them"
            self.warn("conflicts", f"{several}; the mean of the answers is used")
