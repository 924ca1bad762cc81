"""``--mode benchmark`` with little effort, for the tests that run it."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from transformers import BertConfig

from distill.commands.benchmark import candidates, timing
from distill.commands.benchmark import table as benchmark_table
from distill.commands.benchmark.timing import Effort
from distill.evaluation.baselines import bert_base as yard
from distill.evaluation.timing import Process, in_turns

LITTLE = Effort(2, 2, 3)
TINY = BertConfig(vocab_size=21_128, hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8)


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """The mode with a small yardstick, few texts and rounds, no fresh processes, and no fastText."""
    real = candidates.makers

    def makers(bench: candidates.Bench) -> Iterator[tuple[str, candidates.Maker]]:
        for name, make in real(bench):
            yield name, lambda make=make: dataclasses.replace(make(), effort=LITTLE)

    monkeypatch.setattr(benchmark_table, "makers", makers)
    monkeypatch.setattr(candidates, "bert_base", lambda: yard.bert_base(Path("nowhere"), TINY))
    monkeypatch.setattr(timing, "in_turns", partial(in_turns, least=0))
    monkeypatch.setattr(timing, "fresh_process", lambda code, arguments, texts: Process(0.5, len(texts)))
    monkeypatch.setitem(sys.modules, "fasttext", None)
