"""Defaults that depend on the data: how a setting that the user did not give (``FROM_DATA``) gets its value.

benchmarks/LOG.md records the experiments behind each rule; benchmarks/suite.py repeats them on five data sets.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any, TypeVar

from distill.config import FROM_DATA, STUDENTS, StudentSettings, TeacherSettings, TransferSettings
from distill.data import Dataset, Example
from distill.progress import log

S = TypeVar("S", TeacherSettings, StudentSettings, TransferSettings)

# Selection: with fewer dev texts than this, the difference between two checkpoints on dev is chance.
MIN_DEV_FOR_SELECTION = 200

# Epochs follow from a number of training steps, within (minimum, maximum) epochs: models need about the same number of
# steps on every data set, so small data sets get more epochs.
TEACHER_STEPS, TEACHER_EPOCHS = 1_100, (2, 8)
STUDENT_STEPS, STUDENT_EPOCHS = 1_500, (8, 60)
# With general texts a student takes at least this many steps, and reads at least this many texts per text of the task.
STEPS_WITH_GENERAL_TEXTS = 2_000
TEXTS_READ_PER_TASK_TEXT = 18

# Truncation: the length that holds this share of the texts, within bounds, as time and memory grow with the length.
SHARE_OF_WHOLE_TEXTS = 0.98
MIN_LENGTH, MAX_LENGTH = 64, 256  # tokens
PREFIX_AND_SPECIAL_PIECES = 10  # word pieces that the teacher's input has besides the text

# General Chinese: with up to so many train texts, word vectors from the teacher and general texts improve a student.
MAX_TRAIN_FOR_GENERAL = 30_000
GENERAL_WORDS, GENERAL_SENTENCES = 20_000, 20_000
DICTIONARY = 70_000  # frequent words that a student with the teacher's word vectors knows
MIN_UNLABELLED = 5_000  # unlabelled texts of the user's own that make general texts unnecessary
TEACHER_VECTORS_RATE = 2e-3  # learning rate of word vectors that come from the teacher

# Few labels: with up to so many train texts, a hint helps too, and more of an epoch should be general texts.
MAX_TRAIN_FOR_FEW_LABELS = 4_000
GENERAL_SHARE, GENERAL_SHARE_WITH_FEW_LABELS = 0.3, 0.5

FROM_TEACHER = "teacher"  # a value, or the part before "+", of --vectors


def sources_of_vectors(vectors: str) -> tuple[bool, str]:
    """Whether a value of --vectors names the teacher, and the rest of it: "teacher+auto" is (True, "auto")."""
    first, _, rest = vectors.partition("+")
    return (True, rest) if first == FROM_TEACHER else (False, vectors)


def teacher_settings(settings: TeacherSettings, data: Dataset, extra_texts: int = 0) -> TeacherSettings:
    """Fill in the teacher's batch size, epochs and maximum length, and log them in one line.

    ``extra_texts`` is the number of texts besides train that other teachers have labelled for it.
    """
    texts = min(settings.most or len(data.train), len(data.train)) + extra_texts
    batch_size = settings.batch_size if settings.batch_size != FROM_DATA else (32 if texts >= 1_000 else 16)
    steps_per_epoch = math.ceil(texts / batch_size)
    defaults = {
        "batch_size": batch_size,
        "epochs": _clamp(round(TEACHER_STEPS / steps_per_epoch), TEACHER_EPOCHS),
        "max_length": teacher_max_length(settings, data.train),
    }
    filled = _fill(settings, defaults)
    longer = sum(len(example.text) + PREFIX_AND_SPECIAL_PIECES > filled.max_length for example in data.train)
    log.info(
        "teacher: at most %s of %d steps, batch size %d; texts are truncated to %d word pieces%s",
        "1 epoch" if filled.epochs == 1 else f"{filled.epochs} epochs",
        steps_per_epoch,
        filled.batch_size,
        filled.max_length,
        f" ({longer} of {len(data.train)} texts have more characters than that)" if longer else "",
    )
    return filled


def teacher_max_length(settings: TeacherSettings, texts: Sequence[Example]) -> int:
    """Word pieces to which a teacher truncates texts like these."""
    covering = _length_limit(_covering_length(texts) + PREFIX_AND_SPECIAL_PIECES)
    return settings.max_length if settings.max_length != FROM_DATA else covering


def has_few_labels(data: Dataset, architecture: str) -> bool:
    """Whether labels are so few that a student should learn from the teacher's vectors (a hint) as well."""
    return len(data.train) <= MAX_TRAIN_FOR_FEW_LABELS and not STUDENTS[architecture].transductive


