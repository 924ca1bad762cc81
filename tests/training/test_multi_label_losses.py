"""The terms of the objective where a text may have any number of labels."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from distill.data import UNLABELLED
from distill.text.batching import ModelOutput, PackedIds
from distill.training.losses import MULTI_LABEL_TERMS, Distillation, Targets, cross_entropy
from distill.training.regularisation import r_drop_divergence
from distill.training.trainer import Split, _accuracy_and_loss

STUDENT = torch.tensor([[1.0, -2.0, 0.5], [0.0, -1.0, 3.0]])
TEACHER = torch.tensor([[1.5, 1.0, -0.5], [0.0, 1.0, 2.0]])
LABELS = torch.tensor([[1.0, 0.0, 1.0], [0.0, 0.0, 0.0]])


def binary_kl(p: Tensor, q: Tensor) -> Tensor:
    return p * (p / q).log() + (1 - p) * ((1 - p) / (1 - q)).log()


def test_cross_entropy_by_hand() -> None:
    p = STUDENT.sigmoid()
    expected = -(LABELS * p.log() + (1 - LABELS) * (1 - p).log()).sum(1)
    assert cross_entropy(STUDENT, LABELS).item() == pytest.approx(expected.mean().item(), rel=1e-6)
    smoothed = LABELS * 0.8 + 0.1
    expected = -(smoothed * p.log() + (1 - smoothed) * (1 - p).log()).sum(1).mean()
    assert cross_entropy(STUDENT, LABELS, 0.2).item() == pytest.approx(expected.item(), rel=1e-6)


def test_texts_without_labels_are_left_out() -> None:
    labels = torch.cat([LABELS, torch.full((1, 3), float(UNLABELLED))])
    logits = torch.cat([STUDENT, torch.tensor([[9.0, -9.0, 9.0]])]).requires_grad_()
    loss = cross_entropy(logits, labels)
    loss.backward()  # type: ignore[no-untyped-call]
    assert loss.item() == pytest.approx(cross_entropy(STUDENT, LABELS).item())
    assert logits.grad is not None and not logits.grad[2].any() and logits.grad[:2].all()
    assert cross_entropy(logits[2:], labels[2:]) == 0


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_soft_targets_are_divergences_of_every_class(temperature: float) -> None:
    p, q = (TEACHER / temperature).sigmoid(), (STUDENT / temperature).sigmoid()
    forward, reverse = (temperature**2 * binary_kl(a, b).sum(1).mean() for a, b in ((p, q), (q, p)))
    expected = {"soft": forward, "soft_reverse": reverse, "soft_symmetric": (forward + reverse) / 2}
    for name, value in expected.items():
        term = MULTI_LABEL_TERMS[name](STUDENT, TEACHER, temperature)
        assert term.item() == pytest.approx(value.item(), rel=1e-5), name
    assert r_drop_divergence(STUDENT, TEACHER, is_multi_label=True).item() == pytest.approx(
        MULTI_LABEL_TERMS["soft_symmetric"](STUDENT, TEACHER, 1.0).item()
    )


@given(st.lists(st.lists(st.floats(-20, 20, width=32), min_size=3, max_size=3), min_size=2, max_size=5))
def test_terms_are_zero_for_the_teachers_own_logits_and_never_negative(rows: list[list[float]]) -> None:
    logits = torch.tensor(rows)
    other = logits.flip(0) + 0.5
    for name, term in MULTI_LABEL_TERMS.items():
        if name != "dist":  # whose correlation of constant probabilities is 0
            assert abs(term(logits, logits, 2.0).item()) < 1e-4, name
        assert term(other, logits, 2.0).item() > -1e-4, name


def test_an_objective_of_all_terms() -> None:
    weights = {"labels": 0.5, **dict.fromkeys(MULTI_LABEL_TERMS, 1.0), "mutual": 0.3}
    objective = Distillation(weights, 2.0, 2, is_multi_label=True)
    vector = torch.zeros(2, 2)
    output = ModelOutput(STUDENT, vector, ModelOutput(TEACHER, vector))
    loss = objective(output, Targets(LABELS, TEACHER))
    assert set(loss.parts) == set(weights) and loss.total.isfinite()
    symmetric = 2 * MULTI_LABEL_TERMS["soft_symmetric"](STUDENT, TEACHER, 1.0)
    assert loss.parts["mutual"].item() == pytest.approx(symmetric.item(), rel=1e-5)
    correlation = F.cosine_similarity(
        *(p - p.mean(1, keepdim=True) for p in ((STUDENT / 2).sigmoid(), (TEACHER / 2).sigmoid()))
    )
    assert loss.parts["dist"] >= 4 * (1 - correlation).mean() - 1e-6


class Constant(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))  # tells the device

    def forward(self, batch: object) -> Tensor:
        return STUDENT


def test_dev_is_measured_by_micro_f1() -> None:
    dev = Split(PackedIds([[1], [2]], 0), LABELS)
    [(score, loss)] = _accuracy_and_loss(Constant(), dev, "")
    assert score == pytest.approx(2 * 2 / (2 * 2 + 1))  # two found, one too many
    assert loss == pytest.approx(cross_entropy(STUDENT, LABELS).item())
    empty = Split(PackedIds([[1], [2]], 0), torch.zeros(2, 3))
    assert _accuracy_and_loss(Constant(), empty, "")[0][0] == 0
