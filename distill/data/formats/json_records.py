"""JSON: an object per line, or documents of any other shape that holds rows.

Documents are arrays of objects or of cells, objects one after another, ``{"data": [rows]}``, and what pandas writes: an
object of columns, or ``{"columns": …, "data": …}``. Rows of the annotation tools doccano and Label Studio are read too.
"""

from __future__ import annotations

import codecs
import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import chain, islice
from typing import Any

from distill.data.formats.json_stream import BLANKS, BLOCK, DECODER, INCOMPLETE, MAX_RECORD, JsonText, TooLong
from distill.data.formats.labelling import (
    ANSWERED_BY,
    LABEL,
    PREDICTED,
    PROBABILITIES,
    PROBABILITY,
    SET_PROBABILITY,
    TOP_K,
    BadRow,
    OutputSpec,
)
from distill.data.formats.records import Columns, RowError, Selection, normalised, select
from distill.data.formats.tables import Layout, find_layout
from distill.data.formats.text_lines import (
    BOM,
    DECIMALS,
    Continuation,
    ItemRows,
    Lines,
    RawRow,
)
from distill.errors import UserError, listed
from distill.runtime.constants import JSON_ROWS
from distill.runtime.rows import row_format
from distill.runtime.structs import RowFormat

LINE_SUFFIXES = (".jsonl", ".ndjson")
SUFFIXES = (".json", *LINE_SUFFIXES)
OBJECT_START = re.compile(r'\s*\{\s*("(?:[^"\\]|\\.)*"\s*:|\}\s*$)')
ARRAY_START = re.compile(r"\s*\[\s*")
UNDECODED = re.compile("[\udc80-\udcff]")  # how undecodable bytes are decoded
SAMPLE_RECORDS, SAMPLE_SIZE = 200, 2**22  # first records, and their characters, whose keys are the columns
MAX_VALUES = 2**20  # of a document that is in memory as a whole
ROWS_KEYS = ("data", "rows", "records", "examples", "items", "instances", "results")
LABEL_STUDIO = ("annotations", "completions")  # keys of its tasks, new and old
SPELLING = 0.1  # a key that is this much rarer than another spelling of its name is an error in a few rows


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

    def row_format(self) -> RowFormat | None:
        """See TextFormat."""
        if not self._new_keys.isdisjoint(self.selection.texts):
            return None
        return row_format(JSON_ROWS, [*self.selection.texts, *LABEL_STUDIO, *self._new_keys])


