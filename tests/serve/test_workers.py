"""Several processes behind one port: they share connections, counts and bundle, and none is missing or left over."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest
from serving import NOT_NEEDED, ROOT, WITHOUT, Served, until

from distill.cli import main
from distill.serve.metrics import Metrics, MinuteSummary, Totals
from distill.serve.server import listen

pytestmark = pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="reads /proc, which only Linux has")
TEXT = json.dumps({"text": "银行股票大涨"}).encode()
QUICK = "import distill.serve.workers as w; w.RESTART_PAUSE_S = 0; w.STOP_MARGIN_S = 0.5\n"


def workers(service: Served) -> list[int]:
    """The process ids of the workers."""
    pid = service.process.pid
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def state(pid: int) -> str:
    """The letter that /proc has for the state of a process: Z if it has ended, T if it is stopped."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return "Z"


def is_running(pid: int) -> bool:
    return state(pid) != "Z"


def pause(pid: int) -> None:
    """Stop a process until SIGCONT; of two signals that are both pending, it would get SIGTERM first."""
    os.kill(pid, signal.SIGSTOP)
    until(lambda: state(pid) == "T")


def sockets(pid: int) -> int:
    """How many sockets a process has open."""
    count = 0
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            count += str(link.readlink()).startswith("socket:")
    return count


def get(service: Served, path: str) -> str:
    return str(urlopen(f"{service.url}{path}").read().decode())  # noqa: S310


def predicted(service: Served) -> str:
    return str(json.loads(urlopen(Request(f"{service.url}/predict", TEXT)).read())["label"])  # noqa: S310


def labels(service: Served) -> set[tuple[str, ...]]:
    """What 24 new connections get for /ready: probably from every worker."""
    return {tuple(json.loads(get(service, "/ready"))["labels"]) for _ in range(24)}


def ready(service: Served) -> list[int]:
    """The process ids of both workers, once they have answered: one that ends before that ends the service."""
    labels(service)
    return workers(service)


