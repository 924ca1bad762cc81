"""Masked-language training: which word pieces are masked, and which weights training changes."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import pytest
import torch

from distill.config import TeacherSettings
from distill.errors import UserError
from distill.models.teacher import build
from distill.text.batching import Batch
from distill.training.masked_language import MASKING_RATE, mask_tokens, pretrain

TEXTS = ["球队今天公布新消息", "基金怎么看", "手机出了问题", "芯片又上了头条"] * 8
SETTINGS = TeacherSettings(pretrain=30, batch_size=8, learning_rate=5e-3, dropout=0.0)


def test_the_masking_rate_is_met_and_special_pieces_are_never_masked() -> None:
    ids = torch.randint(5, 50, (400, 30), generator=torch.Generator().manual_seed(1))
    ids[:, 0] = 2
    batch = Batch(ids, torch.full((400,), 25))
    masked, picked = mask_tokens(batch, 4, torch.tensor([2, 3]), 50, torch.Generator().manual_seed(0))
    assert not picked[:, 0].any() and not picked[:, 25:].any()  # special pieces, and padding
    assert abs(picked.sum().item() / (400 * 24) - MASKING_RATE) < 0.01
    assert (masked[~picked] == ids[~picked]).all()
    replaced = masked[picked]
    assert abs((replaced == 4).float().mean().item() - 0.8) < 0.03
    unchanged = (replaced == ids[picked]).float().mean().item()
    assert abs(unchanged - 0.1) < 0.03  # the others are random pieces


def test_the_encoder_learns_its_texts_and_nothing_else_changes(tiny_bert: Path) -> None:
    torch.manual_seed(0)
    model, tokenizer = build(str(tiny_bert), SETTINGS, 3)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    loss = pretrain(model, tokenizer, TEXTS, SETTINGS, seed=1)
    used = len(set("".join(TEXTS)))
    assert loss < 0.8 * math.log(used)  # the loss of uniform guessing is log(used)
    after = model.state_dict()
    changed = {name for name in before if not torch.equal(before[name].cpu(), after[name].cpu())}
    assert not any(name.startswith("head.") for name in changed)
    assert "encoder.encoder.layer.1.output.dense.weight" in changed
    rows = "encoder.embeddings.word_embeddings.weight"
    moved = (before[rows] != after[rows].cpu()).any(1)
    assert 0 < moved.sum() <= used + 5 < len(moved)


def test_the_seed_decides_what_is_masked(tiny_bert: Path) -> None:
    def trained(seed: int) -> float:
        torch.manual_seed(0)
        model, tokenizer = build(str(tiny_bert), SETTINGS, 3)
        return pretrain(model, tokenizer, TEXTS, dataclasses.replace(SETTINGS, pretrain=2), seed)

    assert trained(1) == trained(1) != trained(2)


def test_a_loss_that_is_not_finite_stops_training(tiny_bert: Path) -> None:
    model, tokenizer = build(str(tiny_bert), SETTINGS, 3)
    model.embedding_table().data.fill_(torch.nan)
    with pytest.raises(
        UserError, match=r"masked word pieces: the loss is NaN or infinite at step 1 of 120; .* --teacher_lr"
    ):
        pretrain(model, tokenizer, TEXTS, SETTINGS, 1)
