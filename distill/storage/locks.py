"""A lock that keeps two processes from writing the same output."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from distill.errors import UserError
from distill.progress import log


@contextlib.contextmanager
def exclusive_lock(path: Path) -> Iterator[None]:
    """Make this process the only one that writes ``path`` within the block.

    The lock is the operating system's (``flock``), so it ends with the process. On a file system without locks, and on
    Windows, it does nothing.

    Raises:
        UserError: another process holds the lock.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lock_path = path.with_name(f".{path.name}.distill-lock")
    with lock_path.open("w") as lock_file:
        try:
            _lock(lock_file)
        except BlockingIOError as error:
            hint = "wait until it ends, or choose another --output"
            raise UserError("another process is writing to this output", path, hint) from error
        except OSError:
            log.debug("%s: this file system does not support locks", path)
        try:
            yield
        finally:
            lock_path.unlink(missing_ok=True)


def _lock(file: IO[str]) -> None:
    try:
        import fcntl
    except ImportError:  # Windows
        return
    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
