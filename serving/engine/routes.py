"""Routes that the engine answers itself: description, health, metrics and control. They start no worker."""

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

from serving.embedders.base import Embedder
from serving.engine.engine import Engine
from serving.engine.proxy import open_client
from serving.engine.status import describe_engine
from serving.errors import NotReadyError
from serving.http.responses import add_error_handlers, check_level, describe_server, list_models, respond

EVENT_GAP_S = 0.05
"""At most twenty events a second, however much changes."""
HEARTBEAT_S = 15.0
DOWN_S = 30.0
METRICS_S = 2.0


def create_routes(engine: Engine, embedder: Embedder, stopping: asyncio.Event) -> Starlette:
    """Return the app of these routes. `embedder` is not loaded: it gives its name and sizes.

    `stopping` ends the streams of events.
    """
    routes = Routes(engine, embedder, stopping)
    table = [
        Route("/", routes.show_server),
        Route("/health", routes.show_health),
        Route("/ready", routes.show_readiness),
        Route("/metrics", routes.show_metrics),
        Route("/v1/models", routes.show_models),
        Route("/engine", routes.show_engine),
        Route("/engine/events", routes.stream_events),
        Route("/sleep", routes.sleep, methods=["POST"]),
        Route("/wake_up", routes.wake_up, methods=["POST"]),
        Route("/scaledown", routes.scale_down, methods=["POST"]),
        Route("/engine/scaledown", routes.scale_down, methods=["POST"]),
        Route("/engine/rebuild", routes.rebuild, methods=["POST"]),
    ]

    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        await engine.open()
        yield
        await engine.close()

    app = Starlette(routes=table, lifespan=lifespan)
    app.router.redirect_slashes = False
    add_error_handlers(app)
    return app


class Routes:
    def __init__(self, engine: Engine, embedder: Embedder, stopping: asyncio.Event) -> None:
        self._engine = engine
        self._embedder = embedder
        self._stopping = stopping

    async def show_server(self, _: Request) -> Response:
        return respond(describe_server(self._embedder))

    async def show_models(self, _: Request) -> Response:
        return respond(list_models(self._embedder))

    async def show_health(self, _: Request) -> Response:
        return respond({"status": "alive"})

    async def show_readiness(self, _: Request) -> Response:
        """Return ready, also at zero, where a request starts a worker; 503 after a start that failed."""
        if self._engine.state == "failed":
            return respond({"status": "failed"}, 503, {"Retry-After": "1"})
        return respond({"status": "ready"})

    async def show_metrics(self, _: Request) -> Response:
        """Return the engine's metrics, and the worker's while there is one."""
        text = self._engine.metrics.render_text()
        worker = self._engine.worker
        if worker is not None and worker.handle.socket is not None and self._engine.state == "serving":
            keys = self._engine.settings.keys
            headers = {"Authorization": f"Bearer {keys[0]}"} if keys else {}
            with contextlib.suppress(aiohttp.ClientError, TimeoutError):
                async with (
                    asyncio.timeout(METRICS_S),
                    open_client(worker.handle.socket) as client,
                    client.get("/metrics", headers=headers) as found,
                ):
                    text += await found.read() if found.ok else b""
        return Response(text, media_type="text/plain; version=0.0.4; charset=utf-8")

    async def show_engine(self, _: Request) -> Response:
        return respond(describe_engine(self._engine))

    async def stream_events(self, _: Request) -> Response:
        return StreamingResponse(self._events(), media_type="text/event-stream", headers={"Cache-Control": "no-store"})

    async def _events(self) -> AsyncIterator[bytes]:
        """Yield the status as server-sent events: now, at each change, and a comment after a while without one."""
        while not self._stopping.is_set():
            seen = self._engine.changes.version
            yield b"event: engine\ndata: " + orjson.dumps(describe_engine(self._engine)) + b"\n\n"
            await asyncio.sleep(EVENT_GAP_S)
            while not self._stopping.is_set() and not await self._wait_for_change(seen):
                yield b": nothing new\n\n"

    async def _wait_for_change(self, seen: int) -> bool:
        """Return True if something has changed, or the engine stops; False after a while in which nothing did."""
        waits = [
            asyncio.ensure_future(self._engine.changes.wait_after(seen)),
            asyncio.ensure_future(self._stopping.wait()),
        ]
        try:
            done, _ = await asyncio.wait(waits, timeout=HEARTBEAT_S, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
        return bool(done)

    async def scale_down(self, _: Request) -> Response:
        """Answer when the worker has stopped, or after half a minute in which it still finishes its requests."""
        return await self._scale_down()

    async def rebuild(self, _: Request) -> Response:
        """Have the next start make a new snapshot, also with a backend that was disabled after failures."""
        return await self._scale_down(rebuild=True)

    async def _scale_down(self, *, rebuild: bool = False) -> Response:
        gone = self._engine.scale_down(rebuild=rebuild)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(DOWN_S):
                await gone
        return respond({"status": self._engine.state})

    async def sleep(self, request: Request) -> Response:
        check_level(request)
        return await self._scale_down()

    async def wake_up(self, _: Request) -> Response:
        """Answer when there is a worker. Raises NotReadyError."""
        self._engine.wake()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._engine.settings.hold_timeout_s):
                await self._engine.wait_for_state("serving", "failed")
        if self._engine.state != "serving":
            raise NotReadyError(
                f"no worker came up: it is {self._engine.state} {self._engine.reason}".strip(), retry_after=5
            )
        return respond({"status": self._engine.state})
