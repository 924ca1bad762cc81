"""JSON: an object per line, or documents of any other shape that holds rows.

Documents are arrays of objects or of cells, objects one after another, ``{"data": [rows]}``, and what pandas writes: an
object of columns, or ``{"columns": …, "data": …}``. Rows of the annotation tools doccano and Label Studio are read too.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from distill.data.formats.labelling import PREDICTED, PROBABILITIES, PROBABILITY, BadRow, OutputSpec
from distill.data.formats.records import Columns, RowError, Selection, normalised, select
from distill.data.formats.tables import find_layout
from distill.data.formats.text_lines import (
    BOM,
    DECIMALS,
    Continuation,
    Lines,
    MemoryRows,
    RawRow,
)
from distill.errors import UserError

LINE_SUFFIXES = (".jsonl", ".ndjson")
SUFFIXES = (".json", *LINE_SUFFIXES)
OBJECT_START = re.compile(r'\s*\{\s*("(?:[^"\\]|\\.)*"\s*:|\}\s*$)')
ARRAY_START = re.compile(r"\s*\[\s*")
BLANKS = re.compile(r"[\s,]*")
SAMPLE_RECORDS = 200  # whose keys are the columns
ROWS_KEYS = ("data", "rows", "records", "examples", "items", "instances", "results")
SPELLING = 0.1  # a key that is this much rarer than another spelling of its name is an error in a few rows
DECODER = json.JSONDecoder()


def recognise(lines: Lines, suffix: str, columns: Columns) -> JsonLines | JsonDocument | None:
    """JSON lines, a document, or None if it is no JSON.

    Raises:
        UserError: the columns that are needed cannot be found.
    """
    sample = lines.sample
    if not sample:
        return JsonLines([], columns, lines) if suffix in SUFFIXES else None
    first = sample[:SAMPLE_RECORDS]
    records = [record for line in first if isinstance(record := _parsed(line), dict)]
    is_one_per_line = bool(records) and (2 * len(records) >= len(first) or suffix in LINE_SUFFIXES)
    if is_one_per_line and not (len(sample) == 1 and _rows_of(records[0]) is not None):
        return JsonLines(records, columns, lines)
    if _begins_document("\n".join(sample)) or (suffix in SUFFIXES and sample[0].lstrip()[0] in "{["):
        return JsonDocument(lines, columns)
    if suffix in SUFFIXES and "\t" not in sample[0] and "," not in sample[0]:
        raise UserError("this is not JSON", f"{lines.name}:1", 'write one {"text": …, "label": …} per line')
    return None


def _begins_document(text: str) -> bool:
    """Whether a text begins like rows in JSON: with a key, or with an array of objects or arrays."""
    start = ARRAY_START.match(text)
    if not start:
        return bool(OBJECT_START.match(text))
    try:
        return isinstance(DECODER.raw_decode(text, start.end())[0], dict | list)
    except (ValueError, RecursionError):
        return text.strip() == "[]"


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


class JsonLines:
    """A :class:`TextFormat`: the new keys are appended to the object."""

    def __init__(self, records: Sequence[dict[str, Any]], columns: Columns, lines: Lines) -> None:
        self.selection, self.columns = _selection(records, columns, lines.name), Columns()
        self.note = f"one JSON object per line, {self.selection.note}"
        self._has_bom = lines.has_bom
        self._new_keys: set[str] = set()

    def parse(self, line: str, lines: Lines) -> RawRow | None:
        """See TextFormat."""
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise RowError(f"broken JSON: {error}") from error
        return RawRow(line.rstrip()[:-1], _flat(_checked(record, self._new_keys)))

    def continuation(self, spec: OutputSpec) -> Continuation:
        """See TextFormat."""
        self._new_keys = _new_keys(spec)
        return _continuation(spec, BOM * self._has_bom)


class JsonDocument:
    """A file of JSON that is parsed as a whole. Labelled rows are written as JSON lines."""

    def __init__(self, lines: Lines, columns: Columns) -> None:
        self._lines, self._columns = lines, columns
        self._has_bom = lines.has_bom

    def open(self, spec: OutputSpec | None) -> MemoryRows:
        """Parse the document.

        Raises:
            UserError: it is broken, or the columns that are needed cannot be found.
        """
        name, items = self._lines.name, self._items()
        continuation = _continuation(spec, BOM * self._has_bom) if spec else None
        new_keys = _new_keys(spec) if spec else set()
        if items and all(isinstance(item, list) for item in items[:SAMPLE_RECORDS]):
            items = _named(items, self._columns, name)
        records = [item for item in items[:SAMPLE_RECORDS] if isinstance(item, dict)]
        selection = _selection(records, self._columns, name)
        rows: list[tuple[int, RawRow | BadRow]] = []
        for number, item in enumerate(items, 1):
            raw = json.dumps(item, ensure_ascii=False)
            try:
                _check_bytes(raw)
                rows.append((number, RawRow(raw[:-1], _flat(_checked(item, new_keys)))))
            except RowError as error:
                rows.append((number, BadRow(number, str(error), raw.encode(errors="backslashreplace").decode())))
        note = ", ".join([*self._lines.notes, f"a JSON document of {len(items):,} items, {selection.note}"])
        document = MemoryRows(rows, selection, note, "item", continuation)
        document.fingerprint = self._lines.fingerprint
        return document

    def _items(self) -> list[Any]:
        content = b"".join(self._lines).decode(self._lines.encoding, "surrogateescape").removeprefix(BOM)
        values = list(_values(content, self._lines.name))
        if len(values) == 1:
            rows = values[0] if isinstance(values[0], list) else _rows_of(values[0])
            return values if rows is None else rows
        return values


def _values(content: str, name: str) -> Iterator[Any]:
    """The values that follow one another in a document."""
    position = BLANKS.match(content).end()  # type: ignore[union-attr]  # it matches the empty string
    while position < len(content):
        try:
            value, position = DECODER.raw_decode(content, position)
        except (ValueError, RecursionError) as error:  # an integer of 5,000 digits is a ValueError
            place = getattr(error, "pos", position)
            where = f"{name}:{content.count(chr(10), 0, place) + 1}"
            raise UserError(f"broken JSON: {getattr(error, 'msg', error)}", where, "repair that line") from error
        yield value
        position = BLANKS.match(content, position).end()  # type: ignore[union-attr]


def _rows_of(value: Any) -> list[Any] | None:
    """The rows within an object that wraps them; None: the object is a row."""
    if not isinstance(value, dict):
        return None
    if isinstance(value.get("columns"), list) and isinstance(value.get("data"), list):
        return [dict(zip(value["columns"], row, strict=False)) for row in value["data"] if isinstance(row, list)]
    wrapped = [value[key] for key in value if str(key).lower() in ROWS_KEYS and _are_rows(value[key])]
    if wrapped:
        return [row["row"] if isinstance(row, dict) and isinstance(row.get("row"), dict) else row for row in wrapped[0]]
    columns = list(value.values())
    if columns and all(isinstance(column, dict) for column in columns):
        return _from_objects(value)
    if len(columns) > 1 and all(isinstance(column, list) and len(column) == len(columns[0]) for column in columns):
        return [dict(zip(value, row, strict=True)) for row in zip(*columns, strict=True)]
    return None


def _are_rows(value: Any) -> bool:
    """Whether a value is an array of objects, a few of which may be something else."""
    if not isinstance(value, list):
        return False
    sample = value[:SAMPLE_RECORDS]
    return 2 * sum(isinstance(row, dict) for row in sample) >= len(sample)


def _from_objects(value: dict[str, dict[str, Any]]) -> list[Any]:
    """Rows from pandas' {column: {index: cell}} or {index: {column: cell}}: there are fewer columns than rows."""
    first = next(iter(value.values()))
    if _has_text(value) or (len(value) <= len(first) and not _has_text(first)):
        indices = dict.fromkeys(index for column in value.values() for index in column)
        return [{name: column.get(index) for name, column in value.items()} for index in indices]
    return list(value.values())


