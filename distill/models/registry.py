"""Students: one file an architecture, what makes and finishes one, and the folder that a trained one is kept in."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from distill.config import StudentSettings
from distill.models.average import Average
from distill.models.bilstm import BiLSTM, BiLSTMConfig
from distill.models.char_embedding import ComposedEmbedding
from distill.models.checkpoint import CARD, VOCABULARY, WEIGHTS, load_student_parts, save_student
from distill.models.encoders import Words
from distill.models.ngram_embedding import rows_of_buckets
from distill.models.student import NetworkConfig, Student
from distill.models.textcnn import TextCNN, TextCNNConfig
from distill.models.textgcn import Documents
from distill.text.batching import PackedIds

__all__ = [
    "CARD",
    "VOCABULARY",
    "WEIGHTS",
    "Documents",
    "Student",
    "Words",
    "build",
    "finish",
    "load_student_parts",
    "ngram_rows",
    "parameter_groups",
    "save_student",
]


def ngram_rows(settings: StudentSettings) -> int:
    """Buckets that n-grams are hashed into, 0 for none: the settings' number, or (-1) what suits the network."""
    ngrams = 0 if settings.architecture == "textgcn" else settings.suited().ngrams
    return max(2, ngrams) if ngrams else 0  # the first is padding's


def build(
    settings: StudentSettings,
    rows: NDArray[np.float32],
    words: Sequence[str],
    classes: int,
    train: PackedIds | None = None,
) -> Student:
    """A new student over words for training (of textgcn see :func:`distill.models.textgcn.build`).

    Args:
        settings: of the student.
        rows: pretrained vectors of ``words``, shape (words, width).
        words: the vocabulary's words.
        classes: number of classes.
        train: the training texts as :class:`Words` made them: only the n-grams that are frequent there get a vector.
            Without it all buckets have one.
    """
    settings = settings.suited()
    buckets = ngram_rows(settings)
    row_of = rows_of_buckets(buckets, train.beside if train else None) if buckets else None
    sizes: dict[str, Any] = {
        "words": rows.shape[0],
        "width": rows.shape[1],
        "hidden": settings.hidden,
        "classes": classes,
        "dropout": settings.dropout,
        "word_dropout": settings.word_dropout,
        "vector_noise": settings.vector_noise,
        "ngrams": buckets,
        "ngram_rows": 0 if row_of is None else int(row_of.max()) + 1,
    }
    student = _network(settings, sizes)
    student.embedding = ComposedEmbedding(rows, words)
    if student.ngrams is not None and row_of is not None:
        student.ngrams.row_of.copy_(row_of)
    return student


def _network(settings: StudentSettings, sizes: dict[str, Any]) -> Student:
    match settings.architecture:
        case "bilstm":
            return BiLSTM(BiLSTMConfig(**sizes, sentence=settings.input == "sentence", cell=settings.cell))
        case "textcnn":
            return TextCNN(TextCNNConfig(**sizes))
        case "average":
            return Average(NetworkConfig(**sizes))
    raise ValueError(f"{settings.architecture} is not built over words")


def parameter_groups(student: Student, settings: StudentSettings) -> list[dict[str, Any]]:
    """Parameters with their learning rates: a word's or n-gram's vector is in few batches and takes larger steps."""
    settings = settings.suited()
    vectors = student.vector_parameters()
    known = {id(parameter) for parameter in vectors}
    others = [parameter for parameter in student.parameters() if id(parameter) not in known]
    by_rows = any(isinstance(module, nn.Embedding) and module.sparse for module in student.modules())
    return [
        {"params": vectors, "lr": settings.vector_learning_rate, "by_rows": by_rows},
        {"params": others, "lr": settings.learning_rate},
    ]


def finish(student: Student) -> nn.Module:
    """The trained student as it is saved: word vectors in one table, or textgcn's logits; all logits stay the same."""
    return student.finished()
