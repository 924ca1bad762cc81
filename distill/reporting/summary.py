"""The report's contents: the figures of every kind of model, its table and its sentences, as text and as Markdown."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from distill.data.checks import Check
from distill.data.examples import ACCURACY, MICRO_F1
from distill.data.hierarchy import Hierarchy
from distill.evaluation import metrics, multi_label
from distill.evaluation.levels import WITHIN_PARENT
from distill.evaluation.metrics import Scores, mean_and_sd
from distill.evaluation.multi_label import MultiLabelScores
from distill.reporting.comparison_record import ComparisonRecord
from distill.reporting.results import (
    MACRO_F1_MEANING,
    SUBSET_ACCURACY_MEANING,
    TEACHER,
    TITLES,
    EvaluationContext,
    Outcome,
    by_kind,
    data_sentence,
    first_seeds,
)
from distill.reporting.selective import OnDev
from distill.reporting.speed import Shipped, shipped_lines
from distill.reporting.tables import (
    Column,
    decimals,
    file_size,
    lines_of,
    markdown_list,
    markdown_table,
    meanings,
    percent,
    text_table,
    thousands,
    transposed,
)
from distill.translation import Listed, Text


@dataclass(frozen=True)
class LinearResult:
    """The linear baseline on the test set, and the weight of its scores in the logits that the student imitates.

    ``level_scores`` are those on the levels above labels that are paths.
    """

    scores: Scores | MultiLabelScores
    weight: float
    level_scores: Mapping[str, float | None] = field(default_factory=dict)

    def to_json(self) -> dict[str, float | None]:
        """As it stands in report.json."""
        return {**asdict(self.scores), **self.level_scores, "weight": self.weight}


@dataclass(frozen=True)
class Usage:
    """A command that uses what the run has made, and what it is for."""

    purpose: str
    command: str


@dataclass(frozen=True)
class Report:
    """Everything that a report shows.

    Args:
        name: of the run.
        context: test set, labels, data, settings.
        outcomes: one per trained model.
        versions: of Python and packages.
        missing: a sentence for every kind of model that was not trained.
        linear: the linear baseline, which a student must beat.
        warning: what must be read before any figure.
        comparison: contents of the run's compare.json.
        label_noise_file: name of the file of labels that the teacher contradicts; "" if there is none.
        checks: of the data.
        decisions: one line for each that the readers of the data made for the user.
        warnings: all of the run, those of the checks included.
        shipped: the speed of what ships; None if no student is trained.
        usage: the commands that use the bundle; none if there is no bundle.
        on_dev: what thresholds for unsure texts are chosen from; None: there is no student, or no dev text has a label.
    """

    name: str
    context: EvaluationContext
    outcomes: Sequence[Outcome]
    versions: Mapping[str, str]
    missing: Sequence[str] = field(default=())
    linear: LinearResult | None = None
    warning: str = ""
    comparison: ComparisonRecord | None = None
    label_noise_file: str = ""
    checks: Sequence[Check] = field(default=())
    decisions: Sequence[str] = field(default=())
    warnings: Sequence[str] = field(default=())
    shipped: Shipped | None = None
    usage: Sequence[Usage] = field(default=())
    on_dev: OnDev | None = None


@dataclass(frozen=True)
class Estimate:
    """Mean and sample standard deviation over the seeds; ``sd`` is None for a single seed."""

    mean: float
    sd: float | None

    @staticmethod
    def of(values: Sequence[float]) -> Estimate:
        """Of one value per seed."""
        mean, sd = mean_and_sd(values)
        return Estimate(mean, sd if len(values) > 1 else None)


@dataclass(frozen=True)
class ModelScores:
    """A row of the report: one kind of model, mean over its seeds.

    ``scores`` has the fields of ``Scores`` or ``MultiLabelScores`` by name, and those of the levels above labels that
    are paths. ``retained`` is the share of the teacher's mean accuracy or micro-F1, ``speedup`` how many times faster
    than the teacher's mean it is; both are None without a teacher. The GPU's figures are None where there is no GPU;
    sizes and times are None for a teacher that is no model.
    """

    name: str
    main: Estimate
    scores: Mapping[str, Estimate | None]
    parameters: int | None
    bytes: int | None
    ms_per_text: Estimate | None
    ms_per_text_gpu: Estimate | None
    retained: Estimate | None
    speedup: Estimate | None
    speedup_gpu: Estimate | None
    seeds: int

    @property
    def title(self) -> Text:
        """Name of the kind of model in tables and plots."""
        return TITLES[self.name]

    def to_json(self) -> dict[str, Any]:
        """As it stands in report.json: a figure's standard deviation follows it under its key with ``_sd``."""
        row: dict[str, Any] = {"name": self.name}
        figures: dict[str, Estimate | int | None] = {
            **self.scores,
            "parameters": self.parameters,
            "bytes": self.bytes,
            "ms_per_text": self.ms_per_text,
            "ms_per_text_gpu": self.ms_per_text_gpu,
            "kept": self.retained,
            "speedup": self.speedup,
            "speedup_gpu": self.speedup_gpu,
        }
        for key, figure in figures.items():
            if key.endswith("_gpu") and self.ms_per_text_gpu is None:
                continue
            row[key] = figure.mean if isinstance(figure, Estimate) else figure
            if isinstance(figure, Estimate) and figure.sd is not None:
                row[f"{key}_sd"] = figure.sd
        return {**row, "seeds": self.seeds}


