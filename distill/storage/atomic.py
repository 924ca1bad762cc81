"""Atomic writes: fill a temporary file or folder next to the target, then rename it.

A reader sees the old content or the new content and never a part, also after a kill or a loss of power: what is renamed
has reached the disk before (``fsync``). Symbolic links are followed, so that a link stays one and its target is
replaced. Permissions of what is replaced are kept.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import functools
import json
import os
import secrets
import shutil
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from distill.errors import CHECK_DISK, FREE_SPACE, UserError, error_code, is_disk_full
from distill.progress import log

TEMPORARY_SUFFIX = ".distill-aside"
PARTS_SUFFIX = ".distill-parts"  # of the folder with the finished parts of an output that is being written
OLD_SUFFIX = ".distill-old"  # of a folder that is being replaced where the file system cannot exchange two folders
NAME_CHARACTERS = 40  # of the target in a temporary name; file systems limit names to 255 bytes, and 用 takes 3
DISK_ERRORS = (errno.EIO, errno.EROFS, errno.EFBIG)
NOT_SUPPORTED = (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EACCES, errno.EPERM)
AT_FDCWD, RENAME_EXCHANGE = -100, 2  # of Linux's renameat2


@contextlib.contextmanager
def _report_disk_errors(path: Path) -> Iterator[None]:
    """Turn a full disk, and an error of the disk itself, into a UserError; let every other exception pass."""
    try:
        yield
    except Exception as error:
        if (code := error_code(error)) in DISK_ERRORS:
            what = os.strerror(code).lower()
            raise UserError(what, path, CHECK_DISK) from error
        if is_disk_full(error):
            raise UserError("the disk is full; no incomplete file was left", path, FREE_SPACE) from error
        raise


def remove(path: Path) -> None:
    """Remove a file, a symbolic link or a folder with all it contains; nothing happens if there is none."""
    if path.is_dir() and not path.is_symlink():
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def write_file(path: Path, content: bytes | str) -> Path:
    """Write ``content`` (text as UTF-8) atomically, creating parent folders; return ``path``.

    A lone surrogate, as paths have for a byte that is not UTF-8, becomes an escape, which JSON reads back. A device or
    a pipe is written to.

    Raises:
        UserError: ``path`` is a folder, or the disk is full; an older file at ``path`` is unchanged.
    """
    payload = content.encode("utf-8", "backslashreplace") if isinstance(content, str) else content
    with _report_disk_errors(path):
        if path.exists() and not path.is_file():
            if path.is_dir():
                raise UserError("this is a folder, a file is needed", path, "name another file")
            path.write_bytes(payload)
            return path
        path.parent.mkdir(parents=True, exist_ok=True)
        target = path.resolve()
        temporary = temporary_path(target)
        try:
            _write_new(temporary, payload, _mode(target, 0o666))
            put_in_place(temporary, target)
        finally:
            temporary.unlink(missing_ok=True)
    return path


def write_json(path: Path, content: Any) -> Path:
    """Write ``content`` as indented UTF-8 JSON with :func:`write_file`."""
    return write_file(path, json.dumps(content, ensure_ascii=False, indent=2) + "\n")


def put_in_place(temporary: Path, path: Path) -> None:
    """Rename a finished file to ``path``, following a symbolic link; an older file's owner and permissions are kept.

    Raises:
        UserError: ``path`` is something else than a file, or the disk is full.
    """
    with _report_disk_errors(path):
        target = path.resolve()
        if target.exists():
            status = target.stat()
            if not stat.S_ISREG(status.st_mode):
                raise UserError("this is not a file, so it cannot be replaced", path, "name another file")
            with contextlib.suppress(OSError):  # only root may, and not within every container
                os.chown(temporary, status.st_uid, status.st_gid)
            temporary.chmod(stat.S_IMODE(status.st_mode))
        _sync(temporary)
        temporary.replace(target)
        _sync_folder(target.parent)


@contextlib.contextmanager
def write_folder(path: Path) -> Iterator[Path]:
    """Yield an empty temporary folder to fill; it replaces ``path`` when the block ends without an exception.

    Both folders are exchanged in one step. Where the file system has none, the old folder is renamed before the new
    one takes its name; after a kill between the two, :func:`recover` gives the old one its name back.

    Raises:
        UserError: ``path`` is a file, or the disk is full; an older folder at ``path`` is unchanged.
    """
    target = path.resolve()
    if target.exists() and not target.is_dir():
        raise UserError("this is a file, a folder is needed", path, "name another folder")
    with _report_disk_errors(path):
        target.parent.mkdir(parents=True, exist_ok=True)
        recover(_old_name(target))
        temporary, mode = temporary_path(target), _mode(target, 0o777)
        temporary.mkdir(mode)
        try:
            yield temporary
            if target.exists():
                temporary.chmod(mode)
            _sync_all(temporary)
            if not target.exists():
                temporary.replace(target)
            elif not _exchange(temporary, target):
                target.replace(_old_name(target))
                temporary.replace(target)
            _sync_folder(target.parent)
            remove(_old_name(target))
        finally:
            shutil.rmtree(temporary, ignore_errors=True)  # after an exchange it is the old folder


def recover(old: Path) -> None:
    """Give a folder its name back that a killed process was replacing; remove it if the new one has the name."""
    target = old.with_name(old.name.removeprefix(".").removesuffix(OLD_SUFFIX))
    if target.exists():
        remove(old)
    elif old.exists():
        old.replace(target)


def remove_leftovers(root: Path) -> None:
    """Remove what killed processes left in a folder; only for the process that holds the folder's lock.

    Folders of unfinished outputs (:data:`PARTS_SUFFIX`) are left alone: they have their own lock. A line names what
    cannot be removed.
    """
    for leftover in _hidden(root, OLD_SUFFIX):
        recover(leftover)
    for leftover in _hidden(root, TEMPORARY_SUFFIX):
        try:
            remove(leftover)
        except OSError as error:
            log.info("%s: left by a killed process, cannot be removed: %s", leftover, error.strerror)


def _hidden(root: Path, suffix: str) -> list[Path]:
    found = sorted(root.rglob(f".*{suffix}"))
    return [path for path in found if not any(part.endswith(PARTS_SUFFIX) for part in path.parts)]


def temporary_path(target: Path) -> Path:
    """A new name for a temporary file or folder next to ``target``."""
    return target.with_name(f".{target.name[:NAME_CHARACTERS]}.{secrets.token_hex(4)}{TEMPORARY_SUFFIX}")


def _old_name(target: Path) -> Path:
    return target.with_name(f".{target.name}{OLD_SUFFIX}")


def _mode(target: Path, default: int) -> int:
    """The permissions for what replaces ``target``; the process's umask limits the default."""
    return stat.S_IMODE(target.stat().st_mode) if target.exists() else default


