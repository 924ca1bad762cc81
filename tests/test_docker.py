"""The Dockerfile without Docker: hadolint, then its steps one by one, with absolute paths moved into a folder.

The quick test skips the steps that need root or a package registry and uses this Python's packages and kernels. The
slow test builds the wheel and installs it into a new virtual environment, which proves that the extras are complete.
Then there is no compiler and no cache, so the kernels are the wheel's.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from string import Template
from urllib.request import Request, urlopen

import pytest

from distill.export.bundle import export_bundle
from distill.runtime import native

ROOT = Path(__file__).parent.parent
DOCKERFILE = ROOT / "Dockerfile"
NEEDS_ROOT = ("apt-get", "useradd")
NEEDS_A_REGISTRY = ("python -m venv", "pip install", "compilers/bin/pip")
ABSOLUTE = re.compile(r"(?<![\w.$}])/(opt|build|bundle|data)\b")  # absolute paths in the Dockerfile


def instructions() -> list[tuple[str, str]]:
    """(instruction, arguments) in order; continued lines are joined, comments removed."""
    text = re.sub(r"^#.*\n", "", DOCKERFILE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    lines = re.sub(r"\s*\\\n\s*", " ", text).splitlines()
    return [(name, rest) for name, _, rest in (line.partition(" ") for line in lines) if name]


@dataclass
class Image:
    """A build's result: a folder that stands for /, the environment, and the instructions that start the container."""

    root: Path
    environment: dict[str, str]
    started: dict[str, list[str]] = field(default_factory=dict)

    def moved(self, text: str) -> str:
        return ABSOLUTE.sub(rf"{self.root}/\1", text)

    def path(self, path: str, working: str = "/") -> Path:
        return self.root / os.path.normpath(f"{working}/{path}" if not path.startswith("/") else path).lstrip("/")

    def command(self, *names: str) -> list[str]:
        return [self.moved(word) for name in names for word in self.started[name]]


def build(folder: Path, with_registry: bool) -> Image:
    """The last stage of the Dockerfile, built in ``folder``."""
    stages: dict[str, Image] = {}
    for name, rest in instructions():
        if name == "FROM":
            stage = rest.partition(" AS ")[2] or "last"
            image = stages[stage] = Image(folder / stage, {"PATH": os.environ["PATH"], "HOME": str(folder)})
            working = "/"
            image.root.mkdir()
        elif name in ("ENV", "ARG"):
            pairs = re.findall(r"(\w+)=(\S+)", image.moved(rest))
            image.environment |= {key: Template(value).substitute(image.environment) for key, value in pairs}
        elif name == "WORKDIR":
            working = rest
            image.path(working).mkdir(parents=True, exist_ok=True)
        elif name == "COPY":
            copy(image, stages, rest, working)
        elif name == "RUN":
            run(image, rest, image.path(working), with_registry)
        elif name in ("ENTRYPOINT", "CMD"):
            image.started[name] = json.loads(rest)
        elif name == "HEALTHCHECK":
            image.started[name] = json.loads(rest.partition("CMD ")[2])
    return image


def copy(image: Image, stages: dict[str, Image], rest: str, working: str) -> None:
    """COPY: files of the build context or of another stage."""
    stage, *words = rest.split() if rest.startswith("--from=") else ["", *rest.split()]
    *sources, target = words
    destination = image.path(target, working)
    for source in sources:
        path = stages[stage.removeprefix("--from=")].path(source) if stage else ROOT / source
        if path.is_dir():
            shutil.copytree(
                path, destination, dirs_exist_ok=True, symlinks=True, ignore=shutil.ignore_patterns("__pycache__")
            )
        else:
            shutil.copy(path, destination / path.name if destination.is_dir() else destination)


def run(image: Image, step: str, folder: Path, with_registry: bool) -> None:
    """RUN, except for steps that cannot run here; those are printed."""
    needs = "root" if step.startswith(NEEDS_ROOT) else "a registry" if step.startswith(NEEDS_A_REGISTRY) else ""
    if needs == "root" or (needs and not with_registry):
        print(f"not run, as it needs {needs}: {step}")
        if "/opt/venv" in step:
            image.path("/opt/venv").mkdir(parents=True, exist_ok=True)
        return
    image.path("/opt").mkdir(exist_ok=True)  # every Debian has it
    subprocess.run(["/bin/sh", "-c", image.moved(step)], check=True, cwd=folder, env=image.environment)