def model_scores(context: EvaluationContext, outcomes: Sequence[Outcome]) -> list[ModelScores]:
    """One row per kind of model, the teacher first."""
    of_kinds = by_kind(outcomes)
    return [_model_scores(context, seeds, of_kinds.get(TEACHER, [])) for seeds in of_kinds.values()]


def _model_scores(context: EvaluationContext, seeds: Sequence[Outcome], teachers: Sequence[Outcome]) -> ModelScores:
    """The row of one kind of model, compared with the mean over the teachers."""
    scores = [context.scores(outcome.predicted, outcome.logits) for outcome in seeds]
    by_name = [
        {**asdict(score), **context.level_scores(one.predicted)} for score, one in zip(scores, seeds, strict=True)
    ]

    def ms_per_text(device: str) -> Estimate | None:
        times = [outcome.ms_per_text[device] for outcome in seeds if device in outcome.ms_per_text]
        return Estimate.of(times) if times else None

    def speedup(device: str) -> Estimate | None:
        of_teachers = [teacher.ms_per_text[device] for teacher in teachers if device in teacher.ms_per_text]
        times = [outcome.ms_per_text[device] for outcome in seeds if device in outcome.ms_per_text]
        teacher_ms = float(np.mean(of_teachers)) if of_teachers else 0.0
        return Estimate.of([teacher_ms / time for time in times]) if of_teachers and times else None

    return ModelScores(
        name=seeds[0].name,
        main=Estimate.of([score.main for score in scores]),
        scores={name: _estimate_of([score[name] for score in by_name]) for name in by_name[0]},
        parameters=_mean([outcome.parameters for outcome in seeds]),
        bytes=_mean([outcome.bytes for outcome in seeds]),
        ms_per_text=ms_per_text("cpu"),
        ms_per_text_gpu=ms_per_text("gpu"),
        retained=_retained(context, scores, teachers),
        speedup=speedup("cpu"),
        speedup_gpu=speedup("gpu"),
        seeds=len(seeds),
    )


def _estimate_of(values: Sequence[float | None]) -> Estimate | None:
    """None if a value is missing."""
    known = [value for value in values if value is not None]
    return Estimate.of(known) if len(known) == len(values) else None


