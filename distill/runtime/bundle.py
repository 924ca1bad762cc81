"""Read a bundle, the folder that a student is exported to: ``bundle.json`` and one safetensors file.

A bundle may come from anywhere, so nothing in it is trusted before it is checked. Each file is read once, and the bytes
that are checked are the bytes that are used: a file that is replaced later does not change a bundle in memory.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, TypeGuard

import numpy as np
from numpy.typing import NDArray

from distill.errors import UserError
from distill.runtime import schema

BUNDLE_CARD, BUNDLE_ARRAYS = "bundle.json", "bundle.safetensors"
NEWEST_FORMAT = schema.SEVERAL_TASKS
REQUIRED = ("files", "network", "labels", "temperature", "max_length", "ngram_characters")  # of the card
EXPORT = "python distill.py --mode export"
DTYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "i1", "U8": "u1"}
DTYPES |= {"U16": "<u2", "U32": "<u4"}
MAX_CARD_BYTES, MAX_FILE_BYTES, MAX_HEADER_BYTES = 2**24, 2**32, 2**20


@dataclass(frozen=True)
class Bundle:
    """A bundle's card, and the arrays of its schema: read-only parts of one file in memory, perhaps not aligned."""

    card: dict[str, Any]
    arrays: Mapping[str, NDArray[Any]]


def checksum(content: bytes | memoryview) -> str:
    """SHA-256 of a file's content, in hexadecimal."""
    return hashlib.sha256(content).hexdigest()


def read_bundle(folder: Path) -> Bundle:
    """Read and check a bundle.

    Raises:
        UserError: the folder is not a bundle, or has a newer format; a file is missing or has changed; card or arrays
            do not match the schema.
    """
    card = _read_card(folder)
    contents = {name: _read_file(folder / name, expected) for name, expected in card["files"].items()}
    try:
        arrays = parse_arrays(contents[BUNDLE_ARRAYS])
    except (ValueError, OverflowError, RecursionError) as error:
        raise UserError(f"this is not a safetensors file: {error}", folder / BUNDLE_ARRAYS, EXPORT) from error
    schema.check(card, arrays, folder, EXPORT)
    return Bundle(card, {spec.name: arrays[spec.name] for spec in schema.specs_of(card)})


def card_content(folder: Path) -> memoryview:
    """The content of a bundle's card.

    Raises:
        UserError: there is no such file, or it cannot be read.
    """
    path = folder / BUNDLE_CARD
    if not path.is_file():
        raise UserError(f"not a bundle: there is no {BUNDLE_CARD}", folder, EXPORT)
    return read_content(path, MAX_CARD_BYTES)


def _read_card(folder: Path) -> dict[str, Any]:
    path = folder / BUNDLE_CARD
    try:
        card = json_object(card_content(folder))
        bundle_format = card["format"]
        if type(bundle_format) is not int or bundle_format < 1:
            raise ValueError(f"format is {bundle_format!r:.40}, a whole number from 1 is needed")
    except (ValueError, KeyError, RecursionError) as error:
        raise UserError(f"{BUNDLE_CARD} cannot be read: {error}", path, EXPORT) from error
    if bundle_format > NEWEST_FORMAT:
        what = f"a bundle of format {bundle_format}; this program reads formats up to {NEWEST_FORMAT}"
        raise UserError(what, path, "install a newer version of this program")
    if missing := [key for key in REQUIRED if key not in card]:
        raise UserError(f"{BUNDLE_CARD} is incomplete: {', '.join(missing)} missing", path, EXPORT)
    _check_files(card["files"], path)
    return card


def _check_files(files: Any, path: Path) -> None:
    """Refuse names that are not those of files in the bundle's own folder."""
    if not isinstance(files, dict) or BUNDLE_ARRAYS not in files:
        raise UserError(f"{BUNDLE_CARD} is incomplete: the checksum of {BUNDLE_ARRAYS} missing", path, EXPORT)
    for name in files:
        if name in ("", ".", "..") or any(char in name for char in "/\\\0"):
            raise UserError(f"{BUNDLE_CARD} names {name!r:.80}, which is not a file in its folder", path, EXPORT)


