"""``--mode benchmark`` with few texts and rounds, for the tests that run it."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import pytest
from transformers import BertConfig

from distill.commands.benchmark import candidates, timing
from distill.commands.benchmark import table as benchmark_table
from distill.commands.benchmark.timing import Effort
from distill.evaluation.baselines import bert_base as bert_base_module
from distill.evaluation.timing import ProcessCost, interleaved_rounds

QUICK = Effort(2, 2, 3)
TINY = BertConfig(vocab_size=21_128, hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8)


def tiny_bert_base(batch: int = bert_base_module.BATCH) -> tuple[Callable[[Sequence[str]], list[int]], str]:
    """A stand-in of bert-base-chinese that takes no time."""
    return bert_base_module.bert_base(Path("nowhere"), TINY, batch)


@pytest.fixture
def quick_benchmark(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the mode quick: a tiny bert-base stand-in, few texts and rounds, no child processes, no fastText."""
    all_factories = candidates.candidate_factories

    def candidate_factories(bench: candidates.Bench) -> Iterator[tuple[str, candidates.CandidateFactory]]:
        for name, make in all_factories(bench):
            yield name, lambda make=make: dataclasses.replace(make(), effort=QUICK)

    monkeypatch.setattr(benchmark_table, "candidate_factories", candidate_factories)
    monkeypatch.setattr(candidates, "bert_base", tiny_bert_base)
    monkeypatch.setattr(timing, "interleaved_rounds", partial(interleaved_rounds, min_seconds=0))
    monkeypatch.setattr(timing, "fresh_process", lambda code, arguments, texts: ProcessCost(0.5, len(texts)))
    monkeypatch.setitem(sys.modules, "fasttext", None)
