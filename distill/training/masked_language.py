"""Further pretraining of a teacher's encoder: it fills in masked word pieces of the task's own texts, labelled or not.

Task-adaptive pretraining, Gururangan et al. 2020 (arXiv 2004.10964), with the masking of BERT, Devlin et al. 2019
(arXiv 1810.04805, section 3.1).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from distill.config import TeacherSettings
from distill.models.inference import best_device
from distill.models.teacher import Teacher, Wordpieces, used_rows
from distill.progress import bar, log
from distill.text.batching import Batch, PackedIds, shuffled
from distill.training import distributed
from distill.training.optimizer import Descent

CHANCE = 0.15  # of a word piece to be guessed
MASKED, RANDOM = 0.8, 0.1  # shares of these that are hidden, or replaced by another; the rest stay as they are
WHAT = "masked word pieces"


def pretrain(teacher: Teacher, pieces: Wordpieces, texts: list[str], settings: TeacherSettings, seed: int) -> float:
    """Train the encoder in place for ``settings.pretrain`` epochs; returns the mean loss of the last one, in nats.

    The classifier on top takes no part. Of several processes each does all of it, and they go on with the first's
    weights.
    """
    ids, frame = pieces.encode(texts), pieces.encode([""])
    tokenizer = pieces.tokenizer
    mask_id = tokenizer.unk_token_id if tokenizer.mask_token_id is None else tokenizer.mask_token_id
    loss = math.nan
    with used_rows(teacher, ids, frame, PackedIds([[mask_id]], ids.pad_id)) as (own, around, mask):
        torch.manual_seed(seed)
        model = _Guesser(teacher, int(mask.flat[0]), around.flat.long()).to(best_device()).train()
        groups = [*teacher.parameter_groups(settings)[1:], {"params": model.own(), "lr": settings.head_learning_rate}]
        for loss in _epochs(model, groups, own, settings, seed):
            log.info("%s: loss %.3f", WHAT, loss)
        for parameter in teacher.parameters():
            distributed.from_first(parameter.data)
    return loss


def _epochs(
    model: _Guesser, groups: list[dict[str, Any]], ids: PackedIds, settings: TeacherSettings, seed: int
) -> Iterator[float]:
    """Train, and yield the mean loss of every epoch."""
    generator = torch.Generator().manual_seed(seed)
    epoch_steps = math.ceil(len(ids) / settings.batch_size)
    steps = settings.pretrain * epoch_steps
    descent = Descent(groups, steps)
    with bar(WHAT, steps, "steps") as shown:
        for _ in range(settings.pretrain):
            total = torch.zeros((), device=best_device())
            for rows in shuffled(ids.lengths, settings.batch_size, generator):
                loss = model(ids.batch(rows), generator)
                descent.zero_grad()
                loss.backward()
                descent.step()
                total += loss.detach()
                shown.update()
            yield float(total) / epoch_steps


class _Guesser(nn.Module):
    """The encoder with a new head over its own word pieces' vectors, as in BERT."""

    def __init__(self, teacher: Teacher, mask_id: int, never: Tensor) -> None:
        super().__init__()
        self.teacher = teacher
        self.mask_id = mask_id
        self.never = never  # special pieces and the prefix: they are the same in every text
        rows, width = teacher.embedding_table().shape
        self.transform = nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.LayerNorm(width))
        self.bias = nn.Parameter(torch.zeros(rows))

    def own(self) -> list[nn.Parameter]:
        """The head's parameters."""
        return [*self.transform.parameters(), self.bias]

    def forward(self, batch: Batch, generator: torch.Generator) -> Tensor:
        """Mean cross-entropy of the word pieces that are to be guessed, in nats; 0 where chance picked none."""
        table = self.teacher.embedding_table()
        ids, chosen = hidden(batch, self.mask_id, self.never, len(table), generator)
        states = self.teacher.states(Batch(ids, batch.lengths).to(table.device))
        guessed = self.transform(states[chosen.to(table.device)]) @ table.T + self.bias
        total: Tensor = nn.functional.cross_entropy(guessed, batch.ids[chosen].to(table.device), reduction="sum")
        return total / max(1, len(guessed))


def hidden(batch: Batch, mask_id: int, never: Tensor, rows: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Ids with some of them hidden, and which ones, both (batch, longest); those in ``never`` are left alone."""
    chance = torch.rand(batch.ids.shape, generator=generator)
    chosen = batch.mask & ~torch.isin(batch.ids, never) & (chance < CHANCE)
    kind = torch.rand(batch.ids.shape, generator=generator)
    others = torch.randint(rows, batch.ids.shape, generator=generator)
    ids = torch.where(chosen & (kind < MASKED), mask_id, batch.ids)
    return torch.where(chosen & (kind >= 1 - RANDOM), others, ids), chosen
