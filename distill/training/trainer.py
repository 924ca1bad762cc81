"""The training loop: one ``fit`` for teacher and student, which selects the weights on dev."""

from __future__ import annotations

import copy
import dataclasses
import json
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from distill.errors import UserError
from distill.models.inference import best_device, predict
from distill.models.weights import non_finite
from distill.progress import duration, log, progress_bar
from distill.storage.atomic import write_file
from distill.text.batching import Batch, PackedIds, sample_rows, shuffled_batches
from distill.training import distributed
from distill.training.heads import Head, is_labelled
from distill.training.losses import Loss, Objective, Targets, cross_entropy
from distill.training.optimizer import ScheduledOptimizers, weight_ema
from distill.training.regularisation import (
    NO_REGULARISATION,
    Regularisation,
    adversarial_embeddings,
    r_drop_loss,
)

STEPS_BEFORE_ESTIMATE = 20  # the total time is estimated, and logged, after this many steps


@dataclass(frozen=True)
class Split:
    """The encoded texts of train or dev, with their targets.

    Shapes: ``labels`` (texts,) or, in multi-label data, (texts, classes) with 1 for every class of a text,
    ``UNLABELLED`` where they are unknown; ``teacher_logits`` (texts, classes);
    ``teacher_layers`` (texts, layers, width); ``answered`` (texts,), which texts the teachers have labelled, None: all.
    With ``heads`` there are several tasks: ``labels`` are those of all side by side; ``answered`` is (texts, tasks).
    With ``sampling_weights`` (texts,) an epoch draws as many texts as there are, with replacement and in proportion to
    their weights; without, it uses every text once.
    """

    inputs: PackedIds
    labels: Tensor
    teacher_logits: Tensor | None = None
    teacher_layers: Tensor | None = None
    sampling_weights: Tensor | None = None
    answered: Tensor | None = None
    heads: tuple[Head, ...] = ()

    @property
    def is_multi_label(self) -> bool:
        """Whether a text may have any number of labels of a single task."""
        return self.labels.dim() == 2 and not self.heads

    def targets(self, rows: Tensor, device: torch.device) -> Targets:
        """The targets of the texts at ``rows`` (batch,)."""
        optional = (self.teacher_logits, self.teacher_layers, self.answered)
        teacher_outputs = (None if tensor is None else tensor[rows].to(device) for tensor in optional)
        return Targets(self.labels[rows].to(device), *teacher_outputs)


