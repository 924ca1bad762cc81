"""Classifiers of transformers, small and random, as other programs save them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from transformers import BertConfig, BertForSequenceClassification, BertTokenizerFast


def build(folder: Path, bert: Path, names: Sequence[str], problem: str | None = None) -> BertForSequenceClassification:
    """A random classifier and its tokenizer, saved to ``folder``; ``problem`` is its ``problem_type``."""
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    torch.manual_seed(0)
    tokenizer = BertTokenizerFast.from_pretrained(bert)
    id2label = dict(enumerate(names))
    config = BertConfig(vocab_size=len(tokenizer), max_position_embeddings=40, id2label=id2label, **sizes)
    config.problem_type = problem
    model = BertForSequenceClassification(config).eval()
    with torch.no_grad():
        model.classifier.weight.normal_(0, 1)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return model
