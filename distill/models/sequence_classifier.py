"""A fine-tuned classifier of transformers with the interface of our own models: batches in, logits and vectors out."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from distill.models.inference import best_device
from distill.models.teacher import WordpieceTokenizer, autocast, hint_layers, longest_input
from distill.models.text_classifier import TextClassifier
from distill.models.transformers_checkpoint import is_multi_label, labels_of_classifier, load_classifier, load_config
from distill.text.batching import Batch, ModelOutput, masked_mean

THRESHOLD = 0.5  # of every label of a classifier that gives a text any number of them


class SequenceClassifier(nn.Module):
    """A model that ``AutoModelForSequenceClassification`` loads, with its own pooling and classifier.

    Args:
        classifier: from transformers.
    """

    def __init__(self, classifier: Any) -> None:
        super().__init__()
        self.classifier = classifier
        self.bf16: bool | None = None  # whether it runs in bfloat16; None: if the device is faster at it

    def forward(self, batch: Batch) -> Tensor:
        """Logits, shape (batch, classes)."""
        logits: Tensor = self._run(batch).logits
        return logits.float()

    def output(self, batch: Batch) -> ModelOutput:
        """Logits, and the mean of the word pieces' vectors of the last layer."""
        result = self._run(batch, output_hidden_states=True)
        return ModelOutput(result.logits.float(), masked_mean(result.hidden_states[-1].float(), batch.mask))

    def layer_vectors(self, batch: Batch) -> Tensor:
        """Mean vectors of evenly spaced layers up to the last, (batch, layers, width), float16."""
        states = hint_layers(self._run(batch, output_hidden_states=True).hidden_states)
        return torch.stack([masked_mean(layer.float(), batch.mask) for layer in states], dim=1).half()

    def _run(self, batch: Batch, **options: bool) -> Any:
        with autocast(batch.ids.device, self.bf16):
            return self.classifier(input_ids=batch.ids, attention_mask=batch.mask.long(), **options)


def load_sequence_classifier(source: str, max_length: int) -> TextClassifier:
    """Load a classifier from a folder or the Hub; texts are truncated to ``max_length`` word pieces, or to its limit.

    One that gives a text any number of labels has the threshold ``THRESHOLD`` for each of them.

    Raises:
        UserError: as for :func:`distill.models.transformers_checkpoint.load_classifier`.
    """
    model, tokenizer = load_classifier(source)
    wordpieces = WordpieceTokenizer(tokenizer, "", longest_input(model.config, tokenizer, max_length))
    labels = labels_of_classifier(model.config, source)
    thresholds = (THRESHOLD,) * len(labels) if is_multi_label(model.config) else ()
    return TextClassifier(SequenceClassifier(model), wordpieces, labels, thresholds=thresholds).to(best_device())


def classifier_labels(source: str) -> tuple[str, ...]:
    """The names of a classifier's labels in the order of its logits, from its config.

    Raises:
        UserError: the config cannot be read.
    """
    return labels_of_classifier(load_config(source), source)


def gives_label_sets(source: str) -> bool:
    """Whether a classifier gives a text any number of labels, from its config.

    Raises:
        UserError: the config cannot be read.
    """
    return is_multi_label(load_config(source))


def hub_revision(source: str) -> str:
    """The commit of a classifier on the Hub (NAME or NAME@REVISION) that is loaded.

    Raises:
        UserError: it cannot be loaded.
    """
    return str(getattr(load_config(source), "_commit_hash", None) or "")
