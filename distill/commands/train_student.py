"""``--mode train_student``: one student per seed from a specification."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from distill.commands.distillation_targets import linear_weight, targets_of
from distill.commands.experiment import ALONE, DISTILLED, Run, keep_model, kept_accuracy, labels_of
from distill.commands.model_cards import EMBEDDED, LINEAR, card_of
from distill.commands.student_spec import StudentSpec
from distill.commands.teacher_check import objective_of
from distill.commands.train_teacher import layers_of, teachers_of
from distill.commands.train_teacher import word_vectors as teacher_word_vectors
from distill.data import UNLABELLED, Example
from distill.evaluation.metrics import calibration_temperature
from distill.export.model_card import Card
from distill.models import registry, textgcn
from distill.models.inference import predict_logits
from distill.models.mutual import Pair
from distill.models.registry import Documents, Student, Words
from distill.progress import log
from distill.text import word_vectors
from distill.text.batching import PackedIds
from distill.text.teacher_vectors import Rows, reduced, scaled
from distill.text.vocabulary import UNKNOWN_ID, Vocabulary, build_vocabulary
from distill.training import defaults
from distill.training.losses import Distillation
from distill.training.trainer import Schedule, Split, TrainingJob, fit

FIRST_WORD = UNKNOWN_ID + 1  # of a vocabulary, after padding and the unknown word
EVALUATIONS = 12  # about so many at most: an epoch of few texts takes less time than dev does
PEER = 1_000_000  # added to the seed of the second of two students


def train_students(run: Run, alone: bool = False) -> list[Path]:
    """One student a seed; by the labels only (or ``alone``) without a teacher."""
    spec = spec_of(run, alone)
    kind = ALONE if spec.objective.is_alone else DISTILLED
    folders = [run.folder.model(kind, place) for place in range(run.settings.run.seeds)]
    return train_seeds(run, spec, folders)


def spec_of(run: Run, alone: bool = False) -> StudentSpec:
    """What the run's settings ask for, or the same student ``alone``."""
    settings = run.settings.alone() if alone else run.settings
    teachers = teachers_of(run) if settings.objective.needs_teacher else ()
    objective = settings.objective if alone else objective_of(run, teachers)
    extra, general = () if objective.is_alone else run.extra, run.general if teachers else ()
    student = run.student_settings(taught=bool(teachers))
    return StudentSpec(student, objective, teachers, extra, general, linear_weight=linear_weight(run, teachers))


def train_seeds(run: Run, spec: StudentSpec, folders: Sequence[Path]) -> list[Path]:
    """Train one student per folder, with seeds SEED, SEED+1, …; those that are up to date are kept."""
    made_from = spec.made_from(run)
    records = [{**made_from, "seed": run.settings.run.seed + place} for place in range(len(folders))]
    wanted = [place for place, folder in enumerate(folders) if not run.is_current(folder, records[place])]
    if wanted:
        trainer = _StudentTrainer(run, spec)
        for place in wanted:
            trainer.teach(run.settings.run.seed + place, folders[place], records[place])
    return list(folders)


