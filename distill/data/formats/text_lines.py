"""Text files line by line: positions to resume from, lines to put back, and labels appended to each row.

A row is never parsed and serialised again. What is new is appended to it as it is in the file, so all other columns,
the numbers in a JSON line and the quotes in a table stay as they were.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path
from typing import BinaryIO, Protocol, Self

from distill.data.formats.encodings import file_encoding, sample_encoding
from distill.data.formats.labelling import CHUNK_BYTES, CHUNK_ROWS, BadRow, Chunk, Position, Predictions, RowError
from distill.errors import UserError

MAX_LINE = 2**20  # bytes; a longer line is a bad row, and its rest is dropped
HEAD = 2**20  # bytes of standard input that are read ahead
BLOCK = 2**20  # bytes that are copied at a time
BOM = "\ufeff"
LINE_ENDS = "\r\n"
BLANK = " \r\n"  # a line of tabs is not blank: it is a table's row without text
DECIMALS = "%.5f"


def numbered_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Lines that are not blank, with their numbers. Only line feeds end a line: a text may contain U+2028."""
    with path.open(encoding=file_encoding(path), newline="\n") as file:
        for number, line in enumerate(file, 1):
            if line.strip():
                yield number, line.rstrip(LINE_ENDS)


class Lines:
    """Raw lines with their ends, which may be put back.

    Args:
        file: positioned where reading begins.
        encoding: encoding of all lines.
        name: name of the input in messages.
        is_stream: whether the file cannot be read again.
    """

    def __init__(self, file: BinaryIO, encoding: str, name: str, is_stream: bool = False) -> None:
        self.encoding, self.name = encoding, name
        self.offset, self.line = 0, 0
        self._file, self._is_stream = file, is_stream
        self._returned: list[bytes] = []  # the next one last

    @classmethod
    def from_file(cls, file: BinaryIO, name: str) -> Self:
        """Lines of a file that can be read twice."""
        encoding = sample_encoding(_raw_lines(file), name)
        file.seek(0)
        return cls(file, encoding, name)

    @classmethod
    def from_stream(cls, file: BinaryIO, name: str) -> tuple[Self, str]:
        """Lines of a pipe, and the fingerprint of its beginning."""
        head, size = [], 0
        for raw in _raw_lines(file):
            head.append(raw)
            size += len(raw)
            if size >= HEAD:
                break
        lines = cls(file, sample_encoding(head, name), name, is_stream=True)
        lines._returned = head[::-1]
        return lines, hashlib.sha256(b"".join(head)).hexdigest()[:16]

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> bytes:
        raw = self._returned.pop() if self._returned else self._file.readline(MAX_LINE)
        if not raw:
            raise StopIteration
        self.offset += len(raw)
        self.line += 1
        return raw

    def put_back(self, raws: Sequence[bytes]) -> None:
        """Return the last lines, so that they are read again."""
        self._returned.extend(reversed(raws))
        self.offset -= sum(map(len, raws))
        self.line -= len(raws)

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
        if self.offset != position.offset:
            raise UserError(
                "it ends before the position where the last run stopped", self.name, "choose another --output"
            )
        self.line = position.line


@dataclass(frozen=True)
class Appendix:
    """What is appended to a row: ``before[class]``, its probability, all probabilities as a pattern, and ``after``."""

    before: tuple[str, ...]
    probabilities: str
    after: str = ""


class LineFormat(Protocol):
    """How the lines of one text format are parsed and continued."""

    header: str
    appendix: Appendix

    def parse(self, line: str, lines: Lines) -> tuple[str, str]:
        """A row as the appendix follows it, and its text. If the row has further lines, they are read from ``lines``.

        Raises:
            RowError: it cannot be labelled.
        """


class TextRows:
    """A :class:`RowFile` of text lines; a chunk's rows are strings without their appendix."""

    unit = ("kB", 10**3)

    def __init__(self, lines: Lines, line_format: LineFormat, size: int) -> None:
        self.size = size
        self._lines, self._format = lines, line_format

    def chunks(self, start: Position | None) -> Iterator[Chunk]:
        """See RowFile."""
        if start:
            self._lines.go_to(start)
        offset = self._lines.offset
        while (chunk := self._chunk()).end.offset > offset:
            offset = chunk.end.offset
            yield chunk

    def _chunk(self) -> Chunk:
        lines, rows, texts, bad = self._lines, [], [], []
        end = lines.offset + CHUNK_BYTES
        for raw in lines:
            number = lines.line
            try:
                line = lines.decode(raw)
                if line.strip(BLANK):
                    row, text = self._format.parse(line, lines)
                    rows.append(row)
                    texts.append(text)
            except RowError as error:
                shown = raw.decode(lines.encoding, "backslashreplace").rstrip(LINE_ENDS)
                bad.append(BadRow(number, str(error), shown))
                if is_truncated(raw):
                    lines.skip_rest()
            if len(rows) >= CHUNK_ROWS or lines.offset >= end:
                break
        return Chunk(rows, texts, bad, Position(lines.offset, lines.line))

    def add_labels(self, chunk: Chunk, predictions: Predictions) -> bytes:
        """See RowFile."""
        appendix = self._format.appendix
        before, pattern, after = appendix.before, appendix.probabilities, appendix.after
        per_label = map(pattern.__mod__, map(tuple, predictions.probabilities.tolist())) if pattern else repeat("")
        rows = zip(chunk.rows, predictions.classes.tolist(), predictions.probability.tolist(), per_label, strict=False)
        return "".join(
            [f"{row}{before[label]}{p:.5f}{all_probabilities}{after}\n" for row, label, p, all_probabilities in rows]
        ).encode()

    def header(self) -> Iterable[bytes]:
        """See RowFile: the header of a table."""
        return [self._format.header.encode()]

    @contextlib.contextmanager
    def writer(self, path: Path) -> Iterator[Callable[[bytes], object]]:
        """See RowFile."""
        with path.open("wb") as file:
            yield file.write

    def pieces(self, path: Path) -> Iterator[bytes]:
        """See RowFile."""
        with path.open("rb") as file:
            while block := file.read(BLOCK):
                yield block


def is_truncated(raw: bytes) -> bool:
    """Whether these bytes are only the beginning of a line that is too long."""
    return len(raw) >= MAX_LINE and not raw.endswith(b"\n")


def _raw_lines(file: BinaryIO) -> Iterator[bytes]:
    while raw := file.readline(MAX_LINE):
        yield raw
