"""Plain text: one text per line without a header; after the last tab comes the label (THUCNews)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from distill.data.formats.labelling import NO_TEXT, OutputSpec, RowError
from distill.data.formats.records import Columns, Row
from distill.data.formats.text_lines import DECIMALS, LINE_ENDS, Appendix, Lines, numbered_lines


def read(path: Path, columns: Columns) -> Iterator[Row]:
    """Rows of text, tab, label. Without labels, a line need not have a tab, and what follows one is not read."""
    for number, line in numbered_lines(path):
        if columns.labelled:
            text, _, label = line.rpartition("\t")
        else:
            text, label = _text(line), ""
        yield Row(text.strip(), label.strip() if text else "", "", f"line {number}")


def _text(line: str) -> str:
    before, tab, last = line.strip().rpartition("\t")
    return (before if tab else last).strip()


class PlainText:
    """A :class:`LineFormat`: label and probabilities are appended after tabs."""

    header = ""

    def __init__(self, lines: Lines, spec: OutputSpec) -> None:
        probabilities = f"\t{DECIMALS}" * len(spec.labels) if spec.probabilities else ""
        self.appendix = Appendix(tuple(f"\t{' '.join(label.split())}\t" for label in spec.labels), probabilities)

    def parse(self, line: str, lines: Lines) -> tuple[str, str]:
        """See LineFormat."""
        text = _text(line)
        if not text:
            raise RowError(NO_TEXT)
        return line.rstrip(LINE_ENDS), text
