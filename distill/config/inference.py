"""Settings for the use of a trained student: export, prediction and service."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from distill.config.fields import FROM_DATA, Checked, option
from distill.errors import UserError, listed

FORMATS = ("bundle", "onnx")
ENGINES = ("local", "ray")
INPUT_FORMATS = ("txt", "csv", "tsv", "jsonl")
AUTO_YES_NO = ("auto", "yes", "no")


@dataclass(frozen=True)
class ExportSettings(Checked):
    """The student to export or to measure, and the format of the export."""

    format: str = option(
        "bundle", "bundle: a folder that runs without PyTorch; onnx: student and teacher as ONNX files", choices=FORMATS
    )
    student_folder: tuple[str, ...] = option(
        (), "folder of a trained student, used instead of the run's own; --mode benchmark accepts several", path=True
    )
    max_mb: float = option(
        20.0,
        "maximum size of a bundle's arrays in megabytes; to fit, word vectors are kept in 8 bits instead of 16, and if "
        "that is not enough, the rarest words are left out; 0: no limit",
        low=0,
        high=1e6,
    )
    examples: int = option(
        FROM_DATA,
        "number of test texts that are stored in the bundle, as examples for the web page of --mode serve; everybody "
        "who gets the bundle or opens the page can read them; default: none, and 5 of the embedded reviews",
        low=0,
        high=20,
    )
    push_to_hub: str = option(
        "", "USER/NAME of a model on the Hub, to which --mode export uploads the bundle and its model card"
    )

    @property
    def max_bytes(self) -> float:
        """``max_mb`` in bytes; infinity: no limit."""
        return 1e6 * self.max_mb or math.inf


@dataclass(frozen=True)
class PredictSettings(Checked):
    """The bundle (also for --mode serve), and the input and output of --mode predict."""

    bundle: str = option("", "folder of the student's bundle; default: the run's own", path=True)
    input: tuple[str, ...] = option(
        (), "input file, folder or glob pattern (see data/README.md for the formats); -: standard input", path=True
    )
    output: str = option(
        "", "output file or folder, for the same rows with label and probability; -: standard output", path=True
    )
    input_format: str = option("txt", "format of standard input", choices=INPUT_FORMATS)
    probabilities: bool = option(False, "write the probability of every label")
    escape_formulas: bool = option(
        True,
        "in a table with a byte order mark, as spreadsheets write it: put ' before cells that they would evaluate",
    )
    strict: bool = option(
        False, "stop at the first row of a data file or of --input that cannot be used, instead of setting it aside"
    )
    engine: str = option(
        "local", "local: the cores of this machine; ray: a Ray cluster, for Parquet files", choices=ENGINES
    )
    workers: int = option(
        0,
        "--engine ray: number of workers; 0: one per core of the cluster. --mode serve: number of processes that share "
        "the port; 0: one",
        low=0,
    )


CASCADE_BELOW = 0.8


@dataclass(frozen=True)
class UnsureSettings(Checked):
    """Texts of which the student is not sure (see docs/unsure.md)."""

    top_k: int = option(0, "number of most probable labels to list with their probabilities; 0: none", low=0)
    reject_below: float = option(
        0.0, "texts whose probability is below this get no label; 0: every text gets one", low=0, high=1
    )
    reject_label: str = option("", "label of the texts that --reject_below rejects; default: empty")
    cascade: bool = option(
        False, "send the texts whose probability is below --cascade_below to the run's teacher, which needs PyTorch"
    )
    cascade_below: float = option(CASCADE_BELOW, "threshold of --cascade", low=0, high=1)
    task_reject_below: tuple[str, ...] = option(
        (), "TASK=P: what takes the place of --reject_below in one of several tasks"
    )
    task_cascade_below: tuple[str, ...] = option(
        (), "TASK=P: what takes the place of --cascade_below in one of several tasks"
    )

    def check(self) -> None:
        """Refuse thresholds without --cascade, where they have no effect, and values that are not TASK=P.

        Raises:
            UserError: there is one.
        """
        _of_tasks(self.task_reject_below, "--task_reject_below")
        _of_tasks(self.task_cascade_below, "--task_cascade_below")
        if self.cascade_below != CASCADE_BELOW and not self.cascade:
            what = "--cascade_below has no effect without --cascade"
            raise UserError(what, "settings", f"--cascade --cascade_below {self.cascade_below:g}")
        if self.task_cascade_below and not self.cascade:
            what = "--task_cascade_below has no effect without --cascade"
            raise UserError(what, "settings", f"--cascade --task_cascade_below {self.task_cascade_below[0]}")

    @property
    def rejects(self) -> bool:
        """Whether texts are rejected, in one task at least."""
        return bool(self.reject_below or self.task_reject_below)

    @property
    def rejection_limits(self) -> str:
        """The thresholds of rejection, for a message."""
        return _shown(self.reject_below, self.task_reject_below)

    @property
    def cascade_limits(self) -> str:
        """Those of --cascade."""
        return _shown(self.cascade_below, self.task_cascade_below)

    def rejection(self, tasks: Sequence[str]) -> float | dict[str, float]:
        """The threshold of rejection: one number, or that of every one of several ``tasks``.

        Raises:
            UserError: --task_reject_below names something else than a task.
        """
        return _for_tasks(self.reject_below, self.task_reject_below, tasks, "--task_reject_below")

    def cascade_limit(self, tasks: Sequence[str]) -> float | dict[str, float]:
        """The threshold of --cascade, as in :meth:`rejection`."""
        return _for_tasks(self.cascade_below, self.task_cascade_below, tasks, "--task_cascade_below")


def _shown(value: float, of_tasks: Sequence[str]) -> str:
    """The common threshold, unless it is 0, and those of single tasks."""
    return ", ".join([*([f"{value:g}"] if value or not of_tasks else []), *of_tasks])


def _of_tasks(values: Sequence[str], flag: str) -> dict[str, float]:
    """The numbers of values TASK=P."""
    found: dict[str, float] = {}
    for value in values:
        name, _, text = value.rpartition("=")
        try:
            number = float(text)
        except ValueError:
            number = -1.0
        if not name or not 0 <= number <= 1:
            what = "a task's name and a probability from 0 to 1 are needed"
            raise UserError(what, f"{flag} {value}", f"{flag} topic=0.8")
        if name in found:
            raise UserError(f"the task {name} has a threshold already", f"{flag} {value}", "give one per task")
        found[name] = number
    return found


def _for_tasks(value: float, values: Sequence[str], tasks: Sequence[str], flag: str) -> float | dict[str, float]:
    of_tasks = _of_tasks(values, flag)
    if not of_tasks:
        return value
    if unknown := [name for name in of_tasks if name not in tasks]:
        which = f"the tasks are {listed(tasks)}" if tasks else "this student has only one"
        number = f"{of_tasks[unknown[0]]:g}"
        hint = f"{flag} {tasks[0]}={number}" if tasks else f"{flag.replace('task_', '')} {number}"
        if "=" in unknown[0]:
            hint = f"repeat the flag for every task: {flag} TASK=P {flag} TASK=P"
        raise UserError(f"there is no task {unknown[0]}; {which}", flag, hint)
    return dict.fromkeys(tasks, value) | of_tasks


@dataclass(frozen=True)
class ServeSettings(Checked):
    """The address and the limits of --mode serve."""

    host: str = option("127.0.0.1", "address to listen on; 0.0.0.0: all addresses of this machine")
    port: int = option(8000, "port to listen on; 0: any free port", low=0, high=65535)
    allowed_host: tuple[str, ...] = option(
        (),
        "host name that requests may name, besides the address of --host and localhost; *: any; "
        "default with --host 0.0.0.0: any",
    )
    allow_origin: tuple[str, ...] = option(
        (), "origin whose web pages may use the service, such as https://news.example.com; *: any"
    )
    token_file: str = option(
        "", "file with a token that all requests but those for /health and /ready must have", path=True
    )
    allow_reload: bool = option(False, "POST /reload loads the bundle again, as the signal SIGHUP does")
    with_teacher: str = option(
        "auto",
        "also show the teacher's prediction on the web page; auto: if the run has a teacher",
        choices=AUTO_YES_NO,
    )
    most_texts: int = option(1024, "maximum number of texts per request", low=1)
    most_characters: int = option(10_000, "maximum number of characters per text", low=1)
    most_bytes: int = option(
        2**20, "maximum size of a request in bytes; an uploaded file may be 20 times as large", low=1
    )
    most_waiting: int = option(1024, "maximum number of waiting requests; further requests are refused", low=1)
    wait_s: float = option(
        10.0, "maximum number of seconds that a request waits for its response", flag="wait", low=0.001, high=3600
    )
    stop_s: float = option(
        30.0, "seconds that accepted requests have to finish when the service stops", flag="stop", low=0, high=3600
    )
    access_log: bool = option(False, "log every request; default: one summary per minute; texts are never logged")
