"""One student for several tasks: a head per task, on shared vectors and a shared network.

The student is saved as a whole, for export, and once per task in the task's folder, with that head alone: there it is
a student like any other, which is evaluated and compared like one.
"""

from __future__ import annotations

import copy
import dataclasses
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from distill.commands.data_checks import student_checks, warn_of
from distill.commands.distillation import choose_linear_weight, choose_objective, distillation, target_answers
from distill.commands.experiment import ALONE, DISTILLED
from distill.commands.label_sets import calibrate, choose_thresholds, dev_score, start_at_shares
from distill.commands.model_cards import joint_card, student_card
from distill.commands.saved_models import remind_of_single_class, save_model
from distill.commands.student_inputs import word_input
from distill.commands.student_spec import StudentSpec
from distill.commands.task_runs import JointRun, TaskRun
from distill.commands.teachers import check_coverage, model_teacher, teacher_word_vectors, teachers_of
from distill.commands.train_student import PEER_SEED_OFFSET, check_student, schedule_of, with_general_share
from distill.config import STUDENTS, ObjectiveSettings
from distill.data import Example
from distill.data.examples import MEAN_SCORE
from distill.errors import UserError
from distill.evaluation.metrics import calibration_temperature
from distill.export.model_card import Card
from distill.models.build import parameter_groups
from distill.models.checkpoint import save_student
from distill.models.inference import predict_logits
from distill.models.mutual_learning import MutualStudents
from distill.models.tokenizer import WordTokenizer
from distill.progress import model_reminders, reminders_of_one_model
from distill.runtime.tasks import Task
from distill.text.word_vectors import scale_to_std
from distill.training.heads import Head, JointObjective, part_of, sampling_weights
from distill.training.trainer import Evaluation, Split, TrainingJob, fit

OF_TASK = ("data", "objective", "teacher", "linear weight", "target metric", "levels")  # in a task's record
NO_HINTS = "a hint imitates the vectors of one teacher, and here every task has its own"


@dataclass(frozen=True)
class JointSpec:
    """Everything but the seed that determines a student of several tasks.

    Args:
        common: the network, its training and its texts.
        tasks: objective, teachers and linear weight of every task.
        weights: of the tasks' losses; None: learned.
    """

    common: StudentSpec
    tasks: dict[str, StudentSpec]
    weights: list[float] | None

    def provenance(self, joint: JointRun) -> dict[str, Any]:
        """The record that is saved with the student."""
        records = {name: spec.provenance(joint.tasks[name]) for name, spec in self.tasks.items()}
        of_tasks = {name: {key: record[key] for key in OF_TASK} for name, record in records.items()}
        common = self.common.provenance(joint)
        return {**common, "texts of all tasks": common["data"], "tasks": of_tasks, "task weights": self.weights}


def train_joint_students(joint: JointRun, alone: bool = False) -> list[Path]:
    """Train one student of all tasks per seed; without teachers if the objective needs none, or if ``alone``.

    Returns:
        The folders of the students, and of their heads in the tasks' folders; those that are up to date are kept.
    """
    spec = joint_spec_of(joint, alone)
    kind = ALONE if spec.common.objective.is_alone else DISTILLED
    runs = (joint, *joint.tasks.values())
    folders = [[run.folder.model(kind, index) for run in runs] for index in range(joint.settings.run.seeds)]
    return train_joint_seeds(joint, spec, folders)


