"""The teachers' stages: fine-tuning, and what teachers say about the transfer set."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from distill.commands.experiment import COMMAND, DISTILLED, LOG, TEACHER, Run, keep_model, labels_of
from distill.commands.model_cards import teacher_card
from distill.config import FROM_DATA, TeacherSettings
from distill.data import UNLABELLED, Example, example_id, stratified_split
from distill.errors import UserError
from distill.evaluation.metrics import is_below
from distill.models import registry, teacher
from distill.models.inference import best_device, predict_logits
from distill.models.predictor import TextClassifier, load
from distill.progress import log
from distill.reporting.label_noise import label_noise, suspects
from distill.storage.fingerprints import fingerprint_file, fingerprint_texts, provenance_differences
from distill.training import defaults, distributed, masked_language
from distill.training.losses import Distillation, Objective, labels_only
from distill.training.regularisation import Regularisation
from distill.training.teacher_cache import TeacherCache, TeacherFunction
from distill.training.trainer import Evaluation, Schedule, Split, TrainingJob, fit

EVALUATIONS = 2  # an epoch
OF_THEIR_OWN = ("model", "pretrain", "taught_by")  # settings that the record holds as what they stand for
LABELS_AND_LOGITS = {"labels": 1.0, "soft": 1.0}  # what a teacher learns that others teach
LONGER = 2  # times as many epochs for a teacher that a linear model beats


def train_teacher(run: Run) -> list[Path]:
    """Fine-tune the pretrained encoder on the labels, selected on dev; one teacher a seed."""
    return [path for place in range(run.settings.run.teachers) for path in _train_one(run, place)]


def _train_one(run: Run, place: int) -> list[Path]:
    settings, seed = run.teacher_settings, run.settings.run.seed + place
    folder = run.folder.model(TEACHER, place)
    taught_by, more = _teachers_of_teacher(run, folder), settings.pretrain or settings.taught_by
    made_from = {
        "data": run.data.fingerprint,
        "pretrained weights": run.pretrained.fingerprint,
        "settings": {key: value for key, value in dataclasses.asdict(settings).items() if key not in OF_THEIR_OWN},
        "epochs of masked word pieces": settings.pretrain or None,
        "teacher": [identity(one) for one in taught_by] or None,
        "extra texts": fingerprint_of(run.extra) if more else None,
        "seed": seed,
    }
    if run.is_current(folder, made_from):
        return [*run.pretrained.made, folder]
    trained = _fine_tuned(run, settings, seed, folder, taught_by)
    if run.settings.teacher.epochs == FROM_DATA and _is_worse_than_linear(run, trained):
        trained = max(trained, _trained_longer(run, trained, seed, folder, taught_by), key=lambda one: one.right.mean())
    keep_model(
        folder.name,
        folder,
        lambda temporary: teacher.save_teacher(temporary, trained.model, trained.pieces, run.data.labels),
        trained.evaluations,
        made_from,
        dev_accuracy=float(trained.right.mean()),
        card=teacher_card(run, trained.texts),
    )
    return [*run.pretrained.made, folder]


@dataclass(frozen=True)
class _FineTuned:
    """A teacher as it came from training on ``texts`` texts; ``right`` (dev texts,) says for which it is right."""

    model: teacher.Teacher
    pieces: teacher.Wordpieces
    evaluations: Sequence[Evaluation]
    texts: int
    right: NDArray[np.bool_]


def _is_worse_than_linear(run: Run, trained: _FineTuned) -> bool:
    """What the first of several processes finds."""
    below = torch.tensor([is_below(trained.right, run.linear.dev_right)])
    return bool(distributed.broadcast_from_main(below.long()).item())


def _trained_longer(run: Run, trained: _FineTuned, seed: int, folder: Path, taught_by: tuple[Path, ...]) -> _FineTuned:
    settings = dataclasses.replace(run.teacher_settings, epochs=LONGER * run.teacher_settings.epochs)
    log.info(
        "%s: dev accuracy %.4f is below LinearSVC's %.4f; trained again, up to %d epochs",
        folder.name,
        trained.right.mean(),
        run.linear.dev_accuracy,
        settings.epochs,
    )
    return _fine_tuned(run, settings, seed, folder, taught_by)


def _fine_tuned(
    run: Run, settings: TeacherSettings, seed: int, folder: Path, taught_by: tuple[Path, ...]
) -> _FineTuned:
    torch.manual_seed(seed)
    model, pieces = teacher.build(run.pretrained.source, settings, len(run.data.labels))
    if settings.pretrain:
        known = [example.text for example in (*run.data.train, *run.unlabelled)]
        masked_language.pretrain(model, pieces, known, settings, seed)
    texts = [*_train_texts(run), *(run.extra if taught_by else ())], run.data.dev
    schedule = Schedule(
        settings.epochs,
        settings.batch_size,
        EVALUATIONS,
        ema_decay=settings.averaging,
        keep_last=defaults.keeps_last_weights(run.data),
    )
    with teacher.used_rows(model, *(pieces.encode([e.text for e in split]) for split in texts)) as inputs:
        train, dev = (Split(ids, labels_of(split)) for ids, split in zip(inputs, texts, strict=True))
        objective: Objective = labels_only(settings.label_smoothing)
        if taught_by:
            train = dataclasses.replace(train, teacher_logits=logits_of(run, taught_by, texts[0]))
            objective = Distillation(LABELS_AND_LOGITS, 1.0, model.head.in_features)
        added = Regularisation(settings.r_drop, settings.adversarial)
        job = TrainingJob(train, dev, objective, schedule, seed, folder.name, run.watch(folder), added)
        evaluations = fit(model, model.parameter_groups(settings), job)
        right = predict_logits(model, dev.inputs).argmax(1) == dev.labels
    return _FineTuned(model, pieces, evaluations, len(texts[0]), right.numpy())


def _teachers_of_teacher(run: Run, folder: Path) -> tuple[Path, ...]:
    """Folders of --teacher_taught_by: others, or with unlabelled texts an earlier self (self-training)."""
    given = [Path(one) for one in run.settings.teacher.taught_by]
    if folder.resolve() in {one.resolve() for one in given}:
        raise UserError("a teacher cannot teach the one that takes its place", folder, "--run with another folder")
    return _there(run, given, "--teacher_taught_by")


def _train_texts(run: Run) -> list[Example]:
    train, most = list(run.data.train), run.settings.teacher.most
    if not 0 < most < len(train):
        return train
    _, chosen = stratified_split(train, run.settings.run.seed, most / len(train))
    log.info("teacher: trained on %d of the %d train texts (--teacher_texts)", len(chosen), len(train))
    return chosen


def teachers_of(run: Run) -> tuple[Path, ...]:
    """Folders of the teachers that teach: those of --teacher, or the run's own.

    Raises:
        UserError: one is not there, is no model of this program, is named twice, or is where a student is written.
    """
    given = run.settings.transfer.teacher
    if given:
        return _there(run, [Path(folder) for folder in given], "--teacher")
    return _there(run, [run.folder.model(TEACHER, place) for place in range(run.settings.run.teachers)])


def _there(run: Run, folders: Sequence[Path], given: str = "") -> tuple[Path, ...]:
    """Folders of teachers, once each is known to be one; ``given`` is the flag that names them, if one does."""
    if len({folder.resolve() for folder in folders}) < len(folders):
        raise UserError("a teacher is named twice", given, "name each folder once")
    for folder in folders:
        if folder.resolve().parent == run.folder.root.resolve() and folder.name.startswith(DISTILLED):
            raise UserError("a student cannot teach those that take its place", folder, "--run with another folder")
        if not (folder / LOG).is_file():
            more = f" --teachers {len(folders)}" if len(folders) > 1 and not given else ""
            hint = f"{COMMAND} train_teacher{more}, or --a 1 --T 0 for the student alone"
            raise UserError("there is no trained teacher", folder, f"{given} FOLDER" if given else hint)
        if not given:
            run.check_same_data(folder, "train_teacher")
        elif provenance_differences(folder, {"data": run.data.fingerprint}):
            log.warning("%s: trained on other data or another split, so it may know texts of dev or test", folder)
    return tuple(folders)


def label(run: Run) -> list[Path]:
    """The teachers' logits of the transfer set, into the cache; and where teacher and label disagree, as a CSV."""
    folders = teachers_of(run)
    if run.student_settings(taught=True).vectors.startswith(defaults.FROM_TEACHER):  # they come with the logits
        _logits_and_vectors(run, folders[0], run.transfer_set)
    labelled = {"train": run.data.train, "dev": run.data.dev}
    soft = {"train": logits_of(run, folders, run.transfer_set), "dev": logits_of(run, folders, run.data.dev)}
    found = [
        suspect
        for split, examples in labelled.items()
        for suspect in suspects(
            split,
            [example.text for example in examples],
            labels_of(examples).numpy(),
            soft[split][: len(examples)].softmax(1).numpy(),
            run.data.labels,
        )
    ]
    log.info("labels that the teacher doubts: %d", len(found))
    return [
        *(run.folder.teacher_cache(folder, "logits") for folder in folders),
        label_noise(run.folder.label_noise, found),
    ]


