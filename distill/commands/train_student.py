"""``--mode train_student``: train one student per seed from a specification."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from distill.commands.data_checks import student_checks, warn_of
from distill.commands.distillation import choose_linear_weight, choose_objective, distillation, target_answers
from distill.commands.experiment import ALONE, DISTILLED, Run
from distill.commands.label_sets import (
    calibrate,
    choose_thresholds,
    rarest_label_weights,
    require_single_label,
    score,
    start_at_shares,
)
from distill.commands.model_cards import student_card
from distill.commands.saved_models import remind_of_single_class, save_model
from distill.commands.student_inputs import Build, graph_input, word_input
from distill.commands.student_spec import StudentSpec
from distill.commands.teachers import (
    check_coverage,
    hint_targets,
    model_teacher,
    teachers_of,
)
from distill.config import STUDENTS
from distill.data import UNLABELLED, Example
from distill.errors import UserError
from distill.evaluation.metrics import calibration_temperature
from distill.models.build import parameter_groups, student_class
from distill.models.checkpoint import save_student
from distill.models.inference import predict_logits
from distill.models.mutual_learning import MutualStudents
from distill.models.student import Student
from distill.models.textgcn import DocumentIndex
from distill.models.tokenizer import WordTokenizer
from distill.progress import log, model_reminders, reminders_of_one_model
from distill.teachers import Teacher
from distill.teachers.answering import answered_texts
from distill.training import defaults
from distill.training.losses import Distillation
from distill.training.trainer import Schedule, Split, TrainingJob, fit

MAX_EVALUATIONS = 12  # approximately: when texts are few, an epoch takes less time than an evaluation
PEER_SEED_OFFSET = 1_000_000  # added to the seed of the second of two mutual students


def check_student(run: Run, networks: Sequence[str] = ()) -> None:
    """Refuse settings with which a student cannot be trained, before anything is computed.

    Args:
        run: its data are read only if a network is not for multi-label data.
        networks: of the students; none: that of ``--student``.

    Raises:
        UserError: a network is for one label per text or has no such cell, no teacher has the hidden vectors that a
            hint needs, or there is no such file of word vectors.
    """
    settings, objective = run.settings.student, run.settings.objective
    names = networks or [settings.architecture]
    for name in names:
        network = student_class(name)
        if issubclass(network, Student):
            network.config_options(settings)
        elif run.has_labels:
            require_single_label(run, f"--student {name}", "--student bilstm")
    if objective.hints and not run.has_model_teacher:
        model_teacher(run.named_teachers, f"--objective {objective.objective}")
    if any(not STUDENTS[name].transductive for name in names):
        run.vectors(settings.vectors)


def train_students(run: Run, alone: bool = False) -> list[Path]:
    """Train one student per seed; without a teacher if the objective needs none, or if ``alone``."""
    spec = spec_of(run, alone)
    kind = ALONE if spec.objective.is_alone else DISTILLED
    folders = [run.folder.model(kind, index) for index in range(run.settings.run.seeds)]
    return train_seeds(run, spec, folders)


def spec_of(run: Run, alone: bool = False) -> StudentSpec:
    """The student that the run's settings describe, or the same student without a teacher."""
    settings = run.settings.alone() if alone else run.settings
    if settings.objective.is_alone and not run.data.has_labels:
        what = "the data has no labels, so a student without a teacher has nothing to learn from"
        raise UserError(what, "--a 1 --T 0", "leave these two flags out")
    teachers = teachers_of(run) if settings.objective.needs_teacher else ()
    check_coverage(run, teachers)
    objective = settings.objective if alone else choose_objective(run, teachers)
    return StudentSpec(
        run.student_settings(has_teacher=bool(teachers)),
        objective,
        teachers,
        unlabelled_and_augmented=() if objective.is_alone else _transfer_texts(run, teachers),
        general=answered_texts(teachers, run.general, is_multi_label=run.data.is_multi_label) if teachers else (),
        linear_weight=choose_linear_weight(run, teachers),
    )


def _transfer_texts(run: Run, teachers: Sequence[Teacher]) -> tuple[Example, ...]:
    """The texts without labels that a student reads: with teachers, those that one of them has labelled."""
    texts = run.unlabelled_and_augmented
    answered = answered_texts(teachers, texts, is_multi_label=run.data.is_multi_label) if teachers else texts
    if len(answered) < len(texts):
        log.info(
            "left out: %d of %d texts without labels, for which no teacher has an answer",
            len(texts) - len(answered),
            len(texts),
        )
    return answered


def train_seeds(run: Run, spec: StudentSpec, folders: Sequence[Path]) -> list[Path]:
    """Train one student per folder, with seeds SEED, SEED+1, …; students that are up to date are kept."""
    model_reminders.clear()
    provenance = spec.provenance(run)
    seeds = range(run.settings.run.seed, run.settings.run.seed + len(folders))
    records = [{**provenance, "seed": seed} for seed in seeds]
    stale = [index for index, folder in enumerate(folders) if not run.is_current(folder, records[index])]
    if stale:
        warn_of(student_checks(run, spec.student.max_length))
        trainer = _StudentTrainer(run, spec)
        for index in stale:
            with reminders_of_one_model():
                trainer.train_student(seeds[index], folders[index], records[index])
    return list(folders)


