"""The story: one function a mode, from data to report."""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from distill import data, embeddings, students, teacher
from distill.classifiers import TextClassifier, load_student, load_teacher
from distill.config import Settings
from distill.errors import UserError
from distill.losses import labels_only, logits_mse
from distill.pretrained import Pretrained, resolve
from distill.progress import log, progress
from distill.report import Outcome, Report, timing, write
from distill.runs import (
    MADE_FROM,
    RunFolder,
    clean,
    differences,
    fingerprint_file,
    fingerprint_lines,
    versions,
    write_folder,
    write_json,
)
from distill.training import Schedule, Split, best_device, fit, write_log
from distill.transfer import teacher_logits
from distill.words import build_vocabulary, segment, segmenter

ALONE, DISTILLED = "student_alone", "student"
COMMAND = "python distill.py --mode"


class Run:
    """What several stages need, each made once and when first asked for."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        source = settings.data.data or settings.data.train_file
        name = settings.run.run or f"runs/{Path(source).resolve().stem if source else data.embedded.NAME}"
        self.folder = RunFolder(Path(name))
        clean(self.folder.root)
        torch.set_num_threads(settings.run.threads or torch.get_num_threads())

    @functools.cached_property
    def data(self) -> data.Dataset:
        """The checked data; what the checks found is said, and the run's settings are kept."""
        dataset = data.load(self.settings.data, self.settings.run.seed)
        log.info("data: %s", json.dumps(dataset.counts))
        record = {
            "settings": dataclasses.asdict(self.settings),
            "versions": versions(),
            "data": {"fingerprint": dataset.fingerprint, **dataset.counts},
        }
        write_json(self.folder.config, record)
        return dataset

    @functools.cached_property
    def segmented(self) -> dict[str, list[list[str]]]:
        """The words of the train and dev texts."""
        return {
            "train": [segment(e.text) for e in progress(self.data.train, "jieba, train")],
            "dev": [segment(e.text) for e in progress(self.data.dev, "jieba, dev")],
        }

    @functools.cached_property
    def vectors(self) -> embeddings.VectorFile:
        """The file of word vectors."""
        found = embeddings.find_vectors(self.settings.student.vectors)
        log.info("word vectors: %s, %s", found.path.name, found.why)
        return found

    @functools.cached_property
    def pretrained(self) -> Pretrained:
        """The teacher's pretrained weights."""
        found = resolve(self.settings.teacher.model)
        log.info("teacher weights: %s, %s", found.source, found.why)
        return found

    def labels_of(self, split: Sequence[data.Example]) -> Tensor:
        """Class numbers, shape (texts,)."""
        return torch.tensor([example.label for example in split])


def run(settings: Settings) -> list[Path]:
    """Do what ``--mode`` says; returns the files and folders that were written or kept."""
    story = {
        "all": do_all,
        "train_teacher": train_teacher,
        "label": label,
        "train_student": train_students,
        "test": test,
    }
    return story[settings.run.mode](Run(settings))


def do_all(run: Run) -> list[Path]:
    """Teacher, student alone, distilled student, report; what is finished and current is kept."""
    written = train_teacher(run)
    written += label(run)
    written += train_students(run, alone=True)
    written += train_students(run)
    return written + test(run)


def train_teacher(run: Run) -> list[Path]:
    """Fine-tune the pretrained encoder on the labels, selected on dev."""
    settings, seed, folder = run.settings.teacher, run.settings.run.seed, run.folder.teacher
    made_from = {
        "data": run.data.fingerprint,
        "pretrained weights": run.pretrained.fingerprint,
        "settings": {key: value for key, value in dataclasses.asdict(settings).items() if key != "model"},
        "seed": seed,
    }
    if _is_current(folder, made_from):
        return [folder]
    torch.manual_seed(seed)
    model, pieces = teacher.build(run.pretrained.source, settings, len(run.data.labels))
    train = list(run.data.train)
    if 0 < settings.most < len(train):
        _, train = data.stratified_split(train, seed, settings.most / len(train))
        log.info("teacher: trained on %d of the %d train texts (--teacher_texts)", len(train), len(run.data.train))
    splits = [Split(pieces.encode([e.text for e in split]), run.labels_of(split)) for split in (train, run.data.dev)]
    evaluations = fit(
        model,
        model.parameter_groups(settings),
        *splits,
        labels_only(settings.label_smoothing),
        Schedule(settings.epochs, settings.batch_size, evaluations=2),
        seed,
        "teacher",
    )
    with write_folder(folder) as aside:
        teacher.save_teacher(aside, model, pieces, run.data.labels)
        write_log(aside / "log.jsonl", evaluations)
        write_json(aside / MADE_FROM, made_from)
    log.info("teacher: best dev accuracy %.4f", max(e.dev_accuracy for e in evaluations))
    return [folder]


