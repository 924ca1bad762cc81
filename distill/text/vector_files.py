"""Files of word vectors, read as a stream: the rows of chosen words, and a count of the rows that cannot be used.

Formats: word2vec's text format (also fastText's ``.vec``, the ``sgns.*`` files, and GloVe's, which has no first line
with the sizes) and binary format, and gensim's own (:mod:`distill.text.gensim_pickle`). A file may be compressed
(gzip, bzip2, xz). Every row must be a word and a vector of finite numbers; text is parsed into numbers only for the
chosen words, and other rows are checked by their characters.
"""

from __future__ import annotations

import bz2
import codecs
import gzip
import lzma
import re
import zlib
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, BinaryIO, cast

import numpy as np
from numpy.typing import NDArray

from distill.errors import UserError
from distill.progress import progress_bar, with_progress_bar
from distill.text.gensim_pickle import is_pickle, read_keyed_vectors

ENCODINGS = ("utf-8", "gb18030")  # of the words; UTF-16 is read as UTF-8
Rows = NDArray[np.float32]

INCOMPLETE = "the file is cut short"
COPY_AGAIN = "copy or download it again"
USE_ANOTHER_FORMAT = (
    "use a file in word2vec's text or binary format, such as sgns.wiki.word, GloVe's, or gensim's KeyedVectors"
)
NOT_VECTORS = {  # first bytes of files that people give instead
    b"PK\3\4": ("a zip archive", "unpack it"),
    b"7z\xbc\xaf": ("a 7z archive", "unpack it"),
    b"Rar!": ("a rar archive", "unpack it"),
    b"\xba\x16\x4f\x2f": ("a model of fastText", "use the .vec file of the same name"),
    b"\x93NUMPY": ("an array without words", "name the file next to it, without .vectors.npy"),
}
COMPRESSED: dict[bytes, Any] = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ": lzma.open}

MAX_LINE = 1 << 20  # bytes; a longer line is an unusable row, and its rest is dropped
MAX_WIDTH = 1 << 16  # numbers per vector
SAMPLE = 1 << 18  # bytes from which the layout is detected
SAMPLE_ROWS = 200
EXAMPLES = 3  # unusable rows that a message shows
PLAIN = b"0123456789+-.eE "  # characters of numbers and their separator
NUMBER = PLAIN + b"\t\r\v\fainftyAINFTY"  # also "nan" and "infinity"
SIZE = re.compile(rb"[0-9]{1,18}")  # in the first line
LARGE = re.compile(rb"[eE]\+?[0-9]{2}")  # an exponent with which a number may be infinite


