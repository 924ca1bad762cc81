"""POST /predict without ASGI: the same answers, refusals, counts and order as with it."""

from __future__ import annotations

import asyncio
import json
import pkgutil
import re
import signal
import time
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest
from serving import NOT_NEEDED, Served, Stub, until

from distill.config import ServeSettings, UnsureSettings
from distill.serve.app import create_app
from distill.serve.batching import Batcher
from distill.serve.limits import RefusedError

pytest.importorskip("httptools", reason="pip install -r requirements-dev.txt")
HOST = b"Host: localhost\r\n"
TOKEN = b"Authorization: Bearer abc\r\n"
SOUND = json.dumps({"text": "银行股票大涨"}).encode()


@pytest.fixture(scope="module")
def service(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    token = tmp_path_factory.mktemp("token") / "token"
    token.write_text("abc")
    token.chmod(0o600)
    flags = ["--token_file", str(token), "--most_texts", "4", "--most_characters", "99", "--most_bytes", "9000"]
    served = Served(bundle, NOT_NEEDED, *flags)
    yield served
    assert served.stop() == 0
    assert "Traceback" not in served.output


def request(body: bytes, headers: bytes = HOST + TOKEN, start: bytes = b"POST /predict HTTP/1.1\r\n") -> bytes:
    return start + headers + b"Content-Length: %d\r\n\r\n" % len(body) + body


def answers(service: Served, *parts: bytes) -> str:
    """All answers of a connection to requests that arrive in ``parts``, without the date."""
    with service.connection() as connection:
        for part in parts:
            connection.sendall(part)
            time.sleep(0.02)
        connection.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        received = connection.makefile("rb").read().decode()
    return re.sub(r"date: [^\r]*", "date", received)


def counts(service: Served) -> dict[str, float]:
    from urllib.request import Request

    text = urlopen(Request(f"{service.url}/metrics", headers={"Authorization": "Bearer abc"})).read().decode()  # noqa: S310
    names = ("distill_requests_total", "distill_texts_total", "distill_request_seconds_count", "distill_bodies")
    lines = [line.rpartition(" ") for line in text.splitlines() if line.startswith(names)]
    return {name: float(value) for name, _, value in lines if "/health" not in name and "/metrics" not in name}


REQUESTS = {
    "one text": (request(SOUND), 200),
    "several": (request(json.dumps({"texts": ["球队", "股票"], "probabilities": True}).encode()), 200),
    "top_k": (request(json.dumps({"text": "球队", "top_k": 2}).encode()), 200),
    "reject_below": (request(json.dumps({"texts": ["球队"], "reject_below": 1}).encode()), 200),
    "too many labels": (request(json.dumps({"text": "球队", "top_k": 9}).encode()), 422),
    "an empty body": (request(b""), 422),
    "not JSON": (request(b"{"), 422),
    "a wrong field": (request(b'{"x": 1}'), 422),
    "too many texts": (request(json.dumps({"texts": ["球队"] * 5}).encode()), 422),
    "a long text": (request(json.dumps({"text": "球" * 100}).encode()), 422),
    "too large": (request(b" " * 9001), 413),
    "another host": (request(SOUND, b"Host: evil.example\r\n" + TOKEN), 403),
    "a second host": (request(SOUND, b"Host: evil.example\r\n" + HOST + TOKEN), 403),
    "another origin": (request(SOUND, HOST + TOKEN + b"Origin: http://evil.example\r\n"), 403),
    "no token": (request(SOUND, HOST), 401),
    "a query": (request(SOUND, start=b"POST /predict?x=1 HTTP/1.1\r\n"), 200),
    "another method": (request(SOUND, start=b"PUT /predict HTTP/1.1\r\n"), 405),
    "a path in capitals": (request(SOUND, start=b"POST /Predict HTTP/1.1\r\n"), 404),
}


@pytest.mark.parametrize("kind", REQUESTS)
def test_it_makes_no_difference_whether_a_request_arrives_in_one_part(service: Served, kind: str) -> None:
    """In two parts, it becomes a task of the ASGI application."""
    content, status = REQUESTS[kind]
    head = content.index(b"\r\n\r\n") + 4
    before = counts(service)
    whole = answers(service, content)
    between = counts(service)
    for split in (head, head + 1):
        if split <= len(content):
            assert answers(service, content[:split], content[split:]) == whole
    after = counts(service)
    assert whole.startswith(f"HTTP/1.1 {status} ") and whole.count("HTTP/1.1") == 2
    assert "x-content-type-options: nosniff" in whole
    grown = {name: between[name] - before.get(name, 0) for name in between}
    times = 2 if head + 1 <= len(content) else 1
    assert {name: after[name] - between[name] for name in after} == {name: times * grown[name] for name in grown}


def test_answers_have_the_order_of_the_requests(service: Served) -> None:
    texts = [f"{'球队比赛' * (n % 4 + 1)}" for n in range(8)]
    health = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"
    sent = b"".join(
        request(json.dumps({"texts": [text] * (n % 4 + 1)}).encode()) + health * (n % 2) for n, text in enumerate(texts)
    )
    received = answers(service, sent)
    bodies = [json.loads(line) for line in re.findall(r"\{.*?\}(?=HTTP|$)", received, re.DOTALL)]
    assert [len(body.get("predictions", ())) for body in bodies] == [1, 2, 0, 3, 4, 0, 1, 2, 0, 3, 4, 0, 0]


@pytest.mark.parametrize("headers", [b"Connection: close\r\n", b"Connection: Close\r\n"])
def test_the_client_may_ask_for_the_end_of_the_connection(service: Served, headers: bytes) -> None:
    with service.connection() as connection:
        connection.sendall(request(SOUND, HOST + TOKEN + headers))
        received = connection.makefile("rb").read().decode()
    assert received.startswith("HTTP/1.1 200") and "connection: close" in received


def test_the_old_version_of_http_closes_the_connection(service: Served) -> None:
    with service.connection() as connection:
        connection.sendall(request(SOUND, start=b"POST /predict HTTP/1.0\r\n"))
        received = connection.makefile("rb").read().decode()
    assert received.startswith("HTTP/1.1 200") and "connection: close" in received


def test_a_client_that_does_not_wait_is_forgotten(service: Served) -> None:
    for _ in range(20):
        with service.connection() as connection:
            connection.sendall(request(SOUND))
    until(lambda: counts(service)["distill_bodies"] == 0)
    assert answers(service, request(SOUND)).startswith("HTTP/1.1 200")


Response = tuple[int, list[tuple[bytes, bytes]], bytes]
HEADERS = [(b"host", b"localhost")]


def answered(app: Any, *bodies: bytes) -> list[Response]:
    """What is answered directly to ``bodies``, one after the other."""
    responses: list[Response] = []

    async def ask() -> None:
        for count, body in enumerate(bodies, start=1):
            app.state.direct.answer(HEADERS, body, lambda *response: responses.append(response))
            for _ in range(1000):
                if len(responses) < count:
                    await asyncio.sleep(0.002)

    asyncio.run(ask())
    return responses


FAULTS = {
    "the rules": "distill.serve.security.AccessRules.check",
    "the body": "distill.serve.endpoints.parse_body",
    "the metrics of a batch": "distill.serve.metrics.Metrics.count_batch",
    "the student": "serving.Stub.predict_proba",
    "the rows of a request": "distill.serve.batching._distribute",
    "the prediction": "distill.serve.endpoints._prediction",
    "the response": "distill.serve.endpoints.json_bytes",
    "the next batch": "distill.serve.batching.Batcher._next_batch",
}


@pytest.mark.parametrize("fault", FAULTS)
def test_after_a_fault_at_any_step_the_next_request_is_answered(
    fault: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    faults = iter([ZeroDivisionError("银行" if fault != "the next batch" else "")])  # which handles no text
    original = pkgutil.resolve_name(FAULTS[fault])

    def faulty(*arguments: Any, **named: Any) -> Any:
        for error in faults:
            raise error
        return original(*arguments, **named)

    monkeypatch.setattr(FAULTS[fault], faulty)
    app = create_app(Stub(waits=False), ServeSettings(wait_s=0.2, most_waiting=1))
    (status, _, body), (second, _, _) = answered(app, SOUND, SOUND)
    assert status == (503 if fault == "the next batch" else 500) and second == 200
    assert set(json.loads(body)) == {"error", "hint"} and "银行" not in caplog.text
    metrics = app.state.endpoints.metrics.exposition().decode()
    assert "distill_waiting 0.0" in metrics and "distill_bodies 0.0" in metrics
    assert f'distill_requests_total{{path="/predict",status="{status}"}} 1.0' in metrics


def test_too_many_and_too_slow_requests_are_refused() -> None:
    student = Stub()
    app = create_app(student, ServeSettings(wait_s=0.1, most_waiting=1))
    responses: list[Response] = []

    async def ask() -> None:
        for _ in range(2):
            app.state.direct.answer(HEADERS, SOUND, lambda *response: responses.append(response))
        assert [status for status, _, _ in responses] == [429]
        await asyncio.sleep(0.2)
        student.released.set()

    asyncio.run(ask())
    assert [status for status, _, _ in responses] == [429, 503]
    assert all((b"retry-after", b"1") in headers for _, headers, _ in responses)


def test_a_cascade_is_never_answered_directly() -> None:
    unsure = UnsureSettings(cascade=True)
    app = create_app(Stub(waits=False), ServeSettings(), Stub(waits=False), unsure=unsure)
    assert not app.state.direct.is_possible
    assert create_app(Stub(waits=False), ServeSettings()).state.direct.is_possible


def pipelined(*requests: bytes) -> bytes:
    """``requests`` and, behind them, one that waits and bytes that are no request."""
    return b"".join(requests) + b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n" + b"\0 garbage\r\n\r\n"


def test_a_refusal_follows_the_answers_to_earlier_requests(service: Served) -> None:
    with service.connection() as connection:
        connection.sendall(pipelined(request(SOUND)))
        received = connection.makefile("rb").read().decode()
    assert re.findall(r"HTTP/1.1 (\d+)", received) == ["200", "200", "400"]
    with service.connection() as connection:
        connection.sendall(request(SOUND) + b"\0 garbage\r\n\r\n")
        received = connection.makefile("rb").read().decode()
    assert re.findall(r"HTTP/1.1 (\d+)", received) == ["200", "400"]


def test_pipelined_connections_that_close_stop_nothing(bundle: Path) -> None:
    """Only the last request of such a connection learns that the connection is closed."""
    slow = "import distill.runtime as r, time; p = r.Runtime.predict_proba\n"
    slow += "r.Runtime.predict_proba = lambda self, texts: (time.sleep(0.3 * len(texts)), p(self, texts))[1]"
    service = Served(bundle, NOT_NEEDED, "--stop", "1", before=slow)
    for _ in range(3):
        with service.connection() as connection:
            connection.sendall(pipelined(request(SOUND, HOST)))
        time.sleep(0.1)
    with service.connection() as connection:
        connection.sendall(request(SOUND, HOST + b"Connection: close\r\n"))
        assert connection.makefile("rb").read().startswith(b"HTTP/1.1 200")
    assert service.stop() == 0
    assert "error" not in service.output and "银行" not in service.output


def test_a_request_that_is_not_ready_at_the_stop_is_refused_and_counted(bundle: Path) -> None:
    slow = "import distill.runtime as r, time; r.Runtime.predict_proba = lambda self, texts: time.sleep(3)"
    service = Served(bundle, NOT_NEEDED, "--stop", "1", before=slow)
    with service.connection() as connection:
        connection.sendall(request(SOUND, HOST))
        time.sleep(0.2)
        service.process.send_signal(signal.SIGTERM)
        received = connection.makefile("rb").read().decode()
    assert received.startswith("HTTP/1.1 503") and "the service is stopping" in received
    assert service.process.wait(20) == 0
    output = service.process.stdout.read()  # type: ignore[union-attr]
    assert "1 requests, 0 texts, refused: 1 x 503" in output and "Traceback" not in output


def test_one_read_of_a_connection_has_few_direct_answers(service: Served) -> None:
    """So many requests would otherwise keep the event loop from all other connections."""
    with service.connection() as connection:
        connection.sendall(request(b"", HOST, b"POST /predict HTTP/1.1\r\n") * 2000)
        received = connection.makefile("rb").read().decode()
    assert "wait on this connection" in received and received.count("HTTP/1.1 401") < 1000


def test_an_answer_that_fails_harms_no_other_request(caplog: pytest.LogCaptureFixture) -> None:
    student, outcomes, text = Stub(), list[Any](), json.loads(SOUND)["text"]

    async def ask() -> None:
        batcher = Batcher(student.predict_proba)
        for _ in range(2):
            batcher.submit([text], lambda outcome: {}[outcome[0][0]], 10)
            batcher.submit(["球队"], outcomes.append, 10)
        student.released.set()
        await batcher.finish()
        batcher.submit(["球队"], outcomes.append, 10)  # after the end

    asyncio.run(ask())
    assert len(outcomes) == 3 and isinstance(outcomes[2], RefusedError)
    assert caplog.text.count("internal error: KeyError") == 2 and "银行" not in caplog.text
