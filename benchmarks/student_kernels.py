"""Measure the kernels that were tried for the student's biLSTM, from word ids to logits: speed, exactness and size.

python benchmarks/student_kernels.py

The biLSTM has 128 units in each direction and random weights. Writes kernels.json and kernels.md to student_kernels/.
The README.md there describes the method; the kernels are in libraries.py, folded.py and fp32.c.
"""

from __future__ import annotations

import argparse
import logging
import platform
import statistics
import sys
import tempfile
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numba
import numpy as np
import onnxruntime
import torch
from threadpoolctl import threadpool_limits

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent), str(HERE / "student_kernels")]

from folded import Run, Texts, fold, in_c_floats, in_numba, in_numpy  # noqa: E402
from libraries import LONGEST, in_onnxruntime, in_torch, onnx_file, quantised_file, quantised_torch  # noqa: E402
from published import publish  # noqa: E402

from distill.evaluation.timing import (  # noqa: E402
    Workload,
    interleaved_rounds,
    processor,
)
from distill.export.bundle import network_arrays  # noqa: E402
from distill.models.bilstm import BiLSTM, BiLSTMConfig  # noqa: E402
from distill.reporting.tables import three_digits  # noqa: E402
from distill.runtime import networks  # noqa: E402
from distill.runtime.native import lanes  # noqa: E402

SEED, BATCH = 42, 256
SIZES = BiLSTMConfig(words=20_000, width=100, hidden=128, classes=5)
DEVIATIONS = {"embedding.weight": 1.0, "classifier.weight": 0.3}  # of the random weights; 0.1 for all others
FOLDED_NUMBERS = SIZES.words * 8 * SIZES.hidden
TITLES = (
    *("kernel", "precision", "µs per text", "lowest to highest", "times PyTorch", "largest error of a logit"),
    *("equal labels", "folded inputs, MB", "needs"),
)


@dataclass(frozen=True)
class Variant:
    """A kernel in a precision, its requirement, and the type of its folded inputs (empty if it has none)."""

    kernel: str
    precision: str
    needs: str
    run: Run
    folded: str = ""

    @property
    def folded_mb(self) -> float:
        """Megabytes (10^6 bytes) of the folded inputs when they contain every word."""
        return FOLDED_NUMBERS * np.dtype(self.folded).itemsize / 1e6 if self.folded else 0.0


def random_batches(count: int) -> list[Texts]:
    """Return batches of texts of 2 to 30 words, about 13, from a Zipf distribution; the longest texts come first."""
    random = np.random.default_rng(SEED)
    lengths = np.sort(random.normal(13, 4, count).round().clip(2, LONGEST).astype(np.int32))[::-1].copy()
    ids = np.exp(random.uniform(np.log(2), np.log(SIZES.words), (count, LONGEST))).astype(np.int32)
    ids[np.arange(LONGEST) >= lengths[:, None]] = 0
    boundaries = range(BATCH, count, BATCH)
    return [
        Texts(np.ascontiguousarray(part[:, : part_lengths[0]]), part_lengths)
        for part, part_lengths in zip(np.split(ids, boundaries), np.split(lengths, boundaries), strict=True)
    ]


def random_student(batches: Sequence[Texts]) -> BiLSTM:
    """Return a student whose weights leave the gates half open and spread the logits; no class is rare."""
    torch.manual_seed(SEED)
    model = BiLSTM(SIZES).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.normal_(0, DEVIATIONS.get(name, 0.1))
        model.classifier.bias.sub_(torch.from_numpy(all_logits(partial(in_torch, model), batches).mean(0)))
    return model


