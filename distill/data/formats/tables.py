"""Tables of delimited cells, with or without a header: CSV, TSV and the like.

Delimiter, header and columns are detected from the beginning of the file. CSV writers quote cells, most TSV writers do
not, and texts contain single quotes, so quotes are judged row by row: an opening quote that closes nowhere within
``MAX_ROW_LINES`` is an ordinary character. Where both readings are possible, the other quotes at the beginning of the
file decide, so one quote never swallows the rows that follow.
"""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import io
import re
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from distill.data.formats.labelling import OutputSpec
from distill.data.formats.records import (
    Columns,
    RowError,
    Selection,
    cell_text,
    indicated,
    known_columns,
    label_text,
    positions,
    select,
)
from distill.data.formats.text_lines import (
    BLANK,
    BOM,
    LINE_ENDS,
    Continuation,
    Lines,
    RawRow,
    decoded,
    table_continuation,
)
from distill.errors import UserError
from distill.runtime.constants import TABLE_ROWS
from distill.runtime.rows import row_format
from distill.runtime.structs import RowFormat

DELIMITERS = {"\t": "tabs", ",": "commas", ";": "semicolons", "|": "vertical bars"}
USUAL = {".csv": ",", ".tsv": "\t", ".tab": "\t"}  # delimiters by suffix
MAX_ROW_LINES, MAX_ROW_SIZE = 64, 2**20  # of a row that has line breaks within quotes; lines and characters
QUOTES_SAMPLE = 1000  # lines whose quotes show whether they are quotation marks
REGULAR = 0.9  # share of the lines that have equally many cells if the delimiter is right
NEEDS_QUOTES = re.compile(r'["\r]')  # in a cell of one line without delimiters
CLOSING_QUOTE = re.compile(r'[^"]*(?:""[^"]*)*("?)')
# How a cell begins that spreadsheets evaluate, also in full width (OWASP, "CSV Injection")
FORMULA = re.compile(r"\s*[=+\-@\uff1d\uff0b\uff0d\uff20]|[\t\r]")
PLAIN_NUMBER = re.compile(r"\s*[+-]?[0-9]+(\.[0-9]*)?([eE][+-]?[0-9]+)?%?\s*")


@dataclass(frozen=True)
class Layout:
    """The columns of a table.

    Attributes:
        names: of all columns; numbers from 1 if there is no header.
        has_header: whether the first row names the columns.
        selection: indices of the columns that are read.
    """

    names: tuple[str, ...]
    has_header: bool
    selection: Selection

    @property
    def columns(self) -> Columns:
        """The columns by number, for further files of the same data set; none if there is a header."""
        if self.has_header or self.selection.label is None:
            return Columns()
        return Columns(",".join(str(index + 1) for index in self.selection.texts), str(self.selection.label + 1))

    @property
    def note(self) -> str:
        """The layout in words."""
        return f"{'' if self.has_header else 'no header, '}{self.selection.note}"


EMPTY = Layout((), False, Selection((), None, None, list.__getitem__, ""))


def recognise(lines: Lines, suffix: str, columns: Columns) -> Table | None:
    """The table that the lines are; None if they are none.

    Raises:
        UserError: it is one, and the columns that are needed cannot be found.
    """
    sample, usual = lines.sample, USUAL.get(suffix, "")
    if not sample:
        return Table(EMPTY, usual, "empty", has_bom=lines.has_bom) if usual else None
    delimiter = _delimiter(sample, usual, columns)
    if not delimiter:
        return None
    layout = find_layout([_line_cells(line, delimiter) for line in sample], columns, f"{lines.name}:1")
    note = layout.note if delimiter == usual else f"separated by {DELIMITERS[delimiter]}, {layout.note}"
    table = Table(layout, delimiter, note, has_bom=lines.has_bom)
    if layout.has_header:
        table.read_header(lines)
    table.inspect_quotes(lines)
    return table


