"""What all formats share: chunks of rows in, the same rows with the student's answers out."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from distill.errors import UserError
from distill.runtime import Runtime

ROWS = 2048  # of a chunk at most: enough for the kernels, few enough for the memory
BYTES = 2**20  # of a chunk, about
PREDICTED, PROBABILITY, PROBABILITIES = "predicted", "probability", "probabilities"
NO_TEXT = "there is no text"


class Position(NamedTuple):
    """How much of an input is behind: bytes and lines; of a Parquet file rows, twice."""

    offset: int
    line: int


class BadRow(Exception):  # noqa: N818 (it is no fault of the program)
    """Why a row cannot be labelled."""


class Bad(NamedTuple):
    """A row that was not labelled."""

    line: int
    why: str
    raw: str


@dataclass(frozen=True)
class Chunk:
    """Some rows: as their format keeps them, their texts, those that are bad, and where the input goes on."""

    rows: Any
    texts: list[str]
    bad: list[Bad]
    end: Position


@dataclass(frozen=True)
class Answers:
    """What the student says of texts: classes (texts,), their probabilities (texts,), all of them (texts, classes)."""

    classes: NDArray[np.int64]
    probability: NDArray[np.float32]
    probabilities: NDArray[np.float32]


def ask(runtime: Runtime, texts: Sequence[str]) -> Answers:
    """The student's answers, in the order of the texts."""
    found = runtime.predict_proba(texts)
    return Answers(found.argmax(axis=1), found.max(axis=1), found)


@dataclass(frozen=True)
class Wanted:
    """What stands behind a row: the labels that there are, and whether each one's probability is written."""

    labels: tuple[str, ...]
    probabilities: bool
    text_column: str = ""

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the new columns of a table."""
        more = [f"{PROBABILITY}_{label}" for label in self.labels] if self.probabilities else []
        return (PREDICTED, PROBABILITY, *more)

    def check(self, there: Collection[str], where: object) -> None:
        """Refuse a table that has a column of a new one's name: nobody could tell which is which.

        Raises:
            UserError: it has.
        """
        both = [name for name in self.columns if name in there]
        if both:
            what = f"there is a column {', '.join(both)} already, which is to be written"
            raise UserError(what, where, "rename that column, or leave it out")


class Format(Protocol):
    """An open input, and the way its rows are written."""

    size: int  # in the unit of Position.offset; 0: nobody knows
    unit: tuple[str, int]  # of the progress bar, and how much of Position.offset it is

    def chunks(self, start: Position | None) -> Iterator[Chunk]:
        """The rows from ``start`` on; None: from the first."""

    def labelled(self, chunk: Chunk, answers: Answers) -> Any:
        """The chunk's rows with the answers, as ``writer`` takes them; called from several threads."""

    def head(self) -> Iterable[Any]:
        """What stands before all rows, as ``writer`` takes it."""

    def writer(self, path: Path) -> AbstractContextManager[Callable[[Any], object]]:
        """Open a file; the function writes what ``labelled`` or ``pieces`` gave."""

    def pieces(self, path: Path) -> Iterator[Any]:
        """A written file again, in pieces that ``writer`` takes."""
