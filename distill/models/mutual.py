"""Two students that learn beside each other: deep mutual learning, Zhang et al. 2018 (arXiv 1706.00384)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from torch import Tensor, nn

from distill.models.student import Student
from distill.text.batching import Batch, ModelOutput


class Pair(nn.Module):
    """Two networks of one shape and different beginnings; asked and kept is the first."""

    def __init__(self, first: Student, second: Student) -> None:
        super().__init__()
        self.first, self.second = first, second

    @property
    def classifier(self) -> nn.Linear:
        """The first's."""
        return self.first.classifier

    def answer(self, batch: Batch) -> ModelOutput:
        """What the first says, and as its peer's answer what the second says."""
        return replace(self.first.answer(batch), peer=self.second.answer(batch))

    def forward(self, batch: Batch) -> Tensor:
        """Logits of the first, shape (batch, classes)."""
        return self.first(batch)  # type: ignore[no-any-return]

    def vector_parameters(self) -> list[nn.Parameter]:
        """The word vectors of both."""
        return [*self.first.vector_parameters(), *self.second.vector_parameters()]

    def finished(self) -> Any:
        """The first alone, as it is saved."""
        return self.first.finished()
