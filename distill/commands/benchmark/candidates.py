"""The candidates of the speed table, one function per model."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from distill.commands.benchmark.timing import QUICK, SLOW, SLOWEST, Candidate, Effort
from distill.commands.experiment import Run
from distill.commands.export import trained_students
from distill.commands.teachers import teachers_of
from distill.errors import UserError
from distill.evaluation.baselines.bert_base import BATCH, bert_base
from distill.evaluation.baselines.bert_base import NAME as BERT
from distill.evaluation.baselines.fasttext import FastText
from distill.export.bundle import export_bundle
from distill.models.inference import PREDICTION_BATCH
from distill.models.teacher import has_fast_bf16
from distill.models.text_classifier import load
from distill.runtime.label_sets import names_of
from distill.storage.fingerprints import fingerprint_texts
from distill.storage.run_folder import size_of
from distill.teachers.saved import SavedTeacher

CPU, GPU = torch.device("cpu"), torch.device("cuda")
FP32, REFERENCE_MODEL = "fp32", f"{BERT}, fp32"

# Code that a fresh process runs to load a model, to measure its memory and start.
BUNDLE = "import distill.runtime; predict = distill.runtime.load(sys.argv[1]).predict"
TORCH = (
    "from distill.models.text_classifier import load; "
    "model = load(sys.argv[1]); model.model.bf16 = {bf16}; predict = model.predict"
)
ONNX = "from distill.export.onnx import OnnxClassifier; predict = OnnxClassifier(sys.argv[1], 1).predict"
BERT_BASE = "from distill.evaluation.baselines.bert_base import bert_base; predict, _ = bert_base()"
JIEBA = "from distill.text.segmentation import Segmenter; predict = lambda texts: list(map(Segmenter().segment, texts))"
SEGMENTER = "import distill.runtime; predict = distill.runtime.load(sys.argv[1]).segment"


@dataclass(frozen=True)
class Bench:
    """A run, an empty folder for exports that are only timed, and the numbers of threads to time with."""

    run: Run
    folder: Path
    threads: tuple[int, ...]


CandidateFactory = Callable[[], Candidate]


def candidate_factories(bench: Bench) -> Iterator[tuple[str, CandidateFactory]]:
    """Names of all rows in the order of the table, each with a function that makes its candidate.

    Such a function raises UserError if the model cannot be timed here.
    """
    folders = trained_students(bench.run)
    names = {folder: f"student {n}, {folder.parent.name}/{folder.name}" for n, folder in enumerate(folders, 1)}
    for folder, name in names.items() if len(folders) > 1 else [(folders[0], "student")]:
        yield f"{name}, bundle", partial(bundle, bench, name, folder)
        yield f"{name}, PyTorch", partial(in_torch, bench.run, f"{name}, PyTorch", folder, threads=bench.threads)
        if torch.cuda.is_available():
            yield f"{name}, GPU", partial(in_torch, bench.run, f"{name}, GPU", folder, device=GPU)
    for part in bench.run.parts:
        name = _of_task("teacher", part)
        yield f"{name}, {FP32}", partial(teacher, bench, part, name, FP32, bf16=False)
        yield f"{name}, bf16", partial(teacher, bench, part, name, "bf16", bf16=True)
        yield f"{name}, ONNX", partial(onnx_teacher, bench, part, name, "ONNX", int8=False)
        yield f"{name}, ONNX int8", partial(onnx_teacher, bench, part, name, "ONNX int8", int8=True)
        if torch.cuda.is_available():
            yield f"{name}, GPU", partial(teacher, bench, part, name, "GPU", device=GPU, bf16=None)
    yield REFERENCE_MODEL, reference_model
    for name, make in (("LinearSVC", linear), ("fastText", fast_text)):
        for part in bench.run.parts:
            yield _of_task(name, part), partial(make, bench, part, _of_task(name, part))
    yield "jieba alone", partial(jieba, bench.run)
    yield "bundle's segmenter alone", partial(segmenter, bench, folders[0])


def _of_task(name: str, run: Run) -> str:
    """The name of a model of one of several tasks; without tasks, the name itself."""
    return f"{name} of {run.task_name}" if run.task_name else name


def bundle(bench: Bench, name: str, folder: Path) -> Candidate:
    """A student's bundle, which needs no PyTorch."""
    path = _exported(bench, folder)
    return dataclasses.replace(
        exported_bundle(path, f"{name}, bundle", bench.threads),
        reference=f"{name}, PyTorch",
        process_code=(BUNDLE, str(path)),
    )


def exported_bundle(path: Path, name: str, threads: tuple[int, ...]) -> Candidate:
    """The bundle in the folder ``path``."""
    from distill import runtime

    return Candidate(
        name=name,
        open=lambda threads: runtime.load(path, threads=threads).predict,
        batch=runtime.MAX_THREAD_BATCH,
        threads=threads,
        bytes=size_of(path),
    )


