"""Lines of text, CSV, TSV and JSON: where the text of a row stands, and how the answers are put behind the row.

A row is never taken apart and put together again: the answers are appended to it as it stands in the file, so all other
columns, the numbers of a JSON line and the quotes of a table stay what they were.
"""

from __future__ import annotations

import csv
import io
import json
from codecs import BOM_UTF8
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from distill.data.readers import TEXT_COLUMNS, cell_text, find_column
from distill.errors import UserError
from distill.predict.lines import HEAD, Lines
from distill.predict.rows import NO_TEXT, PREDICTED, PROBABILITIES, PROBABILITY, BadRow, Wanted

ENDS = "\r\n"
BLANK = " \r\n"  # a line of tabs is a table's row without text
DIGITS = "%.5f"


@dataclass(frozen=True)
class Tail:
    """What stands behind a row: ``before[class]``, its probability, ``each`` (a pattern for all of them), ``after``."""

    before: tuple[str, ...]
    each: str
    after: str = ""


class Kind(Protocol):
    """How the lines of one format are read and written."""

    header: str
    tail: Tail

    def row(self, line: str, lines: Lines) -> tuple[str, str]:
        """A row as the tail is put behind it, and its text; further lines of the row are taken from ``lines``.

        Raises:
            BadRow: it cannot be labelled.
        """


class PlainText:
    """A text a line, without a header; what stands behind the last tab (THUCNews: the label) is not the text."""

    header = ""

    def __init__(self, lines: Lines, wanted: Wanted) -> None:
        each = f"\t{DIGITS}" * len(wanted.labels) if wanted.probabilities else ""
        self.tail = Tail(tuple(f"\t{' '.join(label.split())}\t" for label in wanted.labels), each)

    def row(self, line: str, lines: Lines) -> tuple[str, str]:
        """See :class:`Kind`."""
        before, tab, last = line.strip().rpartition("\t")
        text = (before if tab else last).strip()
        if not text:
            raise BadRow(NO_TEXT)
        return line.rstrip(ENDS), text


class CsvFormat:
    """CSV and TSV with a header."""

    delimiter = ","

    def __init__(self, lines: Lines, wanted: Wanted) -> None:
        names, self.header = self._header(lines)
        self._width, self._place = len(names), 0
        if names:
            self._place = _text_place(names, wanted, lines.name)
            self.header += f"{self.delimiter}{self._written(wanted.columns)}\n"
        end = self.delimiter
        each = f"{end}{DIGITS}" * len(wanted.labels) if wanted.probabilities else ""
        self.tail = Tail(tuple(f"{end}{self._written((label,))}{end}" for label in wanted.labels), each)

    def row(self, line: str, lines: Lines) -> tuple[str, str]:
        """See :class:`Kind`."""
        cells, line = self._cells(line, lines)
        if len(cells) != self._width:
            raise BadRow(f"{len(cells)} cells where the header has {self._width}; quote texts with {self.delimiter!r}")
        text = cells[self._place].strip()
        if not text:
            raise BadRow(NO_TEXT)
        return line, text

    def _header(self, lines: Lines) -> tuple[list[str], str]:
        for raw in lines:
            try:
                line = lines.decode(raw)
                if line.strip(BLANK):
                    return self._cells(line, lines)
            except BadRow as fault:
                raise UserError(f"broken header: {fault}", f"{lines.name}:{lines.line}", "repair that line") from fault
        return [], ""

    def _cells(self, line: str, lines: Lines) -> tuple[list[str], str]:
        """A row's cells, and the row without its end. Where there is no quote, splitting is ten times quicker."""
        row = line.rstrip(ENDS)
        if '"' not in row and "\r" not in row:
            return row.split(self.delimiter), row
        taken: list[bytes] = []
        read = [line]
        try:
            cells = next(csv.reader(_further(read, taken, lines), delimiter=self.delimiter, strict=True))
        except (csv.Error, BadRow) as error:
            lines.put_back(taken)  # one line is bad; those that its open quote swallowed are not
            raise BadRow(f"broken table: {error}") from error
        return cells, "".join(read).rstrip(ENDS)

    def _written(self, cells: tuple[str, ...]) -> str:
        buffer = io.StringIO()
        csv.writer(buffer, delimiter=self.delimiter).writerow(cells)
        return buffer.getvalue().removesuffix("\r\n")


def _text_place(names: list[str], wanted: Wanted, where: str) -> int:
    if len(set(names)) < len(names):
        raise UserError(f"two columns of one name: {', '.join(names)}", where, "rename one of them")
    wanted.check(names, where)
    return names.index(find_column(wanted.text_column, TEXT_COLUMNS, "text", dict.fromkeys(names), where))


class TabTable(CsvFormat):
    """TSV."""

    delimiter = "\t"


def _further(read: list[str], taken: list[bytes], lines: Lines) -> Iterator[str]:
    """The first line of a row, then as many as are asked for; they are noted in ``read`` and ``taken``."""
    yield read[0]
    for raw in lines:
        taken.append(raw)
        read.append(lines.decode(raw))
        yield read[-1]


class JsonLines:
    """An object a line."""

    header = ""

    def __init__(self, lines: Lines, wanted: Wanted) -> None:
        self._new = {PREDICTED, PROBABILITY, *((PROBABILITIES,) if wanted.probabilities else ())}
        self._column = self._find_column(lines, wanted.text_column)
        before = (f', "{PREDICTED}": {_json(label)}, "{PROBABILITY}": ' for label in wanted.labels)
        each = ", ".join(f"{_json(label).replace('%', '%%')}: {DIGITS}" for label in wanted.labels)
        each = f', "{PROBABILITIES}": {{{each}}}' if wanted.probabilities else ""
        self.tail = Tail(tuple(before), each, "}")

    def row(self, line: str, lines: Lines) -> tuple[str, str]:
        """See :class:`Kind`."""
        record = _object(line)
        if not self._new.isdisjoint(record):
            raise BadRow(f"it has {', '.join(sorted(self._new & record.keys()))} already, which is to be written")
        text = cell_text(record.get(self._column))
        if not text:
            raise BadRow(NO_TEXT)
        return line.rstrip()[:-1], text

    def _find_column(self, lines: Lines, asked: str) -> str:
        """The texts' column: the first object has it."""
        taken: list[bytes] = []
        for raw in lines:
            taken.append(raw)
            try:
                record = _object(lines.decode(raw))
            except BadRow:
                if lines.offset < HEAD:
                    continue
                break
            lines.put_back(taken)
            return find_column(asked, TEXT_COLUMNS, "text", record, lines.name)
        lines.put_back(taken)
        if b"".join(taken).removeprefix(BOM_UTF8).strip():
            raise UserError("none of the first lines is a JSON object", lines.name, 'write {"text": …}, one a line')
        return ""


def _object(line: str) -> dict[str, Any]:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise BadRow(f"broken JSON: {error}") from error
    if not isinstance(record, dict):
        raise BadRow("it is no JSON object")
    return record


def _json(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


KINDS: dict[str, type[PlainText] | type[CsvFormat] | type[JsonLines]] = {
    ".txt": PlainText,
    ".csv": CsvFormat,
    ".tsv": TabTable,
    ".jsonl": JsonLines,
    ".json": JsonLines,
}