class _StudentTrainer:
    """Trains the students of one specification; they share the encoded texts, the targets and the word vectors."""

    def __init__(self, run: Run, spec: StudentSpec) -> None:
        self.run, self.spec = run, spec
        self.texts = spec.texts(run)
        prepare_input = graph_input if STUDENTS[spec.student.architecture].transductive else word_input
        self.build: Build
        self.tokenizer: WordTokenizer | DocumentIndex
        self.build, encode, self.tokenizer = prepare_input(run, spec, self.texts)
        inputs, labels = encode(self.texts), run.labels_of(self.texts)
        hints = self._hints()  # first: their pass over the texts also caches the logits
        logits, answered = self._targets()
        self.train = Split(inputs, labels, teacher_logits=logits, teacher_layers=hints, answered=answered)
        self.train = dataclasses.replace(self.train, sampling_weights=self._sampling_weights())
        dev = [example for example in run.data.dev if example.label != spec.left_out]
        self.dev = Split(encode(dev), run.labels_of(dev))

    def _hints(self) -> Tensor | None:
        """For hints, a teacher's hidden vectors."""
        objective = self.spec.objective
        if not objective.hints:
            return None
        teacher = model_teacher(self.spec.teachers, f"--objective {objective.objective}")
        return hint_targets(self.run, teacher, self.texts, last_only=not objective.weights.get("hint_layers"))

    def _targets(self) -> tuple[Tensor | None, Tensor | None]:
        """The logits to imitate, and which texts have some."""
        if not self.spec.objective.needs_teacher:
            return None, None
        answers = target_answers(self.run, self.spec.teachers, self.texts, self.spec.linear_weight)
        return answers.logits, answers.mask

    def _sampling_weights(self) -> Tensor | None:
        """How often each text is drawn, shape (texts,); None: once per epoch. General texts get a fixed share."""
        share = self.run.transfer_settings.general_share if self.spec.general else 0.0
        own = len(self.texts) - len(self.spec.general)
        return with_general_share(self._class_weights(own), own, len(self.spec.general), share)

    def _class_weights(self, own: int) -> Tensor | None:
        """Weights (own,) that draw every class equally often (--sampling stratified); None for uniform sampling.

        They are those of the first ``own`` texts, which are followed by the general ones.

        A text without a label counts to its teacher's class. In multi-label data, see :func:`rarest_label_weights`.
        """
        if self.spec.student.sampling == "uniform":
            return None
        labels, logits = self.train.labels[:own], self.train.teacher_logits
        logits = None if logits is None else logits[:own]
        if self.run.data.is_multi_label:
            return rarest_label_weights(labels, logits)
        classes = labels.clone()
        without_label = classes == UNLABELLED
        if logits is not None:
            classes[without_label] = logits[without_label].argmax(1)
        classes[classes == UNLABELLED] = len(self.run.data.labels)  # neither label nor teacher: a class of their own
        return 1 / torch.bincount(classes)[classes].double()

    def train_student(self, seed: int, folder: Path, provenance: dict[str, Any]) -> None:
        """Train one student, calibrate it on dev and write its folder."""
        name = str(folder.relative_to(self.run.folder.root))
        model: Any = self._new_student(seed)
        if self.spec.objective.weights.get("mutual"):
            model = MutualStudents(model, self._new_student(seed + PEER_SEED_OFFSET))
        objective = self._distillation(model.classifier.in_features)
        schedule = schedule_of(self.run, self.spec, len(self.texts))
        groups = parameter_groups(model, self.spec.student)
        projections = [parameter for parameter in objective.parameters() if parameter.requires_grad]
        groups += [{"params": projections, "lr": self.spec.student.learning_rate}] if projections else []
        job = TrainingJob(self.train, self.dev, objective, schedule, seed, name, self.run.evaluation_callback(folder))
        evaluations = fit(model, groups, job)
        student = model.for_inference()
        dev_logits, temperature = predict_logits(student, self.dev.inputs), 1.0
        if self.run.data.is_multi_label:
            dev_logits = calibrate(student, dev_logits, self.dev.labels)
        else:
            temperature = calibration_temperature(dev_logits.numpy(), self.dev.labels.numpy())
        thresholds, labels = choose_thresholds(self.run, name, dev_logits), self.run.data.labels
        if self.spec.left_out is None:
            remind_of_single_class(self.run, name, "student", dev_logits, thresholds)
        save_model(
            f"{name}, seed {seed}",
            folder,
            lambda temporary: save_student(
                temporary, student, self.tokenizer, labels, temperature, thresholds=thresholds
            ),
            evaluations,
            provenance,
            dev_accuracy=score(dev_logits, self.dev.labels, thresholds),
            card=student_card(self.run, self.spec),
        )

    def _new_student(self, seed: int) -> Any:
        model: Any = self.build(seed, self.train.inputs)
        start_at_shares(model.classifier, self.train.labels)
        return model

    def _distillation(self, student_width: int) -> Distillation:
        hints = self.train.teacher_layers
        layers_and_width = (0, 0) if hints is None else (hints.shape[1], hints.shape[2])
        objective = self.spec.objective
        return distillation(self.run, objective.weights, objective.temperature, student_width, layers_and_width)


def schedule_of(run: Run, spec: StudentSpec, texts: int) -> Schedule:
    """How long a student of ``texts`` texts is trained."""
    settings, epochs = spec.student, spec.epochs(texts)
    return Schedule(
        epochs,
        settings.batch_size,
        epochs_per_evaluation=max(1, epochs // MAX_EVALUATIONS),
        ema_decay=settings.averaging,
        keep_last=defaults.keeps_last_weights(run.data),
    )


def with_general_share(weights: Tensor | None, own: int, general: int, share: float) -> Tensor | None:
    """Sampling weights (own + general,) with which a ``share`` of an epoch is drawn from the ``general`` texts.

    ``weights`` (own,) are those of the other texts among each other, None: equal. None: every text once per epoch.
    """
    if not general:
        return weights
    weights = torch.ones(own, dtype=torch.float64) if weights is None else weights
    of_general = torch.full((general,), share / general, dtype=torch.float64)
    return torch.cat([weights / weights.sum() * (1 - share), of_general])
