"""The command: times every model from raw text to label in one process and writes the speed table."""

from __future__ import annotations

import contextlib
import dataclasses
import tempfile
from importlib import metadata
from pathlib import Path

import torch

from distill.commands.benchmark.candidates import REFERENCE_MODEL, Bench, candidate_factories
from distill.commands.benchmark.timing import (
    QUICK,
    SLOW,
    SLOWEST,
    THREADS,
    Candidate,
    Label,
    Score,
    TaskLabels,
    measure,
    share_equal,
    threads_restored,
)
from distill.commands.experiment import Run
from distill.commands.export import trained_students
from distill.errors import UserError
from distill.evaluation import timing
from distill.evaluation.multi_label import micro_f1
from distill.models.text_classifier import load_student
from distill.progress import log
from distill.reporting.speed import Speed, write
from distill.storage.fingerprints import package_versions
from distill.teachers.label_sets import indicators

OPTIONAL_PACKAGES = ("onnxruntime", "fasttext", "fasttext-wheel")


def benchmark(run: Run) -> list[Path]:
    """Time students, teacher, baselines and bert-base-chinese; the test labels are used for accuracies only.

    In multi-label data, micro-F1 takes the place of the accuracy. With several tasks the student answers all of them in
    one call, and each has a teacher, baselines and a score of its own.

    Raises:
        UserError: no student is trained, or a folder of --student_folder holds none.
    """
    warnings = [warning for folder in trained_students(run) for warning in _check(run, folder)]
    with tempfile.TemporaryDirectory() as exported, threads_restored() as available:
        bench = Bench(run, Path(exported), tuple(threads for threads in THREADS if threads <= available))
        candidates, unavailable = _candidates(bench)
        texts = [example.text for example in run.data.test]
        tasks = _tasks(run)
        measured, failed = measure(candidates, texts, [] if tasks else _gold(run), _score(run), tasks)
    speed = Speed(
        measured=measured,
        reference_model=REFERENCE_MODEL,
        machine=timing.processor(),
        texts=len(texts),
        rounds=QUICK.rounds,
        versions=_versions(),
        settings=dataclasses.asdict(run.settings),
        score=run.data.measured,
        tasks={task.name: task.measured for task in tasks},
        notes=[
            _method(len(texts)),
            *filter(None, (candidate.note for candidate in candidates)),
            *warnings,
            *unavailable,
            *failed,
        ],
    )
    text, files = write(speed, run.folder.benchmark)
    log.info("\n%s", text)
    return files


def _tasks(run: Run) -> list[TaskLabels]:
    """The right labels of several tasks, whose test texts are among those of the run; none if there is only one."""
    rows = {example.id: row for row, example in enumerate(run.data.test)}
    return [
        TaskLabels(
            part.task_name,
            part.data.measured,
            [rows[example.id] for example in part.data.test],
            _gold(part),
            _score(part),
        )
        for part in run.parts
        if part.task_name
    ]


def _gold(run: Run) -> list[Label]:
    """The label of every test text or, in multi-label data, its labels."""
    names = ([run.data.labels[index] for index in example.classes] for example in run.data.test)
    return [frozenset(of_text) if run.data.is_multi_label else of_text[0] for of_text in names]


def _score(run: Run) -> Score:
    """The figure that the models' labels are compared by."""
    if not run.data.is_multi_label:
        return share_equal
    return lambda predicted, gold: micro_f1(*(indicators(names, run.data.labels) for names in (gold, predicted)))


def _check(run: Run, folder: Path) -> list[str]:
    """Check a student before minutes of timing; returns warnings.

    A student of the run must be trained on the run's data; for one of --student_folder, which may be the head of one
    of several tasks, there is only a warning.

    Raises:
        UserError: the student cannot be loaded, or it is the run's and was trained on other data.
    """
    load_student(folder, run.segmenter)
    if not run.settings.export.student_folder:
        run.check_same_data(folder, "train_student")
    elif not any(one.is_trained_on_data(folder) for one in (run, *run.parts)):
        return [f"{folder.name}: trained on other data or another split, so it may have seen texts of test."]
    return []


def _candidates(bench: Bench) -> tuple[list[Candidate], list[str]]:
    """The models that can be timed here, and a sentence about each that cannot."""
    candidates, unavailable = [], []
    for name, make in candidate_factories(bench):
        log.info("benchmark: %s", name)
        try:
            candidates.append(make())
        except UserError as error:
            unavailable.append(f"Left out: {name}. {error.what[:1].upper()}{error.what[1:]}{_hint(error)}.")
    return candidates, unavailable


def _hint(error: UserError) -> str:
    return f"; {error.hint}" if error.hint else ""


def _versions() -> dict[str, str]:
    version_by_package = package_versions()
    for name in OPTIONAL_PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            version_by_package[name] = metadata.version(name)
    return version_by_package


def _method(texts: int) -> str:
    """A description of how and on what it was measured."""
    packages = ", ".join(f"{name} {version}" for name, version in _versions().items())
    gpu = f", GPU {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ""
    return (
        "From raw text to label, segmentation or word pieces included. The rounds of all models and numbers of threads "
        f"are interleaved, after a warm-up run of each: {QUICK.rounds} rounds over {texts:,} test texts; for BERT-like "
        f"models {SLOW.rounds} rounds over {min(texts, SLOW.texts)} evenly spaced texts ({REFERENCE_MODEL}: "
        f"{SLOWEST.rounds} rounds over {min(texts, SLOWEST.texts)}). Single texts: {QUICK.singles:,} calls; for "
        f"BERT-like models {SLOW.singles} ({REFERENCE_MODEL}: {SLOWEST.singles}). Batches hold texts of similar "
        f"lengths, padded to the longest. Processor {timing.processor()}{gpu}; {packages}."
    )
