"""Listening, and the end of it: a stop that was asked for answers what was accepted and is a success."""

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

IDLE_S = 75  # seconds that an idle connection is kept: longer than nginx keeps its own, or requests would be lost
BACKLOG = 2048


def listen(host: str, port: int) -> socket.socket:
    """A listening socket.

    Raises:
        UserError: the address is taken, not allowed, or none of this machine's.
    """
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family, backlog=BACKLOG)
    except OSError as error:
        what = f"cannot listen there: {(error.strerror or str(error)).lower()}"
        raise UserError(what, f"{host}:{port}", "another --port, or another --host") from error


def url_of(listener: socket.socket) -> str:
    """Where a browser on this machine finds it."""
    host, port = listener.getsockname()[:2]
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 (it is compared, not listened to)
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def run(app: FastAPI, listener: socket.socket, limits: ServeSettings) -> None:
    """Answer until SIGTERM or SIGINT; then no new connection, and what was accepted is answered."""
    config = uvicorn.Config(
        app,
        ws="none",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=IDLE_S,
        timeout_graceful_shutdown=math.ceil(limits.stop_s),
    )
    _Server(config).run([listener])


class _Server(uvicorn.Server):
    """uvicorn's server, which says at /ready that it stops."""

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self.config.app.state.endpoints.status = "stopping"  # type: ignore[union-attr]
        super().handle_exit(sig, frame)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        log.info("stopping: what was accepted is answered")
        await super().shutdown(sockets)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Catch the signals that stop it, but do not raise them anew in the end as uvicorn does: the exit code is 0."""
        with super().capture_signals():
            yield
            self._captured_signals.clear()
