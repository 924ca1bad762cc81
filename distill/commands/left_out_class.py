"""``--mode compare --leave_out LABEL``: what students learn from the teacher about a class they see no text of.

The experiment is that of Hinton et al. 2015, where a student learns a digit that its training set lacks.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from distill.commands.experiment import Run, labels_of, row_folders
from distill.commands.label_sets import require_single_label
from distill.commands.student_spec import StudentSpec
from distill.commands.teachers import teachers_of
from distill.commands.train_student import train_seeds
from distill.config import StudentSettings
from distill.errors import UserError
from distill.evaluation.metrics import mean_and_sd
from distill.models.text_classifier import load_student
from distill.progress import log
from distill.reporting.comparison_record import LeftOutClassRow


def train_without_class(run: Run, left_out: int, student: StudentSettings) -> list[LeftOutClassRow]:
    """Train students without the texts of the class ``left_out``; returns their recall of that class on test.

    No student sees a text with that label. The distilled ones see the teacher's logits of the other texts and, in the
    last rows, of the unlabelled texts, some of which are of that class. "With its bias set on dev": the class's logit
    is raised until the class is predicted on dev as often as it occurs there.
    """
    alone, teachers = run.settings.alone().objective, teachers_of(run)[:1]
    logits = dataclasses.replace(run.settings.objective, objective="logits:1", hard_weight=0.0)
    specs = {
        "alone": StudentSpec(student, alone, left_out=left_out),
        "logits": StudentSpec(student, logits, teachers, left_out=left_out),
    }
    if run.unlabelled:  # without augmented copies, some of which would be copies of that class's train texts
        name = "logits, texts without labels too"
        specs[name] = StudentSpec(student, logits, teachers, run.unlabelled, left_out=left_out)
    return [row for name, spec in specs.items() for row in _rows(run, name, spec, left_out)]


def class_left_out(run: Run) -> int | None:
    """The number of the class of --leave_out; None without the flag."""
    name, labels = run.settings.compare.leave_out, run.data.labels
    if not name:
        return None
    require_single_label(run, f"--leave_out {name}", "leave this flag out")
    if name not in labels:
        raise UserError(f"{name!r} is not a label of the data", "--leave_out", f"choose one of {', '.join(labels)}")
    return labels.index(name)


def _rows(run: Run, name: str, spec: StudentSpec, left_out: int) -> list[LeftOutClassRow]:
    """Train one student per seed; a distilled student also gets a row with the bias set on dev."""
    label = run.settings.compare.leave_out
    folders = row_folders(run, f"without {label}, {name}")
    log.info("compare, without %s: %s", label, name)
    train_seeds(run, spec, folders)
    models = [load_student(folder, run.segmenter) for folder in folders]
    splits = ([example.text for example in split] for split in (run.data.dev, run.data.test))
    dev, test = ([model.logits(texts).numpy() for model in models] for texts in splits)
    gold = labels_of(run.data.test).numpy()
    rows = [_row(name, test, gold, left_out)]
    if name != "alone":
        share = float((labels_of(run.data.dev) == left_out).double().mean())
        biased = [logits + _bias(of_dev, left_out, share) for logits, of_dev in zip(test, dev, strict=True)]
        rows.append(_row(f"{name}, with its bias set on dev", biased, gold, left_out))
    return rows


def _bias(logits: NDArray[np.float32], left_out: int, share: float) -> NDArray[np.float32]:
    """The vector to add to logits (texts, classes) so that ``share`` of the texts get the class ``left_out``."""
    others = np.delete(logits, left_out, axis=1).max(1)
    bias = np.zeros(logits.shape[1], dtype=np.float32)
    bias[left_out] = np.quantile(others - logits[:, left_out], share)
    return bias


def _row(
    name: str, logits_of_seeds: Sequence[NDArray[np.float32]], gold: NDArray[np.int64], left_out: int
) -> LeftOutClassRow:
    predictions = [logits.argmax(1) for logits in logits_of_seeds]
    recall = mean_and_sd([float((predicted[gold == left_out] == left_out).mean()) for predicted in predictions])
    accuracy = mean_and_sd([float((predicted == gold).mean()) for predicted in predictions])
    return LeftOutClassRow(name, *recall, *accuracy)