def train_joint_seeds(joint: JointRun, spec: JointSpec, folders: Sequence[Sequence[Path]]) -> list[Path]:
    """Train one student with each of the seeds SEED, SEED+1, …; students that are up to date are kept.

    Args:
        joint: the run of all tasks.
        spec: of the students.
        folders: for each seed that of the whole student, followed by those of its heads in the tasks' order.

    Returns:
        All folders.
    """
    model_reminders.clear()
    provenance = spec.provenance(joint)
    trainer: _JointTrainer | None = None
    for seed, (whole, *heads) in enumerate(folders, joint.settings.run.seed):
        record = {**provenance, "seed": seed}
        records = {whole: record}
        for name, folder in zip(joint.tasks, heads, strict=True):
            records[folder] = {**record, **record["tasks"][name]}
        stale = [folder for folder, expected in records.items() if not joint.is_current(folder, expected)]
        if stale:
            trainer = trainer or _JointTrainer(joint, spec)
            trainer.train_student(seed, records)
    return [folder for of_seed in folders for folder in of_seed]


def joint_spec_of(joint: JointRun, alone: bool = False) -> JointSpec:
    """The student that the settings describe, or the same student without teachers."""
    settings = joint.settings.alone() if alone else joint.settings
    check_student_settings(joint)
    needs_teacher, is_alone = settings.objective.needs_teacher, settings.objective.is_alone
    tasks = {name: _spec_of_task(run, settings.objective) for name, run in joint.tasks.items()}
    common = StudentSpec(
        joint.student_settings(has_teacher=needs_teacher),
        settings.objective,
        unlabelled_and_augmented=() if is_alone else joint.unlabelled_and_augmented,
        general=joint.general if needs_teacher else (),
    )
    return JointSpec(common, tasks, settings.objective.weights_of_tasks(len(tasks)))


def check_student_settings(joint: JointRun) -> None:
    """Refuse settings of the student that are for one task or with which none can be trained, before anything is.

    Raises:
        UserError: --student, --sampling or --objective is for one task, --task_weights does not fit the tasks, or as
            :func:`check_student`.
    """
    settings = joint.settings
    check_network(settings.student.architecture, "--student", "--student bilstm")
    check_sampling(joint)
    if settings.objective.hints:
        raise UserError(NO_HINTS, f"--objective {settings.objective.objective}", "leave the hint out")
    settings.objective.weights_of_tasks(len(joint.tasks))
    check_student(joint)


def check_network(architecture: str, flag: str, hint: str) -> None:
    """Refuse a network that is for one task.

    Raises:
        UserError: it reads a graph of all texts.
    """
    if STUDENTS[architecture].transductive:
        what = "this student reads one graph, which cannot hold several tasks"
        raise UserError(what, f"{flag} {architecture}", hint)


def check_sampling(joint: JointRun) -> None:
    """Refuse the sampling that is for one task.

    Raises:
        UserError: --sampling is not uniform.
    """
    sampling = joint.settings.student.sampling
    if sampling != "uniform":
        what = "texts are drawn by task, so that a small one is not drowned, and not by class"
        raise UserError(what, f"--sampling {sampling}", "leave it out")


def _spec_of_task(run: TaskRun, objective: ObjectiveSettings) -> StudentSpec:
    """Objective and teachers of a task; its texts are those of all tasks."""
    settings = run.student_settings(has_teacher=objective.needs_teacher)
    if not objective.needs_teacher:
        return StudentSpec(settings, objective)
    teachers = teachers_of(run)
    check_coverage(run, teachers)
    chosen = choose_objective(run, teachers, may_hint=False)
    return StudentSpec(settings, chosen, teachers, linear_weight=choose_linear_weight(run, teachers))


