"""Lines of plain text without a header: texts, texts with a label, and the lines of fastText and Toutiao.

The label is in the first or the last cell of a line, separated by a tab: in the one that has fewer distinct values.
fastText marks labels by ``__label__``. Toutiao's lines are id, code, name of the class, title and keywords, joined by
``_!_``.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from distill.data.formats.labelling import OutputSpec
from distill.data.formats.records import Columns, RowError, Selection
from distill.data.formats.tables import is_label_of_header
from distill.data.formats.text_lines import BOM, LINE_ENDS, Continuation, Lines, RawRow, table_continuation
from distill.errors import UserError
from distill.runtime.constants import LABEL_FIRST_ROWS, TEXT_FIRST_ROWS, TEXT_ROWS
from distill.runtime.rows import row_format
from distill.runtime.structs import RowFormat

FASTTEXT_LABEL = "__label__"
TOUTIAO_DELIMITER = "_!_"
FASTTEXT_LINE = re.compile(f"(?:^|[ \t]){FASTTEXT_LABEL}")
TABLES = (".csv", ".tsv")
NEARLY_ALL = 0.9  # share of the lines that have the form of a format

EITHER = Columns()  # of text and label: the order is detected for every file

Cells = tuple[str, Any, str]  # text, label, name of the label


def recognise_marked(lines: Lines, suffix: str, columns: Columns) -> PlainText | None:
    """The formats that mark the labels; None: the lines have no marks, or the file is called a table."""
    sample = lines.sample
    if suffix in TABLES:
        return None
    if _are_nearly_all(FASTTEXT_LINE.search, sample):
        return PlainText(_fasttext_cells, "fastText's __label__", columns, lines)
    if _are_nearly_all(lambda line: line.count(TOUTIAO_DELIMITER) >= 3, sample):
        return PlainText(_toutiao_cells, "Toutiao's _!_", columns, lines)
    return None


def recognise(lines: Lines, suffix: str, columns: Columns) -> PlainText:
    """The other formats: texts, and texts with labels."""
    sample = lines.sample
    if not columns.is_labelled:
        if not _are_nearly_all(lambda line: "\t" in line, sample):
            return PlainText(_whole_line, "one text per line", columns, lines)
        _require_two_columns(sample, lines.name)
    if columns.label == "1" or (columns.label != "2" and _is_label_first(sample, columns)):
        _refuse_header([line.partition("\t")[0] for line in sample], sample, columns, lines.name)
        note = "label, then text, separated by a tab (--text_column 1 --label_column 2 if it is the other way round)"
        return PlainText(_label_and_text, note, columns, lines, Columns(label="1"))
    _refuse_header([line.rpartition("\t")[2] for line in sample], sample, columns, lines.name)
    note = "text, then label, separated by a tab (--text_column 2 --label_column 1 if it is the other way round)"
    return PlainText(_text_and_label, note, columns, lines)


def _are_nearly_all(has_form: Callable[[str], object], sample: Sequence[str]) -> bool:
    return bool(sample) and sum(map(bool, map(has_form, sample))) >= NEARLY_ALL * len(sample)


def _is_label_first(sample: Sequence[str], columns: Columns) -> bool:
    """Whether the first cells of the lines are labels: they repeat, and have fewer distinct values than the last cells.

    In unlabelled data they must be shorter as well: the last cells may be numbers.
    """
    cells = [line.split("\t") for line in sample if "\t" in line]
    first, last = [row[0].strip() for row in cells], [row[-1].strip() for row in cells]
    are_labels = 2 * len(set(first)) <= len(first) and len(set(first)) < len(set(last))
    return are_labels and (columns.is_labelled or sum(map(len, first)) < sum(map(len, last)))


def _require_two_columns(sample: Sequence[str], name: str) -> None:
    """Refuse unlabelled lines of several cells, of which any may be the text."""
    widths = Counter(line.count("\t") + 1 for line in sample)
    width, count = widths.most_common(1)[0]
    if width > 2 and count >= NEARLY_ALL * len(sample):
        raise UserError(f"{width} columns, one of which holds the texts", f"{name}:1", "--text_column NUMBER")


def _refuse_header(labels: Sequence[str], sample: Sequence[str], columns: Columns, name: str) -> None:
    """Refuse labelled lines of which the first names the columns."""
    if columns.is_labelled and is_label_of_header([label.strip() for label in labels]):
        first = sample[0].replace("\t", " and ")
        hint = f"--label_column {labels[0].strip()} if it is, or move this line further down"
        raise UserError(f"the first line looks like the names of the columns: {first:.60}", f"{name}:1", hint)


def _whole_line(line: str) -> Cells:
    return line, "", ""


def _text_and_label(line: str) -> Cells:
    text, tab, label = line.rstrip().rpartition("\t")
    return (text, label, "") if tab else (line, "", "")


def _label_and_text(line: str) -> Cells:
    label, tab, text = line.partition("\t")
    return (text, label, "") if tab else (line, "", "")


def _fasttext_cells(line: str) -> Cells:
    words = line.split(" ") if "\t" not in line else line.replace("\t", " ").split(" ")
    labels = [word.removeprefix(FASTTEXT_LABEL) for word in words if word.startswith(FASTTEXT_LABEL)]
    return " ".join(word for word in words if not word.startswith(FASTTEXT_LABEL)), labels or "", ""


def _toutiao_cells(line: str) -> Cells:
    """Without keywords, which a text to classify does not have."""
    cells = line.split(TOUTIAO_DELIMITER)
    if len(cells) < 4:
        raise RowError(f"{len(cells)} cells where Toutiao's rows have 5")
    return cells[3], cells[1], cells[2]


class PlainText:
    """A :class:`TextFormat`: label and probabilities are appended after tabs.

    Args:
        split: turns a line into text, label and name of the label.
        note: what was detected about the file, in words.
        columns: whether labels are read.
        lines: the file.
        order: of text and label, for further files of the same data set.
    """

    def __init__(
        self, split: Callable[[str], Cells], note: str, columns: Columns, lines: Lines, order: Columns = EITHER
    ) -> None:
        self.note = f"{note}; --text_column does not apply" if columns.text else note
        label, name = (1, 2) if columns.is_labelled else (None, None)
        allows_no_label = columns.is_multi_label
        self.selection = Selection((0,), label, name, tuple.__getitem__, note, allows_no_label=allows_no_label)
        self.columns = order
        self._split, self._has_bom = split, lines.has_bom

    def parse(self, line: str, lines: Lines) -> RawRow | None:
        """See TextFormat."""
        return RawRow(line.rstrip(LINE_ENDS), self._split(line.rstrip(LINE_ENDS)))

    def continuation(self, spec: OutputSpec) -> Continuation:
        """See TextFormat."""
        return table_continuation(BOM * self._has_bom, "\t", lambda label: " ".join(label.split()), spec)

    def row_format(self) -> RowFormat | None:
        """See TextFormat."""
        kind = ROW_KINDS.get(self._split)
        return None if kind is None else row_format(kind)


ROW_KINDS: dict[Callable[[str], Cells], int] = {
    _whole_line: TEXT_ROWS,
    _text_and_label: TEXT_FIRST_ROWS,
    _label_and_text: LABEL_FIRST_ROWS,
}
