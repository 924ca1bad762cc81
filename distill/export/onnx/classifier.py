"""An ONNX file that labels raw texts: its card, its input, a session of onnxruntime."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from distill.errors import UserError, require_texts
from distill.export.onnx.tensors import SIGNATURES
from distill.models.inference import PREDICTION_BATCH
from distill.models.registry import VOCABULARY, Words
from distill.models.teacher import Wordpieces
from distill.text.batching import sorted_by_length
from distill.text.segmentation import Segmenter
from distill.text.vocabulary import Vocabulary

TOKENIZER = "tokenizer.json"
AGAIN = "python distill.py --mode export --format onnx"


def needed(package: str) -> Any:
    """A third-party package that only ONNX files need.

    Raises:
        UserError: it is not installed.
    """
    try:
        return importlib.import_module(package)
    except ImportError as error:
        what = f"ONNX files need the package {package.partition('.')[0]}: {error}"
        raise UserError(what, None, "pip install -r requirements-onnx.txt") from error


def first_line(error: Exception) -> str:
    """What an exception of another library says, short enough for a message."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def card_of(path: Path) -> Path:
    """The card beside an ONNX file: what it takes and what its answers mean."""
    return path.with_name(f"{path.name}.json")


@dataclass(frozen=True)
class Pieces:
    """The exported tokenizer, called as :class:`Wordpieces` calls one of transformers; its file says where to cut."""

    rust: Tokenizer
    unk_token: str
    pad_token_id: int

    def __call__(self, texts: list[str], **_: object) -> dict[str, list[list[int]]]:
        """Ids of the word pieces of every text."""
        return {"input_ids": [pieces.ids for pieces in self.rust.encode_batch(texts)]}


class OnnxClassifier:
    """A student or teacher in onnxruntime, on the processor: raw texts in, labels out.

    Args:
        path: the ONNX file; what :func:`export_student` or :func:`export_teacher` wrote beside it is needed too.
        threads: of onnxruntime; 0: one a core. Texts are cut into words in one thread.
        batch_size: texts that run at once, of like lengths and padded to their longest.
        segmenter: the one of a student's training; None: jieba without a user dictionary.

    Raises:
        UserError: onnxruntime is missing, or the file or what belongs to it is missing or damaged.
    """

    def __init__(
        self,
        path: str | Path,
        threads: int = 1,
        batch_size: int = PREDICTION_BATCH,
        segmenter: Segmenter | None = None,
    ) -> None:
        self.card, self._input = _read(Path(path), segmenter or Segmenter())
        self.labels = tuple(self.card["labels"])
        self.temperature = float(self.card["temperature"])
        self._signature = SIGNATURES[self.card["kind"]]
        self._batch_size = batch_size
        self._session = _session(Path(path), threads)

    def logits(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Logits in the order of the texts, shape (texts, classes).

        Raises:
            UserError: a text is no string.
        """
        require_texts(texts)
        packed = self._input.encode(texts)
        logits = np.empty((len(texts), len(self.labels)), np.float32)
        for rows in sorted_by_length(packed.lengths, self._batch_size) if len(texts) else ():
            tensors = self._signature.named(packed.batch(rows))
            logits[rows.numpy()] = self._session.run(None, {name: part.numpy() for name, part in tensors.items()})[0]
        return logits

    def predict(self, texts: Sequence[str]) -> list[str]:
        """The label of every text."""
        return [self.labels[place] for place in self.logits(texts).argmax(1)]


def _read(path: Path, segmenter: Segmenter) -> tuple[dict[str, Any], Words | Wordpieces]:
    try:
        card = json.loads(card_of(path).read_text(encoding="utf-8"))
        missing = {"labels", "temperature"} - set(card)
        if missing:
            raise KeyError(*sorted(missing))
        return card, INPUTS[card["kind"]](path, card, segmenter)
    except OSError as error:
        raise UserError("a file that belongs to the ONNX file cannot be read", error.filename, AGAIN) from error
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"this card is broken: {error!r}", card_of(path), AGAIN) from error


def _words(path: Path, card: dict[str, Any], segmenter: Segmenter) -> Words:
    segmenter.warn_of_mismatch(path, card["segmenter"])
    return Words(Vocabulary.load(path.with_name(VOCABULARY)), card["max_length"], card["ngrams"], segmenter)


def _wordpieces(path: Path, card: dict[str, Any], _: Segmenter) -> Wordpieces:
    text = path.with_name(TOKENIZER).read_text(encoding="utf-8")
    try:
        rust = Tokenizer.from_str(text)
    except Exception as error:  # a bare Exception is what it raises
        raise UserError(f"this tokenizer is broken: {error}", path.with_name(TOKENIZER), AGAIN) from error
    return Wordpieces(Pieces(rust, card["unknown"], card["pad_id"]), card["prefix"], card["max_length"])


INPUTS: dict[str, Callable[[Path, dict[str, Any], Segmenter], Words | Wordpieces]] = {
    "student": _words,
    "teacher": _wordpieces,
}


def _session(path: Path, threads: int) -> Any:
    runtime = needed("onnxruntime")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3  # errors alone
    try:
        return runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's exceptions have no base of their own
        raise UserError(f"onnxruntime cannot load this file: {first_line(error)}", path, AGAIN) from error
