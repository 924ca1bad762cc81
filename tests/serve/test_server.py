"""The service as a process: where it listens, which packages it needs, and how it stops."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from urllib.request import Request, urlopen

import pytest
from serving import NOT_NEEDED, OPTIONAL, ROOT, WITHOUT, Served, until

from distill.cli import main
from distill.config import PredictSettings, RunSettings, ServeSettings, Settings, TransferSettings
from distill.errors import UserError, install_hint
from distill.predict.teacher import LazyTeacher, TaskTeachers, find_teacher
from distill.runtime.tasks import Task
from distill.serve.server import listen, url_of


def predicted(url: str, text: str) -> str:
    body = json.dumps({"text": text}).encode()
    return str(json.loads(urlopen(Request(f"{url}/predict", body)).read())["label"])  # noqa: S310


@pytest.mark.parametrize(
    ("missing", "by"), [(NOT_NEEDED, signal.SIGTERM), (NOT_NEEDED + OPTIONAL, signal.SIGINT)], ids=["fast", "plain"]
)
def test_it_runs_without_heavy_packages_and_finishes_accepted_requests(
    bundle: Path, missing: list[str], by: int
) -> None:
    """Half of each body arrives before the signal, the rest when no new connection is accepted any more."""
    service = Served(bundle, missing)
    assert "体育" in service.output and predicted(service.url, "银行股票大涨") == "财经"
    with service.connection() as connection:
        connection.sendall(b"HEAD /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        assert re.fullmatch(rb"HTTP/1.1 200 .*\r\n\r\n", connection.makefile("rb").read(), re.DOTALL)  # no body
    body = json.dumps({"texts": ["银行股票大涨"] * 50}).encode()
    head = f"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    accepted = [service.connection() for _ in range(5)]
    for connection in accepted:
        connection.sendall(head + body[:100])
    until(lambda: "distill_bodies 5.0" in urlopen(f"{service.url}/metrics").read().decode())  # noqa: S310
    service.process.send_signal(by)
    until(lambda: _refused(service))
    for connection in accepted:
        connection.sendall(body[100:])
    answers = [connection.makefile("rb").read().decode() for connection in accepted]  # to the connection's end
    for answer in answers:
        assert answer.startswith("HTTP/1.1 200")
        labels = [prediction["label"] for prediction in json.loads(answer.partition("\r\n\r\n")[2])["predictions"]]
        assert labels == ["财经"] * 50
    assert service.process.wait(20) == 0
    rest = service.process.stdout.read()  # type: ignore[union-attr]
    assert "stopping: finishing the accepted requests" in rest and "Traceback" not in rest


def _received(connection: socket.socket, end: bytes) -> bytes:
    received = b""
    while not received.endswith(end):
        received += connection.recv(1000)
    return received


def _refused(service: Served) -> bool:
    try:
        service.connection().close()
    except ConnectionRefusedError:
        return True
    return False


def test_a_request_that_is_not_complete_in_time_is_dropped(bundle: Path) -> None:
    service = Served(bundle, NOT_NEEDED, "--stop", "1", "--wait", "60")
    with service.connection() as connection:
        connection.sendall(b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99\r\n\r\n{")
        until(lambda: "distill_bodies 1.0" in urlopen(f"{service.url}/metrics").read().decode())  # noqa: S310
        started_stopping = time.monotonic()
        assert service.stop() == 0
        assert time.monotonic() - started_stopping < 15


BUSY = """
import time, distill.serve.endpoints
def label_stream(*arguments, **named):
    print("busy", flush=True)
    time.sleep(60)
