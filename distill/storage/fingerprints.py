"""Fingerprints, and the record of what a folder was made from."""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path
from typing import Any

PROVENANCE_FILE = "made_from.json"
PACKAGES = ("torch", "transformers", "gensim", "jieba", "scikit-learn", "numpy")


def fingerprint_texts(lines: Iterable[str]) -> str:
    """Fingerprint of texts in their order; a text's end is unambiguous."""
    digest = hashlib.sha256()
    for line in lines:
        raw = line.encode("utf-8", "surrogatepass")
        digest.update(len(raw).to_bytes(8, "little") + raw)
    return digest.hexdigest()[:16]


def fingerprint_file(path: Path) -> str:
    """Fingerprint of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


def read_provenance(folder: Path) -> dict[str, Any] | None:
    """The record of what a folder was made from; None where it is missing or broken."""
    try:
        recorded = json.loads((folder / PROVENANCE_FILE).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None
    return recorded if isinstance(recorded, dict) else None


def provenance_differences(folder: Path, wanted: dict[str, Any]) -> list[str]:
    """Names of the things that ``folder`` was not made from, as asked for now; [] when it is current.

    Only the keys of ``wanted`` are compared, so a caller may ask about some of them.
    """
    recorded = read_provenance(folder)
    if recorded is None:
        return ["its record is broken" if (folder / PROVENANCE_FILE).exists() else "it is not there"]
    return [f"{key} changed" for key, value in wanted.items() if recorded.get(key) != value]


def package_versions() -> dict[str, str]:
    """Versions of Python and of the packages that decide a run's figures."""
    return {"python": platform.python_version(), **{name: metadata.version(name) for name in PACKAGES}}
