"""What the door answers itself: what this is, whether it is well, and the engine's own routes. Asking wakes nobody."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import aiohttp
import orjson
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from serving.embedders import Embedder
from serving.engine import Engine
from serving.errors import BadValueError, NotReadyError
from serving.front import client_of
from serving.replies import about, add_errors, models, reply
from serving.status import status

NEWS_S = 0.05
"""At most twenty events a second, however much changes."""
HEARTBEAT_S = 15.0
DOWN_S = 30.0
METRICS_S = 2.0


def create_routes(engine: Engine, embedder: Embedder, stopping: asyncio.Event) -> Starlette:
    """`embedder` is not loaded: it tells its name and sizes. `stopping` ends the streams of events."""
    routes = Routes(engine, embedder, stopping)
    paths = {
        "GET": ("/", "/health", "/ready", "/metrics", "/v1/models", "/engine", "/engine/events"),
        "POST": ("/sleep", "/wake_up", "/scaledown", "/engine/scaledown", "/engine/rebuild"),
    }
    named = {"/": routes.root, "/v1/models": routes.models, "/scaledown": routes.engine_scaledown}
    table = [
        Route(path, named.get(path) or getattr(routes, path[1:].replace("/", "_")), methods=[method])
        for method, found in paths.items()
        for path in found
    ]

    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        await engine.open()
        yield
        await engine.close()

    app = Starlette(routes=table, lifespan=lifespan)
    app.router.redirect_slashes = False
    add_errors(app)
    return app


class Routes:
    def __init__(self, engine: Engine, embedder: Embedder, stopping: asyncio.Event) -> None:
        self.about = embedder
        self.of = engine
        self.stopping = stopping

    async def root(self, _: Request) -> Response:
        return reply(about(self.about))

    async def models(self, _: Request) -> Response:
        return reply(models(self.about))

    async def health(self, _: Request) -> Response:
        return reply({"status": "alive"})

    async def ready(self, _: Request) -> Response:
        """At zero too: a request would be answered. Not after a start that failed."""
        if self.of.state == "failed":
            return reply({"status": "failed"}, 503, {"Retry-After": "1"})
        return reply({"status": "ready"})

    async def metrics(self, _: Request) -> Response:
        """The engine's, and the worker's as long as there is one."""
        text = self.of.metrics.text()
        life = self.of.life
        if life is not None and life.handle.socket is not None and self.of.state == "serving":
            keys = self.of.settings.keys
            headers = {"Authorization": f"Bearer {keys[0]}"} if keys else {}
            with contextlib.suppress(aiohttp.ClientError, TimeoutError):
                async with (
                    asyncio.timeout(METRICS_S),
                    client_of(life.handle.socket) as client,
                    client.get("/metrics", headers=headers) as found,
                ):
                    text += await found.read() if found.ok else b""
        return Response(text, media_type="text/plain; version=0.0.4; charset=utf-8")

    async def engine(self, _: Request) -> Response:
        return reply(status(self.of))

    async def engine_events(self, _: Request) -> Response:
        return StreamingResponse(self._events(), media_type="text/event-stream", headers={"Cache-Control": "no-store"})

    async def _events(self) -> AsyncIterator[bytes]:
        """The status now and at each change, as server-sent events; a comment when nothing changed for a while."""
        while not self.stopping.is_set():
            seen = self.of.news.version
            yield b"event: engine\ndata: " + orjson.dumps(status(self.of)) + b"\n\n"
            await asyncio.sleep(NEWS_S)
            while not self.stopping.is_set() and not await self._news(seen):
                yield b": nothing new\n\n"

    async def _news(self, seen: int) -> bool:
        waits = [asyncio.ensure_future(self.of.news.after(seen)), asyncio.ensure_future(self.stopping.wait())]
        try:
            done, _ = await asyncio.wait(waits, timeout=HEARTBEAT_S, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
        return bool(done)

    async def engine_scaledown(self, _: Request) -> Response:
        """Answers when the worker is gone, or after half a minute in which it still finishes what it has."""
        return await self._down()

    async def engine_rebuild(self, _: Request) -> Response:
        """The next start makes a new snapshot, also with a backend that was disabled after failures."""
        return await self._down(rebuild=True)

    async def _down(self, *, rebuild: bool = False) -> Response:
        gone = self.of.scale_down(rebuild=rebuild)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(DOWN_S):
                await gone
        return reply({"status": self.of.state})

    async def sleep(self, request: Request) -> Response:
        if request.query_params.get("level", "1") not in ("1", "2"):
            raise BadValueError("level is 1 or 2", param="level")
        return await self.engine_scaledown(request)

    async def wake_up(self, _: Request) -> Response:
        """Answers when there is a worker. Raises NotReadyError."""
        self.of.wake()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self.of.settings.hold_timeout_s):
                await self.of.until("serving", "failed")
        if self.of.state != "serving":
            raise NotReadyError(f"no worker came up: it is {self.of.state} {self.of.reason}".strip(), retry_after=5)
        return reply({"status": self.of.state})
