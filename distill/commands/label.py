"""``--mode label``: the teachers' logits for the transfer set, and the labels that the teachers contradict."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from distill.commands.experiment import Run
from distill.commands.for_labelling import write_for_labelling
from distill.commands.teachers import (
    check_coverage,
    logits_and_vectors,
    model_teacher,
    teachers_of,
)
from distill.data import Example
from distill.progress import log
from distill.reporting.label_noise import (
    ContradictedLabel,
    contradicted_labels,
    contradicted_sets,
    write_label_noise,
)
from distill.teachers.answering import Answers
from distill.training import defaults


def label(run: Run) -> list[Path]:
    """Cache the teachers' logits for the transfer set and dev; list confident disagreements with the labels as CSV.

    With ``--for_labelling`` write a table of texts that are worth labelling instead.
    """
    if run.settings.transfer.for_labelling:
        return [write_for_labelling(run)]
    teachers = teachers_of(run)
    check_coverage(run, teachers)
    if defaults.sources_of_vectors(run.student_settings(has_teacher=True).vectors)[0]:
        # one pass computes both
        logits_and_vectors(run, model_teacher(teachers, "--vectors teacher"), run.transfer_set)
    answers = {"train": run.answering.mean(teachers, run.transfer_set)}  # the train texts come first
    answers["dev"] = run.answering.mean(teachers, run.data.dev)
    caches = [run.folder.teacher_cache(teacher.source, "logits") for teacher in teachers if teacher.is_cached]
    if not run.data.has_labels:
        return caches
    contradicted = [*_contradicted("train", run.data.train, answers["train"], run)]
    contradicted += _contradicted("dev", run.data.dev, answers["dev"], run)
    log.info("labels that the teacher contradicts: %d", len(contradicted))
    return [*caches, write_label_noise(run.folder.label_noise, contradicted)]


def _contradicted(split: str, examples: Sequence[Example], answers: Answers, run: Run) -> list[ContradictedLabel]:
    """The labels that the teachers contradict; the first of the ``answers`` belong to ``examples``."""
    answered = answers.answered[: len(examples)].tolist()
    examples = [example for example, has_answer in zip(examples, answered, strict=True) if has_answer]
    texts, logits = [example.text for example in examples], answers.logits[: len(answered)][answered]
    gold, labels = run.labels_of(examples), run.data.labels
    if run.data.is_multi_label:
        return contradicted_sets(split, texts, gold.bool().numpy(), logits.sigmoid().numpy(), labels)
    return contradicted_labels(split, texts, gold.numpy(), logits.softmax(1).numpy(), labels)
