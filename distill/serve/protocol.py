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
    """All connections, and since when each has been waiting for its client to send a complete request.

    Args:
        max_connections: if there are more, those that have waited longest are closed.
        head_seconds: how long the headers of a request may take to arrive.
    """

    def __init__(self, max_connections: int, head_seconds: float) -> None:
        super().__init__()
        self.max_connections, self.head_seconds = max_connections, head_seconds
        self.waiting: dict[Protocol, float] = {}  # in the order of the times
        self.is_stopping = False  # responses then close their connections

    def close_slow(self, now: float) -> None:
        """Close the connections whose headers did not arrive in time; those between two requests may wait longer."""
        late = (connection for connection, since in self.waiting.items() if now - since > self.head_seconds)
        for connection in [connection for connection in late if connection.awaits_head]:
            connection.transport.close()

    def close_longest_waiting(self) -> None:
        """Close the connection that has been waiting longest."""
        connection = next(iter(self.waiting))
        del self.waiting[connection]
        connection.transport.abort()


class Protocol(HttpToolsProtocol):
    """A connection. httptools limits neither the size nor the number of headers."""

    server_state: Connections

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.awaits_head = True
        self._refusal = RefusedError(400, "this is not valid HTTP", "see /docs for the requests")
        self._is_refused = False
        self._progress = self._silent_bytes = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Count the connection as one that waits, and close another one if there are too many."""
        super().connection_made(transport)
        self.server_state.waiting[self] = self.loop.time()
        if len(self.connections) > self.server_state.max_connections:
            self.server_state.close_longest_waiting()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        super().connection_lost(exc)
        self.server_state.waiting.pop(self, None)

    def data_received(self, data: bytes) -> None:
        """Parse ``data``; refuse it if the parser only stores it, as an endless header or trailer."""
        if self._is_refused:
            return
        progress = self._progress
        super().data_received(data)
        self._silent_bytes = self._silent_bytes + len(data) if self._progress == progress else 0
        if self._silent_bytes > MAX_HEAD_BYTES:
            self._refusal = _head_too_large()
            self.send_400_response("")

    def on_message_begin(self) -> None:
        """Wait for a head."""
        super().on_message_begin()
        self._progress += 1
        self.awaits_head = True
        self.server_state.waiting.pop(self, None)
        self.server_state.waiting[self] = self.loop.time()

    def on_headers_complete(self) -> None:
        """Start the request, unless its head is too large."""
        size = len(self.url) + sum(len(name) + len(value) for name, value in self.headers)
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

    def on_message_complete(self) -> None:
        """Wait for the client no longer."""
        self._progress += 1
        self.server_state.waiting.pop(self, None)
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """Wait for the next request."""
        super().on_response_complete()
        if not self.transport.is_closing():
            self.server_state.waiting.setdefault(self, self.loop.time())

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
