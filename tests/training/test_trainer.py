"""``fit``: selection on dev, early stopping, weight averaging, seeds, and training in several processes."""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Callable

import pytest
import torch
from test_distributed import in_group
from torch import Tensor, nn

from distill.errors import UserError
from distill.models.inference import predict_logits
from distill.text.batching import Batch, ModelOutput, PackedIds
from distill.training import distributed, trainer
from distill.training.losses import Distillation, Loss, Targets, labels_only
from distill.training.optimizer import warm_up_and_decay
from distill.training.regularisation import Regularisation
from distill.training.trainer import Schedule, Split, TrainingJob, fit

IDS = PackedIds([[index % 4 + 1] for index in range(64)], 0)
LABELS = torch.tensor([index % 4 for index in range(64)])


class Lookup(nn.Module):
    """A model whose logits are rows of an embedding table, chosen by a text's first id."""

    def __init__(self, dropout: float = 0.0) -> None:
        super().__init__()
        self.table = nn.Embedding(6, 4)
        self.dropout = nn.Dropout(dropout)
        nn.init.zeros_(self.table.weight)

    def output(self, batch: Batch) -> ModelOutput:
        logits = self.dropout(self.table(batch.ids[:, 0]))
        return ModelOutput(logits, logits)

    def forward(self, batch: Batch) -> Tensor:
        return self.output(batch).logits


def groups(model: nn.Module, rate: float = 0.1) -> list[dict[str, object]]:
    return [{"params": list(model.parameters()), "lr": rate}]