class _StudentTrainer:
    """What the students of one specification share: texts as ids, targets, word vectors."""

    def __init__(self, run: Run, spec: StudentSpec) -> None:
        self.run, self.spec = run, spec
        self.texts = spec.texts(run)
        self.new: New
        self.input: Words | Documents
        self.new, encode, self.input = (_over_graph if spec.student.architecture == defaults.GRAPH else _over_words)(
            run, spec, self.texts
        )
        self.train = Split(encode(self.texts), labels_of(self.texts), *self._taught())
        self.train = dataclasses.replace(self.train, sampling_weights=self._chances())
        dev = [example for example in run.data.dev if example.label != spec.left_out]
        self.dev = Split(encode(dev), labels_of(dev))

    def _taught(self) -> tuple[Tensor | None, Tensor | None]:
        """The teachers' logits and, for hints, vectors."""
        objective, teachers = self.spec.objective, self.spec.teachers
        if not objective.needs_teacher:
            return None, None
        last = not objective.weights.get("hint_layers")
        # vectors first: they come with logits, which are then known
        layers = layers_of(self.run, teachers[0], self.texts, last) if objective.hints else None
        return targets_of(self.run, teachers, self.texts, self.spec.linear_weight), layers

    def _chances(self) -> Tensor | None:
        """How often each text is drawn, where not all come once: the general ones have a share of their own."""
        general = len(self.spec.general)
        if not general:
            return self._stratified()
        chances = self._stratified()
        own = (torch.ones(len(self.texts), dtype=torch.float64) if chances is None else chances)[:-general]
        share = self.run.transfer_settings.general_share
        return torch.cat([own / own.sum() * (1 - share), torch.full((general,), share / general, dtype=torch.float64)])

    def _stratified(self) -> Tensor | None:
        """Every class equally often, if asked for; a text without a label counts to its teacher's class."""
        if self.spec.student.sampling == "uniform":
            return None
        classes = self.train.labels.clone()
        without = classes == UNLABELLED
        if self.train.teacher_logits is not None:
            classes[without] = self.train.teacher_logits[without].argmax(1)
        classes[classes == UNLABELLED] = len(self.run.data.labels)  # nobody knows: a class of their own
        return 1 / torch.bincount(classes)[classes].double()

    def teach(self, seed: int, folder: Path, made_from: dict[str, Any]) -> None:
        """Train one student and write its folder."""
        settings, data = self.spec.student, self.run.data
        name = str(folder.relative_to(self.run.folder.root))
        model: Any = self.new(seed, self.train.inputs)
        if self.spec.objective.weights.get("mutual"):
            model = Pair(model, self.new(seed + PEER, self.train.inputs))
        layers = self.train.teacher_layers
        shape = (0, 0) if layers is None else (layers.shape[1], layers.shape[2])
        objective = self.spec.objective
        distillation = Distillation(objective.weights, objective.temperature, model.classifier.in_features, shape)
        epochs = self.spec.epochs(len(self.texts))
        schedule = Schedule(
            epochs,
            settings.batch_size,
            epochs_per_evaluation=max(1, epochs // EVALUATIONS),
            ema_decay=settings.averaging,
            keep_last=defaults.keeps_last_weights(data),
        )
        groups = registry.parameter_groups(model, settings)
        hints = [parameter for parameter in distillation.parameters() if parameter.requires_grad]
        groups += [{"params": hints, "lr": settings.learning_rate}] if hints else []
        job = TrainingJob(self.train, self.dev, distillation, schedule, seed, name, self.run.watch(folder))
        evaluations = fit(model, groups, job)
        finished = registry.finish(model)
        temperature = calibration_temperature(
            predict_logits(finished, self.dev.inputs).numpy(), self.dev.labels.numpy()
        )
        keep_model(
            f"{name}, seed {seed}",
            folder,
            lambda temporary: registry.save_student(temporary, finished, self.input, data.labels, temperature),
            evaluations,
            made_from,
            dev_accuracy=kept_accuracy(self.run, [evaluation.dev_accuracy for evaluation in evaluations]),
            card=_card(self.run, self.spec),
        )


def _card(run: Run, spec: StudentSpec) -> Card:
    """The model card of a student."""
    extra, general = len(spec.extra), len(spec.general)
    train = len(spec.texts(run)) - extra - general
    return Card(
        kind=DISTILLED,
        network=spec.student.architecture,
        labels=run.data.labels,
        data=run.settings.data.name or EMBEDDED,
        texts={"train": train, "without labels": extra, "general": general, "dev": len(run.data.dev)},
        objective="+".join(f"{term}:{weight:g}" for term, weight in spec.objective.weights.items() if weight),
        taught_by=(*(card_of(folder).network for folder in spec.teachers), *[LINEAR] * bool(spec.linear_weight)),
    )


New = Callable[[int, PackedIds], Student]  # a network from a seed and the training texts
Encode = Callable[[Sequence[Example]], PackedIds]


def _over_words(run: Run, spec: StudentSpec, texts: Sequence[Example]) -> tuple[New, Encode, Words]:
    """How networks over word vectors are made and fed; the vocabulary is that of the transfer set and a dictionary."""
    settings = spec.student
    dictionary = run.segmenter.frequent_words(settings.dictionary) if spec.from_teacher else ()
    vocabulary = build_vocabulary(run.segmented(texts), settings.min_count, dictionary)
    words = Words(vocabulary, settings.max_length, registry.ngram_rows(settings), run.segmenter)
    rows_of = _vectors(run, spec, vocabulary)

    def new(seed: int, train: PackedIds) -> Student:
        torch.manual_seed(seed)
        return registry.build(settings, rows_of(seed), vocabulary.words, len(run.data.labels), train)

    def encode(examples: Sequence[Example]) -> PackedIds:
        return words.encode_segmented(run.segmented(examples), [example.text for example in examples])

    return new, encode, words


def _vectors(run: Run, spec: StudentSpec, vocabulary: Vocabulary) -> Callable[[int], Rows]:
    """The first vectors of a vocabulary's words, (words, width), by a seed: a word without one gets noise."""
    reader = run.vector_reader(spec.student.vectors)
    vectors = reader.read(vocabulary.words) if reader else None
    if vectors is not None:
        log.info("words: %d in the vocabulary, %d of them with a vector", len(vocabulary), len(vectors))
    if not spec.from_teacher:
        return lambda seed: word_vectors.matrix(vectors, vocabulary.words, seed)
    known = vocabulary.words[FIRST_WORD:]
    rows = reduced(teacher_word_vectors(run, spec.teachers[0], known), spec.student.teacher_width)
    if vectors is not None:
        pretrained = word_vectors.matrix(vectors, vocabulary.words, run.settings.run.seed)[FIRST_WORD:]
        rows = np.concatenate([rows, scaled(pretrained)], axis=1)
    log.info("words: %d in the vocabulary, each with a vector from the teacher", len(vocabulary))
    padded = np.concatenate([np.zeros((FIRST_WORD, rows.shape[1]), np.float32), rows])
    return lambda seed: padded


def _over_graph(run: Run, spec: StudentSpec, texts: Sequence[Example]) -> tuple[New, Encode, Documents]:
    """How a network over a graph of all texts is made and fed; of dev and test the texts are in it, not the labels."""
    asked = (*texts, *run.data.train, *run.data.dev, *run.data.test)

    def new(seed: int, train: PackedIds) -> Student:
        torch.manual_seed(seed)
        ids = [example.id for example in asked]
        return textgcn.build(spec.student, ids, run.segmented(asked), len(run.data.labels))[0]

    documents = Documents(tuple(dict.fromkeys(example.id for example in asked)))
    return new, lambda examples: documents.encode([example.text for example in examples]), documents
