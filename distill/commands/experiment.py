"""What several stages of a run need, each made once and when first asked for."""

from __future__ import annotations

import dataclasses
import functools
import json
import random
import re
from collections.abc import Callable, Sequence
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
    load,
    read_sentences,
    read_unlabelled,
    without_leaks,
)
from distill.data.augmentation import augmented
from distill.errors import UserError
from distill.evaluation.baselines.linear_svm import LinearBaseline
from distill.export import model_card
from distill.export.model_card import Card
from distill.models.pretrained import Pretrained, resolve
from distill.progress import log, with_progress_bar
from distill.storage.atomic import write_folder, write_json
from distill.storage.fingerprints import PROVENANCE_FILE, package_versions, provenance_differences
from distill.storage.run_folder import RunFolder, remove_leftovers
from distill.text.segmentation import Segmenter
from distill.text.word_vectors import VectorFile, VectorReader, find_vectors
from distill.training import defaults, distributed
from distill.training.tensorboard import evaluation_writer
from distill.training.trainer import Evaluation, ignore_evaluation, write_log

COMMAND = "python distill.py --mode"
TEACHER, ALONE, DISTILLED = "teacher", "student_alone", "student"
SENTENCE = 36  # characters of a general sentence at most: about a headline
LOG = "log.jsonl"  # of a model's training, in its folder


