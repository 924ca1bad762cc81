"""One teacher for several tasks: an encoder with a head per task. It is saved once per task, with that head alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from distill.commands.experiment import TEACHER, fingerprint_examples
from distill.commands.label_sets import choose_thresholds, dev_score, start_at_shares
from distill.commands.model_cards import teacher_card
from distill.commands.saved_models import remind_of_single_class, save_model
from distill.commands.task_runs import JointRun
from distill.commands.train_teacher import new_teacher, of_labels, recorded, teacher_schedule
from distill.errors import UserError
from distill.models import teacher
from distill.models.inference import predict_logits
from distill.progress import model_reminders, reminders_of_one_model
from distill.training.heads import JointObjective, part_of, sampling_weights
from distill.training.regularisation import Regularisation
from distill.training.trainer import Split, TrainingJob, fit


def train_shared_teachers(joint: JointRun) -> list[Path]:
    """Fine-tune one encoder with a head per task for every seed; teachers that are up to date are kept.

    Raises:
        UserError: --teacher names a teacher, or a setting is for teachers of one task.
    """
    settings = joint.settings.teacher
    of_one_task = {"r_drop": settings.r_drop, "teacher_taught_by": settings.taught_by, "teacher_texts": settings.most}
    for name, value in of_one_task.items():
        if value:
            raise UserError("this is for a teacher of one task", f"--{name}", "leave it out, or --no-shared_teacher")
    if named := [name for name, run in joint.tasks.items() if run.named_teachers]:
        what = f"the task {named[0]} has a teacher of its own"
        raise UserError(what, "--shared_teacher", "leave out --teacher, or --no-shared_teacher")
    _ = joint.unlabelled_and_augmented  # an error in a file should show before hours of training
    return [path for index in range(joint.settings.run.teachers) for path in _train_one(joint, index)]


def _train_one(joint: JointRun, index: int) -> list[Path]:
    model_reminders.clear()
    seed = joint.settings.run.seed + index
    folders = [run.folder.model(TEACHER, index) for run in joint.tasks.values()]
    records = [{**_provenance(joint, seed), "data": run.data.fingerprint} for run in joint.tasks.values()]
    stale = [folder for folder, record in zip(folders, records, strict=True) if not joint.is_current(folder, record)]
    if stale:
        _train(joint, index, dict(zip(folders, records, strict=True)))
    return [*joint.pretrained.written, *folders]


def _provenance(joint: JointRun, seed: int) -> dict[str, Any]:
    """The record of what the teacher is made from."""
    settings = joint.teacher_settings
    return {
        "pretrained weights": joint.pretrained.fingerprint,
        "settings": recorded(settings),
        "tasks": {
            name: {"data": run.data.fingerprint, "target metric": run.target_metric, "levels": run.levels}
            for name, run in joint.tasks.items()
        },
        "texts of all tasks": joint.data.fingerprint,
        "task weights": joint.settings.objective.weights_of_tasks(len(joint.tasks)),
        "extra texts": fingerprint_examples(joint.unlabelled) if settings.pretrain else None,
        "epochs of masked word pieces": settings.pretrain or None,
        "seed": seed,
    }


def _train(joint: JointRun, index: int, folders: dict[Path, dict[str, Any]]) -> None:
    """Train one encoder, and write the teacher of every task with its record."""
    settings, data, seed = joint.teacher_settings, joint.data, joint.settings.run.seed + index
    name = next(iter(folders)).name
    model, tokenizer = new_teacher(joint, settings, seed)
    encoded = [tokenizer.encode([example.text for example in split]) for split in (data.train, data.dev)]
    labels = joint.labels_of(data.train)
    runs = list(joint.tasks.values())
    weights = joint.settings.objective.weights_of_tasks(len(runs))
    for head in joint.heads:
        start_at_shares(model.head, head.labels_of(labels), head.logits)
    objective = JointObjective(joint.heads, [of_labels(run, settings) for run in runs], weights)
    groups = model.parameter_groups(settings)
    if weights is None:
        groups.append({"params": [objective.uncertainties], "lr": settings.head_learning_rate})
    with teacher.used_rows(model, *encoded) as (train_ids, dev_ids):
        train = Split(train_ids, labels, sampling_weights=sampling_weights(labels, joint.heads), heads=joint.heads)
        dev = Split(dev_ids, joint.labels_of(data.dev), heads=joint.heads)
        callback = joint.evaluation_callback(joint.folder.model(TEACHER, index))
        regularisation = Regularisation(0.0, settings.adversarial)
        job = TrainingJob(train, dev, objective, teacher_schedule(settings, data), seed, name, callback, regularisation)
        evaluations = fit(model, groups, job)
    whole = model.head
    for task, (run, head, (folder, record)) in enumerate(zip(runs, joint.heads, folders.items(), strict=True)):
        model.head = part_of(whole, head.logits)
        dev_ids = tokenizer.encode([example.text for example in run.data.dev])
        logits = predict_logits(model, dev_ids, f"{head.name}/{name}, dev")
        thresholds = choose_thresholds(run, f"{head.name}/{name}", logits)
        with reminders_of_one_model():
            remind_of_single_class(run, f"{head.name}/{name}", "teacher", logits, thresholds)
            save_model(
                f"{head.name}/{name}",
                folder,
                lambda temporary: teacher.save_teacher(temporary, model, tokenizer, run.data.labels, thresholds),  # noqa: B023
                [evaluation.of_task(task) for evaluation in evaluations],
                record,
                dev_accuracy=dev_score(run, logits, thresholds),
                card=teacher_card(run, len(run.data.train)),
            )
