"""How large the pages of a Parquet file are once they are unpacked, from their headers: before any is read.

A page of a few bytes may unpack to gigabytes, and one long string in a dictionary may be the cell of a million rows.
Neither shows in the footer, so the headers themselves are read: structs of Thrift's compact protocol, of which the
fields are numbered. See https://parquet.apache.org/docs/file-format/data-pages/ and parquet.thrift.

Where the pages are is read from the footer in the same way: pyarrow 26 ends the process when it is asked about a column
whose size statistics are damaged.
"""

from __future__ import annotations

import contextlib
import os
import struct
import weakref
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

MAX_PAGE = 2**27  # bytes of an unpacked page; DuckDB writes up to 100 MB
MAX_BATCH = 2**25  # bytes that the cells of a batch may have
MAX_NESTED = 2**24, 2**16  # values of a repeated column in a row group, and per row
DATA, DICTIONARY, DATA_V2 = 0, 2, 3  # kinds of pages
HEADERS = {DATA: 5, DICTIONARY: 7, DATA_V2: 8}  # the field with the header of this kind
HEADER_SIZES = 2**10, 2**16, 2**24  # bytes that are read for a header: it may repeat two long strings of its page
LENGTH = struct.Struct("<I")  # precedes a string in a dictionary
DELTA_BYTE_ARRAY = 7  # an encoding in which a string repeats the beginning of the one before
TRUE, FALSE, BYTE, I16, I32, I64, DOUBLE, BINARY, LIST, STRUCT = 1, 2, 3, 4, 5, 6, 7, 8, 9, 12
END = b"PAR1"
BYTE_ARRAY = 6  # a type of values
CODECS = {1: "snappy", 2: "gzip", 4: "brotli", 6: "zstd"}  # that unpack dictionaries


class PageError(Exception):
    """The pages are too large; the message says how."""


@dataclass(frozen=True)
class Page:
    """A page: its kind, its size once unpacked, its number of values and their encoding, and where its bytes are."""

    kind: int
    size: int
    values: int
    encoding: int
    begin: int
    end: int


@dataclass(frozen=True)
class ColumnChunk:
    """The pages of a column in a row group: its path, where they begin and end, and their type and codec."""

    path: str
    begin: int
    end: int
    kind: int
    codec: int


_chunks: weakref.WeakKeyDictionary[Any, list[list[ColumnChunk]]] = weakref.WeakKeyDictionary()  # of open files


def rows_per_batch(content: BinaryIO, file: Any, group: int, names: set[str] | None, max_rows: int) -> int:
    """How many rows of a row group may be read at a time, at most ``max_rows``.

    Args:
        content: the file; not mapped into memory, or the process would die if the file became shorter.
        file: the same as a ``pyarrow.parquet.ParquetFile``.
        group: the number of the row group.
        names: the columns that are read; None: all.
        max_rows: maximum.

    Raises:
        PageError: a page is too large.
        ValueError: the pages are damaged.
    """
    rows, row_bytes = file.metadata.row_group(group).num_rows, 0.0
    if file not in _chunks:
        _chunks[file] = column_chunks(content)
    for index, column in enumerate(_chunks[file][group]):
        if names is None or any(column.path == name or column.path.startswith(f"{name}.") for name in names):
            is_nested = file.schema.column(index).max_repetition_level > 0
            row_bytes += _row_bytes(content, column, rows if is_nested else 0, max_rows)
    return max(1, min(max_rows, int(MAX_BATCH / max(row_bytes, 1))))


def column_chunks(content: BinaryIO) -> list[list[ColumnChunk]]:
    """The columns of every row group, from the footer.

    Raises:
        ValueError: the footer is damaged.
    """
    size = os.fstat(content.fileno()).st_size
    (length,), end = LENGTH.unpack(_read(content, size - 8, 4)), _read(content, size - 4, 4)
    if end != END or not 0 < length <= size - 8:
        raise ValueError("there is no footer")
    try:
        footer, _ = _struct(_read(content, size - 8 - length, length), 0)
        return [[_column_chunk(column[3]) for column in group[1]] for group in footer[4]]
    except (IndexError, KeyError, AttributeError, TypeError, ValueError, RecursionError) as error:
        raise ValueError("the footer is damaged") from error


def _column_chunk(about: dict[int, Any]) -> ColumnChunk:
    begin = min(start for start in (about.get(11), about[9]) if start)  # of the dictionary, and of the first page
    path = b".".join(about[3]).decode()
    return ColumnChunk(path, begin, begin + about[7], about[1], about[4])


