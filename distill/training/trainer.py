"""Training: one ``fit`` for teacher and student, selected on dev."""

from __future__ import annotations

import copy
import json
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from distill.models.inference import best_device, predict
from distill.progress import bar, log
from distill.storage.atomic import write_file
from distill.text.batching import Batch, PackedIds, drawn, shuffled
from distill.training import distributed
from distill.training.losses import Loss, Objective, Targets
from distill.training.optimizer import Descent, running_mean
from distill.training.regularisation import NOTHING, Regularisation, perturbed, twice

TIMED = 20  # steps, after which it is said how long all will take


@dataclass(frozen=True)
class Split:
    """Texts with what they teach.

    Shapes: ``labels`` (texts,), ``UNLABELLED`` where there is none; ``teacher_logits`` (texts, classes) and
    ``teacher_layers`` (texts, layers, width), where a teacher teaches. With ``chances`` (texts,) an epoch draws as many
    texts as there are, each in proportion to its chance; without, every text comes once.
    """

    inputs: PackedIds
    labels: Tensor
    teacher_logits: Tensor | None = None
    teacher_layers: Tensor | None = None
    chances: Tensor | None = None

    def targets(self, rows: Tensor, device: torch.device) -> Targets:
        """What the texts at ``rows`` teach."""
        taught = (self.teacher_logits, self.teacher_layers)
        soft = (None if of_texts is None else of_texts[rows].to(device) for of_texts in taught)
        return Targets(self.labels[rows].to(device), *soft)


