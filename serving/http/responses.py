"""Answers of a worker and the engine: their types, their JSON, and their errors.

FastAPI makes the OpenAPI document from these types (`app.openapi`); the answers themselves are plain dictionaries,
which orjson writes without validating them again.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, NotRequired, get_args

import orjson
from prometheus_client import CollectorRegistry, generate_latest
from pydantic import Field, GetPydanticSchema, TypeAdapter
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from typing_extensions import TypedDict

from serving.embedders.base import Embedder, Vectors
from serving.errors import BadValueError, ErrorBody, MethodNotAllowedError, NotFoundError, ServingError
from serving.http.schema import Box

Count = Annotated[int, Field(ge=0)]
Vector = Annotated[list[float], Field(min_length=1)]
Matrix = Annotated[Vectors, GetPydanticSchema(lambda _, handler: handler(Annotated[list[Vector], Field(min_length=1)]))]
"""float32[n, dimension], written as lists of numbers."""
VectorOrBase64 = Annotated[Vectors | str, GetPydanticSchema(lambda _, handler: handler(Vector | str))]
StartKind = Literal["plain", "created", "restored"]
"""No snapshot; the start that made it; a start from it."""
Level = Literal["1", "2"]
"""vLLM's two levels of sleep; here they do the same."""
RetryHeaders = TypedDict("RetryHeaders", {"Retry-After": Annotated[int, Field(ge=1)]})


class Status(TypedDict, closed=True):
    """The answer of a route that only says a state."""

    status: str


class About(TypedDict, closed=True):
    """The answer of `GET /`."""

    name: str
    model: str
    title: str
    dimension: Count
    dimensions: tuple[Count, ...]
    reads_text: bool
    scripts: NotRequired[tuple[str, ...]]
    """Scripts of writing that are read off pictures. Older workers do not say."""
    fingerprint: str
    routes: list[str]


class Model(TypedDict, closed=True):
    """One model, in OpenAI's shape."""

    id: str
    object: Literal["model"]
    created: Count
    owned_by: str


class Models(TypedDict, closed=True):
    """The answer of `GET /v1/models`."""

    object: Literal["list"]
    data: list[Model]


class Timings(TypedDict, closed=True):
    """Milliseconds of an embedding request."""

    decode: float
    queue: float
    embed: float


class FoundLine(TypedDict, closed=True):
    """A line of text on a page, and where it stands."""

    text: str
    box: Box | None
    embedding: NotRequired[str]
    """Base64 of little-endian float32, where the embedder compares lines."""


class FoundPage(TypedDict, closed=True):
    """The text that was found on one page."""

    lines: list[FoundLine] | None
    """None if no text was looked for."""


class EmbedAnswer(TypedDict, closed=True):
    """The answer of `POST /embed`."""

    embeddings: Matrix
    dimension: Count
    model: str
    fingerprint: str
    timings: Timings
    pages: NotRequired[list[FoundPage]]


class Embedding(TypedDict, closed=True):
    """One vector, in OpenAI's shape."""

    object: Literal["embedding"]
    index: Count
    embedding: VectorOrBase64


class Usage(TypedDict, closed=True):
    """Tokens, in OpenAI's shape."""

    prompt_tokens: Count
    total_tokens: Count


class EmbeddingsAnswer(TypedDict, closed=True):
    """The answer of `POST /v1/embeddings`."""

    object: Literal["list"]
    data: list[Embedding]
    model: str
    usage: Usage


def respond(content: object, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Return `content` as JSON; arrays of numpy are written as lists, at their own precision."""
    body = orjson.dumps(content, option=orjson.OPT_SERIALIZE_NUMPY)
    return Response(body, status, dict(headers or {}), "application/json")


def describe_server(embedder: Embedder) -> About:
    """Return the answer of `GET /`. The embedder need not be loaded."""
    return {
        "name": "dormouse",
        "model": embedder.name,
        "title": embedder.title,
        "dimension": embedder.dimension,
        "dimensions": embedder.dimensions,
        "reads_text": embedder.reads_text,
        "scripts": embedder.scripts,
        "fingerprint": embedder.fingerprint,
        "routes": ["/embed", "/v1/embeddings", "/v1/models", "/health", "/ready", "/metrics"],
    }


def list_models(embedder: Embedder) -> Models:
    """Return the answer of `GET /v1/models`, in OpenAI's shape."""
    entry: Model = {"id": embedder.name, "object": "model", "created": 0, "owned_by": "dormouse"}
    return {"object": "list", "data": [entry]}


def check_level(request: Request) -> None:
    """Raise BadValueError for an unknown level of `POST /sleep`."""
    if request.query_params.get("level", "1") not in get_args(Level):
        raise BadValueError("level is 1 or 2", param="level")


def respond_metrics(registry: CollectorRegistry, more: bytes = b"") -> Response:
    """Return metrics in the text format of Prometheus."""
    return Response(generate_latest(registry) + more, media_type="text/plain; version=0.0.4; charset=utf-8")


def respond_error(error: ServingError, headers: Mapping[str, str] | None = None) -> Response:
    """Return the error in the shape of ErrorBody."""
    return respond(error.body(), error.status, {**error.headers(), **(headers or {})})


def add_error_handlers(app: Starlette) -> None:
    """Have `app` answer every error in the shape of ErrorBody."""

    async def answer(request: Request, error: Exception) -> Response:
        if isinstance(error, ServingError):
            return respond_error(error)
        if not isinstance(error, HTTPException):
            # Starlette logs the traceback; a client is told only that the server failed.
            return respond_error(ServingError("the server failed on this request; its log has the reason"))
        if error.status_code == MethodNotAllowedError.status:
            return respond_error(MethodNotAllowedError(f"{request.method} is not for this route"), error.headers)
        return respond_error(NotFoundError("there is no such route"))

    for kind in (ServingError, HTTPException, Exception):
        app.add_exception_handler(kind, answer)


def document_errors(*kinds: type[ServingError], headers: type | None = None) -> dict[int | str, dict[str, Any]]:
    """Return FastAPI's `responses` of these errors. `headers`: a TypedDict of those that all of them have."""
    return {
        kind.status: {
            "model": ErrorBody,
            "description": kind.code,
            "headers": document_headers(headers, RetryHeaders if kind.status in (429, 503) else None),
        }
        for kind in kinds
    }


def document_headers(*shapes: type | None) -> dict[str, Any]:
    """Return the headers of these TypedDicts as OpenAPI has them."""
    found = [TypeAdapter(shape).json_schema() for shape in shapes if shape is not None]
    return {
        name: {"required": name in schema["required"], "schema": header}
        for schema in found
        for name, header in schema["properties"].items()
    }
