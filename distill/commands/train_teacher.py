"""``--mode train_teacher``: fine-tune the pretrained encoder on the labels."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from distill.commands.data_checks import teacher_checks, warn_of
from distill.commands.distillation import distillation
from distill.commands.experiment import TEACHER, Run, fingerprint_examples
from distill.commands.label_sets import choose_thresholds, dev_score, right_texts, start_at_shares
from distill.commands.model_cards import teacher_card
from distill.commands.saved_models import remind_of_single_class, save_model
from distill.commands.teachers import saved_teachers
from distill.config import FROM_DATA, TeacherSettings
from distill.data import Dataset, Example, stratified_split
from distill.errors import UserError
from distill.evaluation.metrics import is_below
from distill.models import teacher
from distill.models.inference import predict_logits
from distill.progress import log, model_reminders, reminders_of_one_model
from distill.training import defaults, distributed, masked_language
from distill.training.losses import Objective, labels_only
from distill.training.regularisation import Regularisation
from distill.training.trainer import Evaluation, Schedule, Split, TrainingJob, fit

EVALUATIONS_PER_EPOCH = 2
TOKENS_AT_ONCE = 4_096  # 32 texts of 256 word pieces at once would need 7 GB, 15 GB with R-Drop
# The record holds fingerprints instead of these settings, or, of a teacher of several tasks, their data.
RECORDED_SEPARATELY = ("model", "shared", "pretrain", "taught_by")
LABELS_AND_LOGITS = {"labels": 1.0, "soft": 1.0}  # weights of the terms when other teachers teach this one
EPOCH_FACTOR = 2  # factor for the epochs of a teacher that a linear model beats


def train_teacher(run: Run) -> list[Path]:
    """Fine-tune one teacher per seed; the weights that are best on dev are saved."""
    model_reminders.clear()
    seeds = range(run.settings.run.seed, run.settings.run.seed + run.settings.run.teachers)
    folders = [run.folder.model(TEACHER, index) for index in range(len(seeds))]
    trainers = [_TeacherTrainer(run, seed, folder) for seed, folder in zip(seeds, folders, strict=True)]
    written = []
    for trainer in trainers:
        with reminders_of_one_model():
            written += _train_one(run, trainer)
    return written


def train_own_teachers(run: Run) -> list[Path]:
    """Fine-tune the run's own teachers, unless ``--teacher`` names others; for modes that go on with the teachers.

    The texts without labels are read first: an error in them should show before hours of training.
    """
    _ = run.unlabelled_and_augmented
    return [] if run.named_teachers else train_teacher(run)


def _train_one(run: Run, trainer: _TeacherTrainer) -> list[Path]:
    provenance = trainer.provenance()
    if not run.is_current(trainer.folder, provenance):
        trained = trainer.train(run.teacher_settings)
        if run.settings.teacher.epochs == FROM_DATA and _is_worse_than_linear(run, trained):
            trained = max(trained, trainer.train_longer(trained), key=lambda candidate: candidate.score)
        remind_of_single_class(run, trainer.folder.name, "teacher", trained.logits, trained.thresholds)
        save_model(
            trainer.folder.name,
            trainer.folder,
            lambda temporary: teacher.save_teacher(
                temporary, trained.model, trained.tokenizer, run.data.labels, trained.thresholds
            ),
            trained.evaluations,
            provenance,
            dev_accuracy=trained.score,
            card=teacher_card(run, trained.texts, len(trainer.more_texts)),
        )
    return [*run.pretrained.written, trainer.folder]


def recorded(settings: TeacherSettings) -> dict[str, Any]:
    """The settings as the record of a teacher has them."""
    return {key: value for key, value in dataclasses.asdict(settings).items() if key not in RECORDED_SEPARATELY}


def new_teacher(
    run: Run, settings: TeacherSettings, seed: int
) -> tuple[teacher.TeacherNetwork, teacher.WordpieceTokenizer]:
    """A teacher of the run's labels with pretrained weights, after --teacher_pretrain; warns of unknown pieces."""
    torch.manual_seed(seed)
    model, tokenizer = teacher.build(run.pretrained.source, settings, len(run.data.labels))
    warn_of(teacher_checks(tokenizer, run.data))
    if settings.pretrain:
        texts = [example.text for example in (*run.data.train, *run.unlabelled)]
        masked_language.pretrain(model, tokenizer, texts, settings, seed)
    return model, tokenizer


def of_labels(run: Run, settings: TeacherSettings) -> Objective:
    """The loss of a teacher that learns from the run's labels alone."""
    return labels_only(settings.label_smoothing, run.ancestors, run.settings.data.level_weight)


def teacher_schedule(settings: TeacherSettings, data: Dataset) -> Schedule:
    """How long a teacher is trained, and which weights are kept."""
    is_mean_over_texts = not (settings.shared or settings.taught_by)  # elsewhere some texts have no labels
    return Schedule(
        settings.epochs,
        settings.batch_size,
        EVALUATIONS_PER_EPOCH,
        ema_decay=settings.averaging,
        keep_last=defaults.keeps_last_weights(data),
        tokens_at_once=TOKENS_AT_ONCE if is_mean_over_texts else 0,
    )


