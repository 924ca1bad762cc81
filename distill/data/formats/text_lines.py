"""Text files line by line: positions to resume from, lines to put back, and labels appended to each row.

A row is never parsed and serialised again. What is new is appended to it as it is in the file, so all other columns,
the numbers in a JSON line and the quotes in a table stay as they were.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain, islice, repeat
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, Protocol

import numpy as np

from distill.data.formats.labelling import (
    CHUNK_BYTES,
    CHUNK_ROWS,
    STUDENT_OR_TEACHER,
    BadRow,
    Chunk,
    OutputSpec,
    Position,
    Predictions,
)
from distill.data.formats.records import Columns, Row, RowError, Selection
from distill.errors import UserError
from distill.runtime.rows import Ending, RowScanner, ScannedRows
from distill.runtime.structs import RowFormat
from distill.runtime.unsure import top_classes
from distill.storage.encodings import HEAD, MAX_LINE, TextSource, sample_encoding
from distill.storage.fingerprints import fingerprint_bytes

SAMPLE_LINES = 4000  # lines from which format, delimiter and columns are detected
BLOCK = 2**20  # bytes that are copied at a time
BOM = "\ufeff"
LINE_ENDS = "\r\n"
BLANK = " \r\n"  # a line of tabs is not blank: it is a table's row
DECIMALS = "%.5f"
MIN_FOUND, MAX_DECLINED = 16, 64  # rows that make a scan worth while; lines that Python reads before the next scan


class Lines:
    """Raw lines with their ends, which may be put back.

    Args:
        source: positioned at its beginning.
        name: name of the input in messages.
        is_stream: whether the file cannot be read again; its beginning then decides the encoding.
    """

    def __init__(self, source: TextSource, name: str, *, is_stream: bool = False) -> None:
        self.name, self.notes, self.fingerprint = name, list(source.notes), ""
        self.offset, self.line = 0, 0
        self._file, self._is_stream = source.file, is_stream
        self._returned: list[bytes] = []  # the next one last
        self._block, self._at, self._is_last = b"", 0, False  # what was read ahead, and how much of it was passed
        if is_stream:
            head = list(_beginning(source.file))
            self._returned = head[::-1]
            self.encoding = sample_encoding(head, name)
            self.fingerprint = fingerprint_bytes(b"".join(head))
        else:
            self.encoding = sample_encoding(_beginnings(source.file), name)
            source.file.seek(0)
        if self.encoding != "utf-8":
            self.notes.append(self.encoding.upper())
        self.has_bom = self.encoding == "utf-8" and b"".join(self.peek(3)).startswith(BOM.encode())

    def __iter__(self) -> Lines:
        return self

    def __next__(self) -> bytes:
        raw = self._returned.pop() if self._returned else self._readline()
        if not raw:
            raise StopIteration
        self.offset += len(raw)
        self.line += 1
        return raw

    def _readline(self) -> bytes:
        """The next line of the block, and then of the file."""
        if self._at == len(self._block):
            return self._file.readline(MAX_LINE)
        end = self._block.find(b"\n", self._at, self._at + MAX_LINE) + 1 or self._at + MAX_LINE
        raw = self._block[self._at : end]
        self._at += len(raw)
        return raw if raw.endswith(b"\n") else raw + self._file.readline(MAX_LINE - len(raw))

    def scan(self, scanner: RowScanner, end: int) -> bool:
        """Let ``scanner`` read rows up to the offset ``end``; whether the next row must be read by the caller."""
        if self._returned:
            self._block, self._at = b"".join(reversed(self._returned)) + self._block[self._at :], 0
            self._returned.clear()
        while True:
            outcome = scanner.scan(self._block, self._at, self._at + end - self.offset, self._is_last)
            self._at, self.offset = self._at + outcome.size, self.offset + outcome.size
            self.line += outcome.lines
            if not outcome.needs_more:
                return outcome.is_declined
            block = self._file.read(BLOCK)
            self._is_last = not block
            self._block, self._at = self._block[self._at :] + block, 0

    def put_back(self, raws: Sequence[bytes]) -> None:
        """Return the last lines, so that they are read again."""
        size = sum(map(len, raws))
        if not self._returned and self._block.endswith(b"".join(raws), 0, self._at):
            self._at -= size
        else:
            self._returned.extend(reversed(raws))
        self.offset -= size
        self.line -= len(raws)

    def peek(self, size: int = HEAD) -> list[bytes]:
        """The next lines, at least ``size`` bytes if there are as many; they are read again later."""
        raws: list[bytes] = []
        for raw in self:
            raws.append(raw)
            size -= len(raw)
            if size <= 0:
                break
        self.put_back(raws)
        return raws

    @functools.cached_property
    def sample(self) -> list[str]:
        """The first lines, from which the format is detected; to be read before any line is."""
        return decoded(self.peek(), self.encoding)

    def decode(self, raw: bytes) -> str:
        """The line that was just read as text.

        Raises:
            RowError: it is too long, or invalid in this encoding.
        """
        if is_truncated(raw):
            raise RowError(f"the line is longer than {MAX_LINE:,} bytes")
        try:
            line = raw.decode(self.encoding)
        except UnicodeDecodeError as error:
            raise RowError(f"byte {error.start + 1} of the line is not {self.encoding.upper()}") from error
        return line.removeprefix(BOM) if self.line == 1 else line

    def skip_rest(self) -> None:
        """Skip the rest of a line that is too long."""
        line = self.line
        for raw in self:
            if raw.endswith(b"\n"):
                break
        self.line = line

    def go_to(self, position: Position) -> None:
        """Continue from the position of an earlier run.

        Raises:
            UserError: a stream ends before it.
        """
        if self._is_stream:
            while self.offset < position.offset and next(self, None):
                pass
        else:
            self._file.seek(position.offset)
            self.offset = position.offset
            self._returned.clear()
            self._block, self._at, self._is_last = b"", 0, False
        if self.offset != position.offset:
            raise UserError(
                "it ends before the position where the last run stopped", self.name, "choose another --output"
            )
        self.line = position.line


class RawRow(NamedTuple):
    """A row as labels are appended to it, and its cells, in the form that a :class:`Selection` reads."""

    raw: str
    cells: Any


@dataclass(frozen=True)
class Continuation:
    """What is added to a file: the header of the output, and what is appended to each row.

    A row is continued by ``before[class]``, its probability, that of its label set and who answered (as patterns), the
    ``top_k`` most probable classes (``top`` as a pattern of their ``names`` and probabilities), all probabilities as a
    pattern, and ``after``. An empty pattern adds nothing. Where a row has any number of labels, ``before_labels`` of
    their list takes the place of ``before[class]``. Then comes what ``further`` tasks add, each in the same way.
    """

    header: str
    before: tuple[str, ...]
    probabilities: str
    after: str = ""
    set_probability: str = ""
    answered_by: str = ""
    top: str = ""
    top_k: int = 0
    names: tuple[str, ...] = ()
    before_labels: Callable[[list[str]], str] = "".join
    further: tuple[Continuation, ...] = ()

    @classmethod
    def of_tasks(cls, header: str, of_task: Callable[[OutputSpec], Continuation], spec: OutputSpec) -> Continuation:
        """The continuation of rows of all tasks, from that ``of_task``, which has no header."""
        first, *further = map(of_task, spec.by_task)
        return replace(first, header=header, further=tuple(further))

    def of(self, predictions: Predictions) -> Continuation:
        """The continuation of a chunk, in which ``before`` has an entry for each value of ``predictions.classes``."""
        sets, pairs = predictions.label_sets, zip(self.further, predictions.further, strict=True)
        if sets is None and not self.further:
            return self
        before = self.before if sets is None else tuple(map(self.before_labels, sets))
        return replace(self, before=before, further=tuple(task.of(part) for task, part in pairs))

    @functools.cached_property
    def ending(self) -> Ending:
        """``before`` and ``after`` as bytes for the kernels; only if there are no middles."""
        return Ending([_encoded(label) for label in self.before], _encoded(f"{self.after}\n"))

    @property
    def has_middles(self) -> bool:
        """Whether something is appended between probability and ``after``."""
        return bool(self.set_probability or self.answered_by or self.top or self.probabilities or self.further)

    def middles(self, predictions: Predictions) -> Iterable[str]:
        """What is appended to each row between its probability and ``after``."""
        parts: list[Iterable[str]] = []
        if self.set_probability and predictions.set_probability is not None:
            parts.append(map(self.set_probability.__mod__, predictions.set_probability.tolist()))
        if self.answered_by and predictions.by_teacher is not None:
            parts.append(self.answered_by % STUDENT_OR_TEACHER[index] for index in predictions.by_teacher.tolist())
        if self.top:
            classes = top_classes(predictions.probabilities, self.top_k)
            values = np.take_along_axis(predictions.probabilities, classes, axis=1)
            parts.append(map(self._top, classes.tolist(), values.tolist()))
        if self.probabilities:
            parts.append(map(self.probabilities.__mod__, map(tuple, predictions.probabilities.tolist())))
        parts += [task.added(part) for task, part in zip(self.further, predictions.further, strict=True)]
        return map("".join, zip(*parts, strict=True)) if len(parts) > 1 else parts[0] if parts else repeat("")

    def added(self, predictions: Predictions) -> Iterable[str]:
        """All that is appended to each row before ``after``."""
        before = map(self.before.__getitem__, predictions.classes.tolist())
        rows = zip(before, predictions.probability.tolist(), self.middles(predictions), strict=False)
        return (f"{before}{p:.5f}{middle}" for before, p, middle in rows)

    def _top(self, classes: list[int], probabilities: list[float]) -> str:
        return self.top % tuple(chain(*zip(map(self.names.__getitem__, classes), probabilities, strict=True)))


def table_continuation(header: str, delimiter: str, as_cell: Callable[[str], str], spec: OutputSpec) -> Continuation:
    """The continuation of rows of cells; ``as_cell`` writes a label, or several that are joined, as a cell."""

    def of_task(spec: OutputSpec) -> Continuation:
        names = tuple(map(as_cell, spec.predicted))
        return Continuation(
            "",
            before=tuple(f"{delimiter}{name}{delimiter}" for name in names),
            probabilities=f"{delimiter}{DECIMALS}" * len(spec.labels) if spec.probabilities else "",
            set_probability=f"{delimiter}{DECIMALS}" if spec.has_set_probability else "",
            answered_by=f"{delimiter}%s" if spec.has_cascade else "",
            top=f"{delimiter}%s{delimiter}{DECIMALS}" * spec.top_k,
            top_k=spec.top_k,
            names=names,
            before_labels=lambda labels: f"{delimiter}{as_cell(spec.joined(labels))}{delimiter}",
        )

    return Continuation.of_tasks(header, of_task, spec)


class TextFormat(Protocol):
    """How the rows of one text format are parsed and continued."""

    note: str
    selection: Selection
    columns: Columns

    def parse(self, line: str, lines: Lines) -> RawRow | None:
        """A row; None: the line has none. If the row has further lines, they are read from ``lines``.

        Raises:
            RowError: it cannot be used.
        """

    def continuation(self, spec: OutputSpec) -> Continuation:
        """What is added to the rows; called before the first row is parsed.

        Raises:
            UserError: a new column's name is already taken.
        """

    def row_format(self) -> RowFormat | None:
        """How the kernels find the usual rows, each with one cell of text; None: they cannot.

        Called after ``continuation``, unless several cells make up a text.
        """


class StringRows:
    """The part of a :class:`RowFile` that writes rows of text; a chunk's rows are strings without what is appended."""

    continuation: Continuation
    columns = Columns()
    fingerprint = ""  # of a stream's beginning

    def add_labels(self, chunk: Chunk, predictions: Predictions) -> bytes:
        """See RowFile."""
        continuation = self.continuation.of(predictions)
        if isinstance(chunk.rows, ScannedRows) and not continuation.has_middles:
            labelled = chunk.rows.with_labels(continuation.ending, predictions.classes, predictions.probability)
            if labelled is not None:
                return labelled
        before, after, middles = continuation.before, continuation.after, continuation.middles
        classes, probability = predictions.classes.tolist(), predictions.probability.tolist()
        rows = zip(chunk.rows, classes, probability, middles(predictions), strict=False)
        return _encoded("".join([f"{row}{before[label]}{p:.5f}{middle}{after}\n" for row, label, p, middle in rows]))

    def header(self) -> Iterable[bytes]:
        """See RowFile: the header of a table."""
        return [self.continuation.header.encode()]

    @contextlib.contextmanager
    def writer(self, path: Path) -> Iterator[Callable[[bytes], object]]:
        """See RowFile."""
        with path.open("wb") as file:
            yield file.write

    part_writer = writer

    def pieces(self, path: Path) -> Iterator[bytes]:
        """See RowFile."""
        with path.open("rb") as file:
            while block := file.read(BLOCK):
                yield block


