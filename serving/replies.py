"""What a worker and the engine's door answer alike: JSON, errors, and what they are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from serving.embedders import Embedder
from serving.errors import MethodNotAllowedError, NotFoundError, ServingError


def reply(content: object, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    body = orjson.dumps(content, option=orjson.OPT_SERIALIZE_NUMPY)
    return Response(body, status, dict(headers or {}), "application/json")


def about(embedder: Embedder) -> dict[str, Any]:
    """`GET /`. The embedder need not be loaded."""
    return {
        "name": "dormouse",
        "model": embedder.name,
        "title": embedder.title,
        "dimension": embedder.dimension,
        "dimensions": embedder.dimensions,
        "reads_text": embedder.reads_text,
        "fingerprint": embedder.fingerprint,
        "routes": ["/embed", "/v1/embeddings", "/v1/models", "/health", "/ready", "/metrics"],
    }


def models(embedder: Embedder) -> dict[str, Any]:
    """`GET /v1/models`, OpenAI's shape."""
    entry = {"id": embedder.name, "object": "model", "created": 0, "owned_by": "dormouse"}
    return {"object": "list", "data": [entry]}


def add_errors(app: Starlette) -> None:
    async def known(_: Request, error: Exception) -> Response:
        assert isinstance(error, ServingError)
        return reply(error.body(), error.status, error.headers())

    async def routing(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        if error.status_code == MethodNotAllowedError.status:
            kind: ServingError = MethodNotAllowedError(f"{request.method} is not for this route")
            return reply(kind.body(), kind.status, {**(error.headers or {})})
        return reply(NotFoundError("there is no such route").body(), 404)

    async def unknown(_: Request, error: Exception) -> Response:
        # Starlette logs the traceback; a client learns only that it was our fault.
        return reply(ServingError("the server failed on this request; its log has the reason").body(), 500)

    app.add_exception_handler(ServingError, known)
    app.add_exception_handler(HTTPException, routing)
    app.add_exception_handler(Exception, unknown)
