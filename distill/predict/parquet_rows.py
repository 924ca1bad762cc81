"""Parquet: rows as tables of pyarrow. A row without text stays, with nulls for the answers."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distill.data.readers import TEXT_COLUMNS, cell_text, find_column
from distill.errors import UserError, require_package
from distill.predict.rows import BYTES, NO_TEXT, PREDICTED, ROWS, Answers, Bad, Chunk, Position, Wanted

BUFFER = 2**20  # bytes of a column that are read ahead
GROUP_ROWS, GROUP_BYTES = 2**16, 2**24  # of a row group that is written, about


def check_pyarrow(path: object) -> None:
    """Say how Parquet is read, where it cannot be.

    Raises:
        UserError: there is no pyarrow.
    """
    require_package("pyarrow", "Parquet", "pip install pyarrow, or convert it to jsonl", path)


class ParquetRows:
    """See :class:`distill.predict.rows.Format`; a chunk's rows are a table. Positions count rows."""

    unit = ("rows", 1)

    def __init__(self, path: Path, wanted: Wanted) -> None:
        check_pyarrow(path)
        import pyarrow as pa
        from pyarrow import parquet

        pa.set_memory_pool(pa.system_memory_pool())  # the default keeps 50 MB of what is free
        self._wanted = wanted
        try:
            self._file = parquet.ParquetFile(path, buffer_size=BUFFER, pre_buffer=False)
        except Exception as error:
            raise UserError(f"not a Parquet file: {str(error).splitlines()[0]}", path, "write it again") from error
        self.size = int(self._file.metadata.num_rows)
        self._column = text_column(self._file.schema_arrow, wanted, path)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def chunks(self, start: Position | None) -> Iterator[Chunk]:
        """See Format; row groups that are behind are not read."""
        done, first = start.offset if start else 0, 0
        for group in range(self._file.num_row_groups):
            about = self._file.metadata.row_group(group)
            if first + about.num_rows > done:
                yield from self._of_group(group, first, done)
            first += about.num_rows

    def _of_group(self, group: int, first: int, done: int) -> Iterator[Chunk]:
        from pyarrow import Table

        about = self._file.metadata.row_group(group)
        rows = max(1, min(ROWS, BYTES * about.num_rows // max(about.total_byte_size, 1)))
        for batch in self._file.iter_batches(rows, row_groups=[group], use_threads=False):
            table = Table.from_batches([batch])
            if first >= done:
                texts = texts_of(table, self._column)
                bad = [Bad(first + place, NO_TEXT, "") for place, text in enumerate(texts, 1) if not text]
                end = first + len(table)
                yield Chunk(table, texts, bad, Position(end, end))
            first += len(table)

    def labelled(self, chunk: Chunk, answers: Answers) -> Any:
        """See Format."""
        return with_answers(chunk.rows, chunk.texts, answers, self._wanted)

    def head(self) -> Iterable[Any]:
        """See Format: a schema is written without rows."""
        return []

    @contextlib.contextmanager
    def writer(self, path: Path) -> Iterator[Callable[[Any], object]]:
        """See Format; tables are gathered into row groups of a useful size."""
        from pyarrow import concat_tables, field, float32, parquet, string

        schema = self._file.schema_arrow
        for name in self._wanted.columns:
            schema = schema.append(field(name, string() if name == PREDICTED else float32()))
        with parquet.ParquetWriter(path, schema) as file:
            gathered: list[Any] = []

            def write(table: Any) -> None:
                gathered.append(table)
                if sum(map(len, gathered)) >= GROUP_ROWS or sum(part.nbytes for part in gathered) >= GROUP_BYTES:
                    flush()

            def flush() -> None:
                if gathered:
                    file.write_table(concat_tables(gathered))
                    gathered.clear()

            yield write
            flush()

    def pieces(self, path: Path) -> Iterator[Any]:
        """See Format: some rows at a time."""
        from pyarrow import Table, parquet

        with parquet.ParquetFile(path, buffer_size=BUFFER, pre_buffer=False) as file:
            for batch in file.iter_batches(ROWS, use_threads=False):
                yield Table.from_batches([batch])


def text_column(schema: Any, wanted: Wanted, where: object) -> str:
    """The texts' column of a schema.

    Raises:
        UserError: there is none, or there is a column of a new one's name.
    """
    wanted.check(schema.names, where)
    return find_column(wanted.text_column, TEXT_COLUMNS, "text", dict.fromkeys(schema.names), where)


def texts_of(table: Any, column: str) -> list[str]:
    """The texts; "" where a row has none."""
    return [cell_text(value) for value in table.column(column).to_pylist()]


def with_answers(table: Any, texts: list[str], answers: Answers, wanted: Wanted) -> Any:
    """A table with the new columns: label, float32 probabilities, null where there is no text.

    The columns are made of buffers, as ``pyarrow.array`` would import pandas, which takes 50 MB and half a second.
    """
    import pyarrow as pa

    valid = pa.py_buffer(np.packbits(np.array(texts, object).astype(bool), bitorder="little"))

    def column(kind: Any, numbers: NDArray[Any]) -> Any:
        return pa.Array.from_buffers(kind, len(texts), [valid, pa.py_buffer(np.ascontiguousarray(numbers))])

    places = column(pa.int64(), answers.classes)
    each = answers.probabilities.T if wanted.probabilities else ()
    columns = [_strings(wanted.labels).take(places), *(column(pa.float32(), of) for of in (answers.probability, *each))]
    for name, new in zip(wanted.columns, columns, strict=True):
        table = table.append_column(name, new)
    return table


def _strings(texts: Sequence[str]) -> Any:
    import pyarrow as pa

    encoded = [text.encode() for text in texts]
    ends = np.cumsum([0, *map(len, encoded)], dtype=np.int32)
    return pa.StringArray.from_buffers(len(texts), pa.py_buffer(ends), pa.py_buffer(b"".join(encoded)))
