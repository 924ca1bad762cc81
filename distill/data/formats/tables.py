"""Tables with a header: CSV, TSV and the like, which differ in the delimiter alone."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from distill.data.formats.encodings import file_encoding
from distill.data.formats.labelling import NO_TEXT, OutputSpec, RowError
from distill.data.formats.records import Columns, Row, check_distinct, find_text_column, rows_from_records
from distill.data.formats.text_lines import BLANK, DECIMALS, LINE_ENDS, Appendix, Lines
from distill.errors import UserError


def read(path: Path, columns: Columns, delimiter: str) -> Iterator[Row]:
    """Rows of a table."""
    yield from rows_from_records(_records(path, delimiter), path, columns)


def _records(path: Path, delimiter: str) -> Iterator[tuple[str, Any]]:
    encoding = file_encoding(path)
    unquoted = delimiter == "\t" and _is_unquoted(path, encoding)
    with path.open(encoding=encoding, newline="") as file:
        quoting: Literal[0, 3] = csv.QUOTE_NONE if unquoted else csv.QUOTE_MINIMAL
        table = csv.DictReader(file, delimiter=delimiter, quoting=quoting, strict=True)
        try:
            check_distinct(table.fieldnames or [], f"{path}:1")
            for record in table:
                if None in record:  # the key of DictReader for cells beyond the header
                    what = f"a row of more than {len(table.fieldnames or [])} cells"
                    raise UserError(
                        what, f"{path}:{table.line_num}", f"put double quotes around cells that contain {delimiter!r}"
                    )
                yield f"line {table.line_num}", record
        except csv.Error as error:
            where = f"{path}:{table.line_num}"
            raise UserError(f"broken table: {error}", where, "repair the quotes on that line") from error


def _is_unquoted(path: Path, encoding: str) -> bool:
    """Whether quotes in a TSV file belong to its texts: every line is a row and a cell has an unpaired double quote."""
    lone = False
    with path.open(encoding=encoding, newline="\n") as file:
        width = file.readline().count("\t")
        for line in file:
            cells = line.rstrip(LINE_ENDS).split("\t")
            if line.strip() and len(cells) != width + 1:
                return False
            lone = lone or any(cell[:1] == '"' and (len(cell) < 2 or cell[-1] != '"') for cell in cells)
    return lone


class Table:
    """A :class:`LineFormat`: the new columns are appended to header and rows."""

    def __init__(self, lines: Lines, spec: OutputSpec, delimiter: str) -> None:
        self._delimiter = delimiter
        names, self.header = self._read_header(lines)
        self._width, self._text_index = len(names), 0
        if names:
            check_distinct(names, lines.name)
            spec.check_names(names, lines.name)
            self._text_index = names.index(find_text_column(spec.text_column, names, lines.name))
            self.header += f"{delimiter}{self._serialised(spec.columns)}\n"
        probabilities = f"{delimiter}{DECIMALS}" * len(spec.labels) if spec.probabilities else ""
        before = (f"{delimiter}{self._serialised((label,))}{delimiter}" for label in spec.labels)
        self.appendix = Appendix(tuple(before), probabilities)

    def parse(self, line: str, lines: Lines) -> tuple[str, str]:
        """See LineFormat."""
        cells, row = self._cells(line, lines)
        if len(cells) != self._width:
            raise RowError(
                f"{len(cells)} cells where the header has {self._width}; "
                f"put double quotes around cells that contain {self._delimiter!r}"
            )
        text = cells[self._text_index].strip()
        if not text:
            raise RowError(NO_TEXT)
        return row, text

    def _read_header(self, lines: Lines) -> tuple[list[str], str]:
        """Names of the columns and the header's line; none in an empty file."""
        for raw in lines:
            try:
                line = lines.decode(raw)
                if line.strip(BLANK):
                    return self._cells(line, lines)
            except RowError as error:
                raise UserError(f"broken header: {error}", f"{lines.name}:{lines.line}", "repair that line") from error
        return [], ""

    def _cells(self, line: str, lines: Lines) -> tuple[list[str], str]:
        """A row's cells, and the row without its line end. Without quotes, splitting is ten times faster than csv."""
        row = line.rstrip(LINE_ENDS)
        if '"' not in row and "\r" not in row:
            return row.split(self._delimiter), row
        read, further = [line], list[bytes]()
        try:
            cells = next(csv.reader(_row_lines(read, further, lines), delimiter=self._delimiter, strict=True))
        except (csv.Error, RowError) as error:
            lines.put_back(further)  # only this line is bad, not those that an open quote swallowed
            raise RowError(f"broken table: {error}") from error
        return cells, "".join(read).rstrip(LINE_ENDS)

    def _serialised(self, cells: tuple[str, ...]) -> str:
        buffer = io.StringIO()
        csv.writer(buffer, delimiter=self._delimiter).writerow(cells)
        return buffer.getvalue().removesuffix("\r\n")


def _row_lines(read: list[str], further: list[bytes], lines: Lines) -> Iterator[str]:
    """The first line of a row, then as many as csv consumes; they are added to ``read`` and, raw, to ``further``."""
    yield read[0]
    for raw in lines:
        further.append(raw)
        read.append(lines.decode(raw))
        yield read[-1]
