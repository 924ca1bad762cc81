"""Parquet: rows as pyarrow tables. A row without text stays in the output, with nulls for its labels."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distill.data.formats.labelling import (
    CHUNK_BYTES,
    CHUNK_ROWS,
    NO_TEXT,
    PREDICTED,
    BadRow,
    Chunk,
    OutputSpec,
    Position,
    Predictions,
)
from distill.data.formats.records import Columns, Row, cell_text, find_text_column, rows_from_records
from distill.errors import UserError, require_package

READ_ROWS = 4096  # rows in memory at a time when a file is read for training
BUFFER = 2**20  # bytes of a column that are read ahead
GROUP_ROWS, GROUP_BYTES = 2**16, 2**24  # approximate size of a row group in the output


def check_pyarrow(path: object) -> None:
    """Refuse Parquet where it cannot be read.

    Raises:
        UserError: pyarrow is not installed.
    """
    require_package("pyarrow", "Parquet", "pip install pyarrow, or convert it to jsonl", path)


def read(path: Path, columns: Columns) -> Iterator[Row]:
    """Rows of a table."""
    yield from rows_from_records(((f"row {n}", record) for n, record in enumerate(_records(path), 1)), path, columns)


def _records(path: Path) -> Iterator[dict[str, Any]]:
    from pyarrow import parquet

    with _named_errors(path), parquet.ParquetFile(path) as file:
        for batch in file.iter_batches(READ_ROWS):
            yield from batch.to_pylist()


@contextlib.contextmanager
def open_rows(path: Path, spec: OutputSpec) -> Iterator[ParquetRows]:
    """Open a file for labelling.

    Meanwhile, pyarrow uses the system's memory allocator: its default one keeps 50 MB of freed memory.

    Raises:
        UserError: pyarrow is not installed, the file is not Parquet, or its columns do not fit.
    """
    check_pyarrow(path)
    import pyarrow
    from pyarrow import parquet

    pool = pyarrow.default_memory_pool()
    pyarrow.set_memory_pool(pyarrow.system_memory_pool())
    try:
        with _named_errors(path):
            file = parquet.ParquetFile(path, buffer_size=BUFFER, pre_buffer=False)
        with file:
            yield ParquetRows(file, spec, path)
    finally:
        pyarrow.set_memory_pool(pool)


@contextlib.contextmanager
def _named_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        raise UserError(f"not a Parquet file: {str(error).splitlines()[0]}", path, "write it again") from error


class ParquetRows:
    """A :class:`RowFile`; a chunk's rows are a table, and positions count rows."""

    unit = ("rows", 1)

    def __init__(self, file: Any, spec: OutputSpec, path: Path) -> None:
        self._file, self._spec = file, spec
        self.size = int(file.metadata.num_rows)
        self._column = text_column(file.schema_arrow, spec, path)

    def chunks(self, start: Position | None) -> Iterator[Chunk]:
        """See RowFile; row groups before ``start`` are not read."""
        done, first = start.offset if start else 0, 0
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
        for batch in self._file.iter_batches(rows, row_groups=[group], use_threads=False):
            table = Table.from_batches([batch])
            if first >= done:
                texts = texts_of(table, self._column)
                bad = [BadRow(number, NO_TEXT, "") for number, text in enumerate(texts, first + 1) if not text]
                end = first + len(table)
                yield Chunk(table, texts, bad, Position(end, end))
            first += len(table)

    def add_labels(self, chunk: Chunk, predictions: Predictions) -> Any:
        """See RowFile."""
        return with_labels(chunk.rows, chunk.texts, predictions, self._spec)

    def header(self) -> Iterable[Any]:
        """See RowFile: the writer writes the schema."""
        return []

    @contextlib.contextmanager
    def writer(self, path: Path) -> Iterator[Callable[[Any], object]]:
        """See RowFile; tables are collected into row groups of a useful size."""
        from pyarrow import concat_tables, field, float32, parquet, string

        schema = self._file.schema_arrow
        for name in self._spec.columns:
            schema = schema.append(field(name, string() if name == PREDICTED else float32()))
        with parquet.ParquetWriter(path, schema) as file:
            tables: list[Any] = []

            def write(table: Any) -> None:
                tables.append(table)
                if sum(map(len, tables)) >= GROUP_ROWS or sum(part.nbytes for part in tables) >= GROUP_BYTES:
                    flush()

            def flush() -> None:
                if tables:
                    file.write_table(concat_tables(tables))
                    tables.clear()

            yield write
            flush()

    def pieces(self, path: Path) -> Iterator[Any]:
        """See RowFile."""
        from pyarrow import Table, parquet

        with parquet.ParquetFile(path, buffer_size=BUFFER, pre_buffer=False) as file:
            for batch in file.iter_batches(CHUNK_ROWS, use_threads=False):
                yield Table.from_batches([batch])


def text_column(schema: Any, spec: OutputSpec, where: object) -> str:
    """The name of a schema's column of texts.

    Raises:
        UserError: there is none, or there is a column with the name of a new one.
    """
    spec.check_names(schema.names, where)
    return find_text_column(spec.text_column, schema.names, where)


def texts_of(table: Any, column: str) -> list[str]:
    """The texts; "" where a row has none."""
    return [cell_text(value) for value in table.column(column).to_pylist()]


def with_labels(table: Any, texts: list[str], predictions: Predictions, spec: OutputSpec) -> Any:
    """A table with the new columns: label and float32 probabilities, null where there is no text.

    The columns are built from buffers: ``pyarrow.array`` would import pandas, which takes 50 MB and half a second.
    """
    import pyarrow as pa

    valid = pa.py_buffer(np.packbits(np.array(texts, object).astype(bool), bitorder="little"))

    def column(kind: Any, numbers: NDArray[Any]) -> Any:
        return pa.Array.from_buffers(kind, len(texts), [valid, pa.py_buffer(np.ascontiguousarray(numbers))])

    labels = _strings(spec.labels).take(column(pa.int64(), predictions.classes))
    per_label = predictions.probabilities.T if spec.probabilities else ()
    columns = [labels, *(column(pa.float32(), numbers) for numbers in (predictions.probability, *per_label))]
    for name, new in zip(spec.columns, columns, strict=True):
        table = table.append_column(name, new)
    return table


def _strings(texts: Sequence[str]) -> Any:
    import pyarrow as pa

    encoded = [text.encode() for text in texts]
    ends = np.cumsum([0, *map(len, encoded)], dtype=np.int32)
    return pa.StringArray.from_buffers(len(texts), pa.py_buffer(ends), pa.py_buffer(b"".join(encoded)))
