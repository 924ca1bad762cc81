"""Atomic writes: a temporary file or folder beside the target, renamed when it is complete."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from distill.errors import UserError, is_disk_full

TEMPORARY_SUFFIX = ".distill-aside"


@contextlib.contextmanager
def _space_checked(path: Path) -> Iterator[None]:
    """Turn "no space left" into a message; anything else passes through."""
    try:
        yield
    except Exception as error:
        if is_disk_full(error):
            raise UserError(
                "the disk is full; nothing was half-written", path, "free some space, then type the same command again"
            ) from error
        raise


def write_file(path: Path, content: bytes | str) -> Path:
    """Write ``content`` to a temporary file and rename it to ``path``: the file is complete or absent."""
    payload = content.encode("utf-8") if isinstance(content, str) else content
    with _space_checked(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{os.getpid()}{TEMPORARY_SUFFIX}")
        try:
            temporary.write_bytes(payload)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    return path


def write_json(path: Path, content: Any) -> Path:
    """``content`` as indented UTF-8 JSON, written by :func:`write_file`."""
    return write_file(path, json.dumps(content, ensure_ascii=False, indent=2) + "\n")


@contextlib.contextmanager
def write_folder(path: Path) -> Iterator[Path]:
    """Yield an empty folder to fill; it replaces ``path`` only when the block ends well."""
    with _space_checked(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=TEMPORARY_SUFFIX, dir=path.parent))
        try:
            yield temporary
            temporary.chmod(0o755)
            if path.exists():
                old = temporary.with_name(f"{temporary.name}.old{TEMPORARY_SUFFIX}")
                path.replace(old)
                temporary.replace(path)
                shutil.rmtree(old)
            else:
                temporary.replace(path)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
