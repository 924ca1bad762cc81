"""R-Drop and the fast gradient method compared with their formulas."""

from __future__ import annotations

import pytest
import torch
from test_trainer import LABELS, Lookup, groups, job
from torch import nn

from distill.text.batching import ModelOutput
from distill.training.losses import Targets, labels_only
from distill.training.regularisation import Regularisation, adversarial_embeddings, r_drop_divergence, r_drop_loss
from distill.training.trainer import fit


def test_the_r_drop_divergence_is_symmetric_kl() -> None:
    p, q = torch.tensor([[0.7, 0.3], [0.5, 0.5]]), torch.tensor([[0.4, 0.6], [0.5, 0.5]])
    expected = ((p * (p / q).log()).sum() + (q * (q / p).log()).sum()) / 2 / 2  # two directions, two texts
    assert r_drop_divergence(p.log(), q.log()).item() == pytest.approx(expected.item(), abs=1e-6)
    assert r_drop_divergence(p.log(), p.log() + 3).item() == pytest.approx(0, abs=1e-7)


def test_r_drop_averages_two_passes_and_adds_their_weighted_divergence() -> None:
    logits = [torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]])]
    passes = iter(ModelOutput(values, values) for values in logits)
    targets = Targets(torch.tensor([0]))
    loss = r_drop_loss(lambda: next(passes), lambda output: labels_only()(output, targets), 3.0)
    single = [labels_only()(ModelOutput(values, values), targets).total.item() for values in logits]
    divergence = r_drop_divergence(*logits).item()
    assert loss.total.item() == pytest.approx(sum(single) / 2 + 3 * divergence)
    assert loss.parts["r_drop"].item() == pytest.approx(divergence) and loss.parts["labels"].item() == pytest.approx(
        sum(single) / 2
    )


def test_a_table_is_moved_along_its_gradient_and_restored() -> None:
    table = nn.Parameter(torch.tensor([[1.0, 2.0], [3.0, 4.0]]))
    table.grad = torch.tensor([[0.0, 3.0], [4.0, 0.0]])
    before = table.detach().clone()
    with pytest.raises(RuntimeError, match="within"), adversarial_embeddings(table, 0.5):
        assert torch.allclose(table - before, torch.tensor([[0.0, 0.3], [0.4, 0.0]]), atol=1e-6)
        raise RuntimeError("within")
    assert torch.equal(table, before)


@pytest.mark.parametrize("added", [Regularisation(r_drop=1.0), Regularisation(adversarial=0.5)])
def test_training_with_either_regulariser_learns_and_differs(added: Regularisation) -> None:
    class Model(Lookup):
        def embedding_table(self) -> nn.Parameter:
            return self.table.weight

    plain, other = Model(0.3), Model(0.3)
    fit(plain, groups(plain), job())
    evaluations = fit(other, groups(other), job(regularisation=added))
    assert evaluations[-1].dev_accuracy == 1.0 and len(LABELS)
    assert not torch.allclose(plain.table.weight, other.table.weight)
    assert ("r_drop" in evaluations[0].train_loss) == bool(added.r_drop)
