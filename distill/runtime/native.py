"""The C kernels: compiled once on each machine for its processor, cached, and loaded through ctypes.

``DISTILL_MARCH`` (the compiler's ``-march``, such as x86-64-v3) compiles for a family of processors instead.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from distill.errors import UserError
from distill.runtime import structs
from distill.runtime.constants import KERNELS
from distill.runtime.structs import MIRRORS, Int32, Int64, Layout, layout

FLAGS = ("-O3", "-std=gnu11", "-fPIC", "-shared", "-fno-math-errno")
LIBRARIES = ("-lm",)

Array = ctypes.c_void_p  # the address of an array
LEXICON, NGRAM_TABLE = ctypes.POINTER(structs.Lexicon), ctypes.POINTER(structs.NgramTable)
TEXTS, ENCODED_TEXTS = ctypes.POINTER(structs.Texts), ctypes.POINTER(structs.EncodedTexts)
STUDENT = ctypes.POINTER(structs.StudentModel)
ARGUMENTS = {  # of every exported function, as in its C definition; all return a status, except distill_lanes
    "distill_lanes": (),
    "distill_build_trie": (Array, Int64, Int64, Array, Array, Array, Int64, Array),
    "distill_segment": (LEXICON, TEXTS, Array, Array),
    "distill_encode": (LEXICON, TEXTS, Int64, Array, Array),
    "distill_ngram_rows": (NGRAM_TABLE, TEXTS, Array, Array),
    "distill_logits_of_ids": (STUDENT, ENCODED_TEXTS, Array),
    "distill_logits_of_texts": (LEXICON, NGRAM_TABLE, STUDENT, TEXTS, TEXTS, Int32, Array),
}
FORWARD_PASS = (ctypes.c_void_p, ENCODED_TEXTS, Array)  # arguments of a network's function; see kernels/network.h


class _FieldLayout(ctypes.Structure):
    """See kernels/layout.h."""

    _fields_ = (("name", ctypes.c_char_p), ("offset", Int64), ("size", Int64))


@functools.cache
def library() -> ctypes.CDLL:
    """The compiled kernels; the first call on a machine compiles them, which takes some seconds.

    Raises:
        UserError: there is no C compiler, it fails, or the cache folder cannot be written.
        RuntimeError: a struct differs between C and Python (a bug in this program).
    """
    digest = hashlib.sha256(" ".join(_flags()).encode() + _processor())
    for source in sorted(KERNELS.iterdir()):
        digest.update(source.read_bytes())
    path = cache_folder() / f"kernels-{digest.hexdigest()[:16]}.so"
    if not path.exists():
        build(sorted(KERNELS.glob("*.c")), path)
    loaded = ctypes.CDLL(str(path))
    for name, mirror in MIRRORS.items():
        _check_layout(loaded, name, mirror)
    for name, arguments in ARGUMENTS.items():
        function = getattr(loaded, name)
        function.argtypes, function.restype = arguments, ctypes.c_int32
    return loaded


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
        raise UserError("not enough memory for these texts", None, "pass fewer or shorter texts per call")


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
    """The folder of compiled kernels: ``DISTILL_CACHE``, or ``distill`` in the user's cache folder."""
    chosen = os.environ.get("DISTILL_CACHE")
    return Path(chosen) if chosen else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "distill"


def _flags() -> tuple[str, ...]:
    return (*FLAGS, f"-march={os.environ.get('DISTILL_MARCH') or 'native'}")


def _processor() -> bytes:
    """The processor's model and features: machines of several kinds may share a home folder."""
    if os.environ.get("DISTILL_MARCH"):
        return b""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_bytes().splitlines() if cpuinfo.exists() else []
    features = [line for line in lines if line.startswith((b"flags", b"Features", b"model name"))]
    return b"".join(features[:2]) + f"{platform.machine()} {platform.processor()}".encode()


def build(sources: list[Path], path: Path) -> None:
    """Compile C sources into a shared library, written atomically.

    Raises:
        UserError: there is no C compiler, it fails, or the library's folder cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        temporary = Path(tempfile.mkdtemp(dir=path.parent))
    except OSError as error:
        hint = "set DISTILL_CACHE to a folder that can be written"
        raise UserError(f"compiled kernels cannot be kept here: {error.strerror}", path.parent, hint) from error
    try:
        command = [*_compiler(), *_flags(), "-o", str(temporary / path.name), *map(str, sources), *LIBRARIES]
        done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 (our own sources)
        if done.returncode:
            message = (done.stderr.strip().splitlines() or ["it printed no message"])[0]
            raise UserError(f"the C compiler failed: {message}", " ".join(command[:2]), "CC=gcc, or another compiler")
        (temporary / path.name).replace(path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _compiler() -> list[str]:
    chosen = os.environ.get("CC", "").split()
    installed = next((name for name in ("cc", "gcc", "clang") if shutil.which(name)), "")
    if chosen or installed:
        return chosen or [installed]
    if find_spec("ziglang"):
        return [sys.executable, "-m", "ziglang", "cc"]
    hint = "apt install gcc, or pip install ziglang"
    raise UserError("the student's kernels need a C compiler once on each machine, and there is none", "PATH", hint)
