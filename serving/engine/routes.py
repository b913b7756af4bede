"""Routes that the engine answers itself: description, health, metrics and control. They start no worker."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import orjson
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from serving.embedders.base import Embedder
from serving.engine.metrics import join_worker_metrics
from serving.engine.pool import WorkerPool
from serving.engine.proxy import open_client
from serving.engine.status import describe_pool
from serving.errors import BadValueError, NotReadyError
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


def create_routes(pool: WorkerPool, embedder: Embedder) -> Starlette:
    """Return the app of these routes. `embedder` is not loaded: it gives its name and sizes."""
    routes = Routes(pool)
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
        await pool.open()
        yield
        await pool.close()

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
    """The answers that depend on the state of the engine's workers."""

    pool: WorkerPool

    async def show_readiness(self, _: Request) -> Response:
        """Return ready, also at zero, where a request starts a worker; 503 after a start that failed."""
        if self.pool.state == "failed":
            return respond({"status": "failed"}, 503, {"Retry-After": "1"})
        return respond({"status": "ready"})

    async def show_metrics(self, _: Request) -> Response:
        """Return the engine's metrics, and those of the workers that serve."""
        sockets = {
            engine.starter.number: engine.worker.handle.socket
            for engine in self.pool.engines
            if engine.worker is not None and engine.worker.handle.socket is not None and engine.state == "serving"
        }
        found = await asyncio.gather(*(self._read_worker_metrics(socket) for socket in sockets.values()))
        of_workers = join_worker_metrics(dict(zip(sockets, found, strict=True)), named=len(self.pool.engines) > 1)
        return respond_metrics(self.pool.metrics.registry, of_workers)

    async def _read_worker_metrics(self, socket: Path) -> bytes:
        """Return the worker's own answer, nothing if it gives none in time."""
        keys = self.pool.settings.keys
        headers = {"Authorization": f"Bearer {keys[0]}"} if keys else {}
        with contextlib.suppress(aiohttp.ClientError, TimeoutError):
            async with (
                asyncio.timeout(METRICS_S),
                open_client(socket) as client,
                client.get("/metrics", headers=headers) as found,
            ):
                return await found.read() if found.ok else b""
        return b""

    async def show_engine(self, _: Request) -> Response:
        return respond(describe_pool(self.pool))

    async def stream_events(self, _: Request) -> Response:
        return StreamingResponse(self._events(), media_type="text/event-stream", headers={"Cache-Control": "no-store"})

    async def _events(self) -> AsyncIterator[bytes]:
        """Yield the status as server-sent events: now, at each change, and a comment after a while without one."""
        changes, seen = self.pool.changes, -1
        while not self.pool.stopping:
            if changes.version == seen:
                yield b": nothing new\n\n"
            else:
                seen = changes.version
                yield b"event: engine\ndata: " + orjson.dumps(describe_pool(self.pool)) + b"\n\n"
                await asyncio.sleep(EVENT_GAP_S)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(HEARTBEAT_S):
                    await changes.wait_after(seen)

    async def scale_down(self, _: Request, *, rebuild: bool = False) -> Response:
        """Answer when all workers have stopped, or after half a minute in which one still finishes its requests."""
        gone = self.pool.scale_down(rebuild=rebuild)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(DOWN_S):
                await gone
        return respond({"status": self.pool.state})

    async def rebuild(self, request: Request) -> Response:
        """Have the next start make a new snapshot, also with a backend that was disabled after failures."""
        return await self.scale_down(request, rebuild=True)

    async def sleep(self, request: Request) -> Response:
        check_level(request)
        return await self.scale_down(request)

    async def wake_up(self, request: Request) -> Response:
        """Answer when there is a worker, or `workers` of them. Raises NotReadyError, BadValueError."""
        engines = self.pool.wake(self._read_worker_count(request))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self.pool.settings.hold_timeout_s):
                await asyncio.gather(*(engine.wait_for_state("serving", "failed") for engine in engines))
        for engine in engines:
            if engine.state != "serving":
                raise NotReadyError(f"no worker came up: it is {engine.state} {engine.reason}".strip(), retry_after=5)
        return respond({"status": self.pool.state})

    def _read_worker_count(self, request: Request) -> int:
        count, most = request.query_params.get("workers", "1"), len(self.pool.engines)
        if not (count.isascii() and count.isdigit() and 1 <= int(count[:9]) <= most):
            raise BadValueError(f"workers is a number from 1 to {most}", param="workers")
        return int(count)