distill.serve.endpoints.label_stream = label_stream
"""


def test_a_busy_thread_does_not_prevent_the_stop(bundle: Path) -> None:
    service = Served(bundle, NOT_NEEDED, "--stop", "0.5", before=BUSY)
    with service.connection() as connection:
        connection.sendall(b"POST /label_file?name=a.csv HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\n\r\nx")
        service.read_until("busy")
        stopping = time.monotonic()
        assert service.stop() == 0
        assert time.monotonic() - stopping < 5
        assert connection.recv(100).startswith(b"HTTP/1.1 503")
    assert "a thread was still busy" in service.output and "Traceback" not in service.output


def test_connections_are_closed_by_the_last_response(bundle: Path) -> None:
    """A proxy would lose a request that it sends while its idle connection is closed."""
    service = Served(bundle, NOT_NEEDED)
    request = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with service.connection() as connection, service.connection() as idle:
        for sock in (connection, idle):
            sock.sendall(request)
            assert b"connection: close" not in _received(sock, b"}")
        service.process.send_signal(signal.SIGTERM)
        until(lambda: _refused(service))
        connection.sendall(request)
        response = _received(connection, b"}")
        assert response.startswith(b"HTTP/1.1 200") and b"connection: close" in response
        assert connection.recv(10) == idle.recv(10) == b""
    assert service.process.wait(20) == 0


def test_a_large_body_is_refused_without_being_read(bundle: Path) -> None:
    """The refusal arrives while the body is still being sent, and the connection can be used afterwards."""
    service = Served(bundle, NOT_NEEDED, "--most_bytes", "1000")
    many = 2_000_000
    with service.connection() as connection:
        connection.sendall(
            b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % many + b"x" * many
        )
        connection.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        responses = connection.makefile("rb").read().decode()
    assert re.findall(r"HTTP/1.1 (\d+)", responses) == ["413", "200"] and "larger than 1,000 bytes" in responses
    assert service.stop() == 0


def test_the_mode_in_this_process_ends_with_success_on_ctrl_c(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A thread of another service in this process, which is busy, does not end the process."""
    is_over = threading.Event()
    threading.Thread(target=is_over.wait, name="serve-of-another", daemon=True).start()
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    labels: list[str] = []

    def predict_and_interrupt() -> None:
        until(lambda: _listens(port))
        labels.append(predicted(f"http://127.0.0.1:{port}", "银行股票大涨"))
        os.kill(os.getpid(), signal.SIGINT)

    client = threading.Thread(target=predict_and_interrupt)
    client.start()
    flags = ["--mode", "serve", "--bundle", str(bundle), "--port", str(port), "--with_teacher", "no"]
    assert main(flags) == 0
    is_over.set()
    client.join()
    log = capsys.readouterr().err
    assert labels == ["财经"] and f"page: http://127.0.0.1:{port}/" in log and "1 requests, 1 texts" in log


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_an_address_in_use_is_refused(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with listen("127.0.0.1", 0)[0] as taken:
        port = taken.getsockname()[1]
        assert main(["--mode", "serve", "--bundle", str(bundle), "--port", str(port), "--with_teacher", "no"]) == 2
    assert f"127.0.0.1:{port}: cannot listen on this address: address already in use" in capsys.readouterr().err


@pytest.mark.parametrize("host", ["192.0.2.1", "no.such.host.invalid", "::ffff:0:0:1"])
def test_an_address_of_another_machine_is_refused(host: str) -> None:
    with pytest.raises(UserError, match="cannot listen on this address") as error:
        listen(host, 0)
    assert "--host" in error.value.hint


def test_the_url_for_a_browser() -> None:
    for host, url_host in (("127.0.0.1", "127.0.0.1"), ("0.0.0.0", "127.0.0.1")):  # noqa: S104
        with listen(host, 0)[0] as listener:
            assert url_of(listener) == f"http://{url_host}:{listener.getsockname()[1]}"


def test_a_missing_bundle_is_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--mode", "serve", "--run", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert f"{tmp_path / 'bundle'}: " in error and "--mode export" in error


def test_a_missing_package_is_reported(bundle: Path) -> None:
    code = WITHOUT.format(names=["prometheus_client"], before="", flags=["--mode", "serve", "--bundle", str(bundle)])
    done = subprocess.run([sys.executable, "-c", code], check=False, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr == f"error: --mode serve needs the package prometheus_client -> {install_hint('serve')}\n"


def settings_with(with_teacher: str, run: Path) -> Settings:
    return Settings(
        run=RunSettings(run=str(run)), predict=PredictSettings(), serve=ServeSettings(with_teacher=with_teacher)
    )


def test_the_teacher_is_used_if_it_is_there(finished_run: Path, tmp_path: Path) -> None:
    labels = ("体育", "财经", "科技")
    teacher = find_teacher(settings_with("auto", finished_run), labels)
    assert teacher is not None and teacher.folder == finished_run / "teacher"
    assert find_teacher(settings_with("no", finished_run), labels) is None
    assert find_teacher(settings_with("auto", finished_run), ("体育", "other")) is None
    assert find_teacher(settings_with("auto", tmp_path), labels) is None


def test_a_teacher_may_be_named(finished_run: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    labels, folder = ("体育", "财经", "科技"), str(finished_run / "teacher")

    def found(with_teacher: str, *teachers: str) -> LazyTeacher | TaskTeachers | None:
        settings = settings_with(with_teacher, tmp_path)
        return find_teacher(dataclasses.replace(settings, transfer=TransferSettings(teacher=teachers)), labels)

    teacher = found("auto", folder)
    assert teacher is not None and str(teacher.folder) == folder and not caplog.messages
    assert found("auto", folder, "answers.csv") is None and found("auto", "answers.csv") is None  # of training
    assert caplog.messages[1].startswith("answers.csv: there is no trained teacher, so the page shows no teacher -> ")
    with pytest.raises(UserError, match="2 teachers are named, and only one can be used -> --teacher "):
        found("yes", folder, folder)


def test_the_teachers_of_tasks_answer_in_a_cascade_only(tmp_path: Path) -> None:
    tasks = [Task("topic", ("体育", "财经"))]
    assert find_teacher(settings_with("auto", tmp_path), tasks[0].labels, tasks=tasks) is None
    with pytest.raises(UserError, match="in a cascade only -> --cascade"):
        find_teacher(settings_with("yes", tmp_path), tasks[0].labels, tasks=tasks)


def test_with_teacher_yes_requires_a_usable_teacher(
    finished_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    labels = ("体育", "财经", "科技")
    with pytest.raises(UserError, match="there is no trained teacher"):
        find_teacher(settings_with("yes", tmp_path), labels)
    with pytest.raises(UserError, match="other labels than the student"):
        find_teacher(settings_with("yes", finished_run), labels[:2])
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match="needs PyTorch"):
        find_teacher(settings_with("yes", finished_run), labels)
