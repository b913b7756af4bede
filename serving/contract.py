"""What a worker takes and answers, as an OpenAPI document: for tests, and for whoever writes a client.

No worker serves it: `python -c "import json, serving.contract; print(json.dumps(serving.contract.openapi()))"`.
"""

from __future__ import annotations

from typing import Any

from pydantic.json_schema import models_json_schema

from serving.errors import (
    BadValueError,
    BusyError,
    NotAnImageError,
    NotFoundError,
    NotReadyError,
    ServingError,
    TooLargeError,
    UnauthorizedError,
    UnreadableError,
)
from serving.schema import EmbeddingsRequest, EmbedRequest

REF = "#/components/schemas/{model}"
Json = dict[str, Any]
TEXT: Json = {"type": "string"}
NUMBER: Json = {"type": "number"}
COUNT: Json = {"type": "integer", "minimum": 0}
VECTOR: Json = {"type": "array", "items": NUMBER, "minItems": 1}
PROVENANCE = {
    "X-Fingerprint": TEXT,
    "X-Boot-Id": {"type": "string", "pattern": "^[0-9a-f]{32}$"},
    "X-Start-Kind": {"enum": ["plain", "created", "restored"]},
    "X-Boot-Requests": {"type": "integer", "minimum": 1},
    "Server-Timing": TEXT,
}
"""Headers that prove which process answered."""
OF_EMBEDDING: tuple[type[ServingError], ...] = (
    BadValueError, UnauthorizedError, NotFoundError, TooLargeError, NotAnImageError, UnreadableError, BusyError,
    ServingError, NotReadyError,
)  # fmt: skip


def openapi() -> Json:
    _, shapes = models_json_schema([(EmbedRequest, "validation"), (EmbeddingsRequest, "validation")], ref_template=REF)
    keys = {
        "bearer": {"type": "http", "scheme": "bearer"},
        "key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
        "admin": {"type": "apiKey", "in": "header", "name": "X-Admin-Key"},
    }
    return {
        "openapi": "3.1.0",
        "info": {"title": "Dormouse worker", "version": "1"},
        "paths": paths(),
        "components": {"schemas": {**shapes["$defs"], **ANSWERS}, "securitySchemes": keys},
    }


def paths() -> Json:
    keyed: list[Json] = [{"bearer": []}, {"key": []}]
    asleep = answer({"status": TEXT}, headers=waits(NotReadyError))
    level = {"name": "level", "in": "query", "schema": {"enum": ["1", "2"], "default": "1"}}
    return {
        "/": {"get": route("What this is", answer(ref("About")))},
        "/health": {"get": route("The process is alive", answer({"status": TEXT}))},
        "/ready": {"get": route("Vectors can be had", answer({"status": TEXT}), {"503": asleep})},
        "/metrics": {"get": route("Prometheus", {"text/plain": {"schema": TEXT}}, of(UnauthorizedError), keyed)},
        "/v1/models": {"get": route("As OpenAI's", answer(ref("Models")), of(UnauthorizedError), keyed)},
        "/embed": {"post": embedding("EmbedRequest", "Embedded", keyed)},
        "/v1/embeddings": {"post": embedding("EmbeddingsRequest", "Embeddings", keyed)},
        "/sleep": {"post": {**admin("Gives the model's memory back", BadValueError), "parameters": [level]}},
        "/wake_up": {"post": admin("Takes it again")},
        "/scaledown": {"post": admin("Ends the worker after what it has")},
    }


def route(summary: str, content: Json, others: Json | None = None, keys: list[Json] | None = None) -> Json:
    good = content if "description" in content else {"description": "what was asked for", "content": content}
    return {"summary": summary, "security": keys or [], "responses": {"200": good, **(others or {})}}


def admin(summary: str, *errors: type[ServingError]) -> Json:
    return route(summary, answer({"status": TEXT}), of(UnauthorizedError, *errors), [{"admin": []}])


def embedding(body: str, answered: str, keys: list[Json]) -> Json:
    good = answer(ref(answered), headers=PROVENANCE)
    taken = {"required": True, "content": {"application/json": {"schema": ref(body)}}}
    return {**route("Vectors", good, of(*OF_EMBEDDING, headers=PROVENANCE), keys), "requestBody": taken}


def of(*errors: type[ServingError], headers: Json | None = None) -> Json:
    """The answers that these errors are, by their status."""
    return {str(kind.status): answer(ref("Error"), kind.code, {**(headers or {}), **waits(kind)}) for kind in errors}


def waits(kind: type[ServingError]) -> Json:
    return {"Retry-After": {"type": "integer", "minimum": 1}} if kind in (BusyError, NotReadyError) else {}


def answer(content: Json, description: str = "what was asked for", headers: Json | None = None) -> Json:
    """`content`: a schema, or the properties of one."""
    schema = content if "$ref" in content else required(content)
    named = {name: {"required": True, "schema": shape} for name, shape in (headers or {}).items()}
    return {"description": description, "headers": named, "content": {"application/json": {"schema": schema}}}


def ref(name: str) -> Json:
    return {"$ref": REF.format(model=name)}


def required(properties: Json, optional: Json | None = None) -> Json:
    """An object of these properties and no others."""
    return {
        "type": "object", "properties": {**properties, **(optional or {})}, "required": list(properties),
        "additionalProperties": False,
    }  # fmt: skip


def listed(items: Json) -> Json:
    return {"type": "array", "items": items}


BOX: Json = {"type": ["array", "null"], "items": {"type": "number", "minimum": 0, "maximum": 1}}
FOUND_LINE = required({"text": TEXT, "box": BOX}, {"embedding": TEXT})
PAGES = listed(required({"lines": {"type": ["array", "null"], "items": FOUND_LINE}}))
ANSWERS: Json = {
    "Error": required(
        {
            "error": required(
                {"message": TEXT, "type": TEXT, "param": {"type": ["string", "null"]}, "code": TEXT},
            )
        }
    ),
    "About": required(
        {
            "name": TEXT, "model": TEXT, "title": TEXT, "dimension": COUNT, "dimensions": listed(COUNT),
            "reads_text": {"type": "boolean"}, "fingerprint": TEXT, "routes": listed(TEXT),
        }
    ),
    "Models": required(
        {
            "object": {"const": "list"},
            "data": listed(
                required({"id": TEXT, "object": {"const": "model"}, "created": COUNT, "owned_by": TEXT})
            ),
        }
    ),
    "Embedded": required(
        {
            "embeddings": {"type": "array", "items": VECTOR, "minItems": 1}, "dimension": COUNT, "model": TEXT,
            "fingerprint": TEXT, "timings": required({"queue": NUMBER, "decode": NUMBER, "embed": NUMBER}),
        },
        {"pages": PAGES},
    ),
    "Embeddings": required(
        {
            "object": {"const": "list"}, "model": TEXT,
            "data": listed(
                required({"object": {"const": "embedding"}, "index": COUNT, "embedding": {"anyOf": [VECTOR, TEXT]}})
            ),
            "usage": required({"prompt_tokens": COUNT, "total_tokens": COUNT}),
        }
    ),
}  # fmt: skip