def uses_general_texts(data: Dataset, architecture: str) -> bool:
    """Whether a student gets word vectors from the teacher and, unless unlabelled texts abound, general texts."""
    return len(data.train) <= MAX_TRAIN_FOR_GENERAL and not STUDENTS[architecture].transductive


def student_settings(
    settings: StudentSettings, data: Dataset, architecture: str = "", *, has_teacher: bool, has_vectors: bool = True
) -> StudentSettings:
    """Fill in a student's settings, all but its epochs (see :func:`student_epochs`).

    Args:
        settings: what the user gave.
        data: decides the maximum length and whether the teacher's word vectors are used by default.
        architecture: the network; empty: that of ``settings``.
        has_teacher: whether the student learns from a teacher's logits. Without, it gets no word vectors from a
            teacher either, so that the student alone is a fair baseline.
        has_vectors: whether that teacher can compute word vectors.
    """
    architecture = architecture or settings.architecture
    vectors = sources_of_vectors(settings.vectors)[1] or "auto"
    if has_teacher and not STUDENTS[architecture].transductive:
        by_default = settings.vectors == "auto" and has_vectors and uses_general_texts(data, architecture)
        vectors = f"{FROM_TEACHER}+auto" if by_default else settings.vectors
    from_teacher, _ = sources_of_vectors(vectors)
    defaults = {
        "max_length": _length_limit(_covering_length(data.train)),
        "dictionary": DICTIONARY if from_teacher else 0,
        **({"vector_learning_rate": TEACHER_VECTORS_RATE} if from_teacher else {}),
    }
    return _fill(dataclasses.replace(settings, vectors=vectors), defaults).with_defaults(architecture)


def transfer_settings(
    settings: TransferSettings,
    data: Dataset,
    student: StudentSettings,
    unlabelled: int,
    *,
    labels_any_text: bool = True,
) -> TransferSettings:
    """Fill in how much general Chinese the teacher labels, and log it in one line.

    General texts stand in for unlabelled texts of the task: they are used when ``unlabelled``, the number of texts that
    the user gave without labels, is small, and if the teacher ``labels_any_text`` at no cost.
    """
    is_needed = labels_any_text and uses_general_texts(data, student.architecture) and unlabelled < MIN_UNLABELLED
    few_labels = has_few_labels(data, student.architecture)
    defaults = {
        "general_words": GENERAL_WORDS * is_needed,
        "general_sentences": GENERAL_SENTENCES * is_needed,
        "general_share": GENERAL_SHARE_WITH_FEW_LABELS if few_labels else GENERAL_SHARE,
    }
    filled = _fill(settings, defaults)
    if is_needed and filled.general_words + filled.general_sentences:
        log.info(
            "the teacher also labels %d words and %d sentences of general Chinese; a few thousand unlabelled texts of "
            "your own (--unlabeled FILE) would help more than anything else",
            filled.general_words,
            filled.general_sentences,
        )
    return filled


def student_epochs(settings: StudentSettings, texts: int, general_texts: int = 0) -> int:
    """Passes over a transfer set of ``texts`` texts, of which ``general_texts`` are general Chinese."""
    if settings.epochs != FROM_DATA:
        return settings.epochs
    if general_texts:
        task_texts = texts - general_texts
        texts_read = max(STEPS_WITH_GENERAL_TEXTS * settings.batch_size, TEXTS_READ_PER_TASK_TEXT * task_texts)
        return max(1, round(texts_read / texts))
    return _clamp(round(STUDENT_STEPS * settings.batch_size / texts), STUDENT_EPOCHS)


def keeps_last_weights(data: Dataset) -> bool:
    """Whether to keep the weights of the last step, because dev is too small to select the best ones."""
    return len(data.dev) < MIN_DEV_FOR_SELECTION


def _fill(settings: S, defaults: dict[str, Any]) -> S:
    missing = {name: value for name, value in defaults.items() if getattr(settings, name) == FROM_DATA}
    return dataclasses.replace(settings, **missing)


def _clamp(number: int, bounds: tuple[int, int]) -> int:
    return min(max(number, bounds[0]), bounds[1])


def _covering_length(texts: Sequence[Example]) -> int:
    """The number of characters that nearly all texts stay within; a token has one character or more."""
    lengths = sorted(len(example.text) for example in texts)
    return lengths[math.ceil(SHARE_OF_WHOLE_TEXTS * len(lengths)) - 1]


def _length_limit(length: int) -> int:
    """``length`` rounded up to a multiple of 8, within the bounds."""
    return _clamp(math.ceil(length / 8) * 8, (MIN_LENGTH, MAX_LENGTH))
