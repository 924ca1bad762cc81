"""What an ONNX file takes: the tensors of a batch, by name, and a batch from them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from distill.text.batching import Batch


@dataclass(frozen=True)
class Signature:
    """The inputs of a kind of model.

    Args:
        inputs: what each holds, by name, in their order.
        tensors: of a batch, in that order; a model without n-grams has no tensor for them.
        batch: from these tensors.
    """

    inputs: dict[str, str]
    tensors: Callable[[Batch], list[Tensor]]
    batch: Callable[..., Batch]

    def named(self, batch: Batch) -> dict[str, Tensor]:
        """The tensors of a batch by name."""
        return dict(zip(self.inputs, self.tensors(batch), strict=False))


def _student_tensors(batch: Batch) -> list[Tensor]:
    return [batch.ids, batch.lengths, *([batch.beside.ids] if batch.beside else [])]


def _student_batch(words: Tensor, lengths: Tensor, ngrams: Tensor | None = None) -> Batch:
    # no n-gram has bucket 0, so their lengths need no input of their own
    return Batch(words, lengths, None if ngrams is None else Batch(ngrams, (ngrams > 0).sum(1)))


def _teacher_tensors(batch: Batch) -> list[Tensor]:
    return [batch.ids, batch.mask.long()]


def _teacher_batch(input_ids: Tensor, attention_mask: Tensor) -> Batch:
    return Batch(input_ids, attention_mask.sum(1))


SIGNATURES = {
    "student": Signature(
        {
            "words": "int64 (batch, words): line numbers in vocabulary.txt from 0, padded with 0",
            "lengths": "int64 (batch,): words of each text, at least 1",
            "ngrams": "int64 (batch, n-grams): buckets of hashed character 1- to 3-grams, padded with 0",
        },
        _student_tensors,
        _student_batch,
    ),
    "teacher": Signature(
        {
            "input_ids": "int64 (batch, pieces): word pieces by tokenizer.json, special ones too, padded with pad_id",
            "attention_mask": "int64 (batch, pieces): 1 for a word piece, then 0 for padding",
        },
        _teacher_tensors,
        _teacher_batch,
    ),
}
