"""HTTP/1.1 of the service: uvicorn's protocol with limits on headers, and on connections that wait for their client."""

from __future__ import annotations

import asyncio
import functools
import itertools
from typing import Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol
from uvicorn.server import ServerState

from distill.serve.direct import METHOD, PREDICT_PATH, DirectPredict
from distill.serve.limits import RefusedError

MAX_HEAD_BYTES = 2**14  # of the request line and the headers of a request
MAX_HEADERS = 100
MAX_PIPELINED = 64  # requests of a connection that wait for the answer to an earlier one
NOT_DIRECT = frozenset((b"expect", b"origin", b"transfer-encoding", b"upgrade"))  # headers that need uvicorn or CORS
MAX_DIRECT_DIGITS = 6  # of a Content-Length
CLOSE = b"connection: close\r\n"
DIRECT_METHOD, DIRECT_URL = METHOD.encode(), PREDICT_PATH.encode()
LINGER_S = 0.5  # between a refusal and the end: a client that still sends would otherwise not receive the refusal


class Connections(ServerState):
    """All connections.

    Args:
        max_connections: if there are more, those that have waited longest for their clients are closed.
        head_seconds: how long the headers of a request may take to arrive.
        direct: answers small requests to /predict.
    """

    connections: set[Protocol]  # type: ignore[assignment]

    def __init__(self, max_connections: int, head_seconds: float, direct: DirectPredict) -> None:
        super().__init__()
        self.direct = direct
        self.max_connections, self.head_seconds = max_connections, head_seconds
        self.is_stopping = False  # responses then close their connections
        self.begins = itertools.count()

    def close_slow(self, now: float) -> None:
        """Close the connections whose headers did not arrive in time; those between two requests may wait longer."""
        for connection in list(self.connections):
            if connection.awaits_head and now - connection.since > self.head_seconds:
                connection.transport.close()

    def close_longest_waiting(self) -> None:
        """Close some of the connections that wait for their clients: one at a time would take quadratic time."""
        still_open = [connection for connection in self.connections if not connection.transport.is_closing()]
        if len(still_open) > self.max_connections:
            waiting = [connection for connection in still_open if connection.waits_for_client]
            waiting.sort(key=lambda connection: connection.order)
            for connection in waiting[: 1 + self.max_connections // 32]:
                connection.transport.abort()


class _DirectCycle:
    """The state of a request that is answered directly, as far as uvicorn's connection asks for it."""

    __slots__ = ("disconnected", "keep_alive", "response_complete")
    more_body = False
    message_event = asyncio.Event()  # which nobody waits for

    def __init__(self, keep_alive: bool) -> None:
        self.disconnected = self.response_complete = False
        self.keep_alive = keep_alive


class Protocol(HttpToolsProtocol):
    """A connection. httptools limits neither the size nor the number of headers.

    A small request to /predict whose head and body arrive together is answered directly; all others become tasks of the
    ASGI application.

    Attributes:
        since: when the connection or its latest request began, in the event loop's time.
        order: as ``since``, but never equal: uvloop's clock stands still while it accepts many connections.
        awaits_head: whether the headers of a request are not complete; False between two requests.
    """

    server_state: Connections

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._wait_for_head()
        self._refusal = RefusedError(400, "this is not valid HTTP", "see /docs for the requests")
        self._is_refused = False
        self._direct_requests = 0  # of the data that was read last
        self._progress = self._silent_bytes = 0
        self._direct_body: bytes | None = None  # of a request that may be answered directly

    def _wait_for_head(self) -> None:
        self.since, self.order, self.awaits_head = self.loop.time(), next(self.server_state.begins), True

    @property
    def waits_for_client(self) -> bool:
        """Whether no request is complete and unanswered."""
        return self.cycle is None or self.cycle.response_complete or self.cycle.more_body

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Close other connections if there are too many."""
        super().connection_made(transport)
        if len(self.connections) > self.server_state.max_connections:
            self.server_state.close_longest_waiting()

    def data_received(self, data: bytes) -> None:
        """Parse ``data``; refuse it if the parser only stores it, as an endless header or trailer."""
        if self._is_refused:
            return
        progress, self._direct_requests = self._progress, 0
        self._silent_bytes += len(data)
        super().data_received(data)
        if self._direct_body is not None:  # a part of it is missing
            self._start_task()
        if self._progress != progress:
            self._silent_bytes = 0
        elif self._silent_bytes > MAX_HEAD_BYTES and not self._is_refused:
            self._refusal = _head_too_large()
            self.send_400_response("")

    def on_message_begin(self) -> None:
        """Wait for a head. uvicorn's own method also makes the ASGI scope, which is needed for a task only."""
        self.url, self.headers, self.expect_100_continue = b"", [], False
        self._wait_for_head()

    def on_headers_complete(self) -> None:
        """Start the request, unless its head is too large."""
        size, length, is_direct = len(self.url), b"", True
        for name, value in self.headers:
            size += len(name) + len(value)
            if name == b"content-length":
                length = value
            elif name in NOT_DIRECT:
                is_direct = False
        if size > MAX_HEAD_BYTES or len(self.headers) > MAX_HEADERS:
            self._refusal = _head_too_large()
            raise self._refusal
        if len(self.pipeline) >= MAX_PIPELINED:
            hint = "wait for the responses, or use more connections"
            self._refusal = RefusedError(400, f"more than {MAX_PIPELINED} requests wait on this connection", hint)
            raise self._refusal
        self._progress += 1
        self.awaits_head = False
        self._direct_body = b""
        if not (is_direct and self.url == DIRECT_URL and self._can_be_direct(length)):
            self._start_task()

    def _can_be_direct(self, length: bytes) -> bool:
        """Whether a request to /predict can be answered directly, if its body is in the same part of the data."""
        direct = self.server_state.direct
        return (
            direct.is_possible
            and 0 < len(length) <= MAX_DIRECT_DIGITS
            and int(length) <= direct.max_bytes
            and self.parser.get_method() == DIRECT_METHOD
            and self.parser.get_http_version() == "1.1"
            and self._direct_requests < MAX_PIPELINED  # or one read would keep the event loop from other connections
            and (self.cycle is None or self.cycle.response_complete)
            and not self.flow.write_paused
        )

    def _start_task(self) -> None:
        """Let the ASGI application answer the request, of whose body a part may have arrived."""
        url, headers, expects, body = self.url, self.headers, self.expect_100_continue, self._direct_body
        self._direct_body = None
        super().on_message_begin()
        self.url, self.headers, self.expect_100_continue = url, headers, expects
        self.scope["headers"] = headers
        super().on_headers_complete()
        if self.server_state.is_stopping:
            self.cycle.keep_alive = False
        if body:
            super().on_body(body)

    def on_body(self, body: bytes) -> None:
        """Pass a part of the body on."""
        self._progress += 1
        if self._direct_body is None:
            super().on_body(body)
        else:
            self._direct_body += body

    def on_message_complete(self) -> None:
        """Answer a request directly, if it is one of those."""
        body = self._direct_body
        if body is None:
            super().on_message_complete()
            return
        self._direct_body = None
        self._direct_requests += 1
        self.cycle = cycle = _DirectCycle(self.parser.should_keep_alive())  # type: ignore[assignment]
        self.server_state.direct.answer(self.headers, body, functools.partial(self._respond, cycle))

    def _respond(self, cycle: _DirectCycle, status: int, headers: list[tuple[bytes, bytes]], body: bytes) -> None:
        """Send the response to a request that is answered directly."""
        cycle.response_complete = True
        if self.transport.is_closing():
            return
        is_last = not cycle.keep_alive or self.server_state.is_stopping
        self.transport.write(self._response(status, headers, body, is_last))
        if is_last:
            self.transport.close()
        self.on_response_complete()

    def _response(self, status: int, headers: list[tuple[bytes, bytes]], body: bytes, is_last: bool) -> bytes:
        lines = b"".join([b"%b: %b\r\n" % header for header in (*self.server_state.default_headers, *headers)])
        return b"".join((STATUS_LINE[status], lines, CLOSE if is_last else b"", b"\r\n", body))

    def send_400_response(self, msg: str) -> None:
        """Refuse what the parser did not accept, after the answers to the earlier requests."""
        self._is_refused, self.awaits_head = True, False
        self._send_refusal()

    def on_response_complete(self) -> None:
        """Start the next request; after the last one, send the refusal if there is one."""
        super().on_response_complete()
        if self._is_refused:
            self._send_refusal()

    def _send_refusal(self) -> None:
        """Send the refusal unless a request is in flight, and soon close the connection."""
        if self.transport.is_closing() or self.pipeline or not self.waits_for_client:
            return
        if self.cycle is not None:
            self.cycle.disconnected = True  # its body will never be complete
            self.cycle.message_event.set()
        response = self._refusal.response()
        content = self._response(response.status_code, response.raw_headers, bytes(response.body), is_last=True)
        self.transport.write(content)
        self.loop.call_later(LINGER_S, self.transport.close)


def _head_too_large() -> RefusedError:
    what = f"the headers are larger than {MAX_HEAD_BYTES:,} bytes, or more than {MAX_HEADERS}"
    return RefusedError(431, what, "send fewer and shorter headers, and a shorter address")
