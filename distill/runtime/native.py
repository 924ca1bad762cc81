"""The C kernels: compiled once for the machine that they run on, kept in a cache, loaded by ctypes.

``DISTILL_MARCH`` names a family of processors instead, as in x86-64-v3: the library then serves every one of them.
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

from distill.errors import UserError

KERNELS = Path(__file__).parent / "kernels"
FLAGS = ("-O3", "-std=gnu11", "-fPIC", "-shared", "-fno-math-errno")
LINKED = ("-lm",)


@functools.cache
def library() -> ctypes.CDLL:
    """The compiled kernels; the first call on a machine compiles them, which takes a second or two.

    Raises:
        UserError: there is no C compiler, or it fails.
    """
    sources = sorted(KERNELS.glob("*.c"))
    digest = hashlib.sha256(" ".join(_flags()).encode() + _processor())
    for source in sorted(KERNELS.iterdir()):
        digest.update(source.read_bytes())
    path = cache_folder() / f"kernels-{digest.hexdigest()[:16]}.so"
    if not path.exists():
        build(sources, path)
    return ctypes.CDLL(str(path))


def cache_folder() -> Path:
    """Where compiled kernels are kept: ``DISTILL_CACHE``, or ``distill`` in the user's cache folder."""
    given = os.environ.get("DISTILL_CACHE")
    return Path(given) if given else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "distill"


def _flags() -> tuple[str, ...]:
    return (*FLAGS, f"-march={os.environ.get('DISTILL_MARCH') or 'native'}")


def _processor() -> bytes:
    """What the processor can do: a home folder may be shared by machines of several kinds."""
    if os.environ.get("DISTILL_MARCH"):
        return b""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_bytes().splitlines() if cpuinfo.exists() else []
    told = [line for line in lines if line.startswith((b"flags", b"Features", b"model name"))]
    return b"".join(told[:2]) + f"{platform.machine()} {platform.processor()}".encode()


def build(sources: list[Path], path: Path) -> None:
    """Compile C sources into a library, written atomically."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        temporary = Path(tempfile.mkdtemp(dir=path.parent))
    except OSError as error:
        hint = "set DISTILL_CACHE to a folder that can be written"
        raise UserError(f"compiled kernels cannot be kept here: {error.strerror}", path.parent, hint) from error
    try:
        command = [*_compiler(), *_flags(), "-o", str(temporary / path.name), *map(str, sources), *LINKED]
        done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 (our own sources)
        if done.returncode:
            said = (done.stderr.strip().splitlines() or ["it said nothing"])[0]
            raise UserError(f"the C compiler failed: {said}", " ".join(command[:2]), "CC=gcc, or another compiler")
        (temporary / path.name).replace(path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _compiler() -> list[str]:
    given = os.environ.get("CC", "").split()
    found = next((name for name in ("cc", "gcc", "clang") if shutil.which(name)), "")
    if given or found:
        return given or [found]
    if find_spec("ziglang"):
        return [sys.executable, "-m", "ziglang", "cc"]
    hint = "apt install gcc, or pip install ziglang"
    raise UserError("the student's kernels need a C compiler once on each machine, there is none", "PATH", hint)
