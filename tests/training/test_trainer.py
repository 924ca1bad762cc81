"""``fit``: the best weights on dev are kept, test is nowhere, order does not matter."""

from __future__ import annotations

import inspect

import pytest
import torch
from test_distributed import in_group
from torch import Tensor, nn

from distill.models.inference import predict_logits
from distill.text.batching import Batch, ModelOutput, PackedIds
from distill.training import trainer
from distill.training.losses import Distillation, Loss, Targets, labels_only
from distill.training.optimizer import warm_up_and_decay
from distill.training.trainer import Schedule, Split, TrainingJob, fit

IDS = PackedIds([[place % 4 + 1] for place in range(64)], 0)
LABELS = torch.tensor([place % 4 for place in range(64)])


class Lookup(nn.Module):
    """Logits straight from a table."""

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


def test_fit_learns() -> None:
    model = Lookup()
    evaluations = fit(model, groups(model), job())
    assert evaluations[-1].dev_accuracy == 1.0
    assert evaluations[-1].train_loss["labels"] < evaluations[0].train_loss["labels"]


def test_the_best_epoch_is_kept_not_the_last() -> None:
    """An objective that teaches for two epochs and then un-teaches."""
    calls = 0

    def fickle(answer: ModelOutput, targets: Targets) -> Loss:
        nonlocal calls
        calls += 1
        wrong = Targets((targets.labels + 1) % 4)
        return labels_only()(answer, targets if calls <= 16 else wrong)

    model = Lookup()
    evaluations = fit(model, groups(model, 0.5), job(objective=fickle, schedule=Schedule(8, 8, patience=99)))
    assert evaluations[-1].dev_accuracy < evaluations[1].dev_accuracy == 1.0
    assert (predict_logits(model, IDS).argmax(1) == LABELS).all()


def test_training_stops_when_dev_does_not_improve() -> None:
    model = Lookup()
    evaluations = fit(model, groups(model, 0.0), job(schedule=Schedule(50, 8, patience=3)))
    assert len(evaluations) == 4


@pytest.mark.parametrize(("texts", "parts"), [(64, 1), (64, 2), (24, 2), (8, 3)])
def test_dev_is_asked_as_often_as_said(texts: int, parts: int) -> None:
    model = Lookup()
    train = Split(PackedIds([[1]] * texts, 0), torch.zeros(texts, dtype=torch.int64))
    evaluations = fit(model, groups(model), job(train=train, schedule=Schedule(2, 8, parts, patience=99)))
    steps = texts // 8
    assert len(evaluations) == 2 * min(parts, steps)
    assert {steps, 2 * steps} <= {e.step for e in evaluations}


def test_teacher_logits_stay_with_their_texts_when_shuffled() -> None:
    """Each text's teacher logits name the text; a student can only fit them if the pairs stay together."""
    taught = nn.functional.one_hot(LABELS, 4).float() * 5
    model = Lookup()
    train = Split(IDS, torch.zeros_like(LABELS), taught)
    fit(
        model,
        groups(model, 0.3),
        job(train=train, objective=Distillation({"logits": 1.0}, 1.0, 4), schedule=Schedule(30, 8, patience=99)),
    )
    assert torch.allclose(predict_logits(model, IDS), taught, atol=1.0)


def test_the_same_seed_gives_the_same_weights() -> None:
    def weights(seed: int) -> Tensor:
        torch.manual_seed(0)
        model = Lookup(dropout=0.5)
        fit(model, groups(model), job(seed=seed, schedule=Schedule(1, 8)))
        return next(iter(model.parameters())).detach().clone()

    assert weights(1).equal(weights(1))
    assert not weights(1).equal(weights(2))


def test_the_running_mean_of_the_weights_is_what_is_kept() -> None:
    """Against a mean by hand over the weights after each step, with a younger share in the first ones."""
    model, seen = Lookup(), []

    def watching(answer: ModelOutput, targets: Targets) -> Loss:
        seen.append(model.table.weight.detach().clone())
        return labels_only()(answer, targets)

    schedule = Schedule(3, 16, ema_decay=0.5)
    fit(model, groups(model), job(objective=watching, schedule=schedule, train=Split(IDS, LABELS)))
    kept, mean = model.table.weight.detach(), seen[1]
    plain = Lookup()
    fit(plain, groups(plain), job(schedule=Schedule(3, 16), train=Split(IDS, LABELS)))
    for count, weights in enumerate([*seen[2:], plain.table.weight.detach()], 1):
        share = min(0.5, (1 + count) / (10 + count))
        mean = share * mean + (1 - share) * weights
    assert torch.allclose(kept, mean, atol=1e-6) and not torch.allclose(kept, plain.table.weight, atol=1e-3)


