"""Every command of README.md and docs/tutorial.md is run, in the order in which it stands there, in an empty folder.

Training is made small by flags that stand before those of the document; a toy teacher, toy vectors and toy texts lie
where the commands look for them. What needs a registry, root or Docker is looked at instead, and the reason is printed.
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
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import pytest
from benchmarking import hurried
from conftest import titles
from test_docker import free_port, this_python

from distill.cli import main, parser
from distill.data import Example, example_id

__all__ = ["hurried"]  # a fixture: --mode benchmark with little effort

ROOT = Path(__file__).parent.parent
IMAGE = "distill-zh"
BASH = shutil.which("bash") or "bash"
SERVED = "127.0.0.1:8000"
BLOCK = re.compile(r"^```(bash|python)\n(.*?)^```$|^\| `(python distill\.py[^`]*)`", re.MULTILINE | re.DOTALL)
TINY = shlex.split(
    "--teacher_epochs 1 --student_epochs 1 --student_hidden 8 --ngrams 256 --threads 1 --objectives logits --trials 1 "
    "--general_words 20 --general_sentences 0 --dictionary 30"
)


@dataclass(frozen=True)
class Command:
    """One command of a document: a line of a shell (continued ones joined, no comments), or a block of Python."""

    language: str
    text: str


def commands(document: str) -> list[Command]:
    """The commands of a document's blocks, and of the first column of its tables, in order."""
    found = []
    for language, block, of_table in BLOCK.findall((ROOT / document).read_text(encoding="utf-8")):
        if language == "python":
            found.append(Command(language, block))
            continue
        lines = (of_table or block).replace("\\\n", " ").splitlines()
        found += [Command("bash", text) for line in lines if (text := re.sub(r"(^|\s)#\s.*", "", line).strip())]
    return found


@dataclass
class Reader:
    """Somebody who types one command after the other in a folder of their own."""

    folder: Path
    services: list[subprocess.Popen[bytes]] = field(default_factory=list)
    port: int = 0

    def types(self, command: Command) -> None:
        """Run a command, or look at what cannot be run here."""
        if command.language == "python":
            exec(command.text, {})  # noqa: S102 (the document's own)
            return
        text = command.text
        print(f"$ {text}")
        reason, look = next((found for begins, found in LOOKED_AT.items() if re.match(begins, text)), ("", None))
        if look:
            print(f"not run, {reason}")
            look(shlex.split(text))
        elif "--mode serve" in text:
            self.serves(self.arguments(text))
        elif text.startswith("python distill.py") and "|" not in text:
            self.distills(self.arguments(text))
        else:
            self.shell(text)

    def arguments(self, text: str) -> list[str]:
        """What stands behind the program's name, with the small settings first: the document's own win."""
        given = shlex.split(text)[2:]
        return given if "--config" in given else [*TINY, *given]

    def distills(self, arguments: list[str]) -> None:
        """The command, in this process, as a new one takes seconds to import PyTorch."""
        try:
            assert main(arguments) == 0, arguments
        except SystemExit as ended:  # --help
            assert not ended.code

    def shell(self, text: str) -> None:
        """Any other line, by bash; what the service answers is looked at."""
        text = re.sub(r"\bcurl ", "curl --silent --show-error --fail ", text).replace(SERVED, f"127.0.0.1:{self.port}")
        command = [BASH, "-euo", "pipefail", "-c", text]
        done = subprocess.run(command, cwd=self.folder, capture_output=True, text=True, check=False)
        assert done.returncode == 0, (text, done.stderr)
        print(done.stdout)
        if text.startswith("curl") and "/predict" in text:
            answer = json.loads(done.stdout)
            assert all(each["label"] for each in answer.get("predictions", [answer]))

    def serves(self, arguments: list[str]) -> None:
        """Start a service on a free port, and wait until it is ready."""
        self.port = free_port()
        command = [sys.executable, "distill.py", *arguments, "--port", str(self.port)]
        self.services.append(subprocess.Popen(command, cwd=self.folder))
        ends = time.monotonic() + 60
        while not self.is_ready():
            assert self.services[-1].poll() is None and time.monotonic() < ends, arguments
            time.sleep(0.1)

    def is_ready(self) -> bool:
        """Whether the service answers."""
        try:
            with urlopen(f"http://127.0.0.1:{self.port}/ready", timeout=1) as answer:
                return bool(answer.status == 200)
        except URLError:
            return False

    def leaves(self) -> None:
        """Stop the services, as Ctrl-C does."""
        for service in self.services:
            service.terminate()
            assert service.wait(30) == 0


def _requirements(words: list[str]) -> None:
    """``pip install -r FILE …``: the files are there. What they pin is looked at in test_docs."""
    files = [word for word in words if word.endswith(".txt")]
    assert words[:2] == ["pip", "install"] and files and all((ROOT / name).is_file() for name in files)


def _target(words: list[str]) -> None:
    """``make TARGET``: make knows it."""
    make = shutil.which("make") or pytest.skip("make is not installed")
    subprocess.run([make, "-n", *words[1:]], cwd=ROOT, check=True, capture_output=True)


def _image(words: list[str]) -> None:
    """``docker …``: one image everywhere, and a command that the program understands."""
    assert IMAGE in words and words[1] in ("build", "run")
    if words[1] == "build":
        assert words[-1] == "." and (ROOT / "Dockerfile").is_file()
    else:
        parser().parse_args(words[words.index(IMAGE) + 1 :])
        assert any(word.endswith("/bundle:/bundle:ro") for word in words)


LOOKED_AT: dict[str, tuple[str, Callable[[list[str]], None]]] = {
    "pip ": ("it needs a package registry", _requirements),
    "make ": ("it makes a virtual environment from a package registry", _target),
    "docker ": ("it needs Docker; tests/test_docker.py runs the steps of the image", _image),
    r"python3\.11 -m venv \.venv$": ("this Python is one", lambda words: None),
    r"\. \.venv/bin/activate$": ("this Python is one", lambda words: None),
}


@pytest.fixture
def reader(
    tmp_path: Path, tiny_bert: Path, toy_vectors: Path, title_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Reader]:
    """A reader in a folder with what the documents presuppose."""
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
    reader = Reader(tmp_path)
    yield reader
    for service in reader.services:
        service.kill()


@pytest.mark.usefixtures("hurried")
@pytest.mark.parametrize("document", [pytest.param("README.md", marks=pytest.mark.slow), "docs/tutorial.md"])
def test_every_command_can_be_typed_in_turn(document: str, reader: Reader) -> None:
    typed = commands(document)
    assert len(typed) > 15
    for command in typed:
        reader.types(command)
    reader.leaves()


def test_commands_are_found() -> None:
    tutorial = [command.text for command in commands("docs/tutorial.md")]
    begins = {text.split()[0] for text in tutorial}
    assert {"pip", "python", "curl", "docker", "mkdir"} <= begins
    assert any("--user" in text and text.endswith("labelled.csv") for text in tutorial), "continued lines are joined"
    assert not any("# " in command.text for command in commands("README.md") if command.language == "bash")
