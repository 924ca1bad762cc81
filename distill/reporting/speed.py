"""The speed table: every model from raw text to label, as JSON, Markdown, plot and text."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np

from distill.data.examples import ACCURACY, AGREEMENT, MEAN_SCORE, MICRO_F1
from distill.reporting import accuracy_speed_plot
from distill.reporting.accuracy_speed_plot import TimedPoint
from distill.reporting.results import to_json
from distill.reporting.tables import (
    Column,
    decimals,
    lines_of,
    markdown_list,
    markdown_table,
    meanings,
    percent,
    text_table,
    thousands,
    three_digits,
)
from distill.storage.atomic import write_file, write_json
from distill.translation import Listed, Text


@dataclass(frozen=True)
class Measurement:
    """What was measured of one model with one number of threads.

    Args:
        name: as shown; with ``threads`` it identifies the row.
        threads: of the processor.
        batch: number of texts in a batch.
        texts: number of texts in a round.
        rounds: seconds per text, one figure per round.
        singles: seconds of calls with one text each; () where that was not measured.
        memory_mb: peak memory of a fresh process that only loads the model and labels some texts, in MB (10^6 bytes).
        start_s: seconds from the start of that process to its first label.
        bytes: size of its files.
        accuracy: share of the test texts that are right or, in multi-label data, micro-F1; None if the model gives no
            labels of these data.
        labels_equal: share of the test texts with the same label as from the same weights in PyTorch with fp32.
        by_task: with several tasks the score of each that the model answers, by the task's name, instead of
            ``accuracy``.
    """

    name: str
    threads: int
    batch: int
    texts: int
    rounds: Sequence[float]
    singles: Sequence[float] = ()
    memory_mb: float | None = None
    start_s: float | None = None
    bytes: int | None = None
    accuracy: float | None = None
    labels_equal: float | None = None
    by_task: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Speed:
    """Everything that the speed table is made from.

    Args:
        measured: one per row.
        reference_model: name of the model whose row with one thread ``speedup`` is relative to.
        machine: name of the processor.
        texts: number of texts in a round of the fast models.
        rounds: number of rounds of the fast models.
        versions: of packages.
        settings: of the run.
        notes: sentences on how it was measured and what is missing.
        score: what ``accuracy`` is: "accuracy", "agreement" or "micro-F1".
        tasks: with several tasks what is measured of each, by the task's name.
    """

    measured: Sequence[Measurement]
    reference_model: str
    machine: str
    texts: int
    rounds: int
    versions: Mapping[str, str]
    settings: Mapping[str, Any]
    notes: Sequence[str] = field(default=())
    score: str = ACCURACY
    tasks: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class SpeedRow:
    """A row of the speed table, as in benchmark.json; None where it was not measured.

    ``us_per_text`` is the median over the rounds in microseconds, ``us_low`` and ``us_high`` the fastest and the
    slowest round; ``p50_us`` and ``p99_us`` are percentiles of single calls; ``speedup`` is how many times faster than
    the reference model it is. ``by_task`` has the scores of several tasks.
    """

    name: str
    threads: int
    batch: int
    us_per_text: float
    us_low: float
    us_high: float
    texts_per_s: float
    p50_us: float | None
    p99_us: float | None
    memory_mb: float | None
    start_s: float | None
    size_mb: float | None
    accuracy: float | None
    speedup: float | None
    labels_equal: float | None
    texts: int
    rounds: int
    calls: int
    by_task: Mapping[str, float] = field(default_factory=dict, metadata={"key": "tasks", "is_optional": True})


@dataclass(frozen=True)
class Shipped:
    """The speed of what ships, next to that of what it replaces, for the report.

    Args:
        rows: of the student, its teacher and BERT-base; ``speedup`` is relative to BERT-base on one thread.
        student: name of the student's rows.
        teacher: name of the teacher's rows; "" if there is no teacher.
        reference: name of BERT-base's row.
        is_bundle: whether the student was timed as a bundle, or else in PyTorch.
        machine: name of the processor.
        remarks: sentences on what was timed.
    """

    rows: Sequence[SpeedRow]
    student: str
    teacher: str
    reference: str
    is_bundle: bool
    machine: str
    remarks: Sequence[str] = field(default=())

    def row(self, name: str) -> SpeedRow:
        """The row of a model on one thread."""
        return next(row for row in self.rows if (row.name, row.threads) == (name, 1))

    @property
    def bundle_bytes(self) -> float | None:
        """Size of the bundle; None if there is none."""
        size = self.row(self.student).size_mb
        return 1e6 * size if self.is_bundle and size else None

    def times_faster_than(self, name: str) -> float:
        """How many times as fast as another model the student is, both on one thread."""
        return self.row(name).us_per_text / self.row(self.student).us_per_text

    def to_json(self) -> dict[str, Any]:
        """As it stands in report.json."""
        return {
            "rows": [to_json(row) for row in self.rows],
            "is_bundle": self.is_bundle,
            "times_bert_base": self.times_faster_than(self.reference),
            "times_teacher": self.times_faster_than(self.teacher) if self.teacher else None,
            "machine": self.machine,
            "remarks": list(self.remarks),
        }

    @property
    def headline(self) -> list[Text]:
        """How many times as fast as BERT-base and as its teacher the student is."""
        compared = {Text("BERT-base"): self.reference, Text("its teacher"): self.teacher}
        return [
            Text("{factor} × as fast as {model}", factor=factor(self.times_faster_than(name)), model=model)
            for model, name in compared.items()
            if name
        ]

    @property
    def conditions(self) -> Text:
        """The conditions of the headline: what was compared with how many texts, threads and which processor."""
        models = [(Text("the bundle" if self.is_bundle else "the student in PyTorch"), self.student)]
        models += [(Text("its teacher in {precision}", precision=self.teacher.rpartition(", ")[2]), self.teacher)]
        models += [(Text("BERT-base in {precision}", precision="fp32"), self.reference)]
        return Text(
            "One thread of {processor}, from raw text to label, in batches: {models}.",
            processor=self.machine,
            models=Listed(self._timed(title, self.row(name)) for title, name in models if name),
        )

    @staticmethod
    def _timed(title: Text, row: SpeedRow) -> Text:
        return Text(
            "{model} {us} µs per text ({texts} texts)", model=title, us=three_digits(row.us_per_text), texts=row.texts
        )


def factor(value: float) -> str:
    """A factor with at least two significant digits: a student may be slower than a tiny teacher."""
    return f"{value:,.0f}" if value >= 10 else f"{value:.2g}"


def rows_of(measured: Sequence[Measurement], reference_model: str) -> list[SpeedRow]:
    """One row per model and number of threads."""
    reference_rounds = next((row.rounds for row in measured if (row.name, row.threads) == (reference_model, 1)), None)
    reference_seconds = None if reference_rounds is None else float(np.median(reference_rounds))
    return [_row(row, reference_seconds) for row in measured]


def _row(measurement: Measurement, reference_seconds: float | None) -> SpeedRow:
    seconds = float(np.median(measurement.rounds))
    p50, p99 = (
        (float(p) * 1e6 for p in np.percentile(measurement.singles, (50, 99))) if measurement.singles else (None, None)
    )
    return SpeedRow(
        name=measurement.name,
        threads=measurement.threads,
        batch=measurement.batch,
        us_per_text=seconds * 1e6,
        us_low=min(measurement.rounds) * 1e6,
        us_high=max(measurement.rounds) * 1e6,
        texts_per_s=1 / seconds,
        p50_us=p50,
        p99_us=p99,
        memory_mb=measurement.memory_mb,
        start_s=measurement.start_s,
        size_mb=None if measurement.bytes is None else measurement.bytes / 1e6,
        accuracy=measurement.accuracy,
        speedup=None if reference_seconds is None else reference_seconds / seconds,
        labels_equal=measurement.labels_equal,
        by_task=measurement.by_task,
        texts=measurement.texts,
        rounds=len(measurement.rounds),
        calls=len(measurement.singles),
    )


def write(speed: Speed, folder: Path) -> tuple[str, list[Path]]:
    """Write benchmark.json, benchmark.md and benchmark.png; returns the table for a terminal and the files."""
    rows = rows_of(speed.measured, speed.reference_model)
    content = {
        "rows": [to_json(row) for row in rows],
        "machine": speed.machine,
        "texts": speed.texts,
        "rounds": speed.rounds,
        "versions": speed.versions,
        "settings": speed.settings,
        "notes": list(speed.notes),
        **({"measured": speed.score} if speed.score != ACCURACY else {}),
        **({"tasks": speed.tasks} if speed.tasks else {}),
    }
    columns = _score_columns(speed)
    files = [
        write_json(folder / "benchmark.json", content),
        write_file(folder / "benchmark.md", markdown(rows, speed.reference_model, speed.notes, columns)),
        accuracy_speed_plot.draw_speed(
            [_point(row, speed.tasks) for row in rows],
            folder / "benchmark.png",
            MEAN_SCORE if speed.tasks else speed.score,
        ),
    ]
    return terminal(rows, speed.notes, columns), files


def _point(row: SpeedRow, tasks: Mapping[str, str]) -> TimedPoint:
    """The row in the plot, with the mean score of several tasks if it answers all of them."""
    score = fmean(row.by_task.values()) if tasks and row.by_task.keys() == tasks.keys() else row.accuracy
    return TimedPoint(row.name, row.texts_per_s, score, row.threads)


def median_and_range(row: SpeedRow) -> str:
    """The median with the fastest and the slowest round."""
    return f"{three_digits(row.us_per_text)} ({three_digits(row.us_low)} to {three_digits(row.us_high)})"


NAME: Column[SpeedRow] = Column("", lambda row: row.name)
THREADS: Column[SpeedRow] = Column("threads", lambda row: row.threads, meaning="number of CPU threads.")
P50: Column[SpeedRow] = Column(
    "p50 µs", lambda row: row.p50_us, three_digits, meaning="median time of a call with a single text."
)
P99: Column[SpeedRow] = Column(
    "p99 µs", lambda row: row.p99_us, three_digits, meaning="99th percentile of the time of a call with a single text."
)
SCORE: Column[SpeedRow] = Column(
    ACCURACY, lambda row: row.accuracy, decimals(4), meaning="share of test texts classified correctly."
)
LABEL_SET_SCORE = dataclasses.replace(
    SCORE, title=MICRO_F1, meaning="F1 of all decisions on a test text and a label taken together."
)
AGREEMENT_SCORE = dataclasses.replace(
    SCORE, title=AGREEMENT, meaning="share of test texts that get the label that the teachers give."
)
SPEEDUP: Column[SpeedRow] = Column(
    "times quicker",
    lambda row: row.speedup,
    three_digits,
    meaning="than {reference_model} with one thread, by µs per text.",
)
COLUMNS: tuple[Column[SpeedRow], ...] = (
    THREADS,
    Column("batch", lambda row: row.batch, meaning="number of texts in a batch."),
    Column(
        "µs per text",
        median_and_range,
        meaning="microseconds from raw text to label, in batches: median of the rounds (fastest to slowest).",
    ),
    Column("texts/s", lambda row: row.texts_per_s, thousands(), meaning="the same as a rate."),
    P50,
    P99,
    Column(
        "memory MB",
        lambda row: row.memory_mb,
        thousands(),
        meaning="peak memory of a fresh process that only loads the model and labels 256 texts.",
    ),
    Column(
        "start s",
        lambda row: row.start_s,
        three_digits,
        meaning="seconds from the start of that process to its first label.",
    ),
    Column("size MB", lambda row: row.size_mb, three_digits, meaning="size of its files."),
    SCORE,
    SPEEDUP,
    Column(
        "labels equal",
        lambda row: row.labels_equal,
        percent(2),
        meaning="share of test texts that get the same label as from the same weights in PyTorch with fp32.",
    ),
)
SHORT_COLUMNS: tuple[Column[SpeedRow], ...] = (  # these fit 100 characters
    NAME,
    THREADS,
    Column("µs per text", lambda row: row.us_per_text, three_digits),
    P50,
    P99,
    SCORE,
    SPEEDUP,
)


SHIPPED_COLUMNS: tuple[Column[SpeedRow], ...] = (  # these fit 80 characters
    NAME,
    Column("threads", lambda row: row.threads),
    Column("µs per text", lambda row: row.us_per_text, three_digits),
    P50,
    Column("× BERT-base", lambda row: row.speedup, three_digits),
    Column("texts", lambda row: row.texts),
)


def shipped_lines(shipped: Shipped) -> list[list[str]]:
    """Header and rows of the report's table of what ships."""
    return lines_of(shipped.rows, SHIPPED_COLUMNS)


