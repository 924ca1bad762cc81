"""``--mode export``: a trained student as a bundle, or student and teacher as ONNX files."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch

from distill.commands.experiment import ALONE, COMMAND, DISTILLED, TEACHER, Run
from distill.commands.label_sets import dev_score
from distill.commands.model_cards import bundle_card, card_of
from distill.config import FROM_DATA, STUDENTS
from distill.data.examples import Label
from distill.errors import UserError
from distill.export import hub
from distill.export.bundle import export_bundle, is_bundle_of, is_current
from distill.models.text_classifier import TextClassifier, load_student
from distill.progress import log
from distill.runtime import schema
from distill.runtime.arrays import dequantise
from distill.runtime.bundle import read_bundle
from distill.runtime.tasks import heads_of
from distill.storage.run_folder import STUDENT_CARD, TEACHER_CARD, VOCABULARY, size_of
from distill.text.vocabulary import Vocabulary
from distill.translation import Text

DEMO_EXAMPLES = 5  # of the embedded reviews, which are public; other texts are stored only on request


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
    return [write_bundle(run, students[0])] if settings.format == "bundle" else _onnx(run, students[0])


def export_if_possible(run: Run) -> list[Path]:
    """What ``--mode export`` writes, at the end of ``--mode all``; an up-to-date bundle is kept.

    If the student cannot be exported, one line says why and nothing is written.
    """
    bundle, settings = run.folder.bundle, run.settings.export
    try:
        if settings.format == "bundle" and not settings.push_to_hub:
            student = trained_students(run)[0]
            if is_current(bundle, student, **_options(run)):
                log.info("%s: kept, it was exported from this student", bundle)
                return [bundle]
        return export(run)
    except UserError as error:
        log.info("no bundle was exported: %s", error)
        return []


def bundle_of(run: Run, student: Path) -> tuple[Path | None, str]:
    """The run's bundle if it was exported from ``student``; otherwise a sentence that says why there is none."""
    shipping = run.shipping
    shipped = student if shipping == run.folder else shipping.root / student.name
    if is_bundle_of(shipping.bundle, shipped):
        return shipping.bundle, ""
    if STUDENTS[architecture := card_of(student).network].transductive:
        return None, Text(
            "A {network} cannot be exported as a bundle, so the student was timed in PyTorch.", network=architecture
        )
    return None, Text(
        "There is no bundle of this student, so it was timed in PyTorch. To write the bundle: {command}",
        command=f"{COMMAND} export",
    )


def _options(run: Run) -> dict[str, Any]:
    """The settings of a bundle, as arguments of :func:`export_bundle`."""
    return {"max_bytes": run.settings.export.max_bytes, "examples": _examples(run)}


def check_upload(run: Run) -> None:
    """Refuse a --push_to_hub that cannot succeed.

    Raises:
        UserError: it names no model, or there is no token.
    """
    if name := run.settings.export.push_to_hub:
        hub.check(name)


def write_bundle(run: Run, student: Path) -> Path:
    """Write the bundle of a student's folder, with its card, into the run's folder; upload it if --push_to_hub is on.

    Raises:
        UserError: the student cannot be exported, or the upload is not possible.
    """
    name = run.settings.export.push_to_hub
    check_upload(run)
    bundle = export_bundle(student, run.folder.bundle, segmenter=run.segmenter, **_options(run))
    bundle_card(student, bundle, _reduced(run, student, bundle))
    log.info("%s: %.1f MB; to run it, `pip install distill-zh` is enough", bundle, size_of(bundle) / 1e6)
    if name:
        log.info("uploaded to %s", hub.push(bundle, name))
    return bundle


