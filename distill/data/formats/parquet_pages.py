"""How large the pages of a Parquet file are once they are unpacked, from their headers: before any is read.

A page of a few bytes may unpack to gigabytes, and one long string in a dictionary may be the cell of a million rows.
Neither shows in the footer, so the headers themselves are read: structs of Thrift's compact protocol, of which the
fields are numbered. See https://parquet.apache.org/docs/file-format/data-pages/ and parquet.thrift.
"""

from __future__ import annotations

import contextlib
import os
import struct
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
TRUE, FALSE, BYTE, I16, I32, I64, DOUBLE, BINARY, STRUCT = 1, 2, 3, 4, 5, 6, 7, 8, 12


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
    about, row_bytes = file.metadata.row_group(group), 0.0
    for index in range(about.num_columns):
        column = about.column(index)
        path = column.path_in_schema
        if names is None or any(path == name or path.startswith(f"{name}.") for name in names):
            is_nested = file.schema.column(index).max_repetition_level > 0
            row_bytes += _row_bytes(content, column, about.num_rows if is_nested else 0, max_rows)
    return max(1, min(max_rows, int(MAX_BATCH / max(row_bytes, 1))))


def _row_bytes(content: BinaryIO, column: Any, nested_rows: int, max_rows: int) -> float:
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


def pages(content: BinaryIO, column: Any) -> Iterator[Page]:
    """The pages of a column in a row group.

    Raises:
        ValueError: one is not where it should be.
    """
    starts = (column.dictionary_page_offset, column.data_page_offset)
    position = min(start for start in starts if start)
    end = position + column.total_compressed_size
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


def _longest(content: BinaryIO, column: Any, page: Page) -> int:
    """The length of the longest string in a dictionary; as long as the dictionary if it cannot be unpacked."""
    import pyarrow

    if column.physical_type != "BYTE_ARRAY":
        return 16
    raw: Any = _read(content, page.begin, page.end - page.begin)
    try:
        if column.compression != "UNCOMPRESSED":
            raw = memoryview(pyarrow.decompress(raw, page.size, column.compression.lower()))
    except (pyarrow.ArrowException, ValueError, OSError):
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
    if kind == BINARY:  # a string is not needed
        length, position = _unsigned(content, position)
        return None, position + length
    if kind == STRUCT:
        return _struct(content, position)
    raise KeyError(kind)  # a header has no lists


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
