"""The classifier: scikit-learn's methods and attributes.

Training is that of the command line. Predictions need numpy alone; PyTorch is imported when :meth:`fit` is called.
"""

from __future__ import annotations

import contextlib
import json
import logging
import math
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from distill.config import Settings
from distill.data.arrays import LISTS, MATRIX, as_tasks, as_texts
from distill.errors import DistillWarning, InputError, install_hint, naming_extra
from distill.estimator.arguments import (
    ONLY,
    Teachers,
    datasets,
    given_settings,
    named,
    plain,
    settings_of,
    tasks_in,
    teachers_in,
    unnamed,
)
from distill.estimator.saved import BUNDLE_FILES, ESTIMATOR_CARD, BundleInMemory, classes_in, is_json, read_card
from distill.export import hub
from distill.progress import MessageHandler, log, reminders
from distill.runtime import Runtime
from distill.runtime.bundle import read_bundle
from distill.runtime.label_sets import exceeding
from distill.runtime.tasks import by_task, heads_of, tasks_of

try:
    from sklearn.base import BaseEstimator, ClassifierMixin
    from sklearn.utils import check_random_state
    from sklearn.utils.metadata_routing import UNUSED
    from sklearn.utils.validation import check_is_fitted
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        f"DistilledTextClassifier needs scikit-learn: {install_hint('train')}", name=error.name
    ) from error

__all__ = ["DistilledTextClassifier"]

_training = threading.Lock()  # messages, seeds and the number of threads are those of the process


class DistilledTextClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """Classifies short Chinese texts with a small student that is distilled from a BERT teacher.

    It follows scikit-learn's protocol, with texts in place of a matrix: ``X`` is a list of strings. A text has one
    label or, if the labels in ``fit`` are lists or an indicator matrix, any number of labels. If they are a table, each
    of its columns is a task, such as topic and sentiment, and one student answers all of them.

    Args:
        teacher_model: the encoder that is fine-tuned as the teacher: a folder, a Hub id, "bundled", or "auto" (the
            checkpoint in bert_pretrain/, otherwise bundled). None: no teacher, the student learns from labels alone.
        student: the student's network: "bilstm", "textcnn" or "average".
        random_state: seed of the training (``--seed``), a ``RandomState``, or None for another one at every fit.
        threads: number of CPU threads for training and prediction; 0: one per core.
        run_folder: the folder of the run, as on the command line. A second fit with the same data and settings then
            keeps the teacher and its outputs. None: a temporary folder, which is removed.
        settings: any other settings by the names of the command line's flags, such as ``{"student_epochs": 3}``.
        verbose: 0: only warnings; 1: messages on standard output, and progress bars.

    Attributes:
        classes_: the distinct labels in ascending order, with their own type.
        dev_score_: the student's accuracy on the tenth of the texts that is held out to select its weights; its
            micro-F1, if a text has any number of labels; the mean of these, if there are several tasks.
        multilabel_: whether a text has any number of labels.

    With several tasks, ``classes_`` and ``multilabel_`` are dictionaries by the task's name.
    """

    multilabel_: bool | dict[str, bool] = False  # of classifiers that an older version pickled, like the next two
    _form: str | dict[str, str] = ""
    _is_table = False  # whether the labels of several tasks are a DataFrame
    __metadata_request__fit = {"labels": UNUSED}  # noqa: RUF012 (scikit-learn reads it: labels are y, not metadata)

    def __init__(
        self,
        *,
        teacher_model: str | Path | None = "auto",
        student: str = "bilstm",
        random_state: Any = 42,
        threads: int = 0,
        run_folder: str | Path | None = None,
        settings: Mapping[str, Any] | None = None,
        verbose: int = 1,
    ) -> None:
        self.teacher_model = teacher_model
        self.student = student
        self.random_state = random_state
        self.threads = threads
        self.run_folder = run_folder
        self.settings = settings
        self.verbose = verbose

    def fit(
        self,
        texts: Any,
        labels: Any,
        unlabeled: Any = None,
        teacher: Teachers | Mapping[str, Teachers] | None = None,
    ) -> Self:
        """Train a teacher on the texts, and a student on its outputs.

        A stratified tenth of the texts is held out as dev; no test set is held out. Repeated texts count once, and
        texts with two labels are left out; warnings say so.

        Args:
            texts: strings, shape (texts,) or (texts, 1): a list, a tuple, an array or a Series.
            labels: strings, whole numbers or booleans, shape (texts,). For any number of labels per text a list of
                labels for each, or a matrix of 0 and 1, shape (texts, classes); a DataFrame's columns name the classes.
                For several tasks a DataFrame with a column of labels per task, or a dictionary of such columns by the
                task's name; where a cell is None or NaN, the text has no label for the task.
            unlabeled: further texts, which the teacher labels.
            teacher: what labels the texts instead of a fine-tuned ``teacher_model``; several are averaged. A folder of
                this program, a fine-tuned Hugging Face classifier (folder or Hub id), a file of recorded answers, or a
                function of a list of texts. With several tasks a dictionary of teachers by the task's name; a task that
                it lacks gets a teacher of its own.

        Raises:
            InputError: texts or labels are missing, or there are fewer than two classes; a ValueError.
            InputTypeError: texts are not strings, or labels have no usable type; a TypeError.
            UserError: anything else that the user can correct, such as a folder that is missing.
        """
        strings = as_texts(texts)
        tasks = tasks_in(labels, strings)
        further = [] if unlabeled is None else as_texts(unlabeled, "unlabeled")
        teachers = teachers_in(teacher, list(tasks), needs_all=self.teacher_model is None)
        with _training, _messages(self.verbose), _folder_of_run(self.run_folder) as folder:
            settings = self._settings(folder, bool(teachers))
            data = datasets(strings, tasks, settings)
            with naming_extra("fit", "train"):
                from distill.commands.fit import run_in_memory, train_bundle

                run = run_in_memory(settings, teachers, data, [text for text in further if text])
                bundle, score = train_bundle(run)
            self._bundle = BundleInMemory.read(bundle)
            warned = list(reminders)
        self.classes_, self.dev_score_ = unnamed({name: task.classes for name, task in tasks.items()}), score
        self.multilabel_ = unnamed({name: bool(task.form) for name, task in tasks.items()})
        self._form = unnamed({name: task.form for name, task in tasks.items()})
        self._is_table = ONLY not in tasks and not isinstance(labels, Mapping)
        for message in warned:
            warnings.warn(message, DistillWarning, stacklevel=2)
        return self

    def predict(self, texts: Any) -> Any:
        """The label of every text, shape (texts,), with the type of the labels in ``fit``.

        If a text has any number of labels: a list of labels for each, or a matrix of 0 and 1, shape (texts, classes),
        as in ``fit``. With several tasks: a DataFrame or a dictionary of these, as in ``fit``; a DataFrame has the
        index of the texts, if they have one.

        Raises:
            NotFittedError: ``fit`` was not called.
            InputTypeError: texts are not strings.
        """
        strings, runtime = self._ready(texts)
        found = self._labels_by_task(strings, runtime)
        return _table(found, texts) if self._is_table else unnamed(found)

    def _labels_by_task(self, texts: list[str], runtime: Runtime) -> dict[str, Any]:
        """What :meth:`predict` predicts, by the task's name."""
        has_probabilities = bool(runtime.tasks or runtime.thresholds)
        outputs = _outputs(texts, runtime, runtime.flat_proba if has_probabilities else runtime.logits)
        classes, forms = named(self.classes_), named(self._form)
        found: dict[str, Any] = {}
        for task in heads_of(runtime):
            own, names = outputs[:, task.columns], classes[task.name]
            if not task.thresholds:
                found[task.name] = names[own.argmax(axis=1)]
                continue
            has_class = exceeding(own, task.thresholds)
            is_matrix = forms[task.name] == MATRIX
            found[task.name] = has_class.astype(np.int64) if is_matrix else [names[row].tolist() for row in has_class]
        return found

    def predict_proba(self, texts: Any) -> Any:
        """Calibrated probabilities, shape (texts, classes), in the order of ``classes_``.

        With several tasks, a dictionary of them by the task's name.

        Raises:
            NotFittedError: ``fit`` was not called.
            InputTypeError: texts are not strings.
        """
        strings, runtime = self._ready(texts)
        probabilities = _outputs(strings, runtime, runtime.flat_proba)
        return by_task(runtime.tasks, probabilities) if runtime.tasks else probabilities

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:  # noqa: N803 (scikit-learn's names)
        """Accuracy; if a text has any number of labels, the share of the texts whose labels are all right.

        With several tasks, the mean over the tasks that ``y`` has labels for; a text without a label does not count.
        """
        check_is_fitted(self, "classes_")
        if isinstance(self.classes_, dict):
            return self._mean_score(X, y, sample_weight)
        if not self.multilabel_ or self._form == MATRIX:
            return float(super().score(X, y, sample_weight))
        return float(np.average(_are_right(self.predict(X), y, LISTS), weights=sample_weight))

    def _mean_score(self, texts: Any, y: Any, sample_weight: Any) -> float:
        """The mean of the tasks' accuracies.

        Raises:
            InputError: ``y`` lacks a task, or has no label.
        """
        strings, runtime = self._ready(texts)
        gold = as_tasks(y, len(strings), "y") if isinstance(y, Mapping) or hasattr(y, "columns") else {}
        if missing := [name for name in self.classes_ if name not in gold]:
            raise InputError(f"there is no column of the task {missing[0]}", "y", "give a column of labels per task")
        weights = np.ones(len(strings)) if sample_weight is None else np.asarray(sample_weight)
        scores = []
        for name, predicted in self._labels_by_task(strings, runtime).items():
            rows, labels = gold[name]
            if rows:
                right = _are_right([predicted[row] for row in rows], labels, named(self._form)[name])
                scores.append(np.average(right, weights=weights[rows]))
        if not scores:
            raise InputError("no text has a label", "y", "give texts with labels")
        return float(np.mean(scores))

    def export(self, folder: str | Path) -> Path:
        """Write the student as a bundle, which ``distill.runtime.load`` and the command line use; returns its folder.

        Raises:
            NotFittedError: ``fit`` was not called.
            InputError: the folder holds something else than a bundle.
        """
        check_is_fitted(self, "classes_")
        return self._bundle.write(Path(folder))

    def save(self, folder: str | Path) -> Path:
        """Write everything that :meth:`load` needs: the bundle, and a file with the labels and parameters.

        Raises:
            NotFittedError: ``fit`` was not called.
            InputError: the folder holds something else than a bundle.
        """
        check_is_fitted(self, "classes_")
        return self._bundle.write(Path(folder), {ESTIMATOR_CARD: self._card(self.get_params(deep=False))})

    @classmethod
    def load(cls, source: str | Path) -> Self:
        """The classifier in a folder that :meth:`save` or an export wrote, or in the model USER/NAME on the Hub.

        Labels have the type that they had in ``fit``; those of a plain bundle are strings.

        Raises:
            UserError: there is no such folder or model, it is damaged, or the Hub cannot be reached.
        """
        folder = Path(source)
        if not folder.exists() and hub.NAME.fullmatch(str(source)) and not folder.parent.is_dir():
            folder = hub.download(str(source), (*BUNDLE_FILES, ESTIMATOR_CARD))
        bundle, card = read_bundle(folder).card, read_card(folder)
        known = cls._get_param_names()
        estimator = cls(**{name: value for name, value in card.get("params", {}).items() if name in known})
        tasks = tasks_of(bundle.get("tasks", [{**bundle, "name": ONLY}]))
        cards = {task.name: card.get("tasks", {}).get(task.name, {}) if task.name else card for task in tasks}
        forms = {name: MATRIX if one.get("form") == MATRIX else LISTS for name, one in cards.items()}
        estimator.classes_ = unnamed({task.name: classes_in(cards[task.name], task.labels, folder) for task in tasks})
        estimator.dev_score_ = float(card.get("dev_score", math.nan))
        estimator._bundle = BundleInMemory.read(folder)
        estimator.multilabel_ = unnamed({task.name: bool(task.thresholds) for task in tasks})
        estimator._form = unnamed({task.name: forms[task.name] if task.thresholds else "" for task in tasks})
        estimator._is_table = "tasks" in bundle and card.get("table") is True
        return estimator

    def push_to_hub(self, name: str) -> str:
        """Upload what :meth:`save` writes, without the parameters, to the model USER/NAME on the Hub; returns its URL.

        A model that does not exist is created as a private one.

        Raises:
            NotFittedError: ``fit`` was not called.
            UserError: the name is invalid, there is no token, or the Hub refuses or cannot be reached.
        """
        check_is_fitted(self, "classes_")
        hub.check(name, "push_to_hub")
        with TemporaryDirectory(prefix="distill-") as parent:
            return hub.push(self._bundle.write(Path(parent, "bundle"), {ESTIMATOR_CARD: self._card({})}), name)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.string = tags.input_tags.one_d_array = True
        tags.input_tags.two_d_array = False
        return tags

    def _ready(self, texts: Any) -> tuple[list[str], Runtime]:
        check_is_fitted(self, "classes_")
        return as_texts(texts), self._bundle.runtime(self.threads)

    def _settings(self, folder: Path, has_teacher: bool) -> Settings:
        """The settings of the run.

        Raises:
            InputError: a parameter or setting is unknown or has a value that is not allowed.
        """
        parameters = {
            "run": str(folder),
            "seed": self._seed(),
            "threads": plain(self.threads),
            "student": self.student,
            "teacher_model": "auto" if self.teacher_model is None else str(self.teacher_model),
        }
        is_alone = self.teacher_model is None and not has_teacher
        return settings_of(parameters, given_settings(self.settings), is_alone=is_alone, has_teacher=has_teacher)

    def _seed(self) -> Any:
        is_number = isinstance(self.random_state, int | np.integer)
        return int(self.random_state if is_number else check_random_state(self.random_state).randint(2**31))

    def _card(self, params: Mapping[str, Any]) -> bytes:
        """What :meth:`load` needs besides the bundle, as JSON."""
        params = {name: plain(value) for name, value in params.items() if name != "run_folder"}
        forms, are_multi_label = named(self._form), named(self.multilabel_)
        tasks = {
            name: {
                "classes": classes.tolist(),
                "dtype": classes.dtype.str,
                **({"form": forms[name]} if are_multi_label[name] else {}),
            }
            for name, classes in named(self.classes_).items()
        }
        card = {
            **tasks.get(ONLY, {"tasks": tasks, "table": self._is_table}),
            **({"dev_score": self.dev_score_} if math.isfinite(self.dev_score_) else {}),
            "params": {name: value for name, value in params.items() if is_json(value)},
        }
        return json.dumps(card, ensure_ascii=False, indent=2).encode()


