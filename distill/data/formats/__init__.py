"""File formats, one module per format. Training, ``--unlabeled`` and ``--mode predict`` open files in the same way.

:func:`open_file` finds out from the content what a file is; its suffix only decides between several readings. A new
text format is a module with a function ``recognise`` and a line in :data:`TEXT_FORMATS`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterator
from pathlib import Path, PurePath
from typing import BinaryIO

from distill.data.formats import excel, json_records, parquet, plain_text, tables
from distill.data.formats.json_records import JsonDocument
from distill.data.formats.labelling import OutputSpec, RowFile
from distill.data.formats.records import Columns
from distill.data.formats.text_lines import LineRows, Lines, TextFormat
from distill.errors import UserError
from distill.storage.encodings import COMPRESSED_SUFFIXES, open_text

# Per suffix of a data file the suffix of the file with labels; compressed text files have a further suffix.
SUFFIXES = {
    ".json": ".json",
    ".jsonl": ".jsonl",
    ".ndjson": ".ndjson",
    ".csv": ".csv",
    ".tsv": ".tsv",
    ".tab": ".tab",
    ".txt": ".txt",
    ".parquet": ".parquet",
    ".xlsx": ".csv",
}
BINARY_SUFFIXES = (".parquet", ".xlsx")
MAGIC_PARQUET, MAGIC_EXCEL, MAGIC_OLD_EXCEL = b"PAR1", b"PK\x03\x04", b"\xd0\xcf\x11\xe0"

Recogniser = Callable[[Lines, str, Columns], TextFormat | JsonDocument | None]
TEXT_FORMATS: list[Recogniser] = [  # the first one that recognises a file wins
    json_records.recognise,
    plain_text.recognise_marked,
    tables.recognise,
    plain_text.recognise,
]


@contextlib.contextmanager
def open_file(path: Path, columns: Columns, spec: OutputSpec | None = None) -> Iterator[RowFile]:
    """Open a data file of any format.

    Args:
        path: the file.
        columns: that are read.
        spec: what is added to the rows; None: the file is read for training.

    Raises:
        UserError: the file is missing or damaged, a package is not installed, or a column is missing.
    """
    if not path.is_file():
        raise UserError("no such file", path, "check the path, or see data/README.md for the formats")
    with path.open("rb") as file:
        magic = file.read(4)
        file.seek(0)
        suffix = suffix_of(path)
        if magic == MAGIC_OLD_EXCEL:
            raise UserError("an old format of Excel", path, "save it as .xlsx or as CSV UTF-8")
        if magic == MAGIC_PARQUET or suffix == ".parquet":
            with parquet.open_rows(path, columns, spec) as rows:
                yield rows
        elif magic == MAGIC_EXCEL or suffix == ".xlsx":
            with excel.open_sheet(path, columns, spec) as sheet:
                yield sheet
        else:
            yield open_lines(file, str(path), suffix, columns, spec, size=path.stat().st_size)


def open_lines(
    file: BinaryIO,
    name: str,
    suffix: str,
    columns: Columns,
    spec: OutputSpec | None = None,
    *,
    size: int = 0,
    is_stream: bool = False,
) -> RowFile:
    """The rows of a text file or stream.

    Args:
        file: positioned at its beginning.
        name: for messages.
        suffix: decides between several readings of the content.
        columns: that are read.
        spec: what is added to the rows; None: the file is read for training.
        size: in bytes; 0: unknown.
        is_stream: whether the file cannot be read again.

    Raises:
        UserError: it is not text, or a column is missing.
    """
    source = open_text(file, name, is_stream=is_stream)
    lines = Lines(source, name, is_stream=is_stream)
    recognised = next(found for recognise in TEXT_FORMATS if (found := recognise(lines, suffix, columns)) is not None)
    if isinstance(recognised, JsonDocument):
        return recognised.open(spec)
    return LineRows(lines, recognised, spec, size if source.is_original else 0)


def suffix_of(path: PurePath) -> str:
    """The suffix of a file's name in lower case, without that of its compression."""
    suffix = path.suffix.lower()
    return PurePath(path.stem).suffix.lower() if suffix in COMPRESSED_SUFFIXES else suffix


def known_suffix(path: PurePath, suffixes: Collection[str] = SUFFIXES.keys()) -> str:
    """The suffix of a data file.

    Raises:
        UserError: it is none of ``suffixes``.
    """
    suffix = suffix_of(path)
    if suffix not in suffixes:
        raise UserError(f"unknown kind of file {suffix!r}", path, f"rename or convert it to {', '.join(suffixes)}")
    return suffix
