"""``--mode export``: a trained student as a bundle, or student and teacher as ONNX files."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

from distill.commands.experiment import ALONE, COMMAND, DISTILLED, TEACHER, Run, labels_of
from distill.commands.model_cards import bundle_card
from distill.commands.saved_models import size_of
from distill.errors import UserError
from distill.export import hub
from distill.export.bundle import export_bundle
from distill.models.text_classifier import load_student
from distill.progress import log
from distill.runtime.bundle import read_bundle
from distill.storage.run_folder import STUDENT_CARD, TEACHER_CARD
from distill.text.vocabulary import Vocabulary


def export(run: Run) -> list[Path]:
    """Write the student's bundle (--push_to_hub uploads it), or with --format onnx student and teacher as ONNX files.

    Raises:
        UserError: there is no trained student, several are named, or the upload is not possible.
    """
    students, settings = trained_students(run), run.settings.export
    if len(students) > 1:
        raise UserError(
            f"{len(students)} students are named, only one can be exported",
            "--student_folder",
            "--student_folder FOLDER, only once",
        )
    if settings.push_to_hub and settings.format != "bundle":
        raise UserError("only a bundle can be uploaded to the Hub", "--push_to_hub", "leave out --format")
    return [_bundle(run, students[0])] if settings.format == "bundle" else _onnx(run, students[0])


def _bundle(run: Run, student: Path) -> Path:
    name = run.settings.export.push_to_hub
    if name:
        hub.check(name)
    limit = run.settings.export.max_mb
    bundle = export_bundle(student, run.folder.bundle, 1e6 * limit if limit else math.inf, run.segmenter)
    _log_cost_of_pruning(run, student, bundle)
    bundle_card(student, bundle)
    log.info("%s: %.1f MB; to run it, `pip install distill-zh` is enough", bundle, size_of(bundle) / 1e6)
    if name:
        log.info("uploaded to %s", hub.push(bundle, name))
    return bundle


def _log_cost_of_pruning(run: Run, student: Path, bundle: Path) -> None:
    """If some words did not fit into the bundle, log the dev accuracy with and without them."""
    model, count = load_student(student, run.segmenter), len(read_bundle(bundle).arrays["words"])
    tokenizer: Any = model.tokenizer
    vocabulary = tokenizer.vocabulary.words
    if count == len(vocabulary):
        return
    pruned = dataclasses.replace(
        model, tokenizer=dataclasses.replace(tokenizer, vocabulary=Vocabulary(vocabulary[:count]))
    )
    texts, gold = [example.text for example in run.data.dev], labels_of(run.data.dev)
    accuracies = [float((one.logits(texts).argmax(1) == gold).double().mean()) for one in (pruned, model)]
    size = f"{run.settings.export.max_mb:g} MB (--max_mb)"
    log.info("%s: %d of %d words fit into %s", bundle, count, len(vocabulary), size)
    log.info("%s: dev accuracy %.4f, with all words %.4f", bundle, *accuracies)


def trained_students(run: Run) -> list[Path]:
    """Folders of the students of --student_folder, or of the run's distilled student, or of its student alone.

    Raises:
        UserError: there is no trained student.
    """
    named = [Path(folder) for folder in run.settings.export.student_folder]
    candidates = [run.folder.model(kind) for kind in (DISTILLED, ALONE)]
    folders = named or [folder for folder in candidates if (folder / STUDENT_CARD).is_file()][:1]
    if not folders:
        hint = f"{COMMAND} train_student, or --student_folder FOLDER"
        raise UserError("no student is trained yet", run.folder.root, hint)
    return folders


def _onnx(run: Run, student: Path) -> list[Path]:
    from distill.export.onnx import export_student, export_teacher

    target, teacher = run.folder.onnx, run.folder.model(TEACHER)
    written = export_student(student, target / "student", run.segmenter)
    if (teacher / TEACHER_CARD).is_file():
        written += export_teacher(teacher, target / "teacher")
        written += export_teacher(teacher, target / "teacher-int8", int8=True)
    else:
        log.info("no teacher in %s: only the student was exported", run.folder.root)
    return written
