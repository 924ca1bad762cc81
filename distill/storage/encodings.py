"""What the bytes of a text file are: compressed or not, UTF-8, GB18030 or UTF-16, with which line ends.

:func:`open_text` turns all of them into bytes whose lines end with a line feed, in UTF-8 or GB18030.
"""

from __future__ import annotations

import bz2
import codecs
import gzip
import io
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import BinaryIO, cast

from distill.errors import UserError, require_package

ENCODINGS = ("utf-8", "gb18030")
FREQUENT = "的一是不了在人有我他中大上和你就到也好天"  # in simplified and traditional texts
FIRST_CJK = "\u2e80"
SAMPLE, SAMPLE_SIZE = 1000, 2**24  # lines with other characters than ASCII from which the encoding is guessed; bytes
MAX_LINE = 2**20  # bytes; a longer line is a bad row, and its rest is dropped
MAX_FILE = 2**24  # bytes of a small file that is read as a whole
HEAD = 2**20  # bytes that are read ahead to find out what a file is
BLOCK = 2**20  # bytes that are read at a time
MAGIC = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\x28\xb5\x2f\xfd": "zstd"}  # first bytes of compressed files
MAGIC_TAR, TAR_AT = b"ustar", 257  # what an archive has there
COMPRESSED_SUFFIXES = (".gz", ".bz2", ".zst")
UTF16 = {codecs.BOM_UTF16_LE: "utf-16-le", codecs.BOM_UTF16_BE: "utf-16-be"}

Blocks = Iterator[bytes]


@dataclass(frozen=True)
class TextSource:
    """Bytes in UTF-8 or GB18030 whose lines end with a line feed, and what was done to get them, in words."""

    file: BinaryIO
    notes: tuple[str, ...]

    @property
    def is_original(self) -> bool:
        """Whether positions in ``file`` are those in the original."""
        return not self.notes


def read_text(path: Path, max_size: int = MAX_FILE) -> str:
    """A whole small text file, without a byte order mark.

    Raises:
        UserError: a line is neither UTF-8 nor GB18030, or the file is damaged or longer than ``max_size`` bytes.
    """
    with path.open("rb") as file:
        content = open_text(file, path).file.read(max_size + 1)
    if len(content) > max_size:
        raise UserError(f"it is longer than {max_size:,} bytes", path, "check that it is the right file, or shorten it")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        invalid = error.start
    if max(content[:invalid].decode(), default="") < FIRST_CJK:  # else it is UTF-8, and the file is damaged
        try:
            return content.decode("gb18030")
        except UnicodeDecodeError as error:
            invalid = error.start
    line = content.count(b"\n", 0, invalid) + 1
    raise _neither(f"{path}:{line}")


def open_text(file: BinaryIO, name: object, *, is_stream: bool = False) -> TextSource:
    """Decompress a file, recode UTF-16 as UTF-8, and end lines with line feeds where they end with carriage returns.

    Args:
        file: positioned at its beginning.
        name: of the file, for messages.
        is_stream: whether the file cannot be read again.

    Raises:
        UserError: it is an archive of several files; or, when it is read, the compressed data are damaged.
    """
    notes = []
    if is_stream:
        file = _buffered(_once(chain([file.read(HEAD)], _blocks(file))))
    kind = compression(_head(file, is_stream))
    if kind:
        file = _buffered(_opener(file, kind, name, is_stream))
        notes.append(kind)
    head = _head(file, is_stream)
    if head[TAR_AT:].startswith(MAGIC_TAR):
        raise UserError("a tar archive, not a text file", name, "unpack it first: tar -xf FILE")
    encoding = _utf16(head)
    if encoding:
        file, notes = _recoded(file, lambda blocks: _to_utf8(blocks, encoding), is_stream), [*notes, "UTF-16"]
        head = _head(file, is_stream)
    if b"\n" not in head and b"\r" in head.rstrip(b"\r"):
        file, notes = _recoded(file, _with_line_feeds, is_stream), [*notes, "lines end with carriage returns"]
    return TextSource(file, tuple(notes))


def compression(head: bytes) -> str:
    """The kind of compression, from a file's first bytes; empty: there is none."""
    return next((kind for magic, kind in MAGIC.items() if head.startswith(magic)), "")


def sample_encoding(lines: Iterable[bytes], name: str) -> str:
    """The encoding in which at least half of the first lines beyond ASCII are valid, at most ``SAMPLE`` of them.

    Chinese lines in GB18030 are hardly ever valid UTF-8, so the majority is reliable; a line that does not decode is a
    bad row.

    Raises:
        UserError: there is none.
    """
    sample = list(islice(_up_to(SAMPLE_SIZE, (line for line in lines if not line.isascii())), SAMPLE))
    for encoding in ENCODINGS:
        if 2 * sum(_is_valid(line, encoding) for line in sample) >= len(sample):
            if encoding == "gb18030" and _frequent(sample, "big5") > 2 * _frequent(sample, encoding) + 4:
                raise UserError("this looks like Big5, which is not read", name, "save the file as UTF-8")
            return encoding
    raise _neither(name)


def _up_to(size: int, lines: Iterable[bytes]) -> Iterator[bytes]:
    """The first lines, until they are ``size`` bytes long."""
    for line in lines:
        yield line
        size -= len(line)
        if size <= 0:
            break


