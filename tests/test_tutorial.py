"""Run every command of README.md and docs/tutorial.md in order in an empty folder.

Flags placed before those of the document make training small; a toy teacher, toy vectors and toy texts lie where the
commands look for them. A command that needs a registry, root or Docker is checked without running it, and the reason is
printed.
"""

from __future__ import annotations

import bz2
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

import pytest
from benchmarking import quick_benchmark
from conftest import titles
from test_docker import free_port, this_python

from distill.cli import main, parser
from distill.data import Example, example_id
from distill.estimator import arguments, classifier
from distill.runtime import load

__all__ = ["quick_benchmark"]  # a fixture: --mode benchmark with little effort

ROOT = Path(__file__).parent.parent
IMAGE = "distill-zh"
BASH = shutil.which("bash") or "bash"
SERVED = "127.0.0.1:8000"
BLOCK = re.compile(r"^```(bash|python)\n(.*?)^```$|^\| `(python distill\.py[^`]*)`", re.MULTILINE | re.DOTALL)
TINY = shlex.split(
    "--teacher_epochs 1 --student_epochs 1 --student_hidden 8 --ngrams 256 --threads 1 --objectives logits --trials 1 "
    "--general_words 20 --general_sentences 0 --dictionary 30"
)
# The same for the estimator.
TINY_SETTINGS = {"teacher_epochs": 1, "student_epochs": 1, "student_hidden": 8, "ngrams": 256, "general_words": 20}
TINY_SETTINGS |= {"general_sentences": 0, "dictionary": 30}


@dataclass(frozen=True)
class Command:
    """One command of a document: a shell line (continuation lines joined, comments removed) or a Python block."""

    language: str
    text: str


def commands(document: str) -> list[Command]:
    """The commands of a document in order: its code blocks and the first column of its tables."""
    found = []
    for language, block, table_cell in BLOCK.findall((ROOT / document).read_text(encoding="utf-8")):
        if language == "python":
            found.append(Command(language, block))
            continue
        lines = (table_cell or block).replace("\\\n", " ").splitlines()
        found += [Command("bash", text) for line in lines if (text := re.sub(r"(^|\s)#\s.*", "", line).strip())]
    return found


@dataclass
class Reader:
    """A reader who types one command after the other in a new folder."""

    folder: Path
    services: list[subprocess.Popen[bytes]] = field(default_factory=list)
    port: int = 0

    def type(self, command: Command) -> None:
        """Run a command, or only check it if it cannot run here."""
        if command.language == "python":
            exec(command.text, {})  # noqa: S102 (the document's own)
            return
        text = command.text
        print(f"$ {text}")
        reason, check = next((entry for start, entry in CHECKED_ONLY.items() if re.match(start, text)), ("", None))
        if check:
            print(f"not run, {reason}")
            check(shlex.split(text))
        elif "--mode serve" in text:
            self.serve(self.arguments(text))
        elif text.startswith("python distill.py") and "|" not in text:
            self.distill(self.arguments(text))
        else:
            self.shell(text)

    def arguments(self, text: str) -> list[str]:
        """The command's arguments after the flags that make training small; the document's own flags override those."""
        arguments = shlex.split(text)[2:]
        return arguments if "--config" in arguments else [*TINY, *arguments]

    def distill(self, arguments: list[str]) -> None:
        """Run the command in this process: a new one would take seconds to import PyTorch."""
        try:
            assert main(arguments) == 0, arguments
        except SystemExit as ended:  # --help
            assert not ended.code

    def shell(self, text: str) -> None:
        """Run any other line with bash; check the service's predictions."""
        text = re.sub(r"\bcurl ", "curl --silent --show-error --fail ", text).replace(SERVED, f"127.0.0.1:{self.port}")
        command = [BASH, "-euo", "pipefail", "-c", text]
        done = subprocess.run(command, cwd=self.folder, capture_output=True, text=True, check=False)
        assert done.returncode == 0, (text, done.stderr)
        print(done.stdout)
        if text.startswith("curl") and "/predict" in text:
            response = json.loads(done.stdout)
            assert all(prediction["label"] for prediction in response.get("predictions", [response]))

    def serve(self, arguments: list[str]) -> None:
        """Start a service on a free port and wait until it is ready."""
        self.port = free_port()
        command = [sys.executable, "distill.py", *arguments, "--port", str(self.port)]
        self.services.append(subprocess.Popen(command, cwd=self.folder))
        deadline = time.monotonic() + 60
        while not self.is_ready():
            assert self.services[-1].poll() is None and time.monotonic() < deadline, arguments
            time.sleep(0.1)

    def is_ready(self) -> bool:
        """Whether the service is ready."""
        try:
            with urlopen(f"http://127.0.0.1:{self.port}/ready", timeout=1) as response:
                return bool(response.status == 200)
        except URLError:
            return False

    def stop_services(self) -> None:
        """Stop the services as Ctrl-C does."""
        for service in self.services:
            service.terminate()
            assert service.wait(30) == 0


def _requirements(words: list[str]) -> None:
    """``pip install -r FILE``, ``"distill-zh[EXTRA]"`` or ``-e ".[EXTRA]"``: the file or the extras exist."""
    assert words[:2] == ["pip", "install"]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    package = re.fullmatch(rf"(?:-e \.|{project['name']})(?:\[([\w,]+)\])?", " ".join(words[2:]))
    assert package or (words[2] == "-r" and (ROOT / words[3]).is_file()), words
    assert not package or {*(package[1] or "train").split(",")} <= project["optional-dependencies"].keys()


