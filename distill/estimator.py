"""A classifier with scikit-learn's protocol: fit on texts in memory, predict with the bundle of the student.

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
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from distill.config import STUDENTS, Settings
from distill.config.argparse import settings_from
from distill.config.toml import NAMES_HINT, typed
from distill.data import Dataset, Example, from_memory
from distill.data.arrays import as_classes, as_label_sets, as_texts, class_names
from distill.data.examples import Label
from distill.errors import (
    DistillWarning,
    InputError,
    InputTypeError,
    UserError,
    install_hint,
    join_problems,
    naming_extra,
)
from distill.export import hub
from distill.progress import MessageHandler, log, remind, reminders
from distill.runtime import Runtime
from distill.runtime.bundle import BUNDLE_ARRAYS, BUNDLE_CARD, MAX_CARD_BYTES, json_object, read_bundle, read_content
from distill.runtime.label_sets import exceeding
from distill.storage.atomic import write_file, write_folder
from distill.storage.run_folder import MODEL_CARD

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

TeacherArgument = str | Path | Callable[[list[str]], Any]
ESTIMATOR_CARD = "estimator.json"  # the classes with their type, next to a saved bundle
BUNDLE_FILES = (BUNDLE_CARD, BUNDLE_ARRAYS, MODEL_CARD)
LISTS, MATRIX = "lists", "matrix"  # forms of labels where a text has any number of them
WITHOUT_TEACHER = {"a": 1.0, "T": 0.0}
OBJECTIVE = ("a", "T", "objective")  # settings that decide whether a student has a teacher
GIVEN_OTHERWISE = {  # settings that have a parameter of their own
    **{name: f"{name}=…" for name in ("teacher_model", "student", "threads")},
    "seed": "random_state=…",
    "run": "run_folder=…",
    "teacher": "fit(…, teacher=…)",
    "unlabeled": "fit(…, unlabeled=…)",
}
SECTIONS = ("teacher.", "transfer.", "student.", "objective.")  # of the settings that may be given, besides OTHERS
OTHERS = ("data.user_dict", "data.hierarchy", "data.level_weight", "run.teachers", "export.max_mb", "export.examples")
_training = threading.Lock()  # messages, seeds and the number of threads are those of the process


class DistilledTextClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """Classifies short Chinese texts with a small student that is distilled from a BERT teacher.

    It follows scikit-learn's protocol, with texts in place of a matrix: ``X`` is a list of strings. A text has one
    label or, if the labels in ``fit`` are lists or an indicator matrix, any number of labels.

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
            micro-F1, if a text has any number of labels.
        multilabel_: whether a text has any number of labels.
    """

    multilabel_, _form = False, ""  # of classifiers that an older version pickled
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
        teacher: TeacherArgument | Sequence[TeacherArgument] | None = None,
    ) -> Self:
        """Train a teacher on the texts, and a student on its outputs.

        A stratified tenth of the texts is held out as dev; no test set is held out. Repeated texts count once, and
        texts with two labels are left out; warnings say so.

        Args:
            texts: strings, shape (texts,) or (texts, 1): a list, a tuple, an array or a Series.
            labels: strings, whole numbers or booleans, shape (texts,). For any number of labels per text a list of
                labels for each, or a matrix of 0 and 1, shape (texts, classes); a DataFrame's columns name the classes.
            unlabeled: further texts, which the teacher labels.
            teacher: what labels the texts instead of a fine-tuned ``teacher_model``; several are averaged. A folder of
                this program, a fine-tuned Hugging Face classifier (folder or Hub id), a file of recorded answers, or a
                function of a list of texts.

        Raises:
            InputError: texts or labels are missing, or there are fewer than two classes; a ValueError.
            InputTypeError: texts are not strings, or labels have no usable type; a TypeError.
            UserError: anything else that the user can correct, such as a folder that is missing.
        """
        strings, (classes, classes_of_texts, form) = as_texts(texts), _labels_in(labels)
        if len(strings) != len(classes_of_texts):
            what = f"{len(strings)} texts and {len(classes_of_texts)} labels: there must be one label per text"
            raise InputError(what, "fit", "take both from the same table")
        further = [] if unlabeled is None else as_texts(unlabeled, "unlabeled")
        teachers = _as_list(teacher)
        with _training, _messages(self.verbose), _folder_of_run(self.run_folder) as folder:
            settings = self._settings(folder, bool(teachers))
            data = _dataset(strings, classes_of_texts, class_names(classes), settings, bool(form))
            with naming_extra("fit", "train"):
                from distill.commands.fit import RunInMemory, train_bundle

                bundle, score = train_bundle(RunInMemory(settings, teachers, data, [text for text in further if text]))
            self._bundle = _BundleInMemory.read(bundle)
            warned = list(reminders)
        self.classes_, self.dev_score_ = classes, score
        self.multilabel_, self._form = bool(form), form
        for message in warned:
            warnings.warn(message, DistillWarning, stacklevel=2)
        return self

    def predict(self, texts: Any) -> Any:
        """The label of every text, shape (texts,), with the type of the labels in ``fit``.

        If a text has any number of labels: a list of labels for each, or a matrix of 0 and 1, shape (texts, classes),
        as in ``fit``.

        Raises:
            NotFittedError: ``fit`` was not called.
            InputTypeError: texts are not strings.
        """
        strings, runtime = self._ready(texts)
        if self.multilabel_:
            has_class = exceeding(self.predict_proba(strings), runtime.thresholds)
            if self._form == MATRIX:
                return has_class.astype(np.int64)
            return [self.classes_[row].tolist() for row in has_class]
        labels: NDArray[Any] = self.classes_[runtime.logits(strings).argmax(axis=1)] if strings else self.classes_[:0]
        return labels

    def predict_proba(self, texts: Any) -> NDArray[np.float32]:
        """Calibrated probabilities, shape (texts, classes), in the order of ``classes_``.

        Raises:
            NotFittedError: ``fit`` was not called.
            InputTypeError: texts are not strings.
        """
        strings, runtime = self._ready(texts)
        return runtime.predict_proba(strings) if strings else np.empty((0, len(self.classes_)), np.float32)

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:  # noqa: N803 (scikit-learn's names)
        """Accuracy; if a text has any number of labels, the share of the texts whose labels are all right."""
        check_is_fitted(self, "classes_")
        if not self.multilabel_ or self._form == MATRIX:
            return float(super().score(X, y, sample_weight))
        if hasattr(y, "shape") and len(y.shape) == 2:
            what = "an indicator matrix, but this classifier was fitted with lists of labels"
            raise InputError(what, "score", "give a list of labels for each text")
        right = [set(given) == set(gold) for given, gold in zip(self.predict(X), y, strict=True)]
        return float(np.average(right, weights=sample_weight))

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
        bundle, card = read_bundle(folder).card, _read_card(folder)
        known = cls._get_param_names()
        estimator = cls(**{name: value for name, value in card.get("params", {}).items() if name in known})
        estimator.classes_ = _classes_in(card, bundle["labels"], folder)
        estimator.dev_score_ = float(card.get("dev_score", math.nan))
        estimator._bundle = _BundleInMemory.read(folder)
        estimator.multilabel_ = "thresholds" in bundle
        estimator._form = MATRIX if card.get("form") == MATRIX else LISTS
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
        others = _given(self.settings)
        is_alone = self.teacher_model is None and not has_teacher
        if is_alone and not any(name in others for name in OBJECTIVE):
            others |= WITHOUT_TEACHER
        parameters = {
            "run": str(folder),
            "seed": self._seed(),
            "threads": _plain(self.threads),
            "student": self.student,
            "teacher_model": "auto" if self.teacher_model is None else str(self.teacher_model),
        }
        values, problems = typed({**parameters, **others})
        if problems:
            raise InputError(join_problems(list(problems.values())), "settings", NAMES_HINT)
        try:
            settings = settings_from(values)
        except UserError as error:
            raise InputError(error.what, error.where, error.hint) from error
        _check(settings, is_alone, has_teacher)
        return settings

    def _seed(self) -> Any:
        is_number = isinstance(self.random_state, int | np.integer)
        return int(self.random_state if is_number else check_random_state(self.random_state).randint(2**31))

    def _card(self, params: Mapping[str, Any]) -> bytes:
        """What :meth:`load` needs besides the bundle, as JSON."""
        params = {name: _plain(value) for name, value in params.items() if name != "run_folder"}
        card = {
            "classes": self.classes_.tolist(),
            "dtype": self.classes_.dtype.str,
            "dev_score": self.dev_score_,
            **({"form": self._form} if self.multilabel_ else {}),
            "params": {name: value for name, value in params.items() if _is_json(value)},
        }
        return json.dumps(card, ensure_ascii=False, indent=2).encode()


class _BundleInMemory:
    """The files of a bundle, and its runtime, which is loaded when it is first used. Copies hold the files alone."""

    def __init__(self, files: Mapping[str, bytes]) -> None:
        self._files = dict(files)
        self._loaded: dict[int, Runtime] = {}  # by the number of threads

    @classmethod
    def read(cls, folder: Path) -> Self:
        return cls({name: (folder / name).read_bytes() for name in BUNDLE_FILES if (folder / name).is_file()})

    def __getstate__(self) -> dict[str, Any]:
        return {"_files": self._files, "_loaded": {}}

    def runtime(self, threads: int) -> Runtime:
        if threads not in self._loaded:
            with TemporaryDirectory(prefix="distill-") as parent:
                runtime = Runtime(self.write(Path(parent, "bundle")), threads)
            self._loaded = {threads: runtime}
            return runtime
        return self._loaded[threads]

    def write(self, folder: Path, more: Mapping[str, bytes] | None = None) -> Path:
        """Write the files, and ``more``; a folder that holds other files is left alone.

        Raises:
            InputError: the folder holds other files.
        """
        present = [path.name for path in folder.iterdir()] if folder.is_dir() else []
        if others := sorted(set(present) - {*BUNDLE_FILES, ESTIMATOR_CARD}):
            what = f"this folder holds something else than a bundle: {join_problems(others)}"
            raise InputError(what, folder, "name a new folder")
        with write_folder(folder) as temporary:
            for name, content in {**self._files, **(more or {})}.items():
                write_file(temporary / name, content)
        return folder


def _labels_in(labels: Any) -> tuple[NDArray[Any], Sequence[Label], str]:
    """The classes, those of every text, and the form of labels of which a text has any number; empty: it has one."""
    if sets := as_label_sets(labels):
        return sets.classes, sets.sets, LISTS if sets.are_lists else MATRIX
    classes, numbers = as_classes(labels)
    return classes, numbers.tolist(), ""


def _as_list(teacher: Any) -> list[TeacherArgument]:
    if teacher is None:
        return []
    return list(teacher) if isinstance(teacher, list | tuple) else [teacher]


def _given(settings: Any) -> dict[str, Any]:
    """The settings by the names of flags, with plain values.

    Raises:
        InputTypeError: they are no dictionary.
        InputError: one has a parameter of its own, or concerns something else than training.
    """
    if not isinstance(settings, Mapping | None):
        raise InputTypeError(f"{settings!r:.40} is no dictionary", "settings", 'settings={"student_epochs": 8}')
    given = {name: _plain(value) for name, value in (settings or {}).items()}
    problems = [f"{name} is given by {GIVEN_OTHERWISE[name]}" for name in given if name in GIVEN_OTHERWISE]
    for name, value in given.items():
        fields = [*typed({name: value})[0]]
        if name not in GIVEN_OTHERWISE and fields and not fields[0].startswith(SECTIONS) and fields[0] not in OTHERS:
            problems.append(f"{name} does not concern the training of a student")
    if problems:
        raise InputError(join_problems(problems), "settings", "leave it out there")
    return given


def _check(settings: Settings, is_alone: bool, has_teacher: bool) -> None:
    """Check that student and objective are possible.

    Raises:
        InputError: they are not.
    """
    needs_teacher, student = settings.objective.needs_teacher, settings.student.architecture
    if STUDENTS[student].transductive:
        raise InputError(f"{student} labels only the texts that it was trained with", "student", 'student="bilstm"')
    if is_alone and needs_teacher:
        what = "the objective needs a teacher, but teacher_model is None"
        raise InputError(what, "settings", 'teacher_model="auto", or leave out a, T and objective')
    if has_teacher and not needs_teacher:
        raise InputError("the objective uses no teacher, but one is given", "teacher", "leave out a and T in settings")


def _dataset(
    texts: Sequence[str], labels: Sequence[Label], names: tuple[str, ...], settings: Settings, is_multi_label: bool
) -> Dataset:
    """Train and dev.

    Raises:
        InputError: too few texts are left.
    """
    examples = [Example.of(text, label) for text, label in zip(texts, labels, strict=True) if text]
    if empty := [position for position, text in enumerate(texts) if not text]:
        remind(f"{len(empty)} of the texts are empty and are left out; the first: texts[{empty[0]}]", of_model=False)
    try:
        seed, hierarchy = settings.run.seed, settings.data.hierarchy
        return from_memory(examples, names, seed, is_multi_label=is_multi_label, hierarchy=hierarchy)
    except UserError as error:
        hint = "every class needs texts of its own, and at least one class needs two"
        raise InputError(error.what, "fit", hint) from error


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


def _plain(value: Any) -> Any:
    """A value as TOML and JSON have it: NumPy's numbers, paths and tuples are plain ones."""
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return {name: _plain(item) for name, item in value.items()} if isinstance(value, Mapping) else value


