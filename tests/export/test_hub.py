"""Upload and download with a local server in place of the Hub: the files, and messages about failures."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import socket
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

COMMIT = "1" * 40
ROOT = Path(__file__).parents[2]
PUSH = "import pathlib, sys; from distill.export.hub import push; print(push(pathlib.Path(sys.argv[1]), sys.argv[2]))"


DOWNLOAD = """
import sys, time
from distill.export.hub import download
import huggingface_hub.hf_api, httpx2
started = time.monotonic()
try:
    print(download(sys.argv[1], sys.argv[2:]))
finally:
    print(time.monotonic() - started, file=sys.stderr)
"""


class FakeHub(ThreadingHTTPServer):
    """Answers the requests of an upload. Files whose names end with one of ``lfs`` are uploaded as large files."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.lfs: tuple[str, ...] = ()
        self.status = 0  # of the response to creating a repository; 0: success
        self.exists = False
        self.files: dict[str, bytes] = {}
        self.objects: dict[str, bytes] = {}
        self.requests: list[str] = []
        self.created: dict[str, Any] = {}
        self.tokens: set[str | None] = set()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    server: FakeHub

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        self.server.requests.append(self.path)
        name = self.path.rpartition("/")[2]
        if self.server.status:
            self.respond({"error": "no"}, self.server.status)
        elif re.fullmatch("/api/models/user/name(/revision/main)?", self.path) and self.server.files:
            siblings = [{"rfilename": name} for name in self.server.files]
            self.respond({"id": "user/name", "sha": COMMIT, "siblings": siblings})
        elif "/tree/" in self.path:
            files = self.server.files.items()
            self.respond([{"type": "file", "path": name, "size": len(file), "oid": COMMIT} for name, file in files])
        elif "/resolve/" in self.path and name in self.server.files:
            self.send_file(self.server.files[name])
        else:
            self.respond({"error": "not there"}, 404)

    def do_HEAD(self) -> None:
        self.do_GET()

    def send_file(self, content: bytes) -> None:
        self.send_response(200)
        headers = {"Content-Length": len(content), "ETag": f'"{hashlib.sha256(content).hexdigest()}"'}
        for header, value in (headers | {"X-Repo-Commit": COMMIT}).items():
            self.send_header(header, str(value))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)

    def do_PUT(self) -> None:
        self.server.objects[self.path.rpartition("/")[2]] = self.content()
        self.respond({})

    def do_POST(self) -> None:
        self.server.requests.append(self.path)
        self.server.tokens.add(self.headers.get("Authorization"))
        content = self.content()
        if self.path.endswith("/api/repos/create"):
            self.create(json.loads(content))
        elif self.path.endswith("/api/validate-yaml"):
            self.respond({"errors": [], "warnings": []})
        elif "/preupload/" in self.path:
            self.respond({"files": [self.upload_mode(file["path"]) for file in json.loads(content)["files"]]})
        elif self.path.endswith("/info/lfs/objects/batch"):
            self.respond(
                {"transfer": "basic", "objects": [self.upload_action(one) for one in json.loads(content)["objects"]]}
            )
        elif "/commit/" in self.path:
            self.commit([json.loads(line) for line in content.splitlines()])
        else:
            self.respond({"error": f"unknown: {self.path}"}, 404)

    def create(self, request: dict[str, Any]) -> None:
        self.server.created = request
        address = {"url": f"{self.server.address}/{request['organization']}/{request['name']}"}
        self.respond(address, self.server.status or (409 if self.server.exists else 200))

    def upload_mode(self, path: str) -> dict[str, Any]:
        mode = "lfs" if self.server.lfs and path.endswith(self.server.lfs) else "regular"
        return {"path": path, "uploadMode": mode, "shouldIgnore": False, "oid": None}

    def upload_action(self, one: dict[str, Any]) -> dict[str, Any]:
        return one | {"actions": {"upload": {"href": f"{self.server.address}/objects/{one['oid']}"}}}

    def commit(self, lines: list[dict[str, Any]]) -> None:
        for line in lines:
            value = line["value"]
            if line["key"] == "file":
                self.server.files[value["path"]] = base64.b64decode(value["content"])
            if line["key"] == "lfsFile":
                self.server.files[value["path"]] = self.server.objects[value["oid"]]
        self.respond({"commitUrl": f"{self.server.address}/user/name/commit/1", "commitOid": COMMIT})

    def content(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        parts = []
        while length := int(self.rfile.readline(), 16):
            parts.append(self.rfile.read(length))
            self.rfile.readline()
        return b"".join(parts)

    def respond(self, content: Any, status: int = 200) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


@pytest.fixture
def fake_hub() -> Iterator[FakeHub]:
    server = FakeHub()
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "bundle"
    folder.mkdir()
    (folder / "README.md").write_text("---\nlanguage: zh\n---\n# 标题\n", encoding="utf-8")
    (folder / "bundle.json").write_text("{}", encoding="utf-8")
    (folder / "bundle.safetensors").write_bytes(bytes(range(256)) * 40)
    return folder


def environment(address: str, home: Path, **more: str) -> dict[str, str]:
    """For a separate process, because huggingface_hub reads its settings when it is imported."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "HUGGING"))}
    settings = {"HF_ENDPOINT": address, "HF_HOME": str(home), "HF_TOKEN": "hf_test", "PYTHONPATH": str(ROOT)}
    return {**inherited, **settings, "HF_HUB_DISABLE_XET": "1", **more}


def push(folder: Path, address: str, home: Path, **more: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", PUSH, str(folder), "user/name"]
    return subprocess.run(command, capture_output=True, text=True, env=environment(address, home, **more), check=False)


@pytest.mark.parametrize(("lfs", "xet_off"), [((".safetensors",), "1"), ((), "1"), ((), "0")])
def test_the_files_are_uploaded(
    fake_hub: FakeHub, folder: Path, tmp_path: Path, lfs: tuple[str, ...], xet_off: str
) -> None:
    """As large files over LFS; as small files; and by the newer upload of the library, without Xet."""
    fake_hub.lfs = lfs
    done = push(folder, fake_hub.address, tmp_path, HF_HUB_DISABLE_XET=xet_off)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().splitlines()[-1] == f"{fake_hub.address}/user/name"
    assert fake_hub.files == {path.name: path.read_bytes() for path in folder.iterdir()}
    assert fake_hub.created["visibility"] == "private" and fake_hub.tokens == {"Bearer hf_test"}
    weights = hashlib.sha256((folder / "bundle.safetensors").read_bytes()).hexdigest()
    assert list(fake_hub.objects) == ([weights] if lfs else [])


def test_an_existing_model_gets_new_files(fake_hub: FakeHub, folder: Path, tmp_path: Path) -> None:
    fake_hub.exists = True
    assert push(folder, fake_hub.address, tmp_path).returncode == 0
    assert len(fake_hub.files) == 3


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (401, "user/name: the Hub does not know this token -> hf auth login"),
        (403, "user/name: this token has no write access there"),
        (500, "user/name: the Hub refused (500)"),
    ],
)
def test_a_refusal_is_explained(fake_hub: FakeHub, folder: Path, tmp_path: Path, status: int, message: str) -> None:
    fake_hub.status = status
    done = push(folder, fake_hub.address, tmp_path)
    assert done.returncode and f"UserError: {message}" in done.stderr
    assert not fake_hub.files


@pytest.mark.parametrize("more", [{}, {"HF_HUB_OFFLINE": "1"}])
def test_without_a_network(folder: Path, tmp_path: Path, more: dict[str, str]) -> None:
    done = push(folder, "http://127.0.0.1:9", tmp_path, **more)
    assert "UserError: user/name: the Hub cannot be reached" in done.stderr and "HF_ENDPOINT" in done.stderr


@pytest.mark.parametrize("name", ["name", "user/name/more", "user name/x", "", "/name", "用户/name"])
def test_an_invalid_name(name: str) -> None:
    with pytest.raises(UserError, match="is not the name of a model on the Hub") as error:
        hub.check(name)
    assert error.value.hint == "--push_to_hub USER/NAME"


def test_without_a_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.get_token", lambda: None)
    with pytest.raises(UserError, match="no token for the Hub") as error:
        hub.check("user/name")
    assert "hf auth login" in error.value.hint


def test_export_uploads_the_bundle(
    finished_run: Path,
    tiny_flags: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    uploaded: list[set[str]] = []

    def upload(bundle: Path, name: str) -> str:
        uploaded.append({path.name for path in bundle.iterdir()})
        return f"https://hub/{name}"

    monkeypatch.setattr(hub, "push", upload)
    monkeypatch.setattr("huggingface_hub.get_token", lambda: "hf_test")
    flags = ["--run", str(tmp_path), "--student_folder", str(finished_run / "student"), "--mode", "export"]
    assert main([*flags, "--push_to_hub", "user/name"]) == 0
    assert uploaded == [{"README.md", "bundle.json", "bundle.safetensors"}]
    assert "uploaded to https://hub/user/name" in capsys.readouterr().out
    assert main([*flags, "--push_to_hub", "user/name", "--format", "onnx"]) == 2
    assert "only a bundle can be uploaded to the Hub" in capsys.readouterr().err
    assert main([*flags, "--push_to_hub", "name", "--run", str(tmp_path / "other")]) == 2
    assert not (tmp_path / "other").exists(), "a wrong name shows before anything is written"


def download(address: str, home: Path, **more: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", DOWNLOAD, "user/name", "bundle.json", "README.md"]
    return subprocess.run(command, capture_output=True, text=True, env=environment(address, home, **more), check=False)


def test_the_named_files_are_downloaded_and_found_again_without_a_network(fake_hub: FakeHub, tmp_path: Path) -> None:
    fake_hub.files = {"bundle.json": b"{}", "README.md": b"# x", "model.pkl": b"not wanted"}
    done = download(fake_hub.address, tmp_path)
    assert done.returncode == 0, done.stderr
    folder = Path(done.stdout.strip().splitlines()[-1])
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {"bundle.json": b"{}", "README.md": b"# x"}
    again = download("http://127.0.0.1:9", tmp_path)
    assert again.stdout.strip().splitlines()[-1] == str(folder), again.stderr


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (0, "user/name: the Hub has no such model, or this user may not read it (404) -> check USER/NAME"),
        (401, "user/name: the Hub has no such model, or this user may not read it (401)"),
        (500, "user/name: the Hub refused (500)"),
    ],
)
def test_a_download_that_is_refused(fake_hub: FakeHub, tmp_path: Path, status: int, message: str) -> None:
    fake_hub.status = status
    done = download(fake_hub.address, tmp_path)
    assert done.returncode and f"UserError: {message}" in done.stderr


@pytest.mark.parametrize("address", ["http://127.0.0.1:9", "silent"])
def test_a_download_without_a_network_ends_soon(tmp_path: Path, address: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:  # accepts connections, and never answers
        silent_address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        done = download(silent_address if address == "silent" else address, tmp_path)
    assert "UserError: user/name: no such folder, and the Hub cannot be reached" in done.stderr
    assert float(done.stderr.splitlines()[0]) < 15, "3 s, and the import of a busy machine; without a limit minutes"
