"""ASGI middleware in front of the routes: keys, body limits, and the headers that prove which process answered.

Knows routes by their paths only. Decisions in their order, for each request:

1. open paths (`/`, `/health`, `/ready`): passed on
2. admin paths: `X-Admin-Key`, else 401
3. all others, unknown ones too: a key if any is set; without keys only a loopback Host, so that no web page reaches us
   by DNS rebinding, unless `open_access` says that a server in front checks callers
4. an embedding request that is not JSON: 400, before it wakes a worker. A web page can post a form or plain text to any
   address without permission; for JSON the browser asks the server first
5. body over the limit: 413, at once by its Content-Length, else while it streams
6. all bodies together over the limit: 429
7. no part of a body for 30 s: 400
8. embedding answers get the headers of `Provenance`
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.errors import BadValueError, BusyError, ServingError, TooLargeError, UnauthorizedError
from serving.http.responses import respond_error
from serving.settings import Settings

OPEN = frozenset({"/", "/health", "/ready"})
ENGINE = frozenset({"/engine", "/engine/events", "/engine/scaledown", "/engine/rebuild"})
ADMIN = frozenset({"/sleep", "/wake_up", "/scaledown"}) | ENGINE
EMBEDDING = frozenset({"/embed", "/v1/embeddings"})
LOOPBACK = frozenset({"127.0.0.1", "localhost", "[::1]", "::1"})
HTTP_ERROR = 400
STALLED_S = 30.0
DRAIN_S = 5.0
"""How long a refused upload is still read and discarded: closing at once would reset the connection before its client
has seen the answer."""


class Provenance(Protocol):
    """Counts the embedding requests of a process, and makes the headers that prove which process answered."""

    def count_request(self) -> int:
        """Return the number of this request since the process was started or restored."""

    def count_answer(self, path: str, status: int) -> None: ...

    def make_headers(self, number: int, timings: Mapping[str, float]) -> Mapping[str, str]:
        """Return the headers of the answer to that request; `timings` are its own, in milliseconds."""


@dataclass(eq=False)
class RequestGuard:
    """An app behind these checks. Settings and admin key are read for each request: both may change meanwhile."""

    app: ASGIApp
    read_settings: Callable[[], Settings]
    read_admin_key: Callable[[], str]
    provenance: Provenance | None = None
    """That of the process that embeds; a proxy in front of it has none."""
    holds_bodies: bool = False
    """Whether the app keeps whole bodies, which are counted then; a proxy that passes them on does not."""
    buffered: int = 0
    """Bytes of all bodies that are held."""
    in_flight: int = 0
    """Requests that are not fully answered."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        call = GuardedCall(self, scope, receive, send)
        self.in_flight += 1
        try:
            self.check_key(scope["path"], Headers(scope=scope))
            call.check_headers()
            await self.app(scope, call.receive, call.send)
        except ServingError as error:
            await call.refuse(error)
        finally:
            self.in_flight -= 1
            self.buffered -= call.buffered

    def check_key(self, path: str, headers: Headers) -> None:
        """Raise UnauthorizedError for a request without the key that its path needs."""
        settings = self.read_settings()
        if path in ADMIN:
            if not is_one_of(headers.get("x-admin-key", ""), [self.read_admin_key()]):
                raise UnauthorizedError("this needs the admin key in X-Admin-Key", code="invalid_admin_key")
        elif path in OPEN:
            return
        elif settings.keys:
            if not is_one_of(read_key(headers), settings.keys):
                raise UnauthorizedError("wrong or missing key: send Authorization: Bearer KEY")
        elif not settings.open_access and strip_port(headers.get("host", "")) not in LOOPBACK:
            raise UnauthorizedError("this server has no keys and answers loopback names only: set DORMOUSE_API_KEYS")


class GuardedCall:
    """Counts the body of one request on its way through, and adds the headers to its answer."""

    def __init__(self, guard: RequestGuard, scope: Scope, receive: Receive, send: Send) -> None:
        self.guard = guard
        self.scope = scope
        self.size = 0
        self.buffered = 0
        self.answered = False
        headers = Headers(scope=scope)
        self.ended = headers.get("content-length", "0") == "0" and "transfer-encoding" not in headers
        self._receive = receive
        self._send = send
        self._embeds = scope["path"] in EMBEDDING and scope["method"] == "POST"
        self._provenance = guard.provenance if self._embeds else None
        self._number = 0 if self._provenance is None else self._provenance.count_request()

    def check_headers(self) -> None:
        """Raise BadValueError for an embedding request that is not JSON, TooLargeError by the Content-Length."""
        headers = Headers(scope=self.scope)
        if self._embeds and headers.get("content-type", "").split(";")[0].strip().lower() != "application/json":
            raise BadValueError("send JSON with Content-Type: application/json")
        length = headers.get("content-length", "")
        if length.isdigit():
            self.check_size(int(length))

    def check_size(self, size: int) -> None:
        limit = self.guard.read_settings().max_body_bytes
        if size > limit:
            raise TooLargeError(f"the body is larger than {limit} bytes: send fewer pages")

    async def receive(self) -> Message:
        message = await self._next()
        if message["type"] == "http.request":
            self.ended = not message.get("more_body", False)
            count = len(message.get("body", b""))
            self.size += count
            if self.guard.holds_bodies:
                self.buffered += count
                self.guard.buffered += count
            self.check_size(self.size)
            if self.guard.buffered > self.guard.read_settings().max_buffered_bytes:
                raise BusyError("too many uploads at once: try again later", retry_after=2)
        return message

    async def _next(self) -> Message:
        if self.ended:  # the next message is that the client has gone, whenever that is
            return await self._receive()
        try:
            async with asyncio.timeout(STALLED_S):
                return await self._receive()
        except TimeoutError:
            raise BadValueError("the upload stalled: send the whole body", code="stalled") from None

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.answered = True
            if not self.ended and int(message["status"]) >= HTTP_ERROR:
                MutableHeaders(scope=message)["connection"] = "close"
            if self._provenance is not None:
                self._provenance.count_answer(self.scope["path"], message["status"])
                timings = self.scope.get("state", {}).get("timings", {})
                MutableHeaders(scope=message).update(self._provenance.make_headers(self._number, timings))
        elif not message.get("more_body", False) and not self.ended:
            # The body is sent now; its empty last part waits until the rest of the upload is discarded.
            await self._send({**message, "more_body": True})
            await self.drain()
            message = {"type": "http.response.body", "body": b"", "more_body": False}
        await self._send(message)

    async def refuse(self, error: ServingError) -> None:
        if not self.answered:
            await respond_error(error)(self.scope, self._receive, self.send)

    async def drain(self) -> None:
        self.guard.buffered -= self.buffered
        self.buffered = 0
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(DRAIN_S):
                while not self.ended:
                    message = await self._receive()
                    self.ended = message["type"] != "http.request" or not message.get("more_body", False)


def read_key(headers: Headers) -> str:
    """Return the key that a caller sent; empty if there is none."""
    scheme, _, token = headers.get("authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else headers.get("x-api-key", "")


def is_one_of(given: str, keys: Iterable[str]) -> bool:
    """Return whether `given` is one of the keys. Compares with all of them, each in constant time."""
    found = False
    for key in keys:
        found |= bool(key) and hmac.compare_digest(given.encode("utf-8", "replace"), key.encode())
    return found


def strip_port(host: str) -> str:
    """Return the name in a Host header, an IPv6 address with its brackets."""
    return host if host.startswith("[") and host.endswith("]") else host.rsplit(":", 1)[0].lower()
