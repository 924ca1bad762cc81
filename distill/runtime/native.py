"""The C kernels, loaded through ctypes: from the installed wheel, or compiled once on each machine and cached.

A wheel contains libraries for several families of processors (:mod:`distill.runtime.variants`). They are trusted like
the package's other files. A library is used only if its name has the hash of the sources next to it.

Where there is none for this processor, as in a clone of the repository, the kernels are compiled for it.
``DISTILL_MARCH`` chooses a family: a variant's name, or any ``-march`` of the compiler, such as native.

In the cache, a library is named ``kernels-SOURCES-COMPILER-CONTENT.so`` after three hashes. SOURCES covers the sources,
flags and processor. COMPILER covers the compiler's command, and path, size and time of its program. CONTENT is that of
the library itself: one that has changed or is incomplete, as after a loss of power, is compiled again, not loaded.
Without a compiler, or where no library can be written, one of any compiler is used. A folder or library that somebody
else can write is refused, as its code would be executed.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import itertools
import os
import platform
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from distill.errors import UserError
from distill.runtime import structs
from distill.runtime.structs import MIRRORS, Int32, Int64, Layout, layout
from distill.runtime.variants import (
    FLAGS,
    KERNELS,
    VARIANTS,
    Variant,
    compile_command,
    digest,
    flags_of,
    sources_digest,
)

CPUINFO = Path("/proc/cpuinfo")

Array = ctypes.c_void_p  # the address of an array
TEXTS, ENCODED_TEXTS = ctypes.POINTER(structs.Texts), ctypes.POINTER(structs.EncodedTexts)
ENCODER, STUDENT = ctypes.POINTER(structs.TextEncoder), ctypes.POINTER(structs.StudentModel)
ROW_FORMAT, ROW_BUFFER = ctypes.POINTER(structs.RowFormat), ctypes.POINTER(structs.RowBuffer)
ARGUMENTS = {  # of every exported function, as in its C definition
    "distill_lanes": (),
    "distill_build_trie": (Array, Int64, Int64, Array, Array, Array, Int64, Array),
    "distill_segment": (ENCODER, TEXTS, Array, Array, Array),
    "distill_encode": (ENCODER, TEXTS, ENCODED_TEXTS),
    "distill_logits_of_ids": (STUDENT, ENCODED_TEXTS, Array),
    "distill_logits_of_texts": (ENCODER, STUDENT, Int32, TEXTS, Array),
    "distill_class_of_text": (ENCODER, STUDENT, Int32, ctypes.c_char_p, Int64, Array),
    "distill_scan_rows": (ROW_FORMAT, ctypes.POINTER(structs.LineBlock), ROW_BUFFER),
    "distill_add_row": (ROW_BUFFER, ctypes.c_char_p, Int64, ctypes.c_char_p, Int64),
    "distill_trim_texts": (Array, Array, Int64),
    "distill_write_rows": (Array, Array, Int64, Array, Array, ctypes.POINTER(structs.RowEnding), Array),
}
RETURN_NOTHING = ("distill_add_row", "distill_write_rows")  # most of the others return a status
FORWARD_PASS = (ctypes.c_void_p, ENCODED_TEXTS, Array)  # arguments of a network's function; see kernels/network.h


class _FieldLayout(ctypes.Structure):
    """See kernels/layout.h."""

    _fields_ = (("name", ctypes.c_char_p), ("offset", Int64), ("size", Int64))


@functools.cache
def library() -> ctypes.CDLL:
    """The compiled kernels; if the package has none for this processor, the first call compiles them in some seconds.

    Raises:
        UserError: there is no C compiler, it fails, the cache folder cannot be written or others can write it, or the
            library cannot be loaded.
        RuntimeError: a struct differs between C and Python (a bug in this program).
    """
    loaded = _load_packaged() or _load_cached() or _compile_and_load()
    for name, mirror in MIRRORS.items():
        _check_layout(loaded, name, mirror)
    for name, arguments in ARGUMENTS.items():
        function = getattr(loaded, name)
        function.argtypes, function.restype = arguments, None if name in RETURN_NOTHING else ctypes.c_int32
    return loaded


def packaged() -> Variant | None:
    """The variant of the installed wheel for this processor, or for ``DISTILL_MARCH``; none in a clone."""
    march, machine, features = os.environ.get("DISTILL_MARCH"), platform.machine(), _features()
    for variant in VARIANTS:
        fits = variant.machine == machine and features.issuperset(variant.features.split())
        if (variant.name == march if march else fits) and variant.library.is_file():
            return variant
    return None


def _load_packaged() -> ctypes.CDLL | None:
    """The library of the installed wheel; none if the wheel is of another system, such as another C library."""
    variant = packaged()
    with contextlib.suppress(OSError):
        return ctypes.CDLL(str(variant.library)) if variant else None
    return None


def _load_cached() -> ctypes.CDLL | None:
    """A library of the cache that is complete and can be loaded."""
    folder = cache_folder()
    if not folder.is_dir():
        return None
    _require_trusted(folder)
    name = _name(_compiler() if os.access(folder, os.W_OK) else [])
    for path in sorted(folder.glob(f"{name}-*.so")):
        with contextlib.suppress(OSError):  # it is compiled again
            _require_trusted(path)
            if path.stem.endswith(f"-{digest(path.read_bytes())}"):
                return ctypes.CDLL(str(path))
    return None


def _compile_and_load() -> ctypes.CDLL:
    folder = cache_folder()
    with _temporary_folder(folder) as temporary:
        compiled = temporary / "kernels.so"
        build(sorted(KERNELS.glob("*.c")), compiled)
        path = folder / f"{_name(_compiler())}-{digest(compiled.read_bytes())}.so"
        compiled.replace(path)
    try:
        return ctypes.CDLL(str(path))
    except OSError as error:
        hint = "set DISTILL_CACHE to a folder from which programs can be run"
        raise UserError(f"the compiled kernels cannot be loaded: {error}", path, hint) from error


def _name(compiler: list[str]) -> str:
    """The beginning of a library's name, SOURCES and COMPILER; for an empty command a pattern for any compiler."""
    identity = digest(*map(str.encode, compiler), _file_identity(compiler[0])) if compiler else "*"
    return f"kernels-{sources_digest(_flags(), _processor())}-{identity}"


