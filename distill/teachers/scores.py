"""Answers as logits: labels with a confidence, probabilities and logits by label, checked row by row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from distill.errors import UserError, listed
from distill.teachers.base import MAX_LISTED, TEACHER_LABELS, Teacher

MIN_PROBABILITY = 1e-3  # lower ones count as this: an answer that is certain must not have an infinite logit
DEFAULT_CONFIDENCE = 0.9  # of a label without one, where nothing says how often such labels are right
NAME_LOGITS = 'logits must be named so: a column logits, or an attribute FUNCTION.returns = "logits"'
ROUNDED, MAX_ERROR = 1e-3, 0.01  # how far a sum of probabilities may be from 1: without, and with a warning


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
    """Whether all values (texts, classes) may be probabilities: they are in [0, 1], up to an error of rounding."""
    return bool(((rows >= -MAX_ERROR) & (rows <= 1 + MAX_ERROR)).all())


def distribution(
    scores: Mapping[str, float], labels: Sequence[str], place: str, teacher: Teacher, *, are_logits: bool
) -> NDArray[np.float64]:
    """Scores by the teacher's labels as a row in the order of ``labels``: logits as they are, or probabilities.

    Labels that are not among ``labels`` are left out, and the probabilities of the others renormalised.

    Raises:
        UserError: a score is NaN, infinite or a negative probability; probabilities do not sum to 1; logits lack a
            label; or nothing is left.
    """
    values = np.array(list(scores.values()))
    if not len(values):
        raise UserError("there are no scores", place, "repair or delete that answer")
    if not np.isfinite(values).all():
        raise UserError("a score is NaN or infinite", place, "repair or delete that answer")
    if not are_logits:
        scores = dict(zip(scores, checked_probabilities(values, place, teacher), strict=True))
    scores = _merged(scores, teacher.label_names, np.logaddexp if are_logits else np.add)
    missing = [label for label in labels if label not in scores]
    if missing and (are_logits or len(missing) == len(labels)):
        what = f"there is no score for the label {listed(missing, MAX_LISTED)}, which the data has"
        raise UserError(what, place, TEACHER_LABELS, f"there are: {listed(list(scores), MAX_LISTED)}")
    if extra := [label for label in scores if label not in labels]:
        dropped = listed(extra, MAX_LISTED)
        teacher.say(f"{teacher.name}: labels that the data does not have: {dropped}; their probability is left out")
    row = np.array([scores.get(label, 0.0) for label in labels])
    if are_logits:
        return row
    total = row.sum()
    return row / total if total else np.full(len(labels), 1 / len(labels))


def _merged(scores: Mapping[str, float], names: Mapping[str, str], add: np.ufunc) -> dict[str, float]:
    """Scores by the data's labels; those of several labels with one name are added."""
    merged: dict[str, float] = {}
    for label, score in scores.items():
        name = names.get(label) or label
        merged[name] = float(add(merged[name], score)) if name in merged else score
    return merged


def checked_probabilities(values: NDArray[np.float64], place: str, teacher: Teacher) -> NDArray[np.float64]:
    """Probabilities (classes,) that sum to 1; those that are up to 1 % off are normalised with a warning.

    Raises:
        UserError: they are further off, or one is negative.
    """
    error = max(abs(values.sum() - 1), -values.min())
    if error > MAX_ERROR:
        is_negative = values.min() < -MAX_ERROR
        what = f"a probability is {values.min():.4g}" if is_negative else f"the probabilities sum to {values.sum():.4g}"
        raise UserError(f"{what}; they must be at least 0 and sum to 1", place, NAME_LOGITS)
    if error > ROUNDED:
        teacher.warn("sum", f"some probabilities do not sum to 1 (within 1 %) and were normalised, the first: {place}")
    positive = np.clip(values, 0, None)
    return np.asarray(positive / positive.sum())
