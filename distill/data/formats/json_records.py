"""JSON: an object with text and label per line, or an array of such objects."""

from __future__ import annotations

import json
from codecs import BOM_UTF8
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from distill.data.formats.encodings import read_text
from distill.data.formats.labelling import NO_TEXT, PREDICTED, PROBABILITIES, PROBABILITY, OutputSpec, RowError
from distill.data.formats.records import Columns, Row, cell_text, find_text_column, rows_from_records
from distill.data.formats.text_lines import DECIMALS, HEAD, Appendix, Lines, numbered_lines
from distill.errors import UserError


def read(path: Path, columns: Columns) -> Iterator[Row]:
    """Rows of an array or of lines, whichever the file begins with."""
    first = next((line for _, line in numbered_lines(path)), "")
    if not first.lstrip().startswith("["):
        yield from read_lines(path, columns)
        return
    try:
        items = json.loads(read_text(path))
    except json.JSONDecodeError as error:
        raise UserError(f"broken JSON: {error.msg}", f"{path}:{error.lineno}", "repair that line") from error
    yield from rows_from_records(((f"item {n}", item) for n, item in enumerate(items, 1)), path, columns)


def read_lines(path: Path, columns: Columns) -> Iterator[Row]:
    """Rows of JSON lines."""
    yield from rows_from_records(_records(path), path, columns)


def _records(path: Path) -> Iterator[tuple[str, Any]]:
    for number, line in numbered_lines(path):
        try:
            yield f"line {number}", json.loads(line)
        except json.JSONDecodeError as error:
            what = f"broken JSON: {error.msg} at column {error.colno}"
            raise UserError(what, f"{path}:{number}", "repair or delete that line") from error


class JsonLines:
    """A :class:`LineFormat`: the new keys are appended to the object."""

    header = ""

    def __init__(self, lines: Lines, spec: OutputSpec) -> None:
        self._new_keys = {PREDICTED, PROBABILITY, *((PROBABILITIES,) if spec.probabilities else ())}
        self._column = _text_column(lines, spec.text_column)
        before = (f', "{PREDICTED}": {_json(label)}, "{PROBABILITY}": ' for label in spec.labels)
        pattern = ", ".join(f"{_json(label).replace('%', '%%')}: {DECIMALS}" for label in spec.labels)
        pattern = f', "{PROBABILITIES}": {{{pattern}}}' if spec.probabilities else ""
        self.appendix = Appendix(tuple(before), pattern, "}")

    def parse(self, line: str, lines: Lines) -> tuple[str, str]:
        """See LineFormat."""
        record = _object(line)
        if not self._new_keys.isdisjoint(record):
            keys = ", ".join(sorted(self._new_keys & record.keys()))
            raise RowError(f"it already has {keys}, and the output needs this name")
        text = cell_text(record.get(self._column))
        if not text:
            raise RowError(NO_TEXT)
        return line.rstrip()[:-1], text


def _text_column(lines: Lines, name: str) -> str:
    """The column of texts, from the first object; no line is consumed."""
    consumed: list[bytes] = []
    for raw in lines:
        consumed.append(raw)
        try:
            record = _object(lines.decode(raw))
        except RowError:
            if lines.offset < HEAD:
                continue
            break
        lines.put_back(consumed)
        return find_text_column(name, record, lines.name)
    lines.put_back(consumed)
    if b"".join(consumed).removeprefix(BOM_UTF8).strip():
        raise UserError("none of the first lines is a JSON object", lines.name, 'write one {"text": …} per line')
    return ""


def _object(line: str) -> dict[str, Any]:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise RowError(f"broken JSON: {error}") from error
    if not isinstance(record, dict):
        raise RowError("it is not a JSON object")
    return record


def _json(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
