"""The students' stage: a course says what teaches which network on which texts; one student a seed takes it."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from distill import embeddings, students
from distill.batches import PackedIds
from distill.config import ObjectiveSettings, StudentSettings
from distill.data import UNLABELLED, Example
from distill.losses import Distillation
from distill.metrics import calibration_temperature
from distill.progress import log
from distill.runs import fingerprint_file, fingerprint_lines
from distill.stages.cards import student_card
from distill.stages.run import ALONE, DISTILLED, Run, keep_model, labels_of
from distill.stages.teach import identity, layers_of, logits_of, teachers_of
from distill.students import Documents, Student, Words, textgcn
from distill.students.pair import Pair
from distill.training import Job, Schedule, Split, fit, predict_logits
from distill.words import build_vocabulary, segmenter

PEER = 1_000_000  # added to the seed of the second of two students


@dataclass(frozen=True)
class Course:
    """What students are made from: the network, what teaches it, and the texts beside train.

    ``budget`` is how many texts an epoch counts, for a student alone that gets as many steps as a distilled one; 0:
    those that there are. ``left_out`` is a class whose labelled texts are left out.
    """

    student: StudentSettings
    objective: ObjectiveSettings
    teachers: tuple[Path, ...] = ()
    extra: tuple[Example, ...] = ()
    budget: int = 0
    left_out: int | None = None

    def texts(self, run: Run) -> tuple[Example, ...]:
        """The transfer set, train first."""
        return (*(example for example in run.data.train if example.label != self.left_out), *self.extra)

    def epochs(self, texts: int) -> int:
        """Passes over the texts: as many as make the steps that the budget allows."""
        steps = math.ceil((self.budget or texts) / self.student.batch_size)
        return math.ceil(self.student.epochs * steps / math.ceil(texts / self.student.batch_size))

    def made_from(self, run: Run) -> dict[str, Any]:
        """The record of a student's folder; a textgcn's graph holds the texts of test too."""
        asked = [example.text for example in run.data.test] if self.student.architecture == "textgcn" else []
        return {
            **({"graph": fingerprint_lines(asked)} if asked else {}),
            "data": run.data.fingerprint,
            "settings": {key: value for key, value in dataclasses.asdict(self.student).items() if key != "vectors"},
            "objective": {"weights": self.objective.weights, "temperature": self.objective.temperature},
            "word vectors": fingerprint_file(run.vectors.path),
            "segmenter": segmenter(),
            "teacher": [identity(folder) for folder in self.teachers] or None,
            "extra texts": fingerprint_lines(example.text for example in self.extra) if self.extra else None,
            "epochs": self.epochs(len(self.texts(run))),
            "left out": None if self.left_out is None else run.data.labels[self.left_out],
        }


def train_students(run: Run, alone: bool = False) -> list[Path]:
    """One student a seed; by the labels only (or ``alone``) without a teacher."""
    settings = run.settings.alone() if alone else run.settings
    objective = settings.objective
    teachers = teachers_of(run) if objective.needs_teacher else ()
    extra = () if objective.is_alone else run.extra
    kind = ALONE if objective.is_alone else DISTILLED
    folders = [run.folder.model(kind, place) for place in range(run.settings.run.seeds)]
    return take(run, Course(settings.student.suited(), objective, teachers, extra), folders)


def take(run: Run, course: Course, folders: Sequence[Path]) -> list[Path]:
    """Train the students of a course, one a folder, with seeds SEED, SEED+1, …; those that are current are kept."""
    made_from = course.made_from(run)
    records = [{**made_from, "seed": run.settings.run.seed + place} for place in range(len(folders))]
    wanted = [place for place, folder in enumerate(folders) if not run.is_current(folder, records[place])]
    if wanted:
        lesson = _Lesson(run, course)
        for place in wanted:
            lesson.teach(run.settings.run.seed + place, folders[place], records[place])
    return list(folders)


class _Lesson:
    """What the students of one course share: texts as ids, what teaches them, word vectors."""

    def __init__(self, run: Run, course: Course) -> None:
        self.run, self.course = run, course
        self.texts = course.texts(run)
        self.new: New
        self.input: Words | Documents
        self.new, encode, self.input = (_over_graph if course.student.architecture == "textgcn" else _over_words)(
            run, course.student, self.texts
        )
        self.train = Split(encode(self.texts), labels_of(self.texts), *self._taught())
        self.train = dataclasses.replace(self.train, chances=self._chances())
        dev = [example for example in run.data.dev if example.label != course.left_out]
        self.dev = Split(encode(dev), labels_of(dev))

    def _taught(self) -> tuple[Tensor | None, Tensor | None]:
        """The teachers' logits and, for hints, vectors."""
        objective, teachers = self.course.objective, self.course.teachers
        if not objective.needs_teacher:
            return None, None
        logits = logits_of(self.run, teachers, self.texts)
        last = not objective.weights.get("hint_layers")
        return logits, layers_of(self.run, teachers[0], self.texts, last) if objective.hints else None

    def _chances(self) -> Tensor | None:
        """Stratified: every class equally often; a text without a label counts to its teacher's class."""
        if self.course.student.sampling == "uniform":
            return None
        classes = self.train.labels.clone()
        without = classes == UNLABELLED
        if self.train.teacher_logits is not None:
            classes[without] = self.train.teacher_logits[without].argmax(1)
        classes[classes == UNLABELLED] = len(self.run.data.labels)  # nobody knows: a class of their own
        return 1 / torch.bincount(classes)[classes].double()

    def teach(self, seed: int, folder: Path, made_from: dict[str, Any]) -> None:
        """One student of the course."""
        settings, data = self.course.student, self.run.data
        name = str(folder.relative_to(self.run.folder.root))
        model: Any = self.new(seed, self.train.inputs)
        if self.course.objective.weights.get("mutual"):
            model = Pair(model, self.new(seed + PEER, self.train.inputs))
        layers = self.train.teacher_layers
        shape = (0, 0) if layers is None else (layers.shape[1], layers.shape[2])
        objective = self.course.objective
        distillation = Distillation(objective.weights, objective.temperature, model.classifier.in_features, shape)
        schedule = Schedule(self.course.epochs(len(self.texts)), settings.batch_size, averaging=settings.averaging)
        groups = students.parameter_groups(model, settings)
        hints = [parameter for parameter in distillation.parameters() if parameter.requires_grad]
        groups += [{"params": hints, "lr": settings.learning_rate}] if hints else []
        job = Job(self.train, self.dev, distillation, schedule, seed, name, self.run.watch(folder))
        evaluations = fit(model, groups, job)
        finished = students.finish(model)
        temperature = calibration_temperature(
            predict_logits(finished, self.dev.inputs).numpy(), self.dev.labels.numpy()
        )
        keep_model(
            f"{name}, seed {seed}",
            folder,
            lambda aside: students.save_student(aside, finished, self.input, data.labels, temperature),
            evaluations,
            made_from,
            card=student_card(self.run, self.course),
        )


