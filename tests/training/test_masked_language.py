"""Masked word pieces: which are hidden, and what guessing them changes."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import torch

from distill.config import TeacherSettings
from distill.models.teacher import build
from distill.text.batching import Batch
from distill.training.masked_language import MASKING_RATE, mask_tokens, pretrain

TEXTS = ["球队今天公布新消息", "基金怎么看", "手机出了问题", "芯片又上了头条"] * 8
SETTINGS = TeacherSettings(pretrain=30, batch_size=8, learning_rate=5e-3, dropout=0.0)


def test_as_many_pieces_are_hidden_as_told_and_no_special_ones() -> None:
    ids = torch.randint(5, 50, (400, 30), generator=torch.Generator().manual_seed(1))
    ids[:, 0] = 2
    batch = Batch(ids, torch.full((400,), 25))
    seen, chosen = mask_tokens(batch, 4, torch.tensor([2, 3]), 50, torch.Generator().manual_seed(0))
    assert not chosen[:, 0].any() and not chosen[:, 25:].any()  # special ones, and padding
    assert abs(chosen.sum().item() / (400 * 24) - MASKING_RATE) < 0.01
    assert (seen[~chosen] == ids[~chosen]).all()
    of_chosen = seen[chosen]
    assert abs((of_chosen == 4).float().mean().item() - 0.8) < 0.03
    as_they_are = (of_chosen == ids[chosen]).float().mean().item()
    assert abs(as_they_are - 0.1) < 0.03  # and the rest is another piece


def test_the_encoder_learns_its_texts_and_the_rest_stays(tiny_bert: Path) -> None:
    torch.manual_seed(0)
    model, pieces = build(str(tiny_bert), SETTINGS, 3)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    loss = pretrain(model, pieces, TEXTS, SETTINGS, seed=1)
    used = len(set("".join(TEXTS)))
    assert loss < 0.8 * math.log(used)  # whoever knows nothing has at least log(used)
    after = model.state_dict()
    changed = {name for name in before if not torch.equal(before[name].cpu(), after[name].cpu())}
    assert not any(name.startswith("head.") for name in changed)
    assert "encoder.encoder.layer.1.output.dense.weight" in changed
    rows = "encoder.embeddings.word_embeddings.weight"
    moved = (before[rows] != after[rows].cpu()).any(1)
    assert 0 < moved.sum() <= used + 5 < len(moved)


def test_the_seed_decides_what_is_hidden(tiny_bert: Path) -> None:
    def trained(seed: int) -> float:
        torch.manual_seed(0)
        model, pieces = build(str(tiny_bert), SETTINGS, 3)
        return pretrain(model, pieces, TEXTS, dataclasses.replace(SETTINGS, pretrain=2), seed)

    assert trained(1) == trained(1) != trained(2)
