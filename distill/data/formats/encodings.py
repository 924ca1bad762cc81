"""The encoding of text files: UTF-8 with or without a byte order mark, or GB18030."""

from __future__ import annotations

import codecs
from collections.abc import Iterable
from itertools import chain, islice
from pathlib import Path

from distill.errors import UserError

FIRST_CJK = "\u2e80"
SAMPLE = 1000  # lines with other characters than ASCII from which the encoding of a stream is guessed
UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def read_text(path: Path) -> str:
    """A whole text file, decoded as :func:`file_encoding` says."""
    return path.read_bytes().decode(file_encoding(path))


def file_encoding(path: Path) -> str:
    """The encoding in which every line of a file is valid; the file is read line by line.

    A file whose first invalid byte in UTF-8 comes after Chinese text in UTF-8 is damaged; it is not taken for GB18030.

    Raises:
        UserError: there is none; the message names the line.
    """
    with path.open("rb") as file:
        _refuse_utf16(file.read(2), path)
    line, is_chinese = _first_invalid_line(path, "utf-8")
    if not line:
        return "utf-8-sig"
    if not is_chinese:
        line, _ = _first_invalid_line(path, "gb18030")
        if not line:
            return "gb18030"
    raise _neither(f"{path}:{line}")


def sample_encoding(lines: Iterable[bytes], name: str) -> str:
    """The encoding in which at least half of the first lines beyond ASCII are valid, at most ``SAMPLE`` of them.

    A stream cannot be read to its end first. Chinese lines in GB18030 are hardly ever valid UTF-8, so the majority is
    reliable; a later line that does not decode is a bad row.

    Raises:
        UserError: there is none.
    """
    lines = iter(lines)
    first = next(lines, b"")
    _refuse_utf16(first, name)
    sample = list(islice((line for line in chain([first], lines) if not line.isascii()), SAMPLE))
    for encoding in ("utf-8", "gb18030"):
        if 2 * sum(_is_valid(line, encoding) for line in sample) >= len(sample):
            return encoding
    raise _neither(name)


def _refuse_utf16(start: bytes, where: object) -> None:
    if start.startswith(UTF16):
        raise UserError("the file is UTF-16", where, "save it as UTF-8")


def _neither(where: str) -> UserError:
    return UserError("bytes that are neither UTF-8 nor GB18030", where, "save the file as UTF-8")


def _first_invalid_line(path: Path, encoding: str) -> tuple[int, bool]:
    """The number of the first invalid line (0: none), and whether there is Chinese text before the invalid bytes.

    Lines may be decoded one by one: in both encodings, the byte of a line feed is part of no other character.
    """
    is_chinese = False
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            try:
                text, is_invalid = line.decode(encoding), False
            except UnicodeDecodeError as error:
                text, is_invalid = line[: error.start].decode(encoding), True
            is_chinese = is_chinese or max(text, default="") >= FIRST_CJK
            if is_invalid:
                return number, is_chinese
    return 0, is_chinese


def _is_valid(line: bytes, encoding: str) -> bool:
    try:
        line.decode(encoding)
    except UnicodeDecodeError:
        return False
    return True
