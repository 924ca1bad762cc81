"""The objective of a student: the terms of its loss and their weights, parsed from ``--objective``."""

from __future__ import annotations

import math
from dataclasses import dataclass

from distill.config.fields import FROM_DATA, Checked, option
from distill.errors import UserError

LABELS, LOGITS, MUTUAL = "labels", "logits", "mutual"
SOFT = ("soft", "soft_reverse", "soft_symmetric")
HINTS = ("hint", "hint_layers")
TERMS = (LABELS, LOGITS, *SOFT, *HINTS, MUTUAL, "dist")
BESIDE = (*HINTS, MUTUAL)  # these reach no classifier, or only imitate another student: something must teach beside
USUAL_LABELS = 0.3  # beside a teacher, see benchmarks/LOG.md
EXAMPLE = "--objective logits, soft, hint, mutual, dist, or several as in logits+hint:0.5"


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

    def __post_init__(self) -> None:
        super().__post_init__()
        if not any(self.weights.values()):
            hint = "--a 1 --T 0, --a 0 --T 1, or a weight above 0 in --objective"
            raise UserError("all weights of the objective are 0: nothing to learn from", "settings", hint)
        if all(name in BESIDE for name, weight in self.weights.items() if weight):
            hint = f"--a 1, or --objective {LOGITS}+{self.objective}"
            raise UserError(f"--objective {self.objective} leaves the classifier untaught", "settings", hint)

    @property
    def labels_weight(self) -> float:
        """What a label weighs: --a, or what is usual beside a teacher; without one nothing is decided here."""
        if self.hard_weight != FROM_DATA:
            return self.hard_weight
        return USUAL_LABELS if self.logits_weight else 0.0

    @property
    def weights(self) -> dict[str, float]:
        """Weight of every term, ``labels`` always among them.

        Without a number ``labels`` weighs a, ``logits`` T, soft targets 1 - a (Hinton's alpha and 1 - alpha), any other
        1; ``logits`` is added to an objective of nothing but hints or mutual learning. Where --a is not given either,
        a is ``USUAL_LABELS``.
        """
        parts = [part.strip().partition(":") for part in self.objective.split("+")]
        given = {name: self._weight(name, number) for name, _, number in parts}
        if len(given) < len(parts):
            raise UserError(f"--objective {self.objective} names a term twice", "settings", EXAMPLE)
        if all(name in BESIDE for name in given):
            given[LOGITS] = self.logits_weight
        return {LABELS: self.labels_weight, **given}

    def _weight(self, name: str, number: str) -> float:
        if name not in TERMS:
            raise UserError(f"--objective: {name!r} is none of {', '.join(TERMS)}", "settings", EXAMPLE)
        try:
            weight = float(number) if number else self._usual_weight(name)
        except ValueError:
            weight = math.nan
        if not number and not weight and name in (LABELS, *SOFT):
            what = f"--objective {self.objective} names {name}, but --a {self.hard_weight:g} gives it no weight"
            raise UserError(what, "settings", f"another --a, or {name}:0.5 in --objective")
        if not 0 <= weight <= 1e6:
            what = f"{name} weighs {number or f'{weight:g} (1 - a)'}"
            raise UserError(f"--objective: {what}, 0 or a number above is needed", "settings", EXAMPLE)
        return weight

    def _usual_weight(self, name: str) -> float:
        if name in SOFT:
            return 1 - self.labels_weight
        return {LABELS: self.labels_weight, LOGITS: self.logits_weight}.get(name, 1.0)

    @property
    def needs_teacher(self) -> bool:
        """Whether any term that asks the teacher has weight."""
        return any(weight for name, weight in self.weights.items() if name not in (LABELS, MUTUAL))

    @property
    def hints(self) -> bool:
        """Whether the student imitates its teacher's vectors."""
        return any(self.weights.get(name) for name in HINTS)

    @property
    def is_alone(self) -> bool:
        """Whether the labels alone teach."""
        return not any(weight for name, weight in self.weights.items() if name != LABELS)
