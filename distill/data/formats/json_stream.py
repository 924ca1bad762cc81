"""The values in a JSON text of any length, one after another: only the part around the next value is in memory."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from distill.errors import UserError

MAX_RECORD = 2**20  # characters of one record; a longer one is a bad row
MAX_WHOLE = 2**24  # characters of a document that must be in memory as a whole
BLOCK = 2**16  # characters that are read at a time
RAW_SHOWN = 1000  # characters of a record that is too long
DECODER = json.JSONDecoder()
WHITE_SPACE = re.compile(r"\s*+")
BLANKS = re.compile(r"[\s,]*+")  # between the values of a document
COMMA = re.compile(r"\s*+,\s*+(?=\S)")  # between two items, if the next one begins in memory
INSIDE = re.compile(r'[^"\\]*+(?:\\.[^"\\]*+)*+', re.DOTALL)  # of a string
FLAT = r'(?:[\[{][^\[\]{}"]*+[\]}][\s,]*+)++'  # arrays and objects without strings, arrays and objects
TOKEN = re.compile(rf'"{INSIDE.pattern}"|"|{FLAT}|[\[{{]+|[\]}}]+', re.DOTALL)  # a lone quote: the string goes on
SCALAR = re.compile(r"[^\s,\]}]*+")
WHOLE = (dict, list, str)  # values that show where they end
INCOMPLETE = object()  # the value is longer than MAX_RECORD


@dataclass(frozen=True)
class TooLong:
    """Stands for a record that is longer than ``MAX_RECORD``; ``raw`` is its beginning."""

    raw: str

    def __str__(self) -> str:
        return f"the record is longer than {MAX_RECORD:,} characters"


class JsonText:
    """A position in a JSON text, which only moves forward.

    Args:
        blocks: of the text.
        name: of the file, for messages.
    """

    def __init__(self, blocks: Iterator[str], name: str) -> None:
        self._blocks, self._name = blocks, name
        self._text, self._at, self._is_complete = "", 0, False
        self._dropped, self._line = 0, 1  # what precedes the text that is in memory
        self._held: int | None = None  # where the text begins that must not be dropped

    @property
    def position(self) -> int:
        """How many characters precede the position."""
        return self._dropped + self._at

    def mark(self, skipped: re.Pattern[str] = WHITE_SPACE) -> str:
        """The next character that is not white space, to which the position moves; empty: the text ends."""
        while True:
            self._at = skipped.match(self._text, self._at).end()  # type: ignore[union-attr]  # it matches ""
            if self._at < len(self._text):
                return self._text[self._at]
            if not self._read_more():
                return ""

    def expect(self, marks: str) -> str:
        """Go behind the next character that is not white space.

        Raises:
            UserError: it is none of ``marks``.
        """
        found = self.mark()
        if not found or found not in marks:
            raise self._broken(f"Expecting {' or '.join(map(repr, marks))}")
        self._at += 1
        return found

    def decoded(self) -> Any:
        """The value at the position, which moves behind it; ``INCOMPLETE``: it is too long, and the position stays.

        Raises:
            UserError: it is broken.
        """
        while True:
            size, broken = len(self._text) - self._at, None
            try:
                value, end = DECODER.raw_decode(self._text, self._at)
            except (ValueError, RecursionError) as error:  # an integer of 5,000 digits is a ValueError
                broken = error
            else:
                if end - self._at > MAX_RECORD:
                    return INCOMPLETE
                if self._is_complete or (end < len(self._text) and (value.__class__ in WHOLE or self._is_ended(end))):
                    self._at = end
                    return value
            if broken and size > MAX_RECORD and not self._is_closed():
                return INCOMPLETE
            if broken and (size > MAX_RECORD or self._is_complete):
                raise self._broken(getattr(broken, "msg", str(broken)), getattr(broken, "pos", None)) from broken
            self._read_more()

    def value(self) -> Any:
        """The value at the position, which moves behind it; a :class:`TooLong` stands for one that is too long.

        Raises:
            UserError: it is broken.
        """
        value = self.decoded()
        if value is not INCOMPLETE:
            return value
        raw = self._text[self._at : self._at + RAW_SHOWN]
        self.skip()
        return TooLong(raw)

    def values(self) -> Iterator[Any]:
        """The values that follow one another, to the end.

        Raises:
            UserError: one is broken.
        """
        while self.mark(BLANKS):
            yield self.value()

    def key(self) -> str:
        """The key at the position, which moves behind its colon.

        Raises:
            UserError: it is broken.
        """
        key = self.value() if self.mark() == '"' else None
        if not isinstance(key, str):
            raise self._broken("Expecting property name enclosed in double quotes")
        self.expect(":")
        return key

    def require_end(self) -> None:
        """Check that nothing follows.

        Raises:
            UserError: something does.
        """
        if self.mark(BLANKS):
            raise self._broken("Extra data")

    def items(self) -> Iterator[Any]:
        """The items of an array whose bracket precedes the position, which moves behind the array.

        Raises:
            UserError: it is broken.
        """
        if self.mark() == "]":
            self.expect("]")
            return
        while True:
            yield self.value()
            if comma := COMMA.match(self._text, self._at):  # quicker than what follows
                self._at = comma.end()
            elif self.expect(",]") == "]":
                return
            else:
                self.mark()

    def skip(self, depth: int = 0) -> None:
        """Go behind the value at the position, or behind the array or object in which it is if ``depth`` is 1.

        Raises:
            UserError: the text ends within it.
        """
        mark = self.mark()
        if not depth and mark in ("[", "{"):
            self._at, depth = self._at + 1, 1
        if depth:
            while depth := self._scan(depth):
                if self._at < len(self._text):
                    self._skip_string()
                else:
                    self._require_more()
        elif mark == '"':
            self._skip_string()
        else:
            while (end := SCALAR.match(self._text, self._at).end()) == len(self._text):  # type: ignore[union-attr]
                self._at = end
                if not self._read_more():
                    return
            self._at = end

    def hold(self) -> None:
        """From here on, keep the text that is passed, up to ``MAX_WHOLE`` characters."""
        self._held = self._at

    def held(self) -> str | None:
        """The text since :meth:`hold`; None: it was too long to be kept."""
        start, self._held = self._held, None
        return None if start is None else self._text[start : self._at]

    def _scan(self, depth: int) -> int:
        """Pass brackets and strings in memory, until the brackets are closed or a string begins that is not complete.

        ``depth`` is the number of open brackets; that at the new position is returned.
        """
        for match in TOKEN.finditer(self._text, self._at):
            found = match[0]
            if found == '"':
                self._at = match.start()
                return depth
            if found[-1] in "[{":
                depth += len(found)
            elif found[0] in "]}":
                if len(found) >= depth:
                    self._at = match.start() + depth
                    return 0
                depth -= len(found)
        self._at = len(self._text)
        return depth

    def _is_ended(self, end: int) -> bool:
        """Whether a number that seems to end at ``end`` ends there: of "1." at the end of the text, 1 is read."""
        return SCALAR.match(self._text, end).end() < len(self._text)  # type: ignore[union-attr]

    def _is_closed(self) -> bool:
        """Whether the value at the position, which is broken, ends within the text in memory."""
        start = self._at
        if self._text[start] in "[{":
            self._at += 1
            is_closed = not self._scan(1)
            self._at = start
            return is_closed
        pattern = TOKEN if self._text[start] == '"' else SCALAR
        match = pattern.match(self._text, start)
        return match is not None and start + 1 < match.end() < len(self._text)

    def _skip_string(self) -> None:
        self._at += 1
        while not self._text.startswith('"', end := INSIDE.match(self._text, self._at).end()):  # type: ignore[union-attr]
            self._at = end  # before an escape that is not complete
            self._require_more()
        self._at = end + 1

    def _require_more(self) -> None:
        if not self._read_more():
            raise self._broken("the text ends within a value")

    def _read_more(self) -> bool:
        """Read about as much as is in memory, so that no value is decoded often; False: the text is complete."""
        if self._held is not None and self._at - self._held > MAX_WHOLE:
            self._held = None
        kept = self._at if self._held is None else self._held
        parts = [self._text[kept:]]
        missing = max(BLOCK, min(len(parts[0]), MAX_RECORD))
        while missing > 0 and not self._is_complete:
            block = next(self._blocks, None)
            self._is_complete = block is None
            parts.append(block or "")
            missing -= len(parts[-1])
        self._dropped, self._line = self._dropped + kept, self._line + self._text.count("\n", 0, kept)
        self._at, self._held = self._at - kept, None if self._held is None else 0
        self._text = "".join(parts)
        return len(self._text) > len(parts[0])

    def _broken(self, problem: str, place: int | None = None) -> UserError:
        line = self._line + self._text.count("\n", 0, self._at if place is None else place)
        return UserError(f"broken JSON: {problem}", f"{self._name}:{line}", "repair that line")
