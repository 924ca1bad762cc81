"""The folder that a trained student is kept in: json, safetensors and a list of words; nothing is pickled."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import nn

from distill.errors import UserError
from distill.models.average import Average
from distill.models.bilstm import BiLSTM, BiLSTMConfig
from distill.models.encoders import Words
from distill.models.student import NetworkConfig
from distill.models.textcnn import TextCNN, TextCNNConfig
from distill.models.textgcn import Documents, GraphTable, GraphTableConfig
from distill.storage.atomic import write_file, write_json
from distill.text.segmentation import Segmenter
from distill.text.vocabulary import Vocabulary

SAVED: dict[str, tuple[type[Any], type[Any]]] = {  # network and config of each architecture, as they are kept
    "bilstm": (BiLSTM, BiLSTMConfig),
    "textcnn": (TextCNN, TextCNNConfig),
    "average": (Average, NetworkConfig),
    "textgcn": (GraphTable, GraphTableConfig),
}
CARD, WEIGHTS, VOCABULARY = "student.json", "student.safetensors", "vocabulary.txt"
AGAIN = "python distill.py --mode train_student"
FAULTS = (SafetensorError, RuntimeError, ValueError, KeyError, TypeError, AttributeError)


def save_student(
    folder: Path,
    model: nn.Module,
    input: Words | Documents,  # noqa: A002
    labels: Sequence[str],
    temperature: float = 1.0,
) -> None:
    """Write json + safetensors, and the vocabulary where there is one."""
    config: Any = model.config
    card: dict[str, Any] = {
        "architecture": next(name for name, (network, _) in SAVED.items() if type(model) is network),
        "config": asdict(config),
        "labels": list(labels),
        "temperature": temperature,
    }
    if isinstance(input, Words):
        card |= {"max_length": input.max_length, "segmenter": input.segmenter.identity}
        input.vocabulary.save(folder / VOCABULARY)
    write_json(folder / CARD, card)
    write_file(folder / WEIGHTS, save({name: tensor.cpu().contiguous() for name, tensor in model.state_dict().items()}))


def load_student_parts(
    folder: Path, segmenter: Segmenter | None = None
) -> tuple[nn.Module, Words | Documents, tuple[str, ...], float]:
    """Model, input, labels and temperature as :func:`save_student` wrote them.

    Args:
        folder: the student's.
        segmenter: the one of its training; None: jieba without a user dictionary. Another one gives a warning.

    Raises:
        UserError: the folder holds no student, or a broken one.
    """
    try:
        card = _card(folder)
        network, config = SAVED[card["architecture"]]
        model: nn.Module = network(config(**card["config"]))
        model.load_state_dict(load_file(folder / WEIGHTS))
        input = _input(folder, card, model, segmenter or Segmenter())  # noqa: A001
        return model.eval(), input, tuple(card["labels"]), float(card.get("temperature", 1.0))
    except FAULTS as error:
        raise UserError(f"this student is broken: {error}", folder, AGAIN) from error


def _card(folder: Path) -> dict[str, Any]:
    """The card, once every file that belongs to its architecture is there."""
    path = folder / CARD
    card: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    needed = [CARD, WEIGHTS, *([] if card.get("architecture") == "textgcn" else [VOCABULARY])]
    missing = [name for name in needed if not (folder / name).is_file()]
    if missing:
        raise UserError(f"no student: {', '.join(missing)} missing", folder, AGAIN)
    return card


def _input(folder: Path, card: dict[str, Any], model: nn.Module, segmenter: Segmenter) -> Words | Documents:
    if isinstance(model, GraphTable):
        return Documents(tuple(model.documents.tolist()))
    segmenter.warn_of_mismatch(folder, card["segmenter"])
    return Words(Vocabulary.load(folder / VOCABULARY), card["max_length"], card["config"].get("ngrams", 0), segmenter)