def _file_identity(program: str) -> bytes:
    """Path, size and time of a program; asking it for its version would take longer than everything else."""
    path = Path(shutil.which(program) or program).resolve()
    status = path.stat()
    return f"{path} {status.st_size} {status.st_mtime_ns}".encode()


def _require_trusted(path: Path) -> None:
    """Refuse a folder or library that another user than this one and root owns or can write.

    Raises:
        UserError: says whose it is, or how to change its permissions.
    """
    status = path.stat()
    if status.st_uid not in (0, os.geteuid()):
        what, hint = f"it belongs to another user ({status.st_uid})", ""
    elif status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        what = f"other users can write it ({stat.filemode(status.st_mode)})"
        hint = f"chmod go-w {path}, or " if status.st_uid == os.geteuid() else ""
    else:
        return
    what = f"compiled kernels are not loaded from here: {what}"
    raise UserError(what, path, f"{hint}set DISTILL_CACHE to a folder that only you can write")


def forward_pass(name: str) -> Any:
    """The function of a network: ``(network, encoded texts, pooled) -> status``; see kernels/network.h."""
    function = getattr(library(), name)
    function.argtypes, function.restype = FORWARD_PASS, ctypes.c_int32
    return function


def lanes() -> int:
    """Lanes of 32 bits in a vector of the compiled kernels."""
    return int(library().distill_lanes())


def check_status(status: int) -> None:
    """Raise an error for the status that a kernel returned: 0 is success, anything else a lack of memory."""
    if status:
        raise out_of_memory()


def out_of_memory() -> UserError:
    """The error for texts that need more memory than there is."""
    return UserError("not enough memory for these texts", None, "pass fewer or shorter texts per call")


def _check_layout(loaded: ctypes.CDLL, name: str, mirror: type[ctypes.Structure]) -> None:
    in_c, in_python = _layout_in_c(loaded, name), layout(mirror)
    if in_c != in_python:
        raise RuntimeError(
            f"struct {name} differs between distill/runtime/kernels and its ctypes mirror {mirror.__module__}."
            f"{mirror.__name__}: (offset, size) of its fields are {in_c} in C, {in_python} in Python"
        )


