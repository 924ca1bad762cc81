"""A Python function as a teacher: a call of an API, a rule, another library. It is called in batches, and cached."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from distill.data.formats.records import RowError, label_text
from distill.errors import UserError, listed
from distill.progress import progress_bar
from distill.storage.fingerprints import fingerprint_bytes, fingerprint_file
from distill.teachers.base import MAX_LISTED, TEACHER_LABELS, LabellingTask, Teacher, TeacherValue, classes_by_label
from distill.teachers.scores import (
    DEFAULT_CONFIDENCE,
    are_probabilities,
    centred_logits,
    distribution,
    spread,
)
from distill.training.teacher_cache import TeacherFunction, keep_outputs

BATCH = 64  # texts per call, unless the function has an attribute batch_size
SHARD = 1_024  # texts per file of the cache: a killed run loses no more answers
NAMED = re.compile(r"(?P<place>.+\.py|[^\W\d]\w*(?:\.[^\W\d]\w*)*):(?P<function>[^\W\d]\w*)")
FORMS = "probabilities or logits (texts, classes), or a list of labels, or of dictionaries by label"


def recognise(value: TeacherValue, label_names: Mapping[str, str]) -> FunctionTeacher | None:
    """The function that MODULE:FUNCTION or FILE.py:FUNCTION names, or a callable; None for anything else.

    Raises:
        UserError: the file, the module or the function does not exist, or cannot be imported.
    """
    if callable(value):
        name = f"{getattr(value, '__module__', '')}:{getattr(value, '__qualname__', type(value).__qualname__)}"
        return FunctionTeacher(value, name, _fingerprint_of(value), label_names)
    match = NAMED.fullmatch(str(value))
    if Path(value).suffix == ".py" and Path(value).is_file():
        what = "the name of the function in this file is missing"
        raise UserError(what, f"--teacher {value}", f"--teacher {value}:FUNCTION")
    if match is None or Path(value).exists():
        return None
    module = _imported(match["place"], f"--teacher {value}")
    function = getattr(module, match["function"], None)
    if not callable(function):
        names = [name for name, item in vars(module).items() if callable(item) and not name.startswith("_")]
        what = f"there is no function {match['function']} in {match['place']}"
        raise UserError(what, f"--teacher {value}", "name one of its functions", f"there are: {listed(names, 10)}")
    source = Path(str(module.__file__))
    return FunctionTeacher(function, str(value), fingerprint_file(source) if source.is_file() else "", label_names)


def _imported(place: str, where: str) -> Any:
    """The module that a file or a dotted name holds; modules in the present folder are found too."""
    is_file = place.endswith(".py")
    if is_file and not Path(place).is_file():
        raise UserError("no such file", where, "FILE.py:FUNCTION with the path of a file")
    try:
        if not is_file:
            if str(Path.cwd()) not in sys.path:
                sys.path.append(str(Path.cwd()))
            return importlib.import_module(place)
        spec = importlib.util.spec_from_file_location(Path(place).stem, place)
        module = importlib.util.module_from_spec(spec)  # type: ignore[arg-type]
        spec.loader.exec_module(module)  # type: ignore[union-attr]
    except Exception as error:  # whatever the module raises
        reason = f"{type(error).__name__}: {error}"
        raise UserError(
            f"{place} cannot be imported: {reason}", where, "fix it; --debug shows the traceback"
        ) from error
    return module


def _fingerprint_of(function: Callable[..., Any]) -> str:
    """Fingerprint of the source of a function, or of a callable object's class; "" if it has none."""
    try:
        is_function = inspect.isroutine(function)
        return fingerprint_bytes(inspect.getsource(function if is_function else type(function)).encode())
    except (OSError, TypeError):
        return ""


class FunctionTeacher(Teacher):
    """A function of a list of texts, which returns an answer to each.

    Its attributes, all optional: ``labels``, the classes in the order of its arrays (default: the data's labels);
    ``batch_size``; ``confidence`` of labels that it returns; ``version``, which marks its answers as others.
    """

    shard_size = SHARD

    def __init__(
        self, function: Callable[[list[str]], Any], name: str, fingerprint: str, label_names: Mapping[str, str]
    ) -> None:
        super().__init__(name, label_names)
        self.function, self._fingerprint = function, fingerprint

    def labels(self) -> tuple[str, ...]:
        """See Teacher: the function's attribute ``labels``."""
        labels = self._own_labels()
        if labels is None:
            what = "the data has no labels, and the function does not say which classes there are"
            raise UserError(what, self.source, "give the function an attribute: FUNCTION.labels = ['体育', '财经']")
        return tuple(dict.fromkeys(self.renamed(labels)))

    def _own_labels(self) -> list[str] | None:
        labels = getattr(self.function, "labels", None)
        return None if labels is None else [label_text(label) for label in labels]

    def fingerprints(self) -> dict[str, str]:
        """See Teacher: its name, the fingerprint of its source, and its version."""
        version = getattr(self.function, "version", "")
        return {"function": self.name, "source": self._fingerprint, **({"version": str(version)} if version else {})}

    def open(self, task: LabellingTask) -> TeacherFunction:
        """See Teacher; if the function fails, the answers up to there are handed on with the error."""
        own = self._own_labels()
        groups = None if own is None else classes_by_label(self.renamed(own), task, self)
        converter = _Converter(self, task, groups)
        size = int(getattr(self.function, "batch_size", BATCH))

        def logits(texts: Sequence[str], progress_label: str = "") -> Tensor:
            parts: list[NDArray[np.float64]] = [np.empty((0, len(task.labels)))]
            with progress_bar(progress_label, len(texts), "texts") as bar:
                for start in range(0, len(texts), size):
                    batch = list(texts[start : start + size])
                    try:
                        parts.append(self._answer(batch, converter, start, len(texts)))
                    except BaseException as error:  # Ctrl-C too: what was paid for is kept
                        keep_outputs(error, _tensor(parts))
                        raise
                    bar.update(len(batch))
            return _tensor(parts)

        return logits

    def _answer(self, batch: list[str], converter: _Converter, start: int, total: int) -> NDArray[np.float64]:
        """Logits of a batch of texts, shape (texts, classes).

        Raises:
            UserError: the function fails, or returns something else than answers.
        """
        place = f"texts {start + 1:,} to {start + len(batch):,} of {total:,}"
        kept = "earlier answers are kept: fix the cause, then run the same command again"
        try:
            answers = self.function(batch)
        except Exception as error:  # whatever the function raises
            what = f"the function failed on {place}: {type(error).__name__}: {error}"
            raise UserError(what, self.source, f"{kept}; --debug shows the traceback") from error
        try:
            return converter.logits(answers, len(batch), place)
        except (TypeError, ValueError, RowError, KeyError) as error:
            what = f"the function's answers to {place} cannot be used: {error}"
            raise UserError(what, self.source, f"return {FORMS}; {kept}") from error