def _mean(values: Sequence[int | None]) -> int | None:
    """The rounded mean of the values that there are; None: there are none."""
    known = [value for value in values if value is not None]
    return round(float(np.mean(known))) if known else None


def _retained(
    context: EvaluationContext, scores: Sequence[Scores | MultiLabelScores], teachers: Sequence[Outcome]
) -> Estimate | None:
    reached = float(np.mean([context.scores(teacher.predicted).main for teacher in teachers])) if teachers else 0.0
    return Estimate.of([score.main / reached for score in scores]) if reached else None


def _estimate(
    title: str,
    get: Callable[[ModelScores], Estimate | None],
    show: Callable[[float], str],
    *,
    spread: bool = False,
    meaning: str = "",
) -> Column[ModelScores]:
    def mean(row: ModelScores) -> float | None:
        estimate = get(row)
        return None if estimate is None else estimate.mean

    def sd(row: ModelScores) -> float | None:
        estimate = get(row)
        return None if estimate is None else estimate.sd

    return Column(title, mean, show, sd if spread else lambda _: None, meaning)


def _score(title: str, name: str, meaning: str = "") -> Column[ModelScores]:
    """The column of a score by its name."""
    return _estimate(title, lambda row: row.scores[name], decimals(4), spread=True, meaning=meaning)


NAME: Column[ModelScores] = Column("", lambda row: row.title)
SCORES: tuple[Column[ModelScores], ...] = (
    _score("accuracy", "accuracy"),
    _score("on distinct texts", "accuracy_distinct"),
    _score("macro-F1", "macro_f1"),
)
MULTI_LABEL_SCORES: tuple[Column[ModelScores], ...] = (
    _score(
        "micro-F1",
        "micro_f1",
        "harmonic mean of precision (share of the labels given that are right) and recall (share of the labels in the "
        "data that are given), over all texts and labels together.",
    ),
    _score("macro-F1", "macro_f1", MACRO_F1_MEANING),
    _score("sample F1", "sample_f1", "mean of the texts' F1; that of a text without labels that gets none is 1."),
    _score("subset accuracy", "subset_accuracy", SUBSET_ACCURACY_MEANING),
    _score("Hamming loss", "hamming_loss", "share of the decisions on a text and a label that are wrong; 0 is best."),
    _score(
        "mAP",
        "mean_average_precision",
        "mean average precision: how well each label's probability ranks the texts, without a threshold; mean over "
        "the labels.",
    ),
)
OTHERS: tuple[Column[ModelScores], ...] = (
    _estimate("of the teacher", lambda row: row.retained, percent(1)),
    Column("parameters", lambda row: row.parameters, thousands()),
    Column("on disk", lambda row: row.bytes, file_size),
    _estimate("ms per text (CPU)", lambda row: row.ms_per_text, decimals(3)),
    _estimate("times faster", lambda row: row.speedup, thousands(1)),
)
GPU_COLUMNS: tuple[Column[ModelScores], ...] = (
    _estimate("ms per text (GPU)", lambda row: row.ms_per_text_gpu, decimals(3)),
    _estimate("times faster (GPU)", lambda row: row.speedup_gpu, thousands(1)),
)
SEEDS: Column[ModelScores] = Column("seeds", lambda row: row.seeds)


def score_columns(measured: str, hierarchy: Hierarchy | None = None) -> tuple[Column[ModelScores], ...]:
    """The columns of the scores; ``measured`` is the figure that models are compared by."""
    of_labels = MULTI_LABEL_SCORES if measured == MICRO_F1 else SCORES
    return of_labels if hierarchy is None else (*of_labels, *_level_columns(measured, hierarchy))


