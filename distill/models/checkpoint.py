"""A trained student's folder: a JSON card, safetensors weights and, for students over words, the vocabulary."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol

from safetensors import SafetensorError
from safetensors.torch import load_file, save

from distill.errors import UserError
from distill.models.build import architecture_of, student_class
from distill.models.student import SavedStudent, Student
from distill.models.tokenizer import TextTokenizer, WordTokenizer
from distill.models.weights import check_finite
from distill.runtime.tasks import Task, flat_labels, tasks_of
from distill.storage.atomic import write_file, write_json
from distill.storage.run_folder import STUDENT_CARD, STUDENT_WEIGHTS, TRAIN_STUDENT
from distill.text.segmentation import Segmenter

LOAD_ERRORS = (SafetensorError, RuntimeError, ValueError, KeyError, TypeError, AttributeError)


class SavableTokenizer(TextTokenizer, Protocol):
    """A tokenizer that writes its files into the student's folder."""

    def save(self, folder: Path) -> dict[str, Any]:
        """Write files, if there are any; returns entries for the card."""
        ...


def save_student(
    folder: Path,
    model: SavedStudent,
    tokenizer: SavableTokenizer,
    labels: Sequence[str],
    temperature: float = 1.0,
    *,
    thresholds: Sequence[float] = (),
    tasks: Sequence[Task] = (),
) -> None:
    """Write a student as :meth:`Student.for_inference` returns it.

    ``temperature`` calibrates its probabilities. ``thresholds``, one per label, make a text have any number of labels.
    A student of several ``tasks`` has their labels as outputs, one task after another, whatever ``labels`` are.
    """
    card = {
        "architecture": architecture_of(model),
        "config": asdict(model.config),
        "labels": list(flat_labels(tasks) if tasks else labels),
        "temperature": temperature,
        **({"thresholds": list(thresholds)} if thresholds else {}),
        **({"tasks": [task.card for task in tasks]} if tasks else {}),
        **tokenizer.save(folder),
    }
    write_json(folder / STUDENT_CARD, card)
    weights = {name: tensor.cpu().contiguous() for name, tensor in model.state_dict().items()}
    write_file(folder / STUDENT_WEIGHTS, save(weights))


def load_student_parts(
    folder: Path, segmenter: Segmenter | None = None
) -> tuple[SavedStudent, TextTokenizer, tuple[str, ...], float, tuple[float, ...], tuple[Task, ...]]:
    """Model, tokenizer, labels, calibration temperature, thresholds and tasks as :func:`save_student` wrote them.

    Args:
        folder: the student's folder.
        segmenter: the one of its training; None: jieba without a user dictionary. Another one gives a warning.

    Raises:
        UserError: the folder holds no student, or a broken one.
    """
    try:
        card = _read_card(folder)
        network = student_class(card["architecture"])
        model = network(network.config_class(**card["config"]))
        model.load_state_dict(weights := load_file(folder / STUDENT_WEIGHTS))
        check_finite(weights.items(), folder)
        tokenizer = model.load_tokenizer(folder, card, segmenter or Segmenter())
        labels, temperature = tuple(card["labels"]), float(card.get("temperature", 1.0))
        thresholds, tasks = tuple(map(float, card.get("thresholds", ()))), tasks_of(card.get("tasks", ()))
        return model.eval(), tokenizer, labels, temperature, thresholds, tasks
    except LOAD_ERRORS as error:
        raise UserError(f"this student is broken: {error}", folder, TRAIN_STUDENT) from error


def load_word_student(
    folder: Path, segmenter: Segmenter | None = None
) -> tuple[Student, WordTokenizer, tuple[str, ...], float, tuple[float, ...], tuple[Task, ...]]:
    """Like :func:`load_student_parts`, for a student that labels any text.

    Raises:
        UserError: the folder holds no student, a broken one, or one that labels only the texts of its graph.
    """
    model, tokenizer, labels, temperature, thresholds, tasks = load_student_parts(folder, segmenter)
    if not isinstance(model, Student) or not isinstance(tokenizer, WordTokenizer):
        what = f"a {architecture_of(model)} labels only the texts of its graph, so it cannot be exported"
        hint = "another student, distilled from it: --student bilstm --teacher FOLDER"
        # it labels no general texts, and has no vectors of words
        raise UserError(what, folder, f"{hint} --vectors bundled --general_words 0 --general_sentences 0")
    return model, tokenizer, labels, temperature, thresholds, tasks


def recorded_segmenter(folder: Path) -> dict[str, str]:
    """The segmenter that a student over words was trained with, as :attr:`Segmenter.identity` describes it."""
    segmenter: dict[str, str] = json.loads((folder / STUDENT_CARD).read_text(encoding="utf-8"))["segmenter"]
    return segmenter


def _read_card(folder: Path) -> dict[str, Any]:
    """The card, if every file that its architecture needs is there."""
    path = folder / STUDENT_CARD
    card: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    network = student_class(card["architecture"]) if card else Student
    missing = [name for name in (STUDENT_CARD, STUDENT_WEIGHTS, *network.files) if not (folder / name).is_file()]
    if missing:
        raise UserError(f"not a student's folder: {', '.join(missing)} missing", folder, TRAIN_STUDENT)
    return card