def _layout_in_c(loaded: ctypes.CDLL, name: str) -> Layout:
    """The layout that EXPORT_LAYOUT (kernels/layout.h) exports; empty if there is none."""
    try:
        entries = ctypes.pointer(_FieldLayout.in_dll(loaded, f"distill_layout_{name}"))
    except ValueError:
        return {}
    fields: Layout = {}
    while field := entries[len(fields)].name:
        fields[field.decode()] = entries[len(fields)].offset, entries[len(fields)].size
    return fields | {"": (0, entries[len(fields)].size)}


def cache_folder() -> Path:
    """The folder of compiled kernels: ``DISTILL_CACHE``, or ``distill`` in the user's cache folder.

    Raises:
        UserError: the user has no home folder.
    """
    if chosen := os.environ.get("DISTILL_CACHE"):
        return Path(chosen).absolute()
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache").absolute() / "distill"
    except RuntimeError as error:
        what = "there is no home folder, in which compiled kernels are kept"
        raise UserError(what, "HOME", "set DISTILL_CACHE to a folder that only you can write") from error


def _flags() -> tuple[str, ...]:
    return (*FLAGS, *flags_of(os.environ.get("DISTILL_MARCH") or "native"))


def _processor() -> bytes:
    """The processor's model and features: machines of several kinds may share a home folder."""
    if os.environ.get("DISTILL_MARCH"):
        return b""
    return b"".join(_cpuinfo()) + f"{platform.machine()} {platform.processor()}".encode()


def _features() -> set[str]:
    """The instructions of an x86 processor that the operating system supports."""
    return {name for line in _cpuinfo() if line.startswith(b"flags") for name in line.decode().split()}


def _cpuinfo() -> list[bytes]:
    """The first processor's model and features; empty if the system does not list them."""
    try:
        with CPUINFO.open("rb") as lines:
            found = (line.rstrip(b"\n") for line in lines if line.startswith((b"flags", b"Features", b"model name")))
            return list(itertools.islice(found, 2))
    except OSError:
        return []


def build(sources: list[Path], path: Path) -> None:
    """Compile C sources into a shared library that only its owner can write.

    Raises:
        UserError: there is no C compiler, or it fails.
    """
    if not (compiler := _compiler()):
        hint = "apt install gcc, or pip install ziglang"
        raise UserError("the student's kernels need a C compiler once on each machine, and there is none", "PATH", hint)
    command = compile_command(compiler, _flags(), sources, path)
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)  # noqa: S603 (our own sources)
        message = (done.stderr.strip().splitlines() or ["it printed no message"])[0]
        failed = done.returncode or not path.is_file()
    except OSError as error:
        failed, message = True, str(error.strerror)
    if failed:
        raise UserError(f"the C compiler failed: {message}", " ".join(command[:2]), "CC=gcc, or another compiler")
    path.chmod(path.stat().st_mode & ~(stat.S_IWGRP | stat.S_IWOTH))


@contextlib.contextmanager
def _temporary_folder(parent: Path) -> Iterator[Path]:
    """A folder in ``parent``, which is created if necessary; it is removed at the end.

    Raises:
        UserError: ``parent`` cannot be written, or the disk is full.
    """
    try:
        parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        _require_trusted(parent)
        with tempfile.TemporaryDirectory(dir=parent, ignore_cleanup_errors=True) as temporary:
            yield Path(temporary)
    except OSError as error:
        hint = "set DISTILL_CACHE to a folder that can be written"
        raise UserError(f"compiled kernels cannot be kept here: {error.strerror}", parent, hint) from error


def _compiler() -> list[str]:
    """The command of the C compiler: ``CC`` or the first that is installed; empty if there is none."""
    chosen = os.environ.get("CC", "").split()
    installed = [[name] for name in ("cc", "gcc", "clang")]
    for command in [chosen] if chosen else installed:
        if shutil.which(command[0]):
            return command
    return [] if chosen or not find_spec("ziglang") else [sys.executable, "-m", "ziglang", "cc"]
