"""Parquet: rows as pyarrow tables. A row without text stays in the output, with nulls for its labels.

Data sets of the Hugging Face Hub store the names of the classes in the file's metadata.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distill.data.formats.labelling import (
    CHUNK_BYTES,
    CHUNK_ROWS,
    PREDICTED,
    STUDENT_OR_TEACHER,
    BadRow,
    Chunk,
    OutputSpec,
    Position,
    Predictions,
)
from distill.data.formats.parquet_pages import PageError, rows_per_batch
from distill.data.formats.records import NO_TEXT, Columns, Row, RowError, Selection, select
from distill.errors import UserError, require_package
from distill.runtime.packing import Utf8Texts
from distill.runtime.rows import trim
from distill.runtime.unsure import top_classes

READ_ROWS = 4096  # rows in memory at a time when a file is read for training
MAX_FOOTER = 2**24  # bytes
BUFFER = 2**20  # bytes of a column that are read ahead
GROUP_ROWS, GROUP_BYTES = 2**16, 2**24  # approximate size of a row group in the output


@contextlib.contextmanager
def open_rows(path: Path, columns: Columns, spec: OutputSpec | None) -> Iterator[ParquetRows]:
    """Open a file.

    Meanwhile, pyarrow uses the system's memory allocator: its default one keeps 50 MB of freed memory.

    Raises:
        UserError: pyarrow is not installed, the file is not Parquet, or its columns do not fit.
    """
    require_package("pyarrow", "Parquet", "pip install pyarrow, or convert it to jsonl", path)
    import pyarrow

    pool = pyarrow.default_memory_pool()
    pyarrow.set_memory_pool(pyarrow.system_memory_pool())
    try:
        with _named_errors(path):
            file = _opened(path)
        with file:
            with _named_errors(path):
                rows = ParquetRows(file, columns, spec, path)
            yield rows
    finally:
        pyarrow.set_memory_pool(pool)


def _opened(path: Path) -> Any:
    from pyarrow import parquet

    with path.open("rb") as file:
        file.seek(-min(path.stat().st_size, 8), os.SEEK_END)
        footer = int.from_bytes(file.read(4), "little")
    if footer > MAX_FOOTER:
        raise ValueError(f"a footer of {footer:,} bytes; at most {MAX_FOOTER:,} are read")
    return parquet.ParquetFile(path, buffer_size=BUFFER, pre_buffer=False)


def _batches(file: Any, path: Path, groups: Sequence[int], names: set[str] | None, max_rows: int) -> Iterator[Any]:
    """Batches of rows; only as many rows at a time as fit into memory.

    Args:
        file: a ``pyarrow.parquet.ParquetFile``.
        path: the same.
        groups: the row groups that are read.
        names: the columns that are read, in several threads; None: all, in one, while others predict.
        max_rows: maximum of a batch.

    Raises:
        PageError: a page is too large.
        ValueError: the pages are damaged.
    """
    with path.open("rb") as content:
        for group in groups:
            rows = rows_per_batch(content, file, group, names, max_rows)
            columns = None if names is None else list(names)
            yield from file.iter_batches(rows, row_groups=[group], columns=columns, use_threads=names is not None)


@contextlib.contextmanager
def _named_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except UserError:
        raise
    except PageError as error:
        raise UserError(str(error), path, "write the file again, with smaller pages and row groups") from error
    except Exception as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(f"not a Parquet file, or a damaged one: {reason}", path, "copy or write it again") from error


class ParquetRows:
    """A :class:`RowFile`; a chunk's rows are a table, and positions count rows."""

    columns = Columns()
    fingerprint = ""
    unit = ("rows", 1)
    row_unit = "row"

    def __init__(self, file: Any, columns: Columns, spec: OutputSpec | None, path: Path) -> None:
        self._file, self._spec, self._path = file, spec, path
        self.size = int(file.metadata.num_rows)
        schema = file.schema_arrow
        self._selection = text_columns(schema, columns, spec, path)
        self._class_names = _class_names(schema, self._selection.label)
        named = " (names from the metadata)" if self._class_names else ""
        self.note = f"Parquet, {self._selection.note}{named}"

    def rows(self) -> Iterator[Row | BadRow]:
        """See RowFile; only the columns that are needed are read."""
        selection = self._selection
        indicators = selection.indicators.values()
        names = (*selection.texts, selection.label, selection.label_name, *selection.others, *indicators)
        wanted = {name for name in names if name is not None}
        groups = range(self._file.num_row_groups)
        number = 0
        with _named_errors(self._path):
            for batch in _batches(self._file, self._path, groups, wanted, READ_ROWS):
                for number, cells in enumerate(batch.to_pylist(), number + 1):  # noqa: B020 (it goes on counting)
                    try:
                        yield selection.row(self._with_name(cells), number)
                    except RowError as error:
                        yield BadRow(number, str(error), json.dumps(cells, ensure_ascii=False, default=str))

    def _with_name(self, cells: dict[str, Any]) -> dict[str, Any]:
        """The cells, with the name of the class instead of its number; -1 (the Hub's unlabelled rows) is no label.

        A cell may hold a list of numbers.
        """
        value = cells.get(self._selection.label)
        numbers: list[Any] = value if isinstance(value, list) else [value]
        if not self._class_names or not all(isinstance(number, int) for number in numbers):
            return cells
        names = [self._class_names[one] if 0 <= one < len(self._class_names) else None for one in numbers]
        return {**cells, self._selection.label: names if isinstance(value, list) else names[0]}

    def chunks(self, start: Position | None) -> Iterator[Chunk]:
        """See RowFile; row groups before ``start`` are not read."""
        done, first = start.offset if start else 0, 0
        with _named_errors(self._path):
            for group in range(self._file.num_row_groups):
                rows = self._file.metadata.row_group(group).num_rows
                if first + rows > done:
                    yield from self._group_chunks(group, first, done)
                first += rows

    def _group_chunks(self, group: int, first: int, done: int) -> Iterator[Chunk]:
        """Chunks of a row group whose first row has the number ``first``, without those before row ``done``."""
        from pyarrow import Table

        about = self._file.metadata.row_group(group)
        rows = max(1, min(CHUNK_ROWS, CHUNK_BYTES * about.num_rows // max(about.total_byte_size, 1)))
        for batch in _batches(self._file, self._path, [group], None, rows):
            table = Table.from_batches([batch])
            if first >= done:
                texts = texts_of(table, self._selection)
                bad = [BadRow(first + 1 + index, NO_TEXT, "") for index in np.flatnonzero(~has_text(texts)).tolist()]
                end = first + len(table)
                yield Chunk(table, texts, bad, Position(end, end))
            first += len(table)

    def add_labels(self, chunk: Chunk, predictions: Predictions) -> Any:
        """See RowFile."""
        return with_labels(chunk.rows, chunk.texts, predictions, self._spec_of_output())

    def _spec_of_output(self) -> OutputSpec:
        if self._spec is None:
            raise ValueError("the file was opened for training")
        return self._spec

    def header(self) -> Iterable[Any]:
        """See RowFile: the writer writes the schema."""
        return []

    @property
    def _output_schema(self) -> Any:
        from pyarrow import field, float32, list_, string

        schema, spec = self._file.schema_arrow, self._spec_of_output()
        types = dict.fromkeys(spec.columns, float32()) | dict.fromkeys(spec.text_columns, string())
        types |= {task.name(PREDICTED): list_(string()) for task in spec.by_task if task.thresholds}
        for name in spec.columns:
            schema = schema.append(field(name, types[name]))
        return schema

    @contextlib.contextmanager
    def writer(self, path: Path) -> Iterator[Callable[[Any], object]]:
        """See RowFile; tables are collected into row groups of a useful size."""
        from pyarrow import concat_tables, parquet

        with (
            path.open("wb") as sink,  # Python names a full disk at closing
            parquet.ParquetWriter(sink, self._output_schema) as file,
            _collected(lambda tables: file.write_table(concat_tables(tables))) as write,
        ):
            yield write

    @contextlib.contextmanager
    def part_writer(self, path: Path) -> Iterator[Callable[[Any], object]]:
        """See RowFile; a stream of Arrow, in which an empty batch of rows follows those of a row group."""
        from pyarrow import ipc

        options = ipc.IpcWriteOptions(compression="lz4")
        with path.open("wb") as sink, ipc.new_stream(sink, self._output_schema, options=options) as file:

            def flush(tables: list[Any]) -> None:
                batches = [batch for table in tables for batch in table.to_batches() if len(batch)]
                for batch in batches:
                    file.write_batch(batch)
                if batches:
                    file.write_batch(batches[-1].slice(0, 0))

            with _collected(flush) as write:
                yield write

    def pieces(self, path: Path) -> Iterator[Any]:
        """See RowFile."""
        from pyarrow import Table, ipc

        with path.open("rb") as source, ipc.open_stream(source) as file:
            batches = []
            for batch in file:
                batches.append(batch)
                if not len(batch):
                    table = Table.from_batches(batches)
                    for first in range(0, len(table), CHUNK_ROWS):
                        yield table.slice(first, CHUNK_ROWS).combine_chunks()
                    batches.clear()


@contextlib.contextmanager
def _collected(flush: Callable[[list[Any]], object]) -> Iterator[Callable[[Any], object]]:
    """A function that collects tables, and passes them on when they are large enough for a row group."""
    tables: list[Any] = []

    def write(table: Any) -> None:
        tables.append(table)
        if sum(map(len, tables)) >= GROUP_ROWS or sum(part.nbytes for part in tables) >= GROUP_BYTES:
            flush(tables)
            tables.clear()

    yield write
    if tables:
        flush(tables)


def text_columns(schema: Any, columns: Columns, spec: OutputSpec | None, where: object) -> Selection:
    """The columns of a schema that are read.

    Raises:
        UserError: they are missing, or there is a column with the name of a new one.
    """
    if spec:
        spec.check_names(schema.names, where)
    return select(schema.names, columns, where, dict.get)


def texts_of(table: Any, selection: Selection) -> Sequence[str]:
    """The texts; "" where a row has none. Those of one column of strings stay where they are in memory."""
    if len(selection.texts) == 1 and (found := _utf8_texts(table.column(selection.texts[0]))):
        return found
    columns = [table.column(name).to_pylist() for name in selection.texts]
    by_index = dataclasses.replace(selection, texts=tuple(range(len(columns))), get=tuple.__getitem__)
    return [_text(by_index, cells) for cells in zip(*columns, strict=True)]


def _utf8_texts(column: Any) -> Utf8Texts | None:
    """The texts of a column; None: it has no strings, or one of them is not valid UTF-8."""
    from pyarrow import types

    kind = column.type.value_type if types.is_dictionary(column.type) else column.type
    if not (types.is_string(kind) or types.is_large_string(kind)) or not len(column):
        return None
    array = column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
    if types.is_dictionary(column.type):
        array = array.dictionary_decode()
    valid, offsets, content = array.buffers()
    begin, end = array.offset, array.offset + len(array)
    ends = np.frombuffer(offsets, np.int64 if types.is_large_string(kind) else np.int32)[begin : end + 1]
    first, last = int(ends[0]), int(ends[-1])  # of a slice: its buffers are those of the whole column
    spans = np.stack([ends[:-1], ends[1:]], axis=1).astype(np.int64) - first
    if valid:
        bits = np.frombuffer(valid, np.uint8)[begin // 8 : -(-end // 8)]
        has_value = np.unpackbits(bits, bitorder="little")[begin % 8 :][: len(spans)]
        spans[:, 1] = np.where(has_value, spans[:, 1], spans[:, 0])
    texts = Utf8Texts(np.frombuffer(content or b"", np.uint8)[first:last], spans)
    return texts if trim(texts) else None


def has_text(texts: Sequence[str]) -> NDArray[np.bool_]:
    """Which of the texts are not empty (texts,)."""
    if isinstance(texts, Utf8Texts):
        return np.asarray(texts.spans[:, 0] < texts.spans[:, 1])
    return np.array(texts, object).astype(bool)


def _text(selection: Selection, cells: Any) -> str:
    try:
        return selection.text(cells)
    except RowError:
        return ""


def _class_names(schema: Any, column: str | None) -> list[str]:
    """The names of the classes from the metadata of a data set of the Hub; empty: there are none."""
    try:
        features = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))["info"]["features"]
        feature = features[column]
        names = feature.get("names", feature.get("feature", {}).get("names"))
        if isinstance(names, dict):
            names = [names[key] for key in sorted(names, key=int)]
        return [str(name) for name in names or []]
    except (KeyError, TypeError, AttributeError, ValueError, RecursionError):
        return []


def with_labels(table: Any, texts: Sequence[str], predictions: Predictions, spec: OutputSpec) -> Any:
    """A table with the new columns: label or list of labels, float32 probabilities; null where there is no text."""
    columns = [
        column
        for task, of_task in zip(spec.by_task, predictions.by_task, strict=True)
        for column in _new_columns(texts, of_task, task)
    ]
    for name, new in zip(spec.columns, columns, strict=True):
        table = table.append_column(name, new)
    return table


def _new_columns(texts: Sequence[str], predictions: Predictions, spec: OutputSpec) -> list[Any]:
    """The new columns of a task.

    They are built from buffers: ``pyarrow.array`` would import pandas, which takes 50 MB and half a second.
    """
    import pyarrow as pa

    valid = pa.py_buffer(np.packbits(has_text(texts), bitorder="little"))

    def column(kind: Any, numbers: NDArray[Any]) -> Any:
        return pa.Array.from_buffers(kind, len(texts), [valid, pa.py_buffer(np.ascontiguousarray(numbers))])

    def strings(names: Sequence[str], indices: NDArray[np.int64]) -> Any:
        return _strings(names).take(column(pa.int64(), indices))

    if predictions.label_sets is None:
        predicted = strings(spec.predicted, predictions.classes)
    else:
        predicted = _lists(predictions.label_sets).take(column(pa.int64(), predictions.classes))
    columns = [predicted, column(pa.float32(), predictions.probability)]
    if predictions.set_probability is not None:
        columns.append(column(pa.float32(), predictions.set_probability))
    if spec.has_cascade and predictions.by_teacher is not None:
        columns.append(strings(STUDENT_OR_TEACHER, predictions.by_teacher.astype(np.int64)))
    if spec.top_k:
        for classes in top_classes(predictions.probabilities, spec.top_k).T:
            columns.append(strings(spec.labels, classes))
            columns.append(column(pa.float32(), predictions.probabilities[np.arange(len(texts)), classes]))
    columns += [column(pa.float32(), numbers) for numbers in predictions.probabilities.T if spec.probabilities]
    return columns


def _strings(texts: Sequence[str]) -> Any:
    import pyarrow as pa

    encoded = [text.encode() for text in texts]
    ends = np.cumsum([0, *map(len, encoded)], dtype=np.int32)
    return pa.StringArray.from_buffers(len(texts), pa.py_buffer(ends), pa.py_buffer(b"".join(encoded)))


def _lists(lists: Sequence[Sequence[str]]) -> Any:
    import pyarrow as pa

    ends = np.cumsum([0, *map(len, lists)], dtype=np.int32)
    offsets = pa.Array.from_buffers(pa.int32(), len(ends), [None, pa.py_buffer(ends)])
    return pa.ListArray.from_arrays(offsets, _strings([text for texts in lists for text in texts]))
