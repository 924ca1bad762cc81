"""The students' stage: the same biLSTM with and without a teacher, one a seed."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from distill import embeddings, students
from distill.losses import logits_mse
from distill.progress import log
from distill.runs import fingerprint_file
from distill.stages.run import ALONE, DISTILLED, Run, keep_model, labels_of
from distill.stages.teach import identity, logits_of_train
from distill.students import Words
from distill.training import Job, Schedule, Split, fit
from distill.words import build_vocabulary, segmenter


@dataclass(frozen=True)
class Lesson:
    """What the students of one kind share: the objective's weights, the texts as ids, the word vectors' file."""

    weights: dict[str, float]
    words: Words
    vectors: Any
    train: Split
    dev: Split


def train_students(run: Run, alone: bool = False) -> list[Path]:
    """One student a seed; with T = 0 (or ``alone``) by the labels only, without a teacher."""
    settings = run.settings.alone() if alone else run.settings
    kind = DISTILLED if settings.objective.logits_weight > 0 else ALONE
    soft = logits_of_train(run) if kind == DISTILLED else None
    made_from = {
        "data": run.data.fingerprint,
        "settings": {key: value for key, value in dataclasses.asdict(settings.student).items() if key != "vectors"},
        "objective": dataclasses.asdict(settings.objective),
        "word vectors": fingerprint_file(run.vectors.path),
        "segmenter": segmenter(),
        "teacher": identity(run.folder.teacher) if kind == DISTILLED else None,
    }
    seeds = range(run.settings.run.seed, run.settings.run.seed + run.settings.run.seeds)
    folders = {seed: run.folder.student(kind, place) for place, seed in enumerate(seeds)}
    wanted = {
        seed: folder for seed, folder in folders.items() if not run.is_current(folder, {**made_from, "seed": seed})
    }
    if wanted:
        lesson = _lesson(run, dataclasses.asdict(settings.objective), soft)
        for seed, folder in wanted.items():
            _train_student(run, lesson, seed, folder, {**made_from, "seed": seed})
    return list(folders.values())


def _lesson(run: Run, weights: dict[str, float], soft: Tensor | None) -> Lesson:
    settings = run.settings.student
    vocabulary = build_vocabulary(run.segmented["train"], settings.min_count)
    words = Words(vocabulary, settings.max_length)
    vectors = embeddings.load_vectors(run.vectors.path, vocabulary.words)
    log.info("words: %d in the vocabulary, %d of them with a vector", len(vocabulary), len(vectors))
    train = Split(words.encode_segmented(run.segmented["train"]), labels_of(run.data.train), soft)
    dev = Split(words.encode_segmented(run.segmented["dev"]), labels_of(run.data.dev))
    return Lesson(weights, words, vectors, train, dev)


def _train_student(run: Run, lesson: Lesson, seed: int, folder: Path, made_from: dict[str, Any]) -> None:
    settings = run.settings.student
    torch.manual_seed(seed)
    words = lesson.words.vocabulary.words
    model = students.build(settings, embeddings.matrix(lesson.vectors, words, seed), words, len(run.data.labels))
    schedule = Schedule(settings.epochs, settings.batch_size)
    job = Job(lesson.train, lesson.dev, logits_mse(**lesson.weights), schedule, seed, folder.name)
    evaluations = fit(model, students.parameter_groups(model, settings), job)
    finished = students.finish(model)
    keep_model(
        f"{folder.name}, seed {seed}",
        folder,
        lambda aside: students.save_student(aside, finished, lesson.words, run.data.labels),
        evaluations,
        made_from,
    )
