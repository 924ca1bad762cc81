"""A class that the students' train texts lack: what do the teacher's logits bring back? (Hinton et al. 2015)."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from distill.commands.experiment import Run, labels_of, row_folders
from distill.commands.student_spec import StudentSpec
from distill.commands.teachers import teacher_folders
from distill.commands.train_student import train_seeds
from distill.config import StudentSettings
from distill.errors import UserError
from distill.evaluation.metrics import mean_and_sd
from distill.models.text_classifier import load_student
from distill.progress import log
from distill.reporting.comparison import HeldOutClassRow


def without_class(run: Run, place: int, student: StudentSettings) -> list[HeldOutClassRow]:
    """Rows of recall of the class of --leave_out and accuracy on test; mean over the seeds.

    No student sees a text with that label. The distilled ones see the teacher's logits of the other texts, in the last
    rows also of the texts without labels, among which there are some of that class. "With its bias set on dev": the
    class's logit is raised until it is predicted on dev as often as it occurs there.
    """
    teachers = teacher_folders(run)
    alone, objective = (
        run.settings.alone().objective,
        dataclasses.replace(run.settings.objective, objective="logits:1", hard_weight=0.0),
    )
    specs = {
        "alone": StudentSpec(student, alone, left_out=place),
        "logits": StudentSpec(student, objective, teachers[:1], left_out=place),
    }
    if run.unlabelled:  # and no altered copies, some of which would be that class's train texts
        specs["logits, texts without labels too"] = StudentSpec(
            student, objective, teachers[:1], run.unlabelled, left_out=place
        )
    return [row for name, spec in specs.items() for row in _rows(run, name, spec, place)]


def class_left_out(run: Run) -> int | None:
    """The class of --leave_out; None without one."""
    if not run.settings.compare.leave_out:
        return None
    name, labels = run.settings.compare.leave_out, run.data.labels
    if name not in labels:
        raise UserError(f"--leave_out {name!r} is no class of the data", None, f"one of {', '.join(labels)}")
    return labels.index(name)


def _rows(run: Run, name: str, spec: StudentSpec, place: int) -> list[HeldOutClassRow]:
    left_out = run.settings.compare.leave_out
    folders = row_folders(run, f"without {left_out}, {name}")
    log.info("compare, without %s: %s", left_out, name)
    train_seeds(run, spec, folders)
    models = [load_student(folder, run.segmenter) for folder in folders]
    held_out = ([example.text for example in split] for split in (run.data.dev, run.data.test))
    dev, test = ([model.logits(texts).numpy() for model in models] for texts in held_out)
    share = float((labels_of(run.data.dev) == place).double().mean())
    biased = [logits + _bias(own, place, share) for logits, own in zip(test, dev, strict=True)]
    gold = labels_of(run.data.test).numpy()
    rows = [_row(name, test, gold, place)]
    return rows if name == "alone" else [*rows, _row(f"{name}, with its bias set on dev", biased, gold, place)]


def _bias(logits: NDArray[np.float32], place: int, share: float) -> NDArray[np.float32]:
    """What to add to logits (texts, classes), so that ``share`` of these texts are given the class at ``place``."""
    others = np.delete(logits, place, axis=1).max(1)
    bias = np.zeros(logits.shape[1], dtype=np.float32)
    bias[place] = np.quantile(others - logits[:, place], share)
    return bias


def _row(name: str, logits: Sequence[NDArray[np.float32]], gold: NDArray[np.int64], place: int) -> HeldOutClassRow:
    predicted = [own.argmax(1) for own in logits]
    recall, recall_sd = mean_and_sd([float((own[gold == place] == place).mean()) for own in predicted])
    accuracy, accuracy_sd = mean_and_sd([float((own == gold).mean()) for own in predicted])
    return HeldOutClassRow(name, recall, recall_sd, accuracy, accuracy_sd)