@dataclass(frozen=True)
class Schedule:
    """How long a model is trained, how often it is evaluated on dev, and which weights are kept.

    Attributes:
        epochs: passes over train, at most.
        batch_size: texts per training step.
        evaluations_per_epoch: evaluations on dev per epoch.
        epochs_per_evaluation: above 1, dev is evaluated after every so many epochs and after the last one instead. For
            few texts, where an evaluation takes longer than an epoch.
        keep_last: keep the weights of the last step instead of the best ones, and do not stop early. For a dev set so
            small that its best evaluation is chance.
        patience: stop after this many evaluations without an improvement; 0 means half of all evaluations, at least 4.
        ema_decay: evaluate and keep an exponential moving average of the weights with this decay (Polyak and Juditsky
            1992; see :func:`~distill.training.optimizer.weight_ema`); 0 keeps the weights themselves.
        tokens_at_once: a batch of more tokens, padding included, is computed in parts and their gradients are added,
            as the backward pass over a long batch needs gigabytes; 0: no limit. For objectives that are means over the
            batch's texts: the parts add up to the batch, apart from dropout and rounding.
    """

    epochs: int
    batch_size: int
    evaluations_per_epoch: int = 1
    epochs_per_evaluation: int = 1
    keep_last: bool = False
    patience: int = 0
    ema_decay: float = 0.0
    tokens_at_once: int = 0

    def __post_init__(self) -> None:
        if not self.patience:
            evaluations = self.epochs * self.evaluations_per_epoch // self.epochs_per_evaluation
            object.__setattr__(self, "patience", max(4, evaluations // 2))


@dataclass(frozen=True)
class Evaluation:
    """One evaluation on dev, a line of log.jsonl; ``train_loss`` holds means since the previous evaluation.

    In multi-label data, ``dev_accuracy`` is the micro-averaged F1 where a label needs a probability above 1/2. With
    several tasks, accuracy and loss are means; ``dev_of_tasks`` holds both of every task.
    """

    step: int
    epoch: float
    dev_accuracy: float
    dev_loss: float
    train_loss: dict[str, float]
    learning_rate: float
    seconds: float
    dev_of_tasks: tuple[tuple[float, float], ...] = ()

    def of_task(self, index: int) -> Evaluation:
        """The same evaluation with the accuracy and the loss of one task."""
        accuracy, loss = self.dev_of_tasks[index]
        return dataclasses.replace(self, dev_accuracy=accuracy, dev_loss=loss, dev_of_tasks=())


def ignore_evaluation(_: Evaluation) -> None:
    """Do nothing with an evaluation."""


@dataclass(frozen=True)
class TrainingJob:
    """Everything ``fit`` needs besides the model and its parameter groups.

    ``name`` labels the progress bar and the messages; ``on_evaluation`` is called with every evaluation.
    ``regularisation`` is for teachers: the adversarial kind needs a model with ``embedding_table()``.
    """

    train: Split
    dev: Split
    objective: Objective
    schedule: Schedule
    seed: int
    name: str
    on_evaluation: Callable[[Evaluation], None] = ignore_evaluation
    regularisation: Regularisation = NO_REGULARISATION


def fit(model: nn.Module, parameter_groups: list[dict[str, Any]], job: TrainingJob) -> list[Evaluation]:
    """Train ``model`` in place with AdamW and load the weights that were best on dev, or the last ones.

    The evaluation with the higher accuracy is better; at equal accuracy, the one with the lower
    cross-entropy. The learning rate ``lr`` of a parameter group is the peak of a linear warm-up and decay.

    In a group of processes, each computes the gradients of its share of every batch; gradients, weights and
    evaluations are the same in all. If the objective is a mean over the batch's texts, as
    :func:`~distill.training.losses.labels_only` is, the result is that of one process, apart from dropout and rounding.

    The seed also sets PyTorch's global random generator, which dropout draws from.

    Returns:
        All evaluations, in order.

    Raises:
        UserError: the loss of a step, or a logit of dev, is NaN or infinite.
    """
    training = _Training(model, parameter_groups, job)
    with progress_bar(job.name, training.total_steps, "steps") as bar:
        for step, rows in enumerate(training.batches(), 1):
            training.train_step(step, rows)
            bar.update()
            if step == STEPS_BEFORE_ESTIMATE:
                training.log_estimated_time(step)
            if training.is_evaluation_step(step):
                training.evaluate(step)
                bar.set_postfix_str(f"dev {training.evaluations[-1].dev_accuracy:.4f}")
                if training.is_out_of_patience():
                    patience = job.schedule.patience
                    log.info("%s: stopped early, dev has not improved for %d evaluations", job.name, patience)
                    break
    model.load_state_dict(training.best_weights)
    return training.evaluations


class _Training:
    """The state of one ``fit``."""

    def __init__(self, model: nn.Module, parameter_groups: list[dict[str, Any]], job: TrainingJob) -> None:
        torch.manual_seed(job.seed + distributed.rank())  # for dropout, which differs between the processes
        self.generator = torch.Generator().manual_seed(job.seed)  # for the order of the texts, the same in all
        self.device = best_device()
        self.model: Any = model.to(self.device).train()
        self.ema = weight_ema(model, job.schedule.ema_decay) if job.schedule.ema_decay else None
        self.objective = job.objective.to(self.device) if isinstance(job.objective, nn.Module) else job.objective
        self.job = job
        self.steps_per_epoch = math.ceil(len(job.train.inputs) / job.schedule.batch_size)
        self.total_steps = job.schedule.epochs * self.steps_per_epoch
        self.optimizers = ScheduledOptimizers(parameter_groups, self.total_steps)
        self.evaluations: list[Evaluation] = []
        self.loss_sums: dict[str, Tensor] = {}  # since the last evaluation
        self.summed_steps = 0
        self.best_score, self.best_evaluation = (-1.0, 0.0), 0
        self.best_weights: dict[str, Any] = {}
        self.started = time.perf_counter()

    def batches(self) -> Iterator[Tensor]:
        """The rows of every training step's batch, over all epochs."""
        train, batch_size = self.job.train, self.job.schedule.batch_size
        for _ in range(self.job.schedule.epochs):
            rows = sample_rows(train.sampling_weights, self.generator)
            yield from shuffled_batches(train.inputs.lengths, batch_size, self.generator, rows)

    def train_step(self, step: int, rows: Tensor) -> None:
        """Update the weights with the batch at ``rows`` (batch,); ``step`` counts from 1."""
        own_rows, counted = _own_share(rows)
        weight = counted / len(rows)  # makes the sum over the processes the mean over the whole batch
        zero = torch.zeros((), device=self.device)
        total = zero.clone()
        self.optimizers.zero_grad()
        for loss in self.losses(own_rows, weight):
            _backward(loss.total)
            total += loss.total.detach()
            for name, term in loss.parts.items():
                self.loss_sums[name] = self.loss_sums.get(name, zero) + term.detach()
        if not math.isfinite(distributed.all_reduce_sum(total)):
            raise self.divergence("the loss", step, self.job.train.targets(own_rows, self.device))
        if epsilon := self.job.regularisation.adversarial:
            with adversarial_embeddings(self.model.embedding_table(), epsilon):
                for loss in self.losses(own_rows, weight):
                    _backward(loss.total)
        distributed.all_reduce_gradients(self.optimizers.parameters)
        self.optimizers.step()
        if self.ema is not None:
            self.ema.update_parameters(self.model)
        self.summed_steps += 1

    def losses(self, rows: Tensor, weight: float) -> Iterator[Loss]:
        """The losses of a batch's parts; they add up to ``weight`` times that of the batch at ``rows`` (batch,)."""
        train = self.job.train
        for part in self.parts(rows):
            loss = self.loss(train.inputs.batch(part).to(self.device), train.targets(part, self.device))
            share = weight * len(part) / len(rows)
            yield Loss(share * loss.total, {name: share * term for name, term in loss.parts.items()})

    def parts(self, rows: Tensor) -> Sequence[Tensor]:
        """``rows`` (batch,) in parts of about ``tokens_at_once`` tokens; R-Drop's two passes count twice."""
        if not (limit := self.job.schedule.tokens_at_once):
            return [rows]
        passes = 2 if self.job.regularisation.r_drop else 1
        tokens = passes * len(rows) * int(self.job.train.inputs.lengths[rows].max())
        return rows.chunk(math.ceil(tokens / limit))

    def loss(self, batch: Batch, targets: Targets) -> Loss:
        """The loss of some texts, with R-Drop where it is on."""
        if weight := self.job.regularisation.r_drop:
            return r_drop_loss(
                lambda: self.model.output(batch),
                lambda output: self.objective(output, targets),
                weight,
                is_multi_label=self.job.train.is_multi_label,
            )
        return self.objective(self.model.output(batch), targets)

    def log_estimated_time(self, step: int) -> None:
        """Log how long all steps will take at the present rate, evaluations excluded, if more than a minute."""
        if (seconds := (time.perf_counter() - self.started) / step * self.total_steps) > 60:
            log.info(
                "%s: at most %d steps, about %s on this machine", self.job.name, self.total_steps, duration(seconds)
            )

    def is_evaluation_step(self, step: int) -> bool:
        """Whether dev is evaluated after ``step`` (from 1): at equal intervals, and always after the last step."""
        schedule, steps_per_epoch = self.job.schedule, self.steps_per_epoch
        if schedule.epochs_per_evaluation > 1:
            return step % (schedule.epochs_per_evaluation * steps_per_epoch) == 0 or step == self.total_steps
        parts, step_in_epoch = schedule.evaluations_per_epoch, (step - 1) % steps_per_epoch + 1
        return step_in_epoch * parts // steps_per_epoch > (step_in_epoch - 1) * parts // steps_per_epoch

    def evaluate(self, step: int) -> None:
        """Evaluate on dev, record it, and keep a copy of the weights if they are the best so far (or the last)."""
        evaluated = self.model if self.ema is None else self.ema.module
        of_tasks = _accuracy_and_loss(evaluated, self.job.dev, f"{self.job.name}, dev")
        accuracy, loss = (sum(values) / len(values) for values in zip(*of_tasks, strict=True))
        if not math.isfinite(loss):
            raise self.divergence("a logit of dev", step)
        self.model.train()
        evaluation = Evaluation(
            step=step,
            epoch=round(step / self.steps_per_epoch, 3),
            dev_accuracy=accuracy,
            dev_loss=loss,
            train_loss={
                name: (distributed.all_reduce_sum(total) / self.summed_steps).item()
                for name, total in self.loss_sums.items()
            },
            learning_rate=self.optimizers.learning_rate,
            seconds=round(time.perf_counter() - self.started, 2),
            dev_of_tasks=tuple((accuracy, loss) for accuracy, loss in of_tasks) if self.job.dev.heads else (),
        )
        self.evaluations.append(evaluation)
        self.job.on_evaluation(evaluation)
        self.loss_sums, self.summed_steps = {}, 0
        score = (accuracy, -loss)  # equal accuracy: the lower loss is better
        keep_last = self.job.schedule.keep_last
        if score > self.best_score or keep_last:
            self.best_score, self.best_evaluation = score, len(self.evaluations)
            if step == self.total_steps or not keep_last:
                self.best_weights = copy.deepcopy(evaluated.state_dict())

    def divergence(self, what: str, step: int, targets: Targets | None = None) -> UserError:
        """The error for ``what`` that is not finite, with the likely cause."""
        if targets and targets.teacher_logits is not None and not targets.teacher_logits.isfinite().all():
            cause, hint = "the teacher's logits are not finite either", "train or choose another teacher"
        elif step == 1 and (names := non_finite(self.model.named_parameters())):
            cause = f"the weights at the start are not finite: {', '.join(names[:3])}"
            hint = "check the pretrained weights (--teacher_model) or the word vectors (--vectors)"
        else:
            cause = "the learning rate is probably too high"
            hint = "divide it by 10: --teacher_lr for a teacher, --student_lr and --vector_lr for a student"
        return UserError(
            f"{what} is NaN or infinite at step {step} of {self.total_steps}; {cause}", self.job.name, hint
        )

    def is_out_of_patience(self) -> bool:
        """Whether the last ``patience`` evaluations brought no improvement."""
        return len(self.evaluations) - self.best_evaluation >= self.job.schedule.patience


def _backward(loss: Tensor) -> None:
    loss.backward()  # type: ignore[no-untyped-call]


def _own_share(rows: Tensor) -> tuple[Tensor, int]:
    """This process's share of ``rows``, and how many of them count.

    A process without a share computes the first row with a count of 0, so that all have gradients of the same
    parameters.
    """
    share = distributed.rows_of_this_rank(rows)
    return (share, len(share)) if len(share) else (rows[:1], 0)


def _accuracy_and_loss(model: nn.Module, dev: Split, progress_label: str) -> list[list[float]]:
    """Accuracy and mean cross-entropy on dev, of every task if there are several; NaN losses if a logit is not finite.

    In multi-label data micro-F1 takes the place of accuracy.

    Each process predicts its share, and all return the same bits.
    """
    rows, counted = _own_share(torch.arange(len(dev.inputs)))
    own_logits = predict(model, model, dev.inputs, progress_label, rows=rows).float()
    logits = own_logits.new_zeros(len(dev.inputs), own_logits.shape[1])
    logits[rows[:counted]] = own_logits[:counted]
    distributed.all_reduce_sum(logits)
    of_tasks = [(logits[:, head.logits], head.labels_of(dev.labels)) for head in dev.heads] or [(logits, dev.labels)]
    metrics = torch.tensor([_score_and_loss(*task) for task in of_tasks], dtype=torch.float64)
    if not logits.isfinite().all():
        metrics[:, 1] = math.nan
    return distributed.broadcast_from_main(metrics).tolist()  # CPUs may round the loss differently; all decide by it


def _score_and_loss(logits: Tensor, labels: Tensor) -> tuple[float, float]:
    """Accuracy or micro-F1, and cross-entropy, of the labelled texts of one task."""
    if labels.dim() == 2:
        labelled = is_labelled(labels)
        return _micro_f1(logits[labelled] > 0, labels[labelled].bool()).item(), cross_entropy(logits, labels).item()
    logits, labels = logits[is_labelled(labels)], labels[is_labelled(labels)]
    score = (logits.argmax(1) == labels).double().mean()
    return score.item(), nn.functional.cross_entropy(logits, labels).item()


def _micro_f1(predicted: Tensor, gold: Tensor) -> Tensor:
    """Micro-averaged F1 of label sets (texts, classes)."""
    both, either = (predicted & gold).sum().double(), (predicted.sum() + gold.sum()).double()
    return 2 * both / either if either else torch.ones((), dtype=torch.float64)


def write_log(path: Path, evaluations: Sequence[Evaluation]) -> None:
    """Write ``log.jsonl``: one evaluation per line."""
    records = ({key: value for key, value in asdict(one).items() if value != ()} for one in evaluations)
    write_file(path, "".join(json.dumps(record) + "\n" for record in records))
