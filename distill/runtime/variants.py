"""The compiled kernels of a wheel: one library for each of several families of processors.

setup.py compiles them and :mod:`distill.runtime.native` loads them. setup.py runs this file before any package is
installed, so it imports the standard library only.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import NamedTuple

KERNELS = Path(__file__).parent / "kernels"
COMPILED = Path(__file__).parent / "compiled"
FLAGS = ("-O3", "-std=gnu11", "-fPIC", "-shared", "-fno-math-errno")
LIBRARIES = ("-lm",)
ZIG_NAMES = {"armv8-a": "generic"}  # zig's other names of processors differ from -march in hyphens only
AVX2 = "xsave avx avx2 bmi1 bmi2 f16c fma abm movbe"


class Variant(NamedTuple):
    """A family of processors.

    Args:
        name: its name in files and in ``DISTILL_MARCH``.
        machine: as :func:`platform.machine` calls it.
        flags: what the compiler needs to know.
        features: what /proc/cpuinfo lists for a processor of the family, separated by spaces.
    """

    name: str
    machine: str
    flags: tuple[str, ...]
    features: str = ""

    @property
    def library(self) -> Path:
        """Its library in an installed wheel; the name says from which sources and with which flags it was compiled."""
        return COMPILED / f"kernels-{sources_digest((*FLAGS, *self.flags))}-{self.name}.so"


VARIANTS = (  # the fastest first
    Variant(
        "x86-64-v4-vnni",
        "x86_64",
        ("-march=x86-64-v4", "-mavx512vnni"),
        f"{AVX2} avx512f avx512bw avx512cd avx512dq avx512vl avx512_vnni",
    ),
    Variant("x86-64-v3", "x86_64", ("-march=x86-64-v3",), AVX2),
    Variant("armv8-a", "aarch64", ("-march=armv8-a",)),
)


def sources_digest(flags: tuple[str, ...], processor: bytes = b"") -> str:
    """A hash of the kernels' sources, of the compiler's flags and of the processor that they are compiled for."""
    sources = [source.read_bytes() for source in sorted(KERNELS.iterdir())]
    return digest(" ".join(flags).encode(), processor, *sources)


def digest(*contents: bytes) -> str:
    """A short hash of contents."""
    result = hashlib.sha256()
    for content in contents:
        result.update(content)
    return result.hexdigest()[:16]


def flags_of(march: str) -> tuple[str, ...]:
    """The flags for a variant's name, or for any other ``-march`` of the compiler."""
    return next((variant.flags for variant in VARIANTS if variant.name == march), (f"-march={march}",))


def compile_command(compiler: list[str], flags: tuple[str, ...], sources: list[Path], library: Path) -> list[str]:
    """The command that compiles sources into a library."""
    if "ziglang" in compiler:
        marches = {flag: flag.removeprefix("-march=") for flag in flags if flag.startswith("-march=")}
        zig = {flag: f"-march={ZIG_NAMES.get(march, march.replace('-', '_'))}" for flag, march in marches.items()}
        flags = tuple(zig.get(flag, flag) for flag in flags)
    return [*compiler, *flags, "-o", str(library), *map(str, sources), *LIBRARIES]
