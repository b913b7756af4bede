"""Routes that the engine answers itself: description, health, metrics and control. They start no worker."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass

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
from serving.http.responses import (
    add_error_handlers,
    check_level,
    describe_server,
    list_models,
    respond,
    respond_metrics,
)

EVENT_GAP_S = 0.05
"""At most twenty events a second, however much changes."""
HEARTBEAT_S = 15.0
DOWN_S = 30.0
METRICS_S = 2.0


def create_routes(engine: Engine, embedder: Embedder) -> Starlette:
    """Return the app of these routes. `embedder` is not loaded: it gives its name and sizes."""
    routes = Routes(engine)
    table = [
        Route("/", answer_always(describe_server(embedder))),
        Route("/health", answer_always({"status": "alive"})),
        Route("/ready", routes.show_readiness),
        Route("/metrics", routes.show_metrics),
        Route("/v1/models", answer_always(list_models(embedder))),
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


def answer_always(content: object) -> Callable[[Request], Awaitable[Response]]:
    async def answer(_: Request) -> Response:
        return respond(content)

    return answer


@dataclass
class Routes:
    """The answers that depend on the engine's state."""

    engine: Engine

    async def show_readiness(self, _: Request) -> Response:
        """Return ready, also at zero, where a request starts a worker; 503 after a start that failed."""
        if self.engine.state == "failed":
            return respond({"status": "failed"}, 503, {"Retry-After": "1"})
        return respond({"status": "ready"})

    async def show_metrics(self, _: Request) -> Response:
        """Return the engine's metrics, and the worker's while there is one."""
        of_worker = b""
        worker = self.engine.worker
        if worker is not None and worker.handle.socket is not None and self.engine.state == "serving":
            keys = self.engine.settings.keys
            headers = {"Authorization": f"Bearer {keys[0]}"} if keys else {}
            with contextlib.suppress(aiohttp.ClientError, TimeoutError):
                async with (
                    asyncio.timeout(METRICS_S),
                    open_client(worker.handle.socket) as client,
                    client.get("/metrics", headers=headers) as found,
                ):
                    of_worker = await found.read() if found.ok else b""
        return respond_metrics(self.engine.metrics.registry, of_worker)

    async def show_engine(self, _: Request) -> Response:
        return respond(describe_engine(self.engine))

    async def stream_events(self, _: Request) -> Response:
        return StreamingResponse(self._events(), media_type="text/event-stream", headers={"Cache-Control": "no-store"})

    async def _events(self) -> AsyncIterator[bytes]:
        """Yield the status as server-sent events: now, at each change, and a comment after a while without one."""
        changes, seen = self.engine.changes, -1
        while not self.engine.stopping:
            if changes.version == seen:
                yield b": nothing new\n\n"
            else:
                seen = changes.version
                yield b"event: engine\ndata: " + orjson.dumps(describe_engine(self.engine)) + b"\n\n"
                await asyncio.sleep(EVENT_GAP_S)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(HEARTBEAT_S):
                    await changes.wait_after(seen)

    async def scale_down(self, _: Request, *, rebuild: bool = False) -> Response:
        """Answer when the worker has stopped, or after half a minute in which it still finishes its requests."""
        gone = self.engine.scale_down(rebuild=rebuild)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(DOWN_S):
                await gone
        return respond({"status": self.engine.state})

    async def rebuild(self, request: Request) -> Response:
        """Have the next start make a new snapshot, also with a backend that was disabled after failures."""
        return await self.scale_down(request, rebuild=True)

    async def sleep(self, request: Request) -> Response:
        check_level(request)
        return await self.scale_down(request)

    async def wake_up(self, _: Request) -> Response:
        """Answer when there is a worker. Raises NotReadyError."""
        self.engine.wake()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self.engine.settings.hold_timeout_s):
                await self.engine.wait_for_state("serving", "failed")
        if self.engine.state != "serving":
            message = f"no worker came up: it is {self.engine.state} {self.engine.reason}".strip()
            raise NotReadyError(message, retry_after=5)
        return respond({"status": self.engine.state})
