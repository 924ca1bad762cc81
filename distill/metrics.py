"""How good predictions are: scikit-learn's figures, in the form that the report needs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import accuracy_score, classification_report, confusion_matrix, f1_score

Labels = Sequence[int] | NDArray[np.int64]


def scores(gold: Labels, predicted: Labels, first_of_text: NDArray[np.bool_], classes: int) -> dict[str, float]:
    """Accuracy on all rows, on distinct texts (``first_of_text`` marks one row of each), and macro-F1."""
    gold, predicted = np.asarray(gold), np.asarray(predicted)
    return {
        "accuracy": float(accuracy_score(gold, predicted)),
        "accuracy_distinct": float(accuracy_score(gold[first_of_text], predicted[first_of_text])),
        "macro_f1": float(f1_score(gold, predicted, labels=np.arange(classes), average="macro", zero_division=0.0)),
    }


def classification_table(gold: Labels, predicted: Labels, names: Sequence[str]) -> str:
    """scikit-learn's classification report with four digits, as in the reference repo."""
    places = list(range(len(names)))
    return str(classification_report(gold, predicted, labels=places, target_names=names, digits=4, zero_division=0.0))


def confusion(gold: Labels, predicted: Labels, classes: int) -> NDArray[np.int64]:
    """Counts, shape ``(classes, classes)``: rows are labels, columns predictions."""
    return np.asarray(confusion_matrix(gold, predicted, labels=list(range(classes))))


def mean_and_sd(values: Sequence[float]) -> tuple[float, float]:
    """Mean and sample standard deviation (0 for a single value)."""
    return float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else 0.0
