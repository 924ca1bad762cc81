"""Rows of text files in UTF-8, found by the kernels without Python strings, and written with their labels.

The kernels find the usual rows and decline all others (kernels/rows.c). Who calls them reads what they decline.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from distill.runtime.constants import ROWS_DECLINED, ROWS_END
from distill.runtime.native import library
from distill.runtime.packing import Utf8Texts
from distill.runtime.structs import LineBlock, RowBuffer, RowEnding, RowFormat, address

Bytes = NDArray[np.uint8]
Spans = NDArray[np.int64]  # (texts, 2): begin and end in bytes
MAX_WRITTEN = 9.9  # the kernels write smaller probabilities


class ScanResult(NamedTuple):
    """Why a scan ended, and how many bytes and lines it passed."""

    is_declined: bool
    needs_more: bool
    size: int
    lines: int


class RowScanner:
    """Finds rows in blocks of a file, and collects them.

    Args:
        row_format: how they are read.
        max_rows: maximum of rows that are collected at a time.
        max_bytes: approximate maximum size of the collected rows.
    """

    def __init__(self, row_format: RowFormat, max_rows: int, max_bytes: int) -> None:
        self._format = row_format
        self._rows, self._texts = np.empty((max_rows, 2), np.int64), np.empty((max_rows, 2), np.int64)
        self._content: Bytes = np.empty(0, np.uint8)
        self._buffer = RowBuffer.of(rows=self._rows, texts=self._texts, max_rows=max_rows)
        self._reserve(max_bytes)
        self._scan, self._add = library().distill_scan_rows, library().distill_add_row

    def __len__(self) -> int:
        return int(self._buffer.count)

    def scan(self, block: bytes, begin: int, stop: int, is_last: bool) -> ScanResult:
        """Collect the rows that begin from ``begin`` to before ``stop``, until there are enough or one is declined.

        Args:
            block: a part of the file.
            begin: where a line begins in it.
            stop: a row that begins before may end behind it.
            is_last: nothing follows the block; else its last line is not read if it may go on.
        """
        start = ctypes.cast(ctypes.c_char_p(block), ctypes.c_void_p).value
        lines = LineBlock(start, begin, len(block), stop, 0, is_last)
        outcome = self._scan(self._format, lines, self._buffer)
        return ScanResult(outcome == ROWS_DECLINED, outcome == ROWS_END and not is_last, lines.at - begin, lines.lines)

    def add(self, row: str, text: str) -> None:
        """Collect a row that was read by Python."""
        content, text_content = row.encode(), text.encode()
        size = self._buffer.size + len(content) + len(text_content)
        if size > len(self._content):
            self._reserve(size)
        self._add(self._buffer, content, len(content), text_content, len(text_content))

    def take(self) -> ScannedRows:
        """The collected rows, which are removed here."""
        count = len(self)
        taken = ScannedRows(
            self._content[: self._buffer.size].copy(), self._rows[:count].copy(), self._texts[:count].copy()
        )
        self._buffer.count = self._buffer.size = 0
        return taken

    def _reserve(self, size: int) -> None:
        """Make room for this many bytes; the system provides memory for them as they are used."""
        content = np.empty(size + size // 2, np.uint8)
        content[: self._buffer.size] = self._content[: self._buffer.size]
        self._content = content
        self._buffer.content, self._buffer.capacity = address(content), len(content)


class ScannedRows:
    """Rows as bytes, without their line ends, and their texts."""

    def __init__(self, content: Bytes, rows: Spans, texts: Spans) -> None:
        self.texts = Utf8Texts(content, texts)
        self._content, self._rows = content, rows

    def __len__(self) -> int:
        return len(self._rows)

    def __iter__(self) -> Iterator[str]:
        return iter(Utf8Texts(self._content, self._rows))

    def with_labels(
        self, ending: Ending, classes: NDArray[np.int64], probabilities: NDArray[np.float32]
    ) -> bytes | None:
        """The rows, each followed by its label and probability; None: the kernels do not write such probabilities."""
        if not ((probabilities > 0) & (probabilities < MAX_WRITTEN)).all():
            return None
        sizes = (self._rows[:, 1] - self._rows[:, 0]).sum() + ending.sizes[classes].sum()
        out = np.empty(int(sizes), np.uint8)
        classes = np.ascontiguousarray(classes, np.int64)
        probabilities = np.ascontiguousarray(probabilities, np.float32)
        library().distill_write_rows(
            address(self._content),
            address(self._rows),
            len(self),
            address(classes),
            address(probabilities),
            ending.struct,
            address(out),
        )
        return out.tobytes()


def trim(texts: Utf8Texts) -> bool:
    """Remove the white space around texts; one in which nothing is visible becomes empty.

    Returns:
        Whether all are valid UTF-8. If not, the spans are of no use.
    """
    return bool(library().distill_trim_texts(address(texts.content), address(texts.spans), len(texts)))


class Ending:
    """What follows a row: the bytes of its class, its probability, and the same bytes for all rows.

    Attributes:
        sizes: bytes that are appended to a row, by class.
    """

    def __init__(self, labels: Sequence[bytes], end: bytes) -> None:
        starts = np.array([0, *accumulate(map(len, labels))], np.int64)
        self.sizes = np.diff(starts) + len("0.00000") + len(end)
        self.struct = RowEnding.of(
            labels=np.frombuffer(b"".join(labels) or b"\0", np.uint8),
            label_starts=starts,
            end=np.frombuffer(end, np.uint8),
            end_size=len(end),
        )


def row_format(kind: int, keys: Sequence[str] = (), **values: Any) -> RowFormat:
    """How rows are read; ``keys`` of JSON objects: that of the text, then those that leave an object to Python."""
    encoded = [key.encode(errors="surrogatepass") for key in keys]
    return RowFormat.of(
        kind=kind,
        keys=np.frombuffer(b"".join(encoded) or b"\0", np.uint8),
        key_starts=np.array([0, *accumulate(map(len, encoded))], np.int64),
        key_count=len(keys),
        **values,
    )
