"""The kernels' compiler: what is said where there is none, or nowhere to keep what it makes."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from distill.errors import UserError
from distill.runtime import native


@pytest.fixture
def fresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty cache, and no library that is loaded already."""
    monkeypatch.setenv("DISTILL_CACHE", str(tmp_path / "cache"))
    native.library.cache_clear()
    yield tmp_path / "cache"
    native.library.cache_clear()


def test_kernels_are_compiled_once(fresh: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert native.library().distill_lanes() in (8, 16)
    (made,) = fresh.iterdir()
    assert made.name.startswith("kernels-")
    native.library.cache_clear()
    monkeypatch.setenv("CC", "false")  # it would fail, were it asked again
    assert native.library().distill_lanes() in (8, 16)


@pytest.mark.usefixtures("fresh")
def test_no_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setattr(native, "find_spec", lambda _: None)
    with pytest.raises(UserError, match="need a C compiler once") as error:
        native.library()
    assert "apt install gcc" in error.value.hint


def test_ziglang_where_there_is_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setattr(native, "find_spec", {"ziglang": object()}.get)
    assert native._compiler()[1:] == ["-m", "ziglang", "cc"]


def test_a_compiler_that_fails_leaves_nothing(fresh: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CC", "false")
    with pytest.raises(UserError, match="the C compiler failed: it said nothing"):
        native.library()
    assert not list(fresh.iterdir())


def test_nowhere_to_keep_them(fresh: Path) -> None:
    fresh.write_text("a file where a folder is needed")
    with pytest.raises(UserError, match="cannot be kept here") as error:
        native.library()
    assert "DISTILL_CACHE" in error.value.hint


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("gcc"), reason="gcc is not there")
@pytest.mark.parametrize("flag", ["", " -DSIXTEEN_LANES"])
def test_the_networks_of_other_processors(flag: str, tmp_path: Path) -> None:
    """Without any vector instructions, and with arrays laid out as AVX-512 wants them."""
    told = {"CC": f"gcc{flag}", "DISTILL_MARCH": "x86-64", "DISTILL_CACHE": str(tmp_path)}
    command = [sys.executable, "-m", "pytest", "-q", "--no-cov", str(Path(__file__).with_name("test_networks.py"))]
    done = subprocess.run(command, env={**os.environ, **told}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert len(list(tmp_path.glob("kernels-*.so"))) == 1
