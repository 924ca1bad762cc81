"""The inputs of an ONNX file: a batch as named tensors, and a batch from these tensors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from distill.text.batching import Batch


@dataclass(frozen=True)
class Signature:
    """The inputs of a student or a teacher.

    Args:
        inputs: name and description of each, in order.
        tensors: the tensors of a batch, in that order; without n-grams the last is left out.
        batch: the batch from these tensors.
    """

    inputs: dict[str, str]
    tensors: Callable[[Batch], list[Tensor]]
    batch: Callable[..., Batch]

    def tensors_by_name(self, batch: Batch) -> dict[str, Tensor]:
        """The tensors of a batch."""
        return dict(zip(self.inputs, self.tensors(batch), strict=False))


def _student_tensors(batch: Batch) -> list[Tensor]:
    return [batch.ids, batch.lengths, *([batch.ngrams.ids] if batch.ngrams else [])]


def _student_batch(words: Tensor, lengths: Tensor, ngrams: Tensor | None = None) -> Batch:
    # bucket 0 is padding only, so the n-grams' lengths need no input of their own
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