def ask_teachers(run: Run, objectives: str) -> None:
    """Fill the caches with the teachers' logits of transfer set and dev and, for hints, with the first one's vectors.

    Of several processes each asks its share.
    """
    folders = teachers_of(run)
    if "hint" in objectives.replace("hint_layers", ""):
        _logits_and_vectors(run, folders[0], run.transfer_set)
    if "hint_layers" in objectives:
        _vectors_cache(run, folders[0]).fill(run.transfer_set)
    for folder in folders:
        _logits_cache(run, folder).fill((*run.transfer_set, *run.data.dev))


def logits_of(run: Run, folders: Sequence[Path], examples: Sequence[Example]) -> Tensor:
    """Mean logits of some teachers, shape (texts, classes), from the cache where it is current."""
    return torch.stack([_logits_cache(run, folder).outputs(examples) for folder in folders]).mean(0)


def _logits_cache(run: Run, folder: Path) -> TeacherCache:
    def open_teacher() -> TeacherFunction:
        return open_teacher_of(run, folder).logits

    return TeacherCache(run.folder.teacher_cache(folder, "logits"), _made_by_with_labels(run, folder), open_teacher)


def open_teacher_of(run: Run, folder: Path) -> TextClassifier:
    """A teacher whose classes stand in the order of the data's."""
    classifier = load(folder, run.segmenter)
    return classifier.in_order(_places(classifier.labels, run.data.labels, folder))


