"""The objective against its formula, its gradient and its limits."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from hypothesis import given
from hypothesis import strategies as st

from distill.losses import labels_only, logits_mse

STUDENT = torch.tensor([[1.0, 2.0, 0.5], [0.0, -1.0, 3.0]])
TEACHER = torch.tensor([[1.5, 1.0, 0.5], [0.0, 1.0, 2.0]])
LABELS = torch.tensor([1, 2])


def test_logits_mse_by_hand() -> None:
    loss = logits_mse(0.0, 1.0)(STUDENT, TEACHER, LABELS)
    assert loss.total.item() == pytest.approx((0.25 + 1.0 + 0.0 + 0.0 + 4.0 + 1.0) / 6)  # on logits, mean over all


@given(a=st.floats(0, 5), t=st.floats(0, 5))
def test_total_is_the_weighted_sum_of_the_parts(a: float, t: float) -> None:
    loss = logits_mse(a, t)(STUDENT, TEACHER, LABELS)
    expected = a * F.cross_entropy(STUDENT, LABELS) + t * F.mse_loss(STUDENT, TEACHER)
    assert loss.total.item() == pytest.approx(expected.item(), abs=1e-5)
    assert set(loss.parts) == {name for name, weight in (("hard", a), ("logits", t)) if weight > 0}


def test_alone_needs_no_teacher_and_distilling_does() -> None:
    assert logits_mse(1.0, 0.0)(STUDENT, None, LABELS).total.item() == pytest.approx(
        F.cross_entropy(STUDENT, LABELS).item()
    )
    with pytest.raises(ValueError, match="teacher_logits are needed"):
        logits_mse(1.0, 1.0)(STUDENT, None, LABELS)


def test_a_student_like_its_teacher_has_nothing_to_learn_from_it() -> None:
    student = TEACHER.clone().requires_grad_()
    loss = logits_mse(0.0, 1.0)(student, TEACHER, LABELS)
    loss.total.backward()
    assert loss.total.item() == 0 and student.grad is not None and student.grad.abs().max() == 0


def test_label_smoothing_is_that_of_torch() -> None:
    loss = labels_only(0.1)(STUDENT, None, LABELS)
    assert loss.total.item() == pytest.approx(F.cross_entropy(STUDENT, LABELS, label_smoothing=0.1).item())
