"""Answers as logits: labels with a confidence, probabilities and logits by label, checked row by row."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from distill.errors import UserError, listed
from distill.teachers.base import MAX_LISTED, TEACHER_LABELS, LabellingTask, Teacher

MIN_PROBABILITY = 1e-3  # lower ones count as this: an answer that is certain must not have an infinite logit
DEFAULT_CONFIDENCE = 0.9  # of a label without one, where nothing says how often such labels are right
NAME_LOGITS = 'logits must be named so: a column logits, or an attribute FUNCTION.returns = "logits"'
ROUNDED, MAX_ERROR = 1e-3, 0.01  # how far a sum of probabilities may be from 1: without, and with a warning


def as_logits(rows: NDArray[np.float64], task: LabellingTask, *, are_logits: bool = False) -> NDArray[np.float64]:
    """Probabilities or logits (texts, classes) as the logits that students imitate.

    With one label per text they are centred. Where every label is decided for itself, a logit is log(p / (1 - p)), and
    logits stay as they are: an offset would change the probabilities.
    """
    if task.is_multi_label:
        return rows if are_logits else log_odds(rows)
    return centred(rows) if are_logits else centred_logits(rows)


def log_odds(probabilities: NDArray[np.float64]) -> NDArray[np.float64]:
    """Logits of probabilities (texts, classes) that are independent, clipped; their sigmoid is the same."""
    clipped = np.clip(probabilities, MIN_PROBABILITY, 1 - MIN_PROBABILITY)
    return np.asarray(np.log(clipped / (1 - clipped)))


def centred_logits(probabilities: NDArray[np.float64]) -> NDArray[np.float64]:
    """Log-probabilities (texts, classes), clipped, with mean 0 per text; their softmax is the same."""
    return centred(np.log(np.clip(probabilities, MIN_PROBABILITY, None)))


def centred(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    """Logits (texts, classes) with mean 0 per text; their softmax is the same.

    The outputs of a classifier that was trained with cross-entropy are close to it: the gradients of a text's logits
    sum to 0, so their mean stays where the initial weights put it. A student should not have to learn another offset.
    """
    return np.asarray(logits - logits.mean(axis=1, keepdims=True))


def spread(classes: NDArray[np.int64], confidence: NDArray[np.float64], count: int) -> NDArray[np.float64]:
    """Probabilities (texts, count): a label's ``confidence``, and the rest spread evenly over the other classes.

    A confidence below 1 / count counts as 1 / count: such an answer says nothing.
    """
    kept = np.maximum(confidence, 1 / count)
    rows = np.repeat(((1 - kept) / max(1, count - 1))[:, None], count, axis=1)
    rows[np.arange(len(classes)), classes] = kept
    return np.asarray(rows)


def are_probabilities(rows: NDArray[np.float64]) -> bool:
    """Whether all values of an array may be probabilities: they are in [0, 1], up to an error of rounding."""
    return bool(((rows >= -MAX_ERROR) & (rows <= 1 + MAX_ERROR)).all())


def by_class(
    scores: Mapping[str, float], task: LabellingTask, place: str, teacher: Teacher, *, are_logits: bool
) -> NDArray[np.float64]:
    """Scores by the teacher's labels as a row in the order of the task's: logits as they are, or probabilities.

    Labels that the task does not have are left out, and the probabilities of the others renormalised, if a text has one
    label.

    Raises:
        UserError: a score is NaN, infinite or no probability; probabilities of a text with one label do not sum to 1;
            logits lack a label; or nothing is left.
    """
    labels = task.labels
    values = np.array(list(scores.values()))
    if not len(values):
        raise UserError("there are no scores", place, "repair or delete that answer")
    if not np.isfinite(values).all():
        raise UserError("a score is NaN or infinite", place, "repair or delete that answer")
    if not are_logits:
        scores = dict(zip(scores, checked_probabilities(values, place, teacher, task), strict=True))
    scores = _merged(scores, teacher.label_names, merging(task, are_logits=are_logits))
    missing = [label for label in labels if label not in scores]
    if missing and (are_logits or len(missing) == len(labels)):
        what = f"there is no score for the label {listed(missing, MAX_LISTED)}, which the data has"
        raise UserError(what, place, TEACHER_LABELS, f"there are: {listed(list(scores), MAX_LISTED)}")
    if extra := [label for label in scores if label not in labels]:
        dropped = listed(extra, MAX_LISTED)
        teacher.say(f"{teacher.name}: labels that the data does not have: {dropped}; their probability is left out")
    row = np.array([scores.get(label, 0.0) for label in labels])
    if are_logits or task.is_multi_label:
        return row
    total = row.sum()
    return row / total if total else np.full(len(labels), 1 / len(labels))


def merging(task: LabellingTask, *, are_logits: bool) -> np.ufunc:
    """How the scores of several labels with one name are combined.

    They are added; in multi-label data, where their sum may exceed 1, the highest one counts.
    """
    if task.is_multi_label:
        return np.maximum
    return np.logaddexp if are_logits else np.add


def _merged(scores: Mapping[str, float], names: Mapping[str, str], merge: np.ufunc) -> dict[str, float]:
    """Scores by the data's labels; those of several labels with one name are merged."""
    merged: dict[str, float] = {}
    for label, score in scores.items():
        name = names.get(label) or label
        merged[name] = float(merge(merged[name], score)) if name in merged else score
    return merged


def checked_probabilities(
    values: NDArray[np.float64], place: str, teacher: Teacher, task: LabellingTask
) -> NDArray[np.float64]:
    """Probabilities (classes,) that sum to 1; those that are up to 1 % off are normalised with a warning.

    Where a text may have any number of labels, each must only be between 0 and 1.

    Raises:
        UserError: they are further off, or one is negative.
    """
    if task.is_multi_label:
        if not are_probabilities(values):
            wrong = values[np.abs(values - 0.5).argmax()]
            raise UserError(f"a probability is {wrong:.4g}; it must be between 0 and 1", place, NAME_LOGITS)
        return np.clip(values, 0, 1)
    error = max(abs(values.sum() - 1), -values.min())
    if error > MAX_ERROR:
        is_negative = values.min() < -MAX_ERROR
        what = f"a probability is {values.min():.4g}" if is_negative else f"the probabilities sum to {values.sum():.4g}"
        raise UserError(f"{what}; they must be at least 0 and sum to 1", place, NAME_LOGITS)
    if error > ROUNDED:
        teacher.warn("sum", f"some probabilities do not sum to 1 (within 1 %) and were normalised, the first: {place}")
    positive = np.clip(values, 0, None)
    return np.asarray(positive / positive.sum())
