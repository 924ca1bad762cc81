"""The cross-entropy with the ancestors of labels that are paths."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from distill.data import UNLABELLED
from distill.text.batching import ModelOutput
from distill.training.losses import (
    Distillation,
    Targets,
    ancestor_cross_entropy,
    ancestor_logits,
    cross_entropy,
    labels_only,
)

LOGITS = torch.tensor([[1.0, 2.0, 0.5, -1.0], [0.0, -1.0, 3.0, 0.0]])
LABELS = torch.tensor([1, 3])
ANCESTORS = torch.tensor([[0, 0, 1, 1], [0, 1, 2, 2]])
VECTOR = torch.zeros(2, 2)

classes = st.integers(2, 8)
numbers = st.floats(-80, 80, width=32)


@st.composite
def cases(draw: st.DrawFn) -> tuple[Tensor, Tensor]:
    """Logits (texts, classes) of any size, and the classes' ancestors, each of which has a class."""
    count = draw(classes)
    logits = draw(st.lists(st.lists(numbers, min_size=count, max_size=count), min_size=1, max_size=4))
    ancestors = draw(st.lists(st.integers(0, 3), min_size=count, max_size=count))
    present = sorted(set(ancestors))
    return torch.tensor(logits), torch.tensor([present.index(ancestor) for ancestor in ancestors])


@given(cases())
def test_probabilities_of_ancestors_are_sums_and_add_up_to_one(case: tuple[Tensor, Tensor]) -> None:
    logits, ancestors = case
    found = ancestor_logits(logits, ancestors).softmax(1)
    for ancestor in range(int(ancestors.max()) + 1):
        expected = logits.double().softmax(1)[:, ancestors == ancestor].sum(1)
        torch.testing.assert_close(found[:, ancestor].double(), expected, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(found.sum(1), torch.ones(len(logits)))


@given(cases(), st.sampled_from([0.0, 0.1]))
def test_classes_that_are_their_own_ancestors_have_the_labels_cross_entropy(
    case: tuple[Tensor, Tensor], smoothing: float
) -> None:
    logits, _ = case
    labels, own = torch.arange(len(logits)) % logits.shape[1], torch.arange(logits.shape[1])
    assert torch.equal(ancestor_logits(logits, own), logits)
    found = ancestor_cross_entropy(logits, labels, own[None], smoothing)
    assert torch.equal(found, cross_entropy(logits, labels, smoothing))


@given(cases())
def test_gradients_are_finite_and_those_of_the_sums_logarithm(case: tuple[Tensor, Tensor]) -> None:
    logits, ancestors = case
    logits.requires_grad_()
    labels = torch.zeros(len(logits), dtype=torch.long)
    ancestor_cross_entropy(logits, labels, ancestors[None]).backward()  # type: ignore[no-untyped-call]
    found, logits.grad = logits.grad, None
    below = logits.double().log_softmax(1).masked_fill(ancestors != ancestors[0], -math.inf)
    (-below.logsumexp(1).mean()).backward()  # type: ignore[no-untyped-call]
    assert found is not None and found.isfinite().all()
    torch.testing.assert_close(found, logits.grad, atol=1e-5, rtol=1e-3)


def by_hand(text: int, below: tuple[int, ...]) -> float:
    exponentials = LOGITS[text].exp()
    return -math.log(exponentials[list(below)].sum().item() / exponentials.sum().item())


def test_levels_are_summed_and_texts_without_labels_left_out() -> None:
    first = (by_hand(0, (0, 1)) + by_hand(1, (2, 3))) / 2
    second = (by_hand(0, (1,)) + by_hand(1, (2, 3))) / 2
    assert ancestor_cross_entropy(LOGITS, LABELS, ANCESTORS).item() == pytest.approx(first + second, rel=1e-5)
    labels = torch.tensor([1, UNLABELLED])
    expected = by_hand(0, (0, 1)) + by_hand(0, (1,))
    assert ancestor_cross_entropy(LOGITS, labels, ANCESTORS).item() == pytest.approx(expected, rel=1e-5)
    assert ancestor_cross_entropy(LOGITS, torch.full((2,), UNLABELLED), ANCESTORS) == 0


def test_objectives_have_the_term_with_its_weight() -> None:
    targets, output = Targets(LABELS, LOGITS + 1), ModelOutput(LOGITS, VECTOR)
    for smoothing in (0.0, 0.1):
        loss = labels_only(smoothing, ANCESTORS, 0.5)(output, targets)
        hard = cross_entropy(LOGITS, LABELS, smoothing)
        levels = ancestor_cross_entropy(LOGITS, LABELS, ANCESTORS, smoothing)
        assert loss.parts == {"labels": hard, "levels": levels} and torch.equal(loss.total, hard + 0.5 * levels)
    weights = {"labels": 0.3, "logits": 1.0}
    loss = Distillation(weights, 2.0, 2, ancestors=ANCESTORS, level_weight=0.5)(output, targets)
    expected = sum(weight * loss.parts[name] for name, weight in {**weights, "levels": 0.15}.items())
    assert loss.total.item() == pytest.approx(float(expected)) and loss.parts["logits"] == 1


@pytest.mark.parametrize(
    ("weights", "more"),
    [
        ({"labels": 0.3, "logits": 1.0}, {}),
        ({"labels": 0.3, "logits": 1.0}, {"ancestors": ANCESTORS, "level_weight": 0.0}),
        ({"labels": 0.0, "logits": 1.0}, {"ancestors": ANCESTORS, "level_weight": 1.0}),
    ],
)
def test_without_a_weight_there_is_no_term(weights: dict[str, float], more: dict[str, Tensor]) -> None:
    targets, output = Targets(LABELS, LOGITS + 1), ModelOutput(LOGITS, VECTOR)
    loss, flat = (Distillation(weights, 2.0, 2, **given)(output, targets) for given in (more, {}))  # type: ignore[arg-type]
    assert "levels" not in loss.parts and torch.equal(loss.total, flat.total)
