"""The registry of modes. A new mode takes one function and one entry in ``MODES``, which holds all facts about it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Mode:
    """A mode of the command line.

    Functions are named ``module:function``. They are imported (:func:`pkgutil.resolve_name`) when the mode runs,
    because PyTorch takes seconds to import and ``--help`` does not need it.

    Args:
        summary: one sentence for ``--help``; its subject is the mode.
        sections: sections of the settings that the mode uses besides ``run``.
        function: runs the mode; returns the files and folders that it wrote or that were up to date.
        takes_run: whether ``function`` takes a :class:`distill.commands.experiment.Run` (the settings with their data
            and models); otherwise it takes the settings alone. With several processes, only the first one calls it.
        all_processes: in a launch of several processes, the part of the work that all of them do together before the
            first one calls ``function``; takes a ``Run``. Empty: there is none.
        check: what can be refused before anything is computed; takes a ``Run``. Empty: nothing.
        trains: whether the mode trains models or labels texts, so that config.json records its settings.
        chooses_settings: whether ``--save_config`` reads the data and writes the numbers that the mode would choose
            for settings at -1.
        has_several_networks: whether the mode trains the students of ``--students`` and not that of ``--student``.
        results_on_stdout: whether standard output is for results alone; messages then go to standard error.
        extra: the extra of pyproject.toml that installs the mode's packages.
    """

    summary: str
    sections: tuple[str, ...]
    function: str
    takes_run: bool = True
    all_processes: str = ""
    check: str = ""
    trains: bool = False
    chooses_settings: bool = False
    has_several_networks: bool = False
    results_on_stdout: bool = False
    extra: str = "train"


MODES = {
    "all": Mode(
        "runs every stage from the teacher to bundle and report; finished stages are kept",
        ("data", "teacher", "transfer", "student", "objective", "report", "export"),
        "distill.commands.all_stages:run_all_stages",
        all_processes="distill.commands.all_stages:prepare_teachers",
        check="distill.commands.all_stages:check_stages",
        trains=True,
        chooses_settings=True,
    ),
    "train_teacher": Mode(
        "fine-tunes the teacher on the labels and keeps the weights that are best on dev",
        ("data", "teacher"),
        "distill.commands.train_teacher:train_teacher",
        all_processes="distill.commands.train_teacher:train_teacher",
        trains=True,
        chooses_settings=True,
    ),
    "label": Mode(
        "computes the teacher's logits for the transfer set; lists the labels that the teacher contradicts",
        ("data", "transfer"),
        "distill.commands.label:label",
        all_processes="distill.commands.teachers:cache_outputs",
        trains=True,
        chooses_settings=True,
    ),
    "train_student": Mode(
        "trains the student to imitate the teacher; with --a 1 --T 0 it learns from the labels alone",
        ("data", "transfer", "student", "objective"),
        "distill.commands.train_student:train_students",
        all_processes="distill.commands.teachers:cache_needed_outputs",
        check="distill.commands.train_student:check_student",
        trains=True,
        chooses_settings=True,
    ),
    "test": Mode(
        "evaluates every trained model on test once and writes the report",
        ("data", "transfer", "report"),
        "distill.commands.evaluate:test",
    ),
    "compare": Mode(
        "trains every combination of student, objective and seed; writes one table of test results",
        ("data", "teacher", "transfer", "student", "objective", "compare"),
        "distill.commands.compare:compare",
        all_processes="distill.commands.compare:prepare_teachers",
        check="distill.commands.compare:check_settings",
        trains=True,
        chooses_settings=True,
        has_several_networks=True,
    ),
    "tune": Mode(
        "searches the student's settings with Optuna, by accuracy on dev",
        ("data", "transfer", "student", "objective", "compare"),
        "distill.commands.tune:tune",
        all_processes="distill.commands.teachers:cache_needed_outputs",
        check="distill.commands.train_student:check_student",
        trains=True,
    ),
    "export": Mode(
        "writes the student as a bundle that runs without PyTorch, or as ONNX files",
        ("data", "export"),
        "distill.commands.export:export",
    ),
    "benchmark": Mode(
        "measures every model's speed, from raw text to label; writes one table",
        ("data", "export"),
        "distill.commands.benchmark.table:benchmark",
    ),
    "predict": Mode(
        "labels files of any size with a bundle; the rows keep their order",
        ("data", "transfer", "predict", "unsure"),
        "distill.predict:predict",
        takes_run=False,
        results_on_stdout=True,
        extra="predict",
    ),
    "serve": Mode(
        "serves a bundle over HTTP, with a web page to try it",
        ("data", "transfer", "predict", "unsure", "serve"),
        "distill.serve:serve",
        takes_run=False,
        results_on_stdout=True,
        extra="serve",
    ),
}
