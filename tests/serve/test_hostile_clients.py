"""Clients that send too much or too slowly: each is refused or dropped, and others are answered meanwhile."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from pathlib import Path
from typing import Any
from unittest.mock import Mock
from urllib.request import Request, urlopen

import pytest
from serving import NOT_NEEDED, Served, Stub, TestClient, async_client, refusal
from uvicorn.config import Config

from distill.config import ServeSettings
from distill.serve.app import create_app
from distill.serve.limits import UNCOUNTED_BYTES, Bodies, RefusedError
from distill.serve.protocol import Connections, Protocol
from distill.serve.schemas import MAX_STRUCTURE, PredictRequest, parse_body

pytest.importorskip("httptools", reason="pip install -r requirements-dev.txt")
HEAD = b"POST /predict HTTP/1.1\r\nHost: localhost\r\n"
GET = b"GET /health HTTP/1.1\r\nHost: localhost\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
TEXT = {"text": "球队"}


@pytest.fixture(scope="module")
def service(bundle: Path) -> Any:
    served = Served(bundle, NOT_NEEDED, "--wait", "1", "--most_waiting", "4", "--stop", "1")
    yield served
    assert served.stop() == 0
    assert "Traceback" not in served.output


def response_to(service: Served, *parts: bytes, pause_s: float = 0.0) -> str:
    """What the service answers to ``parts``, until it closes the connection."""
    answer = b""
    with service.connection() as connection:
        try:
            for part in parts:
                connection.sendall(part)
                time.sleep(pause_s)
            while received := connection.recv(65536):
                answer += received
        except ConnectionError:  # it was closed before all was sent
            pass
    return answer.decode()


def predicted(service: Served) -> str:
    body = json.dumps({"text": "银行股票大涨"}).encode()
    return str(json.loads(urlopen(Request(f"{service.url}/predict", body), timeout=20).read())["label"])  # noqa: S310


@pytest.mark.parametrize(
    ("parts", "status"),
    [
        ([GET + b"a: b\r\n" * 200 + b"\r\n"], 431),
        ([GET + b"a: " + b"b" * 20_000 + b"\r\n\r\n"], 431),
        ([b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n"], 431),
        ([GET, *[b"a: " + b"b" * 4000 + b"\r\n"] * 8], 431),
        ([GET + b"a: ", *[b"b" * 4000] * 8], 431),
        ([CHUNKED + b"1\r\n{\r\n0\r\na: ", *[b"b" * 4000] * 8], 431),
        ([CHUNKED + b"1;", *[b"b" * 4000] * 8], 431),
        ([(GET + b"\r\n") * 100], 400),
        ([b"GET / HTTP/9.9\r\n\r\n"], 400),
        ([b"\x16\x03\x01" + b"\0" * 50], 400),
        ([HEAD + b"Content-Length: " + b"9" * 5000 + b"\r\n\r\n"], 400),
        ([HEAD + b"Content-Length: -1\r\n\r\n"], 400),
    ],
    ids=[
        "many headers",
        "a large header",
        "a large address",
        "endless headers",
        "an endless header",
        "an endless trailer",
        "an endless chunk extension",
        "many requests at once",
        "another version",
        "TLS",
        "a length of 5,000 digits",
        "a negative length",
    ],
)
def test_what_is_not_a_sensible_request_is_refused(service: Served, parts: list[bytes], status: int) -> None:
    answer = response_to(service, *parts, pause_s=0.01)
    assert f"HTTP/1.1 {status} " in answer
    head, _, body = answer[answer.index(f"HTTP/1.1 {status} ") :].partition("\r\n\r\n")
    assert set(json.JSONDecoder().raw_decode(body)[0]) == {"error", "hint"}
    assert "connection: close" in head and "x-content-type-options: nosniff" in head
    assert predicted(service) == "财经"


def test_headers_within_the_limits_are_accepted(service: Served) -> None:
    head = GET + b"Connection: close\r\n" + b"".join(b"a%d: %b\r\n" % (n, b"b" * 100) for n in range(90)) + b"\r\n"
    for size in (7, len(head)):  # in small parts, and at once
        parts = [head[start : start + size] for start in range(0, len(head), size)]
        assert response_to(service, *parts).startswith("HTTP/1.1 200")


def test_the_same_connection_may_send_many_large_requests(service: Served) -> None:
    body = json.dumps({"texts": ["银行股票大涨" * 5] * 900}).encode()
    request = HEAD + b"Content-Length: %d\r\n\r\n" % len(body) + body
    with service.connection() as connection, connection.makefile("rb") as answers:
        for _ in range(5):
            connection.sendall(request)
            length = next(int(line.split(b":")[1]) for line in answers if line.startswith(b"content-length"))
            while answers.readline().strip():
                pass
            assert len(json.loads(answers.read(length))["predictions"]) == 900


def test_every_response_forbids_sniffing(service: Served) -> None:
    for request in (GET, HEAD + b"Content-Length: 1\r\n", b"GET / HTTP/1.1\r\nHost: evil\r\n", b"PUT /x HTTP/1.1\r\n"):
        answer = response_to(service, request + b"Connection: close\r\n\r\n{")
        assert answer.count("x-content-type-options: nosniff") == 1, answer


def test_slow_clients_keep_nobody_out(service: Served) -> None:
    """Each sends one byte of a body, or half a head. Only complete requests wait for the student."""
    slow = [service.connection() for _ in range(300)]
    for number, connection in enumerate(slow):
        connection.sendall(HEAD + b"Content-Length: 100\r\n\r\n{" if number % 2 else GET)
    started = time.monotonic()
    assert [predicted(service) for _ in range(20)] == ["财经"] * 20
    assert time.monotonic() - started < 1
    for number, connection in enumerate(slow):  # --wait is 1 s
        answer = connection.recv(1000)
        assert answer.startswith(b"HTTP/1.1 408") if number % 2 else answer == b""
        connection.close()


def test_the_connection_that_waits_longest_is_closed_if_there_are_too_many(bundle: Path) -> None:
    service = Served(bundle, NOT_NEEDED, before="import distill.serve.server as s; s.MAX_CONNECTIONS = 20")
    slow = [service.connection() for _ in range(60)]
    assert predicted(service) == "财经"
    assert slow[0].recv(10) == b"" and _is_open(slow[-1])


def test_connections_of_one_instant_are_closed_in_their_order() -> None:
    """As uvloop accepts them: its clock stands still, and what it has closed is lost only afterwards."""
    config = Config(Mock(), loop="none")
    config.load()
    state = Connections(64, 5.0, Mock())  # three are closed at a time
    transports = [_transport() for _ in range(200)]
    for transport in transports:
        Protocol(config, state, {}, Mock(**{"time.return_value": 1.0})).connection_made(transport)
    closed = 138  # of 65, 68, 71 … connections the oldest three each
    assert [transport.abort.called for transport in transports] == [True] * closed + [False] * (200 - closed)


def _transport() -> Mock:
    transport = Mock()
    transport.is_closing.return_value = False
    transport.abort.side_effect = lambda: setattr(transport.is_closing, "return_value", True)
    return transport


def _is_open(connection: socket.socket) -> bool:
    connection.settimeout(0.05)
    try:
        return connection.recv(10) != b""
    except TimeoutError:
        return True
    except ConnectionError:
        return False


def test_large_bodies_share_a_budget_and_small_requests_are_answered() -> None:
    large = json.dumps({"texts": ["球" * 3000] * 20}).encode()
    app = create_app(Stub(waits=False), ServeSettings(wait_s=0.5))
    bodies = app.state.endpoints._bodies
    bodies.max_bytes = 4 * len(large)

    async def stalled() -> Any:
        yield large[:-1]
        await asyncio.sleep(5)

    async def attack() -> tuple[list[Any], Any, Any]:
        async with async_client(app) as client:
            slow = [asyncio.create_task(client.post("/predict", content=stalled())) for _ in range(8)]
            await asyncio.sleep(0.1)
            assert bodies.bytes <= bodies.max_bytes
            small, refused = await client.post("/predict", json=TEXT), await client.post("/predict", content=large)
            return [await answer for answer in slow], small, refused

    slow, small, refused = asyncio.run(attack())
    assert small.status_code == 200
    assert "bodies of all requests together" in refusal(refused, 429) and refused.headers["Retry-After"] == "1"
    assert sorted(answer.status_code for answer in slow) == [408] * 4 + [429] * 4
    assert (bodies.count, bodies.bytes) == (0, 0)
    assert TestClient(app).post("/predict", content=large).status_code == 200


def test_memory_is_returned_after_a_large_burst_only(monkeypatch: pytest.MonkeyPatch) -> None:
    trims: list[int] = []
    monkeypatch.setattr("distill.serve.limits._trim_memory", lambda: trims.append(1))
    bodies = Bodies(2**26)
    for size in (100, 2**25, 100):
        bodies.count += 1
        bodies.add(size)
        bodies.leave(size)
    assert trims == [1] and UNCOUNTED_BYTES < 2**16


MANY = 90_000
STRUCTURED = {
    "unknown keys": ("{" + ",".join(f'"k{n}":1' for n in range(MANY)) + "}"),
    "nested lists": '{"texts":' + "[" * MANY + "]" * MANY + "}",
    "many lists": '{"texts":[' + "[]," * MANY + "[]]}",
    "many objects": '{"x":[' + "{}," * MANY + "{}]}",
    "keys of an object": '{"text":{' + ",".join(f'"k{n}":1' for n in range(MANY)) + "}}",
}
OTHERS = {
    "an open string": '{"text":"' + '\\"' * MANY + ":" * 100 + "[" * 100,
    "many strings": '{"texts":[' + '"[",' * MANY + '""]}',
    "a large number": '{"text":' + "9" * MANY + "}",
}


@pytest.mark.parametrize("kind", [*STRUCTURED, *OTHERS])
def test_no_body_blocks_the_others_for_long(kind: str) -> None:
    """Parsing and refusing 96,317 unknown keys took 287 ms, in which nobody else was answered."""
    body = (STRUCTURED | OTHERS)[kind].encode()
    started = time.perf_counter()
    with pytest.raises(RefusedError) as refused:
        parse_body(PredictRequest, body).checked_texts(ServeSettings())
    assert time.perf_counter() - started < 0.25 and refused.value.status == 422
    assert (f"more than {MAX_STRUCTURE} keys" in refused.value.what) == (kind in STRUCTURED)  # if so, it is not parsed


def test_brackets_within_texts_are_no_structure() -> None:
    texts = ['[{"a": 1}]\\' * 100, "{[:\\" * 1000, '\\"[' * 1000]
    assert parse_body(PredictRequest, json.dumps({"texts": texts}).encode()).texts == texts
    with pytest.raises(RefusedError, match=f"more than {MAX_STRUCTURE} keys"):
        parse_body(PredictRequest, json.dumps({"texts": texts, "x": [[]] * MAX_STRUCTURE}).encode())


def test_a_declared_length_must_be_a_number() -> None:
    client = TestClient(create_app(Stub(waits=False), ServeSettings()))
    for length in ("9" * 5000, "-1", "1e3", "٣", "0x10"):
        answer = client.post("/predict", content=b"{}", headers={"Content-Length": length.encode()})
        assert "Content-Length is not a number" in refusal(answer, 400)
