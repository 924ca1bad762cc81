"""Every loss term: its formula, gradient and limits; and the weighted sum of the terms."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from distill.data import UNLABELLED
from distill.text.batching import ModelOutput
from distill.training.losses import (
    LOGIT_TERMS,
    Distillation,
    Hint,
    Targets,
    cross_entropy,
    labels_only,
    mutual_learning,
)

STUDENT = torch.tensor([[1.0, 2.0, 0.5], [0.0, -1.0, 3.0]])
TEACHER = torch.tensor([[1.5, 1.0, 0.5], [0.0, 1.0, 2.0]])
LABELS = torch.tensor([1, 2])
VECTOR = torch.tensor([[1.0, 0.0], [0.0, 2.0]])
SOFT = ("soft", "soft_reverse", "soft_symmetric")


def output(logits: Tensor = STUDENT, peer: Tensor | None = None) -> ModelOutput:
    return ModelOutput(logits, VECTOR, None if peer is None else ModelOutput(peer, VECTOR))


def distilled(weights: dict[str, float], temperature: float = 2.0, labels: Tensor = LABELS) -> Tensor:
    return Distillation(weights, temperature, 2)(output(), Targets(labels, TEACHER)).total


@pytest.mark.parametrize("name", ["logits", "soft", "soft_reverse", "soft_symmetric", "dist"])
def test_texts_without_an_answer_rely_on_their_label(name: str) -> None:
    """Their teacher logits count for nothing; without any answer in the batch the term is 0."""
    teacher = TEACHER.clone()
    teacher[1] = 1e6
    objective = Distillation({"labels": 1.0, name: 1.0}, 2.0, 2)
    loss = objective(output(), Targets(LABELS, teacher, answered=torch.tensor([True, False])))
    first = Distillation({name: 1.0}, 2.0, 2)(
        ModelOutput(STUDENT[:1], torch.zeros(1, 2)), Targets(LABELS[:1], TEACHER[:1])
    )
    assert loss.parts[name] == first.total
    assert loss.parts["labels"] == objective(output(), Targets(LABELS, TEACHER)).parts["labels"]
    none = objective(output(), Targets(LABELS, teacher, answered=torch.tensor([False, False])))
    assert none.parts[name] == 0 and none.total == none.parts["labels"]


def test_logits_mse_by_hand() -> None:  # mean over all logits
    assert distilled({"logits": 1.0}).item() == pytest.approx((0.25 + 1.0 + 0.0 + 0.0 + 4.0 + 1.0) / 6)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_soft_targets_by_hand(temperature: float) -> None:
    p, q = (TEACHER / temperature).softmax(1), (STUDENT / temperature).softmax(1)
    forward, reverse = (p * (p / q).log()).sum(1).mean(), (q * (q / p).log()).sum(1).mean()
    expected = {"soft": forward, "soft_reverse": reverse, "soft_symmetric": (forward + reverse) / 2}
    for name, loss in expected.items():
        assert distilled({name: 1.0}, temperature).item() == pytest.approx(temperature**2 * loss.item(), rel=1e-4), name


def test_equal_distributions_give_loss_zero_and_gradient_zero() -> None:
    """For one-hot distributions too, where the logarithm of 0 is clamped."""
    taught = torch.eye(2) / 2
    for name in SOFT:
        student = taught.log().clamp(min=-30).requires_grad_()
        loss = LOGIT_TERMS[name](student, taught.log().clamp(min=-30), 1.0)
        loss.backward()  # type: ignore[no-untyped-call]
        assert loss.item() == pytest.approx(0, abs=1e-7) and student.grad is not None
        assert student.grad.abs().max() < 1e-7, name


@pytest.mark.parametrize("name", sorted(LOGIT_TERMS))
def test_a_student_equal_to_its_teacher_has_loss_and_gradient_zero(name: str) -> None:
    student = TEACHER.clone().requires_grad_()
    loss = LOGIT_TERMS[name](student, TEACHER, 2.0)
    loss.backward()  # type: ignore[no-untyped-call]
    assert loss.item() == pytest.approx(0, abs=1e-5) and student.grad is not None
    assert student.grad.abs().max() < 1e-5


def test_the_square_of_the_temperature_keeps_the_gradients_size() -> None:
    torch.manual_seed(0)
    teacher, initial = torch.randn(64, 5) * 3, torch.randn(64, 5)
    norms = []
    for temperature in (1.0, 5.0, 20.0):
        student = initial.clone().requires_grad_()
        LOGIT_TERMS["soft"](student, teacher, temperature).backward()  # type: ignore[no-untyped-call]
        assert student.grad is not None
        norms.append(student.grad.norm().item())
    assert max(norms) / min(norms) < 3


def test_at_high_temperature_soft_targets_match_centred_logits() -> None:
    """Hinton et al. 2015, section 2.1: the gradient tends to (student - teacher) / classes, logits centred."""
    student = STUDENT.clone().requires_grad_()
    LOGIT_TERMS["soft"](student, TEACHER, 1e3).backward()  # type: ignore[no-untyped-call]
    centred = (logits - logits.mean(1, keepdim=True) for logits in (STUDENT, TEACHER))
    student_centred, teacher_centred = centred
    assert student.grad is not None and torch.allclose(
        student.grad, (student_centred - teacher_centred) / 3 / 2, atol=1e-2
    )


def test_dist_by_hand() -> None:
    p, q = TEACHER.softmax(1), STUDENT.softmax(1)
    between = 1 - torch.stack([torch.corrcoef(torch.stack([q[i], p[i]]))[0, 1] for i in range(2)]).mean()
    within = 1 - torch.stack([torch.corrcoef(torch.stack([q[:, i], p[:, i]]))[0, 1] for i in range(3)]).mean()
    assert distilled({"dist": 1.0}, 1.0).item() == pytest.approx((between + within).item(), abs=1e-5)


def test_dist_of_a_batch_of_one_text_is_finite() -> None:
    assert torch.isfinite(LOGIT_TERMS["dist"](STUDENT[:1], TEACHER[:1], 1.0))


def test_mutual_learning_gives_the_student_a_gradient_and_not_its_peer() -> None:
    student, peer = STUDENT.clone().requires_grad_(), TEACHER.clone().requires_grad_()
    mutual_learning(student, peer).backward()  # type: ignore[no-untyped-call]
    assert student.grad is not None and student.grad.abs().max() > 0 and peer.grad is None


def test_two_students_learn_from_the_teacher_and_each_other() -> None:
    peer = torch.zeros(2, 3)
    both = Distillation({"logits": 2.0, "mutual": 0.5}, 2.0, 2)(output(peer=peer), Targets(LABELS, TEACHER))
    separate = 2 * F.mse_loss(STUDENT, TEACHER) + 2 * F.mse_loss(peer, TEACHER)
    divergences = mutual_learning(STUDENT, peer) + mutual_learning(peer, STUDENT)
    assert both.total.item() == pytest.approx((separate + 0.5 * divergences).item())


@given(a=st.floats(0, 5), t=st.floats(0, 5), s=st.floats(0, 5))
def test_total_is_the_weighted_sum_of_the_parts(a: float, t: float, s: float) -> None:
    weights = {"labels": a, "logits": t, "soft": s}
    loss = Distillation(weights, 2.0, 2)(output(), Targets(LABELS, TEACHER))
    parts = {
        "labels": F.cross_entropy(STUDENT, LABELS),
        "logits": F.mse_loss(STUDENT, TEACHER),
        "soft": LOGIT_TERMS["soft"](STUDENT, TEACHER, 2.0),
    }
    expected = sum(weights[name] * part.item() for name, part in parts.items())
    assert loss.total.item() == pytest.approx(expected, abs=1e-5)
    assert set(loss.parts) == {name for name, weight in weights.items() if weight > 0}


def test_labels_need_no_teacher_and_soft_targets_do() -> None:
    loss = Distillation({"labels": 1.0, "logits": 0.0}, 2.0, 2)(output(), Targets(LABELS))
    assert loss.total.item() == pytest.approx(F.cross_entropy(STUDENT, LABELS).item())
    for name in ("logits", "soft"):
        with pytest.raises(ValueError, match="teacher_logits are needed"):
            Distillation({name: 1.0}, 2.0, 2)(output(), Targets(LABELS))


def test_texts_without_label_do_not_count_in_the_cross_entropy() -> None:
    partly_labelled = torch.tensor([1, UNLABELLED])
    assert cross_entropy(STUDENT, partly_labelled).item() == pytest.approx(
        F.cross_entropy(STUDENT[:1], LABELS[:1]).item()
    )
    unlabelled = torch.full((2,), UNLABELLED)
    assert cross_entropy(STUDENT, unlabelled).item() == 0
    assert distilled({"labels": 1.0, "logits": 1.0}, labels=unlabelled).item() == pytest.approx(
        F.mse_loss(STUDENT, TEACHER).item()
    )


def test_label_smoothing_is_that_of_torch() -> None:
    loss = labels_only(0.1)(output(), Targets(LABELS))
    assert loss.total.item() == pytest.approx(F.cross_entropy(STUDENT, LABELS, label_smoothing=0.1).item())


def test_a_hint_is_the_error_of_the_projection() -> None:
    torch.manual_seed(0)
    hint, layers = Hint(2, 1, 3), torch.randn(2, 4, 3)
    weighted, error = hint(VECTOR, layers)
    expected = F.mse_loss(
        VECTOR @ hint.projections[0].weight.T + hint.projections[0].bias, layers[:, 3]
    )  # the last layer
    assert weighted.item() == pytest.approx(expected.item()) and error.item() == pytest.approx(expected.item())


def test_learned_weights_prefer_the_layers_that_can_be_imitated() -> None:
    """At the optimum the weight of a layer is 1 / its error (Kendall et al. 2018): small for noise, but not 0."""
    torch.manual_seed(0)
    vector = torch.randn(256, 4)
    layers = torch.stack([torch.randn(256, 3) * 2, vector[:, :3]], dim=1)
    hint = Hint(4, 2, 3)
    optimizer = torch.optim.Adam(hint.parameters(), lr=0.05)
    for _ in range(150):
        loss, _ = hint(vector, layers)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    noise_weight, copy_weight = torch.exp(-hint.uncertainties).tolist()
    assert noise_weight == pytest.approx(0.25, rel=0.2) and copy_weight > 10 * noise_weight


def test_hints_give_gradients_to_student_and_projections() -> None:
    objective = Distillation({"logits": 1.0, "hint": 1.0, "hint_layers": 0.5}, 2.0, 2, (2, 3))
    vector = VECTOR.clone().requires_grad_()
    objective(ModelOutput(STUDENT, vector), Targets(LABELS, TEACHER, torch.randn(2, 2, 3))).total.backward()
    assert vector.grad is not None and vector.grad.abs().max() > 0
    assert all(p.grad is not None for p in objective.parameters() if p.requires_grad)
    with pytest.raises(ValueError, match="vectors are needed"):
        objective(output(), Targets(LABELS, TEACHER))