def _delimiter(sample: Sequence[str], usual: str, columns: Columns) -> str:
    """The delimiter: the one whose first row has the usual names, else one that gives rows of equal width.

    Files that are not called tables are tables only if they have such names (that of the texts alone suffices where
    tabs separate cells), if columns are chosen by number, or if they have labels and three columns or no tabs.
    """
    candidates = list(dict.fromkeys((*([usual] if usual else []), *DELIMITERS)))
    needed = 1 + columns.is_labelled
    names = {mark: known_columns(_line_cells(sample[0], mark), columns) for mark in candidates}
    best = max(candidates, key=names.__getitem__)
    has_header = names[best] == needed and (
        _has_header_of_two(sample[0], best, columns) or (best == "\t" and _names_texts(sample, columns))
    )
    if names[best] and (usual or has_header):
        return best
    regular = [mark for mark in candidates if _width(sample, mark) > 1]
    if usual:
        return regular[0] if regular else usual
    if columns.are_numbers and regular:
        return regular[0]
    if any("\t" in line for line in sample):
        return "\t" if columns.is_labelled and _width(sample, "\t") > 2 else ""
    return next((mark for mark in regular if columns.is_labelled and _common_values(sample, mark)), "")


def _has_header_of_two(first: str, delimiter: str, columns: Columns) -> bool:
    """Whether a line has the names of both text and label, which no row of texts has, or a name that was asked for."""
    cells = _line_cells(first, delimiter)
    return len(cells) > 1 and (bool(columns.text or columns.label) or known_columns(cells, Columns()) == 2)


def _names_texts(sample: Sequence[str], columns: Columns) -> bool:
    """Whether the first line names the column of texts: the longest, without repeats. A label may be called 新闻."""
    rows = [_line_cells(line, "\t") for line in sample]
    if len(rows) < 2 or _width(sample, "\t") < 2:
        return False
    index = next(index for index, name in enumerate(rows[0]) if known_columns([name], columns))
    is_repeated = any(row[index : index + 1] == [rows[0][index]] for row in rows[1:])
    regular = [row for row in rows[1:] if len(row) == len(rows[0])]
    lengths = [sum(map(len, cells)) for cells in zip(*regular, strict=True)]
    is_longest = bool(lengths) and lengths[index] == max(lengths)
    return is_longest and not is_repeated and index not in common_values(rows)


def _width(sample: Sequence[str], delimiter: str) -> int:
    """The number of cells that nearly all lines have; 0: their numbers differ."""
    width, count = Counter(len(_line_cells(line, delimiter)) for line in sample).most_common(1)[0]
    return width if count >= REGULAR * len(sample) else 0


def _line_cells(line: str, delimiter: str) -> list[str]:
    """The cells of a line; quotes that do not close on it are ordinary characters."""
    if '"' in line:
        try:
            return next(csv.reader([line], delimiter=delimiter, strict=True))
        except (csv.Error, StopIteration):
            pass
    return line.split(delimiter)


def _common_values(sample: Sequence[str], delimiter: str) -> dict[int, frozenset[str]]:
    return common_values([_line_cells(line, delimiter) for line in sample])


def common_values(rows: Sequence[Sequence[str]]) -> dict[int, frozenset[str]]:
    """The values of the columns that have few, by index: at most half as many distinct ones as there are rows."""
    if len(rows) < 4:
        return {}
    width = Counter(map(len, rows)).most_common(1)[0][0]
    columns = zip(*(row for row in rows if len(row) == width), strict=True)
    values = {index: frozenset(column) for index, column in enumerate(columns)}
    return {index: column for index, column in values.items() if 2 * len(column) <= len(rows)}


def find_layout(rows: Sequence[Sequence[str]], columns: Columns, where: str) -> Layout:
    """The layout of a table from its first rows.

    The first row is a header if it has the usual names. Without one, in labelled data, the column with the fewest
    distinct values holds the labels, and the one with the longest cells the texts.

    Raises:
        UserError: the columns cannot be found.
    """
    first = [cell.strip() for cell in rows[0]]
    if known_columns(first, columns) <= columns.is_labelled:
        layout = _layout_without_header(rows, columns, where)
        if layout:
            return layout
    while first and not first[-1]:  # spreadsheets write empty columns after the last one
        first.pop()
    selection = positions(select(first, columns, where, list.__getitem__), first)
    return Layout(tuple(rows[0]), True, selection)


def _is_header(rows: Sequence[Sequence[str]], columns: Columns) -> bool:
    """Whether the first row names the columns: it has usual names, or its label alone occurs in no other row."""
    if known_columns(rows[0], Columns(is_labelled=columns.is_labelled)) > columns.is_labelled:
        return True
    parts = columns.label.split(",")
    if len(parts) > 1 and all(part.strip().isdecimal() for part in parts):  # a column per label
        cells = (rows[0][int(part) - 1] for part in parts if 0 < int(part) <= len(rows[0]))
        return not all(not cell.strip() or indicated(label_text(cell)) is not None for cell in cells)
    index = int(columns.label) - 1 if columns.label.isdecimal() else -1
    labels = [row[index] for row in rows if 0 <= index < len(row)]
    return len(labels) == len(rows) and is_label_of_header(labels)


