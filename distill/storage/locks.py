"""A lock on what only one process may write."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from distill.errors import UserError
from distill.progress import log


@contextlib.contextmanager
def exclusive_lock(path: Path) -> Iterator[None]:
    """Within the block only this process writes ``path``. The lock is the system's: a killed process leaves none.

    Raises:
        UserError: another process is within its block.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = path.with_name(f".{path.name}.distill-lock")
    with lock.open("w") as held:
        try:
            _lock(held)
        except BlockingIOError as error:
            raise UserError(
                "another process is writing this", path, "wait until it ends, or --output another one"
            ) from error
        except OSError:
            log.debug("%s: this disk knows no locks", path)
        try:
            yield
        finally:
            lock.unlink(missing_ok=True)


def _lock(file: IO[str]) -> None:
    try:
        import fcntl
    except ImportError:  # Windows
        return
    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