def _encoded(text: str) -> bytes:
    """Half a surrogate pair, which only JSON can express, stays an escape."""
    return text.encode(errors="backslashreplace")


class LineRows(StringRows):
    """A :class:`RowFile` of text lines.

    Args:
        lines: positioned at the first row.
        text_format: how they are parsed.
        spec: what is added to the rows; None: nothing, they are read for training.
        size: of the file in bytes; 0: unknown.
    """

    unit = ("kB", 10**3)
    row_unit = "line"

    def __init__(self, lines: Lines, text_format: TextFormat, spec: OutputSpec | None, size: int = 0) -> None:
        self.size = size
        self.note = ", ".join([*lines.notes, text_format.note])
        self.fingerprint, self.columns = lines.fingerprint, text_format.columns
        self._lines, self._format = lines, text_format
        self._scanner: RowScanner | None = None
        if spec:
            self.continuation = text_format.continuation(spec)
            is_scanned = lines.encoding == "utf-8" and len(text_format.selection.texts) == 1
            row_format = text_format.row_format() if is_scanned else None
            if row_format:
                row_format.max_line = MAX_LINE
                self._scanner = RowScanner(row_format, CHUNK_ROWS, 2 * (CHUNK_BYTES + MAX_LINE))

    def rows(self) -> Iterator[Row | BadRow]:
        """See RowFile."""
        select = self._format.selection.row
        for raw in self._lines:
            number = self._lines.line
            try:
                row = self._parsed(raw)
                if row is not None:
                    yield select(row.cells, number)
            except RowError as error:
                yield self._bad_row(number, raw, error)

    def chunks(self, start: Position | None) -> Iterator[Chunk]:
        """See RowFile."""
        if start:
            self._lines.go_to(start)
        offset = self._lines.offset
        while (
            chunk := self._chunk() if self._scanner is None else self._scanned_chunk(self._scanner)
        ).end.offset > offset:
            offset = chunk.end.offset
            yield chunk

    def _scanned_chunk(self, scanner: RowScanner) -> Chunk:
        """A chunk whose usual rows are found by the kernels. Python reads more at a time where they find few."""
        lines, bad, select = self._lines, [], self._format.selection.text
        end, declined = lines.offset + CHUNK_BYTES, 1
        while (count := len(scanner)) < CHUNK_ROWS and lines.offset < end:
            if not lines.scan(scanner, end):
                break
            declined = 1 if len(scanner) >= count + MIN_FOUND else min(2 * declined, MAX_DECLINED)
            for raw in islice(lines, declined):
                number = lines.line
                try:
                    if row := self._parsed(raw):
                        scanner.add(row.raw, select(row.cells))
                except RowError as error:
                    bad.append(self._bad_row(number, raw, error))
                if len(scanner) == CHUNK_ROWS or lines.offset >= end:
                    break
        rows = scanner.take()
        return Chunk(rows, rows.texts, bad, Position(lines.offset, lines.line))

    def _chunk(self) -> Chunk:
        lines, rows, texts, bad = self._lines, [], [], []
        select, end = self._format.selection.text, lines.offset + CHUNK_BYTES
        for raw in lines:
            number = lines.line
            try:
                row = self._parsed(raw)
                if row is not None:
                    texts.append(select(row[1]))
                    rows.append(row[0])
            except RowError as error:
                bad.append(self._bad_row(number, raw, error))
            if len(rows) >= CHUNK_ROWS or lines.offset >= end:
                break
        return Chunk(rows, texts, bad, Position(lines.offset, lines.line))

    def _parsed(self, raw: bytes) -> RawRow | None:
        """The row that begins with the line that was just read; None: the line has none."""
        line = self._lines.decode(raw)
        return self._format.parse(line, self._lines) if line.strip(BLANK) else None

    def _bad_row(self, number: int, raw: bytes, error: RowError) -> BadRow:
        if is_truncated(raw):
            self._lines.skip_rest()
        return BadRow(number, str(error), raw.decode(self._lines.encoding, "backslashreplace").rstrip(LINE_ENDS))


