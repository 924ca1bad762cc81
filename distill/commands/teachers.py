"""The trained teachers of a run: which folders they are in, and their cached logits and vectors."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from distill.commands.experiment import COMMAND, DISTILLED, TEACHER, Run
from distill.commands.saved_models import LOG
from distill.data import UNLABELLED, Example, example_id
from distill.errors import UserError
from distill.models import teacher
from distill.models.inference import best_device
from distill.models.text_classifier import TextClassifier, load
from distill.progress import remind
from distill.storage.fingerprints import fingerprint_file, provenance_differences
from distill.storage.run_folder import STUDENT_CARD, STUDENT_WEIGHTS, TEACHER_CARD, TEACHER_HEAD, VOCABULARY
from distill.training.teacher_cache import TeacherCache


def teacher_folders(run: Run) -> tuple[Path, ...]:
    """Folders of the teachers that the students imitate: those of ``--teacher``, or the run's own.

    Raises:
        UserError: a folder holds no trained model, is named twice, or is one that a student will be written to.
    """
    named = run.settings.transfer.teacher
    if named:
        return checked_teachers(run, [Path(folder) for folder in named], "--teacher")
    return checked_teachers(run, [run.folder.model(TEACHER, index) for index in range(run.settings.run.teachers)])


def checked_teachers(run: Run, folders: Sequence[Path], flag: str = "") -> tuple[Path, ...]:
    """Check that every folder holds a trained model that may teach; ``flag`` is the one that names them, if any does.

    Raises:
        UserError: as for :func:`teacher_folders`, or the run's own teacher was trained on other data.
    """
    if len({folder.resolve() for folder in folders}) < len(folders):
        raise UserError("the same teacher is named twice", flag, "name each folder once")
    for folder in folders:
        if folder.resolve().parent == run.folder.root.resolve() and folder.name.startswith(DISTILLED):
            what = "this student cannot be the teacher: the run would overwrite it"
            raise UserError(what, folder, "choose another folder with --run")
        if not (folder / LOG).is_file():
            several = f" --teachers {len(folders)}" if len(folders) > 1 and not flag else ""
            hint = f"{COMMAND} train_teacher{several}; or --a 1 --T 0 to train the student without a teacher"
            raise UserError("there is no trained teacher", folder, f"{flag} FOLDER" if flag else hint)
        if not flag:
            run.check_same_data(folder, "train_teacher")
        elif provenance_differences(folder, {"data": run.data.fingerprint}):
            remind(f"{folder}: trained on other data or another split; it may have seen texts of dev or test")
    return tuple(folders)


def open_teacher(run: Run, folder: Path) -> TextClassifier:
    """Load a teacher, its classes in the order of the data's labels.

    Raises:
        UserError: the teacher's labels are not those of the data.
    """
    classifier = load(folder, run.segmenter)
    missing, extra = (
        ", ".join(sorted(set(some) - set(others))) or "none"
        for some, others in ((run.data.labels, classifier.labels), (classifier.labels, run.data.labels))
    )
    if (missing, extra) != ("none", "none"):
        what = f"the teacher's labels are not those of the data; missing: {missing}; not in the data: {extra}"
        raise UserError(what, folder, "--teacher FOLDER with a model that was trained on these labels")
    return classifier.reordered([classifier.labels.index(label) for label in run.data.labels])


def cache_needed_outputs(run: Run) -> None:
    """Cache the teachers' outputs if the objective needs a teacher."""
    if run.settings.objective.needs_teacher:
        cache_outputs(run)


def cache_outputs(run: Run, objectives: str = "") -> None:
    """Cache the teachers' logits of the transfer set and dev and, for hints, the first teacher's vectors.

    In a launch of several processes each computes its share. ``objectives`` names what the students will learn from;
    empty: the run's objective.
    """
    folders, objectives = teacher_folders(run), objectives or run.settings.objective.objective
    if "hint" in objectives.replace("hint_layers", ""):
        logits_and_vectors(run, folders[0], run.transfer_set)
    if "hint_layers" in objectives:
        _layers_cache(run, folders[0]).fill(run.transfer_set)
    for folder in folders:
        _logits_cache(run, folder).fill((*run.transfer_set, *run.data.dev))


def teacher_logits(run: Run, folders: Sequence[Path], examples: Sequence[Example]) -> Tensor:
    """Mean logits of the teachers, shape (texts, classes), computed where the cache lacks them."""
    return torch.stack([_logits_cache(run, folder).outputs(examples) for folder in folders]).mean(0)


def logits_and_vectors(run: Run, folder: Path, examples: Sequence[Example]) -> tuple[Tensor, Tensor]:
    """A teacher's logits (texts, classes) and last vectors (texts, width), float32, from one pass over the texts.

    The logits are also added to the cache of logits, so that they are not computed a second time.
    """
    cache = TeacherCache(
        run.folder.teacher_cache(folder, "logits+vectors"),
        _logits_provenance(run, folder),
        lambda: open_teacher(run, folder).logits_and_vectors,
        "teacher logits and vectors",
    )
    rows = cache.outputs(examples).float()
    classes = len(run.data.labels)
    _logits_cache(run, folder).add(examples, rows[:, :classes])
    return rows[:, :classes], rows[:, classes:]


def hint_targets(run: Run, folder: Path, examples: Sequence[Example], *, last_only: bool) -> Tensor:
    """A teacher's hidden vectors for hints, shape (texts, layers, width); ``last_only``: one layer.

    Every dimension is standardised over the texts, so that a hint gives all of them the same weight.
    """
    if last_only:
        vectors = logits_and_vectors(run, folder, examples)[1][:, None]
    else:
        vectors = _layers_cache(run, folder).outputs(examples).float()
    return (vectors - vectors.mean(0)) / vectors.std(0, correction=0).clamp(min=1e-6)


def teacher_word_vectors(run: Run, folder: Path, words: Sequence[str]) -> NDArray[np.float32]:
    """A teacher's vectors of single words, shape (words, width)."""
    examples = [Example(example_id(word), word, UNLABELLED) for word in words]
    return np.asarray(logits_and_vectors(run, folder, examples)[1].numpy())


def model_fingerprints(folder: Path) -> dict[str, str]:
    """Fingerprints of the files that determine a model's logits, by file name."""
    of_teacher = ("model.safetensors", TEACHER_HEAD, TEACHER_CARD, "tokenizer.json")
    names = (*of_teacher, STUDENT_CARD, STUDENT_WEIGHTS, VOCABULARY)
    return {name: fingerprint_file(folder / name) for name in names if (folder / name).exists()}


def _logits_cache(run: Run, folder: Path) -> TeacherCache:
    return TeacherCache(
        run.folder.teacher_cache(folder, "logits"),
        _logits_provenance(run, folder),
        lambda: open_teacher(run, folder).logits,
    )


def _layers_cache(run: Run, folder: Path) -> TeacherCache:
    return TeacherCache(
        run.folder.teacher_cache(folder, "vectors"),
        _provenance(folder),
        lambda: load(folder, run.segmenter).vectors,
        "teacher vectors",
    )


def _provenance(folder: Path) -> dict[str, str]:
    """What determines a teacher's vectors: its files and the precision of the computation."""
    return {**model_fingerprints(folder), "precision": "bf16" if teacher.has_fast_bf16(best_device()) else "fp32"}


def _logits_provenance(run: Run, folder: Path) -> dict[str, str]:
    """What determines the cached logits: also the order of the data's labels."""
    return {**_provenance(folder), "labels": "\t".join(run.data.labels)}