def _read_file(path: Path, expected: str) -> memoryview:
    """The content of a file that has the expected SHA-256."""
    if not path.is_file():
        raise UserError("this file of the bundle is missing", path, f"copy the whole folder again, or {EXPORT}")
    content = read_content(path, MAX_FILE_BYTES)
    if checksum(content) != expected:
        raise UserError(
            "this file has changed since the export (its SHA-256 differs)", path, f"copy it again, or {EXPORT}"
        )
    return content


def read_content(path: Path, limit: int) -> memoryview:
    """The content of a file of at most ``limit`` bytes, read-only."""
    try:
        size = path.stat().st_size
        if size <= limit:
            content = np.empty(size, np.uint8).data  # NumPy asks for huge pages, which are faster to fill
            with path.open("rb") as file:
                return content[: file.readinto(content)].toreadonly()
    except OSError as error:
        raise UserError(f"this file cannot be read: {error.strerror}", path, "check its permissions") from error
    raise UserError(f"this file has {size:,} bytes, at most {limit:,} are possible", path, EXPORT)


def json_object(content: memoryview) -> dict[str, Any]:
    """Parse a JSON object strictly: every name occurs once, and numbers are finite.

    Raises:
        ValueError: it is something else.
    """
    parsed = json.loads(str(content, "utf-8"), object_pairs_hook=_with_unique_names, parse_constant=_refuse)
    if not isinstance(parsed, dict):
        raise ValueError("it is not a JSON object")
    return parsed


def _with_unique_names(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    parsed = dict(pairs)
    if len(parsed) < len(pairs):
        raise ValueError("a name occurs twice")
    return parsed


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not a JSON number")


def parse_arrays(content: memoryview) -> dict[str, NDArray[Any]]:
    """The arrays of a safetensors file: read-only views, which may not be aligned.

    As the format demands, the arrays must fill the file without overlap or gap.

    Raises:
        ValueError: the content is not a safetensors file.
    """
    start = 8 + int.from_bytes(content[:8], "little")
    if start > min(len(content), MAX_HEADER_BYTES):
        raise ValueError(f"its header has {start - 8:,} bytes, more than the file or than {MAX_HEADER_BYTES:,}")
    header = json_object(content[8:start])
    header.pop("__metadata__", None)
    ranges = [_offsets(name, entry) for name, entry in header.items()]
    ends = [0, *(end for _, end in sorted(ranges))]
    if ends[-1] != len(content) - start or [begin for begin, _ in sorted(ranges)] != ends[:-1]:
        raise ValueError("its arrays overlap, leave gaps, or do not end with the file")
    return {name: _array(content, start, name, entry) for name, entry in header.items()}


def _offsets(name: str, entry: Any) -> tuple[int, int]:
    """Begin and end of an array, counted from the end of the header."""
    offsets = entry.get("data_offsets") if isinstance(entry, dict) else None
    if not _is_whole_numbers(offsets) or len(offsets) != 2 or offsets[0] > offsets[1]:
        raise ValueError(f"array {name!r:.40} has no valid data_offsets")
    return offsets[0], offsets[1]


def _array(content: memoryview, start: int, name: str, entry: dict[str, Any]) -> NDArray[Any]:
    shape, (begin, end) = entry.get("shape"), entry["data_offsets"]
    if not isinstance(entry.get("dtype"), str) or entry["dtype"] not in DTYPES or not _is_whole_numbers(shape):
        raise ValueError(f"array {name!r:.40} has no valid dtype and shape")
    dtype, count = np.dtype(DTYPES[entry["dtype"]]), math.prod(shape)
    if count * dtype.itemsize != end - begin:
        raise ValueError(f"array {name!r:.40} has {end - begin:,} bytes, its shape and dtype need another number")
    return np.frombuffer(content, dtype, count, start + begin).reshape(shape)


def _is_whole_numbers(values: Any) -> TypeGuard[list[int]]:
    """Whether a value is a list of whole numbers, none of them negative."""
    return isinstance(values, list) and all(type(value) is int and value >= 0 for value in values)
