"""Who may use the service: the host names it answers to, the origins of web pages, and the token."""

from __future__ import annotations

import base64
import binascii
import hmac
from collections.abc import Iterable
from pathlib import Path

from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

from distill.config import ServeSettings
from distill.errors import UserError
from distill.progress import log
from distill.serve.limits import RefusedError

ANY = "*"
LOCAL_HOSTS = ("localhost", "127.0.0.1", "[::1]")
ALL_ADDRESSES = ("0.0.0.0", "::", "")  # noqa: S104 (compared, not listened on)
PUBLIC_PATHS = frozenset(("/health", "/ready"))  # for all: probes have no token, and name an address as the host
CHECKED_HEADERS = frozenset((b"host", b"origin", b"sec-fetch-site", b"authorization"))
MAX_ACCEPTED = 100  # values of the header Host that are remembered; clients choose the port in it
EXPOSED_HEADERS = (
    "Content-Disposition",
    "Retry-After",
    "X-Rows",
    "X-Bad-Rows",
    "X-Rejected-Rows",
)  # to pages of other origins


class AccessRules:
    """Which requests are refused: those with a wrong Host, from pages of other origins, or without the token.

    A page that the user visits could otherwise send requests to a service on the user's own machine: directly, as forms
    need no permission, or by giving its own name the address of the service (DNS rebinding).

    Args:
        hosts: names in the header Host that are accepted, with any port; ``*``: all.
        origins: of pages that may send POST requests besides the service's own page; ``*``: all.
        token: that requests must have; empty: none.
    """

    def __init__(self, hosts: frozenset[str], origins: frozenset[str], token: bytes = b"") -> None:
        self._hosts, self._origins, self._token = hosts, origins, token
        self._accepted: set[bytes] = set()  # values of the header Host that need not be checked again

    def check(self, method: str, path: str, request_headers: Iterable[tuple[bytes, bytes]]) -> None:
        """Do nothing if the request may be answered.

        Raises:
            RefusedError: 401 or 403.
        """
        if path in PUBLIC_PATHS and method in ("GET", "HEAD"):
            return
        headers = {}
        for name, value in request_headers:
            if name in CHECKED_HEADERS:
                headers[name] = value
                if name == b"host" and value not in self._accepted:  # every one, if there are several
                    self._check_host(value)
        if b"origin" in headers and method not in ("GET", "HEAD"):
            self._check_origin(headers)
        if self._token:
            self._check_token(headers.get(b"authorization", b""))

    def _check_host(self, value: bytes) -> None:
        name = _host_name(value.decode("latin-1"))
        if self._hosts.isdisjoint((ANY, name)):
            hint = f"start the service with --allowed_host {name:.100}" if name else "send the name of the service"
            raise RefusedError(403, "this host name is not allowed in the header Host", hint)
        if len(self._accepted) < MAX_ACCEPTED:
            self._accepted.add(value)

    def _check_origin(self, headers: dict[bytes, bytes]) -> None:
        """Refuse pages of other origins. Sec-Fetch-Site is the browser's own judgement, which no proxy changes."""
        origin = headers[b"origin"].decode("latin-1").lower()
        is_own = origin.partition("://")[2] == headers.get(b"host", b"").decode("latin-1").lower()
        if is_own or headers.get(b"sec-fetch-site") == b"same-origin" or not self._origins.isdisjoint((ANY, origin)):
            return
        hint = f"start the service with --allow_origin {origin:.100}, if its pages may use it"
        raise RefusedError(403, "a page of another origin sent this request", hint)

    def _check_token(self, authorization: bytes) -> None:
        if not hmac.compare_digest(_token_of(authorization), self._token):
            hint = "send the header Authorization: Bearer TOKEN; in a browser, enter the token as the password"
            challenge = {"WWW-Authenticate": 'Bearer, Basic realm="token as the password", charset="UTF-8"'}
            raise RefusedError(401, "the token is missing or wrong", hint, challenge)