def _is_json(value: Any) -> bool:
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError):
        return False
    return True


def _read_card(folder: Path) -> dict[str, Any]:
    """The file with the labels and parameters; empty for a plain bundle.

    Raises:
        UserError: it is damaged.
    """
    path = folder / ESTIMATOR_CARD
    if not path.is_file():
        return {}
    try:
        card = json_object(read_content(path, MAX_CARD_BYTES))
        if not isinstance(card.get("params", {}), dict) or not isinstance(card.get("dev_score", 0.0), int | float):
            raise ValueError("params is not an object, or dev_score not a number")
    except (ValueError, RecursionError) as error:
        raise UserError(f"this file cannot be read: {error}", path, "save the classifier again") from error
    return card


def _classes_in(card: Mapping[str, Any], names: Sequence[str], folder: Path) -> NDArray[Any]:
    """The classes, with their type, in the order of the bundle's labels.

    Raises:
        UserError: they are not those of the bundle.
    """
    if "classes" not in card:
        return np.array(names)
    try:
        dtype = np.dtype(str(card["dtype"]))
        classes = np.array(card["classes"], dtype) if dtype.kind in "biufUO" else np.array([])
        is_same = classes.ndim == 1 and class_names(classes) == tuple(names)
    except (KeyError, TypeError, ValueError, OverflowError):
        is_same = False
    if not is_same:
        what = "its classes are not the labels of the bundle"
        raise UserError(what, folder / ESTIMATOR_CARD, "copy the whole folder again, or save the classifier again")
    return classes
