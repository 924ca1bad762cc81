"""Read a bundle, the folder that a student is exported to: ``bundle.json`` and one safetensors file."""

from __future__ import annotations

import hashlib
import json
import mmap
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distill.errors import UserError
from distill.runtime import schema

BUNDLE_CARD, BUNDLE_ARRAYS = "bundle.json", "bundle.safetensors"
FORMAT = 1
REQUIRED = ("files", "network", "labels", "temperature", "max_length", "ngram_characters")  # of the card
EXPORT = "python distill.py --mode export"
DTYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "i1", "U8": "u1"}
DTYPES |= {"U16": "<u2", "U32": "<u4"}


@dataclass(frozen=True)
class Bundle:
    """A bundle's card and arrays. The arrays are mapped into memory, so the file is read when they are used."""

    card: dict[str, Any]
    arrays: Mapping[str, NDArray[Any]]


def checksum(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_bundle(folder: Path) -> Bundle:
    """Read and check a bundle.

    Raises:
        UserError: the folder is not a bundle, or has a newer format; a file is missing or has changed; the arrays do
            not match the schema.
    """
    card = _read_card(folder)
    for name, expected in card["files"].items():
        path = folder / name
        if not path.is_file():
            raise UserError("this file of the bundle is missing", path, f"copy the whole folder again, or {EXPORT}")
        if checksum(path) != expected:
            raise UserError(
                "this file has changed since the export (its SHA-256 differs)", path, f"copy it again, or {EXPORT}"
            )
    try:
        arrays = read_arrays(folder / BUNDLE_ARRAYS)
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"this is not a safetensors file: {error}", folder / BUNDLE_ARRAYS, EXPORT) from error
    schema.check(card, arrays, folder, EXPORT)
    return Bundle(card, arrays)


def _read_card(folder: Path) -> dict[str, Any]:
    path = folder / BUNDLE_CARD
    if not path.is_file():
        raise UserError(f"not a bundle: there is no {BUNDLE_CARD}", folder, EXPORT)
    try:
        card = json.loads(path.read_text(encoding="utf-8"))
        is_newer = card["format"] > FORMAT
        missing = [key for key in REQUIRED if key not in card]
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{BUNDLE_CARD} cannot be read: {error}", path, EXPORT) from error
    if is_newer:
        what = f"a bundle of format {card['format']}; this program reads formats up to {FORMAT}"
        raise UserError(what, path, "install a newer version of this program")
    if missing or BUNDLE_ARRAYS not in card["files"]:
        what = ", ".join(missing) or f"the checksum of {BUNDLE_ARRAYS}"
        raise UserError(f"{BUNDLE_CARD} is incomplete: {what} missing", path, EXPORT)
    return dict(card)


def read_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """The arrays of a safetensors file, mapped into memory, read-only."""
    with path.open("rb") as file:
        content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    start = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:start])
    return {name: _array(content, start, entry) for name, entry in header.items() if name != "__metadata__"}


def _array(content: mmap.mmap, start: int, entry: dict[str, Any]) -> NDArray[Any]:
    dtype, (begin, end) = np.dtype(DTYPES[entry["dtype"]]), entry["data_offsets"]
    if (end - begin) % dtype.itemsize or end > len(content) - start:
        raise ValueError("an array ends beyond the file")
    return np.frombuffer(content, dtype, (end - begin) // dtype.itemsize, start + begin).reshape(entry["shape"])