def _write_new(path: Path, payload: bytes, mode: int) -> None:
    """Write a new file that never has more permissions than ``mode``."""
    with open(path, "xb", opener=functools.partial(os.open, mode=mode)) as file:
        file.write(payload)


def _sync_all(folder: Path) -> None:
    """Wait until a folder and all that it contains have reached the disk."""
    for parent, _, names in os.walk(folder):
        for name in names:
            _sync(Path(parent, name))
        _sync_folder(Path(parent))


def _sync(path: Path) -> None:
    """Wait until a file's content has reached the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sync_folder(folder: Path) -> None:
    """Wait until a folder's names have reached the disk, where the system can tell."""
    try:
        _sync(folder)
    except OSError as error:
        if error.errno not in NOT_SUPPORTED:
            raise


def _exchange(first: Path, second: Path) -> bool:
    """Exchange two folders' names in one step; False if the system or the file system cannot."""
    function = _renameat2()
    if function is None:
        return False
    if not function(AT_FDCWD, os.fsencode(first), AT_FDCWD, os.fsencode(second), RENAME_EXCHANGE):
        return True
    code = ctypes.get_errno()
    if code in NOT_SUPPORTED:
        return False
    raise OSError(code, os.strerror(code), str(second))


@functools.cache
def _renameat2() -> Callable[..., int] | None:
    """Linux's ``renameat2``; None where there is none."""
    try:
        function = ctypes.CDLL(None, use_errno=True).renameat2
    except (OSError, AttributeError, TypeError):
        return None
    function.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint)
    return function