@dataclass
class VectorTable:
    """What was read from a file.

    Attributes:
        width: numbers per vector.
        announced: number of rows according to the file's first line; None without such a line.
        vectors: of the chosen words that were found, in the file's order; the first one of a repeated word.
        total: number of rows.
        repeated: rows of chosen words that came before.
        unusable: number of rows that are not a word and a vector of finite numbers.
        examples: the first unusable rows, each as a phrase for a message.
    """

    width: int
    announced: int | None = None
    vectors: dict[bytes, Rows] = field(default_factory=dict)
    total: int = 0
    repeated: int = 0
    unusable: int = 0
    examples: list[str] = field(default_factory=list)

    def add(self, word: bytes, vector: Rows) -> None:
        """Keep the vector of a chosen word."""
        self.repeated += word in self.vectors
        self.vectors.setdefault(word, vector)

    def set_aside(self, row: bytes, where: str, problem: str) -> None:
        """Count a row that cannot be used."""
        self.unusable += 1
        if len(self.examples) < EXAMPLES:
            shown = decode(row.strip()[:40])[:20]
            self.examples.append(f"{where} ({shown!r}): {problem}")

    @property
    def max_unusable(self) -> int:
        """How many rows may be unusable: one in a thousand; in a small file up to three, about one in ten."""
        return max(self.total // 1000, min(3, round(self.total / 10)))


def read_table(path: Path, words: Collection[bytes], chunk: int) -> VectorTable:
    """Read the rows of ``words``, given in the file's encoding; UTF-16 is converted to UTF-8.

    Args:
        path: the file.
        words: the words whose vectors are kept.
        chunk: bytes read at a time.

    Raises:
        UserError: the file is not one of word vectors, is incomplete, or has too many unusable rows.
    """
    try:
        with _open(path) as file, np.errstate(over="ignore"):  # a number that is too large becomes infinity
            start = file.read(SAMPLE)
            _refuse_other_files(start, path)
            if is_pickle(start):
                file.seek(0)
                table = _read_pickle(file, path, words)
            else:
                table = _read_rows(file, start, path, words, chunk)
    except (EOFError, OSError, zlib.error, lzma.LZMAError, UnicodeDecodeError) as error:
        raise UserError(f"{INCOMPLETE} or not readable: {error}", path, COPY_AGAIN) from error
    _check(table, path)
    return table


def decode(raw: bytes) -> str:
    """Bytes of a file as text for a message; an incomplete last character is left out."""
    for encoding in ENCODINGS:
        try:
            return codecs.getincrementaldecoder(encoding)().decode(raw)
        except UnicodeDecodeError:
            continue
    return raw.decode("utf-8", "replace")


def _open(path: Path) -> BinaryIO:
    """The decompressed bytes; the first bytes decide, not the suffix."""
    with path.open("rb") as file:
        start = file.read(6)
    opener = next((opener for magic, opener in COMPRESSED.items() if start.startswith(magic)), open)
    return cast(BinaryIO, opener(path, "rb"))


def _refuse_other_files(start: bytes, path: Path) -> None:
    if not start.strip():
        raise UserError("the file is empty", path, USE_ANOTHER_FORMAT)
    kinds = {**NOT_VECTORS, start[:257] + b"ustar": ("a tar archive", "unpack it")}
    for magic, (kind, hint) in kinds.items():
        if start.startswith(magic):
            raise UserError(f"this is {kind}, not a file of word vectors", path, hint)


def _check(table: VectorTable, path: Path) -> None:
    """Refuse a file that is incomplete or has too many unusable rows."""
    if table.announced is not None and table.total < table.announced:
        raise UserError(f"{INCOMPLETE}: {table.total} rows of {table.announced}", path, COPY_AGAIN)
    if table.unusable > table.max_unusable:
        raise UserError(
            f"{table.unusable} of {table.total} rows are not a word and {table.width} finite numbers: "
            + "; ".join(table.examples),
            path,
            f"{COPY_AGAIN}, or correct these rows; up to {table.max_unusable} would be left out",
        )


def _read_pickle(file: BinaryIO, path: Path, words: Collection[bytes]) -> VectorTable:
    keys, vectors = read_keyed_vectors(file, path)
    table = VectorTable(vectors.shape[1])
    for table.total, (key, row) in enumerate(zip(keys, vectors, strict=True), 1):
        word, vector = key.encode("utf-8", "surrogatepass"), np.array(row, np.float32)
        if not word or not np.isfinite(vector).all():
            table.set_aside(word, f"row {table.total}", "not finite" if word else "no word")
        elif word in words:
            table.add(word, vector)
    return table


def _read_rows(file: BinaryIO, start: bytes, path: Path, words: Collection[bytes], chunk: int) -> VectorTable:
    """Read a text or binary file, of which ``start`` has been read."""
    if start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        file.seek(0)
        file = cast(BinaryIO, codecs.EncodedFile(cast(IO[bytes], file), "utf-8", "utf-16"))
        start = file.read(SAMPLE)
    body, table, is_binary = _detect_layout(start.removeprefix(codecs.BOM_UTF8), path)
    chunks = _chunks(file, body, chunk)
    if is_binary:
        _read_binary(chunks, path, table, words)
    else:
        _read_text(chunks, table, words)
    return table


def _chunks(file: BinaryIO, start: bytes, size: int) -> Iterator[bytes]:
    while start:
        yield start
        start = file.read(size)


def _detect_layout(start: bytes, path: Path) -> tuple[bytes, VectorTable, bool]:
    """What follows the line with the sizes, an empty table, and whether the rows are binary.

    Up to ``SAMPLE_ROWS`` rows are read as text and as binary numbers, and the better reading wins: any single row may
    be unusable, or look like the other format.
    """
    first, _, rest = start.partition(b"\n")
    sizes = first.split()
    has_sizes = len(sizes) == 2 and all(SIZE.fullmatch(size) for size in sizes) and int(sizes[1]) > 0
    body = rest if has_sizes else start
    lines = [line for line in body.split(b"\n") if line.strip()][:SAMPLE_ROWS]
    counts = Counter(len(line.split()) - 1 for line in lines)
    width = int(sizes[1]) if has_sizes else max(counts, key=lambda count: counts[count], default=0)
    if width > MAX_WIDTH:
        raise UserError(f"{width:,} numbers per word; at most {MAX_WIDTH:,} are read", path, USE_ANOTHER_FORMAT)
    table = VectorTable(width, int(sizes[0]) if has_sizes else None)
    text = sum(_is_text_row(line, width) for line in lines) / max(len(lines), 1) if width else 0.0
    binary = _binary_share(body, width) if has_sizes else 0.0
    if not text and not binary and body.strip():
        raise UserError(_no_rows(lines, width, has_sizes), path, USE_ANOTHER_FORMAT)
    return body, table, binary > text


def _no_rows(lines: list[bytes], width: int, has_sizes: bool) -> str:
    """Why a file is not one of word vectors."""
    if has_sizes:
        numbers = len(lines[0].split()) - 1
        return f"the first line says {width} numbers per word, but the next line has {numbers}"
    return f"no line is a word and numbers; the first line is {decode(lines[0][:60])[:40]!r}"


def _is_text_row(line: bytes, width: int) -> bool:
    fields = line.rsplit(None, width)
    return len(fields) == width + 1 and not b"".join(fields[1:]).translate(None, NUMBER)


def _binary_share(body: bytes, width: int) -> float:
    """The share of the first rows whose numbers, read as binary, are mostly bytes that no number in text has."""
    rows = sound = begin = 0
    size = 4 * width
    while rows < SAMPLE_ROWS:
        space = body.find(b" ", begin)
        end = space + 1 + size
        if space < 0 or end > len(body):
            break
        sound += len(body[space + 1 : end].translate(None, NUMBER)) > size / 2
        rows, begin = rows + 1, end
    return sound / max(rows, 1)


def _read_text(chunks: Iterator[bytes], table: VectorTable, words: Collection[bytes]) -> None:
    """Rows of a word and numbers between spaces or tabs. A word may contain spaces: the last numbers are the vector."""
    width, first_line = table.width, 1 if table.announced is None else 2
    lines = with_progress_bar(_lines(chunks), "word vectors", table.announced or 0, "rows")
    for number, line in enumerate(lines, first_line):
        if len(line) > MAX_LINE:
            table.total += 1
            table.set_aside(line[:SAMPLE], f"line {number}", f"longer than {MAX_LINE:,} bytes")
            continue
        word, _, numbers = line.rstrip().partition(b" ")
        problem = ""
        if not word or numbers.count(b" ") != width - 1 or numbers.translate(None, PLAIN):
            if not line.strip():
                continue
            word, numbers, problem = _unusual_row(line, width)
        table.total += 1
        if not problem and (word in words or (b"e" in numbers and LARGE.search(numbers))):
            vector = _parse(numbers)
            if len(vector) != width or not np.isfinite(vector).all():
                problem = _number_problem(numbers.split(), width)
            elif word in words:
                table.add(word, vector)
        if problem:
            table.set_aside(line, f"line {number}", problem)


def _lines(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """The lines without their ends; of one that is longer than ``MAX_LINE`` and a chunk, only the beginning."""
    rest = b""
    for chunk in chunks:
        first, *lines = chunk.split(b"\n")
        if len(rest) <= MAX_LINE:
            rest += first
        if lines:
            yield rest
            rest = lines.pop()
            yield from lines
    if rest:
        yield rest


def _parse(numbers: bytes) -> Rows:
    """The numbers; NaN where a field is not a number."""
    fields = numbers.split()
    try:
        return np.array(fields, np.float32)
    except ValueError:
        return np.full(len(fields), np.nan, np.float32)


def _unusual_row(line: bytes, width: int) -> tuple[bytes, bytes, str]:
    """Word, numbers and problem of a row that is not a word and numbers between single spaces."""
    fields = line.rsplit(None, width)
    if len(fields) <= width:
        has_no_word = len(fields) == width and line[:1].isspace()
        return b"", b"", "no word" if has_no_word else _number_problem(fields[1:], width)
    word, *numbers = fields
    extra = word.split()[1:]
    if extra and _is_like(extra[-1], numbers[0]):  # a row of too many numbers, not a word with spaces
        return b"", b"", _number_problem(extra + numbers, width)
    problem = _number_problem(numbers, width) if b"".join(numbers).translate(None, PLAIN) else ""
    return word.strip(), b" ".join(numbers), problem


def _is_like(extra: bytes, number: bytes) -> bool:
    """Whether the last field of a word is written like the first number."""
    return not extra.translate(None, PLAIN) and extra[-1:].isdigit() and (b"." in extra) == (b"." in number)


def _number_problem(numbers: list[bytes], width: int) -> str:
    if len(numbers) != width:
        return f"{len(numbers)} numbers, {width} expected"
    unusable = [number for number in numbers if number.translate(None, PLAIN) or not np.isfinite(_parse(number)).all()]
    return f"{decode(unusable[0])[:20]!r} is not a finite number" if unusable else ""


def _read_binary(chunks: Iterator[bytes], path: Path, table: VectorTable, words: Collection[bytes]) -> None:
    """Rows of a word, a space and little-endian float32, with or without a line feed at the end."""
    buffer, size = b"", 4 * table.width
    with progress_bar("word vectors", table.announced or 0, "rows") as bar:
        for chunk in chunks:
            buffer += chunk
            words_at, end = _binary_rows(buffer, size)
            _add_binary(buffer, words_at, table, words)
            buffer = buffer[end:]
            if len(buffer) > MAX_LINE + size:
                raise UserError(
                    f"row {table.total + 1} has no word: it is longer than {MAX_LINE:,} bytes", path, COPY_AGAIN
                )
            bar.update(len(words_at))
    rest = buffer.strip(b"\n")
    if rest and table.total < (table.announced or 0):
        raise UserError(f"{INCOMPLETE}, within a row", path, COPY_AGAIN)
    if rest:
        table.total += 1
        table.set_aside(rest, "after the last row", f"{len(rest)} bytes")


def _binary_rows(buffer: bytes, size: int) -> tuple[list[tuple[int, int]], int]:
    """Where the words of the complete rows begin and end, and where the last row ends; ``size`` is that of a vector."""
    words_at, begin, last_space = [], 0, len(buffer) - size - 1
    while 0 <= (space := buffer.find(b" ", begin)) <= last_space:
        words_at.append((begin, space))
        begin = space + 1 + size
    return words_at, begin


def _add_binary(buffer: bytes, words_at: list[tuple[int, int]], table: VectorTable, words: Collection[bytes]) -> None:
    width = table.width
    for (begin, space), is_huge in zip(words_at, _has_huge_numbers(buffer, words_at, width), strict=True):
        table.total += 1
        word = buffer[begin:space].lstrip(b"\n")
        if not word:
            table.set_aside(word, f"row {table.total}", "no word")
        elif is_huge and not np.isfinite(np.frombuffer(buffer, "<f4", width, space + 1)).all():
            table.set_aside(word, f"row {table.total}", "not finite")
        elif word in words:
            table.add(word, np.frombuffer(buffer, "<f4", width, space + 1).astype(np.float32))


def _has_huge_numbers(buffer: bytes, words_at: list[tuple[int, int]], width: int) -> list[bool]:
    """Whether a row has a number above 1.7e38, infinity or NaN: its highest byte is 7f or ff."""
    if not words_at:
        return []
    spaces = np.array([space for _, space in words_at])
    highest = np.frombuffer(buffer, np.uint8)[spaces[:, None] + 4 * np.arange(1, width + 1)]
    is_huge: list[bool] = ((highest & 0x7F) == 0x7F).any(1).tolist()
    return is_huge
