"""Routes of one worker, typed: FastAPI makes the OpenAPI document of them, which no worker serves.

`serving.worker.worker` does the work, `serving.http.access` checks the keys. Print the document for writing a client:
`python -c "import json, serving.worker.routes; print(json.dumps(serving.worker.routes.make_openapi()))"`.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar, cast, get_type_hints

from fastapi import APIRouter, FastAPI, Request, Response, Security
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute
from fastapi.security import APIKeyHeader, HTTPBearer
from pydantic import Field, TypeAdapter
from starlette.requests import ClientDisconnect
from typing_extensions import TypedDict

from serving import errors
from serving.embedders.base import PageResult
from serving.errors import ServingError, UnauthorizedError
from serving.http import responses
from serving.http.access import RequestGuard
from serving.http.client_left import ClientLeftError, run_unless_client_leaves, wait_for_disconnect
from serving.http.responses import document_errors, document_headers, respond
from serving.http.schema import EmbeddingsRequest, EmbedRequest, Item, parse_body, read_items
from serving.worker.worker import Embedded, Worker

S = TypeVar("S", EmbedRequest, EmbeddingsRequest)
INLINE_BYTES = 64 * 1024
"""Larger bodies are parsed in a thread: 48 MB of JSON would block the event loop for a third of a second."""

ProvenanceHeaders = TypedDict(
    "ProvenanceHeaders",
    {
        "X-Fingerprint": str,
        "X-Boot-Id": Annotated[str, Field(pattern="^[0-9a-f]{32}$")],
        "X-Start-Kind": responses.StartKind,
        "X-Boot-Requests": Annotated[int, Field(ge=1)],
        "Server-Timing": str,
    },
)
"""Prove which process answered (`WorkerProvenance`)."""
KEY = [
    Security(HTTPBearer(scheme_name="bearer", auto_error=False)),
    Security(APIKeyHeader(name="X-API-Key", scheme_name="key", auto_error=False)),
]
ADMIN_KEY = [Security(APIKeyHeader(name="X-Admin-Key", scheme_name="admin", auto_error=False))]
ASLEEP: dict[int | str, Any] = {503: {"model": responses.Status, "headers": document_headers(responses.RetryHeaders)}}
TEXT: dict[int | str, Any] = {200: {"content": {"text/plain": {}}}}
LEVEL = {"name": "level", "in": "query", "schema": {**TypeAdapter(responses.Level).json_schema(), "default": "1"}}
FAILURES = (
    errors.BadValueError, UnauthorizedError, errors.NotFoundError, errors.TooLargeError, errors.NotAnImageError,
    errors.UnreadableError, errors.BusyError, ServingError, errors.NotReadyError,
)  # fmt: skip
NO_RESULT = document_errors(*FAILURES, headers=ProvenanceHeaders)
EMBEDDING: dict[str, Any] = {
    "dependencies": KEY,
    "responses": {200: {"headers": document_headers(ProvenanceHeaders)}} | NO_RESULT,
}
WITH_KEY: dict[str, Any] = {"dependencies": KEY, "responses": document_errors(UnauthorizedError)}


def document_admin(*kinds: type[ServingError]) -> dict[str, Any]:
    """Return FastAPI's arguments for a route that needs the admin key."""
    documented = document_errors(UnauthorizedError, *kinds)
    return {"response_model": responses.Status, "dependencies": ADMIN_KEY, "responses": documented}


class WorkerRoute(APIRoute):
    """Serves a route that FastAPI only documents: `parse_body` reads the body; `RequestGuard` has checked the keys.

    FastAPI itself would decode 48 MB of JSON on the event loop, by the standard library, and then validate the objects.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        shape = get_type_hints(self.endpoint).get("body")

        async def handle(request: Request) -> Response:
            body = () if shape is None else (await read_body(request, shape),)
            response: Response = await self.endpoint(request, *body)
            return response

        return handle


router = APIRouter(route_class=WorkerRoute, responses=document_errors(errors.TooLargeError, ServingError))


def make_openapi() -> dict[str, Any]:
    """Return the OpenAPI document of a worker's requests and answers."""
    return get_openapi(title="Dormouse worker", version="1", routes=router.routes)


def create_app(worker: Worker, admin_key: Callable[[], str], stop: Callable[[], None] = lambda: None) -> RequestGuard:
    """Return the guarded ASGI app of a started worker. `stop` ends the process after the answer to /scaledown."""

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await worker.open()
        yield
        await worker.close()

    # The router's own routes, not the router included: each request would go through one more.
    app = FastAPI(
        routes=router.routes, lifespan=lifespan, redirect_slashes=False, docs_url=None, redoc_url=None, openapi_url=None
    )
    app.state.worker, app.state.stop = worker, stop
    responses.add_error_handlers(app)
    return RequestGuard(app, lambda: worker.settings, admin_key, WorkerProvenance(worker), holds_bodies=True)


def get_worker(request: Request) -> Worker:
    return cast(Worker, request.app.state.worker)


@dataclass
class WorkerProvenance:
    """Counts the embedding requests of a worker's boot, and makes the headers of their answers."""

    worker: Worker

    def count_request(self) -> int:
        self.worker.boot.requests += 1
        return self.worker.boot.requests

    def count_answer(self, path: str, status: int) -> None:
        self.worker.metrics.answers(path, status).inc()

    def make_headers(self, number: int, timings: Mapping[str, float]) -> dict[str, str]:
        boot = self.worker.boot
        phases = {**boot.phases, **timings}
        headers = {
            "X-Fingerprint": self.worker.embedder.fingerprint,
            "X-Boot-Id": boot.id,
            "X-Start-Kind": boot.kind,
            "X-Boot-Requests": str(number),
            "Server-Timing": ", ".join(f"{name};dur={value:.2f}" for name, value in phases.items()),
        }
        return headers | ({"X-Snapshot-Tier": boot.tier} if boot.tier else {})