class JsonDocument:
    """A document, of which one record at a time is in memory. Labelled rows are written as JSON lines."""

    def __init__(self, lines: Lines, columns: Columns) -> None:
        self._lines, self._columns = lines, columns
        self._text = JsonText(_blocks(lines), lines.name)
        self._has_bom = lines.has_bom
        self._choice = ""  # which of several lists is read, in words

    def open(self, spec: OutputSpec | None) -> ItemRows:
        """Read the first records.

        Raises:
            UserError: one is broken, or the columns that are needed cannot be found.
        """
        name, items = self._lines.name, self._items()
        sample, is_whole = self._sample(items)
        continuation = _continuation(spec, BOM * self._has_bom) if spec else None
        new_keys = _new_keys(spec) if spec else set()
        items = chain(sample, items)
        if sample and all(isinstance(item, list) for item in sample):
            layout, names = _layout_of_arrays(sample, self._columns, name)
            items = (_named(item, names) for item in islice(items, int(layout.has_header), None))
            sample = [_named(item, names) for item in sample[layout.has_header :]]
        selection = _selection([item for item in sample if isinstance(item, dict)], self._columns, name)
        count = f" of {len(sample):,} items" if is_whole else ""
        note = ", ".join([*self._lines.notes, f"a JSON document{count}, {self._choice}{selection.note}"])
        rows = (_row(number, item, new_keys) for number, item in enumerate(items, 1))
        document = ItemRows(rows, selection, note, "item", continuation, size=len(sample) * is_whole)
        document.fingerprint = self._lines.fingerprint
        return document

    def _sample(self, items: Iterator[Any]) -> tuple[list[Any], bool]:
        """The first items, and whether they are all."""
        sample, start = list(islice(items, 1)), self._text.position
        for item in items:
            sample.append(item)
            if len(sample) == SAMPLE_RECORDS or self._text.position > start + SAMPLE_SIZE:
                return sample, False
        return sample, True

    def _items(self) -> Iterator[Any]:
        """The records; a :class:`TooLong` stands for one that is too long."""
        text = self._text
        mark = text.mark(BLANKS)
        if not mark:
            return
        first = text.decoded()
        if first is INCOMPLETE:
            yield from self._items_of_array() if mark == "[" else self._items_of_object(mark)
            return
        if text.mark(BLANKS):
            yield from chain([first], text.values())
        else:
            rows = first if isinstance(first, list) else _rows_of(first)
            self._choice = _choice(first)
            yield from [first] if rows is None else rows

    def _items_of_array(self) -> Iterator[Any]:
        self._text.expect("[")
        yield from self._text.items()
        self._text.require_end()

    def _items_of_object(self, mark: str) -> Iterator[Any]:
        """The rows in a large object that wraps them; without any, the object and what follows it are the rows."""
        text = self._text
        text.hold()
        if mark == "{":
            names: Any = None
            text.expect("{")
            while mark != "}":
                key = text.key()
                if text.mark() == "[" and key.lower() in ROWS_KEYS:
                    text.expect("[")
                    if text.mark() == "{" or (text.mark() == "[" and isinstance(names, list) and key == "data"):
                        text.held()
                        self._choice = f"only the list {key}, "  # what follows is not known yet
                        yield from (_unwrapped(item, names) for item in text.items())
                        text.skip(depth=1)
                        text.require_end()
                        return
                    text.skip(depth=1)
                elif key == "columns":
                    names = text.value()
                else:
                    text.skip()
                mark = text.expect(",}")
        else:
            text.skip()
        whole = text.held()
        rows = self._rows_of_columns(whole) if whole else None
        if rows is None:
            if not text.mark(BLANKS):
                raise self._too_large()
            yield from chain([TooLong("")], text.values())
        else:
            text.require_end()
            yield from rows

    def _rows_of_columns(self, whole: str) -> list[Any] | None:
        if whole.count(",") > MAX_VALUES:
            raise self._too_large()
        return _rows_of(_parsed(whole))

    def _too_large(self) -> UserError:
        what = f"a JSON object of more than {MAX_RECORD:,} characters that cannot be read row by row"
        hint = "write one object per line; pandas: to_json(FILE, orient='records', lines=True, force_ascii=False)"
        return UserError(what, self._lines.name, hint)


def _blocks(lines: Lines) -> Iterator[str]:
    """The decoded text; a byte that is invalid in its encoding becomes half a surrogate pair."""
    decoder = codecs.getincrementaldecoder(lines.encoding)("surrogateescape")
    raws, size, mark = [], 0, BOM
    for raw in lines:
        raws.append(raw)
        size += len(raw)
        if size >= BLOCK:
            yield decoder.decode(b"".join(raws)).removeprefix(mark)
            raws, size, mark = [], 0, ""
    yield decoder.decode(b"".join(raws), final=True).removeprefix(mark)


def _row(number: int, item: Any, new_keys: set[str]) -> tuple[int, RawRow | BadRow]:
    """An item as a row, or why it is none."""
    if isinstance(item, TooLong):
        return number, BadRow(number, str(item), item.raw)
    raw = ""
    try:
        raw = json.dumps(item, ensure_ascii=False)
        if UNDECODED.search(raw):
            raise RowError("bytes that are not valid in the file's encoding")
        return number, RawRow(raw[:-1], _flat(_checked(item, new_keys)))
    except RecursionError:
        return number, BadRow(number, "it is nested too deeply", raw)
    except RowError as error:
        return number, BadRow(number, str(error), raw.encode(errors="backslashreplace").decode())


def _unwrapped(item: Any, names: Any) -> Any:
    """A row of a document that wraps its rows: by the names of its cells, or within an object as the Hub sends it."""
    if isinstance(names, list) and isinstance(item, list):
        return dict(zip(names, item, strict=False))
    return item["row"] if isinstance(item, dict) and isinstance(item.get("row"), dict) else item


