"""The teacher's stages: fine-tuning, and the logits of the transfer set."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import torch
from torch import Tensor

from distill import teacher
from distill.classifiers import load_teacher
from distill.data import Example, stratified_split
from distill.errors import UserError
from distill.losses import labels_only
from distill.progress import log
from distill.runs import fingerprint_file
from distill.stages.run import COMMAND, Run, keep_model, labels_of
from distill.training import Job, Schedule, Split, best_device, fit
from distill.transfer import teacher_logits

EVALUATIONS = 2  # an epoch


def train_teacher(run: Run) -> list[Path]:
    """Fine-tune the pretrained encoder on the labels, selected on dev."""
    settings, seed, folder = run.settings.teacher, run.settings.run.seed, run.folder.teacher
    made_from = {
        "data": run.data.fingerprint,
        "pretrained weights": run.pretrained.fingerprint,
        "settings": {key: value for key, value in dataclasses.asdict(settings).items() if key != "model"},
        "seed": seed,
    }
    if run.is_current(folder, made_from):
        return [folder]
    torch.manual_seed(seed)
    model, pieces = teacher.build(run.pretrained.source, settings, len(run.data.labels))
    texts = _train_texts(run), run.data.dev
    schedule = Schedule(settings.epochs, settings.batch_size, EVALUATIONS)
    with teacher.used_rows(model, *(pieces.encode([e.text for e in split]) for split in texts)) as inputs:
        train, dev = (Split(ids, labels_of(split)) for ids, split in zip(inputs, texts, strict=True))
        job = Job(train, dev, labels_only(settings.label_smoothing), schedule, seed, "teacher")
        evaluations = fit(model, model.parameter_groups(settings), job)
    keep_model(
        "teacher",
        folder,
        lambda aside: teacher.save_teacher(aside, model, pieces, run.data.labels),
        evaluations,
        made_from,
    )
    return [*run.pretrained.made, folder]


def _train_texts(run: Run) -> list[Example]:
    train, most = list(run.data.train), run.settings.teacher.most
    if not 0 < most < len(train):
        return train
    _, chosen = stratified_split(train, run.settings.run.seed, most / len(train))
    log.info("teacher: trained on %d of the %d train texts (--teacher_texts)", len(chosen), len(train))
    return chosen


def label(run: Run) -> list[Path]:
    """The trained teacher's logits of the train texts, into the cache."""
    logits_of_train(run)
    return [run.folder.teacher_logits]


def logits_of_train(run: Run) -> Tensor:
    """The trained teacher's logits of the train texts, shape (texts, classes), from the cache when it is current."""
    folder = run.folder.teacher
    if not folder.exists():
        hint = f"{COMMAND} train_teacher, or --a 1 --T 0 for the student alone"
        raise UserError("there is no trained teacher", folder, hint)
    run.check_same_data(folder, "train_teacher")
    made_by = {**identity(folder), "precision": "bf16" if teacher.has_fast_bf16(best_device()) else "fp32"}
    return teacher_logits(lambda: load_teacher(folder), made_by, run.data.train, run.folder.teacher_logits)


def identity(folder: Path) -> dict[str, str]:
    """Fingerprints of what decides a teacher's logits."""
    names = ("model.safetensors", teacher.HEAD, teacher.CARD, "tokenizer.json")
    return {name: fingerprint_file(folder / name) for name in names if (folder / name).exists()}