class Run:
    """Settings, folder, and the data and weights that the settings name."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.folder = RunFolder.from_settings(settings)
        if distributed.is_main_process():
            remove_leftovers(self.folder.root)
        if settings.run.threads:
            torch.set_num_threads(settings.run.threads)
        self.segmenter = Segmenter(Path(settings.data.user_dict) if settings.data.user_dict else None)

    @functools.cached_property
    def data(self) -> Dataset:
        """The checked data; what the checks found is said."""
        dataset = load(self.settings.data, self.settings.run.seed)
        log.info("data: %s", ", ".join(f"{count} {name}" for name, count in dataset.counts.items()))
        return dataset

    def keep_settings(self) -> Path:
        """Write config.json: what this run was asked for, with what, on what."""
        record = {
            "settings": dataclasses.asdict(self.settings),
            "versions": package_versions(),
            "data": {"fingerprint": self.data.fingerprint, **self.data.counts},
        }
        return write_json(self.folder.config, record)

    @functools.cached_property
    def unlabelled(self) -> tuple[Example, ...]:
        """The texts of --unlabeled that are new."""
        paths = [Path(path) for path in self.settings.transfer.unlabeled]
        if not paths:
            return ()
        found, counts = read_unlabelled(paths, Columns(self.settings.data.text_column), self.data)
        self.data.counts.update(counts)
        log.info("unlabelled texts: %s", ", ".join(f"{count} {name}" for name, count in counts.items()))
        return tuple(found)

    @functools.cached_property
    def extra(self) -> tuple[Example, ...]:
        """The texts without labels: those of --unlabeled, and altered copies of train."""
        settings, data = self.settings.transfer, self.data
        if not settings.augment:
            return self.unlabelled
        copies = augmented([example.text for example in data.train], settings, self.settings.run.seed, self.segmenter)
        examples = [Example(example_id(text), text, UNLABELLED) for text in copies]
        new, known = without_leaks(examples, (*data.dev, *data.test, *self.unlabelled))
        data.counts["augmented"] = len(new)
        log.info("augmented: %d copies, %d more are texts of dev, test or the unlabelled ones", len(new), known)
        return (*self.unlabelled, *new)

    @functools.cached_property
    def general(self) -> tuple[Example, ...]:
        """Words of jieba's dictionary and sentences of news, that the teacher labels where there are few texts."""
        settings, longest = self.transfer_settings, max(len(example.text) for example in self.data.train)
        texts = self.segmenter.frequent_words(settings.general_words)
        if settings.general_sentences:
            sentences = read_sentences(min(longest, SENTENCE))
            random.Random(self.settings.run.seed).shuffle(sentences)
            texts += sentences[: settings.general_sentences]
        found = {text_id: Example(text_id, text, UNLABELLED) for text in texts if (text_id := example_id(text))}
        return tuple(without_leaks(list(found.values()), (*self.transfer_set, *self.data.dev, *self.data.test))[0])

    @property
    def transfer_set(self) -> tuple[Example, ...]:
        """What teachers label: train first, then the user's texts without labels, and altered copies."""
        return (*self.data.train, *self.extra)

    @functools.cached_property
    def _words(self) -> dict[int, list[str]]:
        return {}

    def segmented(self, examples: Sequence[Example]) -> list[list[str]]:
        """The words of texts; each is cut once a run."""
        new = [example for example in examples if example.id not in self._words]
        for example in with_progress_bar(new, "jieba", len(new)) if new else ():
            self._words[example.id] = self.segmenter.segment(example.text)
        return [self._words[example.id] for example in examples]

    def vectors(self, asked: str) -> VectorFile | None:
        """The file of pretrained word vectors behind --vectors; None where the teacher alone makes them."""
        if asked == defaults.FROM_TEACHER:
            return None
        asked = asked.removeprefix(f"{defaults.FROM_TEACHER}+")
        if asked not in self._vector_files:
            self._vector_files[asked] = found = find_vectors(asked)
            log.info("word vectors: %s, %s", found.path.name, found.why)
        return self._vector_files[asked]

    def vector_reader(self, asked: str) -> VectorReader | None:
        """What reads the file behind --vectors, once for all students; None where the teacher alone makes vectors."""
        file = self.vectors(asked)
        return self._vector_readers.setdefault(file.path, VectorReader(file.path)) if file else None

    @functools.cached_property
    def _vector_readers(self) -> dict[Path, VectorReader]:
        return {}

    @functools.cached_property
    def _vector_files(self) -> dict[str, VectorFile]:
        return {}

    @functools.cached_property
    def pretrained(self) -> Pretrained:
        """The teacher's pretrained weights."""
        with distributed.main_process_first():  # bundled weights are written as a checkpoint the first time
            found = resolve(self.settings.teacher.model)
        log.info("teacher's weights: %s, %s", found.source, found.why)
        return found

    @functools.cached_property
    def teacher_settings(self) -> TeacherSettings:
        """The teacher's settings with what follows from the data; what was chosen is said."""
        settings = self.settings.teacher
        return defaults.teacher_settings(settings, self.data, len(self.extra) if settings.taught_by else 0)

    def student_settings(self, architecture: str = "", *, taught: bool) -> StudentSettings:
        """A student's settings with what follows from the network and the data, and whether a teacher teaches it."""
        return defaults.student_settings(self.settings.student, self.data, architecture, has_teacher=taught)

    @functools.cached_property
    def transfer_settings(self) -> TransferSettings:
        """What the teacher labels, with what follows from the data; what was chosen is said."""
        settings = self.settings
        return defaults.transfer_settings(settings.transfer, self.data, settings.student, len(self.unlabelled))

    @functools.cached_property
    def linear(self) -> LinearBaseline:
        """The linear model that everything is measured against, its C chosen on dev."""
        train, dev = self.data.train, self.data.dev
        return LinearBaseline(self.segmenter).fit(
            [example.text for example in train],
            self.segmented(train),
            [example.label for example in train],
            dev_texts=[example.text for example in dev],
            dev_segmented=self.segmented(dev),
            dev_labels=[example.label for example in dev],
        )

    def linear_scores(self, examples: Sequence[Example]) -> NDArray[np.float32]:
        """The linear model's scores (texts, classes); those of train texts by models that have not seen them."""
        held_out, classes = self._held_out_scores, len(self.data.labels)
        new = [example for example in examples if example.id not in held_out]
        found = self.linear.scores([example.text for example in new], self.segmented(new), classes)
        scores = {**held_out, **{example.id: row for example, row in zip(new, found, strict=True)}}
        return np.stack([scores[example.id] for example in examples])

    @functools.cached_property
    def _held_out_scores(self) -> dict[int, NDArray[np.float32]]:
        train = self.data.train
        texts, labels = [example.text for example in train], [example.label for example in train]
        scores = self.linear.held_out_scores(texts, self.segmented(train), labels, len(self.data.labels))
        return {example.id: row for example, row in zip(train, scores, strict=True)}

    def watch(self, folder: Path) -> Callable[[Evaluation], None]:
        """What is done with every evaluation of the model that is to be kept in ``folder``."""
        name = str(folder.relative_to(self.folder.root))
        watched = self.settings.run.tensorboard and distributed.is_main_process()
        return evaluation_writer(self.folder.tensorboard / name) if watched else ignore_evaluation

    def is_current(self, folder: Path, made_from: dict[str, Any]) -> bool:
        """Whether a folder was made from just this, and a word about it either way."""
        changed = provenance_differences(folder, made_from)
        if not changed:
            log.info("%s: kept, it was trained with the same data and settings", folder)
        elif folder.exists():
            log.info("%s: trained again, %s", folder, ", ".join(changed))
        return not changed

    def check_same_data(self, folder: Path, command: str) -> None:
        """Refuse a model that was trained on other data: it may have seen what is dev or test here."""
        if provenance_differences(folder, {"data": self.data.fingerprint}):
            raise UserError(
                "it was trained on other data, or split with another seed",
                folder,
                f"give the same --data and --seed, or {COMMAND} {command}",
            )