def this_python(folder: Path) -> Path:
    """A folder for PATH with a ``python`` that is the one running the tests, and a ``distill`` of this repository."""
    programs = folder / "bin"
    programs.mkdir()
    for name, variables, module in (("python", "", ""), ("distill", f'PYTHONPATH="{ROOT}"', "-m distill")):
        (programs / name).write_text(f'#!/bin/sh\n{variables} exec "{sys.executable}" {module} "$@"\n')
        (programs / name).chmod(0o755)
    return programs


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@pytest.fixture(scope="module", params=[False, pytest.param(True, marks=pytest.mark.slow)], ids=["steps", "registry"])
def image(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, finished_run: Path) -> Image:
    folder = tmp_path_factory.mktemp("image")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", str(this_python(folder)), prepend=os.pathsep)
        built = build(folder, with_registry=request.param)
    if request.param:
        built.environment["CC"] = "no-compiler"
        (package,) = built.path("/opt/venv/lib").glob("python*/site-packages/distill")
        assert list(package.glob("runtime/compiled/*.so")) and not list(built.path("/opt").rglob("ziglang"))
    else:
        built.environment["DISTILL_CACHE"] = str(native.cache_folder())
    export_bundle(finished_run / "student", built.path("/bundle"))
    return built


@pytest.fixture
def service(image: Image) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """The container's command on a free port."""
    port = free_port()
    command = [*image.command("ENTRYPOINT", "CMD"), "--port", str(port)]
    process = subprocess.Popen(command, cwd=image.path("/data"), env=image.environment)
    yield process, port
    process.kill()
    process.wait()


def health(image: Image, port: int) -> int:
    """Exit status of the image's HEALTHCHECK: 0 means healthy."""
    command = [word.replace("8000", str(port)) for word in image.command("HEALTHCHECK")]
    return subprocess.run(command, env=image.environment, capture_output=True, check=False).returncode


def test_the_image_serves_a_bundle_and_stops(image: Image, service: tuple[subprocess.Popen[bytes], int]) -> None:
    process, port = service
    deadline = time.monotonic() + 60
    while health(image, port):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.1)
    body = json.dumps({"text": "球队今天公布新消息"}).encode()
    request = Request(f"http://127.0.0.1:{port}/predict", body, {"Content-Type": "application/json"})
    with urlopen(request, timeout=5) as response:  # noqa: S310
        assert json.load(response)["label"] == "体育"
    process.terminate()
    assert process.wait(20) == 0
    assert health(image, port)


def test_the_image_labels_a_file(image: Image) -> None:
    folder = image.path("/data")
    (folder / "texts.csv").write_text("text\n球队今天公布新消息\n", encoding="utf-8")
    words = ["--mode", "predict", "--bundle", "/bundle", "--input", "texts.csv", "--output", "labelled.csv"]
    command = [*image.command("ENTRYPOINT"), *map(image.moved, words)]
    subprocess.run(command, check=True, cwd=folder, env=image.environment)
    header, row = (folder / "labelled.csv").read_text(encoding="utf-8").splitlines()
    assert header == "text,predicted,probability" and row.startswith("球队今天公布新消息,体育,")


def test_both_stages_share_one_environment() -> None:
    lines = [rest.split(" PYTHON")[0] for name, rest in instructions() if name in ("FROM", "ENV")]
    assert lines[0].removesuffix(" AS builder") == lines[2] and lines[1] == lines[3]


def test_the_build_context_is_exactly_what_is_copied() -> None:
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = [rest.split()[:-1] for name, rest in instructions() if name == "COPY" and "--from" not in rest]
    assert {source for sources in copied for source in sources} == allowed
    assert all((ROOT / name).exists() for name in allowed)


def test_the_container_does_not_run_as_root() -> None:
    names = [name for name, _ in instructions()]
    assert names.index("USER") > max(index for index, name in enumerate(names) if name in ("RUN", "COPY"))
    assert dict(instructions())["USER"].isdigit()


def test_hadolint_finds_nothing() -> None:
    hadolint = shutil.which("hadolint", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    if not hadolint:
        pytest.skip("hadolint is not installed: pip install -r requirements-dev.txt")
    done = subprocess.run([hadolint, str(DOCKERFILE)], capture_output=True, text=True, check=False)
    assert done.returncode == 0 and not done.stdout, done.stdout
