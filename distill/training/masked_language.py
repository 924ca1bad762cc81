"""Further pretraining of a teacher's encoder on the task's own texts: predict masked word pieces, labels not needed.

Task-adaptive pretraining: Gururangan et al. 2020, "Don't Stop Pretraining", arXiv 2004.10964. The masking is BERT's:
Devlin et al. 2019, arXiv 1810.04805, section 3.1.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from distill.config import TeacherSettings
from distill.errors import UserError
from distill.models.inference import best_device
from distill.models.teacher import TeacherNetwork, WordpieceTokenizer, used_rows
from distill.progress import log, progress_bar
from distill.text.batching import Batch, PackedIds, shuffled_batches
from distill.training import distributed
from distill.training.optimizer import ScheduledOptimizers

MASKING_RATE = 0.15  # share of the word pieces that the encoder has to predict
MASK_SHARE, RANDOM_SHARE = 0.8, 0.1  # of these: replaced by [MASK], or by a random word piece; the others stay visible
NAME = "masked word pieces"


def pretrain(
    teacher: TeacherNetwork, tokenizer: WordpieceTokenizer, texts: list[str], settings: TeacherSettings, seed: int
) -> float:
    """Train the encoder in place for ``settings.pretrain`` epochs; the classifier on top is not touched.

    In a group of processes, each trains on all texts; at the end all take the weights of rank 0.

    Returns:
        The mean loss of the last epoch, in nats per predicted word piece.
    """
    ids, special = tokenizer.encode(texts), tokenizer.encode([""])
    base_tokenizer = tokenizer.tokenizer
    mask_id = base_tokenizer.unk_token_id if base_tokenizer.mask_token_id is None else base_tokenizer.mask_token_id
    loss = math.nan
    with used_rows(teacher, ids, special, PackedIds([[mask_id]], ids.pad_id)) as (inputs, never_masked, mask):
        torch.manual_seed(seed)
        model = _MaskedLanguageModel(teacher, int(mask.flat[0]), never_masked.flat.long()).to(best_device()).train()
        head = {"params": model.head_parameters(), "lr": settings.head_learning_rate}
        groups = [*teacher.parameter_groups(settings)[1:], head]
        for loss in _epochs(model, groups, inputs, settings, seed):
            log.info("%s: loss %.3f", NAME, loss)
        for parameter in teacher.parameters():
            distributed.broadcast_from_main(parameter.data)
    return loss


def _epochs(
    model: _MaskedLanguageModel, groups: list[dict[str, Any]], inputs: PackedIds, settings: TeacherSettings, seed: int
) -> Iterator[float]:
    """Train, and yield the mean loss of every epoch.

    Raises:
        UserError: the loss of a step is NaN or infinite.
    """
    generator = torch.Generator().manual_seed(seed)
    steps_per_epoch = math.ceil(len(inputs) / settings.batch_size)
    total_steps = settings.pretrain * steps_per_epoch
    optimizers, steps = ScheduledOptimizers(groups, total_steps), itertools.count(1)
    with progress_bar(NAME, total_steps, "steps") as bar:
        for _ in range(settings.pretrain):
            total = torch.zeros((), device=best_device())
            for rows in shuffled_batches(inputs.lengths, settings.batch_size, generator):
                loss, step = model(inputs.batch(rows), generator), next(steps)
                if not math.isfinite(loss.detach()):
                    what = f"the loss is NaN or infinite at step {step} of {total_steps}"
                    raise UserError(
                        f"{what}; the learning rate is probably too high", NAME, "divide --teacher_lr by 10"
                    )
                optimizers.zero_grad()
                loss.backward()
                optimizers.step()
                total += loss.detach()
                bar.update()
            yield float(total) / steps_per_epoch


class _MaskedLanguageModel(nn.Module):
    """The teacher's encoder with BERT's prediction head; the output weights are tied to the word-piece embeddings.

    Args:
        teacher: its encoder is trained.
        mask_id: id of [MASK] among the used word pieces.
        never_masked: ids (pieces,) of special word pieces and of the prompt prefix, which are the same in every text.
    """

    def __init__(self, teacher: TeacherNetwork, mask_id: int, never_masked: Tensor) -> None:
        super().__init__()
        self.teacher = teacher
        self.mask_id = mask_id
        self.never_masked = never_masked
        rows, width = teacher.embedding_table().shape
        self.transform = nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.LayerNorm(width))
        self.bias = nn.Parameter(torch.zeros(rows))

    def head_parameters(self) -> list[nn.Parameter]:
        """The parameters that are not the teacher's."""
        return [*self.transform.parameters(), self.bias]

    def forward(self, batch: Batch, generator: torch.Generator) -> Tensor:
        """Mask some word pieces and return the mean cross-entropy of predicting them, in nats; 0 if none was picked."""
        table = self.teacher.embedding_table()  # (rows, width)
        ids, picked = mask_tokens(batch, self.mask_id, self.never_masked, len(table), generator)
        states = self.teacher.states(Batch(ids, batch.lengths).to(table.device))  # (batch, longest, width)
        logits = self.transform(states[picked.to(table.device)]) @ table.T + self.bias  # (picked, rows)
        total: Tensor = nn.functional.cross_entropy(logits, batch.ids[picked].to(table.device), reduction="sum")
        return total / max(1, len(logits))


def mask_tokens(
    batch: Batch, mask_id: int, never_masked: Tensor, vocabulary_size: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Pick word pieces at random and hide most of them.

    Returns:
        The new ids, and a boolean mask of the picked word pieces, both (batch, longest). Padding and the ids in
        ``never_masked`` are not picked.
    """
    chance = torch.rand(batch.ids.shape, generator=generator)
    picked = batch.mask & ~torch.isin(batch.ids, never_masked) & (chance < MASKING_RATE)
    kind = torch.rand(batch.ids.shape, generator=generator)
    random_ids = torch.randint(vocabulary_size, batch.ids.shape, generator=generator)
    ids = torch.where(picked & (kind < MASK_SHARE), mask_id, batch.ids)
    return torch.where(picked & (kind >= 1 - RANDOM_SHARE), random_ids, ids), picked
