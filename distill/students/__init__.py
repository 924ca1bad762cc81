"""Students: one file an architecture, a registry of them, and the folder that a trained one is kept in."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import nn

from distill.batches import PackedIds
from distill.config import StudentSettings
from distill.errors import UserError
from distill.progress import log
from distill.runs import write_file, write_json
from distill.students.bilstm import BiLSTM, BiLSTMConfig
from distill.students.composed import ComposedEmbedding
from distill.words import PAD_ID, Vocabulary, segment, segmenter

ARCHITECTURES: dict[str, tuple[type[nn.Module], type[Any]]] = {"bilstm": (BiLSTM, BiLSTMConfig)}
CARD, WEIGHTS, VOCABULARY = "student.json", "student.safetensors", "vocabulary.txt"


@dataclass(frozen=True)
class Words:
    """A student's input: the vocabulary, and the most words that are read of a text."""

    vocabulary: Vocabulary
    max_length: int

    def encode(self, texts: Sequence[str]) -> PackedIds:
        """Word ids of raw texts."""
        return self.encode_segmented([segment(text) for text in texts])

    def encode_segmented(self, texts: Sequence[Sequence[str]]) -> PackedIds:
        """Word ids of texts that are cut already."""
        return PackedIds([self.vocabulary.encode(words, self.max_length) for words in texts], PAD_ID)


def build(settings: StudentSettings, rows: NDArray[np.float32], words: Sequence[str], classes: int) -> nn.Module:
    """A new student for training; ``rows`` (words, width) are the pretrained vectors of ``words``."""
    config = BiLSTMConfig(
        words=rows.shape[0],
        width=rows.shape[1],
        hidden=settings.hidden,
        classes=classes,
        dropout=settings.dropout,
        sentence=settings.input == "sentence",
    )
    student = BiLSTM(config)
    student.embedding = ComposedEmbedding(rows, words)
    return student


def parameter_groups(student: nn.Module, settings: StudentSettings) -> list[dict[str, Any]]:
    """Parameters with their learning rates: a word's vector is in few batches and takes larger steps."""
    vectors = list(student.embedding.parameters())  # type: ignore[union-attr]
    known = {id(parameter) for parameter in vectors}
    others = [parameter for parameter in student.parameters() if id(parameter) not in known]
    return [
        {"params": vectors, "lr": settings.vector_learning_rate},
        {"params": others, "lr": settings.learning_rate},
    ]


def finish(student: nn.Module) -> nn.Module:
    """Fold the trained word vectors into one table; returns the student, whose logits stay the same."""
    student.embedding = student.embedding.folded()  # type: ignore[union-attr, operator]
    return student


def save_student(folder: Path, model: nn.Module, words: Words, labels: Sequence[str]) -> None:
    """Write json + safetensors + vocabulary."""
    config: Any = model.config
    card = {
        "architecture": next(name for name, (network, _) in ARCHITECTURES.items() if isinstance(model, network)),
        "config": asdict(config),
        "labels": list(labels),
        "max_length": words.max_length,
        "segmenter": segmenter(),
    }
    write_json(folder / CARD, card)
    write_file(folder / WEIGHTS, save({name: tensor.cpu().contiguous() for name, tensor in model.state_dict().items()}))
    words.vocabulary.save(folder / VOCABULARY)


def load_student_parts(folder: Path) -> tuple[nn.Module, Words, tuple[str, ...]]:
    """Model, input and labels as :func:`save_student` wrote them.

    Raises:
        UserError: the folder holds no student, or a broken one.
    """
    missing = [name for name in (CARD, WEIGHTS, VOCABULARY) if not (folder / name).is_file()]
    if missing:
        raise UserError(f"no student: {', '.join(missing)} missing", folder, "python distill.py --mode train_student")
    try:
        card = json.loads((folder / CARD).read_text(encoding="utf-8"))
        network, config = ARCHITECTURES[card["architecture"]]
        model = network(config(**card["config"]))
        model.load_state_dict(load_file(folder / WEIGHTS))
        words = Words(Vocabulary.load(folder / VOCABULARY), card["max_length"])
        if card["segmenter"] != segmenter():
            log.warning(
                "%s: trained with %s, here is %s: words may be cut otherwise", folder, card["segmenter"], segmenter()
            )
        return model.eval(), words, tuple(card["labels"])
    except (SafetensorError, RuntimeError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"this student is broken: {error}", folder, "python distill.py --mode train_student") from error
