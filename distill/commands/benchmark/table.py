"""The stage that times: every model from raw text to label, in one process, as one table."""

from __future__ import annotations

import contextlib
import dataclasses
import tempfile
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import torch

from distill.commands.benchmark.candidates import YARDSTICK, Bench, makers
from distill.commands.benchmark.timing import QUICK, SLOW, SLOWEST, Candidate, measure
from distill.commands.experiment import Run
from distill.commands.export import trained_students
from distill.errors import UserError
from distill.evaluation import timing
from distill.models.text_classifier import load_student
from distill.progress import log
from distill.reporting.speed import Speed, write
from distill.storage.fingerprints import package_versions, provenance_differences

THREADS = (1, 2)
OPTIONAL = ("onnxruntime", "fasttext", "fasttext-wheel")


def benchmark(run: Run) -> list[Path]:
    """Time students, teacher, bert-base-chinese and what else labels texts; test labels serve for accuracies alone.

    Raises:
        UserError: no student is trained, or a named folder holds none.
    """
    warnings = [warning for folder in trained_students(run) for warning in _checked(run, folder)]
    with tempfile.TemporaryDirectory() as exported, _threads_restored() as most:
        bench = Bench(run, Path(exported), tuple(count for count in THREADS if count <= most))
        candidates, left_out = _candidates(bench)
        texts = [example.text for example in run.data.test]
        gold = [run.data.labels[example.label] for example in run.data.test]
        measured, failed = measure(candidates, texts, gold)
    speed = Speed(
        measured=measured,
        yardstick=YARDSTICK,
        machine=timing.processor(),
        texts=len(texts),
        rounds=QUICK.rounds,
        versions=_versions(),
        settings=dataclasses.asdict(run.settings),
        notes=[_sentence(len(texts)), *filter(None, (one.note for one in candidates)), *warnings, *left_out, *failed],
    )
    text, files = write(speed, run.folder.benchmark)
    log.info("\n%s", text)
    return files


def _checked(run: Run, folder: Path) -> list[str]:
    """Refuse a broken student before minutes of timing, and the run's own of other data; a given one is warned of."""
    load_student(folder, run.segmenter)
    if not run.settings.export.student_folder:
        run.check_same_data(folder, "train_student")
    elif provenance_differences(folder, {"data": run.data.fingerprint}):
        return [f"{folder.name}: trained on other data or another split, so it may know texts of test."]
    return []


@contextlib.contextmanager
def _threads_restored() -> Iterator[int]:
    most = torch.get_num_threads()
    try:
        yield most
    finally:
        torch.set_num_threads(most)


def _candidates(bench: Bench) -> tuple[list[Candidate], list[str]]:
    """What can be timed here, and a line for each that cannot."""
    found, left_out = [], []
    for name, make in makers(bench):
        log.info("benchmark: %s", name)
        try:
            found.append(make())
        except UserError as error:
            left_out.append(f"Left out: {name}. {error.what[:1].upper()}{error.what[1:]}{_hint(error)}.")
    return found, left_out


def _hint(error: UserError) -> str:
    return f"; {error.hint}" if error.hint else ""


def _versions() -> dict[str, str]:
    found = package_versions()
    for name in OPTIONAL:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found


def _sentence(texts: int) -> str:
    """How and on what it was measured."""
    packages = ", ".join(f"{name} {version}" for name, version in _versions().items())
    gpu = f", GPU {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ""
    return (
        "From raw text to label, segmentation or word pieces included. All models and numbers of threads took turns, "
        f"round after round, each after a run to warm up: {QUICK.rounds} rounds over {texts:,} test texts, of "
        f"BERT-like models {SLOW.rounds} rounds over {min(texts, SLOW.texts)} of them ({YARDSTICK}: "
        f"{SLOWEST.rounds} over {min(texts, SLOWEST.texts)}), evenly taken. Single texts: {QUICK.singles:,} calls, "
        f"of BERT-like models {SLOW.singles} ({SLOWEST.singles}). Batches hold texts of like lengths, padded to the "
        f"longest. Processor {timing.processor()}{gpu}; {packages}."
    )
