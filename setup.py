"""Compiles the kernels into the wheel and tags it for its platform; pyproject.toml holds everything but the version.

The compiler is ``CC``, ziglang or the system's; for another machine (--plat-name=linux_aarch64) it is ziglang. Without
a compiler, the package has no compiled kernels and compiles them when they are first used.
"""

from __future__ import annotations

import os
import platform
import re
import runpy
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

from setuptools import setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_py import build_py

ROOT = Path(__file__).parent
VERSION = re.search(r'^__version__ = "(.+)"$', (ROOT / "distill/__init__.py").read_text("utf-8"), re.MULTILINE)
variants = SimpleNamespace(**runpy.run_path(str(ROOT / "distill/runtime/variants.py")))
COMPILED = variants.COMPILED.relative_to(ROOT)
LATER = "the kernels will be compiled when they are first used"
OLDEST_GLIBC = 17  # 2.17, of 2012


def machine_of(plat_name: str) -> str:
    """The machine that a wheel for Linux is built for; another system's whole name."""
    return plat_name.replace("-", "_").removeprefix("linux_")


def compiler(machine: str) -> list[str]:
    """The command of a C compiler for a machine; empty if there is none."""
    is_here = machine == platform.machine()
    if (chosen := os.environ.get("CC", "").split()) and is_here:
        return chosen if shutil.which(chosen[0]) else []
    if find_spec("ziglang"):
        return [sys.executable, "-m", "ziglang", "cc", "-target", f"{machine}-linux-gnu.2.{OLDEST_GLIBC}"]
    found = [name for name in ("cc", "gcc", "clang") if shutil.which(name) and is_here]
    return found[:1]


class BuildWithKernels(build_py):
    """Copies the modules, and compiles a library for every family of processors of the wheel's machine."""

    def run(self) -> None:
        """Build the package; in an editable installation the kernels are compiled when they are first used."""
        super().run()
        folder = Path(self.build_lib, COMPILED)
        shutil.rmtree(folder, ignore_errors=True)  # of an earlier build
        machine = machine_of(self.get_finalized_command("bdist_wheel").plat_name)
        for variant in variants.VARIANTS if not self.editable_mode else ():
            if variant.machine == machine:
                self.compile_variant(variant, folder)

    def compile_variant(self, variant: SimpleNamespace, folder: Path) -> None:
        """Compile a library into a folder, or say why there is none."""
        folder.mkdir(exist_ok=True)
        sources, library = sorted(variants.KERNELS.glob("*.c")), folder / variant.library.name
        if not (command := compiler(variant.machine)):
            self.warn(f"no C compiler for {variant.name}: {LATER}")
            return
        words = variants.compile_command(command, (*variants.FLAGS, "-s", *variant.flags), sources, library)
        if subprocess.run(words, check=False).returncode:  # noqa: S603 (our own sources)
            self.warn(f"{' '.join(command)} failed for {variant.name}: {LATER}")


class PlatformWheel(bdist_wheel):
    """A wheel for any Python 3 and, if it has compiled kernels, for machines with their processor and C library."""

    def get_tag(self) -> tuple[str, str, str]:
        """The tag by the newest version of glibc that the libraries ask for; they name none for another C library."""
        contents = [library.read_bytes() for library in Path(self.bdist_dir, COMPILED).glob("*.so")]
        if not contents:
            return "py3", "none", "any"
        self.root_is_pure = False
        versions = [int(minor) for content in contents for minor in re.findall(rb"GLIBC_2\.(\d+)", content)]
        system = f"manylinux_2_{max(OLDEST_GLIBC, *versions)}" if versions else "linux"
        return "py3", "none", f"{system}_{machine_of(self.plat_name)}"


setup(version=VERSION[1], cmdclass={"build_py": BuildWithKernels, "bdist_wheel": PlatformWheel})