class _JointTrainer:
    """Trains the students of one specification, which share the encoded texts, the targets and the word vectors."""

    def __init__(self, joint: JointRun, spec: JointSpec) -> None:
        self.joint, self.spec = joint, spec
        self.runs = list(joint.tasks.values())
        self.texts = spec.common.texts(joint)
        warn_of(student_checks(joint, spec.common.student.max_length))
        self.tokenizer: WordTokenizer
        self.build, self.encode, self.tokenizer = word_input(joint, spec.common, self.texts, self._word_vectors)
        self.heads = joint.heads
        train, dev = joint.labels_of(self.texts), joint.labels_of(joint.data.dev)
        logits, answered = self._targets()
        self.train = Split(
            self.encode(self.texts),
            train,
            logits,
            sampling_weights=self._sampling_weights(train),
            answered=answered,
            heads=self.heads,
        )
        self.dev = Split(self.encode(joint.data.dev), dev, heads=self.heads)

    def _targets(self) -> tuple[Tensor | None, Tensor | None]:
        """The logits to imitate (texts, classes of all tasks), and which texts have some (texts, tasks)."""
        if not self.spec.common.objective.needs_teacher:
            return None, None
        answers = [
            target_answers(run, spec.teachers, self.texts, spec.linear_weight)
            for run, spec in zip(self.runs, self.spec.tasks.values(), strict=True)
        ]
        answered = torch.stack([one.answered for one in answers], 1)
        return torch.cat([one.logits for one in answers], 1), None if answered.all() else answered

    def _word_vectors(self, words: Sequence[str]) -> NDArray[np.float32]:
        """The vectors that the tasks' teachers give to words, side by side, (words, sum of the widths)."""
        flag = f"--vectors {self.spec.common.student.vectors}"
        vectors = [
            teacher_word_vectors(run, model_teacher(spec.teachers, flag), words)
            for run, spec in zip(self.runs, self.spec.tasks.values(), strict=True)
        ]
        return np.concatenate([scale_to_std(one) for one in vectors], axis=1)

    def _sampling_weights(self, labels: Tensor) -> Tensor | None:
        """How often each text is drawn, (texts,); None: once per epoch. General texts get a fixed share."""
        general = len(self.spec.common.general)
        share = self.joint.transfer_settings.general_share if general else 0.0
        own = len(self.texts) - general
        return with_general_share(sampling_weights(labels[:own], self.heads), own, general, share)

    def train_student(self, seed: int, folders: dict[Path, dict[str, Any]]) -> None:
        """Train one student, calibrate its heads on dev, and write ``folders`` with their records, the whole first."""
        whole, *of_tasks = folders
        name = str(whole.relative_to(self.joint.folder.root))
        model = self._new_student(seed)
        if self.spec.common.objective.weights.get("mutual"):
            model = MutualStudents(model, self._new_student(seed + PEER_SEED_OFFSET))
        objective, settings = self._objective(model.classifier.in_features), self.spec.common.student
        groups = parameter_groups(model, settings)
        learned = [parameter for parameter in objective.parameters() if parameter.requires_grad]
        groups += [{"params": learned, "lr": settings.learning_rate}] if learned else []
        schedule = schedule_of(self.joint, self.spec.common, len(self.texts))
        callback = self.joint.evaluation_callback(whole)
        evaluations = fit(model, groups, TrainingJob(self.train, self.dev, objective, schedule, seed, name, callback))
        student = model.for_inference()
        tasks, rows = [], []
        for index, (run, head, folder) in enumerate(zip(self.runs, self.heads, of_tasks, strict=True)):
            of_task = [evaluation.of_task(index) for evaluation in evaluations]
            card = self._card_of_head(index)
            with reminders_of_one_model():
                trained = self._calibrated(student, run, head)
                self._save(f"{head.name}/{name}", folder, trained, of_task, card=card, record=folders[folder])
            tasks.append(Task(head.name, trained.labels, trained.thresholds, head.logits.start))
            rows.append(trained)
        _join_heads(student.classifier, rows)
        score = float(np.mean([trained.score for trained in rows]))
        self._save(
            name,
            whole,
            _Trained(student, self.joint.data.labels, score, tasks=tuple(tasks)),
            evaluations,
            card=self._card_of_whole(),
            record=folders[whole],
        )

    def _new_student(self, seed: int) -> Any:
        model: Any = self.build(seed, self.train.inputs)
        for head in self.heads:
            start_at_shares(model.classifier, head.labels_of(self.train.labels), head.logits)
        return model

    def _objective(self, student_width: int) -> JointObjective:
        objectives = [
            distillation(run, spec.objective.weights, spec.objective.temperature, student_width)
            for run, spec in zip(self.runs, self.spec.tasks.values(), strict=True)
        ]
        return JointObjective(self.heads, objectives, self.spec.weights)

    def _calibrated(self, student: Any, run: TaskRun, head: Head) -> _Trained:
        """The student with the head of one task alone, calibrated on the task's dev texts."""
        part = copy.deepcopy(student)
        part.classifier = part_of(student.classifier, head.logits)
        part.config = dataclasses.replace(part.config, classes=len(run.data.labels))
        labels, temperature = run.labels_of(run.data.dev), 1.0
        logits = predict_logits(part, self.encode(run.data.dev))
        if run.data.is_multi_label:
            logits = calibrate(part, logits, labels)
        else:
            temperature = calibration_temperature(logits.numpy(), labels.numpy())
        thresholds = choose_thresholds(run, f"{head.name}/{DISTILLED}", logits)
        remind_of_single_class(run, head.name, "student", logits, thresholds)
        score = dev_score(run, logits, thresholds)
        return _Trained(part, run.data.labels, score, run.data.measured, temperature, thresholds)

    def _answered(self, task: int | None = None) -> Iterator[Example]:
        """The texts, general ones excluded, that the teachers of a task have labelled; None: of any task."""
        texts, answered = self.texts[: len(self.texts) - len(self.spec.common.general)], self.train.answered
        if answered is None:
            return iter(texts)
        return itertools.compress(texts, answered.any(1) if task is None else answered[:, task])

    def _card_of_head(self, task: int) -> Card:
        """The card of a head: texts without labels are those that its teachers have labelled."""
        run, spec, common = self.runs[task], self.spec.tasks[self.heads[task].name], self.spec.common
        own = {example.id for example in run.data.train}
        others = tuple(example for example in self._answered(task) if spec.teachers and example.id not in own)
        return student_card(run, dataclasses.replace(spec, unlabelled_and_augmented=others, general=common.general))

    def _card_of_whole(self) -> Card:
        """The card of the whole student."""
        common = self.spec.common
        unlabelled = {example.id for example in common.unlabelled_and_augmented}
        labelled = tuple(example for example in self._answered() if example.id in unlabelled)
        common = dataclasses.replace(common, unlabelled_and_augmented=labelled)
        return joint_card(self.joint, common, self.spec.tasks)

    def _save(
        self,
        name: str,
        folder: Path,
        trained: _Trained,
        evaluations: Sequence[Evaluation],
        *,
        card: Card,
        record: dict[str, Any],
    ) -> None:
        save_model(
            f"{name}, seed {record['seed']}",
            folder,
            lambda temporary: save_student(
                temporary,
                trained.model,
                self.tokenizer,
                trained.labels,
                trained.temperature,
                thresholds=trained.thresholds,
                tasks=trained.tasks,
            ),
            evaluations,
            record,
            dev_accuracy=trained.score,
            card=dataclasses.replace(
                card,
                labels=trained.labels,
                measured=trained.measured or MEAN_SCORE,
                tasks=tuple(task.card for task in trained.tasks),
            ),
        )


@dataclass(frozen=True)
class _Trained:
    """A student as it is saved, with one head or with all, and its score on dev.

    ``measured`` says what the score is; empty: the mean over the tasks.
    """

    model: Any
    labels: tuple[str, ...]
    score: float
    measured: str = ""
    temperature: float = 1.0
    thresholds: tuple[float, ...] = ()
    tasks: tuple[Task, ...] = ()


def _join_heads(classifier: nn.Linear, heads: Sequence[_Trained]) -> None:
    """Replace the weights of a classifier by those of the calibrated heads, divided by their temperatures."""
    states = [(one.model.classifier.state_dict(), one.temperature) for one in heads]
    classifier.load_state_dict(
        {name: torch.cat([state[name] / temperature for state, temperature in states]) for name in states[0][0]}
    )
