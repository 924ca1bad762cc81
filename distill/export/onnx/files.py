"""A trained student or teacher as an ONNX file, checked against PyTorch before it is in its place.

PyTorch's TorchScript exporter writes it: the newer one needs onnxscript and knows no packed sequences, which become the
standard LSTM and GRU with ``sequence_lens`` here. torch is pinned in requirements.txt, so it is there.
"""

from __future__ import annotations

import contextlib
import json
import logging
import math
import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor, nn

from distill.errors import UserError
from distill.export.onnx.classifier import TOKENIZER, OnnxClassifier, card_of, first_line, needed
from distill.export.onnx.tensors import SIGNATURES, Signature
from distill.models.predictor import TextClassifier
from distill.models.registry import CARD, VOCABULARY, Words, load_student_parts
from distill.models.teacher import Wordpieces, load_teacher_parts
from distill.progress import log
from distill.storage.atomic import write_file, write_folder, write_json
from distill.text.segmentation import Segmenter

OPSET = 17  # the first with LayerNormalization
TOLERANCE = 1e-3  # between logits of PyTorch and onnxruntime, both in float32
SAMPLES = ("球队今天公布新消息", "股票和基金的价格为什么又上了头条，大家怎么看？", "iPhone 17 Pro 降价 3.5%", "", "好")


def export_student(folder: Path, target: Path, segmenter: Segmenter | None = None) -> list[Path]:
    """Write student.onnx, its card and vocabulary.txt; the folder ``target`` is replaced once they are whole.

    Raises:
        UserError: a package is missing; there is no student, or a textgcn; the file disagrees with PyTorch.
    """
    model, words, labels, temperature = load_student_parts(folder, segmenter)
    if not isinstance(words, Words):
        what = "a textgcn knows only the texts of its graph, so there is no ONNX file that could take others"
        raise UserError(what, folder, "another student, such as --student bilstm, taught by it: --teacher FOLDER")
    card = {
        "max_length": words.max_length,
        "ngrams": words.ngrams,
        "segmenter": json.loads((folder / CARD).read_text(encoding="utf-8"))["segmenter"],
    }
    with write_folder(target) as temporary:
        words.vocabulary.save(temporary / VOCABULARY)
        _write(temporary / "student.onnx", TextClassifier(model, words, labels, temperature), "student", card)
    return sorted(target.iterdir())


def export_teacher(folder: Path, target: Path, int8: bool = False) -> list[Path]:
    """Write teacher.onnx (or teacher-int8.onnx), its card and tokenizer.json; ``target`` is replaced at the end.

    With ``int8`` the weights are in 8 bits, and inputs of a product are rounded to 8 bits as they come
    (onnxruntime's dynamic quantisation): the logits are near PyTorch's, not the same.

    Raises:
        UserError: a package is missing; there is no teacher, or one that cannot be traced or whose tokenizer has no
            tokenizer.json; the file disagrees with PyTorch.
    """
    model, pieces, labels = load_teacher_parts(folder)
    model.bf16 = False
    card = {
        "max_length": pieces.max_length,
        "prefix": pieces.prefix,
        "pooling": model.pooling,
        "unknown": pieces.tokenizer.unk_token or "",
        "pad_id": pieces.tokenizer.pad_token_id,
    }
    name = "teacher-int8.onnx" if int8 else "teacher.onnx"
    with write_folder(target) as temporary:
        write_file(temporary / TOKENIZER, _tokenizer_json(pieces, folder))
        _write(temporary / name, TextClassifier(model, pieces, labels), "teacher", card, int8)
    return sorted(target.iterdir())


def _tokenizer_json(pieces: Wordpieces, folder: Path) -> str:
    """The tokenizer as every program with the package tokenizers loads it, told to cut where the teacher cuts."""
    fast = getattr(pieces.tokenizer, "backend_tokenizer", None)
    if not isinstance(fast, Tokenizer):
        raise UserError("its tokenizer has no tokenizer.json", folder, "a teacher with a fast tokenizer, such as BERT")
    rust = Tokenizer.from_str(fast.to_str())  # a copy
    rust.no_padding()
    rust.enable_truncation(pieces.max_length, direction=pieces.tokenizer.truncation_side)
    return rust.to_str()