def _level_columns(measured: str, hierarchy: Hierarchy) -> list[Column[ModelScores]]:
    """The columns of the scores on the levels above the labels, and the share of mistakes with the right parent."""
    columns, is_multi_label = [], measured == MICRO_F1
    for number in (level.number for level in hierarchy.levels):
        title = Text("micro-F1, level {number}" if is_multi_label else "accuracy, level {number}", number=number)
        columns.append(_score(title, f"{'micro_f1' if is_multi_label else 'accuracy'}_level_{number}"))
        columns.append(_score(Text("macro-F1, level {number}", number=number), f"macro_f1_level_{number}"))
    if not is_multi_label:
        meaning = Text("share of the mistakes whose label has the same parent as the right label.")
        columns.append(_score(Text("mistakes with the right parent"), WITHIN_PARENT, meaning))
    return columns


def lines(rows: Sequence[ModelScores], measured: str = ACCURACY, hierarchy: Hierarchy | None = None) -> list[list[str]]:
    """Header and rows of the report's table; the GPU's columns only where there was one.

    ``measured`` is the figure that models are compared by, or what the share of correct texts is called; ``hierarchy``
    are the levels above labels that are paths.
    """
    has_gpu = any(row.ms_per_text_gpu is not None for row in rows)
    columns = (NAME, *score_columns(measured, hierarchy), *OTHERS, *(GPU_COLUMNS if has_gpu else ()), SEEDS)
    header, *body = lines_of(rows, columns)
    return [[measured if title == ACCURACY else title for title in header], *body]


def classification_reports(report: Report) -> dict[str, str]:
    """A classification report per kind of model, for its first seed, by title."""
    return {
        outcome.title
        if outcome.name == TEACHER
        else Text("{model}, seed {seed}", model=outcome.title, seed=outcome.seed): _classification_report(
            outcome, report.context
        )
        for outcome in first_seeds(report.outcomes)
    }


def _classification_report(outcome: Outcome, context: EvaluationContext) -> str:
    """The share of correct texts has the name of what is measured."""
    if context.is_multi_label:
        return multi_label.classification_table(context.gold, outcome.predicted, context.labels)
    table = metrics.classification_table(context.gold, outcome.predicted, context.labels)
    return table if context.has_labels else table.replace(f" {ACCURACY}", context.measured)


def agreement_sentence(context: EvaluationContext) -> list[str]:
    """What the figures measure where there are no labels; nothing where there are."""
    if context.has_labels:
        return []
    return [
        Text(
            "The data has no labels. Every figure measures agreement with the teachers' answers, not accuracy: if an "
            "answer is wrong, a student that repeats it counts as right. To measure accuracy, label some texts by hand "
            "(--mode label --for_labelling 300)."
        )
    ]


def linear_sentence(linear: LinearResult | None, rows: Sequence[ModelScores], measured: str = ACCURACY) -> list[str]:
    """Sentences about the linear baseline and the models that are worse; none if it was not measured."""
    if linear is None:
        return []
    score = linear.scores.main
    worse = [row.title for row in rows if row.main.mean < score]
    sentences = [
        Text(
            "Linear baseline (one LinearSVC per label, one-vs-rest, on words and characters): {measured} {score:.4f}."
            if measured == MICRO_F1
            else "Linear baseline (LinearSVC on words and characters): {measured} {score:.4f}.",
            measured=Text(measured),
            score=score,
        )
    ]
    if worse:
        sentences.append(Text("Below the linear baseline: {models}.", models=Listed(worse, ", ", "、")))
    if linear.weight:
        imitated = Text(
            "The student imitates its teacher's logits plus {weight:g} x the scores of LinearSVC.", weight=linear.weight
        )
        sentences.append(imitated)
    return [Listed(sentences, " ", "")]