def is_label_of_header(labels: Sequence[str]) -> bool:
    """Whether the first of the labels is the name of their column: the others repeat, and it is not among them."""
    others = set(labels[1:])
    return 2 * len(others) < len(labels) and len(labels) > 4 and labels[0] not in others


def _layout_without_header(rows: Sequence[Sequence[str]], columns: Columns, where: str) -> Layout | None:
    """The layout of a table without a header; None if its columns cannot be told apart: it has a header then."""
    width = Counter(map(len, rows)).most_common(1)[0][0]
    names, common = tuple(str(number) for number in range(1, width + 1)), common_values(rows)
    if columns.are_numbers and not _is_header(rows, columns):
        selection = select(names, columns, where, list.__getitem__)
        return Layout(names, False, positions(selection, names))
    if columns.text or columns.label or not columns.is_labelled or width < 2 or len(rows[0]) != width:
        return None
    lengths = [sum(len(row[index]) for row in rows if len(row) == width) for index in range(width)]
    text = max(range(width), key=lambda index: (index not in common, lengths[index]))
    labels = [index for index in common if index != text]
    labels.sort(key=lambda index: (len(common[index]) < 2, len(common[index])))  # one value alone separates nothing
    if not labels or rows[0][labels[0]] not in {row[labels[0]] for row in rows[1:] if len(row) == width}:
        return None  # what occurs in the first row alone is the name of a column
    chosen = replace(columns, text=names[text], label=names[labels[0]])
    selection = select(names, chosen, where, list.__getitem__)
    note = f"{selection.note} (--text_column NUMBER --label_column NUMBER choose others)"
    return Layout(names, False, dataclasses.replace(positions(selection, names), note=note))