def label(run: Run) -> list[Path]:
    """The trained teacher's logits of the train texts, into the cache."""
    _teacher_logits(run)
    return [run.folder.teacher_logits]


def _teacher_logits(run: Run) -> Tensor:
    folder = run.folder.teacher
    if not folder.exists():
        raise UserError(
            "there is no trained teacher", folder, f"{COMMAND} train_teacher, or --a 1 --T 0 for the student alone"
        )
    _check_same_data(run, folder, f"{COMMAND} train_teacher")
    made_by = {**_identity(folder), "precision": "bf16" if teacher.has_fast_bf16(best_device()) else "fp32"}
    return teacher_logits(load_teacher(folder), made_by, run.data.train, run.folder.teacher_logits)


def _identity(folder: Path) -> dict[str, str]:
    """Fingerprints of what decides a teacher's logits."""
    names = ("model.safetensors", teacher.HEAD, teacher.CARD)
    return {name: fingerprint_file(folder / name) for name in names}


def train_students(run: Run, alone: bool = False) -> list[Path]:
    """One student a seed; with T = 0 (or ``alone``) by the labels only, without a teacher."""
    settings = run.settings.alone() if alone else run.settings
    objective = settings.objective
    kind = DISTILLED if objective.logits_weight > 0 else ALONE
    soft = _teacher_logits(run) if kind == DISTILLED else None
    made_from = {
        "data": run.data.fingerprint,
        "settings": {key: value for key, value in dataclasses.asdict(settings.student).items() if key != "vectors"},
        "objective": dataclasses.asdict(objective),
        "word vectors": fingerprint_file(run.vectors.path),
        "segmenter": segmenter(),
        "teacher": _identity(run.folder.teacher) if kind == DISTILLED else None,
    }
    folders = []
    for place in range(run.settings.run.seeds):
        folder, seed = run.folder.student(kind, place), run.settings.run.seed + place
        if not _is_current(folder, {**made_from, "seed": seed}):
            _train_student(run, folder, {**made_from, "seed": seed}, soft, seed)
        folders.append(folder)
    return folders


def _train_student(run: Run, folder: Path, made_from: dict[str, Any], soft: Tensor | None, seed: int) -> None:
    settings, objective = run.settings.student, made_from["objective"]
    torch.manual_seed(seed)
    model, words = _new_student(run, seed)
    train = Split(words.encode_segmented(run.segmented["train"]), run.labels_of(run.data.train), soft)
    dev = Split(words.encode_segmented(run.segmented["dev"]), run.labels_of(run.data.dev))
    evaluations = fit(
        model,
        [{"params": list(model.parameters()), "lr": settings.learning_rate}],
        train,
        dev,
        logits_mse(**objective),
        Schedule(settings.epochs, settings.batch_size),
        seed,
        f"{folder.name}, seed {seed}",
    )
    with write_folder(folder) as aside:
        students.save_student(aside, model, words, run.data.labels, "bilstm")
        write_log(aside / "log.jsonl", evaluations)
        write_json(aside / MADE_FROM, made_from)
    log.info("%s, seed %d: best dev accuracy %.4f", folder.name, seed, max(e.dev_accuracy for e in evaluations))


def _new_student(run: Run, seed: int) -> tuple[students.BiLSTM, students.Words]:
    settings = run.settings.student
    vocabulary = build_vocabulary(run.segmented["train"], settings.min_count)
    vectors = embeddings.load_vectors(run.vectors.path, vocabulary.words)
    rows, coverage = embeddings.matrix(vectors, vocabulary.words, seed)
    log.info("words: %d in the vocabulary, %d with a vector, %d from their characters", *coverage.values())
    config = students.BiLSTMConfig(
        words=len(vocabulary),
        width=rows.shape[1],
        hidden=settings.hidden,
        classes=len(run.data.labels),
        dropout=settings.dropout,
        sentence=settings.input == "sentence",
    )
    model = students.BiLSTM(config)
    model.embedding.weight.data.copy_(torch.from_numpy(rows))
    return model, students.Words(vocabulary, settings.max_length)


