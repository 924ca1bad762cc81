"""Scores on the levels above labels that are paths."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from distill.data.hierarchy import Hierarchy, Level
from distill.evaluation import metrics, multi_label

WITHIN_PARENT = "mistakes_within_parent"


def level_scores(
    gold: NDArray[Any], predicted: NDArray[Any], first_of_text: NDArray[np.bool_], hierarchy: Hierarchy
) -> dict[str, float | None]:
    """Scores of the predictions' ancestors, the names with the number of the level: "accuracy_level_1".

    ``gold`` and ``predicted`` are class numbers (texts,), or label sets (texts, classes), whose score is the micro-F1.
    ``WITHIN_PARENT`` is the share of the mistakes whose label has the same parent as the right label; None without a
    mistake. It is left out of the scores of label sets.
    """
    found: dict[str, float | None] = {}
    for level in hierarchy.levels:
        of_gold, of_predicted = (ancestors(classes, level) for classes in (gold, predicted))
        scores: metrics.Scores | multi_label.MultiLabelScores
        if gold.ndim == 2:
            scores, name = multi_label.scores(of_gold, of_predicted), "micro_f1"
        else:
            scores, name = metrics.scores(of_gold, of_predicted, first_of_text, len(level.names)), "accuracy"
        found |= {f"{name}_level_{level.number}": scores.main, f"macro_f1_level_{level.number}": scores.macro_f1}
    if gold.ndim == 1:
        parents = np.array(hierarchy.parents)
        within, mistakes = parents[gold] == parents[predicted], gold != predicted
        found[WITHIN_PARENT] = float(within[mistakes].mean()) if mistakes.any() else None
    return found


def ancestors(classes: NDArray[Any], level: Level) -> NDArray[Any]:
    """The ancestors of class numbers (texts,) or of label sets (texts, classes), in the same form."""
    of_class = np.array(level.ancestors)
    if classes.ndim == 1:
        return np.asarray(of_class[classes])
    is_ancestor = of_class[:, None] == np.arange(len(level.names))
    return np.asarray(classes.astype(np.int64) @ is_ancestor > 0)