@dataclass(frozen=True)
class Summary:
    """What every form of the report shows: its rows, classification reports by title, sentences, and checks."""

    warning: str
    rows: Sequence[ModelScores]
    details: Mapping[str, str]
    remarks: Sequence[str]
    data: str
    timing: str
    warnings: Sequence[str]
    passed: Sequence[str]
    decisions: Sequence[str]
    shipped: Shipped | None
    usage: Sequence[Usage]
    measured: str = ACCURACY
    hierarchy: Hierarchy | None = None

    @property
    def notes(self) -> list[str]:
        """The sentences below the table."""
        return [*self.remarks, self.data, self.timing]

    @property
    def table(self) -> list[list[str]]:
        """Header and rows of the table."""
        return lines(self.rows, self.measured, self.hierarchy)

    @property
    def meanings(self) -> dict[str, str]:
        """The explanation of every score that has one, by its title."""
        return meanings(score_columns(self.measured, self.hierarchy))


def summarise(report: Report) -> Summary:
    """Compute the figures of a report."""
    rows = model_scores(report.context, report.outcomes)
    return Summary(
        warning=report.warning,
        rows=rows,
        details=classification_reports(report),
        remarks=[
            *agreement_sentence(report.context),
            *linear_sentence(report.linear, rows, report.context.measured),
            *report.missing,
        ],
        data=data_sentence(report.context.data, is_multi_label=report.context.is_multi_label),
        timing=report.context.timing,
        warnings=report.warnings,
        passed=[check.message for check in report.checks if not check.is_warning],
        decisions=report.decisions,
        shipped=report.shipped,
        usage=report.usage,
        measured=report.context.measured,
        hierarchy=report.context.hierarchy,
    )


def markdown(summary: Summary) -> str:
    """The whole report as Markdown, a warning first."""
    parts = [
        "# Report",
        *([f"**{summary.warning}**"] if summary.warning else []),
        *_headline(summary.shipped, "**{}.**"),
        markdown_table(summary.table),
        *filter(None, [markdown_list(summary.meanings)]),
        *summary.notes,
        "![training curves](curves.png)",
        f"![{'F1 by label' if summary.measured == MICRO_F1 else 'confusions'}](confusion.png)",
        *_shipped_section(summary.shipped),
        *([USAGE_TITLE, f"```bash\n{_usage_lines(summary.usage)}\n```"] if summary.usage else []),
        "## Checks",
        _checks_list(summary),
    ]
    parts += [f"## {title}\n\n```\n{table.rstrip()}\n```" for title, table in summary.details.items()]
    return "\n\n".join(parts) + "\n"


USAGE_TITLE = "## Use the bundle"


def _headline(shipped: Shipped | None, frame: str = "{}.") -> list[str]:
    """How many times as fast the student is, in a frame, and below it under which conditions."""
    return [frame.format(", ".join(shipped.headline)), str(shipped.conditions)] if shipped else []


def _shipped_section(shipped: Shipped | None) -> list[str]:
    if shipped is None:
        return []
    return ["## Speed of what ships", markdown_table(shipped_lines(shipped)), *shipped.remarks]


def _usage_lines(usage: Sequence[Usage]) -> str:
    """Every command below the comment that says what it is for."""
    return "\n".join(f"# {one.purpose}\n{one.command}" for one in usage)


def _checks_list(summary: Summary) -> str:
    """The warnings, the checks without one, and the readers' decisions as a Markdown list."""
    warnings = [f"**warning**: {warning}" for warning in summary.warnings] or ["no warnings"]
    return "\n".join(f"- {line}" for line in (*warnings, *summary.passed, *summary.decisions))


def terminal(summary: Summary) -> str:
    """The whole report for a terminal: a figure per line, a model per column, 80 columns wide."""
    warning = [f"warning: {summary.warning}", ""] if summary.warning else []
    details = [f"{title}\n{table.rstrip()}\n" for title, table in summary.details.items()]
    table = text_table(transposed(summary.table))
    parts = [*warning, *details, *table, "", *summary.notes]
    if summary.shipped:
        shipped = text_table(shipped_lines(summary.shipped))
        parts += ["", *shipped, "", *summary.shipped.remarks, "", *_headline(summary.shipped)]
    return "\n".join([*parts, *(["", _usage_lines(summary.usage)] if summary.usage else [])])
