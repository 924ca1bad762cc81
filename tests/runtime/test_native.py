"""Compiling and loading the kernels: the cache, missing compilers, and what C and Python must have in common."""

from __future__ import annotations

import ctypes
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from distill.errors import UserError
from distill.runtime import constants, native, structs


@pytest.fixture
def unloaded() -> Iterator[None]:
    """No library is loaded yet."""
    native.library.cache_clear()
    yield
    native.library.cache_clear()


@pytest.fixture
def fresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, unloaded: None) -> Path:
    """The folder of an empty cache, and no library is loaded yet."""
    monkeypatch.setenv("DISTILL_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_kernels_are_compiled_once(fresh: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert native.library().distill_lanes() in (8, 16)
    (compiled,) = fresh.iterdir()
    assert compiled.name.startswith("kernels-")
    native.library.cache_clear()
    monkeypatch.setenv("CC", "false")  # would fail if it ran
    assert native.library().distill_lanes() in (8, 16)


@pytest.mark.usefixtures("fresh")
def test_no_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setattr(native, "find_spec", lambda _: None)
    with pytest.raises(UserError, match="need a C compiler once") as error:
        native.library()
    assert "apt install gcc" in error.value.hint


def test_ziglang_is_the_last_resort(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setattr(native, "find_spec", {"ziglang": object()}.get)
    assert native._compiler()[1:] == ["-m", "ziglang", "cc"]


def test_a_compiler_that_fails_leaves_no_files(fresh: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CC", "false")
    with pytest.raises(UserError, match="the C compiler failed: it printed no message"):
        native.library()
    assert not list(fresh.iterdir())


def test_a_cache_that_cannot_be_written(fresh: Path) -> None:
    fresh.write_text("a file where a folder is needed")
    with pytest.raises(UserError, match="cannot be kept here") as error:
        native.library()
    assert "DISTILL_CACHE" in error.value.hint


def mirror(name: str, *fields: tuple[str, Any]) -> type[ctypes.Structure]:
    return type(name, (ctypes.Structure,), {"_fields_": fields})


TEXTS = structs.Texts._fields_
FAULTY_MIRRORS = {
    "a field too many": mirror("Texts", *TEXTS, ("language", structs.Int32)),
    "a field too few": mirror("Texts", *TEXTS[:-1]),
    "two fields exchanged": mirror("Texts", TEXTS[1], TEXTS[0], TEXTS[2]),
    "a narrower field": mirror("Texts", *TEXTS[:-1], ("count", structs.Int32)),
    "another name": mirror("Texts", *TEXTS[:-1], ("texts", structs.Int64)),
}


@pytest.mark.usefixtures("unloaded")
@pytest.mark.parametrize("fault", FAULTY_MIRRORS)
def test_a_struct_that_differs_from_c_is_refused(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(structs.MIRRORS, "Texts", FAULTY_MIRRORS[fault])
    with pytest.raises(RuntimeError, match=r"struct Texts differs between .*kernels and its ctypes mirror"):
        native.library()


@pytest.mark.usefixtures("unloaded")
def test_a_struct_that_c_does_not_have_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(structs.MIRRORS, "Transformer", mirror("Transformer", ("heads", structs.Int32)))
    with pytest.raises(RuntimeError, match=r"struct Transformer differs .* are {} in C"):
        native.library()


def test_every_struct_and_function_of_c_has_its_mirror() -> None:
    source = "\n".join(path.read_text("utf-8") for path in sorted(constants.KERNELS.glob("*.c")))
    exported = set(re.findall(r"^EXPORT_LAYOUT\((\w+),", source, re.MULTILINE))
    assert exported - {"RecurrentReference"} == structs.MIRRORS.keys() - {"RecurrentReference"}
    functions = re.findall(r"^int(?:32_t)? (distill_\w+)\(([^)]*)\)", source, re.MULTILINE)
    networks = {name for name, arguments in functions if arguments.startswith("const void *network")}
    assert {name for name, _ in functions} - networks == native.ARGUMENTS.keys()
    for name, arguments in functions:
        count = 0 if arguments == "void" else arguments.count(",") + 1
        assert count == len(native.ARGUMENTS.get(name, native.FORWARD_PASS)), name


def test_constants_are_read_from_c() -> None:
    read = constants.read_constants("/* #define A 9 */\n#define NAME_H\n#define ONE 1 /* is 2 */\n#define HEX 0x10\n")
    assert read == {"ONE": 1, "HEX": 16}
    assert (constants.HAN.start, constants.HAN.stop) == (0x4E00, 0x9FD6)


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("gcc"), reason="gcc is not installed")
@pytest.mark.parametrize("flag", ["", " -DSIXTEEN_LANES"])
def test_networks_on_other_processors(flag: str, tmp_path: Path) -> None:
    """Without AVX, and with the array layout of AVX-512."""
    variables = {"CC": f"gcc{flag}", "DISTILL_MARCH": "x86-64", "DISTILL_CACHE": str(tmp_path)}
    tests = [str(Path(__file__).with_name(name)) for name in ("test_networks.py", "test_recurrent.py")]
    command = [sys.executable, "-m", "pytest", "-q", "--no-cov", *tests]
    done = subprocess.run(command, env={**os.environ, **variables}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert len(list(tmp_path.glob("kernels-*.so"))) == 1