def _frequent(lines: Iterable[bytes], encoding: str) -> int:
    """How many of the most frequent characters of Chinese there are; text in another encoding has hardly any."""
    text = b"".join(lines).decode(encoding, "ignore")
    return sum(map(text.count, FREQUENT))


def _neither(where: str) -> UserError:
    return UserError("bytes that are neither UTF-8 nor GB18030", where, "save the file as UTF-8")


def _is_valid(line: bytes, encoding: str) -> bool:
    """Whether a line can be decoded; the beginning of one that is too long may end within a character."""
    try:
        codecs.getincrementaldecoder(encoding)().decode(line, final=len(line) < MAX_LINE)
    except UnicodeDecodeError:
        return False
    return True


class _BlockReader(io.RawIOBase):
    """A file made of blocks; ``open_blocks`` starts them again when the reader goes back."""

    def __init__(self, open_blocks: Callable[[], Blocks]) -> None:
        self._open_blocks = open_blocks
        self._rest, self._blocks, self._position = memoryview(b""), open_blocks(), 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        while not self._rest:
            block = next(self._blocks, None)
            if block is None:
                return 0
            self._rest = memoryview(block)
        size = min(len(buffer), len(self._rest))
        buffer[:size], self._rest = self._rest[:size], self._rest[size:]
        self._position += size
        return size

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        if whence == io.SEEK_CUR:
            offset += self._position
        if offset < self._position:
            self._rest, self._blocks, self._position = memoryview(b""), self._open_blocks(), 0
        block = bytearray(BLOCK)
        while self._position < offset and self.readinto(memoryview(block)[: offset - self._position]):
            pass
        return self._position


def _buffered(open_blocks: Callable[[], Blocks]) -> BinaryIO:
    return cast(BinaryIO, io.BufferedReader(_BlockReader(open_blocks), HEAD))


def _once(blocks: Blocks) -> Callable[[], Blocks]:
    return lambda: blocks


def _blocks(file: BinaryIO) -> Blocks:
    while block := file.read(BLOCK):
        yield block


def _head(file: BinaryIO, is_stream: bool) -> bytes:
    """The first bytes; the file is positioned at its beginning again."""
    if is_stream:
        return cast(io.BufferedReader, file).peek(HEAD)
    head = file.read(HEAD)
    file.seek(0)
    return head


def _recoded(file: BinaryIO, recode: Callable[[Blocks], Blocks], is_stream: bool) -> BinaryIO:
    def open_blocks() -> Blocks:
        if not is_stream:
            file.seek(0)
        return recode(_blocks(file))

    return _buffered(open_blocks)


def _opener(file: BinaryIO, kind: str, name: object, is_stream: bool) -> Callable[[], Blocks]:
    if kind == "zstd":
        require_package("pyarrow", "a .zst file", "pip install pyarrow, or decompress it: zstd -d FILE", name)

    def open_blocks() -> Blocks:
        if not is_stream:
            file.seek(0)
        try:
            yield from _blocks(_decompressed(file, kind))
        except (EOFError, OSError, ValueError, zlib.error) as error:
            raise UserError(f"damaged {kind} file: {error}", name, "copy or compress it again") from error

    return open_blocks


def _decompressed(file: BinaryIO, kind: str) -> BinaryIO:
    if kind == "gzip":
        return cast(BinaryIO, gzip.GzipFile(fileobj=file))
    if kind == "bzip2":
        return cast(BinaryIO, bz2.BZ2File(file))
    import pyarrow

    unclosed = _buffered(_once(_blocks(file)))  # pyarrow closes what it reads, and the file is read again
    return cast(BinaryIO, pyarrow.CompressedInputStream(pyarrow.PythonFile(unclosed, mode="r"), kind))


def _utf16(head: bytes) -> str:
    """The kind of UTF-16, from the byte order mark or, without one, from the zero bytes of ASCII; empty: it is none."""
    marked = next((encoding for mark, encoding in UTF16.items() if head.startswith(mark)), "")
    zeros = head.count(0)
    if marked or not zeros or len(head) < 4 or _are_stray(zeros, head):
        return marked
    for encoding in UTF16.values():
        try:
            text = codecs.getincrementaldecoder(encoding)().decode(head)  # half a character at the end is no error
        except UnicodeDecodeError:
            continue
        has_lines = "\n" in text or "\r" in text
        if (
            has_lines
            and "\0" not in text
            and sum(char.isprintable() or char.isspace() for char in text) >= 0.95 * len(text)
        ):
            return encoding
    return ""


def _are_stray(zeros: int, head: bytes) -> bool:
    """Whether zero bytes are part of a damaged file in UTF-8 or GB18030."""
    if zeros >= 0.02 * len(head):
        return zeros < 0.3 * len(head) and _is_valid(head, "utf-8")
    lines = head.split(b"\n")
    return any(2 * sum(_is_valid(line, encoding) for line in lines) >= len(lines) for encoding in ENCODINGS)


def _to_utf8(blocks: Blocks, encoding: str) -> Blocks:
    """Lone surrogates and half a character at the end become U+FFFD."""
    decoder = codecs.getincrementaldecoder(encoding)("replace")
    for block in blocks:
        yield decoder.decode(block).encode()
    yield decoder.decode(b"", final=True).encode()


def _with_line_feeds(blocks: Blocks) -> Blocks:
    return (block.replace(b"\r", b"\n") for block in blocks)