def _places(taught: Sequence[str], wanted: Sequence[str], folder: Path) -> list[int]:
    """Where a teacher's logits have the classes of the data."""
    if set(taught) != set(wanted):
        lacking = ", ".join(sorted(set(wanted) - set(taught))) or "nothing"
        more = ", ".join(sorted(set(taught) - set(wanted))) or "nothing"
        raise UserError(
            f"its labels are not those of the data: it lacks {lacking}, and has {more} besides",
            folder,
            "--teacher with one that was trained on these labels",
        )
    return [list(taught).index(name) for name in wanted]


def layers_of(run: Run, folder: Path, examples: Sequence[Example], last: bool = False) -> Tensor:
    """A teacher's vectors, of some layers or the ``last``, shape (texts, layers, width).

    They are standardised over the texts, so that a hint weighs each number alike.
    """
    if last:
        vectors = _logits_and_vectors(run, folder, examples)[1][:, None]
    else:
        vectors = _vectors_cache(run, folder).outputs(examples).float()
    return (vectors - vectors.mean(0)) / vectors.std(0, correction=0).clamp(min=1e-6)


def word_vectors(run: Run, folder: Path, words: Sequence[str]) -> NDArray[np.float32]:
    """A teacher's vectors of single words, shape (words, width)."""
    examples = [Example(example_id(word), word, UNLABELLED) for word in words]
    return np.asarray(_logits_and_vectors(run, folder, examples)[1].numpy())


def _logits_and_vectors(run: Run, folder: Path, examples: Sequence[Example]) -> tuple[Tensor, Tensor]:
    """A teacher's logits (texts, classes) and last vectors (texts, width), float32, by one pass over the texts.

    The logits go into their own cache too, so that nobody asks for them again.
    """

    def open_teacher() -> TeacherFunction:
        return open_teacher_of(run, folder).logits_and_vectors

    made_by = _made_by_with_labels(run, folder)
    cache = TeacherCache(
        run.folder.teacher_cache(folder, "logits+vectors"), made_by, open_teacher, "teacher logits and vectors"
    )
    rows, classes = cache.outputs(examples).float(), len(run.data.labels)
    _logits_cache(run, folder).add(examples, rows[:, :classes])
    return rows[:, :classes], rows[:, classes:]


def _vectors_cache(run: Run, folder: Path) -> TeacherCache:
    def open_teacher() -> TeacherFunction:
        return load(folder, run.segmenter).vectors

    return TeacherCache(run.folder.teacher_cache(folder, "vectors"), _made_by(folder), open_teacher, "teacher vectors")


def _made_by(folder: Path) -> dict[str, str]:
    return {**identity(folder), "precision": "bf16" if teacher.has_fast_bf16(best_device()) else "fp32"}


def _made_by_with_labels(run: Run, folder: Path) -> dict[str, str]:
    """What decides logits, which stand in the order of the data's labels."""
    return {**_made_by(folder), "labels": "\t".join(run.data.labels)}


def fingerprint_of(examples: Sequence[Example]) -> str | None:
    """Of the texts, in their order; None of no texts."""
    return fingerprint_texts(example.text for example in examples) if examples else None


def identity(folder: Path) -> dict[str, str]:
    """Fingerprints of what decides a teacher's logits."""
    of_teacher = ("model.safetensors", teacher.HEAD, teacher.CARD, "tokenizer.json")
    names = (*of_teacher, registry.CARD, registry.WEIGHTS, registry.VOCABULARY)
    return {name: fingerprint_file(folder / name) for name in names if (folder / name).exists()}