def in_torch(
    run: Run,
    name: str,
    folder: Path,
    *,
    effort: Effort = QUICK,
    threads: tuple[int, ...] = (1,),
    device: torch.device = CPU,
    bf16: bool | None = False,
    reference: str = "",
) -> Candidate:
    """A student or teacher in PyTorch; ``bf16`` is the precision of a teacher's encoder."""
    classifier = load(folder, run.segmenter).to(device)
    model: Any = classifier.model
    model.bf16 = bf16
    return Candidate(
        name=name,
        open=lambda _: classifier.predict,
        batch=PREDICTION_BATCH,
        effort=effort,
        threads=threads,
        reference=reference,
        process_code=(TORCH.format(bf16=bf16), str(folder)) if device == CPU else (),
        bytes=size_of(folder),
    )


def teacher(
    bench: Bench, run: Run, model: str, form: str, *, device: torch.device = CPU, bf16: bool | None = False
) -> Candidate:
    """The first teacher of a run, or of one of its tasks, in PyTorch; ``model`` and ``form`` make its name."""
    if bf16 and not has_fast_bf16(device):
        raise UserError("this processor has no bfloat16 arithmetic, so it would be slower than fp32")
    threads, reference = bench.threads if device == CPU else (1,), "" if form == FP32 else f"{model}, {FP32}"
    folder, name = _teacher_folder(run), f"{model}, {form}"
    candidate = in_torch(run, name, folder, effort=SLOW, threads=threads, device=device, bf16=bf16, reference=reference)
    return dataclasses.replace(candidate, task=run.task_name)


def _teacher_folder(run: Run) -> Path:
    """The folder of the first teacher.

    Raises:
        UserError: this program did not save it.
    """
    teacher = teachers_of(run)[0]
    if not isinstance(teacher, SavedTeacher):
        raise UserError(f"only teachers that this program trained are timed here, {teacher.name} is another kind")
    return teacher.folder


def onnx_teacher(bench: Bench, run: Run, model: str, form: str, *, int8: bool) -> Candidate:
    """The first teacher of a run, or of one of its tasks, in onnxruntime."""
    from distill.export.onnx import OnnxClassifier, export_teacher

    name = f"{model}, {form}"
    files = export_teacher(_teacher_folder(run), bench.folder / name, int8=int8)
    path = next(file for file in files if file.suffix == ".onnx")
    return Candidate(
        name=name,
        open=lambda threads: OnnxClassifier(path, threads).predict,
        batch=PREDICTION_BATCH,
        effort=SLOW,
        threads=bench.threads,
        reference=f"{model}, {FP32}",
        process_code=(ONNX, str(path)),
        bytes=size_of(path.parent),
        task=run.task_name,
    )


def reference_model(batch: int = BATCH) -> Candidate:
    """bert-base-chinese, which all others are compared with."""
    predict, description = bert_base(batch=batch)
    return Candidate(
        REFERENCE_MODEL,
        lambda _: predict,
        batch,
        SLOWEST,
        gives_labels=False,
        process_code=(BERT_BASE,),
        note=description,
    )


def linear(bench: Bench, run: Run, name: str) -> Candidate:
    """The linear baseline of a run or of one of its tasks."""
    return _of_classes(bench, run, name, run.linear.predict)


def fast_text(bench: Bench, run: Run, name: str) -> Candidate:
    """fastText, trained here.

    Raises:
        UserError: a text may have several labels.
    """
    if run.data.is_multi_label:
        raise UserError("it is trained here for one label per text only")
    model = FastText(run.segmented(run.data.train), run.labels_of(run.data.train).tolist(), run.segmenter)
    return _of_classes(bench, run, name, model.predict, model.bytes)


def _of_classes(
    bench: Bench, run: Run, name: str, classes: Callable[[Sequence[str]], Any], size: int | None = None
) -> Candidate:
    """A model that predicts class numbers or, in multi-label data, which classes every text has (texts, classes)."""

    def predict(texts: Sequence[str]) -> list[str] | list[list[str]]:
        predicted, labels = classes(texts), run.data.labels
        return names_of(predicted, labels) if run.data.is_multi_label else [labels[index] for index in predicted]

    return Candidate(name, lambda _: predict, batch=len(bench.run.data.test), bytes=size, task=run.task_name)


def jieba(run: Run) -> Candidate:
    """The segmentation of training alone."""
    return Candidate(
        "jieba alone",
        lambda _: lambda texts: list(map(run.segmenter.segment, texts)),
        1,
        gives_labels=False,
        process_code=(JIEBA,),
    )


def segmenter(bench: Bench, folder: Path) -> Candidate:
    """The segmentation of a bundle alone."""
    from distill import runtime

    path = _exported(bench, folder)
    segment = runtime.load(path).segment
    return Candidate(
        "bundle's segmenter alone",
        lambda _: segment,
        len(bench.run.data.test),
        gives_labels=False,
        process_code=(SEGMENTER, str(path)),
    )


def _exported(bench: Bench, folder: Path) -> Path:
    """A student's bundle, exported once."""
    target = bench.folder / fingerprint_texts([str(folder)])
    if target.exists():
        return target
    limit = bench.run.settings.export.max_bytes
    return export_bundle(folder, target, limit, segmenter=bench.run.segmenter)
