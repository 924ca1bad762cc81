"""Several tasks in one network: their parts of outputs and labels, the joint loss, and how often texts are drawn."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from distill.data import UNLABELLED
from distill.text.batching import ModelOutput
from distill.training.heads import JointObjective, make_heads, part_of, sampling_weights, wide_labels
from distill.training.losses import Distillation, Targets, labels_only

HEADS = make_heads(["topic", "tags"], [3, 2], [False, True])
TOPIC = torch.tensor([0, 2, UNLABELLED, 1])
TAGS = torch.tensor([[1.0, 0], [UNLABELLED] * 2, [0, 1], [0, 0]])


def outputs() -> ModelOutput:
    torch.manual_seed(0)
    return ModelOutput(torch.randn(4, 5, requires_grad=True), torch.randn(4, 6))


def test_labels_return_as_they_were() -> None:
    wide = wide_labels([TOPIC, TAGS])
    assert wide.shape == (4, 3)
    topic, tags = (head.labels_of(wide) for head in HEADS)
    assert topic.equal(TOPIC) and tags.equal(TAGS)


@pytest.mark.parametrize("answered", [None, torch.tensor([[True, False], [True, True], [False, False], [True, True]])])
def test_the_loss_is_the_sum_of_the_tasks_losses(answered: torch.Tensor | None) -> None:
    output, teacher = outputs(), torch.randn(4, 5)
    objectives = [
        Distillation({"labels": 0.3, "logits": 1.0, "soft": 0.5}, 2.0, 6, is_multi_label=is_multi_label)
        for is_multi_label in (False, True)
    ]
    joint = JointObjective(HEADS, objectives, [1.0, 2.0])
    loss = joint(output, Targets(wide_labels([TOPIC, TAGS]), teacher, answered=answered))
    expected = []
    for index, (labels, columns) in enumerate(((TOPIC, slice(0, 3)), (TAGS, slice(3, 5)))):
        own = None if answered is None else answered[:, index]
        alone = ModelOutput(output.logits[:, columns], output.vector)
        expected.append(objectives[index](alone, Targets(labels, teacher[:, columns], answered=own)).total)
    torch.testing.assert_close(loss.total, expected[0] + 2 * expected[1])
    assert {*loss.parts} == {f"{task}/{term}" for task in ("topic", "tags") for term in ("labels", "logits", "soft")}


def test_a_text_without_a_label_does_not_count_for_that_task() -> None:
    output = outputs()
    joint = JointObjective(HEADS, [labels_only(), labels_only()], [1.0, 1.0])
    joint(output, Targets(wide_labels([TOPIC, TAGS]))).total.backward()
    gradient = output.logits.grad
    assert gradient is not None
    assert not gradient[2, :3].any() and not gradient[1, 3:].any()
    assert gradient[[0, 1, 3], :3].any(1).all() and gradient[[0, 2, 3], 3:].any(1).all()


def test_learned_weights_follow_the_losses() -> None:
    """The uncertainty weight of a task with loss L tends to 1 / L."""
    joint = JointObjective(HEADS, [labels_only(), labels_only()], None)
    output, targets = ModelOutput(outputs().logits.detach(), torch.zeros(4, 6)), Targets(wide_labels([TOPIC, TAGS]))
    optimizer = torch.optim.SGD([joint.uncertainties], lr=0.3)
    for _ in range(200):
        optimizer.zero_grad()
        joint(output, targets).total.backward()
        optimizer.step()
    losses = torch.stack(list(joint(output, targets).parts.values()))
    torch.testing.assert_close(joint.uncertainties.exp(), losses, rtol=1e-3, atol=0)


def test_mutual_students_compare_heads() -> None:
    output = outputs()
    pair = ModelOutput(output.logits, output.vector, ModelOutput(torch.randn(4, 5), output.vector))
    objectives = [Distillation({"labels": 1.0, "mutual": 1.0}, 1.0, 6, is_multi_label=many) for many in (False, True)]
    parts = JointObjective(HEADS, objectives, [1.0, 1.0])(pair, Targets(wide_labels([TOPIC, TAGS]))).parts
    assert parts["topic/mutual"] > 0 and parts["tags/mutual"] > 0


def test_small_tasks_are_drawn_more_often() -> None:
    topic = torch.tensor([0] * 90 + [UNLABELLED] * 10)
    tags = torch.tensor([[UNLABELLED] * 2] * 90 + [[1.0, 0.0]] * 10)
    weights = sampling_weights(wide_labels([topic, tags]), HEADS)
    assert weights is not None
    assert (weights[90:].sum() / weights.sum()).item() == pytest.approx(10**0.5 / (10**0.5 + 90**0.5))
    assert sampling_weights(wide_labels([topic[40:], tags[40:]])[:60], HEADS) is not None
    assert sampling_weights(wide_labels([topic[75:], tags[75:]]), HEADS) is None  # 15 and 10 texts


@pytest.mark.parametrize("unlabelled", [1, 300])
def test_texts_without_labels_keep_their_share(unlabelled: int) -> None:
    topic = torch.tensor([0] * 90 + [UNLABELLED] * (10 + unlabelled))
    tags = torch.tensor([[UNLABELLED] * 2] * 90 + [[1.0, 0.0]] * 10 + [[UNLABELLED] * 2] * unlabelled)
    weights = sampling_weights(wide_labels([topic, tags]), HEADS)
    assert weights is not None
    assert (weights[100:].sum() / weights.sum()).item() == pytest.approx(unlabelled / (100 + unlabelled))
    assert sampling_weights(wide_labels([topic[75:], tags[75:]]), HEADS) is None  # the tasks have 15 and 10 texts


def test_a_part_of_a_classifier() -> None:
    whole, vectors = nn.Linear(6, 5), torch.randn(3, 6)
    for head in HEADS:
        torch.testing.assert_close(part_of(whole, head.logits)(vectors), whole(vectors)[:, head.logits])
    assert part_of(whole.to("meta"), HEADS[0].logits).weight.device.type == "meta", "it is where the classifier is"
