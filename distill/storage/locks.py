"""A lock that keeps two processes from writing the same output or the same run's folder."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import stat
import time
from collections.abc import Iterator
from pathlib import Path

from distill.errors import UserError
from distill.progress import log

SUFFIX = ".distill-lock"
OPEN_ATTEMPTS = 100  # another process may remove an empty folder between its creation and the file's


class LockHeldError(UserError):
    """Another process holds a lock."""


@contextlib.contextmanager
def exclusive_lock(path: Path, hint: str = "wait until it ends, or choose another --output") -> Iterator[None]:
    """Make this process the only one that writes ``path`` within the block.

    The lock is the operating system's (``flock``), so it ends with the process. Its file lies in ``path`` if that is a
    folder, otherwise beside it. On a file system without locks, and on Windows, there is no lock, and a line says so.

    Raises:
        LockHeldError: another process holds the lock; the message says which one.
        UserError: the lock's file cannot be used.
    """
    lock_path = lock_file(path.resolve())
    descriptor = _lock(lock_path, path, hint)
    try:
        yield
    finally:
        lock_path.unlink(missing_ok=True)  # while it is locked: who gets it afterwards sees that it lost its name
        with contextlib.suppress(OSError):  # of the disk; the lock ends all the same
            os.close(descriptor)


def lock_file(path: Path) -> Path:
    """The lock's file of a folder or a file."""
    return path / SUFFIX if path.is_dir() else path.with_name(f".{path.name}{SUFFIX}")


def _lock(lock_path: Path, path: Path, hint: str) -> int:
    """The descriptor of the locked file, which still has its name and describes this process."""
    while True:
        descriptor = _open(lock_path)
        try:
            _flock(descriptor, path)
        except BlockingIOError as error:
            holder = _holder(descriptor)
            os.close(descriptor)
            raise LockHeldError(f"another process is writing here{holder}", path, hint) from error
        if _has_name(descriptor, lock_path):
            with contextlib.suppress(OSError):  # on a full disk, the message does not say who holds the lock
                os.truncate(descriptor, 0)
                os.write(descriptor, json.dumps(_this_process()).encode())
            return descriptor
        os.close(descriptor)  # its last holder removed it in the meantime


def _open(lock_path: Path) -> int:
    """Open or create the lock's file; never what a symbolic link leads to."""
    flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    hint = "check the folder's permissions; if there is such a file and no process uses it, remove it"
    for attempt in range(OPEN_ATTEMPTS):
        lock_path.parent.mkdir(parents=True, exist_ok=True)
        try:
            descriptor = os.open(lock_path, flags, 0o666)
            break
        except OSError as error:
            if not isinstance(error, FileNotFoundError) or attempt + 1 == OPEN_ATTEMPTS:
                what = f"this file cannot be used as a lock: {(error.strerror or '').lower()}"
                raise UserError(what, lock_path, hint) from error
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        return descriptor
    os.close(descriptor)
    raise UserError("this is not a file, so it cannot be used as a lock", lock_path, hint)


def _flock(descriptor: int, path: Path) -> None:
    try:
        import fcntl

        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except (ImportError, OSError):  # ImportError: on Windows
        log.info("%s: there are no locks here; do not let two commands write here at a time", path)


def _has_name(descriptor: int, lock_path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), lock_path.lstat())
    except FileNotFoundError:
        return False


def _this_process() -> dict[str, object]:
    return {"process": os.getpid(), "machine": platform.node(), "since": time.strftime("%Y-%m-%d %H:%M:%S")}


def _holder(descriptor: int) -> str:
    """Who holds the lock, for the message; empty while that is not written yet."""
    try:
        holder = json.loads(os.pread(descriptor, 4096, 0))
        return f": process {int(holder['process'])} on {holder['machine']!s:.64}, since {holder['since']!s:.19}"
    except (ValueError, KeyError, TypeError):
        return ""