def _has_text(names: dict[str, Any]) -> bool:
    """Whether one of the names is a usual name of a column of texts."""
    try:
        select(list(names), Columns(is_labelled=False), "", dict.get)
    except UserError:
        return False
    return True


def _named(items: Sequence[Any], columns: Columns, name: str) -> list[Any]:
    """Rows that are arrays of cells as objects; the first one may be a header."""
    cells = [[str(cell) for cell in item] for item in items[:SAMPLE_RECORDS] if isinstance(item, list) and item]
    if not cells:
        raise UserError("the arrays are empty", name, 'write {"text": …, "label": …}')
    layout = find_layout(cells, columns, name)
    rows = items[layout.has_header :]
    if layout.has_header:
        names = layout.names
    else:
        keys = dict.fromkeys(layout.selection.texts, "text")
        names = tuple(
            keys.get(index, "label" if index == layout.selection.label else name)
            for index, name in enumerate(layout.names)
        )
    return [dict(zip(names, row, strict=False)) if isinstance(row, list) else row for row in rows]


def _selection(records: Sequence[dict[str, Any]], columns: Columns, name: str) -> Selection:
    """The columns among the keys of some records. Without any records, nothing is read."""
    if not records:
        return Selection((), None, None, dict.get, "no rows")
    counts = Counter(key for record in records for key in _flat(record))
    most = {normalised(key): count for key, count in reversed(counts.most_common())}
    names = [key for key, count in counts.items() if count >= SPELLING * most[normalised(key)]]
    return select(names, columns, name, dict.get)


def _checked(record: Any, new_keys: set[str]) -> dict[str, Any]:
    if not isinstance(record, dict):
        raise RowError("it is not a JSON object")
    if not new_keys.isdisjoint(record):
        keys = ", ".join(sorted(new_keys & record.keys()))
        raise RowError(f"it already has {keys}, and the output needs this name")
    return record


def _check_bytes(raw: str) -> None:
    if any("\udc80" <= char <= "\udcff" for char in raw):  # how undecodable bytes are decoded
        raise RowError("bytes that are not valid in the file's encoding")


def _flat(record: dict[str, Any]) -> dict[str, Any]:
    """A task of Label Studio as a row: its data, and as label the choices of its annotations."""
    data = record.get("data")
    annotations = record.get("annotations", record.get("completions"))
    if not isinstance(data, dict) or not isinstance(annotations, list):
        return record
    results = [
        result
        for annotation in annotations
        if isinstance(annotation, dict) and not annotation.get("was_cancelled")
        for result in annotation.get("result") or []
        if isinstance(result, dict) and isinstance(result.get("value"), dict)
    ]
    return {**data, "label": [choice for result in results for choice in result["value"].get("choices") or []]}


def _new_keys(spec: OutputSpec) -> set[str]:
    return {PREDICTED, PROBABILITY, *((PROBABILITIES,) if spec.probabilities else ())}


def _continuation(spec: OutputSpec, header: str) -> Continuation:
    before = (f', "{PREDICTED}": {_json(label)}, "{PROBABILITY}": ' for label in spec.labels)
    pattern = ", ".join(f"{_json(label).replace('%', '%%')}: {DECIMALS}" for label in spec.labels)
    pattern = f', "{PROBABILITIES}": {{{pattern}}}' if spec.probabilities else ""
    return Continuation(header, tuple(before), pattern, "}")


def _json(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