class Table:
    """A :class:`TextFormat`: the new columns are appended to header and rows.

    Args:
        layout: of its columns.
        delimiter: between cells.
        note: what was detected about it, in words.
        has_bom: whether the file begins with a byte order mark, as spreadsheets write it.
    """

    def __init__(self, layout: Layout, delimiter: str, note: str, *, has_bom: bool = False) -> None:
        self.note, self.selection, self.columns = note, layout.selection, layout.columns
        self._delimiter, self._has_bom = delimiter, has_bom
        self._names, self._width = list(layout.names), 0 if layout.has_header else len(layout.names)
        self._header = ""
        self._is_quoted: bool | None = None  # whether quotes are quotation marks; None: the file does not show it
        self._usual: dict[int, Callable[[str], bool]] = {}  # tests of cells by column
        self._escapes_formulas = False

    def read_header(self, lines: Lines) -> None:
        """Read the row of names.

        Raises:
            UserError: it is broken.
        """
        for raw in lines:
            try:
                line = lines.decode(raw)
                if line.strip(BLANK):
                    self._names, self._header = self._cells(line, lines)
                    self._width = len(self._names)
                    return
            except RowError as error:
                raise UserError(f"broken header: {error}", f"{lines.name}:{lines.line}", "repair that line") from error

    def inspect_quotes(self, lines: Lines) -> None:
        """Find out from the first rows whether quotes are quotation marks; the rows are read again later."""
        sample = lines.peek()[:QUOTES_SAMPLE]
        if not any(b'"' in raw for raw in sample):
            return
        rows = [_line_cells(line, self._delimiter) for line in decoded(sample, lines.encoding)]
        self._usual = usual_cells([row for row in rows if len(row) == self._width])
        votes = 2 * any(cell[:1] == '"' for cell in self._header.split(self._delimiter))
        read: list[bytes] = []
        while len(read) < len(sample):
            read.append(next(lines))
            with contextlib.suppress(RowError):
                vote, further = self._vote(lines.decode(read[-1]), lines)
                votes, read = votes + vote, read + further
        lines.put_back(read)
        self._is_quoted = votes > 0 if votes else None

    def _vote(self, line: str, lines: Lines) -> tuple[int, list[bytes]]:
        """1 if the quotes of a row must be quotation marks, -1 if they cannot be, and its further lines."""
        if '"' not in line:
            return 0, []
        quoted, plain = QuotedRow(self._delimiter, self._width), line.rstrip(LINE_ENDS).split(self._delimiter)
        cells = quoted.read(line, lines)
        if cells is None or len(cells) != self._width:
            lines.put_back(quoted.further)
            return -(len(plain) == self._width), []
        if len(quoted.lines) > 1 or len(plain) != self._width:
            return int(not self._have_width(quoted.lines)), quoted.further
        if any(cell == text and '"' in text for cell, text in zip(cells, plain, strict=True)):
            return -1, []
        return int(any('"' in cell for cell in cells)), []

    def use_header(self, names: Sequence[str]) -> None:
        """Set the row of names of a table that does not come from lines."""
        self._names, self._width = list(names), len(names)
        self._header = self.serialised(names)

    def parse(self, line: str, lines: Lines) -> RawRow | None:
        """See TextFormat."""
        cells, row = self._cells(line, lines)
        if not cells[0].strip() and not any(map(str.strip, cells)):
            return None  # spreadsheets write rows of delimiters after the last row
        if len(cells) != self._width:
            cells, row = self._fitted(cells, row)
        return RawRow(self._without_formulas(cells, row), cells)

    def continuation(self, spec: OutputSpec) -> Continuation:
        """See TextFormat."""
        self._escapes_formulas = self._has_bom and spec.escape_formulas
        delimiter, header = self._delimiter, ""
        if self._header:
            spec.check_names(self._names, "the header")
            names = self._without_formulas(self._names, self._header)
            header = f"{names}{delimiter}{self.serialised(spec.columns)}\n"

        def as_cell(label: str) -> str:  # with a second cell, since csv would write "" for a row of one empty cell
            return self.serialised([label, ""]).removesuffix(delimiter)

        return table_continuation(BOM * self._has_bom + header, delimiter, as_cell, spec)

    def row_format(self) -> RowFormat | None:
        """See TextFormat."""
        return row_format(
            TABLE_ROWS,
            delimiter=ord(self._delimiter),
            width=self._width,
            text=self.selection.texts[0],
            has_quoted_cells=self._delimiter != "\t" or self._is_quoted is True,
            declines_formulas=self._escapes_formulas,
            max_row=MAX_ROW_SIZE,
            max_row_lines=MAX_ROW_LINES,
        )

    def _without_formulas(self, cells: list[str], row: str) -> str:
        """The row with ' before the cells that a spreadsheet would evaluate; without quoted cells, the others stay."""
        if not self._escapes_formulas or not any(map(_is_formula, cells)):
            return row
        may_be_quoted = self._is_quoted or any(cell.lstrip().startswith('"') for cell in cells)
        if not may_be_quoted and row.split(self._delimiter) == cells:
            return self._delimiter.join(map(without_formula, cells))
        return self.serialised(cells)

    def serialised(self, cells: Sequence[str]) -> str:
        """A row of cells; ' is put before those that a spreadsheet would evaluate."""
        if self._escapes_formulas:
            cells = list(map(without_formula, cells))
        buffer = io.StringIO()
        csv.writer(buffer, delimiter=self._delimiter).writerow(cells)
        return buffer.getvalue().removesuffix("\r\n")

    def _fitted(self, cells: list[str], row: str) -> tuple[list[str], str]:
        """A row without empty cells that are too many, or with those that unnamed columns lack.

        Raises:
            RowError: the number of cells is wrong.
        """
        extra = len(cells) - self._width
        if extra > 0 and not any(cells[self._width :]) and row.endswith(self._delimiter * extra):
            return cells[: self._width], row[: len(row) - extra * len(self._delimiter)]
        if extra < 0 and not any(map(str.strip, self._names[len(cells) :])):
            return [*cells, *[""] * -extra], row + self._delimiter * -extra
        count, first = f"{len(cells)} cell{'s' * (len(cells) != 1)}", "header" if self._header else "first row"
        raise RowError(
            f"{count} where the {first} has {self._width}; "
            f"put double quotes around cells that contain {self._delimiter!r}"
        )

    def _cells(self, line: str, lines: Lines) -> tuple[list[str], str]:
        """A row's cells, and the row without its line end. Without quotes, splitting is ten times faster than csv."""
        row = line.rstrip(LINE_ENDS)
        cells = row.split(self._delimiter)
        if '"' in row:
            quoted = self._quoted_cells(line, cells, lines)
            if quoted:
                return quoted
        if "\r" in row:
            raise RowError("a carriage return within a line, outside of quotes")
        return cells, row

    def _quoted_cells(self, line: str, plain: list[str], lines: Lines) -> tuple[list[str], str] | None:
        """The cells and the whole row if its quotes are quotation marks; None if they are ordinary characters."""
        quoted = QuotedRow(self._delimiter, self._width)
        cells, texts = quoted.read(line, lines), quoted.lines
        is_row = cells is not None and (len(cells) == self._width or not self._width)
        is_rest = cells is not None and len(texts) == 1 and len(plain) != self._width
        if cells is None or not (is_row or is_rest) or (len(texts) > 1 and self._are_rows(texts)):
            lines.put_back(quoted.further)
            return None
        if self._delimiter == "\t" and not self._is_quoted and len(texts) == 1 and len(plain) == len(cells):
            cells = [cell if NEEDS_QUOTES.search(cell) else text for cell, text in zip(cells, plain, strict=True)]
        return cells, "".join(texts).rstrip(LINE_ENDS)

    def _are_rows(self, texts: Sequence[str]) -> bool:
        """Whether lines that could be a quoted row are rather rows by themselves."""
        if not self._have_width(texts):
            return False
        rows = [text.rstrip(LINE_ENDS).replace('"', "").split(self._delimiter) for text in texts]
        if not all(any(cell_text(row[index]) for index in self.selection.texts) for row in (rows[0], rows[-1])):
            return False
        if self._is_quoted is False or not self._usual:
            return self._is_quoted is False or (self._is_quoted is None and self._delimiter == "\t")
        return all(is_usual(row[index]) for row in rows for index, is_usual in self._usual.items())

    def _have_width(self, texts: Sequence[str]) -> bool:
        """Whether all lines have as many cells as a row if their quotes are ordinary characters."""
        return all(text.count(self._delimiter) == self._width - 1 for text in texts)


