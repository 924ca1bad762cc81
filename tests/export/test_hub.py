"""``--push_to_hub`` against a stand-in for the Hub: what arrives there, and what the user is told when it does not."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from distill.cli import main
from distill.errors import UserError
from distill.export import hub

ROOT = Path(__file__).parents[2]
PUSH = "import pathlib, sys; from distill.export.hub import push; print(push(pathlib.Path(sys.argv[1]), sys.argv[2]))"


class StandIn(ThreadingHTTPServer):
    """The calls of the Hub that a push makes. ``lfs`` names endings that go the way of large files."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answers)
        self.lfs: tuple[str, ...] = ()
        self.status = 0  # what creating a repository answers, if not 200
        self.is_there = False
        self.files: dict[str, bytes] = {}
        self.objects: dict[str, bytes] = {}
        self.asked: list[str] = []
        self.created: dict[str, Any] = {}
        self.tokens: set[str | None] = set()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Answers(BaseHTTPRequestHandler):
    server: StandIn

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        self.answer({"error": "not there"}, 404)

    def do_PUT(self) -> None:
        self.server.objects[self.path.rpartition("/")[2]] = self.content()
        self.answer({})

    def do_POST(self) -> None:
        self.server.asked.append(self.path)
        self.server.tokens.add(self.headers.get("Authorization"))
        content = self.content()
        if self.path.endswith("/api/repos/create"):
            self.create(json.loads(content))
        elif self.path.endswith("/api/validate-yaml"):
            self.answer({"errors": [], "warnings": []})
        elif "/preupload/" in self.path:
            self.answer({"files": [self.way_of(file["path"]) for file in json.loads(content)["files"]]})
        elif self.path.endswith("/info/lfs/objects/batch"):
            self.answer(
                {"transfer": "basic", "objects": [self.place_of(one) for one in json.loads(content)["objects"]]}
            )
        elif "/commit/" in self.path:
            self.commit([json.loads(line) for line in content.splitlines()])
        else:
            self.answer({"error": f"unknown: {self.path}"}, 404)

    def create(self, asked: dict[str, Any]) -> None:
        self.server.created = asked
        address = {"url": f"{self.server.address}/{asked['organization']}/{asked['name']}"}
        self.answer(address, self.server.status or (409 if self.server.is_there else 200))

    def way_of(self, path: str) -> dict[str, Any]:
        way = "lfs" if self.server.lfs and path.endswith(self.server.lfs) else "regular"
        return {"path": path, "uploadMode": way, "shouldIgnore": False, "oid": None}

    def place_of(self, one: dict[str, Any]) -> dict[str, Any]:
        return one | {"actions": {"upload": {"href": f"{self.server.address}/objects/{one['oid']}"}}}

    def commit(self, lines: list[dict[str, Any]]) -> None:
        for line in lines:
            value = line["value"]
            if line["key"] == "file":
                self.server.files[value["path"]] = base64.b64decode(value["content"])
            if line["key"] == "lfsFile":
                self.server.files[value["path"]] = self.server.objects[value["oid"]]
        self.answer({"commitUrl": f"{self.server.address}/user/name/commit/1", "commitOid": "1" * 40})

    def content(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        parts = []
        while length := int(self.rfile.readline(), 16):
            parts.append(self.rfile.read(length))
            self.rfile.readline()
        return b"".join(parts)

    def answer(self, content: dict[str, Any], status: int = 200) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@pytest.fixture
def stand_in() -> Iterator[StandIn]:
    server = StandIn()
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "bundle"
    made.mkdir()
    (made / "README.md").write_text("---\nlanguage: zh\n---\n# 标题\n", encoding="utf-8")
    (made / "bundle.json").write_text("{}", encoding="utf-8")
    (made / "bundle.safetensors").write_bytes(bytes(range(256)) * 40)
    return made


def surroundings(address: str, home: Path, **more: str) -> dict[str, str]:
    """Of a process of its own, as huggingface_hub reads its settings when it is imported."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "HUGGING"))}
    own = {"HF_ENDPOINT": address, "HF_HOME": str(home), "HF_TOKEN": "hf_test", "PYTHONPATH": str(ROOT)}
    return {**kept, **own, "HF_HUB_DISABLE_XET": "1", **more}


def push(folder: Path, address: str, home: Path, **more: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", PUSH, str(folder), "user/name"]
    return subprocess.run(command, capture_output=True, text=True, env=surroundings(address, home, **more), check=False)


@pytest.mark.parametrize(("lfs", "xet_off"), [((".safetensors",), "1"), ((), "1"), ((), "0")])
def test_the_files_arrive(stand_in: StandIn, folder: Path, tmp_path: Path, lfs: tuple[str, ...], xet_off: str) -> None:
    """As large files over LFS; as small ones; and by the library's newer upload, as far as it goes without Xet."""
    stand_in.lfs = lfs
    done = push(folder, stand_in.address, tmp_path, HF_HUB_DISABLE_XET=xet_off)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().splitlines()[-1] == f"{stand_in.address}/user/name"
    assert stand_in.files == {path.name: path.read_bytes() for path in folder.iterdir()}
    assert stand_in.created["visibility"] == "private" and stand_in.tokens == {"Bearer hf_test"}
    weights = hashlib.sha256((folder / "bundle.safetensors").read_bytes()).hexdigest()
    assert list(stand_in.objects) == ([weights] if lfs else [])


def test_a_model_that_is_there_gets_new_files(stand_in: StandIn, folder: Path, tmp_path: Path) -> None:
    stand_in.is_there = True
    assert push(folder, stand_in.address, tmp_path).returncode == 0
    assert len(stand_in.files) == 3


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (401, "user/name: the Hub does not know this token -> hf auth login"),
        (403, "user/name: this token may not write there"),
        (500, "user/name: the Hub refused (500)"),
    ],
)
def test_a_refusal_is_explained(stand_in: StandIn, folder: Path, tmp_path: Path, status: int, said: str) -> None:
    stand_in.status = status
    done = push(folder, stand_in.address, tmp_path)
    assert done.returncode and f"UserError: {said}" in done.stderr
    assert not stand_in.files


