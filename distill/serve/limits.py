"""Refusals: how the service rejects a request, and limits on size, time, memory and waiting requests."""

from __future__ import annotations

import asyncio
import ctypes
import json
import time
import traceback
from collections.abc import Awaitable
from typing import Any, Self, TypeVar

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from distill.progress import log

T = TypeVar("T")
_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode  # json.dumps would make one per call
MAX_LENGTH_DIGITS = 18  # of a Content-Length; int() takes quadratic time and refuses more than 4,300
UNCOUNTED_BYTES = 2**14  # of every body: a request with a few texts is never refused because others send large bodies
LARGE_BURST = 2**24  # bytes of bodies at a time, after which memory is returned to the operating system


class RefusedError(Exception):
    """A request is rejected.

    Args:
        status: HTTP status code.
        what: what is wrong.
        hint: what the client can do about it.
        headers: further headers of the response.
    """

    def __init__(self, status: int, what: str, hint: str, headers: dict[str, str] | None = None) -> None:
        self.status, self.what, self.hint, self.headers = status, what, hint, headers or {}
        super().__init__(what)

    def response(self) -> Response:
        """The response: ``{"error", "hint"}``, with ``Retry-After: 1`` (seconds) where a retry may succeed."""
        headers = {"Retry-After": "1"} if self.status in (429, 503) else {}
        return json_response({"error": self.what, "hint": self.hint}, self.status, headers | self.headers)


def refusal_of(error: BaseException) -> RefusedError:
    """The response to a request that was cancelled or failed by a bug. A bug is logged without its message.

    A message may repeat a text: the error of a conversion names the value.
    """
    if isinstance(error, asyncio.CancelledError):
        return stopping()
    log_bug(error)
    return RefusedError(500, "internal error of the service", "see the service's log")


def log_bug(error: BaseException) -> None:
    """Log the type of an exception and the lines of code that it went through, but not its message."""
    where = "".join(traceback.format_tb(error.__traceback__))
    log.error("internal error: %s\n%s", type(error).__name__, where)


def stopping() -> RefusedError:
    """The refusal of a request that is not answered before the service ends."""
    return RefusedError(503, "the service is stopping", "try again later")


def json_bytes(content: Any) -> bytes:
    """``content`` as compact UTF-8 JSON."""
    return _encode(content).encode()


def json_response(content: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """A response with ``content`` as JSON."""
    return Response(json_bytes(content), status, headers, "application/json")


class ConcurrencyLimit:
    """A context manager that ``limit`` requests may be inside at a time; entering it once more raises a 429."""

    def __init__(self, limit: int) -> None:
        self.limit, self.active = limit, 0

    def enter(self) -> None:
        """Count a request.

        Raises:
            RefusedError: 429, there are too many.
        """
        if self.active >= self.limit:
            raise RefusedError(429, f"too many requests are waiting (limit {self.limit})", "try again in a second")
        self.active += 1

    def leave(self) -> None:
        """Forget a request."""
        self.active -= 1

    def __enter__(self) -> None:
        self.enter()

    def __exit__(self, *_: object) -> None:
        self.leave()


class Bodies:
    """The bodies that are held in memory: how many, and how many bytes beyond :data:`UNCOUNTED_BYTES` of each.

    Args:
        max_bytes: maximum number of counted bytes of all bodies together.
    """

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes, self.count, self.bytes, self._peak = max_bytes, 0, 0, 0

    def enter(self) -> None:
        """Count a body, and none of its bytes yet."""
        self.count += 1

    def add(self, size: int) -> None:
        """Count ``size`` bytes more.

        Raises:
            RefusedError: 429, there would be more than ``max_bytes``.
        """
        if self.bytes + size > self.max_bytes:
            what = f"the bodies of all requests together are larger than {self.max_bytes:,} bytes"
            raise RefusedError(429, what, "try again in a second, or send less at a time")
        self.bytes += size
        self._peak = max(self._peak, self.bytes)

    def leave(self, size: int = 0) -> None:
        """Forget a body of which ``size`` bytes were counted; after a large burst, return memory to the system."""
        self.count -= 1
        self.bytes -= size
        if self._peak >= LARGE_BURST > self.bytes:
            self._peak = self.bytes
            _trim_memory()


class Body:
    """A context manager for as long as a request's body is held: counts it among all ``bodies``."""

    __slots__ = ("_bodies", "_counted")

    def __init__(self, bodies: Bodies) -> None:
        self._bodies, self._counted = bodies, 0

    def __enter__(self) -> Self:
        self._bodies.enter()
        return self

    def __exit__(self, *_: object) -> None:
        self._bodies.leave(self._counted)

    async def read(self, request: Request, max_bytes: int, seconds: float) -> bytes:
        """Read a request's body; what exceeds ``max_bytes`` is neither read nor stored.

        Raises:
            RefusedError: 413 it is too large, 408 it took longer than ``seconds``, 429 all bodies together are too
                large, 400 the client disconnected or Content-Length is not a number.
        """
        declared = request.headers.get("content-length", "0")
        if not (declared.isascii() and declared.isdecimal() and len(declared) <= MAX_LENGTH_DIGITS):
            raise RefusedError(400, "Content-Length is not a number of bytes", "send the size of the body")
        if int(declared) > max_bytes:
            raise _too_large(max_bytes)
        try:
            async with asyncio.timeout(seconds):
                return await self._read(request, max_bytes)
        except TimeoutError:
            what = f"the body took longer than {seconds:g} s to arrive"
            raise RefusedError(408, what, "send it faster, or send less at a time") from None
        except ClientDisconnect:
            what = "the connection was closed before the body was complete"
            raise RefusedError(400, what, "send it again") from None

    async def _read(self, request: Request, max_bytes: int) -> bytes:
        body = bytearray()
        async for part in request.stream():
            body += part
            if len(body) > max_bytes:
                raise _too_large(max_bytes)
            if len(body) - self._counted > UNCOUNTED_BYTES:
                more = len(body) - self._counted - UNCOUNTED_BYTES
                self._bodies.add(more)
                self._counted += more
        return bytes(body)


def _too_large(max_bytes: int) -> RefusedError:
    what = f"the body is larger than {max_bytes:,} bytes"
    return RefusedError(413, what, "send less at a time, or start the service with a larger --most_bytes")


def _trim_memory() -> None:
    """Return freed memory to the operating system; the C library would keep it for the next burst."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc only
    if trim is not None:
        trim(0)


async def with_timeout(result: Awaitable[T], seconds: float) -> T:
    """Await ``result``.

    Raises:
        RefusedError: 503, it took longer than ``seconds``.
    """
    try:
        async with asyncio.timeout(seconds):
            return await result
    except TimeoutError:
        raise too_slow(seconds) from None


def too_slow(seconds: float) -> RefusedError:
    """The refusal of a request whose response took too long."""
    return RefusedError(503, f"the response took longer than {seconds:g} s", "try again later, or send less at a time")


class DeadlineError(Exception):
    """Nobody waits for the result of this work any more."""


class Deadline:
    """When work in a thread must end; the thread calls :meth:`check` from time to time."""

    def __init__(self, seconds: float) -> None:
        self._end = time.monotonic() + seconds

    def cancel(self) -> None:
        """Let the next :meth:`check` raise."""
        self._end = 0.0

    def check(self) -> None:
        """Do nothing before the deadline.

        Raises:
            DeadlineError: the time is over, or the work was cancelled.
        """
        if time.monotonic() >= self._end:
            raise DeadlineError