def usual_cells(rows: Sequence[Sequence[str]]) -> dict[int, Callable[[str], bool]]:
    """By which columns a row is recognised, and how: those of few values, and those of numbers."""
    if len(rows) < 4:
        return {}
    few = {index: values.__contains__ for index, values in common_values(rows).items()}
    numbers = {index: str.isdecimal for index in range(len(rows[0])) if all(row[index].isdecimal() for row in rows)}
    return {**numbers, **few}


def _is_formula(cell: str) -> bool:
    return bool(FORMULA.match(cell)) and not PLAIN_NUMBER.fullmatch(cell)


def without_formula(cell: str) -> str:
    """The cell, with ' before it if a spreadsheet would evaluate it."""
    return f"'{cell}" if _is_formula(cell) else cell


class QuotedRow:
    """One row of a table whose cells may be quoted (RFC 4180), possibly from several lines.

    Attributes:
        lines: the lines that were read, decoded.
        further: the same after the first one, raw.
    """

    def __init__(self, delimiter: str, width: int) -> None:
        self.lines: list[str] = []
        self.further: list[bytes] = []
        self._delimiter, self._width = delimiter, width or sys.maxsize
        self._cells: list[str] = []
        self._open: list[str] | None = None  # the parts of a quoted cell that has not ended

    def read(self, line: str, lines: Lines) -> list[str] | None:
        """The cells of the row that begins with ``line``; None: it is not quoted correctly, or it is too long."""
        size = 0
        while True:
            self.lines.append(line)
            size += len(line)
            if not self._add(line) or size > MAX_ROW_SIZE or len(self.lines) > MAX_ROW_LINES:
                return None
            if self._open is None:
                return self._cells
            raw = next(lines, None)
            if raw is None:
                return None
            self.further.append(raw)
            try:
                line = lines.decode(raw)
            except RowError:
                return None

    def _add(self, line: str) -> bool:
        """Add the cells of a line; False: its quotes are wrong, or there are too many cells."""
        if self._open is not None and '"' not in line:
            self._open.append(line)
            return True
        content, position = line.rstrip(LINE_ENDS), 0
        while True:
            if self._open is None and content.startswith('"', position):
                self._open, position = [], position + 1
            if self._open is None:
                end = content.find(self._delimiter, position)
                end = len(content) if end < 0 else end
                self._cells.append(content[position:end])
            else:
                match = CLOSING_QUOTE.match(line, position)
                end, is_closed = (match.end(), bool(match[1])) if match else (position, False)
                self._open.append(line[position : end - is_closed])
                if not is_closed:
                    return True
                self._cells.append("".join(self._open).replace('""', '"'))
                self._open = None
            if end >= len(content):
                return True
            if content[end] != self._delimiter or (len(self._cells) > self._width and self._cells[-1]):
                return False
            position = end + 1