@pytest.fixture(scope="module")
def copy(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(shutil.copytree(bundle, tmp_path_factory.mktemp("workers") / "bundle"))


@pytest.fixture(scope="module")
def service(copy: Path) -> Iterator[Served]:
    served = Served(copy, NOT_NEEDED, "--workers", "2", "--allow_reload", before=QUICK)
    yield served
    assert served.stop() == 0
    assert "Traceback" not in served.output


def test_the_kernel_distributes_the_connections(service: Served) -> None:
    until(lambda: len(workers(service)) == 2)
    predicted(service)
    before = [sockets(pid) for pid in workers(service)]
    connections = [service.connection() for _ in range(40)]
    until(lambda: sum(map(sockets, workers(service))) >= sum(before) + 35)  # the first request's may have been counted
    shares = [sockets(pid) - count for pid, count in zip(workers(service), before, strict=True)]
    assert min(shares) >= 5, shares  # less than once in a million times, if they are distributed evenly
    for connection in connections:
        connection.close()


def test_every_worker_tells_the_counts_of_all(service: Served) -> None:
    count = re.compile(r'distill_requests_total\{path="/predict",status="200"\} (\S+)')
    [before] = count.findall(get(service, "/metrics")) or ["0"]
    for _ in range(24):
        assert predicted(service) == "财经"
    for _ in range(12):
        text = get(service, "/metrics")
        assert count.findall(text) == [str(float(before) + 24)]
        [resident] = re.findall(r"^process_resident_memory_bytes (\S+)", text, re.MULTILINE)
        pages = [int(Path(f"/proc/{pid}/statm").read_text().split()[1]) for pid in workers(service)]
        assert float(resident) == pytest.approx(os.sysconf("SC_PAGE_SIZE") * sum(pages), rel=0.1)


def relabel(folder: Path, suffix: str) -> None:
    card = json.loads((folder / "bundle.json").read_text(encoding="utf-8"))
    card["labels"] = [label[:2] + suffix for label in card["labels"]]
    (folder / "bundle.json").write_text(json.dumps(card), encoding="utf-8")


def reload(service: Served) -> Any:
    return json.loads(urlopen(Request(f"{service.url}/reload", b"")).read())  # noqa: S310


def test_a_reload_of_one_worker_is_one_of_all(service: Served, copy: Path) -> None:
    relabel(copy, "一")
    answer = reload(service)
    assert labels(service) == {tuple(answer["labels"])} and answer["labels"][0].endswith("一")
    relabel(copy, "二")
    os.kill(workers(service)[0], signal.SIGHUP)
    service.read_until("二")
    assert all(label.endswith("二") for row in labels(service) for label in row)
    relabel(copy, "三")
    service.process.send_signal(signal.SIGHUP)
    service.read_until("三")
    assert all(label.endswith("三") for row in labels(service) for label in row)
    content = (copy / "bundle.json").read_bytes()
    (copy / "bundle.json").write_text("{", encoding="utf-8")
    with pytest.raises(HTTPError) as refused:
        reload(service)
    assert refused.value.code == 422 and "cannot be read" in json.loads(refused.value.read())["error"]
    service.read_until("the bundle was not loaded again, and the old one stays in use")
    assert all(label.endswith("三") for row in labels(service) for label in row)
    # A worker that is started now does not read the broken bundle either.
    os.kill(workers(service)[0], signal.SIGKILL)
    service.read_until("it is started again")
    until(lambda: len(workers(service)) == 2)
    assert all(label.endswith("三") for row in labels(service) for label in row)
    (copy / "bundle.json").write_bytes(content)


def test_a_worker_that_dies_is_replaced_and_its_counts_are_kept(service: Served) -> None:
    count = re.compile(r'distill_requests_total\{path="/predict",status="200"\} (\S+)')
    for _ in range(8):
        predicted(service)
    [before] = count.findall(get(service, "/metrics"))
    time.sleep(0.2)
    victim = workers(service)[1]
    os.kill(victim, signal.SIGKILL)
    service.read_until(f"(process {victim}) was ended by SIGKILL")
    until(lambda: len(workers(service)) == 2 and victim not in workers(service))
    assert count.findall(get(service, "/metrics")) == [before]
    assert predicted(service) == "财经三"  # after the reload above


def test_the_terminal_ends_all_and_accepted_requests_are_finished(bundle: Path) -> None:
    """Ctrl-C sends SIGINT to all processes of the terminal."""
    service = Served(bundle, NOT_NEEDED, "--workers", "2", "--stop", "5")
    predicted(service)
    body = json.dumps({"texts": ["银行股票大涨"] * 50}).encode()
    head = f"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    accepted = [service.connection() for _ in range(8)]
    for connection in accepted:
        connection.sendall(head + body[:100])
    until(lambda: "distill_bodies 8.0" in get(service, "/metrics"))
    pids = workers(service)
    service.process.send_signal(signal.SIGINT)
    until(lambda: not _listens(service.port))
    for pid in pids:  # after the parent has passed it on: a second signal would stop them at once
        os.kill(pid, signal.SIGINT)
    for connection in accepted:
        connection.sendall(body[100:])
        assert connection.makefile("rb").read().startswith(b"HTTP/1.1 200")
    assert service.process.wait(20) == 0 and not any(map(is_running, pids))
    output = service.process.stdout.read()  # type: ignore[union-attr]
    assert output.count("stopping: finishing") == 1 and "Traceback" not in output
    assert re.search(r"\d+ requests, 401 texts", output)  # one summary of all workers


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_no_worker_outlives_its_parent(bundle: Path) -> None:
    service = Served(bundle, NOT_NEEDED, "--workers", "2", "--stop", "1")
    pids = ready(service)
    service.process.kill()
    until(lambda: not any(map(is_running, pids)))
    assert not _listens(service.port)


def test_a_worker_that_does_not_stop_is_killed(bundle: Path) -> None:
    service = Served(bundle, NOT_NEEDED, "--workers", "2", "--stop", "0.1", before=QUICK)
    pids = ready(service)
    pause(pids[0])
    started = time.monotonic()
    assert service.stop() == 0
    assert time.monotonic() - started < 5 and not any(map(is_running, pids))
    assert f"process {pids[0]} is killed" in service.output


def test_a_worker_that_keeps_dying_ends_the_service(bundle: Path) -> None:
    service = Served(bundle, NOT_NEEDED, "--workers", "2", "--stop", "1", before=QUICK)
    ready(service)
    for _ in range(5):
        predicted(service)
        until(lambda: len(workers(service)) == 2)
        os.kill(workers(service)[1] if len(workers(service)) > 1 else workers(service)[0], signal.SIGKILL)
        time.sleep(0.1)
    assert service.process.wait(20) == 2
    output = service.process.stdout.read()  # type: ignore[union-attr]
    assert "it ended 5 times in a row, each time within 10 s of its start -> see the log above" in output


def test_a_worker_that_never_gets_ready_ends_the_service(bundle: Path) -> None:
    before = "import os, distill.serve.server as s; s.run = lambda *arguments: os._exit(3)"
    flags = ["--mode", "serve", "--bundle", str(bundle), "--port", "0", "--workers", "2"]
    code = WITHOUT.format(names=NOT_NEEDED, before=before, flags=flags)
    done = subprocess.run([sys.executable, "-c", code], check=False, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2
    assert re.search(r"error: worker \d: it ended with exit code 3 before it was ready -> see its error", done.stderr)


def test_an_address_on_which_workers_listen_is_refused(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Sockets that share a port would let a second service answer some of the requests to the first."""
    listeners = listen("127.0.0.1", 0, 2)
    port = listeners[0].getsockname()[1]
    flags = ["--mode", "serve", "--bundle", str(bundle), "--port", str(port), "--workers", "2", "--with_teacher", "no"]
    assert main(flags) == 2
    assert f"127.0.0.1:{port}: cannot listen on this address: address already in use" in capsys.readouterr().err
    for listener in listeners:
        listener.close()


def test_too_many_workers_are_refused(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--mode", "serve", "--bundle", str(bundle), "--workers", "1000", "--with_teacher", "no"]) == 2
    assert "--workers 1000: at most 256 processes can serve -> --workers" in capsys.readouterr().err


SLOW_LOADS = """
import time, distill.serve.endpoints as e
load = e.Endpoints.load_again
def slow(self):
    time.sleep(1)
    return load(self)
e.Endpoints.load_again = slow
"""


def test_one_reload_at_a_time_in_all_workers(bundle: Path) -> None:
    service = Served(bundle, NOT_NEEDED, "--workers", "2", "--allow_reload", "--stop", "1", before=SLOW_LOADS)
    statuses: list[int] = []

    def ask() -> None:
        try:
            reload(service)
            statuses.append(200)
        except HTTPError as error:
            statuses.append(error.code)

    clients = [threading.Thread(target=ask) for _ in range(8)]
    for client in clients:
        client.start()
        time.sleep(0.02)
    assert predicted(service) == "财经"
    service.process.send_signal(signal.SIGHUP)  # is not forgotten
    for client in clients:
        client.join()
    assert sorted(statuses) == [200] + [409] * 7
    service.read_until("the bundle was loaded again")
    service.output = service.output.replace("the bundle was loaded again", "")
    service.read_until("the bundle was loaded again")
    assert service.stop() == 0 and service.output.count("the bundle was loaded again") == 1


SLOW_LINKS = """
import asyncio
connect = asyncio.open_connection
async def slow(**arguments):
    await asyncio.sleep(0.5)
    return await connect(**arguments)
asyncio.open_connection = slow
"""


def test_the_first_request_may_be_a_reload(bundle: Path) -> None:
    service = Served(bundle, NOT_NEEDED, "--workers", "2", "--allow_reload", before=SLOW_LINKS)
    assert reload(service)["labels"]
    assert service.stop() == 0


def test_a_worker_that_dies_during_a_reload_ends_it(bundle: Path) -> None:
    service = Served(bundle, NOT_NEEDED, "--workers", "2", "--stop", "1", before=QUICK + SLOW_LOADS)
    ready(service)
    service.process.send_signal(signal.SIGHUP)
    time.sleep(0.3)
    os.kill(workers(service)[0], signal.SIGKILL)
    service.read_until("the bundle was not loaded again, and the old one stays in use: a worker ended")
    until(lambda: len(workers(service)) == 2)
    service.process.send_signal(signal.SIGHUP)  # the next one works
    service.read_until("the bundle was loaded again")
    assert service.stop() == 0 and "Traceback" not in service.output


def test_rows_of_workers_are_added(caplog: pytest.LogCaptureFixture) -> None:
    totals = Totals(2)
    both = [Metrics(lambda: 1, lambda: 2, totals=totals) for _ in range(2)]
    summary = MinuteSummary(totals)
    for row, metrics in enumerate(both):
        metrics.use_row(row)
        metrics.count_request("POST", "/predict", 200 + 222 * row, 3, 0.3 * (row + 1))
        metrics.count_batch(3 + 200 * row)
        metrics.count_unsure(1, 2)
    text, other = (re.sub(r"(?m)^process_.*", "", metrics.exposition().decode()) for metrics in both)  # time passes
    assert text == other and all(metrics.summary is None for metrics in both)
    for line in (
        'distill_requests_total{path="/predict",status="200"} 1.0',
        'distill_requests_total{path="/predict",status="422"} 1.0',
        'distill_request_seconds_bucket{le="0.25",path="/predict"} 0.0',
        'distill_request_seconds_bucket{le="0.5",path="/predict"} 1.0',
        'distill_request_seconds_bucket{le="+Inf",path="/predict"} 2.0',
        'distill_request_seconds_count{path="/predict"} 2.0',
        "distill_texts_total 6.0",
        "distill_rejected_texts_total 2.0",
        "distill_teacher_texts_total 4.0",
        'distill_batch_texts_bucket{le="4.0"} 1.0',
        'distill_batch_texts_bucket{le="128.0"} 1.0',
        'distill_batch_texts_bucket{le="+Inf"} 2.0',
        "distill_batch_texts_sum 206.0",
        "distill_waiting 2.0",
        "distill_bodies 4.0",
    ):
        assert line in text.splitlines(), line
    caplog.set_level("INFO", "distill")
    summary.log()
    summary.log()
    [message] = [message for message in caplog.messages if "requests" in message]
    assert re.fullmatch(r"0 s: 2 requests, 6 texts, refused: 1 x 422, mean 450.0 ms, slowest 600.0 ms", message)


FAILING_FORK = """
import os, distill.serve.workers as w
w.FORK_PAUSE_S = 0.1
fork, calls = os.fork, []
def failing():
    calls.append(1)
    if len(calls) == 3:
        raise BlockingIOError(11, "Resource temporarily unavailable")
    return fork()
os.fork = failing
"""


def test_a_fork_that_fails_is_tried_again(bundle: Path) -> None:
    service = Served(bundle, NOT_NEEDED, "--workers", "2", "--stop", "1", before=QUICK + FAILING_FORK)
    ready(service)
    os.kill(workers(service)[1], signal.SIGKILL)
    service.read_until("worker 2 could not be started, which is tried again: [Errno 11]")
    until(lambda: len(workers(service)) == 2)
    assert service.stop() == 0 and "Traceback" not in service.output


@pytest.mark.parametrize("kind", ["missing", "a FIFO"])
def test_a_card_that_cannot_be_read_ends_only_the_reload(bundle: Path, tmp_path: Path, kind: str) -> None:
    copy = Path(shutil.copytree(bundle, tmp_path / "bundle"))
    service = Served(copy, NOT_NEEDED, "--workers", "2", "--allow_reload", "--stop", "1")
    predicted(service)
    (copy / "bundle.json").unlink()
    if kind == "a FIFO":
        os.mkfifo(copy / "bundle.json")
    refused: list[HTTPError] = []

    def is_refused() -> bool:
        with pytest.raises(HTTPError) as error:
            reload(service)
        refused.append(error.value)
        return error.value.code != 409  # of a worker that is still starting

    until(is_refused)
    assert refused[-1].code == 422 and "there is no bundle.json" in refused[-1].read().decode()
    assert predicted(service) == "财经"
    assert service.stop() == 0 and "not a bundle: there is no bundle.json" in service.output


def test_a_reload_that_never_ends_is_given_up(bundle: Path) -> None:
    late = "import distill.serve.endpoints as e, distill.serve.workers as w; w.SWITCH_S = 0.5; e.FILE_FACTOR = 0.1\n"
    service = Served(bundle, NOT_NEEDED, "--workers", "2", "--stop", "1", "--wait", "10", before=QUICK + late)
    pids = ready(service)
    pause(pids[0])
    service.process.send_signal(signal.SIGHUP)
    service.read_until("stays in use: the workers did not load the bundle within 1 s")
    os.kill(pids[1], signal.SIGKILL)
    until(lambda: len({*workers(service)} - {*pids}) == 1)
    os.kill(pids[0], signal.SIGCONT)
    assert service.stop() == 0


def test_a_stop_or_the_end_of_the_parent_does_not_wait_for_a_load(bundle: Path) -> None:
    slow = (
        SLOW_LOADS.replace("sleep(1)", "sleep(8 if os.getpid() == parent else 0)") + "import os; parent = os.getpid()\n"
    )
    service = Served(bundle, NOT_NEEDED, "--workers", "2", "--stop", "1", before=slow)
    predicted(service)
    time.sleep(0.3)
    service.process.send_signal(signal.SIGHUP)
    time.sleep(0.7)
    started = time.monotonic()
    assert service.stop() == 0 and time.monotonic() - started < 5
    service = Served(bundle, NOT_NEEDED, "--workers", "2", "--stop", "1", before=SLOW_LOADS.replace("(1)", "(8)"))
    predicted(service)
    time.sleep(0.3)
    pids = workers(service)
    service.process.send_signal(signal.SIGHUP)
    time.sleep(0.5)
    service.process.kill()
    until(lambda: not any(map(is_running, pids)), 5)


def test_a_second_sigterm_finishes_the_accepted_requests(bundle: Path) -> None:
    service = Served(bundle, NOT_NEEDED, "--workers", "2", "--stop", "5")
    body = json.dumps({"text": "银行"}).encode()
    predicted(service)
    with service.connection() as connection:
        connection.sendall(b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n{" % len(body))
        time.sleep(0.2)
        for _ in range(2):
            service.process.send_signal(signal.SIGTERM)
            time.sleep(0.3)
        connection.sendall(body[1:])
        assert connection.makefile("rb").read().startswith(b"HTTP/1.1 200")
    assert service.process.wait(20) == 0


def test_the_processor_time_of_ended_workers_is_kept(service: Served) -> None:
    def cpu() -> float:
        return float(re.findall(r"^process_cpu_seconds_total (\S+)", get(service, "/metrics"), re.MULTILINE)[0])

    until(lambda: len(workers(service)) == 2)
    time.sleep(0.2)
    before, victim = cpu(), workers(service)[1]
    os.kill(victim, signal.SIGKILL)
    until(lambda: len(workers(service)) == 2 and victim not in workers(service))
    assert cpu() >= before


def test_a_worker_that_is_told_to_stop_has_a_successor_at_once(bundle: Path) -> None:
    service = Served(bundle, NOT_NEEDED, "--workers", "2", "--stop", "8", before=QUICK)
    ready(service)
    body = json.dumps({"text": "银行"}).encode()
    accepted = [service.connection() for _ in range(16)]  # some for each worker
    for connection in accepted:
        connection.sendall(b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n{" % len(body))
    until(lambda: "distill_bodies 16.0" in get(service, "/metrics"))
    pids = workers(service)
    started = time.monotonic()
    os.kill(pids[0], signal.SIGTERM)
    service.read_until("worker 1 was told to stop; its successor is started")
    assert [predicted(service) for _ in range(16)] == ["财经"] * 16 and time.monotonic() - started < 4
    assert {*pids} < {*workers(service)} and len(workers(service)) == 3
    for connection in accepted:
        connection.sendall(body[1:])
        assert connection.recv(100).startswith(b"HTTP/1.1 200")
    until(lambda: pids[0] not in workers(service))
    assert service.stop() == 0 and "Traceback" not in service.output