def job(**changes: object) -> TrainingJob:
    split = Split(IDS, LABELS)
    settings: dict[str, object] = {
        "train": split,
        "dev": split,
        "objective": labels_only(),
        "schedule": Schedule(5, 8),
        "seed": 1,
        "name": "test",
    }
    return TrainingJob(**{**settings, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("limit", "r_drop", "texts"),
    [(0, 0.0, {8}), (8, 0.0, {8}), (7, 0.0, {4}), (3, 0.0, {3, 2}), (8, 1.0, {4}), (1, 1.0, {1})],
)
def test_the_parts_of_a_batch_add_up_to_it(limit: int, r_drop: float, texts: set[int]) -> None:
    class Counting(Lookup):
        def output(self, batch: Batch) -> ModelOutput:
            sizes.add(len(batch.ids))
            return super().output(batch)

    def trained(schedule: Schedule) -> tuple[Tensor, list[trainer.Evaluation]]:
        model = Counting()
        evaluations = fit(model, groups(model, 0.01), job(schedule=schedule, regularisation=Regularisation(r_drop)))
        return model.table.weight.detach(), evaluations

    sizes: set[int] = set()
    whole, evaluations = trained(Schedule(2, 8))
    sizes = set()
    added, of_parts = trained(Schedule(2, 8, tokens_at_once=limit))
    assert torch.allclose(added, whole, atol=1e-6) and sizes - {64} == texts
    assert of_parts[-1].train_loss == pytest.approx(evaluations[-1].train_loss)


def test_fit_learns() -> None:
    model = Lookup()
    evaluations = fit(model, groups(model), job())
    assert evaluations[-1].dev_accuracy == 1.0
    assert evaluations[-1].train_loss["labels"] < evaluations[0].train_loss["labels"]


def test_the_best_epoch_is_kept_not_the_last() -> None:
    """With an objective whose targets are right for two epochs and wrong afterwards."""
    calls = 0

    def wrong_later(output: ModelOutput, targets: Targets) -> Loss:
        nonlocal calls
        calls += 1
        wrong = Targets((targets.labels + 1) % 4)
        return labels_only()(output, targets if calls <= 16 else wrong)

    model = Lookup()
    evaluations = fit(model, groups(model, 0.5), job(objective=wrong_later, schedule=Schedule(8, 8, patience=99)))
    assert evaluations[-1].dev_accuracy < evaluations[1].dev_accuracy == 1.0
    assert (predict_logits(model, IDS).argmax(1) == LABELS).all()


def test_training_stops_when_dev_does_not_improve() -> None:
    model = Lookup()
    evaluations = fit(model, groups(model, 0.0), job(schedule=Schedule(50, 8, patience=3)))
    assert len(evaluations) == 4


@pytest.mark.parametrize(("texts", "parts"), [(64, 1), (64, 2), (24, 2), (8, 3)])
def test_dev_is_evaluated_as_often_as_scheduled(texts: int, parts: int) -> None:
    model = Lookup()
    train = Split(PackedIds([[1]] * texts, 0), torch.zeros(texts, dtype=torch.int64))
    evaluations = fit(model, groups(model), job(train=train, schedule=Schedule(2, 8, parts, patience=99)))
    steps = texts // 8
    assert len(evaluations) == 2 * min(parts, steps)
    assert {steps, 2 * steps} <= {e.step for e in evaluations}


def test_teacher_logits_stay_with_their_texts_when_shuffled() -> None:
    """The logits identify their text, so a student can fit them only if the pairs stay together."""
    teacher_logits = nn.functional.one_hot(LABELS, 4).float() * 5
    model = Lookup()
    train = Split(IDS, torch.zeros_like(LABELS), teacher_logits)
    fit(
        model,
        groups(model, 0.3),
        job(train=train, objective=Distillation({"logits": 1.0}, 1.0, 4), schedule=Schedule(30, 8, patience=99)),
    )
    assert torch.allclose(predict_logits(model, IDS), teacher_logits, atol=1.0)


def nan_at(step: int) -> Callable[[ModelOutput, Targets], Loss]:
    """An objective whose loss is NaN in one step."""
    calls = itertools.count(1)

    def objective(output: ModelOutput, targets: Targets) -> Loss:
        loss = labels_only()(output, targets)
        return Loss(loss.total * torch.nan, loss.parts) if next(calls) == step else loss

    return objective


def test_a_loss_that_is_not_finite_stops_training_in_that_step() -> None:
    model = Lookup()
    with pytest.raises(UserError) as error:
        fit(model, groups(model), job(objective=nan_at(5)))
    assert str(error.value) == (
        "test: the loss is NaN or infinite at step 5 of 40; the learning rate is probably too high "
        "-> divide it by 10: --teacher_lr for a teacher, --student_lr and --vector_lr for a student"
    )


def test_dev_logits_that_are_not_finite_stop_training() -> None:
    """The learning rate is so high that the weights overflow in the last step before the first evaluation."""
    model = Lookup()
    with pytest.raises(UserError, match="a logit of dev is NaN or infinite at step 1 of 5"):
        fit(model, groups(model, 1e39), job(schedule=Schedule(5, 64)))


def test_weights_that_are_not_finite_at_the_start_are_named() -> None:
    model = Lookup()
    nn.init.constant_(model.table.weight, torch.nan)
    with pytest.raises(
        UserError, match=r"step 1 of 40; the weights at the start are not finite: table.weight -> check"
    ):
        fit(model, groups(model), job())


def test_teacher_logits_that_are_not_finite_are_named() -> None:
    model = Lookup()
    train = Split(IDS, LABELS, torch.full((64, 4), torch.inf))
    with pytest.raises(
        UserError, match="the teacher's logits are not finite either -> train or choose another teacher"
    ):
        fit(model, groups(model), job(train=train, objective=Distillation({"logits": 1.0}, 1.0, 4)))


def fit_with_nan_in_rank_0() -> str:
    """One of the processes has a loss that is not finite; the message says whether this one stops too."""
    model = Lookup()
    try:
        fit(model, groups(model), job(objective=nan_at(2) if distributed.rank() == 0 else labels_only()))
    except UserError as error:
        return error.what
    return ""


def test_all_processes_stop_in_the_same_step() -> None:
    first, second = in_group(2, fit_with_nan_in_rank_0)
    assert first == second and "the loss is NaN or infinite at step 2 of 40" in first


def test_the_same_seed_gives_the_same_weights() -> None:
    def weights(seed: int) -> Tensor:
        torch.manual_seed(0)
        model = Lookup(dropout=0.5)
        fit(model, groups(model), job(seed=seed, schedule=Schedule(1, 8)))
        return next(iter(model.parameters())).detach().clone()

    assert weights(1).equal(weights(1))
    assert not weights(1).equal(weights(2))


def test_the_moving_average_of_the_weights_is_kept() -> None:
    """Compared with a moving average by hand of the weights after each step, with a smaller decay at first."""
    model, weights_before_step = Lookup(), []

    def recording(output: ModelOutput, targets: Targets) -> Loss:
        weights_before_step.append(model.table.weight.detach().clone())
        return labels_only()(output, targets)

    schedule = Schedule(3, 16, ema_decay=0.5)
    fit(model, groups(model), job(objective=recording, schedule=schedule, train=Split(IDS, LABELS)))
    kept, average = model.table.weight.detach(), weights_before_step[1]
    plain = Lookup()
    fit(plain, groups(plain), job(schedule=Schedule(3, 16), train=Split(IDS, LABELS)))
    for count, weights in enumerate([*weights_before_step[2:], plain.table.weight.detach()], 1):
        decay = min(0.5, (1 + count) / (10 + count))
        average = decay * average + (1 - decay) * weights
    assert torch.allclose(kept, average, atol=1e-6) and not torch.allclose(kept, plain.table.weight, atol=1e-3)


def steep(output: ModelOutput, targets: Targets) -> Loss:
    """An objective with gradients so large that they are clipped."""
    loss = labels_only(0.1)(output, targets)
    return Loss(30 * loss.total, loss.parts)


def fit_odd_sizes(ema_decay: float, dropout: float = 0.0) -> tuple[list[list[float]], list[dict[str, object]], int]:
    """Train on 65 texts in batches of 9, the last of 2; dev has 2 texts too.

    Returns the weights, the evaluations, and how many texts this process computed.
    """
    computed = 0

    def recording(output: ModelOutput, targets: Targets) -> Loss:
        nonlocal computed
        computed += len(targets.labels)
        return steep(output, targets)

    torch.manual_seed(0)
    model = Lookup(dropout)
    nn.init.normal_(model.table.weight)
    ids = PackedIds([[index % 5 + 1] * (index % 3 + 1) for index in range(65)], 0)
    labels = torch.arange(65) * 7 // 3 % 4
    dev = Split(PackedIds([[1], [3]], 0), torch.tensor([1, 2]))
    schedule = Schedule(2, 9, 2, patience=99, ema_decay=ema_decay)
    evaluations = fit(
        model, groups(model), job(train=Split(ids, labels), dev=dev, objective=recording, schedule=schedule)
    )
    return model.table.weight.tolist(), [{**vars(evaluation), "seconds": 0} for evaluation in evaluations], computed


@pytest.mark.parametrize("ema_decay", [0.0, 0.5])
def test_several_processes_train_the_same_model_as_one(ema_decay: float) -> None:
    """With three, the shares of a batch are unequal, and one process has no share of the last batch and of dev."""
    weights, evaluations, computed = fit_odd_sizes(ema_decay)
    assert computed == 2 * 65
    together = in_group(3, fit_odd_sizes, ema_decay)
    for its_weights, its_evaluations, its_computed in together:
        assert torch.allclose(torch.tensor(its_weights), torch.tensor(weights), atol=1e-5)
        assert (its_weights, its_evaluations) == together[0][:2]
        assert computed / 3 - 5 < its_computed < computed / 3 + 5
        for its, alone in zip(its_evaluations, evaluations, strict=True):
            assert its["step"] == alone["step"] and its["dev_accuracy"] == alone["dev_accuracy"]
            assert its["dev_loss"] == pytest.approx(alone["dev_loss"], abs=1e-4)
            assert its["train_loss"] == pytest.approx(alone["train_loss"], abs=1e-4)


def dropped_in_the_first_step() -> list[bool]:
    dropped: list[bool] = []

    def recording(output: ModelOutput, targets: Targets) -> Loss:
        dropped.extend((output.logits == 0).flatten().tolist() if not dropped else [])
        return labels_only()(output, targets)

    model = Lookup(dropout=0.5)
    nn.init.ones_(model.table.weight)
    fit(model, groups(model, 0.0), job(objective=recording, schedule=Schedule(1, 8)))
    return dropped


def test_dropout_differs_between_processes() -> None:
    first, second = in_group(2, dropped_in_the_first_step)
    assert len(first) == len(second) == 16 and first != second


def test_texts_are_drawn_in_proportion_to_their_sampling_weights() -> None:
    weights = torch.where(torch.arange(64) < 8, 1.0, 0.0)
    drawn: list[int] = []

    def recording(output: ModelOutput, targets: Targets) -> Loss:
        drawn.extend(targets.labels.tolist())
        return labels_only()(output, targets)

    model = Lookup()
    labels = torch.arange(64) % 64
    fit(model, groups(model), job(train=Split(IDS, labels % 4, sampling_weights=weights), objective=recording))
    model, drawn_all = Lookup(), set(drawn)
    assert drawn_all == {0, 1, 2, 3} and len(drawn) == 5 * 64


def test_learning_rate_rises_and_falls() -> None:
    rates = [warm_up_and_decay(step, 100) for step in range(101)]
    assert rates.index(max(rates)) in (9, 10) and max(rates) == 1.0
    assert rates[0] > 0 and rates[100] == 0.0
    assert rates[10:] == sorted(rates[10:], reverse=True)


def test_predictions_come_in_input_order() -> None:
    model = Lookup()
    nn.init.normal_(model.table.weight)
    ids = PackedIds([[3, 1, 1], [1], [2, 2], [4]], 0)
    assert predict_logits(model, ids, batch_size=2).equal(model.table.weight[[3, 1, 2, 4]].detach())


def test_nothing_that_trains_takes_test() -> None:
    """Test sets must not reach training: no function or field of the module has a parameter of that name."""
    for _, thing in inspect.getmembers(trainer, callable):
        if getattr(thing, "__module__", "") == trainer.__name__:
            assert "test" not in inspect.signature(thing).parameters
