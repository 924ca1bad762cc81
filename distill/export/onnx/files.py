"""Export a trained student or teacher as an ONNX file, compared with PyTorch before it replaces an older one.

PyTorch's TorchScript exporter writes the file. The newer exporter needs onnxscript and cannot export packed sequences,
which become the standard LSTM and GRU operators with ``sequence_lens`` here. requirements.txt pins a version of
torch that still has the exporter.
"""

from __future__ import annotations

import contextlib
import ctypes
import logging
import math
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor, nn

from distill.errors import UserError
from distill.export.onnx.classifier import TOKENIZER_FILE, OnnxClassifier, first_line, import_optional, metadata_path
from distill.export.onnx.tensors import SIGNATURES, Signature
from distill.models.checkpoint import load_word_student, recorded_segmenter
from distill.models.teacher import WordpieceTokenizer, load_teacher_parts
from distill.models.text_classifier import TextClassifier
from distill.models.tokenizer import WordTokenizer
from distill.progress import log
from distill.storage.atomic import write_file, write_folder, write_json
from distill.storage.run_folder import VOCABULARY
from distill.text.segmentation import Segmenter

OPSET = 17  # the first with LayerNormalization
TOLERANCE = 1e-3  # between logits of PyTorch and onnxruntime, both in float32
SAMPLES = ("球队今天公布新消息", "股票和基金的价格为什么又上了头条，大家怎么看？", "iPhone 17 Pro 降价 3.5%", "", "好")
CPP_ERROR = 2  # PyTorch's C++ log level, see TORCH_CPP_LOG_LEVEL


def export_student(folder: Path, target: Path, segmenter: Segmenter | None = None) -> list[Path]:
    """Write student.onnx, its card and vocabulary.txt, replacing ``target`` atomically; returns the files.

    Raises:
        UserError: a package is missing; there is no student, or one that labels only the texts of its graph; the file's
            logits differ from PyTorch's.
    """
    model, tokenizer, labels, temperature, thresholds, tasks = load_word_student(folder, segmenter)
    card = {
        "max_length": tokenizer.max_length,
        "ngrams": tokenizer.ngram_buckets,
        "segmenter": recorded_segmenter(folder),
    }
    with write_folder(target) as temporary:
        tokenizer.vocabulary.save(temporary / VOCABULARY)
        classifier = TextClassifier(model, tokenizer, labels, temperature, thresholds, tasks)
        _write(temporary / "student.onnx", classifier, "student", card)
    return sorted(target.iterdir())


def export_teacher(folder: Path, target: Path, int8: bool = False) -> list[Path]:
    """Write teacher.onnx (or teacher-int8.onnx), its card and tokenizer.json, replacing ``target`` atomically.

    With ``int8`` weights have 8 bits, and the inputs of matrix products are quantised to 8 bits on the fly
    (onnxruntime's dynamic quantisation): the logits are close to PyTorch's, not equal.

    Raises:
        UserError: a package is missing; there is no teacher, or one that cannot be traced or whose tokenizer has no
            tokenizer.json; the file's logits differ from PyTorch's.
    """
    model, tokenizer, labels, thresholds = load_teacher_parts(folder)
    model.bf16 = False
    card = {
        "max_length": tokenizer.max_length,
        "prefix": tokenizer.prefix,
        "pooling": model.pooling,
        "unknown": tokenizer.tokenizer.unk_token or "",
        "pad_id": tokenizer.tokenizer.pad_token_id,
    }
    name = "teacher-int8.onnx" if int8 else "teacher.onnx"
    with write_folder(target) as temporary:
        write_file(temporary / TOKENIZER_FILE, _tokenizer_json(tokenizer, folder))
        _write(temporary / name, TextClassifier(model, tokenizer, labels, thresholds=thresholds), "teacher", card, int8)
    return sorted(target.iterdir())


def _tokenizer_json(tokenizer: WordpieceTokenizer, folder: Path) -> str:
    """The tokenizer as a tokenizer.json that truncates to the teacher's length and does not pad."""
    fast = getattr(tokenizer.tokenizer, "backend_tokenizer", None)
    if not isinstance(fast, Tokenizer):
        raise UserError("its tokenizer has no tokenizer.json", folder, "a teacher with a fast tokenizer, such as BERT")
    copied = Tokenizer.from_str(fast.to_str())
    copied.no_padding()
    copied.enable_truncation(tokenizer.max_length, direction=tokenizer.tokenizer.truncation_side)
    return copied.to_str()


