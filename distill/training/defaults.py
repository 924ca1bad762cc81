"""Settings that follow the data: what a number becomes that is not given, and why.

benchmarks/LOG.md says on which texts each rule was chosen; benchmarks/suite.py tries them on five data sets.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any, TypeVar

from distill.config import FROM_DATA, StudentSettings, TeacherSettings, TransferSettings
from distill.data import Dataset, Example
from distill.progress import log

S = TypeVar("S", TeacherSettings, StudentSettings, TransferSettings)

FEW_DEV = 200  # texts: with fewer, the difference between two states of a model on dev is chance
TEACHER_STEPS, TEACHER_EPOCHS = 1_100, (2, 8)  # aimed at; at least and at most
STUDENT_STEPS, STUDENT_EPOCHS = 1_500, (8, 60)
GENERAL_STEPS = 2_000  # at least, of a student that sees general texts
GENERAL_READ = 18  # and so many texts, general ones among them, for each of its own
SHORT, LONG = 64, 256  # tokens read of a text: at least, and at most, as time grows with them
READ_WHOLE = 0.98  # share of the texts
GENERAL_UP_TO = 30_000  # train texts, with which words and sentences of the language still help
GENERAL_SHARE, GENERAL_SHARE_WITH_FEW = 0.3, 0.5
FEW_TRAIN = 4_000  # texts, with which a hint helps too
DICTIONARY, GENERAL_WORDS, GENERAL_SENTENCES = 20_000, 20_000, 20_000
ENOUGH_UNLABELLED = 5_000  # texts of the user's own, with which general ones are not needed
TEACHER_VECTORS_RATE = 2e-3
FROM_TEACHER, GRAPH = "teacher", "textgcn"  # of --vectors; the student that knows the texts of its graph alone
FRAME = 10  # word pieces beside the text's: a prefix, and the tokenizer's own


def teacher_settings(settings: TeacherSettings, data: Dataset, extra: int = 0) -> TeacherSettings:
    """The teacher's settings with every number filled in; one line says what was chosen.

    ``extra`` texts beside train are such that other teachers have labelled.
    """
    texts = min(settings.most or len(data.train), len(data.train)) + extra
    batch = settings.batch_size if settings.batch_size != FROM_DATA else (32 if texts >= 1_000 else 16)
    steps = math.ceil(texts / batch)
    chosen = {
        "batch_size": batch,
        "epochs": _within(round(TEACHER_STEPS / steps), TEACHER_EPOCHS),
        "max_length": _rounded(_length(data.train) + FRAME),
    }
    filled = _filled(settings, chosen)
    longer = sum(len(example.text) + FRAME > filled.max_length for example in data.train)
    log.info(
        "teacher: at most %d epochs of %d steps of %d texts; at most %d word pieces of a text%s",
        filled.epochs,
        steps,
        filled.batch_size,
        filled.max_length,
        f" ({longer} of {len(data.train)} texts have more characters than that)" if longer else "",
    )
    return filled


def few_labels(data: Dataset, architecture: str) -> bool:
    """Whether there are so few labelled texts that a student needs all that its teacher can tell."""
    return len(data.train) <= FEW_TRAIN and architecture != GRAPH


def learns_general(data: Dataset, architecture: str) -> bool:
    """Whether a student gets the teacher's vectors of words and, without texts of the user's own, general ones."""
    return len(data.train) <= GENERAL_UP_TO and architecture != GRAPH


def student_settings(
    settings: StudentSettings, data: Dataset, architecture: str = "", *, taught: bool
) -> StudentSettings:
    """The settings of a student of some architecture with every number but its epochs filled in.

    ``taught`` says whether a teacher's logits teach it: the student alone gets no vectors from a teacher either.
    """
    architecture = architecture or settings.architecture
    vectors = settings.vectors.removeprefix(FROM_TEACHER).removeprefix("+") or "auto"
    if taught and architecture != GRAPH:
        by_default = settings.vectors == "auto" and learns_general(data, architecture)
        vectors = f"{FROM_TEACHER}+auto" if by_default else settings.vectors
    from_teacher = vectors.startswith(FROM_TEACHER)
    chosen = {
        "max_length": _rounded(_length(data.train)),
        "dictionary": DICTIONARY if from_teacher else 0,
        **({"vector_learning_rate": TEACHER_VECTORS_RATE} if from_teacher else {}),
    }
    return _filled(dataclasses.replace(settings, vectors=vectors), chosen).suited(architecture)


def transfer_settings(
    settings: TransferSettings, data: Dataset, student: StudentSettings, unlabelled: int
) -> TransferSettings:
    """What the teacher labels beside the user's texts, of which ``unlabelled`` have no label.

    Where these are few, they are words and sentences of the language; one line says so.
    """
    wanted = learns_general(data, student.architecture) and unlabelled < ENOUGH_UNLABELLED
    share = GENERAL_SHARE_WITH_FEW if few_labels(data, student.architecture) else GENERAL_SHARE
    general = {"general_words": GENERAL_WORDS * wanted, "general_sentences": GENERAL_SENTENCES * wanted}
    filled = _filled(settings, {**general, "general_share": share})
    if wanted and filled.general_words + filled.general_sentences:
        log.info(
            "the teacher labels %d words and %d sentences of general Chinese too; some thousand texts of your own "
            "without labels (--unlabeled FILE) would help more than anything else",
            filled.general_words,
            filled.general_sentences,
        )
    return filled


def student_epochs(settings: StudentSettings, texts: int, general: int = 0) -> int:
    """Passes over a transfer set of so many texts, ``general`` ones among them."""
    if settings.epochs != FROM_DATA:
        return settings.epochs
    if general:
        read = max(GENERAL_STEPS * settings.batch_size, GENERAL_READ * (texts - general))
        return max(1, round(read / texts))
    return _within(round(STUDENT_STEPS * settings.batch_size / texts), STUDENT_EPOCHS)


def keeps_last(data: Dataset) -> bool:
    """Whether a model is kept as it is after the last step: dev is too small to choose by."""
    return len(data.dev) < FEW_DEV


def _filled(settings: S, chosen: dict[str, Any]) -> S:
    missing = {name: value for name, value in chosen.items() if getattr(settings, name) == FROM_DATA}
    return dataclasses.replace(settings, **missing)


def _within(number: int, bounds: tuple[int, int]) -> int:
    return min(max(number, bounds[0]), bounds[1])


def _length(texts: tuple[Example, ...]) -> int:
    """Characters that most texts have at most; a token has one or more."""
    lengths = sorted(len(example.text) for example in texts)
    return lengths[math.ceil(READ_WHOLE * len(lengths)) - 1]


def _rounded(length: int) -> int:
    return _within(math.ceil(length / 8) * 8, (SHORT, LONG))