@pytest.mark.parametrize("more", [{}, {"HF_HUB_OFFLINE": "1"}])
def test_without_a_network(folder: Path, tmp_path: Path, more: dict[str, str]) -> None:
    done = push(folder, "http://127.0.0.1:9", tmp_path, **more)
    assert "UserError: user/name: the Hub cannot be reached" in done.stderr and "HF_ENDPOINT" in done.stderr


@pytest.mark.parametrize("name", ["name", "user/name/more", "user name/x", "", "/name", "用户/name"])
def test_a_name_that_is_none(name: str) -> None:
    with pytest.raises(UserError, match="no name of a model on the Hub") as error:
        hub.check(name)
    assert error.value.hint == "--push_to_hub USER/NAME"


def test_without_a_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.get_token", lambda: None)
    with pytest.raises(UserError, match="no token for the Hub") as error:
        hub.check("user/name")
    assert "hf auth login" in error.value.hint


def test_export_sends_the_bundle(
    finished_run: Path,
    tiny_flags: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    sent: list[set[str]] = []

    def send(bundle: Path, name: str) -> str:
        sent.append({path.name for path in bundle.iterdir()})
        return f"https://hub/{name}"

    monkeypatch.setattr(hub, "push", send)
    monkeypatch.setattr("huggingface_hub.get_token", lambda: "hf_test")
    flags = ["--run", str(tmp_path), "--student_folder", str(finished_run / "student"), "--mode", "export"]
    assert main([*flags, "--push_to_hub", "user/name"]) == 0
    assert sent == [{"README.md", "bundle.json", "bundle.safetensors"}]
    assert "sent to https://hub/user/name" in capsys.readouterr().out
    assert main([*flags, "--push_to_hub", "user/name", "--format", "onnx"]) == 2
    assert "what is sent to the Hub is a bundle" in capsys.readouterr().err
    assert main([*flags, "--push_to_hub", "name", "--run", str(tmp_path / "other")]) == 2
    assert not (tmp_path / "other").exists(), "a wrong name shows before anything is written"
