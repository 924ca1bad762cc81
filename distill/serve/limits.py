"""Refusals: how the service rejects a request, and limits on size, time and waiting requests."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable
from typing import Any, TypeVar

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

T = TypeVar("T")


class RefusedError(Exception):
    """A request is rejected.

    Args:
        status: HTTP status code.
        what: what is wrong.
        hint: what the client can do about it.
    """

    def __init__(self, status: int, what: str, hint: str) -> None:
        self.status, self.what, self.hint = status, what, hint
        super().__init__(what)

    def response(self) -> Response:
        """The response: ``{"error", "hint"}``, with ``Retry-After: 1`` (seconds) where a retry may succeed."""
        headers = {"Retry-After": "1"} if self.status in (429, 503) else {}
        return json_response({"error": self.what, "hint": self.hint}, self.status, headers)


def json_response(content: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """``content`` as compact UTF-8 JSON."""
    body = json.dumps(content, ensure_ascii=False, separators=(",", ":"))
    return Response(body, status, headers, "application/json")


class ConcurrencyLimit:
    """A context manager that ``limit`` requests may be inside at a time; entering it once more raises a 429."""

    def __init__(self, limit: int) -> None:
        self.limit, self.active = limit, 0

    def __enter__(self) -> None:
        if self.active >= self.limit:
            raise RefusedError(429, f"too many requests are waiting (limit {self.limit})", "try again in a second")
        self.active += 1

    def __exit__(self, *_: object) -> None:
        self.active -= 1


async def with_timeout(result: Awaitable[T], seconds: float) -> T:
    """Await ``result``.

    Raises:
        RefusedError: 503, it took longer than ``seconds``.
    """
    try:
        async with asyncio.timeout(seconds):
            return await result
    except TimeoutError:
        hint = "try again later, or send less at a time"
        raise RefusedError(503, f"the response took longer than {seconds:g} s", hint) from None


async def read_body(request: Request, max_bytes: int, seconds: float) -> bytes:
    """Read a request's body; what exceeds ``max_bytes`` is neither read nor stored.

    Raises:
        RefusedError: 413 it is too large, 408 it took longer than ``seconds``, 400 the client disconnected.
    """
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > max_bytes:
        raise _too_large(max_bytes)
    try:
        async with asyncio.timeout(seconds):
            return await _read(request, max_bytes)
    except TimeoutError:
        what = f"the body took longer than {seconds:g} s to arrive"
        raise RefusedError(408, what, "send it faster, or send less at a time") from None
    except ClientDisconnect:
        raise RefusedError(400, "the connection was closed before the body was complete", "send it again") from None


async def _read(request: Request, max_bytes: int) -> bytes:
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > max_bytes:
            raise _too_large(max_bytes)
    return bytes(body)


def _too_large(max_bytes: int) -> RefusedError:
    what = f"the body is larger than {max_bytes:,} bytes"
    return RefusedError(413, what, "send less at a time, or start the service with a larger --most_bytes")
