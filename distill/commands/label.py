"""``--mode label``: the teachers' logits for the transfer set, and the labels that the teachers contradict."""

from __future__ import annotations

from pathlib import Path

from distill.commands.experiment import Run, labels_of
from distill.commands.teachers import logits_and_vectors, teacher_folders, teacher_logits
from distill.progress import log
from distill.reporting.label_noise import ContradictedLabel, contradicted_labels, write_label_noise
from distill.training import defaults


def label(run: Run) -> list[Path]:
    """Cache the teachers' logits for the transfer set and dev; list confident disagreements with the labels as CSV."""
    folders = teacher_folders(run)
    if run.student_settings(has_teacher=True).vectors.startswith(defaults.FROM_TEACHER):
        logits_and_vectors(run, folders[0], run.transfer_set)  # one pass computes both
    contradicted: list[ContradictedLabel] = []
    logits = {"train": teacher_logits(run, folders, run.transfer_set)}  # the train texts come first
    logits["dev"] = teacher_logits(run, folders, run.data.dev)
    for split, examples in (("train", run.data.train), ("dev", run.data.dev)):
        contradicted += contradicted_labels(
            split,
            [example.text for example in examples],
            labels_of(examples).numpy(),
            logits[split][: len(examples)].softmax(1).numpy(),
            run.data.labels,
        )
    log.info("labels that the teacher contradicts: %d", len(contradicted))
    return [
        *(run.folder.teacher_cache(folder, "logits") for folder in folders),
        write_label_noise(run.folder.label_noise, contradicted),
    ]