@router.get("/", response_model=responses.About)
async def show_server(request: Request) -> Response:
    """Return a description of this server."""
    return respond(responses.describe_server(get_worker(request).embedder))


@router.get("/health", response_model=responses.Status)
async def show_health(_: Request) -> Response:
    """Return that the process is alive."""
    return respond({"status": "alive"})


@router.get("/ready", response_model=responses.Status, responses=ASLEEP)
async def show_readiness(request: Request) -> Response:
    """Return whether vectors can be had."""
    worker = get_worker(request)
    if worker.ready:
        return respond({"status": "ready"})
    return respond({"status": "asleep" if worker.asleep else "starting"}, 503, {"Retry-After": "1"})


@router.get("/metrics", response_class=Response, dependencies=KEY, responses=TEXT | document_errors(UnauthorizedError))
async def show_metrics(request: Request) -> Response:
    """Return the worker's metrics in the text format of Prometheus."""
    return responses.respond_metrics(get_worker(request).metrics.registry)


@router.get("/v1/models", response_model=responses.Models, **WITH_KEY)
async def show_models(request: Request) -> Response:
    """Return the one model, in OpenAI's shape."""
    return respond(responses.list_models(get_worker(request).embedder))


@router.post("/embed", response_model=responses.EmbedAnswer, **EMBEDDING)
async def embed(request: Request, body: EmbedRequest) -> Response:
    """Return a vector for each image or page, then for each text."""
    embedder = get_worker(request).embedder
    result = await embed_body(request, body, body.normalize)
    answer: responses.EmbedAnswer = {
        "embeddings": result.vectors,
        "dimension": result.vectors.shape[1],
        "model": embedder.name,
        "fingerprint": embedder.fingerprint,
        "timings": cast(responses.Timings, {name: round(value, 3) for name, value in result.timings.items()}),
    }
    if body.explain:
        answer["pages"] = [{"lines": list_lines(page)} for page in result.pages]
    return respond(answer)


@router.post("/v1/embeddings", response_model=responses.EmbeddingsAnswer, **EMBEDDING)
async def embed_openai(request: Request, body: EmbeddingsRequest) -> Response:
    """Return a vector for each text or message, in OpenAI's shape."""
    result = await embed_body(request, body)
    encode = encode_base64 if body.encoding_format == "base64" else lambda vector: vector
    answer: responses.EmbeddingsAnswer = {
        "object": "list",
        "data": [
            {"object": "embedding", "index": n, "embedding": encode(vector)} for n, vector in enumerate(result.vectors)
        ],
        "model": get_worker(request).embedder.name,
        # No tokenizer of ours counts a page; OpenAI's shape has 0 where nothing is billed.
        "usage": {"prompt_tokens": 0, "total_tokens": 0},
    }
    return respond(answer)


@router.post("/sleep", openapi_extra={"parameters": [LEVEL]}, **document_admin(errors.BadValueError))
async def sleep(request: Request) -> Response:
    """Give the model's memory back."""
    responses.check_level(request)
    await get_worker(request).sleep()
    return respond({"status": "asleep"})


@router.post("/wake_up", **document_admin(errors.NotReadyError))
async def wake_up(request: Request) -> Response:
    """Take the model's memory again."""
    await get_worker(request).wake()
    return respond({"status": "ready"})


@router.post("/scaledown", **document_admin())
async def scale_down(request: Request) -> Response:
    """End the worker after what it has in flight."""
    # The server stops taking connections after this answer, finishes what is in flight and exits 0.
    asyncio.get_running_loop().call_soon(request.app.state.stop)
    return respond({"status": "stopping"})


async def read_body(request: Request, shape: type[S]) -> S:
    """Return the request in the body, and keep its items in `request.state`. Raises a ServingError."""
    try:
        body = await request.body()
    except ClientDisconnect:
        raise ClientLeftError("the client closed its connection") from None
    max_chars = get_worker(request).settings.max_text_chars

    def work() -> tuple[S, list[Item]]:
        found = parse_body(shape, body)
        return found, read_items(found, max_chars)

    # One trip to a thread for both: a second one costs a tenth of the time of a request with 32 pages.
    found, request.state.items = work() if len(body) <= INLINE_BYTES else await asyncio.to_thread(work)
    return found


async def embed_body(request: Request, body: EmbedRequest | EmbeddingsRequest, normalize: bool = True) -> Embedded:
    """Return the vectors of a request, and keep its timings for the headers. Raises a ServingError."""
    worker = get_worker(request)
    if body.model is not None and body.model != worker.embedder.name:
        message = f"this server has the model {worker.embedder.name!r}"
        raise errors.NotFoundError(message, param="model", code="model_not_found")
    work = worker.embed(request.state.items, body.dimensions, normalize)
    result = await run_unless_client_leaves(work, wait_for_disconnect(request.receive))
    request.state.timings = result.timings
    return result


def list_lines(page: PageResult) -> list[responses.FoundLine] | None:
    """Return the lines that were read; with their own vectors where the embedder compares lines."""
    if page.lines is None:
        return None
    found: list[responses.FoundLine] = [{"text": line.text, "box": line.box} for line in page.lines]
    if page.line_vectors is not None:
        for line, vector in zip(found, page.line_vectors, strict=True):
            line["embedding"] = encode_base64(vector)
    return found


def encode_base64(vector: Any) -> str:
    """Return a vector as OpenAI's base64: little-endian float32."""
    return base64.b64encode(vector.astype("<f4").tobytes()).decode()
