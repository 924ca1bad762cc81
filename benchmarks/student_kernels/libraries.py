"""Kernels from libraries: the LSTM of PyTorch and of onnxruntime, unchanged and quantised."""

from __future__ import annotations

import copy
from functools import partial
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from folded import Floats, Run, Texts
from onnxruntime.quantization import quantize_dynamic
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from distill.export.onnx import export_student
from distill.models.bilstm import BiLSTM
from distill.models.checkpoint import save_student
from distill.models.tokenizer import WordTokenizer
from distill.text.batching import Batch
from distill.text.vocabulary import PAD, UNKNOWN, Vocabulary

LONGEST = 30  # words of a text at most


@torch.inference_mode()
def in_torch(model: torch.nn.Module, batch: Texts, bf16: bool = False) -> Floats:
    """Run the student in PyTorch; without oneDNN where oneDNN has no bf16 LSTM (below AVX-512)."""
    inputs = Batch(torch.from_numpy(batch.ids).long(), torch.from_numpy(batch.lengths).long())
    one_dnn = not bf16 or torch.backends.cpu.get_cpu_capability() == "AVX512"
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16), torch.backends.mkldnn.flags(enabled=one_dnn):
        logits: Floats = model(inputs).float().numpy()
    return logits


def quantised_torch(model: BiLSTM) -> Run:
    """Quantise the LSTM's weights to 8 bits, and its input for each batch; it takes packed sequences only."""
    quantised = torch.ao.quantization.quantize_dynamic(copy.deepcopy(model), {torch.nn.LSTM}, torch.qint8)

    def states(vectors: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        packed = pack_padded_sequence(vectors, lengths, batch_first=True)
        return pad_packed_sequence(quantised.lstm(packed)[0], batch_first=True)[0]

    quantised._states = states  # a quantised LSTM has no weights for the student's own method
    return partial(in_torch, quantised)


def onnx_file(model: BiLSTM, folder: Path) -> Path:
    """Write the student as --format onnx does; its words and labels have placeholder names."""
    words = WordTokenizer(Vocabulary((PAD, UNKNOWN, *(f"w{place}" for place in range(2, model.config.words)))), LONGEST)
    save_student(folder / "student", model, words, [str(label) for label in range(model.config.classes)])
    export_student(folder / "student", folder / "onnx")
    return folder / "onnx" / "student.onnx"


def quantised_file(path: Path) -> Path:
    """Write the same file with onnxruntime's DynamicQuantizeLSTM."""
    quantised = path.with_name("int8.onnx")
    quantize_dynamic(path, quantised, op_types_to_quantize=["LSTM"])
    return quantised


def in_onnxruntime(path: Path, threads: int) -> Run:
    """Run a file in onnxruntime."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = threads, 3
    session = onnxruntime.InferenceSession(path, options)

    def run(batch: Texts) -> Floats:
        inputs = {"words": batch.ids.astype(np.int64), "lengths": batch.lengths.astype(np.int64)}
        logits: Floats = session.run(None, inputs)[0]
        return logits

    return run
