"""The front on Ray Serve: keys, limits, what needs no worker; passes the rest to a replica, and waits for one."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from typing import Any

from prometheus_client import CollectorRegistry
from ray import serve
from ray.exceptions import RayError
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError, RayServeException
from ray.serve.handle import DeploymentHandle
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from serving.cloud.worker_lifecycle import log_own_lines
from serving.cluster.options import RayOptions
from serving.cluster.replica import Reply
from serving.embedders import base
from serving.engine.metrics import join_worker_metrics
from serving.engine.proxy import HOP_BY_HOP
from serving.errors import NotFoundError, NotReadyError
from serving.http.access import ADMIN, RequestGuard
from serving.http.client_left import ClientLeftError, run_unless_client_leaves, wait_for_disconnect
from serving.http.responses import (
    add_error_handlers,
    describe_server,
    list_models,
    respond,
    respond_error,
    respond_metrics,
)

TRIES = 2
"""For a request whose replica was lost: with its node, or by what is in the request, which then costs two of them."""
RETRY_S = 0.5
ASK_S = 5.0
"""How often Ray is asked how its replicas are while a request waits, and how long for their metrics."""
STARTS_FAIL = "REPLICA_STARTUP_FAILED"
"""Ray's word for replicas that failed to start several times. A lost node makes a deployment unhealthy as well."""
LOST = "each replica was lost with this request: send it again"
log = logging.getLogger(__name__)


class Front:
    """The application's HTTP side. Needs no GPU, and wakes a replica only for an embedding request."""

    def __init__(self, options: RayOptions, replicas: DeploymentHandle) -> None:
        log_own_lines()
        self._settings = options.read_settings()
        self._replicas = replicas
        self._embedder = base.find_embedder_class(options.embedder)(self._settings)  # not loaded: name and sizes
        self._failing, self._asked_at = False, 0.0

    def __serve_build_asgi_app__(self) -> ASGIApp:
        about, models = describe_server(self._embedder), list_models(self._embedder)
        app = Starlette(
            routes=[
                Route("/", answer(about)),
                Route("/health", answer({"status": "alive"})),
                Route("/ready", self.show_readiness),
                Route("/metrics", self.show_metrics),
                Route("/v1/models", answer(models)),
                Route("/embed", self.embed, methods=["POST"]),
                Route("/v1/embeddings", self.embed, methods=["POST"]),
            ]
        )
        app.router.redirect_slashes = False
        add_error_handlers(app)
        guarded = RequestGuard(app, lambda: self._settings, lambda: "", holds_bodies=True)

        async def answer_request(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] == "http" and scope["path"] in ADMIN:  # whatever key it has: Ray decides these things
                await respond_error(NotFoundError("there is no such route on Ray Serve"))(scope, receive, send)
            else:
                await guarded(scope, receive, send)

        return answer_request

    async def embed(self, request: Request) -> Response:
        """Answer an embedding request by a replica, started if there is none."""
        names = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in request.headers.raw]
        headers = [(name, value) for name, value in names if name not in HOP_BY_HOP | {"content-length"}]
        try:
            body = await request.body()
        except ClientDisconnect:
            raise ClientLeftError("the client closed its connection") from None
        work = self._ask_replica(request.url.path, headers, body)
        status, found, content = await run_unless_client_leaves(work, wait_for_disconnect(request.receive))
        response = Response(content, status)
        response.raw_headers = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in found]
        return response

    async def show_readiness(self, _: Request) -> Response:
        """Return ready, also at zero, where a request starts a worker; 503 while replicas fail to start."""
        if await self._is_failing():
            return respond({"status": "failed"}, 503, {"Retry-After": "5"})
        return respond({"status": "ready"})

    async def show_metrics(self, _: Request) -> Response:
        """Return the metrics of all workers that there are, each marked with its number."""
        texts: list[str] = []
        with contextlib.suppress(RayServeException, RayError, TimeoutError):  # none there
            async with asyncio.timeout(ASK_S):
                texts = await self._replicas.broadcast("read_metrics").results_async()
        of_workers = {number: text.encode() for number, text in enumerate(texts)}
        return respond_metrics(CollectorRegistry(), join_worker_metrics(of_workers, named=True))

    async def _is_failing(self) -> bool:
        """Return whether replicas fail to start and none is there; all requests together ask Ray now and then."""
        if time.monotonic() >= self._asked_at + ASK_S:
            self._asked_at = time.monotonic()
            with contextlib.suppress(RayError, KeyError):
                apps = (await asyncio.to_thread(serve.status)).applications
                here = apps[self._replicas.app_name].deployments[self._replicas.deployment_name]
                self._failing = here.status_trigger == STARTS_FAIL and not here.replica_states.get("RUNNING", 0)
        return self._failing

    async def _ask_replica(self, path: str, headers: list[tuple[str, str]], body: bytes) -> Reply:
        """Return the answer of a replica. Raises NotReadyError."""
        limit = self._settings.hold_timeout_s
        try:
            async with asyncio.timeout(limit + self._settings.request_timeout_s):
                for left in reversed(range(TRIES)):
                    try:
                        return await self._wait_for_reply(self._replicas.embed.remote(path, headers, body))
                    except BackPressureError as full:
                        message = f"{full.args[0]} requests wait for a worker already: try again later"
                        raise NotReadyError(message, code="too_many_waiting", retry_after=5) from None
                    except DeploymentUnavailableError as unavailable:
                        log.warning("no replica can be had: %s", unavailable)
                        raise make_start_error() from None
                    except (RayError, RayServeException) as lost:
                        log.warning("a replica was lost with a request, which is tried %d times more: %r", left, lost)
                        await asyncio.sleep(RETRY_S)
        except TimeoutError:
            raise NotReadyError(f"no worker answered within {limit:g} s: try again", retry_after=5) from None
        raise NotReadyError(LOST, retry_after=1)

    async def _wait_for_reply(self, response: Any) -> Reply:
        """Return a replica's reply. Raises what Ray raises, and NotReadyError while replicas fail to start."""

        async def wait() -> Reply:
            reply: Reply = await response
            return reply

        asked = asyncio.create_task(wait())
        try:
            while not (await asyncio.wait({asked}, timeout=ASK_S))[0]:
                if await self._is_failing():
                    raise make_start_error()
            return asked.result()
        finally:
            asked.cancel()


def make_start_error() -> NotReadyError:
    return NotReadyError("the worker did not start: its log has the reason", code="start_failed", retry_after=5)


def answer(content: object) -> Any:
    async def endpoint(_: Request) -> Response:
        return respond(content)

    return endpoint