def _reduced(run: Run, student: Path, bundle: Path) -> dict[str, float]:
    """What a bundle holds that does not hold all words in 16 bits, and what that costs on dev, for the card; log it."""
    arrays, vocabulary = read_bundle(bundle).arrays, Vocabulary.load(student / VOCABULARY).words
    if len(arrays["words"]) == len(vocabulary) and arrays["words"].dtype == np.int16:
        return {}
    count, size = len(arrays["words"]), f"{run.settings.export.max_mb:g} MB (--max_mb)"
    log.info("%s: %d of %d words fit into %s, in 8 bits instead of 16", bundle, count, len(vocabulary), size)
    reduced: dict[str, float] = {"words": count, "of": len(vocabulary)}
    model = load_student(student, run.segmenter)
    parts = _trained_on(run, student, bool(model.tasks))
    if not parts:
        log.info("%s: what that costs is not measured, as the student was trained on other data", bundle)
        return reduced
    smaller = load_student(student, run.segmenter)
    network, tokenizer = cast(Any, smaller.model), cast(Any, smaller.tokenizer)
    network.embedding.weight.data = torch.from_numpy(dequantise(arrays["words"], arrays["words.scale"]))
    smaller = dataclasses.replace(
        smaller, tokenizer=dataclasses.replace(tokenizer, vocabulary=Vocabulary(vocabulary[:count]))
    )
    dev, student_dev = (_dev_score(parts, one) for one in (smaller, model))
    log.info("%s: dev %s %.4f, with all words in 16 bits %.4f", bundle, card_of(student).measured, dev, student_dev)
    return reduced | {"dev": dev, "student_dev": student_dev}


def _trained_on(run: Run, student: Path, has_tasks: bool) -> Sequence[Run]:
    """The runs of the tasks of a student, one if it has no tasks; none if it was trained on other data than theirs."""
    try:
        runs = [run] if has_tasks else run.parts
        same = [one for one in runs if one.is_trained_on_data(student)]
    except UserError:  # the data are no longer there
        return []
    return run.parts if same and has_tasks else same[:1]


def _dev_score(parts: Sequence[Run], model: TextClassifier) -> float:
    """The score on dev of the model; the mean of those of several tasks, of which ``parts`` are the runs."""
    scores = []
    for part, task in zip(parts, heads_of(model), strict=True):
        logits = model.logits([example.text for example in part.data.dev])
        scores.append(dev_score(part, logits[:, task.columns], task.thresholds))
    return float(np.mean(scores))


def trained_students(run: Run) -> list[Path]:
    """Folders of the students of --student_folder, or of the run's distilled student or student alone.

    Raises:
        UserError: there is no trained student.
    """
    named = [Path(folder) for folder in run.settings.export.student_folder]
    candidates = [run.folder.model(kind) for kind in shipping_order(run)]
    folders = named or [folder for folder in candidates if (folder / STUDENT_CARD).is_file()][:1]
    if not folders:
        hint = f"{COMMAND} train_student, or --student_folder FOLDER"
        raise UserError("no student is trained yet", run.folder.root, hint)
    return folders


def shipping_order(run: Run) -> tuple[str, str]:
    """The kinds of students, the one first that the run's settings train."""
    return (ALONE, DISTILLED) if run.settings.objective.is_alone else (DISTILLED, ALONE)


def _examples(run: Run) -> tuple[str, ...]:
    """The texts of --examples: short test texts (dev texts if there are none), of each class in turn."""
    count = run.settings.export.examples
    if count == FROM_DATA:
        count = DEMO_EXAMPLES if run.has_embedded_data else 0
    by_label: dict[Label, list[str]] = {}
    for example in (run.data.test or run.data.dev) if count else ():
        if schema.is_example(example.text):
            by_label.setdefault(example.label, []).append(example.text)
    in_turn = (text for texts in itertools.zip_longest(*by_label.values()) for text in texts if text is not None)
    return tuple(itertools.islice(dict.fromkeys(in_turn), count))


def _onnx(run: Run, student: Path) -> list[Path]:
    from distill.export.onnx import export_student, export_teacher

    written = export_student(student, run.folder.onnx / "student", run.segmenter)
    for folder in (part.folder for part in run.parts):
        teacher = folder.model(TEACHER)
        if (teacher / TEACHER_CARD).is_file():
            written += export_teacher(teacher, folder.onnx / "teacher")
            written += export_teacher(teacher, folder.onnx / "teacher-int8", int8=True)
        else:
            log.info("no teacher in %s: only the student was exported", folder.root)
    return written