class Guard:
    """Middleware that answers the requests that the ``rules`` refuse, and passes on all others."""

    def __init__(self, app: ASGIApp, rules: AccessRules) -> None:
        self.app, self._rules = app, rules

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer the request or pass it on."""
        if scope["type"] == "http":
            try:
                self._rules.check(scope["method"], scope["path"], scope["headers"])
            except RefusedError as refused:
                await refused.response()(scope, receive, send)
                return
        await self.app(scope, receive, send)


def _host_name(host: str) -> str:
    """The name or address in a Host header, or in ``--allowed_host``, in lower case and without the port."""
    host = host.strip().lower()
    return host.partition("]")[0] + "]" if host.startswith("[") else host.partition(":")[0]


def _token_of(authorization: bytes) -> bytes:
    """The token in an Authorization header: ``Bearer TOKEN``, or the password of ``Basic``, which browsers ask for."""
    scheme, _, credentials = authorization.partition(b" ")
    if scheme.lower() == b"bearer":
        return credentials.strip()
    try:
        return base64.b64decode(credentials, validate=True).partition(b":")[2] if scheme.lower() == b"basic" else b""
    except binascii.Error:
        return b""


def add_guard(app: FastAPI, settings: ServeSettings) -> AccessRules:
    """Put a :class:`Guard` before the application, and CORS for ``--allow_origin``; return the guard's rules.

    Raises:
        UserError: an origin is not one, or the file of the token is empty or not one line.
    """
    origins = frozenset(map(_origin, settings.allow_origin))
    rules = AccessRules(allowed_hosts(settings), origins, read_token(settings.token_file))
    app.add_middleware(Guard, rules=rules)
    if origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=origins,
            allow_methods=("GET", "POST"),
            allow_headers=("Authorization", "Content-Type"),
            expose_headers=EXPOSED_HEADERS,
        )
    return rules


def allowed_hosts(settings: ServeSettings) -> frozenset[str]:
    """The host names that are accepted: those of ``--allowed_host``, or this machine's as far as they are known.

    A service that listens on all addresses is reached under names that it cannot know, for example those of containers.
    """
    if not settings.allowed_host and settings.host in ALL_ADDRESSES:
        return frozenset((ANY,))
    own = f"[{settings.host}]" if ":" in settings.host else settings.host
    names = (*LOCAL_HOSTS, own, *map(_allowed, settings.allowed_host))
    return frozenset(_host_name(name) for name in names if name not in ALL_ADDRESSES)


def _allowed(host: str) -> str:
    name = f"[{host}]" if host.count(":") > 1 and not host.startswith("[") else host
    if "/" in name or ("*" in name and name != ANY) or not _host_name(name).strip("[]"):
        hint = "--allowed_host news.example.com, or * for all"
        raise UserError("this is not the name of a host", f"--allowed_host {host}", hint)
    return name


def _origin(origin: str) -> str:
    scheme, separator, rest = origin.lower().rstrip("/").partition("://")
    if origin not in (ANY, "null") and (scheme not in ("http", "https") or not separator or not rest or "/" in rest):
        raise UserError("this is not an origin", f"--allow_origin {origin}", "--allow_origin https://news.example.com")
    return origin.lower().rstrip("/")


def read_token(path: str) -> bytes:
    """The token in a file; empty if ``path`` is.

    Raises:
        UserError: the file is empty, or does not hold one word of visible ASCII characters.
    """
    if not path:
        return b""
    token = Path(path).read_bytes().strip()
    hint = "write one line of letters and digits, for example: openssl rand -hex 32"
    if not token:
        raise UserError("the file of the token is empty", path, hint)
    if not all(33 <= byte <= 126 for byte in token):
        raise UserError("the token has spaces, several lines or characters beyond ASCII", path, hint)
    if Path(path).stat().st_mode & 0o077:
        log.warning("%s: other users can read the token -> chmod 600 %s", path, path)
    return token
