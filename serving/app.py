"""The routes of one worker: shapes in, shapes out. What a route does is in `worker`, who may call it in `guard`.

`contract` says the same to other programs.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, TypeVar

from fastapi import FastAPI, Request, Response
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp

from serving.embedders import PageResult
from serving.errors import BadValueError, NotFoundError, ServingError
from serving.guard import Guard
from serving.replies import about, add_errors, models, reply
from serving.schema import EmbeddingsRequest, EmbedRequest, Item, embed_items, embeddings_items, parse
from serving.worker import Embedded, Worker

T = TypeVar("T")
INLINE_BYTES = 64 * 1024
"""Larger bodies are parsed in a thread: 48 MB of JSON would stop the event loop for a third of a second."""
CLIENT_LEFT = 499
"""Nobody reads it; it is what the metrics count."""


def create_app(worker: Worker, admin_key: Callable[[], str], stop: Callable[[], None] = lambda: None) -> ASGIApp:
    """The guarded ASGI app. `worker` has been started; `stop` ends the process after the answer to /scaledown."""

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await worker.open()
        yield
        await worker.close()

    app = FastAPI(title="Dormouse worker", lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None)
    app.router.redirect_slashes = False
    add_errors(app)
    add_status(app, worker)
    add_embedding(app, worker)
    add_admin(app, worker, stop)
    return Guard(app, lambda: worker.settings, admin_key, worker)


def add_status(app: FastAPI, worker: Worker) -> None:
    embedder = worker.embedder

    @app.get("/")
    async def root() -> Response:
        return reply(about(embedder))

    @app.get("/health")
    async def health() -> Response:
        return reply({"status": "alive"})

    @app.get("/ready")
    async def ready() -> Response:
        if worker.ready:
            return reply({"status": "ready"})
        return reply({"status": "asleep" if worker.asleep else "starting"}, 503, {"Retry-After": "1"})

    @app.get("/metrics")
    async def metrics() -> Response:
        return Response(worker.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    @app.get("/v1/models")
    async def v1_models() -> Response:
        return reply(models(embedder))


def add_embedding(app: FastAPI, worker: Worker) -> None:
    @app.post("/embed")
    async def embed(request: Request) -> Response:
        body, items = await parsed(request, EmbedRequest, embed_items, worker)
        check_model(body.model, worker)
        result = await unless_gone(request, worker.embed(items, body.dimensions, body.normalize))
        answer: dict[str, Any] = {
            "embeddings": result.vectors,
            "dimension": result.vectors.shape[1],
            "model": worker.embedder.name,
            "fingerprint": worker.embedder.fingerprint,
            "timings": {name: round(value, 3) for name, value in result.timings.items()},
        }
        if body.explain:
            answer["pages"] = [{"lines": explained(page)} for page in result.pages]
        return timed(request, result, answer)

    @app.post("/v1/embeddings")
    async def embeddings(request: Request) -> Response:
        body, items = await parsed(request, EmbeddingsRequest, embeddings_items, worker)
        check_model(body.model, worker)
        result = await unless_gone(request, worker.embed(items, body.dimensions))
        data = [
            {"object": "embedding", "index": n, "embedding": encoded(vector, body.encoding_format)}
            for n, vector in enumerate(result.vectors)
        ]
        # No tokenizer of ours counts a page; 0 is what OpenAI's shape asks for where nothing is billed.
        usage = {"prompt_tokens": 0, "total_tokens": 0}
        return timed(request, result, {"object": "list", "data": data, "model": worker.embedder.name, "usage": usage})


def add_admin(app: FastAPI, worker: Worker, stop: Callable[[], None]) -> None:
    @app.post("/sleep")
    async def sleep(level: str = "1") -> Response:
        if level not in ("1", "2"):
            raise BadValueError("level is 1 or 2", param="level")
        await worker.sleep()
        return reply({"status": "asleep"})

    @app.post("/wake_up")
    async def wake_up() -> Response:
        await worker.wake()
        return reply({"status": "ready"})

    @app.post("/scaledown")
    async def scaledown() -> Response:
        # The server stops taking connections after this answer, finishes what is in flight and exits 0.
        asyncio.get_running_loop().call_soon(stop)
        return reply({"status": "stopping"})


S = TypeVar("S", EmbedRequest, EmbeddingsRequest)


async def parsed(
    request: Request, shape: type[S], items_of: Callable[[S, int], list[Item]], worker: Worker
) -> tuple[S, list[Item]]:
    try:
        body = await request.body()
    except ClientDisconnect:
        raise ClientLeft from None

    def work() -> tuple[S, list[Item]]:
        model = parse(shape, body)
        return model, items_of(model, worker.settings.max_text_chars)

    return work() if len(body) <= INLINE_BYTES else await asyncio.to_thread(work)


def check_model(model: str | None, worker: Worker) -> None:
    if model is not None and model != worker.embedder.name:
        raise NotFoundError(
            f"this server has the model {worker.embedder.name!r}", param="model", code="model_not_found"
        )


async def unless_gone(request: Request, work: Awaitable[T]) -> T:
    """The result of `work`, which is cancelled as soon as the client closes its connection."""
    task = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(until_gone(request))
    try:
        await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise ClientLeft
        return task.result()
    finally:
        gone.cancel()
        task.cancel()


class ClientLeft(ServingError):
    status, code = CLIENT_LEFT, "client_left"

    def __init__(self) -> None:
        super().__init__("the client closed its connection")


async def until_gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def timed(request: Request, result: Embedded, answer: object) -> Response:
    request.scope.setdefault("state", {})["timings"] = result.timings
    return reply(answer)


def explained(page: PageResult) -> list[dict[str, Any]] | None:
    """The lines that were read; with their own vectors (base64, as `encoded`) where the embedder compares lines."""
    if page.lines is None:
        return None
    found: list[dict[str, Any]] = [{"text": line.text, "box": line.box} for line in page.lines]
    if page.line_vectors is not None:
        for line, vector in zip(found, page.line_vectors, strict=True):
            line["embedding"] = encoded(vector, "base64")
    return found


def encoded(vector: Any, encoding: str) -> Any:
    """OpenAI's base64 is little-endian float32."""
    return base64.b64encode(vector.astype("<f4").tobytes()).decode() if encoding == "base64" else vector