@dataclass(frozen=True)
class Schedule:
    """How long and in what steps a model is trained; dev is asked ``evaluations`` times an epoch.

    With ``keep_last`` the weights of the last step are kept and nothing is chosen: that of a few dev texts is chance.
    With ``every`` above 1 dev is asked after every so many epochs instead, and after the last one: an epoch of few
    texts takes less time than dev does.
    Training stops after ``patience`` evaluations without a better one; by default a half of all, and four at least.
    ``averaging`` is the EMA decay of the weights' running mean, which is evaluated and kept (Polyak and
    Juditsky 1992); 0 keeps the weights themselves. In the first steps it is smaller, so that the start is forgotten.
    """

    epochs: int
    batch_size: int
    evaluations: int = 1
    every: int = 1
    keep_last: bool = False
    patience: int = 0
    averaging: float = 0.0

    def __post_init__(self) -> None:
        if not self.patience:
            object.__setattr__(self, "patience", max(4, self.epochs * self.evaluations // self.every // 2))


@dataclass(frozen=True)
class Evaluation:
    """One line of log.jsonl: losses are means since the evaluation before."""

    step: int
    epoch: float
    dev_accuracy: float
    dev_loss: float
    train_loss: dict[str, float]
    learning_rate: float
    seconds: float


def ignore(_: Evaluation) -> None:
    """Nothing is done with an evaluation."""


@dataclass(frozen=True)
class TrainingJob:
    """What a model is to learn and how; ``what`` names it on the progress bar, ``watch`` gets every evaluation.

    ``added`` is for teachers: adversarial training asks the model for its ``embedding_table()``.
    """

    train: Split
    dev: Split
    objective: Objective
    schedule: Schedule
    seed: int
    what: str
    watch: Callable[[Evaluation], None] = ignore
    added: Regularisation = NOTHING


def fit(model: nn.Module, groups: list[dict[str, Any]], job: TrainingJob) -> list[Evaluation]:
    """Train ``model`` in place and leave it with the weights that were best on dev, or with the last.

    AdamW; the learning rates in ``groups`` are peaks of a linear warm-up and decay. Returns the evaluations.

    A group of processes trains one model: each computes its share of every batch, and gradients, weights and
    evaluations are the same in all. That is what one process does, but for dropout and rounding, where the objective is
    a mean over the batch's texts, as :func:`distill.training.losses.labels_only` is.
    """
    fitting = _Fitting(model, groups, job)
    with bar(job.what, fitting.steps, "steps") as shown:
        for step, rows in enumerate(fitting.batches(), 1):
            fitting.step(rows)
            shown.update()
            if step == TIMED:
                fitting.say_how_long(step)
            if fitting.is_time_to_evaluate(step):
                fitting.evaluate(step)
                shown.set_postfix_str(f"dev {fitting.evaluations[-1].dev_accuracy:.4f}")
                if fitting.is_out_of_patience():
                    log.info("%s: stopped, dev is no better for %d evaluations", job.what, job.schedule.patience)
                    break
    model.load_state_dict(fitting.best_weights)
    return fitting.evaluations


class _Fitting:
    """The state of one ``fit``."""

    def __init__(self, model: nn.Module, groups: list[dict[str, Any]], job: TrainingJob) -> None:
        torch.manual_seed(job.seed + distributed.place())  # of dropout: each process drops others
        self.generator = torch.Generator().manual_seed(job.seed)
        self.device = best_device()
        self.model: Any = model.to(self.device).train()
        self.averaged = running_mean(model, job.schedule.averaging) if job.schedule.averaging else None
        self.objective = job.objective.to(self.device) if isinstance(job.objective, nn.Module) else job.objective
        self.job = job
        self.epoch_steps = math.ceil(len(job.train.inputs) / job.schedule.batch_size)
        self.steps = job.schedule.epochs * self.epoch_steps
        self.descent = Descent(groups, self.steps)
        self.evaluations: list[Evaluation] = []
        self.sums: dict[str, Tensor] = {}
        self.summed = 0
        self.best, self.best_at = (-1.0, 0.0), 0
        self.best_weights: dict[str, Any] = {}
        self.started = time.perf_counter()

    def batches(self) -> Iterator[Tensor]:
        for _ in range(self.job.schedule.epochs):
            rows = drawn(self.job.train.chances, self.generator)
            yield from shuffled(self.job.train.inputs.lengths, self.job.schedule.batch_size, self.generator, rows)

    def step(self, rows: Tensor) -> None:
        own, count = _share(rows)
        weight = count / len(rows)  # the sum over the processes is then the mean over the batch
        batch = self.job.train.inputs.batch(own).to(self.device)
        loss = self.loss(batch, targets := self.job.train.targets(own, self.device))
        self.descent.zero_grad()
        _backward(weight * loss.total)
        if self.job.added.adversarial:
            with perturbed(self.model.embedding_table(), self.job.added.adversarial):
                _backward(weight * self.loss(batch, targets).total)
        distributed.total_gradients(self.descent.parameters)
        self.descent.step()
        if self.averaged is not None:
            self.averaged.update_parameters(self.model)
        for name, part in loss.parts.items():
            self.sums[name] = self.sums.get(name, torch.zeros((), device=self.device)) + weight * part.detach()
        self.summed += 1

    def loss(self, batch: Batch, targets: Targets) -> Loss:
        if weight := self.job.added.r_drop:
            return twice(lambda: self.model.answer(batch), lambda answer: self.objective(answer, targets), weight)
        return self.objective(self.model.answer(batch), targets)

    def say_how_long(self, step: int) -> None:
        """What all steps will take at this rate, where that is minutes; dev is not counted."""
        if (minutes := (time.perf_counter() - self.started) / step * self.steps / 60) > 1:
            log.info("%s: %d steps at most, about %.0f minutes on this machine", self.job.what, self.steps, minutes)

    def is_time_to_evaluate(self, step: int) -> bool:
        """At the last step of every ``evaluations``-th part of an epoch, or of every ``every``-th epoch."""
        parts, every = self.job.schedule.evaluations, self.job.schedule.every
        if every > 1:
            return step % (every * self.epoch_steps) == 0 or step == self.steps
        in_epoch = (step - 1) % self.epoch_steps + 1
        return in_epoch * parts // self.epoch_steps > (in_epoch - 1) * parts // self.epoch_steps

    def evaluate(self, step: int) -> None:
        kept = self.model if self.averaged is None else self.averaged.module
        accuracy, loss = _accuracy_and_loss(kept, self.job.dev)
        self.model.train()
        evaluation = Evaluation(
            step=step,
            epoch=round(step / self.epoch_steps, 3),
            dev_accuracy=accuracy,
            dev_loss=loss,
            train_loss={name: (distributed.total(own) / self.summed).item() for name, own in self.sums.items()},
            learning_rate=self.descent.learning_rate,
            seconds=round(time.perf_counter() - self.started, 2),
        )
        self.evaluations.append(evaluation)
        self.job.watch(evaluation)
        self.sums, self.summed = {}, 0
        rank = (accuracy, -loss)  # of equally accurate weights the surer ones
        if rank > self.best or self.job.schedule.keep_last:
            self.best, self.best_at = rank, len(self.evaluations)
            if step == self.steps or not self.job.schedule.keep_last:
                self.best_weights = copy.deepcopy(kept.state_dict())

    def is_out_of_patience(self) -> bool:
        return len(self.evaluations) - self.best_at >= self.job.schedule.patience


def _backward(loss: Tensor) -> None:
    loss.backward()  # type: ignore[no-untyped-call]


def _share(rows: Tensor) -> tuple[Tensor, int]:
    """This process's part of some rows, and of how many it counts; where none is left over the first row, for nothing.

    So that every process has gradients of the same parameters.
    """
    own = distributed.share(rows)
    return (own, len(own)) if len(own) else (rows[:1], 0)


def _accuracy_and_loss(model: nn.Module, dev: Split) -> list[float]:
    """Accuracy and mean cross-entropy on dev, of which each process asks its share; the same bits in each."""
    rows, count = _share(torch.arange(len(dev.inputs)))
    own = predict(model, model, dev.inputs, rows=rows).float()
    logits = own.new_zeros(len(dev.inputs), own.shape[1])
    logits[rows[:count]] = own[:count]
    distributed.total(logits)
    accuracy = (logits.argmax(1) == dev.labels).double().mean()
    figures = torch.stack([accuracy, nn.functional.cross_entropy(logits, dev.labels).double()])
    return distributed.from_first(figures).tolist()  # processors may round the loss otherwise, and all decide by it


def write_log(path: Path, evaluations: Sequence[Evaluation]) -> None:
    """``log.jsonl``: one evaluation a line."""
    write_file(path, "".join(json.dumps(asdict(evaluation)) + "\n" for evaluation in evaluations))