def _is_worse_than_linear(run: Run, trained: _Trained) -> bool:
    """Whether the linear model is better on dev; the first of several processes decides for all."""
    below = torch.tensor([is_below(trained.correct, run.linear.dev_correct)])
    return bool(distributed.broadcast_from_main(below.long()).item())


@dataclass(frozen=True)
class _Trained:
    """A trained teacher, the number of texts it was trained on, and what it makes of dev.

    Shapes: ``logits`` (texts, classes) and ``correct`` (texts,) of the dev texts. ``score`` is accuracy or, in
    multi-label data, micro-F1 with the ``thresholds``.
    """

    model: teacher.TeacherNetwork
    tokenizer: teacher.WordpieceTokenizer
    evaluations: Sequence[Evaluation]
    texts: int
    logits: Tensor
    correct: NDArray[np.bool_]
    thresholds: tuple[float, ...]
    score: float


class _TeacherTrainer:
    """The training of one teacher: its seed, its folder, and the teachers that teach it."""

    def __init__(self, run: Run, seed: int, folder: Path) -> None:
        self.run, self.seed, self.folder = run, seed, folder
        teachers = [Path(name) for name in run.settings.teacher.taught_by]
        if folder.resolve() in {path.resolve() for path in teachers}:
            what = "a teacher cannot teach itself: the run would overwrite it"
            raise UserError(what, folder, "choose another folder with --run")
        self.taught_by = saved_teachers(run, teachers, "--teacher_taught_by")

    @property
    def more_texts(self) -> tuple[Example, ...]:
        """The texts without labels, if other teachers label them for this one."""
        return self.run.unlabelled_and_augmented if self.taught_by else ()

    def provenance(self) -> dict[str, Any]:
        """The record of what the teacher is made from."""
        settings = self.run.teacher_settings
        uses_unlabelled = settings.pretrain or settings.taught_by
        return {
            "data": self.run.data.fingerprint,
            "pretrained weights": self.run.pretrained.fingerprint,
            "settings": recorded(settings),
            "epochs of masked word pieces": settings.pretrain or None,
            "teacher": [teacher.fingerprints() for teacher in self.taught_by] or None,
            "extra texts": fingerprint_examples(self.run.unlabelled_and_augmented) if uses_unlabelled else None,
            "target metric": self.run.target_metric,
            "levels": self.run.levels,
            "seed": self.seed,
            "tasks": None,  # of a teacher that several tasks share
        }

    def train(self, settings: TeacherSettings) -> _Trained:
        """Train from the pretrained weights."""
        run = self.run
        model, tokenizer = new_teacher(run, settings, self.seed)
        splits = self._train_texts(), run.data.dev
        encoded = [tokenizer.encode([example.text for example in split]) for split in splits]
        with teacher.used_rows(model, *encoded) as inputs:
            train, dev = (Split(ids, run.labels_of(split)) for ids, split in zip(inputs, splits, strict=True))
            start_at_shares(model.head, train.labels)
            evaluations = self._fit(model, settings, train, dev, splits[0])
            logits = predict_logits(model, dev.inputs, f"{self.folder.name}, dev")
        thresholds = choose_thresholds(run, self.folder.name, logits)
        correct, score = right_texts(logits, dev.labels, thresholds).numpy(), dev_score(run, logits, thresholds)
        return _Trained(model, tokenizer, evaluations, len(splits[0]), logits, correct, thresholds, score)

    def _fit(
        self,
        model: teacher.TeacherNetwork,
        settings: TeacherSettings,
        train: Split,
        dev: Split,
        texts: Sequence[Example],
    ) -> list[Evaluation]:
        objective: Objective = of_labels(self.run, settings)
        if self.taught_by:
            train = dataclasses.replace(train, teacher_logits=self.run.answering.mean(self.taught_by, texts).logits)
            objective = distillation(self.run, LABELS_AND_LOGITS, 1.0, model.head.in_features)
        schedule = teacher_schedule(settings, self.run.data)
        regularisation = Regularisation(settings.r_drop, settings.adversarial)
        callback = self.run.evaluation_callback(self.folder)
        job = TrainingJob(train, dev, objective, schedule, self.seed, self.folder.name, callback, regularisation)
        return fit(model, model.parameter_groups(settings), job)

    def train_longer(self, trained: _Trained) -> _Trained:
        """Train again from the pretrained weights, for more epochs."""
        settings = self.run.teacher_settings
        settings = dataclasses.replace(settings, epochs=EPOCH_FACTOR * settings.epochs)
        log.info(
            "%s: dev %s %.4f is below LinearSVC's %.4f; trained again, up to %d epochs",
            self.folder.name,
            "subset accuracy" if trained.thresholds else "accuracy",
            trained.correct.mean(),
            self.run.linear.dev_correct.mean(),
            settings.epochs,
        )
        return self.train(settings)

    def _train_texts(self) -> list[Example]:
        """The train texts, at most --teacher_texts of them, and those that other teachers label for this one."""
        train, limit = list(self.run.data.train), self.run.settings.teacher.most
        if 0 < limit < len(train):
            _, chosen = stratified_split(train, self.run.settings.run.seed, limit / len(train))
            log.info("teacher: trained on %d of the %d train texts (--teacher_texts)", len(chosen), len(train))
            train = chosen
        return [*train, *self.more_texts]
