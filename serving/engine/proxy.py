"""The engine's proxy: holds requests while a worker comes back, passes bodies on as they come.

It decides in this order, for each request that `RequestGuard` has let through:

1. `/embed` and `/v1/embeddings` are passed on; they alone start a worker and reset the idle timer. All other routes are
   answered here, at zero too (`serving.engine.routes`)
2. the request waits for the worker, and gives its place up when its client leaves
3. the worker ends before it has taken anything of the request: once more from 2
4. the worker ends in the middle: 503; the part of the body that it had is not kept for a second try
5. the worker answers nothing, or takes nothing, for longer than its own time limit: it is hung. The request gets 503,
   and the worker is killed, which the engine notices at once: later requests wait for another one. Only the proxy can
   tell, because a client that sends or reads slowly keeps it waiting as well
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.engine.engine import Lease
from serving.engine.pool import WorkerPool
from serving.errors import MethodNotAllowedError, NotReadyError
from serving.http.access import EMBEDDING
from serving.http.client_left import ClientLeftError, run_unless_client_leaves, wait_for_disconnect
from serving.snapshots.worker_handle import WorkerHandle

READ_AHEAD_BYTES = 64 * 1024
"""Bytes read of a body before its request is admitted: a server that reads nothing does not notice a client leaving."""
QUEUED_BYTES = 1024 * 1024
"""The same for a request that waits at zero: a page or two, so that it too notices when its client leaves."""
ALL_QUEUED_BYTES = 64 * 1024 * 1024
"""Bytes read of all waiting requests; beyond it bodies stay in their sockets, and a place is freed at its timeout."""
HUNG_S = 10.0
"""A worker answers within its own time limit, if only with an error; this much later it is hung."""
KEPT_S = 3600.0
"""An idle connection to the worker; the worker's own limit is the same."""
TRIES = 3
"""For a request whose worker ended before it took anything of it."""
HOP_BY_HOP = {
    "connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "te", "trailer", "transfer-encoding",
    "upgrade", "host", "expect",
}  # fmt: skip
log = logging.getLogger(__name__)


@dataclass(eq=False)
class RequestBody:
    """A request's body: what was read while it waited, then what comes."""

    receive: Receive
    read: list[bytes] = field(default_factory=list)
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    taken: bool = False
    """True once a worker has been given something of it."""
    failed: Exception | None = None
    """Why no more of the body comes: the client has left, or the guard refuses it."""

    @property
    def buffered_bytes(self) -> int:
        return sum(len(chunk) for chunk in self.read)

    async def read_ahead(self, most: int) -> None:
        """Read up to that many bytes; after a whole body, the next message can only be that the client has left."""
        while not self.ended.is_set() and self.buffered_bytes < most:
            self.read.append(await self._next())

    async def _next(self) -> bytes:
        try:
            message = await self.receive()
            if message["type"] != "http.request":
                raise ClientLeftError("the client closed its connection")
        except Exception as error:
            self.failed = error
            raise
        if not message.get("more_body", False):
            self.ended.set()
        return bytes(message.get("body", b""))

    async def stream(self, watchdog: WorkerWatchdog) -> AsyncIterator[bytes]:
        """Yield the chunks; `watchdog` runs while the worker has one that it has not taken."""
        while self.read or not self.ended.is_set():
            chunk = self.read.pop(0) if self.read else await self._next()
            self.taken = True
            with watchdog.running():
                yield chunk
        watchdog.start()  # until its answer

    async def wait_until_client_left(self) -> None:
        """Return when the client has left; while there is body, the reader of it notices that."""
        await self.ended.wait()
        await wait_for_disconnect(self.receive)


@dataclass
class WorkerWatchdog:
    """Measures how long the proxy waits for the worker alone, and kills it at the limit, which ends the wait."""

    handle: WorkerHandle
    seconds: float
    fired: bool = False
    timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        self.stop()
        self.timer = asyncio.get_running_loop().call_later(self.seconds, self._fire)

    def stop(self) -> None:
        if self.timer is not None:
            self.timer.cancel()

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        self.start()
        try:
            yield
        finally:
            self.stop()

    def _fire(self) -> None:
        log.error("the worker did not answer within its time limit and is killed")
        self.fired = True
        self.handle.kill_now()


