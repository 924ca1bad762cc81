"""The figures of a comparison: objectives and students over several seeds, as compare.json holds them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from distill.config import TargetMetric
from distill.data.examples import ACCURACY, MACRO_F1, MICRO_F1, SUBSET_ACCURACY
from distill.evaluation import metrics, multi_label
from distill.reporting.results import EvaluationContext, data_sentence, from_json, to_json

COMPARISON = "compare.json"
TEACHER, LINEAR = "teacher", "floor"  # as objectives in compare.json: these rows are not students
CASCADE = "cascade"  # the objective of a student together with its teacher
MEASURED: dict[TargetMetric, str] = {  # what models are compared by in multi-label data, by --target_metric
    "micro_f1": MICRO_F1,
    "macro_f1": MACRO_F1,
    "subset_accuracy": SUBSET_ACCURACY,
}


@dataclass(frozen=True)
class ModelResult:
    """One combination of objective, student and transfer set, trained with several seeds and evaluated on test.

    Args:
        name: as shown; no two results share one.
        objective: "logits", "soft", "labels" (the student alone) and so on; ``LINEAR``; ``TEACHER``.
        student: "bilstm", "average" and so on; "LinearSVC"; "teacher".
        transfer: what it was trained on: "train", "train + unlabelled".
        teachers: number of its teachers.
        predicted: class numbers (seeds, texts); in multi-label data, which classes each text gets (seeds, texts,
            classes).
        calibration_error: expected calibration error on test, mean over the seeds, before and after temperature
            scaling (None where it is not scaled); None for a model without probabilities.
        train_seconds: of one seed, mean; None if another program trained the model.
        train_texts: number of texts that one seed was trained on.
        ms_per_text: milliseconds from raw text to label.
        parameters: number of trained parameters.
        against: name of the result that its gain is measured from; "" for none.
        teacher: name of the result whose accuracy or target metric it is compared with; "" for none.
    """

    name: str
    objective: str
    student: str
    transfer: str
    teachers: int
    predicted: NDArray[Any]
    calibration_error: tuple[float, float | None] | None
    train_seconds: float | None
    train_texts: int
    ms_per_text: float
    parameters: int
    against: str = ""
    teacher: str = ""


@dataclass(frozen=True)
class LeftOutClassRow:
    """A student trained without labelled texts of one class: recall of that class and accuracy on test, over seeds."""

    name: str
    recall: float
    recall_sd: float
    accuracy: float
    accuracy_sd: float


@dataclass(frozen=True)
class Comparison:
    """Everything that a comparison is computed from.

    ``left_out_class`` are the rows of the experiment with a class left out, a table of their own. ``remarks`` are
    sentences on rows.

    Raises:
        ValueError: two results share a name, one refers to a name that is missing, or shapes differ.
    """

    context: EvaluationContext
    results: Sequence[ModelResult]
    left_out_class: Sequence[LeftOutClassRow] = field(default=())
    remarks: Sequence[str] = field(default=())

    def __post_init__(self) -> None:
        names, shape = [result.name for result in self.results], self.context.gold.shape
        if len(set(names)) < len(names):
            raise ValueError(f"two results share a name: {sorted(names)}")
        for result in self.results:
            if unknown := {result.against, result.teacher} - {"", *names}:
                raise ValueError(f"{result.name!r} is compared with {unknown}, which is none of {names}")
            if result.predicted.shape[1:] != shape:
                wanted = ", ".join(map(str, shape))
                raise ValueError(f"{result.name!r}: want predictions (seeds, {wanted}), not {result.predicted.shape}")


@dataclass(frozen=True, kw_only=True)
class ComparisonRow:
    """A row of the comparison, as in compare.json; None where a figure does not apply.

    Accuracies, ``retained`` (of the teacher's accuracy) and the gains are shares, not per cent. ``accuracy_sd`` is the
    sample standard deviation over the seeds, 0 for one seed. ``level_scores`` are means and standard deviations on the
    levels above labels that are paths, by name.
    """

    name: str
    objective: str
    student: str
    transfer: str = ""
    teachers: int = 0
    seeds: int
    accuracy: float
    accuracy_sd: float
    accuracy_distinct: float | None = None
    macro_f1: float | None = None
    retained: float | None = field(default=None, metadata={"key": "kept"})
    gain: float | None = None
    gain_low: float | None = None
    gain_high: float | None = None
    p_value: float | None = None
    against: str = ""
    ece: float | None = None
    ece_calibrated: float | None = None
    train_seconds: float | None
    train_texts: int
    ms_per_text: float
    parameters: int
    level_scores: Mapping[str, float | None] = field(
        default_factory=dict, metadata={"key": "levels", "is_optional": True}
    )

    @property
    def main_figure(self) -> str:
        """Name of the figure that models are compared by."""
        return "accuracy"

    @property
    def measured(self) -> str:
        """What it is called."""
        return ACCURACY

    @property
    def main(self) -> float:
        """The main figure, mean over the seeds."""
        return float(getattr(self, self.main_figure))

    @property
    def main_sd(self) -> float:
        """Its sample standard deviation over the seeds."""
        return float(getattr(self, f"{self.main_figure}_sd"))


@dataclass(frozen=True, kw_only=True)
class MultiLabelRow(ComparisonRow):
    """A row in multi-label data: ``retained`` and the gains are of ``target_metric``.

    Its accuracy is that of whole label sets.
    """

    accuracy: float = field(metadata={"key": "subset_accuracy"})
    accuracy_sd: float = field(metadata={"key": "subset_accuracy_sd"})
    micro_f1: float
    micro_f1_sd: float
    macro_f1_sd: float | None = None
    target_metric: TargetMetric = "micro_f1"

    @property
    def main_figure(self) -> str:
        """See ComparisonRow."""
        return "accuracy" if self.target_metric == "subset_accuracy" else self.target_metric

    @property
    def measured(self) -> str:
        """See ComparisonRow."""
        return MEASURED[self.target_metric]


@dataclass(frozen=True)
class ComparisonRecord:
    """What compare.json holds."""

    rows: Sequence[ComparisonRow]
    left_out_class: Sequence[LeftOutClassRow]
    data: Mapping[str, int]
    settings: Mapping[str, Any]
    timing: str
    remarks: Sequence[str] = field(default=())
    fingerprint: str = ""  # of the data

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Self:
        """From the contents of compare.json."""
        return cls(
            rows=[from_json(MultiLabelRow if "micro_f1" in row else ComparisonRow, row) for row in content["rows"]],
            left_out_class=[from_json(LeftOutClassRow, row) for row in content["left_out"]],
            data=content["data"],
            settings=content["settings"],
            timing=content["timing"],
            remarks=content.get("remarks", []),  # older files have none
            fingerprint=content.get("fingerprint", ""),  # likewise
        )

    def to_json(self) -> dict[str, Any]:
        """The contents of compare.json."""
        return {
            "rows": [to_json(row) for row in self.rows],
            "left_out": [to_json(row) for row in self.left_out_class],
            "data": self.data,
            "settings": self.settings,
            "timing": self.timing,
            "remarks": list(self.remarks),
            "fingerprint": self.fingerprint,
        }

    @property
    def measured(self) -> str:
        """The figure that models are compared by."""
        return measured_of(self.rows)

    @property
    def notes(self) -> list[str]:
        """The sentences below the tables."""
        data = data_sentence(self.data, is_multi_label=self.measured != ACCURACY)
        return [*self.remarks, data, self.timing]


def measured_of(rows: Sequence[ComparisonRow]) -> str:
    """The figure that models are compared by."""
    return rows[0].measured if rows else ACCURACY


def read_record(path: Path) -> ComparisonRecord:
    """Read compare.json."""
    return ComparisonRecord.from_json(json.loads(path.read_text(encoding="utf-8")))


def record_of(comparison: Comparison) -> ComparisonRecord:
    """Compute all figures of a comparison."""
    context = comparison.context
    return ComparisonRecord(
        rows_of(comparison),
        comparison.left_out_class,
        context.data,
        context.settings,
        context.timing,
        list(comparison.remarks),
        context.fingerprint,
    )


def rows_of(comparison: Comparison) -> list[ComparisonRow]:
    """One row per result, in the order of the results."""
    by_name = {result.name: result for result in comparison.results}
    return [
        _row(result, comparison.context, by_name.get(result.teacher), by_name.get(result.against))
        for result in comparison.results
    ]


def _row(
    result: ModelResult, context: EvaluationContext, teacher: ModelResult | None, against: ModelResult | None
) -> ComparisonRow:
    scores = [context.scores(predicted) for predicted in result.predicted]

    def over_seeds(name: str) -> tuple[float, float]:
        return metrics.mean_and_sd([getattr(score, name) for score in scores])

    macro_f1, macro_f1_sd = over_seeds("macro_f1")
    ece, ece_calibrated = result.calibration_error or (None, None)
    figures: dict[str, Any] = {
        "name": result.name,
        "objective": result.objective,
        "student": result.student,
        "transfer": result.transfer,
        "teachers": result.teachers,
        "seeds": len(result.predicted),
        "macro_f1": macro_f1,
        "retained": _retained(result, teacher, context),
        "against": result.against,
        "ece": ece,
        "ece_calibrated": ece_calibrated,
        "train_seconds": result.train_seconds,
        "train_texts": result.train_texts,
        "ms_per_text": result.ms_per_text,
        "parameters": result.parameters,
        "level_scores": _level_scores(result, context),
        **_gain(result, against, context),
    }
    if context.is_multi_label:
        (accuracy, accuracy_sd), (micro_f1, micro_f1_sd) = over_seeds("subset_accuracy"), over_seeds("micro_f1")
        return MultiLabelRow(
            **figures,
            accuracy=accuracy,
            accuracy_sd=accuracy_sd,
            micro_f1=micro_f1,
            micro_f1_sd=micro_f1_sd,
            macro_f1_sd=macro_f1_sd,
            target_metric=context.target_metric,
        )
    (accuracy, accuracy_sd), (distinct, _) = over_seeds("accuracy"), over_seeds("accuracy_distinct")
    return ComparisonRow(**figures, accuracy=accuracy, accuracy_sd=accuracy_sd, accuracy_distinct=distinct)


def _level_scores(result: ModelResult, context: EvaluationContext) -> dict[str, float | None]:
    """Means over the seeds and standard deviations on the levels above the labels; None where a seed has no score."""
    seeds, found = [context.level_scores(predicted) for predicted in result.predicted], dict[str, float | None]()
    for name in seeds[0]:
        known = [score for seed in seeds if (score := seed[name]) is not None]
        mean, sd = metrics.mean_and_sd(known) if len(known) == len(seeds) else (None, None)
        found |= {name: mean, f"{name}_sd": sd}
    return found


def _reached(result: ModelResult, context: EvaluationContext) -> float:
    """Its mean accuracy or target metric over the seeds."""
    if context.is_multi_label:
        scores = [context.scores(predicted) for predicted in result.predicted]
        return float(np.mean([getattr(score, context.target_metric) for score in scores]))
    return float((result.predicted == context.gold).mean())


def _retained(result: ModelResult, teacher: ModelResult | None, context: EvaluationContext) -> float | None:
    """What it reaches as a share of what its teacher does."""
    reached = _reached(teacher, context) if teacher else 0.0
    return _reached(result, context) / reached if reached else None


def _gain(result: ModelResult, against: ModelResult | None, context: EvaluationContext) -> dict[str, float]:
    """The fields of a row that hold its gain over ``against``, the gain's interval, and the p-value."""
    if against is None:
        return {}
    right, other = result.predicted == context.gold, against.predicted == context.gold
    if context.is_multi_label:
        right, other = right.all(axis=2), other.all(axis=2)
        low, high = multi_label.bootstrap_interval(
            context.gold, result.predicted, against.predicted, context.target_metric
        )
    else:
        low, high = metrics.bootstrap_interval(right, other)
    return {
        "gain": _reached(result, context) - _reached(against, context),
        "gain_low": low,
        "gain_high": high,
        "p_value": metrics.mcnemar(right, other),
    }