class ItemRows(StringRows):
    """A :class:`RowFile` of rows that are not lines: those of a JSON document or a spreadsheet. They are read once.

    Args:
        rows: the rows and the bad rows, in order, with their numbers.
        selection: the columns that are read.
        note: what was detected about the file.
        row_unit: what row numbers count.
        continuation: what is added to the rows; None: nothing, they are read for training.
        size: the number of rows; 0: unknown.
    """

    unit = ("rows", 1)

    def __init__(
        self,
        rows: Iterable[tuple[int, RawRow | BadRow]],
        selection: Selection,
        note: str,
        row_unit: str,
        continuation: Continuation | None,
        *,
        size: int = 0,
    ) -> None:
        self.size, self.note, self.row_unit = size, note, row_unit
        self._rows, self._selection = rows, selection
        if continuation:
            self.continuation = continuation

    def rows(self) -> Iterator[Row | BadRow]:
        """See RowFile."""
        for number, row in self._rows:
            if isinstance(row, BadRow):
                yield row
                continue
            try:
                yield self._selection.row(row.cells, number)
            except RowError as error:
                yield BadRow(number, str(error), row.raw)

    def chunks(self, start: Position | None) -> Iterator[Chunk]:
        """See RowFile."""
        end = start.offset if start else 0
        numbered = islice(self._rows, end, None)
        while (chunk := self._chunk(numbered, end)).end.offset > end:
            end = chunk.end.offset
            yield chunk

    def _chunk(self, numbered: Iterator[tuple[int, RawRow | BadRow]], end: int) -> Chunk:
        rows: list[str] = []
        texts, bad, size = [], [], 0
        for number, row in numbered:
            end += 1
            size += len(row.raw)
            try:
                if isinstance(row, BadRow):
                    bad.append(row)
                else:
                    texts.append(self._selection.text(row.cells))
                    rows.append(row.raw)
            except RowError as error:
                bad.append(BadRow(number, str(error), row.raw))
            if len(rows) + len(bad) >= CHUNK_ROWS or size >= CHUNK_BYTES:
                break
        return Chunk(rows, texts, bad, Position(end, end))


