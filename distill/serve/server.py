"""The HTTP server: listening, reloading, and a clean stop that answers every accepted request and exits with code 0."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import os
import resource
import signal
import socket
import threading
import time
from collections.abc import Iterator
from types import FrameType
from typing import TYPE_CHECKING, Any

import uvicorn
from fastapi import FastAPI

from distill.config import ServeSettings
from distill.errors import UserError
from distill.progress import log
from distill.serve.batching import wait_for_threads
from distill.serve.limits import log_bug
from distill.serve.workers import ParentLink

try:
    from distill.serve import protocol
except ModuleNotFoundError:  # without httptools, uvicorn uses h11, which has limits of its own
    protocol = None  # type: ignore[assignment]

if TYPE_CHECKING:
    from distill.serve.endpoints import Endpoints

KEEP_ALIVE_S = 75  # seconds: longer than nginx keeps its upstream connections, which would otherwise lose requests
BACKLOG = 2048
MAX_CONNECTIONS = 4096
OTHER_FILES = 128  # that the process may have open besides its connections
TICKS_PER_S = 10  # of uvicorn's main loop
THREADS_S = 0.5  # at the stop: how long a thread may take to notice that its work was cancelled
DRAIN_S = (
    0.5  # at the stop: how long connections between two requests stay open, so that none is closed under a request
)


def listen(host: str, port: int, workers: int = 1) -> list[socket.socket]:
    """Listening sockets on one address, one per worker. If there are several, the kernel distributes the connections.

    Raises:
        UserError: the address is in use, not permitted, or not an address of this machine.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        first = socket.create_server((host, port), family=family, backlog=BACKLOG)
        if workers == 1:
            return [first]
        with first:  # it has checked the address: shared sockets would join another service that listens there
            address = first.getsockname()[:2]
        return [socket.create_server(address, family=family, backlog=BACKLOG, reuse_port=True) for _ in range(workers)]
    except OSError as error:
        what = f"cannot listen on this address: {(error.strerror or str(error)).lower()}"
        raise UserError(what, f"{host}:{port}", "choose another --port or --host") from error


def url_of(listener: socket.socket) -> str:
    """The URL at which a browser on this machine reaches the service."""
    host, port = listener.getsockname()[:2]
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 (compared, not listened on)
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def run(app: FastAPI, listener: socket.socket, limits: ServeSettings, channel: socket.socket | None = None) -> None:
    """Serve until SIGTERM or SIGINT, then accept no new connection and finish the accepted requests.

    A worker has a ``channel`` to its parent process, which alone handles SIGINT: Ctrl-C reaches all processes.

    If a thread is still busy ``--stop`` seconds after the signal, the process ends without it.
    """
    others = threading.enumerate()
    server = _Server(app, limits, channel)
    server.run([listener])
    if not wait_for_threads(max(server.stop_at, time.monotonic() + THREADS_S), others):
        log.warning("stopping: a thread was still busy, and its work is given up")
        logging.shutdown()
        os._exit(0)  # the interpreter would wait for the thread


class _Server(uvicorn.Server):
    """uvicorn's server; SIGHUP loads the bundle again, and while the server stops, /ready answers "stopping"."""

    def __init__(self, app: FastAPI, limits: ServeSettings, channel: socket.socket | None) -> None:
        config = uvicorn.Config(
            app,
            http=protocol.Protocol if protocol else "h11",
            ws="none",
            log_config=None,
            log_level="error",  # a line per invalid request would fill the disk
            access_log=False,
            proxy_headers=False,
            server_header=False,
            headers=[("X-Content-Type-Options", "nosniff")],
            timeout_keep_alive=KEEP_ALIVE_S,
            timeout_graceful_shutdown=math.ceil(limits.stop_s),
        )
        super().__init__(config)
        self._endpoints: Endpoints = app.state.endpoints
        self._stop_s, self.stop_at = limits.stop_s, 0.0  # in the time of time.monotonic
        self._link = ParentLink(channel, self._endpoints, self._terminate) if channel else None
        self._link_task: asyncio.Task[None] | None = None
        max_connections = _open_files(MAX_CONNECTIONS + OTHER_FILES) - OTHER_FILES
        self._connections = protocol.Connections(max_connections, limits.wait_s, app.state.direct) if protocol else None
        self.server_state = self._connections or self.server_state

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        if self._link:
            await self._link.connect()
        await super().startup(sockets)
        asyncio.get_running_loop().set_exception_handler(_log_without_texts)
        if threading.current_thread() is threading.main_thread():
            asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, self._hang_up)
        if self._link:
            self._link_task = asyncio.create_task(self._link.run())

    async def on_tick(self, counter: int) -> bool:
        if self._connections and counter % TICKS_PER_S == 0:
            self._connections.close_slow(asyncio.get_running_loop().time())
        self._endpoints.metrics.publish_gauges()
        return await super().on_tick(counter)

    def _hang_up(self) -> None:
        """Load the bundle again, or stop if the terminal that the service was started from was closed."""
        if not self._link and self._endpoints.has_lost_terminal:
            self._terminate()
        else:
            self._endpoints.start_reload()

    def _terminate(self) -> None:
        self.handle_exit(signal.SIGTERM, None)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if self._link and sig == signal.SIGINT:
            return
        self._endpoints.status = "stopping"
        self.stop_at = 0.0 if self.should_exit else time.monotonic() + self._stop_s
        super().handle_exit(sig, frame)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop listening and let the next response of every connection close it; then wait as uvicorn does."""
        if not self._link:
            log.info("stopping: finishing the accepted requests")
        for listening in (*self.servers, *(sockets or ())):
            listening.close()
        if self._link:
            self._link.leave()
        if self._connections and self._connections.connections:
            self._connections.is_stopping = True
            await asyncio.sleep(min(DRAIN_S, self._stop_s))
        await super().shutdown(sockets)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Handle the signals, but do not raise them again at the end as uvicorn does, so that the exit code is 0."""
        with super().capture_signals():
            yield
            self._captured_signals.clear()


def _log_without_texts(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Log an error of a callback. asyncio's own handler also logs the message and the arguments, which may be texts."""
    log_bug(context.get("exception") or RuntimeError())


def _open_files(wanted: int) -> int:
    """Allow the process as many open files as are ``wanted``, if the system permits it; return how many are allowed."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    limit = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if resource.RLIM_INFINITY != soft < limit:
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
    return limit