New = Callable[[int, PackedIds], Student]  # a network from a seed and the training texts
Encode = Callable[[Sequence[Example]], PackedIds]


def _over_words(run: Run, settings: StudentSettings, texts: Sequence[Example]) -> tuple[New, Encode, Words]:
    """How networks over word vectors are made and fed; the vocabulary is that of the transfer set."""
    vocabulary = build_vocabulary(run.segmented(texts), settings.min_count)
    words = Words(vocabulary, settings.max_length, students.ngram_rows(settings))
    vectors = embeddings.load_vectors(run.vectors.path, vocabulary.words)
    log.info("words: %d in the vocabulary, %d of them with a vector", len(vocabulary), len(vectors))

    def new(seed: int, train: PackedIds) -> Student:
        torch.manual_seed(seed)
        rows = embeddings.matrix(vectors, vocabulary.words, seed)
        return students.build(settings, rows, vocabulary.words, len(run.data.labels), train)

    def encode(examples: Sequence[Example]) -> PackedIds:
        return words.encode_segmented(run.segmented(examples), [example.text for example in examples])

    return new, encode, words


def _over_graph(run: Run, settings: StudentSettings, texts: Sequence[Example]) -> tuple[New, Encode, Documents]:
    """How a network over a graph of all texts is made and fed; of dev and test the texts are in it, not the labels."""
    asked = (*texts, *run.data.train, *run.data.dev, *run.data.test)

    def new(seed: int, train: PackedIds) -> Student:
        torch.manual_seed(seed)
        ids = [example.id for example in asked]
        return textgcn.build(settings, ids, run.segmented(asked), len(run.data.labels))[0]

    documents = Documents(tuple(dict.fromkeys(example.id for example in asked)))
    return new, lambda examples: documents.encode([example.text for example in examples]), documents
