"""Fingerprints of texts and files, and the provenance of a folder: the record of what it was made from."""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Iterable
from pathlib import Path
from typing import Any

PROVENANCE_FILE = "made_from.json"
FILES = "files"  # in it: fingerprints of the folder's files, by name
PACKAGES = ("torch", "transformers", "gensim", "jieba", "scikit-learn", "numpy")


def fingerprint_texts(texts: Iterable[str]) -> str:
    """Fingerprint of texts in order: 16 hex digits of a SHA-256.

    Each text is hashed after its length, so that ("ab", "c") and ("a", "bc") differ.
    """
    digest = hashlib.sha256()
    for text in texts:
        raw = text.encode("utf-8", "surrogatepass")
        digest.update(len(raw).to_bytes(8, "little") + raw)
    return digest.hexdigest()[:16]


def fingerprint_file(path: Path) -> str:
    """Fingerprint of a file's bytes: 16 hex digits of its SHA-256."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


def fingerprint_bytes(content: bytes) -> str:
    """Fingerprint of bytes in memory; of a file's content, that of :func:`fingerprint_file`."""
    return hashlib.sha256(content).hexdigest()[:16]


def read_provenance(folder: Path) -> dict[str, Any] | None:
    """The provenance recorded in ``folder``; None if the file is missing or not a JSON object."""
    recorded = _read_record(folder)
    return None if recorded is None else {key: value for key, value in recorded.items() if key != FILES}


def _read_record(folder: Path) -> dict[str, Any] | None:
    try:
        recorded = json.loads((folder / PROVENANCE_FILE).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None
    return recorded if isinstance(recorded, dict) else None


def provenance_differences(folder: Path, wanted: dict[str, Any]) -> list[str]:
    """Why ``folder`` does not match ``wanted``, as phrases for a message; [] if it does.

    Only the keys of ``wanted`` are compared, so a caller may check some of them.
    """
    recorded = read_provenance(folder)
    if recorded is None:
        has_file = (folder / PROVENANCE_FILE).exists()
        return [f"{PROVENANCE_FILE} is broken" if has_file else f"{PROVENANCE_FILE} is missing"]
    return [f"{key} changed" for key, value in wanted.items() if recorded.get(key) != value]


def changed_files(folder: Path) -> list[str]:
    """Names of the files that were recorded when ``folder`` was written and have changed or are missing since."""
    recorded = (_read_record(folder) or {}).get(FILES)
    files = recorded if isinstance(recorded, dict) else {}  # older versions recorded none
    return [name for name, fingerprint in files.items() if _fingerprint_or_none(folder / name) != fingerprint]


def _fingerprint_or_none(path: Path) -> str | None:
    return fingerprint_file(path) if path.is_file() else None


def package_versions() -> dict[str, str]:
    """Versions of Python and of the packages that affect a run's results."""
    from importlib import metadata  # takes long to import, and few commands need it

    return {"python": platform.python_version(), **{name: metadata.version(name) for name in PACKAGES}}