def _row_bytes(content: BinaryIO, column: ColumnChunk, nested_rows: int, max_rows: int) -> float:
    """How long the cells of a column are at most, in bytes: in a batch they are as long as on average in a page."""
    value_bytes, dictionary_bytes, values = 0.0, 0, 0
    for page in pages(content, column):
        if page.size > MAX_PAGE:
            raise PageError(f"a page of {page.size:,} bytes; at most {MAX_PAGE:,} are read")
        if page.kind == DICTIONARY:
            dictionary_bytes = page.size
            if page.size * max_rows > MAX_BATCH:
                dictionary_bytes = min(page.size, _longest(content, column, page))
        else:
            is_cumulative = page.encoding == DELTA_BYTE_ARRAY
            value_bytes = max(value_bytes, page.size / (1 if is_cumulative else max(page.values, 1)))
            values += page.values
    per_row = max(1.0, values / nested_rows) if nested_rows else 1.0
    if nested_rows and values > MAX_NESTED[0] and per_row > MAX_NESTED[1]:
        raise PageError(f"{values:,} values in {nested_rows:,} rows")
    return (value_bytes + dictionary_bytes) * per_row


def pages(content: BinaryIO, column: ColumnChunk) -> Iterator[Page]:
    """The pages of a column in a row group.

    Raises:
        ValueError: one is not where it should be.
    """
    position, end = column.begin, column.end
    if not 0 < position <= end <= os.fstat(content.fileno()).st_size:
        raise ValueError("a column is not within the file")
    while position < end:
        try:
            header, position = _header(content, position)
            kind, size, packed = header[1], header[2], header[3]
            about = header.get(HEADERS.get(kind, 0), {})
            page = Page(
                kind, size, about.get(1, 0), about.get(4 if kind == DATA_V2 else 2, 0), position, position + packed
            )
        except (IndexError, KeyError, AttributeError, TypeError, RecursionError) as error:
            raise ValueError("a page has no header") from error
        if size < 0 or packed < 0 or page.values < 0 or page.end > end:
            raise ValueError("the header of a page is wrong")
        yield page
        position = page.end


def _longest(content: BinaryIO, column: ColumnChunk, page: Page) -> int:
    """The length of the longest string in a dictionary; as long as the dictionary if it cannot be unpacked."""
    import pyarrow

    if column.kind != BYTE_ARRAY:
        return 16
    raw: Any = _read(content, page.begin, page.end - page.begin)
    try:
        if column.codec:
            raw = memoryview(pyarrow.decompress(raw, page.size, CODECS[column.codec]))
    except (pyarrow.ArrowException, KeyError, ValueError, OSError):
        return page.size
    longest = position = 0
    while position + 4 <= len(raw):
        (length,) = LENGTH.unpack_from(raw, position)
        longest, position = max(longest, length), position + 4 + length
    return longest


def _header(content: BinaryIO, position: int) -> tuple[dict[int, Any], int]:
    """The fields of a page's header by their numbers, and the position behind it."""
    for size in HEADER_SIZES:
        with contextlib.suppress(IndexError):  # it is longer
            fields, length = _struct(_read(content, position, size), 0)
            return fields, position + length
    raise IndexError(position)


def _read(content: BinaryIO, position: int, size: int) -> bytes:
    content.seek(position)
    return content.read(size)


def _struct(content: bytes, position: int) -> tuple[dict[int, Any], int]:
    """The fields of a struct by their numbers, and the position behind it."""
    fields: dict[int, Any] = {}
    number = 0
    while head := content[position]:
        position += 1
        if head >> 4:
            number += head >> 4
        else:
            number, position = _integer(content, position)
        fields[number], position = _value(content, position, head & 15)
    return fields, position + 1


def _value(content: bytes, position: int, kind: int) -> tuple[Any, int]:
    if kind in (TRUE, FALSE):
        return kind == TRUE, position
    if kind == BYTE:
        return content[position], position + 1
    if kind in (I16, I32, I64):
        return _integer(content, position)
    if kind == DOUBLE:
        return None, position + 8
    if kind == BINARY:
        length, position = _unsigned(content, position)
        return content[position : position + length], position + length
    if kind in (STRUCT, LIST):
        return (_struct if kind == STRUCT else _list)(content, position)
    raise KeyError(kind)  # headers and footers have no sets and maps


def _list(content: bytes, position: int) -> tuple[list[Any], int]:
    count, kind, position = content[position] >> 4, content[position] & 15, position + 1
    if count == 15:
        count, position = _unsigned(content, position)
    if count > len(content):
        raise IndexError(position)
    items = []
    for _ in range(count):
        item, position = (content[position] == TRUE, position + 1) if kind <= FALSE else _value(content, position, kind)
        items.append(item)
    return items, position


def _integer(content: bytes, position: int) -> tuple[int, int]:
    number, position = _unsigned(content, position)
    return (number >> 1) ^ -(number & 1), position


def _unsigned(content: bytes, position: int) -> tuple[int, int]:
    number = 0
    for shift in range(0, 70, 7):
        byte = content[position]
        position += 1
        number |= (byte & 127) << shift
        if byte < 128:
            return number, position
    raise IndexError(position)
