"""The inputs of report and comparison: the test set, and the outputs of every model on it; JSON of flat records."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from distill.config import TargetMetric
from distill.data.examples import ACCURACY, AGREEMENT
from distill.data.hierarchy import Hierarchy
from distill.evaluation import metrics, multi_label
from distill.evaluation.levels import level_scores
from distill.evaluation.metrics import Scores
from distill.evaluation.multi_label import MultiLabelScores
from distill.runtime.label_sets import exceeding, sigmoid
from distill.translation import Listed, Text

Record = TypeVar("Record")
TEACHER = "teacher"
MACRO_F1_MEANING = "mean of the labels' F1, so that rare labels count as much as frequent ones."
SUBSET_ACCURACY_MEANING = "share of the texts whose labels are all right, none missing."
TITLES = {
    TEACHER: Text("teacher"),
    "student_alone": Text("student alone"),
    "student": Text("distilled student"),
}


@dataclass(frozen=True)
class EvaluationContext:
    """The test set and the conditions that all models of a report or a comparison share.

    Args:
        texts: the test texts.
        gold: class numbers (texts,); in multi-label data, which classes each text has (texts, classes).
        first_of_text: (texts,) marks one row of every distinct text.
        labels: names of the classes.
        data: counts of the data set.
        settings: of the run, as nested dictionaries.
        timing: a sentence that says how and on what the times were measured.
        measured: "accuracy"; "agreement" where ``gold`` are not labels but what the teachers answer; "micro-F1" in
            multi-label data.
        hierarchy: the levels above labels that are paths; None: they are not.
        target_metric: of multi-label data, what thresholds are chosen for.
        fingerprint: of the data.
    """

    texts: Sequence[str]
    gold: NDArray[Any]
    first_of_text: NDArray[np.bool_]
    labels: tuple[str, ...]
    data: Mapping[str, int]
    settings: Mapping[str, Any]
    timing: str
    measured: str = ACCURACY
    hierarchy: Hierarchy | None = None
    target_metric: TargetMetric = "micro_f1"
    fingerprint: str = ""

    @property
    def has_labels(self) -> bool:
        """Whether ``gold`` are labels."""
        return self.measured != AGREEMENT

    @property
    def is_multi_label(self) -> bool:
        """Whether a text may have any number of labels."""
        return self.gold.ndim == 2

    def scores(self, predicted: NDArray[Any], logits: NDArray[np.floating] | None = None) -> Scores | MultiLabelScores:
        """Scores of predicted class numbers (texts,); in multi-label data, of label sets (texts, classes).

        There, ``logits`` or other scores (texts, classes) are needed for the mean average precision.
        """
        if self.is_multi_label:
            return multi_label.scores(self.gold, predicted, logits)
        return metrics.scores(self.gold, predicted, self.first_of_text, len(self.labels))

    def level_scores(self, predicted: NDArray[Any]) -> dict[str, float | None]:
        """Scores on the levels above the labels, by name; none if the labels are no paths."""
        if self.hierarchy is None:
            return {}
        return level_scores(self.gold, predicted, self.first_of_text, self.hierarchy)


@dataclass(frozen=True)
class Outcome:
    """One trained model on the test set.

    Args:
        name: kind of model, a key of ``TITLES``.
        seed: training seed.
        logits: (texts, classes).
        parameters: number of trained parameters; None: it is no model.
        bytes: size of its files; None: it is no model, or not in a folder.
        ms_per_text: milliseconds from raw text to label by device, "cpu" or "gpu"; empty: it is no model.
        history: lines of its training log; empty if another program trained it.
        temperature: for calibrated probabilities, chosen on dev; 1 if the model is not calibrated.
        thresholds: in multi-label data, the probability above which the model gives each label; empty otherwise.
    """

    name: str
    seed: int
    logits: NDArray[np.float32]
    parameters: int | None
    bytes: int | None
    ms_per_text: Mapping[str, float]
    history: Sequence[dict[str, Any]] = field(default=())
    temperature: float = 1.0
    thresholds: tuple[float, ...] = ()

    @property
    def is_calibrated(self) -> bool:
        """Whether dev chose a temperature; a student of multi-label data has one per label in its classifier."""
        return self.temperature != 1 or (bool(self.thresholds) and self.name != TEACHER)

    @property
    def title(self) -> Text:
        """Name of the kind of model in tables and plots."""
        return TITLES[self.name]

    @property
    def predicted(self) -> NDArray[Any]:
        """Class numbers, shape (texts,); in multi-label data, which classes each text gets (texts, classes)."""
        if self.thresholds:
            return exceeding(self.probabilities(), self.thresholds)
        return np.asarray(self.logits.argmax(axis=1))

    def probabilities(self, temperature: float | None = None) -> NDArray[np.floating]:
        """Calibrated probabilities (texts, classes), or those at another temperature.

        Those of a text sum to 1, but not in multi-label data.
        """
        to_probabilities = sigmoid if self.thresholds else metrics.softmax
        return to_probabilities(self.logits, self.temperature if temperature is None else temperature)


def by_kind(outcomes: Sequence[Outcome]) -> dict[str, list[Outcome]]:
    """The outcomes of every kind of model, the teacher first and the others in their order."""
    kinds = sorted(dict.fromkeys(outcome.name for outcome in outcomes), key=lambda name: name != TEACHER)
    return {name: [outcome for outcome in outcomes if outcome.name == name] for name in kinds}


def first_seeds(outcomes: Sequence[Outcome]) -> list[Outcome]:
    """The first seed of every kind of model, as :func:`by_kind` has them."""
    return [of_kind[0] for of_kind in by_kind(outcomes).values()]


def data_sentence(data: Mapping[str, int], *, is_multi_label: bool = False) -> Text:
    """The counts of a data set in one sentence."""
    conflicts = Text(
        "{count:,} texts with two label sets" if is_multi_label else "{count:,} texts with two labels",
        count=data["conflicts"],
    )
    counts = Text(
        "{train:,} train, {dev:,} dev and {test:,} test texts ({test_distinct:,} distinct). "
        "Dropped from the {train_rows_read:,} train rows: {leaks:,} whose text is in test, {leaks_into_dev:,} whose "
        "text is in dev, {duplicates:,} repeats, and {conflicts}. "
        "Dropped from the dev rows: {dev_leaks:,} whose text is in test.",
        **{**data, "conflicts": conflicts},
    )
    if not data.get("set_aside"):
        return counts
    return Listed([counts, Text("Set aside: {count:,} rows that cannot be used.", count=data["set_aside"])], " ", "")


def to_json(record: Any) -> dict[str, Any]:
    """A flat dataclass as a JSON object.

    A field's metadata may name another ``key`` than the field's name, or say that it ``is_optional``: it is left out
    where it is empty.
    """
    return {
        field.metadata.get("key", field.name): value
        for field in fields(record)
        if (value := getattr(record, field.name)) or not field.metadata.get("is_optional")
    }


def from_json(kind: type[Record], content: Mapping[str, Any]) -> Record:
    """The dataclass that :func:`to_json` wrote; keys that it does not know are ignored."""
    keys = {field.name: field.metadata.get("key", field.name) for field in fields(kind)}  # type: ignore[arg-type]
    return kind(**{name: content[key] for name, key in keys.items() if key in content})
