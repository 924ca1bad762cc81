"""What the service refuses, in which words, and how many may wait."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable
from typing import Any, TypeVar

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

T = TypeVar("T")


class RefusedError(Exception):
    """A request that gets no answer but a word why.

    Args:
        status: HTTP's number for it.
        what: what is wrong.
        hint: what to do about it.
    """

    def __init__(self, status: int, what: str, hint: str) -> None:
        self.status, self.what, self.hint = status, what, hint
        super().__init__(what)

    def response(self) -> Response:
        """The body ``{"error", "hint"}``; where waiting helps, ``Retry-After`` in seconds."""
        headers = {"Retry-After": "1"} if self.status in (429, 503) else {}
        return json_response({"error": self.what, "hint": self.hint}, self.status, headers)


def json_response(content: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """``content`` as JSON in UTF-8."""
    body = json.dumps(content, ensure_ascii=False, separators=(",", ":"))
    return Response(body, status, headers, "application/json")


class ConcurrencyLimit:
    """How many may be inside at a time, to be used in a ``with``; one more is refused."""

    def __init__(self, most: int) -> None:
        self.most, self.taken = most, 0

    def __enter__(self) -> None:
        if self.taken >= self.most:
            raise RefusedError(429, f"{self.most} requests are waiting already", "try again in a second")
        self.taken += 1

    def __exit__(self, *_: object) -> None:
        self.taken -= 1


async def with_timeout(answer: Awaitable[T], seconds: float) -> T:
    """``answer``, or a refusal when it takes longer."""
    try:
        async with asyncio.timeout(seconds):
            return await answer
    except TimeoutError:
        raise RefusedError(503, f"the answer took longer than {seconds:g} s", "try again later, with less") from None


async def read_body(request: Request, most: int, seconds: float) -> bytes:
    """A request's body: of ``most`` bytes, arrived within ``seconds``; more is neither read nor kept."""
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > most:
        raise _too_large(most)
    try:
        async with asyncio.timeout(seconds):
            return await _read(request, most)
    except TimeoutError:
        raise RefusedError(
            408, f"the body took longer than {seconds:g} s to arrive", "send it faster, or less"
        ) from None
    except ClientDisconnect:
        raise RefusedError(400, "the connection ended before the body did", "send the whole body") from None


async def _read(request: Request, most: int) -> bytes:
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > most:
            raise _too_large(most)
    return bytes(body)


def _too_large(most: int) -> RefusedError:
    return RefusedError(
        413, f"the body is larger than {most:,} bytes", "send less at a time, or serve with --most_bytes"
    )
