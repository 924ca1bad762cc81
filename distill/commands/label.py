"""``--mode label``: the teachers' logits for the transfer set, and the labels that the teachers contradict."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from distill.commands.experiment import Run, labels_of
from distill.commands.for_labelling import write_for_labelling
from distill.commands.teachers import (
    check_coverage,
    logits_and_vectors,
    model_teacher,
    teacher_answers,
    teachers_of,
)
from distill.data import Example
from distill.progress import log
from distill.reporting.label_noise import ContradictedLabel, contradicted_labels, write_label_noise
from distill.teachers.answering import Answers
from distill.training import defaults


def label(run: Run) -> list[Path]:
    """Cache the teachers' logits for the transfer set and dev; list confident disagreements with the labels as CSV.

    The list is made where every text has one label.
    With ``--for_labelling`` write a table of texts that are worth labelling instead.
    """
    if run.settings.transfer.for_labelling:
        return [write_for_labelling(run)]
    teachers = teachers_of(run)
    check_coverage(run, teachers)
    if run.student_settings(has_teacher=True).vectors.startswith(defaults.FROM_TEACHER):
        # one pass computes both
        logits_and_vectors(run, model_teacher(teachers, "--vectors teacher"), run.transfer_set)
    answers = {"train": teacher_answers(run, teachers, run.transfer_set)}  # the train texts come first
    answers["dev"] = teacher_answers(run, teachers, run.data.dev)
    caches = [run.folder.teacher_cache(teacher.source, "logits") for teacher in teachers if teacher.is_cached]
    if not run.data.has_labels or run.data.is_multi_label:
        return caches
    contradicted = [*_contradicted("train", run.data.train, answers["train"], run)]
    contradicted += _contradicted("dev", run.data.dev, answers["dev"], run)
    log.info("labels that the teacher contradicts: %d", len(contradicted))
    return [*caches, write_label_noise(run.folder.label_noise, contradicted)]


def _contradicted(split: str, examples: Sequence[Example], answers: Answers, run: Run) -> list[ContradictedLabel]:
    """The labels that the teachers contradict; the first of the ``answers`` belong to ``examples``."""
    answered = answers.answered[: len(examples)].tolist()
    examples = [example for example, has_answer in zip(examples, answered, strict=True) if has_answer]
    return contradicted_labels(
        split,
        [example.text for example in examples],
        labels_of(examples).numpy(),
        answers.logits[: len(answered)][answered].softmax(1).numpy(),
        run.data.labels,
    )
