"""An open file of any format: its rows for training, or chunks of rows that ``--mode predict`` writes with labels."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from distill.data.formats.records import Columns, Row
from distill.errors import UserError

CHUNK_ROWS = 2048  # maximum: enough for the kernels, few enough for the memory
CHUNK_BYTES = 2**20  # approximate maximum
PREDICTED, PROBABILITY, PROBABILITIES = "predicted", "probability", "probabilities"


class Position(NamedTuple):
    """How much of an input has been read: bytes and lines. For Parquet both count rows."""

    offset: int
    line: int


class BadRow(NamedTuple):
    """A row that cannot be used. ``line`` is its number in the unit of the file (lines, rows or items)."""

    line: int
    why: str
    raw: str


@dataclass(frozen=True)
class Chunk:
    """Some rows in the form of their format, their texts, the bad rows among them, and the position after them."""

    rows: Any
    texts: list[str]
    bad: list[BadRow]
    end: Position


@dataclass(frozen=True)
class Predictions:
    """Predicted classes (texts,), their probabilities (texts,), and all probabilities (texts, classes)."""

    classes: NDArray[np.int64]
    probability: NDArray[np.float32]
    probabilities: NDArray[np.float32]

    @classmethod
    def of(cls, probabilities: NDArray[np.float32]) -> Self:
        """From the probabilities of all classes."""
        return cls(probabilities.argmax(axis=1), probabilities.max(axis=1), probabilities)


@dataclass(frozen=True)
class OutputSpec:
    """What is added to each row: one of ``labels`` and its probability, or all ``probabilities``.

    ``text_column`` names the input's columns of texts; empty: the first of the usual names. With ``escape_formulas``,
    no cell of a table for spreadsheets is a formula.
    """

    labels: tuple[str, ...]
    probabilities: bool
    text_column: str = ""
    escape_formulas: bool = True

    @property
    def input_columns(self) -> Columns:
        """The columns that are read."""
        return Columns(self.text_column, is_labelled=False)

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of a table's new columns."""
        per_label = [f"{PROBABILITY}_{label}" for label in self.labels] if self.probabilities else []
        return (PREDICTED, PROBABILITY, *per_label)

    def check_names(self, names: Collection[str], where: object) -> None:
        """Refuse a table that already has a column with the name of a new one.

        Raises:
            UserError: a new column's name is already taken.
        """
        both = [name for name in self.columns if name in names]
        if both:
            what = f"there is already a column {', '.join(both)}, and the output needs this name"
            raise UserError(what, where, "rename or remove that column")


class RowFile(Protocol):
    """An open file: the rows in it, and how they are written with labels."""

    fingerprint: str  # of a stream's beginning; empty for files
    columns: Columns  # of further files of the same data set: numbers if there is no header, else empty
    note: str  # what was detected about the file, in words
    row_unit: str  # what row numbers count: "line", "row" or "item"
    size: int  # in the unit of Position.offset; 0: unknown
    unit: tuple[str, int]  # of the progress bar, and how much of Position.offset one unit is

    def rows(self) -> Iterator[Row | BadRow]:
        """All rows, for training; a row may lack its label only if no labels are read."""

    def chunks(self, start: Position | None) -> Iterator[Chunk]:
        """The rows from ``start`` on; None: from the first row."""

    def add_labels(self, chunk: Chunk, predictions: Predictions) -> Any:
        """The chunk's rows with their labels, in the form that ``writer`` takes; called from several threads."""

    def header(self) -> Iterable[Any]:
        """What precedes all rows, in the form that ``writer`` takes."""

    def writer(self, path: Path) -> AbstractContextManager[Callable[[Any], object]]:
        """Open an output; the function writes what ``add_labels``, ``header`` or ``pieces`` return."""

    def pieces(self, path: Path) -> Iterator[Any]:
        """The content of a written output, in pieces that ``writer`` takes."""
