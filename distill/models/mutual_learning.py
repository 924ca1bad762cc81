"""Two students that learn from each other: deep mutual learning, Zhang et al. 2018 (arXiv 1706.00384)."""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor, nn

from distill.models.student import SavedStudent, Student
from distill.text.batching import Batch, ModelOutput


class MutualStudents(nn.Module):
    """Two networks of one shape with different initial weights. The first is evaluated and saved."""

    def __init__(self, first: Student, second: Student) -> None:
        super().__init__()
        self.first, self.second = first, second

    @property
    def classifier(self) -> nn.Linear:
        """The first student's classifier."""
        return self.first.classifier

    def output(self, batch: Batch) -> ModelOutput:
        """The first student's output, with the second's as ``peer``."""
        return replace(self.first.output(batch), peer=self.second.output(batch))

    def forward(self, batch: Batch) -> Tensor:
        """Logits of the first student, shape (batch, classes)."""
        return self.first(batch)  # type: ignore[no-any-return]

    def vector_parameters(self) -> list[nn.Parameter]:
        """The word and n-gram vectors of both."""
        return [*self.first.vector_parameters(), *self.second.vector_parameters()]

    def for_inference(self) -> SavedStudent:
        """The first student as it is saved."""
        return self.first.for_inference()