def is_truncated(raw: bytes) -> bool:
    """Whether these bytes are only the beginning of a line that is too long."""
    return len(raw) >= MAX_LINE and not raw.endswith(b"\n")


def decoded(raws: Iterable[bytes], encoding: str) -> list[str]:
    """The first ``SAMPLE_LINES`` raw lines without line ends; blank and invalid ones are left out, as is a BOM."""
    lines: list[str] = []
    for raw in raws:
        if len(lines) == SAMPLE_LINES:
            break
        with contextlib.suppress(UnicodeDecodeError):
            line = raw.decode(encoding, "ignore" if is_truncated(raw) else "strict").rstrip(LINE_ENDS)
            if line.removeprefix(BOM).strip():
                lines.append(line.removeprefix(BOM))
    return lines


def _raw_lines(file: BinaryIO) -> Iterator[bytes]:
    while raw := file.readline(MAX_LINE):
        yield raw


def _beginnings(file: BinaryIO) -> Iterator[bytes]:
    """The lines; of one that is too long, the beginning."""
    is_rest = False
    for raw in _raw_lines(file):
        if not is_rest:
            yield raw
        is_rest = is_truncated(raw) or (is_rest and not raw.endswith(b"\n"))


def _beginning(file: BinaryIO) -> Iterator[bytes]:
    size = 0
    for raw in _raw_lines(file):
        yield raw
        size += len(raw)
        if size >= HEAD:
            break
