"""Several tasks (to be replaced by the other branch)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Task:
    name: str
    labels: tuple[str, ...]
    thresholds: tuple[float, ...] = ()
    first: int = 0

    @property
    def columns(self) -> slice:
        return slice(self.first, self.first + len(self.labels))


def flat_labels(tasks: Sequence[Task]) -> tuple[str, ...]:
    return tuple(f"{task.name}/{label}" for task in tasks for label in task.labels)