def _rows_of(value: Any) -> list[Any] | None:
    """The rows within an object that wraps them; None: the object is a row."""
    if not isinstance(value, dict):
        return None
    if isinstance(value.get("columns"), list) and isinstance(value.get("data"), list):
        return [dict(zip(value["columns"], row, strict=False)) for row in value["data"] if isinstance(row, list)]
    if wrapped := _row_keys(value):
        return [_unwrapped(row, None) for row in value[wrapped[0]]]
    columns = list(value.values())
    if columns and all(isinstance(column, dict) for column in columns):
        return _from_objects(value)
    if len(columns) > 1 and all(isinstance(column, list) and len(column) == len(columns[0]) for column in columns):
        return [dict(zip(value, row, strict=True)) for row in zip(*columns, strict=True)]
    return None


def _row_keys(value: dict[str, Any]) -> list[str]:
    """The keys of lists of rows, of which the first is read."""
    return [key for key in value if key.lower() in ROWS_KEYS and _are_rows(value[key])]


def _choice(value: Any) -> str:
    """Which of several lists of rows in an object is read, in words; empty: there is no choice."""
    read = _row_keys(value)[:1] if isinstance(value, dict) else []
    others = [key for key in value if key not in read and value[key] and _are_rows(value[key])] if read else []
    return f"only the list {read[0]} of {listed([*read, *others], 10)}, " if others else ""


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


def _layout_of_arrays(sample: Sequence[Any], columns: Columns, name: str) -> tuple[Layout, tuple[str, ...]]:
    """The layout of rows that are arrays of cells, the first of which may be a header; and the names of the cells."""
    cells = [[str(cell) for cell in item] for item in sample if item]
    if not cells:
        raise UserError("the arrays are empty", name, 'write {"text": …, "label": …}')
    layout = find_layout(cells, columns, name)
    if layout.has_header:
        return layout, layout.names
    keys = dict.fromkeys(layout.selection.texts, "text")
    names = (
        keys.get(index, "label" if index == layout.selection.label else name) for index, name in enumerate(layout.names)
    )
    return layout, tuple(names)


def _named(item: Any, names: Sequence[str]) -> Any:
    return dict(zip(names, item, strict=False)) if isinstance(item, list) else item


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


def _flat(record: dict[str, Any]) -> dict[str, Any]:
    """A task of Label Studio as a row: its data, and as label the choices of its annotations."""
    data = record.get("data")
    annotations = record.get(LABEL_STUDIO[0], record.get(LABEL_STUDIO[1]))
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
    further = {ANSWERED_BY: spec.has_cascade, TOP_K: spec.top_k, PROBABILITIES: spec.probabilities}
    keys = (PREDICTED, PROBABILITY, *(key for key, is_added in further.items() if is_added))
    of_sets = {task.name(SET_PROBABILITY) for task in spec.by_task if task.has_set_probability}
    return {task.name(key) for task in spec.by_task for key in keys} | of_sets


def _continuation(spec: OutputSpec, header: str) -> Continuation:
    return Continuation.of_tasks(header, _of_task, spec)


def _of_task(spec: OutputSpec) -> Continuation:
    def key(what: str) -> str:
        return f", {_json(spec.name(what))}: "

    def predicted(labels: str | list[str]) -> str:
        return f"{key(PREDICTED)}{_json(labels)}{key(PROBABILITY)}"

    names = tuple(map(_json, spec.predicted))
    pattern = ", ".join(f"{_literal(name)}: {DECIMALS}" for name in names[: len(spec.labels)])
    top = ", ".join([f'{{"{LABEL}": %s, "{PROBABILITY}": {DECIMALS}}}'] * spec.top_k)
    return Continuation(
        "",
        before=tuple(map(predicted, spec.predicted)),
        probabilities=f"{_literal(key(PROBABILITIES))}{{{pattern}}}" if spec.probabilities else "",
        after="}",
        set_probability=f"{_literal(key(SET_PROBABILITY))}{DECIMALS}" if spec.has_set_probability else "",
        answered_by=f'{_literal(key(ANSWERED_BY))}"%s"' if spec.has_cascade else "",
        top=f"{_literal(key(TOP_K))}[{top}]" if top else "",
        top_k=spec.top_k,
        names=names,
        before_labels=predicted,
    )


def _literal(text: str) -> str:
    """A text as a part of a pattern."""
    return text.replace("%", "%%")


def _json(value: str | list[str]) -> str:
    return json.dumps(value, ensure_ascii=False)
