"""The teachers of a run, and their cached logits and vectors."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from distill.commands.experiment import COMMAND, DISTILLED, TEACHER, Run
from distill.data import UNLABELLED, Example, example_id
from distill.errors import UserError
from distill.progress import remind
from distill.storage.run_folder import LOG
from distill.teachers import ModelTeacher, Teacher
from distill.teachers.huggingface import HuggingFaceTeacher
from distill.teachers.saved import SavedTeacher


def teachers_of(run: Run) -> tuple[Teacher, ...]:
    """The teachers that the students imitate: those of ``--teacher``, or the run's own.

    Raises:
        UserError: there is no trained teacher, one is named twice, or a student will be written to one.
    """
    if not run.named_teachers:
        own = [run.folder.model(TEACHER, index) for index in range(run.settings.run.teachers)]
        return saved_teachers(run, own)
    _check_distinct([teacher.source for teacher in run.named_teachers], "--teacher")
    for teacher in run.named_teachers:
        if isinstance(teacher, SavedTeacher):
            _check_saved(run, teacher.folder, "--teacher", "")
        elif isinstance(teacher, HuggingFaceTeacher):
            teacher.check_kind(is_multi_label=run.data.is_multi_label)
    return run.named_teachers


def saved_teachers(run: Run, folders: Sequence[Path], flag: str = "") -> tuple[SavedTeacher, ...]:
    """Teachers that this program saved; ``flag`` is the one that names their folders, if any does.

    Raises:
        UserError: as for :func:`teachers_of`, or the run's own teacher was trained on other data.
    """
    _check_distinct(folders, flag)
    several = f" --teachers {len(folders)}" if len(folders) > 1 and not flag else ""
    for folder in folders:
        _check_saved(run, folder, flag, several)
    return tuple(map(SavedTeacher, folders))


def _check_distinct(sources: Sequence[Path | str], flag: str) -> None:
    if len({source.resolve() if isinstance(source, Path) else source for source in sources}) < len(sources):
        raise UserError("the same teacher is named twice", flag, "name each of them once")


def _check_saved(run: Run, folder: Path, flag: str, several: str) -> None:
    """Check that a folder holds a trained model that may teach."""
    if folder.resolve().parent == run.folder.root.resolve() and folder.name.startswith(DISTILLED):
        what = "this student cannot be the teacher: the run would overwrite it"
        raise UserError(what, folder, "choose another folder with --run")
    if not (folder / LOG).is_file():
        hint = f"{COMMAND} train_teacher{several}; or --a 1 --T 0 to train the student without a teacher"
        raise UserError("there is no trained teacher", folder, f"{flag} FOLDER" if flag else hint)
    is_multi_label = SavedTeacher(folder).is_multi_label
    if is_multi_label != run.data.is_multi_label:
        gives, has = ("any number of labels", "one") if is_multi_label else ("one label", "any number")
        what = f"this teacher gives a text {gives}, and in this data a text has {has}"
        raise UserError(what, folder, "train it again, or check --multi_label and --single_label")
    if not flag:
        run.check_same_data(folder, "train_teacher")
    elif not run.is_trained_on_data(folder):
        remind(f"{folder}: trained on other data or another split; it may have seen texts of dev or test")


def check_coverage(run: Run, teachers: Sequence[Teacher]) -> None:
    """Say for which texts a teacher has answers, if not for all.

    Raises:
        UserError: it has an answer for no text of train, dev and the unlabelled ones.
    """
    splits = {"train": run.data.train, "dev": run.data.dev, "the texts without labels": run.unlabelled_and_augmented}
    for teacher in teachers:
        answered = {
            name: teacher.answers(texts, is_multi_label=run.data.is_multi_label)
            for name, texts in splits.items()
            if texts
        }
        counts = {name: (int(has_answer.sum()), len(has_answer)) for name, has_answer in answered.items()}
        if not any(answered for answered, _ in counts.values()):
            texts = sum(total for _, total in counts.values())
            what = f"it has no answer for any of the {texts:,} texts of train, dev and --unlabeled"
            hint = "answers are joined by their text: write the texts as they are in the data"
            raise UserError(what, teacher.source, hint)
        if any(answered < total for answered, total in counts.values()):
            shares = (f"{100 * answered / total:.1f} % of {name}" for name, (answered, total) in counts.items())
            teacher.say(f"{teacher.name}: has answers for {', '.join(shares)}")


def model_teacher(teachers: Sequence[Teacher], feature: str) -> ModelTeacher:
    """The first teacher that is a model, for a ``feature`` that needs hidden vectors.

    Raises:
        UserError: there is none.
    """
    model = next((teacher for teacher in teachers if isinstance(teacher, ModelTeacher)), None)
    if model is None:
        names = ", ".join(teacher.name for teacher in teachers)
        what = f"{feature} needs a teacher with hidden vectors, and {names} has none"
        raise UserError(what, "--teacher", "--objective logits and --vectors auto, or add a teacher that is a model")
    return model


def cache_needed_outputs(run: Run) -> None:
    """Cache the teachers' outputs if the objective needs a teacher."""
    if run.settings.objective.needs_teacher:
        cache_outputs(run)


def cache_outputs(run: Run, objectives: str = "") -> None:
    """Cache the teachers' logits of the transfer set and dev and, for hints, the first model's vectors.

    In a launch of several processes each computes its share. ``objectives`` names what the students will learn from;
    empty: the run's objective.
    """
    if run.settings.transfer.for_labelling:
        return
    teachers, objectives = teachers_of(run), objectives or run.settings.objective.objective
    if "hint" in objectives.replace("hint_layers", ""):
        logits_and_vectors(run, model_teacher(teachers, "hint"), run.transfer_set)
    if "hint_layers" in objectives:
        run.answering.layers_cache(model_teacher(teachers, "hint_layers")).fill(run.transfer_set)
    for teacher in teachers:
        if teacher.is_cached:
            run.answering.logits_cache(teacher).fill((*run.transfer_set, *run.data.dev))


def logits_and_vectors(run: Run, teacher: ModelTeacher, examples: Sequence[Example]) -> tuple[Tensor, Tensor]:
    """A teacher's logits (texts, classes) and last vectors (texts, width), float32, from one pass over the texts.

    The logits are also added to the cache of logits, so that they are not computed a second time.
    """
    rows = run.answering.logits_and_vectors_cache(teacher).outputs(examples).float()
    classes = len(run.data.labels)
    run.answering.logits_cache(teacher).add(examples, rows[:, :classes])
    return rows[:, :classes], rows[:, classes:]


def hint_targets(run: Run, teacher: ModelTeacher, examples: Sequence[Example], *, last_only: bool) -> Tensor:
    """A teacher's hidden vectors for hints, shape (texts, layers, width); ``last_only``: one layer.

    Every dimension is standardised over the texts, so that a hint gives all of them the same weight.
    """
    if last_only:
        vectors = logits_and_vectors(run, teacher, examples)[1][:, None]
    else:
        vectors = run.answering.layers_cache(teacher).outputs(examples).float()
    return (vectors - vectors.mean(0)) / vectors.std(0, correction=0).clamp(min=1e-6)


def teacher_word_vectors(run: Run, teacher: ModelTeacher, words: Sequence[str]) -> NDArray[np.float32]:
    """A teacher's vectors of single words, shape (words, width)."""
    examples = [Example(example_id(word), word, UNLABELLED) for word in words]
    return np.asarray(logits_and_vectors(run, teacher, examples)[1].numpy())