def _score_columns(speed: Speed) -> list[Column[SpeedRow]]:
    """The column of the score, or that of each of several tasks."""
    by_score = {ACCURACY: SCORE, AGREEMENT: AGREEMENT_SCORE, MICRO_F1: LABEL_SET_SCORE}
    if not speed.tasks:
        return [by_score[speed.score]]
    return [_task_column(name, by_score[measured]) for name, measured in speed.tasks.items()]


def _task_column(name: str, column: Column[SpeedRow]) -> Column[SpeedRow]:
    return dataclasses.replace(column, title=f"{name}, {column.title}", value=lambda row: row.by_task.get(name))


def _with_scores(columns: Sequence[Column[SpeedRow]], scores: Sequence[Column[SpeedRow]]) -> list[Column[SpeedRow]]:
    """The columns with those of the scores."""
    place = columns.index(SCORE)
    return [*columns[:place], *scores, *columns[place + 1 :]]


def markdown(
    rows: Sequence[SpeedRow], reference_model: str, notes: Sequence[str], scores: Sequence[Column[SpeedRow]] = (SCORE,)
) -> str:
    """The whole table as Markdown, each column explained."""
    columns = _with_scores(COLUMNS, scores)
    explained = {title: meaning.format(reference_model=reference_model) for title, meaning in meanings(columns).items()}
    parts = [
        "# Speed",
        markdown_table(lines_of(rows, (NAME, *columns))),
        "\n".join(f"- {note}" for note in notes),
        "![accuracy and speed](benchmark.png)",
        markdown_list(explained),
    ]
    return "\n\n".join(filter(None, parts)) + "\n"


def short_lines(rows: Sequence[SpeedRow], scores: Sequence[Column[SpeedRow]] = (SCORE,)) -> list[list[str]]:
    """Header and rows with the most important columns."""
    return lines_of(rows, _with_scores(SHORT_COLUMNS, scores))


def terminal(rows: Sequence[SpeedRow], notes: Sequence[str], scores: Sequence[Column[SpeedRow]] = (SCORE,)) -> str:
    """The table for a terminal, 100 columns wide."""
    return "\n".join([*text_table(short_lines(rows, scores)), "", *notes])
