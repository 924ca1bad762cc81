"""New students by the name of their architecture: their classes, networks and learning rates.

The table of architectures is :data:`distill.config.students.STUDENTS`; a new student is one more line there.
"""

from __future__ import annotations

from collections.abc import Sequence
from pkgutil import resolve_name
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from distill.config import STUDENTS, StudentSettings
from distill.models.char_embedding import CharComposedEmbedding
from distill.models.mutual_learning import MutualStudents
from distill.models.ngram_embedding import rows_of_buckets
from distill.models.student import SavedStudent, Student
from distill.text.batching import PackedIds


def student_class(architecture: str) -> type[SavedStudent]:
    """The class of a saved student; its module is imported here.

    Raises:
        KeyError: there is no such architecture.
    """
    network: type[SavedStudent] = resolve_name(STUDENTS[architecture].network)
    return network


def architecture_of(model: SavedStudent) -> str:
    """The name under which a student's class is registered."""
    network = f"{type(model).__module__}:{type(model).__name__}"
    return next(name for name, kind in STUDENTS.items() if kind.network == network)


def ngram_buckets(settings: StudentSettings) -> int:
    """Buckets that n-grams are hashed into; 0: no n-grams."""
    if STUDENTS[settings.architecture].transductive:
        return 0
    buckets = settings.with_defaults().ngrams
    return max(2, buckets) if buckets else 0  # the first bucket is for padding


def build_student(
    settings: StudentSettings,
    rows: NDArray[np.float32],
    words: Sequence[str],
    classes: int,
    train: PackedIds | None = None,
) -> Student:
    """A new student over word vectors (for textgcn see :func:`distill.models.textgcn.build`).

    Args:
        settings: the student's settings.
        rows: pretrained vectors of ``words``, shape (words, width).
        words: the vocabulary.
        classes: number of classes.
        train: the training texts as a :class:`WordTokenizer` encodes them. Only n-grams that are frequent in them get
            a vector; without them every bucket gets one.
    """
    network = student_class(settings.architecture)
    if not issubclass(network, Student):
        raise ValueError(f"{settings.architecture} is not built over words")
    settings = settings.with_defaults()
    buckets = ngram_buckets(settings)
    row_of = rows_of_buckets(buckets, train.ngrams if train else None) if buckets else None
    config = network.config_class(
        words=rows.shape[0],
        width=rows.shape[1],
        hidden=settings.hidden,
        classes=classes,
        dropout=settings.dropout,
        word_dropout=settings.word_dropout,
        vector_noise=settings.vector_noise,
        ngrams=buckets,
        ngram_rows=0 if row_of is None else int(row_of.max()) + 1,
        **network.config_options(settings),
    )
    student = network(config)
    student.embedding = CharComposedEmbedding(rows, words)
    if student.ngrams is not None and row_of is not None:
        student.ngrams.row_of.copy_(row_of)
    return student


def parameter_groups(student: Student | MutualStudents, settings: StudentSettings) -> list[dict[str, Any]]:
    """Parameters with their learning rates. A word's or n-gram's vector is in few batches, so it takes larger steps."""
    settings = settings.with_defaults()
    vectors = student.vector_parameters()
    vector_ids = {id(parameter) for parameter in vectors}
    others = [parameter for parameter in student.parameters() if id(parameter) not in vector_ids]
    by_rows = any(isinstance(module, nn.Embedding) and module.sparse for module in student.modules())
    return [
        {"params": vectors, "lr": settings.vector_learning_rate, "by_rows": by_rows},
        {"params": others, "lr": settings.learning_rate},
    ]
