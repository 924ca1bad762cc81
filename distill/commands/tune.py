"""``--mode tune``: a search for the student's settings on dev, by Optuna; the test set is not used."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Any

from distill.commands.experiment import Run
from distill.commands.saved_models import history, saved_accuracy
from distill.commands.task_runs import JointRun
from distill.commands.task_students import joint_spec_of, train_joint_seeds
from distill.commands.train_student import spec_of, train_seeds
from distill.config import StudentSettings, flag_of
from distill.data.examples import MEAN_SCORE
from distill.errors import install_hint, require_package
from distill.progress import log
from distill.storage.atomic import write_json
from distill.storage.fingerprints import fingerprint_texts

STUDY = "study.log"


def tune(run: Run) -> list[Path]:
    """Run trials until there are --trials of them, those of earlier calls included; log and save the best settings."""
    optuna, spec = _import_optuna(), spec_of(run)

    def train(student: StudentSettings) -> list[Path]:
        return train_seeds(run, dataclasses.replace(spec, student=student), _folders(run))

    return _search(optuna, run, _Search(spec.student, spec.provenance(run), train, run.data.measured))


def tune_tasks(joint: JointRun) -> list[Path]:
    """Like :func:`tune`, by the mean of the tasks' scores on dev."""
    optuna, spec = _import_optuna(), joint_spec_of(joint)
    whole, *heads = map(_folders, (joint, *joint.tasks.values()))

    def train(student: StudentSettings) -> list[Path]:
        common = dataclasses.replace(spec.common, student=student)
        train_joint_seeds(joint, dataclasses.replace(spec, common=common), list(zip(whole, *heads, strict=True)))
        return whole

    return _search(optuna, joint, _Search(spec.common.student, spec.provenance(joint), train, MEAN_SCORE))


@dataclass(frozen=True)
class _Search:
    """A search for the settings of a student.

    Args:
        student: the usual settings.
        provenance: what else determines the students.
        train: trains students with other settings, one per seed, and returns their folders; the next call overwrites
            them.
        measured: what is called the score on dev.
    """

    student: StudentSettings
    provenance: dict[str, Any]
    train: Callable[[StudentSettings], list[Path]]
    measured: str


def _folders(run: Run) -> list[Path]:
    """The folders of the students of a trial."""
    return [run.folder.root / "tune" / f"student.{number}" for number in range(1, run.settings.run.seeds + 1)]


def _search(optuna: Any, run: Run, search: _Search) -> list[Path]:
    folder, trials = run.folder.root / "tune", run.settings.compare.trials
    folder.mkdir(parents=True, exist_ok=True)
    storage = optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(str(folder / STUDY)))
    study_name = f"{search.student.architecture} {_fingerprint(run, search.provenance)}"
    study = optuna.create_study(storage=storage, study_name=study_name, direction="maximize", load_if_exists=True)
    study.sampler = optuna.samplers.TPESampler(seed=run.settings.run.seed + len(study.trials))
    done = len(_completed(optuna, study))
    log.info("tune: %d of %d trials are done already", done, trials)
    study.optimize(lambda trial: _dev_accuracy(run, search, trial), n_trials=max(0, trials - done))
    flags = _flags(run, study.best_params)
    log.info("best dev %s %.4f, with\n  %s", search.measured, study.best_value, flags)
    result = {
        "dev_accuracy": study.best_value,
        "flags": flags,
        "settings": study.best_params,
        "trials": [{"dev_accuracy": trial.value, **trial.params} for trial in _completed(optuna, study)],
    }
    return [folder / STUDY, write_json(folder / "tune.json", result)]


def _import_optuna() -> Any:
    require_package("optuna", "--mode tune", install_hint("tune"))
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna


def _completed(optuna: Any, study: Any) -> list[Any]:
    trials: list[Any] = study.get_trials(states=[optuna.trial.TrialState.COMPLETE])
    return trials


def _fingerprint(run: Run, provenance: dict[str, Any]) -> str:
    """Fingerprint of everything that the search does not vary: only comparable trials share a study of that name."""
    return fingerprint_texts([json.dumps([provenance, run.settings.run.seeds, run.settings.run.seed], sort_keys=True)])


def _dev_accuracy(run: Run, search: _Search, trial: Any) -> float:
    """Mean dev accuracy of a trial's students over the seeds; the next trial overwrites them."""
    folders = search.train(dataclasses.replace(search.student, **_suggested(search.student, trial)))
    accuracy: float = mean(
        saved_accuracy(run, [line["dev_accuracy"] for line in history(folder)]) for folder in folders
    )
    log.info("tune, trial %d: dev %.4f with %s", trial.number, accuracy, _flags(run, trial.params))
    return accuracy


def _suggested(usual: StudentSettings, trial: Any) -> dict[str, Any]:
    """The settings that a trial tries, from wide ranges around the usual ones."""
    return {
        "hidden": trial.suggest_categorical("hidden", sorted({64, 128, 256, usual.hidden})),
        "dropout": trial.suggest_float("dropout", 0.0, 0.6),
        "word_dropout": trial.suggest_float("word_dropout", 0.0, 0.3),
        "learning_rate": trial.suggest_float(
            "learning_rate", usual.learning_rate / 5, usual.learning_rate * 5, log=True
        ),
        "vector_learning_rate": trial.suggest_float(
            "vector_learning_rate", usual.vector_learning_rate / 5, usual.vector_learning_rate * 5, log=True
        ),
        "averaging": trial.suggest_categorical("averaging", [0.0, 0.99, 0.999]),
    }


def _flags(run: Run, parameters: dict[str, Any]) -> str:
    """A trial's settings as flags."""
    names = {field.name: flag_of(field) for field in dataclasses.fields(run.settings.student)}
    return " ".join(f"--{names[name]} {value:.4g}" for name, value in parameters.items())