def all_logits(run: Run, batches: Sequence[Texts]) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Return the logits of all texts, shape (texts, classes)."""
    return np.concatenate([run(batch) for batch in batches])


def variants(model: BiLSTM, threads: int, folder: Path) -> list[Variant]:
    """Return all rows of the table; the others are compared with the first."""
    folded, onnx = fold(model), onnx_file(model, folder)
    kinds = ("float32", "float16", "int16", "int8")
    return [
        Variant("PyTorch", "fp32", "torch", partial(in_torch, model)),
        Variant("PyTorch, autocast", "bf16", "torch", partial(in_torch, model, bf16=True)),
        Variant("PyTorch, dynamically quantised", "int8 LSTM", "torch", quantised_torch(model)),
        Variant("onnxruntime", "fp32", "onnxruntime", in_onnxruntime(onnx, threads)),
        Variant(
            "onnxruntime, dynamically quantised",
            "int8 LSTM",
            "onnxruntime",
            in_onnxruntime(quantised_file(onnx), threads),
        ),
        *(Variant("numpy", f"fp32, folded in {kind}", "numpy", in_numpy(folded, kind), kind) for kind in kinds),
        Variant("numba", "fp32", "numba", in_numba(folded), "float32"),
        Variant("C", "fp32", "C compiler", in_c_floats(folded, folder), "float32"),
        Variant("**C, in use**", "int8, folded in int16", "C compiler", in_bundle(model), "int16"),
    ]


def in_bundle(model: BiLSTM) -> Run:
    """Return the kernel that a bundle runs."""
    student = networks.StudentNetwork(*network_arrays(model))

    def run(batch: Texts) -> Any:
        rows, starts = np.empty(0, np.int32), np.zeros(len(batch.ids) + 1, np.int64)
        return student.logits(networks.encoded_texts(batch.ids, batch.lengths, rows, starts))

    return run


def measured(rows: Sequence[Variant], batches: Sequence[Texts], rounds: int) -> list[dict[str, Any]]:
    """Measure every variant and return the rows of the table."""
    texts: Any = range(sum(len(batch.ids) for batch in batches))  # the timer only needs their number
    logits = [all_logits(row.run, batches) for row in rows]
    tasks = {
        place: Workload(lambda _, run=row.run: all_logits(run, batches), texts, rounds)  # type: ignore[arg-type,misc]
        for place, row in enumerate(rows)
    }
    seconds = interleaved_rounds(tasks)
    medians = [statistics.median(seconds[place]) for place in tasks]
    return [
        {
            "kernel": row.kernel,
            "precision": row.precision,
            "us_per_text": 1e6 * medians[place],
            "us_rounds": [1e6 * second for second in seconds[place]],
            "times_pytorch": medians[0] / medians[place],
            "largest_error": float(np.abs(logits[place] - logits[0]).max()),
            "equal_labels": float((logits[place].argmax(1) == logits[0].argmax(1)).mean()),
            "largest_logit": float(np.abs(logits[place]).max()),
            "folded_mb": row.folded_mb,
            "needs": row.needs,
        }
        for place, row in enumerate(rows)
    ]


def write(rows: Sequence[dict[str, Any]], machine: dict[str, Any]) -> None:
    """Write the table and the figures."""
    body = [
        [
            row["kernel"],
            row["precision"],
            three_digits(row["us_per_text"]),
            f"{three_digits(min(row['us_rounds']))} to {three_digits(max(row['us_rounds']))}",
            three_digits(row["times_pytorch"]),
            f"{row['largest_error']:.1g}",
            f"{100 * row['equal_labels']:.2f} %",
            three_digits(row["folded_mb"]) if row["folded_mb"] else "-",
            row["needs"],
        ]
        for row in rows
    ]
    conditions = ", ".join(f"{name} {value}" for name, value in machine.items())
    note = f"The largest logit is {three_digits(rows[0]['largest_logit'])}. Measured with {conditions}."
    found = {"machine": machine, "rows": rows}
    publish(HERE / "student_kernels" / "kernels", [list(TITLES), *body], note, found)


def main() -> None:
    """Measure and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--texts", type=int, default=3599)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument(
        "--threads", type=int, default=1, help="threads of PyTorch, onnxruntime and numpy's BLAS; the loops use 1"
    )
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")  # of PyTorch: its quantisation is deprecated
    logging.disable(logging.WARNING)  # of onnxruntime: it advises to prepare a graph for quantisation
    torch.set_num_threads(arguments.threads)
    batches = random_batches(arguments.texts)
    with threadpool_limits(arguments.threads), tempfile.TemporaryDirectory() as folder:
        rows = measured(variants(random_student(batches), arguments.threads, Path(folder)), batches, arguments.rounds)
    machine = {**vars(arguments), "processor": processor(), "vectors": f"of {32 * lanes()} bits"}
    machine |= {"PyTorch for": torch.backends.cpu.get_cpu_capability(), "Python": platform.python_version()}
    machine |= {module.__name__: module.__version__ for module in (torch, onnxruntime, np, numba)}
    write(rows, machine)


if __name__ == "__main__":
    main()
