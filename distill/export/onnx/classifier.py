"""An ONNX file that labels raw texts: its card, its tokenizer, a session of onnxruntime."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer

from distill.errors import UserError, install_hint, require_texts
from distill.export.onnx.tensors import SIGNATURES
from distill.models.inference import PREDICTION_BATCH
from distill.models.teacher import WordpieceTokenizer
from distill.models.tokenizer import TextTokenizer, WordTokenizer
from distill.runtime.label_sets import exceeding, names_of, sigmoid
from distill.runtime.tasks import by_task, flat_proba, labels_by_task, tasks_of
from distill.text.batching import batches_by_length
from distill.text.segmentation import Segmenter

TOKENIZER_FILE = "tokenizer.json"
EXPORT_ONNX = "python distill.py --mode export --format onnx"


def import_optional(package: str) -> Any:
    """Import a package that only ONNX files need.

    Raises:
        UserError: it is not installed.
    """
    try:
        return importlib.import_module(package)
    except ImportError as error:
        what = f"ONNX files need the package {package.partition('.')[0]}: {error}"
        raise UserError(what, None, install_hint("onnx")) from error


def first_line(error: Exception) -> str:
    """The first line of another library's message."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def metadata_path(path: Path) -> Path:
    """The JSON file next to an ONNX file: its inputs, labels and tokenizer settings."""
    return path.with_name(f"{path.name}.json")


@dataclass(frozen=True)
class ExportedTokenizer:
    """A tokenizer.json with the interface that :class:`WordpieceTokenizer` needs; the file itself sets the truncation.

    Args:
        tokenizer: the loaded file.
        unk_token: the unknown word piece.
        pad_token_id: the id of padding.
    """

    tokenizer: Tokenizer
    unk_token: str
    pad_token_id: int

    def __call__(self, texts: list[str], **_: object) -> dict[str, list[list[int]]]:
        """Ids of the word pieces of every text."""
        return {"input_ids": [encoding.ids for encoding in self.tokenizer.encode_batch(texts)]}


class OnnxClassifier:
    """A student or teacher in onnxruntime, on the CPU: raw texts in, labels out.

    Args:
        path: the ONNX file; the files that :func:`export_student` or :func:`export_teacher` wrote next to it are
            needed too.
        threads: of onnxruntime; 0: one per core. Texts are tokenised in one thread.
        batch_size: texts per batch, of similar length and padded to the longest.
        segmenter: the one of a student's training; None: jieba without a user dictionary.

    Raises:
        UserError: onnxruntime is missing, or a file is missing or damaged.
    """

    def __init__(
        self,
        path: str | Path,
        threads: int = 1,
        batch_size: int = PREDICTION_BATCH,
        segmenter: Segmenter | None = None,
    ) -> None:
        self.card, self._tokenizer = _read(Path(path), segmenter or Segmenter())
        self.labels = tuple(self.card["labels"])
        self.temperature = float(self.card["temperature"])
        self.thresholds = tuple(map(float, self.card.get("thresholds", ())))
        self.tasks = tasks_of(self.card.get("tasks", ()))
        self._signature = SIGNATURES[self.card["kind"]]
        self._batch_size = batch_size
        self._session = _session(Path(path), threads)

    def logits(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Logits in input order, shape (texts, classes).

        Raises:
            UserError: ``texts`` is not a list of strings.
        """
        require_texts(texts)
        packed = self._tokenizer.encode(texts)
        logits = np.empty((len(texts), len(self.labels)), np.float32)
        for rows in batches_by_length(packed.lengths, self._batch_size) if len(texts) else ():
            tensors = self._signature.tensors_by_name(packed.batch(rows))
            feed = {name: tensor.numpy() for name, tensor in tensors.items()}
            logits[rows.numpy()] = self._session.run(None, feed)[0]
        return logits

    def predict(self, texts: Sequence[str]) -> list[Any] | Any:
        """The label of every text; with ``thresholds``, the list of its labels; with ``tasks``, by the task's name."""
        if self.tasks:
            return labels_by_task(self.tasks, flat_proba(self.tasks, self.logits(texts), self.temperature))
        if self.thresholds:
            return names_of(exceeding(self.predict_proba(texts), self.thresholds), self.labels)
        return [self.labels[index] for index in self.logits(texts).argmax(1)]

    def predict_proba(self, texts: Sequence[str]) -> NDArray[np.float32] | Any:
        """Calibrated probabilities, shape (texts, classes), in the order of ``labels``; with ``tasks``, by task."""
        logits = self.logits(texts)
        if self.tasks:
            return by_task(self.tasks, flat_proba(self.tasks, logits, self.temperature))
        if self.thresholds:
            return sigmoid(logits, self.temperature)
        return np.asarray((torch.from_numpy(logits) / self.temperature).softmax(1).numpy())


def _read(path: Path, segmenter: Segmenter) -> tuple[dict[str, Any], TextTokenizer]:
    """The card and the tokenizer of an ONNX file."""
    try:
        card = json.loads(metadata_path(path).read_text(encoding="utf-8"))
        missing = {"labels", "temperature"} - set(card)
        if missing:
            raise KeyError(*sorted(missing))
        return card, TOKENIZERS[card["kind"]](path.parent, card, segmenter)
    except OSError as error:
        raise UserError("a file that belongs to the ONNX file cannot be read", error.filename, EXPORT_ONNX) from error
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"this metadata file is broken: {error!r}", metadata_path(path), EXPORT_ONNX) from error


def _word_tokenizer(folder: Path, card: dict[str, Any], segmenter: Segmenter) -> WordTokenizer:
    return WordTokenizer.load(folder, card, card["ngrams"], segmenter)


def _wordpiece_tokenizer(folder: Path, card: dict[str, Any], _: Segmenter) -> WordpieceTokenizer:
    path = folder / TOKENIZER_FILE
    text = path.read_text(encoding="utf-8")
    try:
        tokenizer = Tokenizer.from_str(text)
    except Exception as error:  # the package raises bare Exceptions
        raise UserError(f"this tokenizer is broken: {error}", path, EXPORT_ONNX) from error
    exported = ExportedTokenizer(tokenizer, card["unknown"], card["pad_id"])
    return WordpieceTokenizer(exported, card["prefix"], card["max_length"])


TOKENIZERS: dict[str, Callable[[Path, dict[str, Any], Segmenter], TextTokenizer]] = {
    "student": _word_tokenizer,
    "teacher": _wordpiece_tokenizer,
}


def _session(path: Path, threads: int) -> Any:
    runtime = import_optional("onnxruntime")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3  # errors only
    try:
        return runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's exceptions have no common base class
        raise UserError(f"onnxruntime cannot load this file: {first_line(error)}", path, EXPORT_ONNX) from error
