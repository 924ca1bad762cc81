"""Multi-label data in the commands: right texts, thresholds and calibration on dev, and what does not apply to it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from distill.commands.experiment import Run
from distill.data import UNLABELLED
from distill.errors import UserError, listed
from distill.evaluation import multi_label
from distill.evaluation.multi_label import LabelSets
from distill.progress import log
from distill.runtime.label_sets import exceeding, sigmoid


def given_labels(logits: Tensor, thresholds: Sequence[float]) -> LabelSets:
    """Which labels a model gives every text, from its logits; both (texts, classes)."""
    return exceeding(sigmoid(logits.numpy()), thresholds)


def right_texts(logits: Tensor, labels: Tensor, thresholds: Sequence[float] = ()) -> Tensor:
    """Which texts (texts,) get the right label or, with thresholds, exactly the right labels.

    ``labels`` are class numbers (texts,) or, with thresholds, (texts, classes).
    """
    if thresholds:
        return (torch.from_numpy(given_labels(logits, thresholds)) == labels.bool()).all(1)
    return logits.argmax(1) == labels


def start_at_shares(classifier: nn.Linear, labels: Tensor, columns: slice = slice(None)) -> None:
    """In multi-label data, set the biases of a new classifier so that it begins with each label's share of the texts.

    Otherwise it begins with 1/2, and most of the first epochs go into learning that labels are rare: Lin et al. 2017,
    "Focal Loss for Dense Object Detection", arXiv 1708.02002, section 3.3. ``labels`` are (texts,) or (texts, classes),
    ``columns`` those of the classes among the outputs.
    """
    if labels.dim() == 1:
        return
    known = labels[labels[:, 0] != UNLABELLED]
    with torch.no_grad():
        classifier.bias[columns] = ((known.sum(0) + 1) / (len(known) + 2)).logit()


def rarest_label_weights(labels: Tensor, teacher_logits: Tensor | None) -> Tensor:
    """Weights (texts,) that draw a text as often as its rarest label asks for: 1 / the number of texts that have it.

    The texts with no label are drawn as often as those of a label. ``labels`` and ``teacher_logits`` are (texts,
    classes); a text whose labels are unknown has those that its teacher gives it.
    """
    has_class = labels == 1
    if teacher_logits is not None:
        has_class = torch.where(labels == UNLABELLED, teacher_logits > 0, has_class)
    groups = torch.cat([has_class, ~has_class.any(1, keepdim=True)], dim=1)  # the last one has none of the labels
    return (groups / groups.sum(0).clamp(min=1)).amax(1).double()


def choose_thresholds(run: Run, name: str, logits: Tensor, answered: Tensor | None = None) -> tuple[float, ...]:
    """The thresholds of a model from its logits (texts, classes) of dev, for --target_metric.

    ``answered`` (texts,) marks the dev texts that count; None: all do. Empty where every text has one label.
    """
    data, metric = run.data, run.settings.data.target_metric
    if not data.is_multi_label:
        return ()
    gold = run.labels_of(data.dev).bool().numpy()
    if answered is not None:
        logits, gold = logits[answered], gold[answered.numpy()]
    thresholds = multi_label.choose_thresholds(sigmoid(logits.numpy()), gold, metric)
    if missing := [data.labels[index] for index in multi_label.without_positives(gold)]:
        log.info("%s: no dev text has the labels %s, so they are never given", name, listed(missing))
    return thresholds


def dev_score(run: Run, logits: Tensor, thresholds: Sequence[float]) -> float:
    """Accuracy on dev or, in multi-label data, micro-F1 with the thresholds."""
    return score(logits, run.labels_of(run.data.dev), thresholds)


def score(logits: Tensor, labels: Tensor, thresholds: Sequence[float] = ()) -> float:
    """Accuracy or, with thresholds, micro-F1; ``labels`` as in :func:`right_texts`."""
    if thresholds:
        return multi_label.micro_f1(labels.bool().numpy(), given_labels(logits, thresholds))
    return float(right_texts(logits, labels).double().mean())


def calibrate(student: Any, logits: Tensor, labels: Tensor) -> Tensor:
    """Divide the outputs of every class by a temperature that is chosen on dev, in the classifier itself.

    ``logits`` (texts, classes) are the student's of dev, ``labels`` (texts, classes); returns the new logits.
    """
    classifier: nn.Linear = student.classifier
    temperatures = torch.from_numpy(multi_label.class_temperatures(logits.numpy(), labels.bool().numpy())).float()
    with torch.no_grad():
        classifier.weight.div_(temperatures[:, None].to(classifier.weight.device))
        classifier.bias.div_(temperatures.to(classifier.bias.device))
    return logits / temperatures


def require_single_label(run: Run, flag: str, hint: str) -> None:
    """Refuse what does not apply to multi-label data.

    Raises:
        UserError: a text may have several labels.
    """
    if run.data.is_multi_label:
        raise UserError("this is for data with one label per text, and here a text may have several", flag, hint)