def _target(words: list[str]) -> None:
    """``make TARGET``: the target exists."""
    make = shutil.which("make") or pytest.skip("make is not installed")
    subprocess.run([make, "-n", *words[1:]], cwd=ROOT, check=True, capture_output=True)


def _image(words: list[str]) -> None:
    """``docker …``: always the same image, and arguments that the program accepts."""
    assert IMAGE in words and words[1] in ("build", "run")
    if words[1] == "build":
        assert words[-1] == "." and (ROOT / "Dockerfile").is_file()
    else:
        parser().parse_args(words[words.index(IMAGE) + 1 :])
        assert any(word.endswith("/bundle:/bundle:ro") for word in words)


CHECKED_ONLY: dict[str, tuple[str, Callable[[list[str]], None]]] = {
    "pip ": ("it needs a package registry", _requirements),
    "make ": ("it creates a virtual environment from a package registry", _target),
    "docker ": ("it needs Docker; tests/test_docker.py runs the steps of the image", _image),
    r"python3\.11 -m venv \.venv$": ("the tests run in one", lambda words: None),
    r"\. \.venv/bin/activate$": ("the tests run in one", lambda words: None),
}


@pytest.fixture
def reader(
    tmp_path: Path, tiny_bert: Path, toy_vectors: Path, title_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Reader]:
    """A reader in a folder that contains what the documents assume."""
    for name in ("distill.py", "data"):
        (tmp_path / name).symlink_to(ROOT / name)
    for name in ("bert_pretrain", "bert-base-chinese", "path/to/checkpoint"):
        shutil.copytree(tiny_bert, tmp_path / name)
    (tmp_path / "path/to/sgns.wiki.word.bz2").write_bytes(bz2.compress(toy_vectors.read_bytes()))
    (tmp_path / "embeddings").mkdir()
    shutil.copy(toy_vectors, tmp_path / "embeddings")
    shutil.copytree(title_folder, tmp_path / "FOLDER")
    (tmp_path / "texts.txt").write_text("".join(f"{text}吗\n" for text, _ in titles(0, 20)), encoding="utf-8")
    monkeypatch.setenv("PATH", str(this_python(tmp_path)), prepend=os.pathsep)
    monkeypatch.chdir(tmp_path)
    reviews = [Example(example_id(text), text, int(label == "体育")) for text, label in titles(0, 120)]
    monkeypatch.setattr("distill.data.read_reviews", lambda: reviews)
    given = arguments.given_settings
    monkeypatch.setattr(classifier, "given_settings", lambda settings: {**TINY_SETTINGS, **given(settings)})
    reader = Reader(tmp_path)
    yield reader
    for service in reader.services:
        service.kill()


@pytest.mark.usefixtures("quick_benchmark")
@pytest.mark.slow
@pytest.mark.parametrize("document", ["README.md", "docs/tutorial.md"])
def test_every_command_runs_in_order(document: str, reader: Reader) -> None:
    found = commands(document)
    assert len(found) > 15
    for command in found:
        reader.type(command)
    reader.stop_services()


@pytest.mark.filterwarnings("ignore::distill.errors.DistillWarning")
def test_the_example_of_the_readme(reader: Reader) -> None:
    (example,) = [command for command in commands("README.md") if "DistilledTextClassifier" in command.text]
    assert len([line for line in example.text.splitlines() if line]) < 10
    reader.type(example)
    assert load("bundle").labels == ("negative", "positive")


@pytest.mark.usefixtures("small_dictionary", "reader")
@pytest.mark.filterwarnings("ignore::distill.errors.DistillWarning")
def test_the_examples_of_the_python_page() -> None:
    """They build on one another."""
    names: dict[str, Any] = {}
    for command in commands("docs/python.md"):
        exec(command.text, names)  # noqa: S102 (the document's own)
    assert names["classifier"].classes_.tolist() == ["negative", "positive"] and len(names["unsure"]) == 2
    assert "is_label_issue" in names["issues"] and names["search"].best_params_


def test_the_first_commands_of_the_tutorial(reader: Reader) -> None:
    """Up to the first labelled file; the slow test runs all of them and README's."""
    found = commands("docs/tutorial.md")
    first_file = next(number for number, command in enumerate(found) if "--mode predict" in command.text)
    for command in found[: first_file + 1]:
        reader.type(command)
    assert (reader.folder / "labelled.csv").is_file()


def test_the_commands_of_the_tutorial_parse() -> None:
    texts = [command.text for command in commands("docs/tutorial.md") if command.text.startswith("python distill.py")]
    assert len(texts) > 7
    for text in texts:
        if "--help" not in text:
            parser().parse_args(shlex.split(text.partition("|")[0])[2:])


def test_commands_are_found() -> None:
    tutorial = [command.text for command in commands("docs/tutorial.md")]
    programs = {text.split()[0] for text in tutorial}
    assert {"pip", "python", "curl", "docker", "mkdir"} <= programs
    assert any("--user" in text and text.endswith("labelled.csv") for text in tutorial), "continuation lines are joined"
    assert not any("# " in command.text for command in commands("README.md") if command.language == "bash")