@dataclass(eq=False)
class EngineProxy:
    """ASGI app that passes embedding requests to a worker, and all others to `own_routes`."""

    pool: WorkerPool
    own_routes: ASGIApp
    clients: dict[Path, aiohttp.ClientSession] = field(default_factory=dict)
    """Those of the workers, by their sockets: a connection to an earlier worker is never used again."""
    bodies: set[RequestBody] = field(default_factory=set)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] not in EMBEDDING:
            await self.own_routes(scope, receive, send)
        elif scope["method"] != "POST":
            raise MethodNotAllowedError(f"{scope['method']} is not for this route")
        else:
            with contextlib.suppress(ClientLeftError):
                await self._embed(scope, RequestBody(receive), send)

    async def _embed(self, scope: Scope, body: RequestBody, send: Send) -> None:
        await body.read_ahead(READ_AHEAD_BYTES)
        self.bodies.add(body)
        try:
            if self.pool.state != "serving" and sum(other.buffered_bytes for other in self.bodies) < ALL_QUEUED_BYTES:
                await body.read_ahead(QUEUED_BYTES)
            await run_unless_client_leaves(self._pass_on(scope, body, send), body.wait_until_client_left())
        finally:
            self.bodies.discard(body)

    async def _pass_on(self, scope: Scope, body: RequestBody, send: Send) -> None:
        for _ in range(TRIES):
            async with self.pool.lease() as lease:
                if await self._pass_to_worker(lease, scope, body, send):
                    return
        raise NotReadyError("the worker ended each time before it took this request", retry_after=1)

    async def _pass_to_worker(self, lease: Lease, scope: Scope, body: RequestBody, send: Send) -> bool:
        """Return False if this worker ended before it took anything of the body."""
        handle = lease.worker.handle
        headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in scope["headers"]]
        # The body's framing is ours: one of the two, as the proxy's own parser took it. Without a length it is chunked.
        dropped = HOP_BY_HOP | {"content-length"} if "transfer-encoding" in dict(headers) else HOP_BY_HOP
        watchdog = WorkerWatchdog(handle, self.pool.settings.request_timeout_s + HUNG_S)
        answered = False
        try:
            async with (await self._open_client(handle.socket)).post(
                scope["path"],
                headers=[(name, value) for name, value in headers if name not in dropped],
                data=body.stream(watchdog),
                allow_redirects=False,
            ) as response:
                lease.record_first_answer()
                answered = True
                await self._pass_back(response, lease, watchdog, send)
        except aiohttp.ClientError as error:
            if body.failed is not None:
                raise body.failed from None
            if answered:
                raise  # breaks the client's connection: half an answer must not look whole
            if watchdog.fired:
                raise NotReadyError("the worker hung on this request and is started again", retry_after=1) from None
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(1.0):
                    await handle.ended.wait()
            if not body.taken:
                return False
            log.warning("the worker ended in the middle of a request: %s", error)
            message = "the worker ended in the middle of this request: send it again"
            raise NotReadyError(message, retry_after=1) from None
        finally:
            watchdog.stop()
        return True

    async def _pass_back(
        self, response: aiohttp.ClientResponse, lease: Lease, watchdog: WorkerWatchdog, send: Send
    ) -> None:
        watchdog.stop()
        await send(self._make_head(response, lease))
        while True:
            with watchdog.running():
                chunk = await response.content.readany()
            await send({"type": "http.response.body", "body": chunk, "more_body": bool(chunk)})
            if not chunk:
                return

    async def _open_client(self, socket: Path | None) -> aiohttp.ClientSession:
        assert socket is not None
        if (client := self.clients.get(socket)) is None:
            ended = self.clients.keys() - self.pool.list_sockets()
            client = self.clients[socket] = open_client(socket)
            for old in [self.clients.pop(path) for path in ended if path != socket]:
                await old.close()
        return client

    def _make_head(self, response: aiohttp.ClientResponse, lease: Lease) -> Message:
        record = lease.worker.start
        start = "restore" if record.kind == "restored" else "start"
        took = f"{start};dur={record.ready_ms:.2f}, hold;dur={lease.wait_ms:.2f}".encode()
        headers = []
        for name, value in response.raw_headers:
            key = name.lower()
            if key.decode("latin-1") not in HOP_BY_HOP:
                value = b", ".join(part for part in (took, value) if part) if key == b"server-timing" else value
                headers.append((key, value))
        headers.append((b"x-snapshot-tier", lease.worker.tier.encode()))
        return {"type": "http.response.start", "status": response.status, "headers": headers}


def open_client(socket: Path) -> aiohttp.ClientSession:
    """Return a client of a worker, which adds nothing to what it sends. Its only time limit is that of a connection."""
    return aiohttp.ClientSession(
        "http://localhost",
        connector=aiohttp.UnixConnector(str(socket), limit=0, keepalive_timeout=KEPT_S),
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=HUNG_S),
        auto_decompress=False,
        cookie_jar=aiohttp.DummyCookieJar(),
        skip_auto_headers=("accept", "accept-encoding", "content-type", "user-agent"),
    )