def _outputs(
    texts: list[str], runtime: Runtime, method: Callable[[list[str]], NDArray[np.float32]]
) -> NDArray[np.float32]:
    """What a method of the runtime returns, shape (texts, outputs), also for no texts."""
    return method(texts) if texts else np.empty((0, len(runtime.labels)), np.float32)


def _table(labels: Mapping[str, Any], texts: Any) -> Any:
    """The labels of every task as a DataFrame, with the index of the texts if they are a Series or a DataFrame."""
    with naming_extra("predict", "train"):
        import pandas as pd
    columns = {name: [*column] if getattr(column, "ndim", 1) == 2 else column for name, column in labels.items()}
    return pd.DataFrame(columns, index=texts.index if hasattr(texts, "iloc") else None)


def _are_right(predicted: Any, gold: Any, form: str) -> list[bool]:
    """Whether the texts have the right label or, with a form, exactly the right labels.

    Raises:
        InputError: ``gold`` is a matrix, and the predictions are lists.
    """
    gold = gold.toarray() if hasattr(gold, "toarray") else gold
    if form != LISTS:
        pairs = zip(predicted, np.asarray(gold) if form else gold, strict=True)
        return [bool(np.array_equal(given, right)) for given, right in pairs]
    if hasattr(gold, "shape") and len(gold.shape) == 2:
        what = "an indicator matrix, but this classifier was fitted with lists of labels"
        raise InputError(what, "score", "give a list of labels for each text")
    return [set(given) == set(right) for given, right in zip(predicted, gold, strict=True)]


@contextlib.contextmanager
def _messages(verbose: int) -> Iterator[None]:
    """Print messages during training if ``verbose``, unless the application has its own handlers of them."""
    level, handlers = log.level, log.handlers
    reminders.clear()
    log.setLevel(logging.INFO if verbose else logging.ERROR)
    if verbose and not log.hasHandlers():
        handler = MessageHandler(lambda: sys.stdout)
        handler.addFilter(lambda record: record.levelno < logging.WARNING)  # warnings become those of Python
        log.handlers = [handler]
    try:
        yield
    finally:
        log.setLevel(level)
        log.handlers = handlers


@contextlib.contextmanager
def _folder_of_run(folder: str | Path | None) -> Iterator[Path]:
    """The folder of the run; a temporary one, if none is given, which is removed also after an error or Ctrl-C."""
    if folder is not None:
        yield Path(folder)
        return
    with TemporaryDirectory(prefix="distill-") as temporary:
        yield Path(temporary)
