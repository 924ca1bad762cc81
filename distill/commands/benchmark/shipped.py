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
from distill.models.teacher import default_precision
from distill.models.text_classifier import TextClassifier
from distill.reporting.speed import Measurement, Shipped, rows_of
from distill.translation import Text

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
        bundle, remark = _bundle(shipping, available) if shipping else (None, "")
        shown = [*([] if bundle else [shipping.student]), shipping.teacher] if shipping else []
        in_torch = {key: _in_torch(key, model, key in shown, available) for key, model in models.items()}
        compared = [*([bundle] if bundle else []), *(in_torch[key] for key in shown if key)]
        compared += [dataclasses.replace(reference_model(BERT_BATCH), effort=BERT)] if shipping else []
        candidates = {candidate.name: candidate for candidate in (*in_torch.values(), *compared)}
        measured = measurements(*opened(list(candidates.values())), texts, singles_on_all=True)
    seconds = {(row.name, row.threads): statistics.median(row.rounds) for row in measured}
    ms_per_text = {key: 1000 * seconds[candidate.name, available] for key, candidate in in_torch.items()}
    return ms_per_text, _shipped(measured, compared, remark) if compared else None


def _in_torch(key: Key, model: TextClassifier, is_shown: bool, available: int) -> Candidate:
    """A trained model; one that the report compares is timed on one thread too, and with single texts."""
    threads = tuple(sorted({1, available})) if is_shown else (available,)
    is_encoder = hasattr(model.model, "bf16")
    effort = TEACHER if is_encoder else STUDENT
    effort = effort if is_shown else dataclasses.replace(effort, singles=0)
    if not is_encoder:
        return Candidate(_name(key, "PyTorch"), lambda _: model.predict, PREDICTION_BATCH, effort, threads)
    precision = default_precision(next(model.model.parameters()).device)

    def predict(texts: Sequence[str]) -> list[int]:
        logits = predict_logits(model.model, model.tokenizer.encode(texts), batch_size=TEACHER_BATCH)
        return [int(label) for label in logits.argmax(1)]

    return Candidate(_name(key, precision), lambda _: predict, TEACHER_BATCH, effort, threads)


def _name(key: Key, form: str) -> str:
    return f"{key[0]} {key[1]}, {form}"


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


def _shipped(measured: Sequence[Measurement], compared: Sequence[Candidate], remark: str) -> Shipped:
    """The rows of the compared models, under the names that the report shows."""
    student, *teacher, reference = (candidate.name for candidate in compared)
    is_bundle = student == BUNDLE
    titles = {student: BUNDLE if is_bundle else "student, PyTorch"}
    titles |= {name: f"teacher, {name.rpartition(', ')[2]}" for name in teacher}
    titles[reference] = reference
    rows = [dataclasses.replace(row, name=titles[row.name]) for name in titles for row in measured if row.name == name]
    bert_remark = Text(
        "BERT-base has its own weights, without fine-tuning: only its time is measured."
        if FOLDER.is_dir()
        else "BERT-base has random weights: only its time is measured."
    )
    return Shipped(
        rows=rows_of(rows, reference),
        student=titles[student],
        teacher=titles[teacher[0]] if teacher else "",
        reference=reference,
        is_bundle=is_bundle,
        machine=timing.processor(),
        remarks=[*([remark] if remark else []), bert_remark],
    )
