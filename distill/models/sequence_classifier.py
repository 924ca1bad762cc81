"""A fine-tuned classifier of transformers with the interface of our own models: batches in, logits and vectors out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from distill.models.inference import best_device
from distill.models.teacher import WordpieceTokenizer, autocast, hint_layers, longest_input
from distill.models.text_classifier import TextClassifier
from distill.models.transformers_checkpoint import labels_of_classifier, load_classifier, load_config
from distill.text.batching import Batch, ModelOutput, masked_mean


class SequenceClassifier(nn.Module):
    """A model that ``AutoModelForSequenceClassification`` loads, with its own pooling and classifier.

    Args:
        classifier: from transformers.
        groups: the outputs that belong to each class; empty: one per class, in order. The probability of a class with
            several outputs is their sum.
    """

    def __init__(self, classifier: Any, groups: Sequence[Sequence[int]] = ()) -> None:
        super().__init__()
        self.classifier = classifier
        self.groups = tuple(map(tuple, groups))
        self.bf16: bool | None = None  # whether it runs in bfloat16; None: if the device is faster at it

    def forward(self, batch: Batch) -> Tensor:
        """Logits, shape (batch, classes)."""
        return self._grouped(self._run(batch).logits)

    def output(self, batch: Batch) -> ModelOutput:
        """Logits, and the mean of the word pieces' vectors of the last layer."""
        result = self._run(batch, output_hidden_states=True)
        return ModelOutput(self._grouped(result.logits), masked_mean(result.hidden_states[-1].float(), batch.mask))

    def layer_vectors(self, batch: Batch) -> Tensor:
        """Mean vectors of evenly spaced layers up to the last, (batch, layers, width), float16."""
        states = hint_layers(self._run(batch, output_hidden_states=True).hidden_states)
        return torch.stack([masked_mean(layer.float(), batch.mask) for layer in states], dim=1).half()

    def _run(self, batch: Batch, **options: bool) -> Any:
        with autocast(batch.ids.device, self.bf16):
            return self.classifier(input_ids=batch.ids, attention_mask=batch.mask.long(), **options)

    def _grouped(self, logits: Tensor) -> Tensor:
        logits = logits.float()
        if not self.groups:
            return logits
        return torch.stack([logits[:, list(group)].logsumexp(1) for group in self.groups], dim=1)


@dataclass(frozen=True)
class LoadedClassifier:
    """A classifier of transformers with its tokenizer and its own labels, before it is matched with a task."""

    model: Any
    tokenizer: WordpieceTokenizer
    labels: tuple[str, ...]

    def grouped(self, groups: Sequence[Sequence[int]], labels: tuple[str, ...]) -> TextClassifier:
        """The classifier for ``labels``, each of which is one or several of its outputs (``groups``)."""
        model = SequenceClassifier(self.model, groups)
        return TextClassifier(model, self.tokenizer, labels).to(best_device())


def load_sequence_classifier(source: str, max_length: int) -> LoadedClassifier:
    """Load a classifier from a folder or the Hub; texts are truncated to ``max_length`` word pieces, or to its limit.

    Raises:
        UserError: as for :func:`distill.models.transformers_checkpoint.load_classifier`.
    """
    model, tokenizer = load_classifier(source)
    wordpieces = WordpieceTokenizer(tokenizer, "", longest_input(model.config, tokenizer, max_length))
    return LoadedClassifier(model, wordpieces, labels_of_classifier(model.config))


def classifier_labels(source: str) -> tuple[str, ...]:
    """The names of a classifier's labels in the order of its logits, from its config.

    Raises:
        UserError: the config cannot be read.
    """
    return labels_of_classifier(load_config(source))
