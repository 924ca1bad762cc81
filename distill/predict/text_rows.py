"""Rows that are lines of text: chunks of them, and how they are written."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from itertools import repeat
from pathlib import Path

from distill.predict.line_formats import BLANK, Kind
from distill.predict.lines import Lines, is_cut
from distill.predict.rows import BYTES, ROWS, Answers, Bad, BadRow, Chunk, Position

BLOCK = 2**20  # bytes that are copied at a time


class TextRows:
    """See :class:`distill.predict.rows.Format`; a chunk's rows are strings that lack their tail."""

    unit = ("kB", 10**3)

    def __init__(self, lines: Lines, kind: Kind, size: int) -> None:
        self.size = size
        self._lines, self._kind = lines, kind

    def chunks(self, start: Position | None) -> Iterator[Chunk]:
        """See Format."""
        if start:
            self._lines.go_to(start)
        begun = self._lines.offset
        while (chunk := self._chunk()).end.offset > begun:
            begun = chunk.end.offset
            yield chunk

    def _chunk(self) -> Chunk:
        lines, rows, texts, bad = self._lines, [], [], []
        end = lines.offset + BYTES
        for raw in lines:
            number = lines.line
            try:
                line = lines.decode(raw)
                if line.strip(BLANK):
                    row, text = self._kind.row(line, lines)
                    rows.append(row)
                    texts.append(text)
            except BadRow as fault:
                bad.append(Bad(number, str(fault), raw.decode(lines.encoding, "backslashreplace").rstrip("\r\n")))
                if is_cut(raw):
                    lines.skip_rest()
            if len(rows) >= ROWS or lines.offset >= end:
                break
        return Chunk(rows, texts, bad, Position(lines.offset, lines.line))

    def labelled(self, chunk: Chunk, answers: Answers) -> bytes:
        """See Format."""
        before, each, after = self._kind.tail.before, self._kind.tail.each, self._kind.tail.after
        more = map(each.__mod__, map(tuple, answers.probabilities.tolist())) if each else repeat("")
        found = zip(chunk.rows, answers.classes.tolist(), answers.probability.tolist(), more, strict=False)
        return "".join([f"{row}{before[place]}{p:.5f}{all_of}{after}\n" for row, place, p, all_of in found]).encode()

    def head(self) -> Iterable[bytes]:
        """See Format: a table's header."""
        return [self._kind.header.encode()]

    @contextlib.contextmanager
    def writer(self, path: Path) -> Iterator[Callable[[bytes], object]]:
        """See Format."""
        with path.open("wb") as file:
            yield file.write

    def pieces(self, path: Path) -> Iterator[bytes]:
        """See Format."""
        with path.open("rb") as file:
            while block := file.read(BLOCK):
                yield block