def test(run: Run) -> list[Path]:
    """Open test once: what every trained model of this run reaches on it, and how fast."""
    found = _trained(run)
    missing = _missing(run, found)
    if not found:
        raise UserError("nothing is trained yet", run.folder.root, f"{COMMAND} all")
    for folder in found.values():
        _check_same_data(run, folder, f"{COMMAND} all")
    examples = run.data.test
    texts = [example.text for example in examples]
    models = {
        key: load_teacher(folder) if key[0] == "teacher" else load_student(folder) for key, folder in found.items()
    }
    predicted = {key: model.logits(texts, f"test, {key[0]}").argmax(1).numpy() for key, model in models.items()}
    times = _times(models, texts)
    outcomes = [
        Outcome(*key, predicted[key], models[key].parameters, _size(folder), times[key], _history(folder))
        for key, folder in found.items()
    ]
    report = Report(
        gold=np.array([example.label for example in examples]),
        first_of_text=_first_of_text(examples),
        labels=run.data.labels,
        outcomes=outcomes,
        data=run.data.counts,
        settings=dataclasses.asdict(run.settings),
        timing=_timing_sentence(min(len(texts), timing.TEXTS)),
        missing=missing,
    )
    text, files = write(report, run.folder.report)
    log.info("%s", text)
    return files


def _trained(run: Run) -> dict[tuple[str, int], Path]:
    """Folders of trained models by name and seed."""
    seeds = range(run.settings.run.seeds)
    found = {("teacher", run.settings.run.seed): run.folder.teacher}
    for kind in (ALONE, DISTILLED):
        found.update({(kind, run.settings.run.seed + place): run.folder.student(kind, place) for place in seeds})
    return {key: folder for key, folder in found.items() if (folder / MADE_FROM).exists()}


def _missing(run: Run, found: dict[tuple[str, int], Path]) -> list[str]:
    commands = {"teacher": "train_teacher", ALONE: "train_student --a 1 --T 0", DISTILLED: "train_student"}
    names = {name for name, _ in found}
    return [f"Not there: {name}; {COMMAND} {command}" for name, command in commands.items() if name not in names]


def _times(models: dict[tuple[str, int], TextClassifier], texts: list[str]) -> dict[tuple[str, int], dict[str, float]]:
    devices = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]
    times: dict[tuple[str, int], dict[str, float]] = {key: {} for key in models}
    for device in devices:
        for model in models.values():
            model.to(torch.device(device))
        by_name = {str(key): model.predict for key, model in models.items()}
        measured = timing.ms_per_text(by_name, texts[: timing.TEXTS])
        for key in models:
            times[key]["gpu" if device == "cuda" else device] = measured[str(key)]
    return times


def _timing_sentence(texts: int) -> str:
    precision = "bf16" if teacher.has_fast_bf16(torch.device("cpu")) else "fp32"
    return (
        f"Time: from raw text to label, segmentation included; median of {timing.RUNS} interleaved runs over {texts} "
        f"test texts sorted into batches by length, {torch.get_num_threads()} threads, PyTorch {torch.__version__}, "
        f"teacher in {precision}, {timing.processor()}."
    )


def _first_of_text(examples: Sequence[data.Example]) -> np.ndarray[Any, np.dtype[np.bool_]]:
    seen: set[int] = set()
    return np.array([not (example.id in seen or seen.add(example.id)) for example in examples])  # type: ignore[func-returns-value]


def _size(folder: Path) -> int:
    """Bytes of what is needed to run a model."""
    return sum(path.stat().st_size for path in folder.iterdir() if path.name not in ("log.jsonl", MADE_FROM))


def _history(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text(encoding="utf-8").splitlines()]


def _is_current(folder: Path, made_from: dict[str, Any]) -> bool:
    """Whether a folder was made from just this, and a word about it either way."""
    changed = differences(folder, made_from)
    if not changed:
        log.info("%s: kept, it was trained with the same data and settings", folder)
    elif folder.exists():
        log.info("%s: trained again, %s", folder, ", ".join(changed))
    return not changed


def _check_same_data(run: Run, folder: Path, command: str) -> None:
    if differences(folder, {"data": run.data.fingerprint}):
        raise UserError(
            "it was trained on other data, or split with another seed",
            folder,
            f"the same --data and --seed, or {command}",
        )