def _write(path: Path, classifier: TextClassifier, kind: str, card: dict[str, Any], int8: bool = False) -> None:
    """Write the ONNX file and its card, and check the file."""
    onnx, _ = import_optional("onnx"), import_optional("onnxruntime")
    inputs = _trace(path, classifier, SIGNATURES[kind])
    if int8:
        _quantise(path)
    onnx.checker.check_model(str(path), full_check=True)
    common = {"kind": kind, "labels": list(classifier.labels), "temperature": classifier.temperature, "inputs": inputs}
    decisions = {"thresholds": list(classifier.thresholds), "tasks": [task.card for task in classifier.tasks]}
    common |= {name: values for name, values in decisions.items() if values}
    write_json(metadata_path(path), common | {"output": "logits: float32 (batch, classes)"} | card)
    _compare(path, classifier, math.inf if int8 else TOLERANCE)


class _TensorModel(nn.Module):
    """A model whose arguments are the tensors of a batch."""

    def __init__(self, model: nn.Module, signature: Signature) -> None:
        super().__init__()
        self.model, self.signature = model.eval(), signature

    def forward(self, *tensors: Tensor) -> Tensor:
        """Logits, shape (batch, classes)."""
        logits: Tensor = self.model(self.signature.batch(*tensors))
        return logits


def _trace(path: Path, classifier: TextClassifier, signature: Signature) -> dict[str, str]:
    """Write the ONNX file; returns a description of each of its inputs."""
    batch = classifier.tokenizer.encode(SAMPLES).batch(torch.arange(len(SAMPLES)))
    tensors = signature.tensors_by_name(batch)
    axes = {name: dict(enumerate(["batch", f"{name}_length"][: tensor.ndim])) for name, tensor in tensors.items()}
    names: dict[str, Any] = {"input_names": list(tensors), "output_names": ["logits"]}
    try:
        with _silent_exporters(), torch.no_grad():
            torch.onnx.export(
                _TensorModel(classifier.model, signature),
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
    """Replace the file by its 8-bit form.

    Weights have a scale per column and use 7 of the 8 bits: a CPU that adds pairs of products in 16 bits (x86 without
    VNNI) would overflow with larger ones.
    """
    quantization = import_optional("onnxruntime.quantization")
    float32 = path.rename(path.with_suffix(".float32"))
    with _silent_exporters():
        weight_type = quantization.QuantType.QInt8
        quantization.quantize_dynamic(float32, path, per_channel=True, reduce_range=True, weight_type=weight_type)
    float32.unlink()


def _compare(path: Path, classifier: TextClassifier, tolerance: float) -> None:
    """Compare the file's logits with PyTorch's, with a batch size other than that of the trace.

    Raises:
        UserError: they differ by more than ``tolerance``.
    """
    expected = classifier.logits(SAMPLES).numpy()
    segmenter = classifier.tokenizer.segmenter if isinstance(classifier.tokenizer, WordTokenizer) else None
    actual = OnnxClassifier(path, batch_size=2, segmenter=segmenter).logits(SAMPLES)
    difference = float(np.abs(actual - expected).max())
    if not difference <= tolerance:  # true for NaN
        what = f"onnxruntime's logits differ from PyTorch's by {difference:.2g}; nothing was written"
        raise UserError(what, path.name, "the versions of requirements.txt and requirements-dev.txt")
    log.info("%s: logits within %.1g of PyTorch's on %d texts", path.name, difference, len(SAMPLES))


@contextlib.contextmanager
def _silent_exporters() -> Iterator[None]:
    """Suppress the warnings of PyTorch's exporter and of onnxruntime's quantisation, which users cannot act on.

    PyTorch's C++ warnings go past Python to standard error; only the variable behind TORCH_CPP_LOG_LEVEL stops them.
    onnxruntime calls ``logging.warning``, which adds a handler for good if the root logger has none.
    """
    level, root, discard = _cpp_log_level(), logging.getLogger(), logging.NullHandler()
    before = level.value
    root.addHandler(discard)
    level.value = max(before, CPP_ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        level.value = before
        root.removeHandler(discard)


def _cpp_log_level() -> ctypes.c_int:
    """PyTorch's C++ log level; a variable without effect if this version of PyTorch does not export it."""
    try:
        return ctypes.c_int.in_dll(ctypes.CDLL(torch._C.__file__), "FLAGS_caffe2_log_level")
    except (OSError, ValueError):
        return ctypes.c_int()
