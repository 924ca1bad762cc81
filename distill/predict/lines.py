"""Lines of a file or of standard input: one at a time, with their encoding and the place behind them."""

from __future__ import annotations

import codecs
import hashlib
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice
from typing import BinaryIO, Self

from distill.errors import UserError
from distill.predict.rows import BadRow, Position

LONGEST = 2**20  # bytes of a line; a longer one is a bad row, and its rest is not kept
HEAD = 2**20  # bytes of standard input that are read ahead
ASKED = 1000  # lines that tell the encoding
BOM = "\ufeff"


class Lines:
    """Raw lines, with their ends; lines may be put back.

    Args:
        file: read from where it stands.
        encoding: of all lines.
        name: for messages.
        is_stream: it cannot be read again.
    """

    def __init__(self, file: BinaryIO, encoding: str, name: str, is_stream: bool = False) -> None:
        self.encoding, self.name = encoding, name
        self.offset, self.line = 0, 0
        self._file, self._is_stream = file, is_stream
        self._back: list[bytes] = []

    @classmethod
    def of_file(cls, file: BinaryIO, name: str) -> Self:
        """Lines of a file that can be read twice."""
        encoding = find_encoding(_raw(file), name)
        file.seek(0)
        return cls(file, encoding, name)

    @classmethod
    def of_stream(cls, file: BinaryIO, name: str) -> tuple[Self, str]:
        """Lines of a pipe, and a fingerprint of its beginning."""
        head, size = [], 0
        for raw in _raw(file):
            head.append(raw)
            size += len(raw)
            if size >= HEAD:
                break
        lines = cls(file, find_encoding(head, name), name, is_stream=True)
        lines._back = head[::-1]
        return lines, hashlib.sha256(b"".join(head)).hexdigest()[:16]

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> bytes:
        raw = self._back.pop() if self._back else self._file.readline(LONGEST)
        if not raw:
            raise StopIteration
        self.offset += len(raw)
        self.line += 1
        return raw

    def put_back(self, raws: Sequence[bytes]) -> None:
        """Let the last lines come again."""
        self._back.extend(reversed(raws))
        self.offset -= sum(map(len, raws))
        self.line -= len(raws)

    def decode(self, raw: bytes) -> str:
        """The line just taken as text.

        Raises:
            BadRow: it is too long, or of another encoding.
        """
        if is_cut(raw):
            raise BadRow(f"the line is longer than {LONGEST:,} bytes")
        try:
            line = raw.decode(self.encoding)
        except UnicodeDecodeError as error:
            raise BadRow(f"byte {error.start + 1} of the line is not {self.encoding.upper()}") from error
        return line.removeprefix(BOM) if self.line == 1 else line

    def skip_rest(self) -> None:
        """Pass over what is left of a line that is too long."""
        line = self.line
        for rest in self:
            if rest.endswith(b"\n"):
                break
        self.line = line

    def go_to(self, position: Position) -> None:
        """Go on from a place of an earlier run.

        Raises:
            UserError: a stream ended before it.
        """
        if self._is_stream:
            while self.offset < position.offset and next(self, None):
                pass
        else:
            self._file.seek(position.offset)
            self.offset = position.offset
            self._back.clear()
        if self.offset != position.offset:
            raise UserError("it ends before the place where the last run stopped", self.name, "choose another --output")
        self.line = position.line


def is_cut(raw: bytes) -> bool:
    """Whether a line goes on behind these bytes."""
    return len(raw) >= LONGEST and not raw.endswith(b"\n")


def find_encoding(raws: Iterable[bytes], name: str) -> str:
    """UTF-8 or GB18030: what the first lines are that tell them apart, which are those beyond ASCII.

    The whole file need not be read: lines of Chinese in GB18030 are hardly ever good UTF-8 by chance, so what most of
    a thousand lines are, the file is. A later line that does not decode is a bad row.

    Raises:
        UserError: it is neither.
    """
    raws = iter(raws)
    first = next(raws, b"")
    if first.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise UserError("the file is UTF-16", name, "save it as UTF-8")
    telling = list(islice((raw for raw in chain([first], raws) if not raw.isascii()), ASKED))
    for encoding in ("utf-8", "gb18030"):
        if 2 * sum(_decodes(raw, encoding) for raw in telling) >= len(telling):
            return encoding
    raise UserError("bytes that are neither UTF-8 nor GB18030", name, "save the file as UTF-8")


def _decodes(raw: bytes, encoding: str) -> bool:
    try:
        raw.decode(encoding)
    except UnicodeDecodeError:
        return False
    return True


def _raw(file: BinaryIO) -> Iterator[bytes]:
    while raw := file.readline(LONGEST):
        yield raw
