"""Atomic writes: fill a temporary file or folder next to the target, then rename it.

A reader, or a process that is killed, sees the old content or the new content and never a part. There is no fsync: the
guarantee holds when a process dies, not when the machine loses power.
"""

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
def _report_full_disk(path: Path) -> Iterator[None]:
    """Turn "no space left on device" into a UserError; let every other exception pass."""
    try:
        yield
    except Exception as error:
        if is_disk_full(error):
            raise UserError(
                "the disk is full; no incomplete file was left",
                path,
                "free some space, then run the same command again",
            ) from error
        raise


def write_file(path: Path, content: bytes | str) -> Path:
    """Write ``content`` (text as UTF-8) atomically, creating parent folders; return ``path``.

    Raises:
        UserError: the disk is full; an older file at ``path`` is unchanged.
    """
    payload = content.encode("utf-8") if isinstance(content, str) else content
    with _report_full_disk(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{os.getpid()}{TEMPORARY_SUFFIX}")
        try:
            temporary.write_bytes(payload)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    return path


def write_json(path: Path, content: Any) -> Path:
    """Write ``content`` as indented UTF-8 JSON with :func:`write_file`."""
    return write_file(path, json.dumps(content, ensure_ascii=False, indent=2) + "\n")


@contextlib.contextmanager
def write_folder(path: Path) -> Iterator[Path]:
    """Yield an empty temporary folder to fill; it replaces ``path`` when the block ends without an exception.

    Replacing takes two renames: the old folder is moved away just before the new one takes its name.

    Raises:
        UserError: the disk is full; an older folder at ``path`` is unchanged.
    """
    with _report_full_disk(path):
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
