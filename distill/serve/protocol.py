"""HTTP/1.1 of the service: uvicorn's protocol with limits on headers, and on connections that wait for their client."""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol
from uvicorn.server import ServerState

from distill.serve.limits import RefusedError

MAX_HEAD_BYTES = 2**14  # of the request line and the headers of a request
MAX_HEADERS = 100
MAX_PIPELINED = 64  # requests of a connection that wait for the answer to an earlier one
LINGER_S = 0.5  # between a refusal and the end: a client that still sends would otherwise not receive the refusal


class Connections(ServerState):
    """All connections.

    Args:
        max_connections: if there are more, those that have waited longest for their clients are closed.
        head_seconds: how long the headers of a request may take to arrive.
    """

    connections: set[Protocol]  # type: ignore[assignment]

    def __init__(self, max_connections: int, head_seconds: float) -> None:
        super().__init__()
        self.max_connections, self.head_seconds = max_connections, head_seconds
        self.is_stopping = False  # responses then close their connections

    def close_slow(self, now: float) -> None:
        """Close the connections whose headers did not arrive in time; those between two requests may wait longer."""
        for connection in list(self.connections):
            if connection.awaits_head and now - connection.since > self.head_seconds:
                connection.transport.close()

    def close_longest_waiting(self) -> None:
        """Close some of the connections that wait for their clients: one at a time would take quadratic time."""
        waiting = [connection for connection in self.connections if connection.waits_for_client]
        for connection in sorted(waiting, key=lambda connection: connection.since)[: 1 + self.max_connections // 32]:
            connection.transport.abort()


class Protocol(HttpToolsProtocol):
    """A connection. httptools limits neither the size nor the number of headers.

    Attributes:
        since: when the connection or its latest request began, in the event loop's time.
        awaits_head: whether the headers of a request are not complete; False between two requests.
    """

    server_state: Connections

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.since, self.awaits_head = self.loop.time(), True
        self._refusal = RefusedError(400, "this is not valid HTTP", "see /docs for the requests")
        self._is_refused = False
        self._progress = self._silent_bytes = 0

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
        progress = self._progress
        self._silent_bytes += len(data)
        super().data_received(data)
        if self._progress != progress:
            self._silent_bytes = 0
        elif self._silent_bytes > MAX_HEAD_BYTES and not self._is_refused:
            self._refusal = _head_too_large()
            self.send_400_response("")

    def on_message_begin(self) -> None:
        """Wait for a head."""
        super().on_message_begin()
        self.since, self.awaits_head = self.loop.time(), True

    def on_headers_complete(self) -> None:
        """Start the request, unless its head is too large."""
        size = len(self.url)
        for name, value in self.headers:
            size += len(name) + len(value)
        if size > MAX_HEAD_BYTES or len(self.headers) > MAX_HEADERS:
            self._refusal = _head_too_large()
            raise self._refusal
        if len(self.pipeline) >= MAX_PIPELINED:
            hint = "wait for the responses, or use more connections"
            self._refusal = RefusedError(400, f"more than {MAX_PIPELINED} requests wait on this connection", hint)
            raise self._refusal
        self._progress += 1
        self.awaits_head = False
        super().on_headers_complete()
        if self.server_state.is_stopping:
            self.cycle.keep_alive = False

    def on_body(self, body: bytes) -> None:
        """Pass a part of the body on."""
        self._progress += 1
        super().on_body(body)

    def send_400_response(self, msg: str) -> None:
        """Refuse what the parser did not accept, in the form of all refusals, and soon close the connection."""
        response = self._refusal.response()
        headers = [*self.server_state.default_headers, *response.raw_headers, (b"connection", b"close")]
        lines = b"".join(b"%b: %b\r\n" % header for header in headers)
        self.transport.write(STATUS_LINE[response.status_code] + lines + b"\r\n" + bytes(response.body))
        self._is_refused = True
        self.loop.call_later(LINGER_S, self.transport.close)


def _head_too_large() -> RefusedError:
    what = f"the headers are larger than {MAX_HEAD_BYTES:,} bytes, or more than {MAX_HEADERS}"
    return RefusedError(431, what, "send fewer and shorter headers, and a shorter address")
