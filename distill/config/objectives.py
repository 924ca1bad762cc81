"""The objective of a student: the terms of its loss and their weights, parsed from ``--objective``."""

from __future__ import annotations

import contextlib
import math
from dataclasses import dataclass

from distill.config.fields import FROM_DATA, Checked, option
from distill.errors import UserError

LABELS, LOGITS, MUTUAL = "labels", "logits", "mutual"
SOFT = ("soft", "soft_reverse", "soft_symmetric")
HINTS = ("hint", "hint_layers")
TERMS = (LABELS, LOGITS, *SOFT, *HINTS, MUTUAL, "dist")
AUXILIARY = (*HINTS, MUTUAL)  # terms that do not train the classifier, or only imitate another student
DEFAULT_LABELS_WEIGHT = 0.3  # with a teacher, see benchmarks/LOG.md
LEARNED = "learned"  # a value of --task_weights
EXAMPLE = "for example --objective soft, or --objective logits+hint:0.5"


@dataclass(frozen=True)
class ObjectiveSettings(Checked):
    """The student's loss, a weighted sum of terms; --a and --T are the reference repository's names of two weights."""

    objective: str = option(
        LOGITS,
        "terms of the loss: TERM or TERM:WEIGHT, several joined by +, e.g. logits+hint:0.5; terms: " + ", ".join(TERMS),
    )
    hard_weight: float = option(
        float(FROM_DATA),
        "weight of the cross-entropy with the labels; with soft targets, Hinton's alpha",
        flag="a",
        low=0,
        high=1e6,
    )
    logits_weight: float = option(
        1.0,
        "weight of the mean squared error with the teacher's logits; --a 1 --T 0 trains the student without a teacher",
        flag="T",
        low=0,
        high=1e6,
    )
    temperature: float = option(2.0, "temperature of the softmax in soft targets and dist", low=1e-3, high=1e3)
    task_weights: str = option(
        "",
        "with several tasks: the weights of their losses in the tasks' order, separated by commas, or learned; "
        "default: 1 each",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if not any(self.weights.values()):
            hint = "--a 1 --T 0, --a 0 --T 1, or a weight above 0 in --objective"
            raise UserError("all weights of the objective are 0, so there is nothing to learn from", "settings", hint)
        if all(name in AUXILIARY for name, weight in self.weights.items() if weight):
            hint = f"--a 1, or --objective {LOGITS}+{self.objective}"
            raise UserError(f"--objective {self.objective} does not train the classifier", "settings", hint)

    @property
    def labels_weight(self) -> float:
        """Weight of the labels: --a, or its default with a teacher."""
        if self.hard_weight != FROM_DATA:
            return self.hard_weight
        return DEFAULT_LABELS_WEIGHT if self.logits_weight else 0.0

    @property
    def weights(self) -> dict[str, float]:
        """The weight of every term; ``labels`` is always among them.

        A term without a number has the weight a (``labels``), T (``logits``), 1 - a (soft targets; these are Hinton's
        alpha and 1 - alpha) or 1 (others). ``logits`` is added if all terms are auxiliary.
        """
        parts = [part.strip().partition(":") for part in self.objective.split("+")]
        weights = {name: self._weight(name, number) for name, _, number in parts}
        if len(weights) < len(parts):
            raise UserError(f"--objective {self.objective} names a term twice", "settings", EXAMPLE)
        if all(name in AUXILIARY for name in weights):
            weights[LOGITS] = self.logits_weight
        return {LABELS: self.labels_weight, **weights}

    def weights_of_tasks(self, count: int) -> list[float] | None:
        """The weights of the losses of ``count`` tasks; None: they are learned.

        Raises:
            UserError: --task_weights holds something else than so many positive numbers.
        """
        if self.task_weights in ("", LEARNED):
            return None if self.task_weights else [1.0] * count
        with contextlib.suppress(ValueError):
            weights = [float(number) for number in self.task_weights.split(",")]
            if len(weights) == count and all(0 < weight < math.inf for weight in weights):
                return weights
        what = f"{count} positive numbers are needed, one for each task"
        raise UserError(what, f"--task_weights {self.task_weights}", f"--task_weights 1,1, or {LEARNED}")

    def _weight(self, name: str, number: str) -> float:
        if name not in TERMS:
            raise UserError(
                f"--objective: unknown term {name!r}; the terms are {', '.join(TERMS)}", "settings", EXAMPLE
            )
        try:
            weight = float(number) if number else self._default_weight(name)
        except ValueError:
            weight = math.nan
        if not number and not weight and name in (LABELS, *SOFT):
            what = f"--objective {self.objective} names {name}, but --a {self.labels_weight:g} gives it no weight"
            raise UserError(what, "settings", f"another --a, or {name}:0.5 in --objective")
        if not 0 <= weight <= 1e6:
            what = f"the weight of {name} is {number or f'{weight:g} (1 - a)'}"
            raise UserError(f"--objective: {what}, must be 0 or larger", "settings", EXAMPLE)
        return weight

    def _default_weight(self, name: str) -> float:
        if name in SOFT:
            return 1 - self.labels_weight
        return {LABELS: self.labels_weight, LOGITS: self.logits_weight}.get(name, 1.0)

    @property
    def needs_teacher(self) -> bool:
        """Whether a term that needs the teacher has a weight above 0."""
        return any(weight for name, weight in self.weights.items() if name not in (LABELS, MUTUAL))

    @property
    def hints(self) -> bool:
        """Whether the student imitates hidden vectors of its teacher."""
        return any(self.weights.get(name) for name in HINTS)

    @property
    def is_alone(self) -> bool:
        """Whether the student learns from the labels alone."""
        return not any(weight for name, weight in self.weights.items() if name != LABELS)