def steep(answer: ModelOutput, targets: Targets) -> Loss:
    """Gradients that have to be clipped."""
    loss = labels_only(0.1)(answer, targets)
    return Loss(30 * loss.total, loss.parts)


def fitted(averaging: float, dropout: float = 0.0) -> tuple[list[list[float]], list[dict[str, object]], int]:
    """Weights, evaluations and texts computed, of 65 texts in batches of 9; the last has 2, and dev too."""
    seen = 0

    def watching(answer: ModelOutput, targets: Targets) -> Loss:
        nonlocal seen
        seen += len(targets.labels)
        return steep(answer, targets)

    torch.manual_seed(0)
    model = Lookup(dropout)
    nn.init.normal_(model.table.weight)
    ids = PackedIds([[place % 5 + 1] * (place % 3 + 1) for place in range(65)], 0)
    labels = torch.arange(65) * 7 // 3 % 4
    dev = Split(PackedIds([[1], [3]], 0), torch.tensor([1, 2]))
    schedule = Schedule(2, 9, 2, patience=99, ema_decay=averaging)
    evaluations = fit(
        model, groups(model), job(train=Split(ids, labels), dev=dev, objective=watching, schedule=schedule)
    )
    return model.table.weight.tolist(), [{**vars(evaluation), "seconds": 0} for evaluation in evaluations], seen


@pytest.mark.parametrize("averaging", [0.0, 0.5])
def test_several_processes_train_what_one_does(averaging: float) -> None:
    """Three of them: shares of a batch are unequal, and of the last one and of dev one process has none."""
    weights, evaluations, seen = fitted(averaging)
    assert seen == 2 * 65
    together = in_group(3, fitted, averaging)
    for its_weights, its_evaluations, its_seen in together:
        assert torch.allclose(torch.tensor(its_weights), torch.tensor(weights), atol=1e-5)
        assert (its_weights, its_evaluations) == together[0][:2]
        assert seen / 3 - 5 < its_seen < seen / 3 + 5
        for its, alone in zip(its_evaluations, evaluations, strict=True):
            assert its["step"] == alone["step"] and its["dev_accuracy"] == alone["dev_accuracy"]
            assert its["dev_loss"] == pytest.approx(alone["dev_loss"], abs=1e-4)
            assert its["train_loss"] == pytest.approx(alone["train_loss"], abs=1e-4)


def drops_of_the_first_step() -> list[bool]:
    found: list[bool] = []

    def watching(answer: ModelOutput, targets: Targets) -> Loss:
        found.extend((answer.logits == 0).flatten().tolist() if not found else [])
        return labels_only()(answer, targets)

    model = Lookup(dropout=0.5)
    nn.init.ones_(model.table.weight)
    fit(model, groups(model, 0.0), job(objective=watching, schedule=Schedule(1, 8)))
    return found


def test_each_process_drops_out_other_numbers() -> None:
    first, second = in_group(2, drops_of_the_first_step)
    assert len(first) == len(second) == 16 and first != second


def test_texts_are_drawn_by_their_chances() -> None:
    chances = torch.where(torch.arange(64) < 8, 1.0, 0.0)
    drawn: list[int] = []

    def watching(answer: ModelOutput, targets: Targets) -> Loss:
        drawn.extend(targets.labels.tolist())
        return labels_only()(answer, targets)

    model = Lookup()
    labels = torch.arange(64) % 64
    fit(model, groups(model), job(train=Split(IDS, labels % 4, sampling_weights=chances), objective=watching))
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
    """Test sets must not reach training: no parameter or field of this room is called so."""
    for _, thing in inspect.getmembers(trainer, callable):
        if getattr(thing, "__module__", "") == trainer.__name__:
            assert "test" not in inspect.signature(thing).parameters