def labels_of(split: Sequence[Example]) -> Tensor:
    """Class numbers, shape (texts,)."""
    return torch.tensor([example.label for example in split])


def row_folders(run: Run, name: str) -> tuple[Path, ...]:
    """Where the students of a comparison's row are kept, one a seed."""
    row, first = run.folder.compare / re.sub(r"[^\w+.-]+", "_", name), run.settings.run.seed
    return tuple(row / f"seed.{seed}" for seed in range(first, first + run.settings.run.seeds))


def kept_accuracy(run: Run, accuracies: Sequence[float]) -> float:
    """The dev accuracy of the weights that were kept, of those of all evaluations."""
    return accuracies[-1] if defaults.keeps_last_weights(run.data) else max(accuracies)


def train_seconds(folder: Path) -> float:
    """How long a model was trained, its evaluations included."""
    return float(history(folder)[-1]["seconds"])


def history(folder: Path) -> list[dict[str, Any]]:
    """The lines of a trained model's log."""
    return [json.loads(line) for line in (folder / LOG).read_text(encoding="utf-8").splitlines()]


def size_of(folder: Path) -> int:
    """Bytes of what is needed to run a model."""
    beside = (LOG, PROVENANCE_FILE, model_card.FILE)
    return sum(path.stat().st_size for path in folder.iterdir() if path.name not in beside)


def keep_model(
    name: str,
    folder: Path,
    save: Callable[[Path], None],
    evaluations: Sequence[Evaluation],
    made_from: dict[str, Any],
    *,
    dev_accuracy: float,
    card: Card,
) -> None:
    """Write a trained model's folder: what ``save`` writes into it, its log, card, and what it was made from.

    Of several processes, which have the same model, the first writes and the others wait.
    """
    if distributed.rank() == 0:
        with write_folder(folder) as temporary:
            save(temporary)
            write_log(temporary / LOG, evaluations)
            write_json(temporary / PROVENANCE_FILE, made_from)
            model_card.write(temporary, dataclasses.replace(card, dev_accuracy=dev_accuracy), size_of(temporary))
    distributed.barrier()
    log.info("%s: dev accuracy %.4f", name, dev_accuracy)