def _tensor(parts: list[NDArray[np.float64]]) -> Tensor:
    return torch.from_numpy(np.concatenate(parts).astype(np.float32))


class _Converter:
    """Turns what a function returns into logits.

    Args:
        teacher: the function.
        task: its labels are the classes.
        groups: the array's columns of each class; None: the columns are the classes.
    """

    def __init__(self, teacher: FunctionTeacher, task: LabellingTask, groups: list[list[int]] | None) -> None:
        self.teacher, self.task, self.groups = teacher, task, groups
        self.class_of = {label: number for number, label in enumerate(task.labels)}
        self.confidence = float(getattr(teacher.function, "confidence", DEFAULT_CONFIDENCE))

    def logits(self, answers: Any, texts: int, place: str) -> NDArray[np.float64]:
        """Logits (texts, classes) of the answers to a batch.

        Raises:
            ValueError: they are no answers to so many texts.
            UserError: a label is unknown, or probabilities are not valid.
        """
        if isinstance(answers, Tensor):
            answers = answers.detach().cpu().float().numpy()
        if not isinstance(answers, str | Mapping) and len(answers) != texts:
            raise ValueError(f"{len(answers)} answers to {texts} texts")
        first = answers[0]
        if isinstance(first, Mapping):
            return np.concatenate([self._row(answer, place) for answer in answers])
        if isinstance(first, str | int | np.integer | np.str_):
            return centred_logits(self._spread([label_text(answer) for answer in answers], place))
        return self._array(np.asarray(answers, np.float64), texts, place)

    def _row(self, answer: Mapping[Any, Any], place: str) -> NDArray[np.float64]:
        """A dictionary: ``label`` and perhaps ``confidence``, or probabilities by label."""
        if isinstance(label := answer.get("label"), str):
            confidence = answer.get("confidence", answer.get("score"))
            return centred_logits(self._spread([label_text(label)], place, confidence))
        scores = {label_text(label): float(score) for label, score in answer.items()}
        where = f"{self.teacher.name}, {place}"
        return centred_logits(distribution(scores, self.task.labels, where, self.teacher, are_logits=False)[None])

    def _spread(self, labels: list[str], place: str, confidence: float | None = None) -> NDArray[np.float64]:
        names = [self._name(label) for label in labels]
        if unknown := sorted({label for label, name in zip(labels, names, strict=True) if name not in self.class_of}):
            what = f"labels that the data does not have, in the answers to {place}: {listed(unknown, MAX_LISTED)}"
            found = f"the labels of the data: {listed(self.task.labels, MAX_LISTED)}"
            raise UserError(what, self.teacher.source, TEACHER_LABELS, found)
        classes = np.array([self.class_of[name] for name in names])
        sure = np.full(len(names), self.confidence if confidence is None else float(confidence))
        if not ((sure >= 0) & (sure <= 1)).all():
            raise ValueError(f"the confidence {sure[0]:g} is not between 0 and 1")
        return spread(classes, sure, len(self.task.labels))

    def _name(self, label: str) -> str:
        return self.teacher.label_names.get(label, label)

    def _array(self, rows: NDArray[np.float64], texts: int, place: str) -> NDArray[np.float64]:
        """Probabilities or logits, (texts, classes) in the order of the function's or the data's labels."""
        expected = len(self.task.labels) if self.groups is None else len(self.teacher._own_labels() or ())
        if rows.shape != (texts, expected):
            raise ValueError(f"an array of shape {rows.shape}, expected {(texts, expected)}")
        if not np.isfinite(rows).all():
            raise ValueError("a number is NaN or infinite")
        is_logits = not are_probabilities(rows)
        if self.groups is None:
            return rows if is_logits else centred_logits(rows / rows.sum(1, keepdims=True))
        if is_logits:
            return np.stack([np.logaddexp.reduce(rows[:, group], axis=1) for group in self.groups], axis=1)
        sums = np.stack([rows[:, group].sum(1) for group in self.groups], axis=1)
        return centred_logits(sums / np.maximum(sums.sum(1, keepdims=True), 1e-12))
