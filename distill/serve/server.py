"""The HTTP server: listening, and a clean stop that answers every accepted request and exits with code 0."""

from __future__ import annotations

import contextlib
import math
import socket
from collections.abc import Iterator
from types import FrameType

import uvicorn
from fastapi import FastAPI

from distill.config import ServeSettings
from distill.errors import UserError
from distill.progress import log

KEEP_ALIVE_S = 75  # seconds: longer than nginx keeps its upstream connections, which would otherwise lose requests
BACKLOG = 2048


def listen(host: str, port: int) -> socket.socket:
    """A listening socket.

    Raises:
        UserError: the address is in use, not permitted, or not an address of this machine.
    """
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family, backlog=BACKLOG)
    except OSError as error:
        what = f"cannot listen on this address: {(error.strerror or str(error)).lower()}"
        raise UserError(what, f"{host}:{port}", "choose another --port or --host") from error


def url_of(listener: socket.socket) -> str:
    """The URL at which a browser on this machine reaches the service."""
    host, port = listener.getsockname()[:2]
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 (compared, not listened on)
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def run(app: FastAPI, listener: socket.socket, limits: ServeSettings) -> None:
    """Serve until SIGTERM or SIGINT, then accept no new connection and finish the accepted requests."""
    config = uvicorn.Config(
        app,
        ws="none",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=math.ceil(limits.stop_s),
    )
    _Server(config).run([listener])


class _Server(uvicorn.Server):
    """uvicorn's server; while it stops, /ready answers "stopping"."""

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self.config.app.state.endpoints.status = "stopping"  # type: ignore[union-attr]
        super().handle_exit(sig, frame)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        log.info("stopping: finishing the accepted requests")
        await super().shutdown(sockets)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Handle the signals, but do not raise them again at the end as uvicorn does, so that the exit code is 0."""
        with super().capture_signals():
            yield
            self._captured_signals.clear()
