"""Times for the report: what ships and what it replaces, and every trained model in PyTorch."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from distill.commands.benchmark.candidates import exported_bundle, reference_model
from distill.commands.benchmark.timing import THREADS, Candidate, Effort, measurements, opened, threads_restored
from distill.errors import UserError
from distill.evaluation import timing
from distill.evaluation.baselines.bert_base import FOLDER
from distill.models.inference import PREDICTION_BATCH, predict_logits
from distill.models.teacher import has_fast_bf16
from distill.models.text_classifier import TextClassifier
from distill.reporting.speed import Measurement, Shipped, rows_of
from distill.reporting.translation import Text

BUNDLE = "student, bundle"
Key = tuple[str, int]  # kind of model, seed
STUDENT = Effort(timing.TEXTS, timing.RUNS, 256)
# BERT-like models are slow: few texts, in batches so small that about as much of them is padding as with many texts
TEACHER, TEACHER_BATCH = Effort(64, timing.RUNS, 16), 16
BERT, BERT_BATCH = Effort(32, 2, 8), 8


@dataclass(frozen=True)
class Shipping:
    """What ships and what it replaces.

    Args:
        student: the student that ships.
        teacher: the model that it replaces; None: there is none.
        bundle: the student's bundle; None: there is none, and the student in PyTorch is timed instead.
        remark: a sentence that says why there is no bundle.
    """

    student: Key
    teacher: Key | None
    bundle: Path | None
    remark: str = ""


def time_models(
    models: Mapping[Key, TextClassifier], texts: Sequence[str], shipping: Shipping | None
) -> tuple[dict[Key, float], Shipped | None]:
    """Time all models on the CPU, their rounds interleaved.

    Returns the milliseconds per text of every model in PyTorch on all threads, and the speed of what ships; without
    ``shipping`` that is None.
    """
    with threads_restored() as available:
        in_torch = {key: _in_torch(key, model, shipping, available) for key, model in models.items()}
        compared, remarks = _compared(in_torch, shipping, available) if shipping else ([], [])
        candidates = list({candidate.name: candidate for candidate in (*in_torch.values(), *compared)}.values())
        measured = measurements(*opened(candidates), texts, singles_on_all=True)
    seconds = {(row.name, row.threads): statistics.median(row.rounds) for row in measured}
    ms_per_text = {key: 1000 * seconds[candidate.name, available] for key, candidate in in_torch.items()}
    return ms_per_text, _shipped(measured, compared, remarks) if compared else None


def _in_torch(key: Key, model: TextClassifier, shipping: Shipping | None, available: int) -> Candidate:
    """A trained model; what is compared with a bundle on one thread is timed on one thread too."""
    is_compared = shipping is not None and key in (shipping.student, shipping.teacher)
    threads = tuple(sorted({1, available})) if is_compared else (available,)
    if not hasattr(model.model, "bf16"):
        return Candidate(_name(key, "PyTorch"), lambda _: model.predict, PREDICTION_BATCH, STUDENT, threads)
    precision = "bf16" if has_fast_bf16(next(model.model.parameters()).device) else "fp32"

    def predict(texts: Sequence[str]) -> list[int]:
        logits = predict_logits(model.model, model.tokenizer.encode(texts), batch_size=TEACHER_BATCH)
        return [int(label) for label in logits.argmax(1)]

    return Candidate(_name(key, precision), lambda _: predict, TEACHER_BATCH, TEACHER, threads)


def _name(key: Key, form: str) -> str:
    return f"{key[0]} {key[1]}, {form}"


def _compared(
    in_torch: Mapping[Key, Candidate], shipping: Shipping, available: int
) -> tuple[list[Candidate], list[str]]:
    """What ships, its teacher if there is one, and bert-base-chinese; and remarks."""
    shipped, remark = _bundle(shipping, available)
    teacher = [in_torch[shipping.teacher]] if shipping.teacher else []
    bert_remark = Text(
        "BERT-base has its own weights, without fine-tuning: only its time is measured."
        if FOLDER.is_dir()
        else "BERT-base has random weights: only its time is measured."
    )
    bert = dataclasses.replace(reference_model(BERT_BATCH), effort=BERT)
    return [shipped or in_torch[shipping.student], *teacher, bert], [*([remark] if remark else []), bert_remark]


def _bundle(shipping: Shipping, available: int) -> tuple[Candidate | None, str]:
    """The bundle, if there is one that runs on this machine; otherwise a sentence that says why not."""
    from distill import runtime

    if shipping.bundle is None:
        return None, shipping.remark
    try:
        runtime.load(shipping.bundle)
    except UserError as error:
        return None, Text(
            "The bundle cannot be loaded here, so the student was timed in PyTorch: {reason}.", reason=error.what
        )
    threads = tuple(count for count in THREADS if count <= available)
    return exported_bundle(shipping.bundle, BUNDLE, threads), ""


def _shipped(measured: Sequence[Measurement], compared: Sequence[Candidate], remarks: Sequence[str]) -> Shipped:
    """The rows of the compared models, under the names that the report shows."""
    student, *teacher, reference = (candidate.name for candidate in compared)
    is_bundle = student == BUNDLE
    titles = {student: BUNDLE if is_bundle else "student, PyTorch"}
    titles |= {name: f"teacher, {name.rpartition(', ')[2]}" for name in teacher}
    titles[reference] = reference
    rows = [dataclasses.replace(row, name=titles[row.name]) for name in titles for row in measured if row.name == name]
    return Shipped(
        rows=rows_of(rows, reference),
        student=titles[student],
        teacher=titles[teacher[0]] if teacher else "",
        reference=reference,
        is_bundle=is_bundle,
        machine=timing.processor(),
        remarks=remarks,
    )
