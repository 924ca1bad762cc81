"""Kernels that others wrote: PyTorch's and onnxruntime's LSTM, as they come and quantised."""

from __future__ import annotations

import copy
from functools import partial
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from folded import Floats, Run, Texts
from onnxruntime.quantization import quantize_dynamic

from distill.export.onnx import export_student
from distill.models.bilstm import BiLSTM
from distill.models.registry import Words, save_student
from distill.text.batching import Batch
from distill.text.vocabulary import PAD, UNKNOWN, Vocabulary

LONGEST = 30  # words of a text


@torch.inference_mode()
def in_torch(model: torch.nn.Module, batch: Texts, bf16: bool = False) -> Floats:
    """The student as it was trained; where oneDNN has no bf16 LSTM (below AVX-512) PyTorch's own is taken."""
    given = Batch(torch.from_numpy(batch.ids).long(), torch.from_numpy(batch.lengths).long())
    one_dnn = not bf16 or torch.backends.cpu.get_cpu_capability() == "AVX512"
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16), torch.backends.mkldnn.flags(enabled=one_dnn):
        logits: Floats = model(given).float().numpy()
    return logits


def quantised_torch(model: BiLSTM) -> Run:
    """The LSTM's weights in 8 bits, and what it is given, batch by batch."""
    made = torch.ao.quantization.quantize_dynamic(copy.deepcopy(model), {torch.nn.LSTM}, torch.qint8)
    return partial(in_torch, made)


def onnx_file(model: BiLSTM, folder: Path) -> Path:
    """The student as --format onnx writes it; words and labels have names of no meaning."""
    words = Words(Vocabulary((PAD, UNKNOWN, *(f"w{place}" for place in range(2, model.config.words)))), LONGEST)
    save_student(folder / "student", model, words, [str(label) for label in range(model.config.classes)])
    export_student(folder / "student", folder / "onnx")
    return folder / "onnx" / "student.onnx"


def quantised_file(path: Path) -> Path:
    """The same file with onnxruntime's DynamicQuantizeLSTM."""
    quantised = path.with_name("int8.onnx")
    quantize_dynamic(path, quantised, op_types_to_quantize=["LSTM"])
    return quantised


def in_onnxruntime(path: Path, threads: int) -> Run:
    """A file in onnxruntime."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = threads, 3
    session = onnxruntime.InferenceSession(path, options)

    def run(batch: Texts) -> Floats:
        given = {"words": batch.ids.astype(np.int64), "lengths": batch.lengths.astype(np.int64)}
        logits: Floats = session.run(None, given)[0]
        return logits

    return run
