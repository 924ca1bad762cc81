"""The service as a process: where it listens, what it needs, and how it ends."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.request import Request, urlopen

import pytest

from distill.cli import main
from distill.config import PredictSettings, RunSettings, ServeSettings, Settings
from distill.errors import UserError
from distill.serve.server import listen, url_of
from distill.serve.teacher import find_teacher

ROOT = Path(__file__).parents[2]
# All that requirements-serve.txt does not bring; what the second list holds may be missing too.
HEAVY = [
    "torch",
    "transformers",
    "pandas",
    "pyarrow",
    "jieba",
    "gensim",
    "scipy",
    "sklearn",
    "matplotlib",
    "safetensors",
]
QUICKER = ["uvloop", "httptools"]
WITHOUT = (
    "import sys; sys.modules.update(dict.fromkeys({names})); from distill.cli import main; sys.exit(main({flags}))"
)


class Served:
    """A service in a process of its own, without the packages that are named."""

    def __init__(self, bundle: Path, lacking: list[str], *flags: str) -> None:
        given = ["--mode", "serve", "--bundle", str(bundle), "--port", "0", *flags]
        code = WITHOUT.format(names=lacking, flags=given)
        self.process = subprocess.Popen(
            [sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        self.said = ""
        while "Ctrl-C stops" not in self.said:
            line = self.process.stdout.readline()  # type: ignore[union-attr]
            assert line, self.said
            self.said += line
        self.url = re.search(r"http://127.0.0.1:\d+", self.said)[0]  # type: ignore[index]

    def connection(self) -> socket.socket:
        host, port = self.url.removeprefix("http://").split(":")
        return socket.create_connection((host, int(port)), timeout=20)

    def stop(self, by: int = signal.SIGTERM) -> int:
        self.process.send_signal(by)
        self.said += self.process.communicate(timeout=30)[0]
        return self.process.returncode


@pytest.fixture
def started() -> Iterator[list[Served]]:
    services: list[Served] = []
    yield services
    for service in services:
        service.process.kill()
        service.process.wait()


def predicted(url: str, text: str) -> str:
    body = json.dumps({"text": text}).encode()
    return str(json.loads(urlopen(Request(f"{url}/predict", body)).read())["label"])  # noqa: S310


@pytest.mark.parametrize(
    ("lacking", "by"), [(HEAVY, signal.SIGTERM), (HEAVY + QUICKER, signal.SIGINT)], ids=["fast", "plain"]
)
def test_it_needs_little_and_answers_what_it_accepted(
    bundle: Path, started: list[Served], lacking: list[str], by: int
) -> None:
    """Half of each body has arrived when the signal comes; the rest comes when no new connection is accepted."""
    service = Served(bundle, lacking)
    started.append(service)
    assert "体育" in service.said and predicted(service.url, "银行股票大涨") == "财经"
    with service.connection() as connection:
        connection.sendall(b"HEAD /health HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n")
        assert re.fullmatch(rb"HTTP/1.1 200 .*\r\n\r\n", connection.makefile("rb").read(), re.DOTALL)  # no body
    body = json.dumps({"texts": ["银行股票大涨"] * 50}).encode()
    head = f"POST /predict HTTP/1.1\r\nHost: here\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    accepted = [service.connection() for _ in range(5)]
    for connection in accepted:
        connection.sendall(head + body[:100])
    _until(lambda: "distill_waiting 5.0" in urlopen(f"{service.url}/metrics").read().decode())  # noqa: S310
    service.process.send_signal(by)
    _until(lambda: _refused(service))
    for connection in accepted:
        connection.sendall(body[100:])
    answers = [connection.makefile("rb").read().decode() for connection in accepted]  # to the connection's end
    for answer in answers:
        assert answer.startswith("HTTP/1.1 200")
        labels = [one["label"] for one in json.loads(answer.partition("\r\n\r\n")[2])["predictions"]]
        assert labels == ["财经"] * 50
    assert service.process.wait(20) == 0
    rest = service.process.stdout.read()  # type: ignore[union-attr]
    assert "stopping: finishing the accepted requests" in rest and "Traceback" not in rest


def _refused(service: Served) -> bool:
    try:
        service.connection().close()
    except ConnectionRefusedError:
        return True
    return False


def _until(what: object, seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not what():  # type: ignore[operator]
        assert time.monotonic() < end
        time.sleep(0.02)


def test_what_does_not_end_in_time_is_cut_off(bundle: Path, started: list[Served]) -> None:
    service = Served(bundle, HEAVY, "--stop", "1", "--wait", "60")
    started.append(service)
    with service.connection() as connection:
        connection.sendall(b"POST /predict HTTP/1.1\r\nHost: here\r\nContent-Length: 99\r\n\r\n{")
        _until(lambda: "distill_waiting 1.0" in urlopen(f"{service.url}/metrics").read().decode())  # noqa: S310
        begun = time.monotonic()
        assert service.stop() == 0
        assert time.monotonic() - begun < 15


def test_an_answer_for_a_body_that_is_never_read(bundle: Path, started: list[Served]) -> None:
    """A refusal comes through although the body is still on its way, and the connection is of use afterwards."""
    service = Served(bundle, HEAVY, "--most_bytes", "1000")
    started.append(service)
    many = 2_000_000
    with service.connection() as connection:
        connection.sendall(b"POST /predict HTTP/1.1\r\nHost: here\r\nContent-Length: %d\r\n\r\n" % many + b"x" * many)
        connection.sendall(b"GET /health HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n")
        said = connection.makefile("rb").read().decode()
    assert re.findall(r"HTTP/1.1 (\d+)", said) == ["413", "200"] and "larger than 1,000 bytes" in said
    assert service.stop() == 0


def test_the_mode_in_this_process(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Stopped as by Ctrl-C, it ends as a success."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    found: list[str] = []

    def ask() -> None:
        _until(lambda: _listens(port))
        found.append(predicted(f"http://127.0.0.1:{port}", "银行股票大涨"))
        os.kill(os.getpid(), signal.SIGINT)

    asking = threading.Thread(target=ask)
    asking.start()
    flags = ["--mode", "serve", "--bundle", str(bundle), "--port", str(port), "--with_teacher", "no"]
    assert main(flags) == 0
    asking.join()
    said = capsys.readouterr().err
    assert found == ["财经"] and f"page: http://127.0.0.1:{port}/" in said and "1 requests, 1 texts" in said


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_an_address_that_is_taken(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with listen("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        assert main(["--mode", "serve", "--bundle", str(bundle), "--port", str(port), "--with_teacher", "no"]) == 2
    assert f"127.0.0.1:{port}: cannot listen on this address: address already in use" in capsys.readouterr().err


@pytest.mark.parametrize("host", ["192.0.2.1", "no.such.host.invalid", "::ffff:0:0:1"])
def test_an_address_of_others(host: str) -> None:
    with pytest.raises(UserError, match="cannot listen on this address") as error:
        listen(host, 0)
    assert "--host" in error.value.hint


def test_where_a_browser_finds_it() -> None:
    for host, shown in (("127.0.0.1", "127.0.0.1"), ("0.0.0.0", "127.0.0.1")):  # noqa: S104
        with listen(host, 0) as listener:
            assert url_of(listener) == f"http://{shown}:{listener.getsockname()[1]}"


def test_no_bundle(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--mode", "serve", "--run", str(tmp_path)]) == 2
    said = capsys.readouterr().err
    assert f"{tmp_path / 'bundle'}: " in said and "--mode export" in said


def test_a_package_is_missing(bundle: Path) -> None:
    code = WITHOUT.format(names=["prometheus_client"], flags=["--mode", "serve", "--bundle", str(bundle)])
    done = subprocess.run([sys.executable, "-c", code], check=False, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr == (
        "error: --mode serve needs the package prometheus_client -> pip install -r requirements-serve.txt\n"
    )


def wish(with_teacher: str, run: Path) -> Settings:
    return Settings(
        run=RunSettings(run=str(run)), predict=PredictSettings(), serve=ServeSettings(with_teacher=with_teacher)
    )


def test_a_teacher_where_it_is_there(finished_run: Path, tmp_path: Path) -> None:
    labels = ("体育", "财经", "科技")
    found = find_teacher(wish("auto", finished_run), labels)
    assert found is not None and found.folder == finished_run / "teacher"
    assert find_teacher(wish("no", finished_run), labels) is None
    assert find_teacher(wish("auto", finished_run), ("体育", "other")) is None
    assert find_teacher(wish("auto", tmp_path), labels) is None


def test_a_teacher_that_is_asked_for_must_answer(
    finished_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    labels = ("体育", "财经", "科技")
    with pytest.raises(UserError, match="there is no trained teacher"):
        find_teacher(wish("yes", tmp_path), labels)
    with pytest.raises(UserError, match="other labels than the student"):
        find_teacher(wish("yes", finished_run), labels[:2])
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match="needs PyTorch"):
        find_teacher(wish("yes", finished_run), labels)