def _write(path: Path, classifier: TextClassifier, kind: str, card: dict[str, Any], int8: bool = False) -> None:
    """The ONNX file and its card, once it has agreed with PyTorch on the samples."""
    onnx, _ = needed("onnx"), needed("onnxruntime")
    inputs = _trace(path, classifier, SIGNATURES[kind])
    if int8:
        _quantise(path)
    onnx.checker.check_model(str(path), full_check=True)
    common = {"kind": kind, "labels": list(classifier.labels), "temperature": classifier.temperature, "inputs": inputs}
    write_json(card_of(path), common | {"output": "logits: float32 (batch, classes)"} | card)
    _compare(path, classifier, math.inf if int8 else TOLERANCE)


class _OfTensors(nn.Module):
    """A model that takes a batch as plain tensors."""

    def __init__(self, model: nn.Module, signature: Signature) -> None:
        super().__init__()
        self.model, self.signature = model.eval(), signature

    def forward(self, *tensors: Tensor) -> Tensor:
        """Logits, shape (batch, classes)."""
        logits: Tensor = self.model(self.signature.batch(*tensors))
        return logits


def _trace(path: Path, classifier: TextClassifier, signature: Signature) -> dict[str, str]:
    """Write the file; returns what each of its inputs holds."""
    batch = classifier.input.encode(SAMPLES).batch(torch.arange(len(SAMPLES)))
    tensors = signature.named(batch)
    axes = {name: dict(enumerate(["batch", f"{name}_length"][: part.ndim])) for name, part in tensors.items()}
    names: dict[str, Any] = {"input_names": list(tensors), "output_names": ["logits"]}
    try:
        with _hushed(), torch.no_grad():
            torch.onnx.export(
                _OfTensors(classifier.model, signature),
                tuple(tensors.values()),
                path,
                dynamic_axes=axes | {"logits": {0: "batch"}},
                opset_version=OPSET,
                dynamo=False,
                **names,
            )
    except (RuntimeError, ValueError, TypeError) as error:
        what = f"PyTorch cannot write this model as ONNX: {first_line(error)}"
        raise UserError(what, None, "another --teacher_model") from error
    return {name: signature.inputs[name] for name in tensors}


def _quantise(path: Path) -> None:
    """Put the file's 8-bit form in its place.

    A scale for each column, and weights that use 7 of the 8 bits: where a processor adds pairs of products in 16 bits
    (x86 without VNNI), larger ones would overflow.
    """
    quantization = needed("onnxruntime.quantization")
    whole = path.rename(path.with_suffix(".float32"))
    with _hushed():
        kind = quantization.QuantType.QInt8
        quantization.quantize_dynamic(whole, path, per_channel=True, reduce_range=True, weight_type=kind)
    whole.unlink()


def _compare(path: Path, classifier: TextClassifier, allowed: float) -> None:
    """Raise UserError where the file, asked in batches of other sizes than it was traced with, says something else."""
    wanted = classifier.logits(SAMPLES).numpy()
    segmenter = classifier.input.segmenter if isinstance(classifier.input, Words) else None
    found = OnnxClassifier(path, batch_size=2, segmenter=segmenter).logits(SAMPLES)
    difference = float(np.abs(found - wanted).max())
    if not difference <= allowed:  # NaN too
        what = f"onnxruntime's logits differ from PyTorch's by {difference:.2g}; nothing was written"
        raise UserError(what, path.name, "the versions of requirements.txt and requirements-onnx.txt")
    log.info("%s: logits within %.1g of PyTorch's on %d texts", path.name, difference, len(SAMPLES))


@contextlib.contextmanager
def _hushed() -> Iterator[None]:
    """Without the exporters' many warnings; some of C++ go straight to the process' standard error."""
    kept, root, silent = os.dup(2), logging.getLogger(), logging.NullHandler()
    root.addHandler(silent)  # without any, ``logging.warning`` would add one for good, and all messages came twice
    with warnings.catch_warnings(), Path(os.devnull).open("w") as nowhere:
        warnings.simplefilter("ignore")
        os.dup2(nowhere.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)
            root.removeHandler(silent)
