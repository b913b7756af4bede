"""Schemathesis holds a running worker against its OpenAPI document: no 500, and nothing that is not written there."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any

import hypothesis
import pytest
import schemathesis
from fastapi import FastAPI
from fastapi.routing import APIRoute
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi import checks

from serving.app import create_app
from serving.contract import openapi
from serving.worker import Worker
from tests.files import encoded, picture
from tests.scripted import Scripted
from tests.servers import ADMIN_KEY, running, settings

KEYS = {"X-API-Key": "key", "X-Admin-Key": ADMIN_KEY}
SCHEMA = schemathesis.openapi.from_dict(openapi())
SCHEMA.config.generation.update(with_security_parameters=False)  # the right keys are sent, or none
SCHEMA.config.checks.negative_data_rejection.expected_statuses = ["4XX"]
HELD = [
    not_a_server_error, checks.status_code_conformance, checks.content_type_conformance,
    checks.response_headers_conformance, checks.response_schema_conformance, checks.negative_data_rejection,
    checks.unsupported_method,
]  # fmt: skip


PNG = base64.b64encode(encoded(picture())).decode()


def exact() -> dict[str, Any]:
    """The document with what it cannot say of every worker: names, sizes, and that a picture is one."""
    document = openapi()
    word = {"type": "string", "pattern": "^[a-z\u00e0-\u00ff]{1,40}$"}
    image = {"enum": [PNG, f"data:image/png;base64,{PNG}"]}
    sizes: dict[str, Any] = {"model": {"enum": [None, "scripted"]}, "dimensions": {"enum": [None, 768, 1536, 2560]}}
    shapes = document["components"]["schemas"]
    few = {"type": "array", "minItems": 1, "maxItems": 4}
    embed, embeddings = shapes["EmbedRequest"], shapes["EmbeddingsRequest"]
    embed["properties"] |= {**sizes, "texts": {**few, "items": word}, "images": {**few, "items": image}}
    del embed["properties"]["pages"]  # never beside images
    embeddings["properties"] |= {**sizes, "input": {"anyOf": [word, {**few, "items": word}]}}
    del embeddings["properties"]["messages"]  # never beside input
    embed["required"], embeddings["required"] = ["texts"], ["input"]
    embed["additionalProperties"] = embeddings["additionalProperties"] = False
    return document


EXACT = schemathesis.openapi.from_dict(exact()).include(path_regex="embed")
EXACT.config.generation.update(with_security_parameters=False, modes=[GenerationMode.POSITIVE])


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with running(Scripted(), settings(tmp_path_factory.mktemp("worker"), api_keys="key")) as (url, _):
        yield url


def bounded(examples: int) -> hypothesis.settings:
    """The same ones each time."""
    return hypothesis.settings(
        max_examples=examples, derandomize=True, deadline=None, database=None,
        suppress_health_check=list(hypothesis.HealthCheck),
    )  # fmt: skip


@SCHEMA.parametrize()
@bounded(60)
def test_the_worker_keeps_to_its_contract(case: Any, url: str) -> None:
    case.call_and_validate(base_url=url, headers=KEYS, checks=HELD, timeout=30)


@EXACT.parametrize()
@bounded(40)
def test_what_fits_a_worker_is_answered(case: Any, url: str) -> None:
    answer = case.call_and_validate(base_url=url, headers=KEYS, checks=HELD, timeout=30)
    assert answer.status_code == 200


@SCHEMA.parametrize()
@bounded(5)
def test_without_a_key_nobody_learns_more(case: Any, url: str) -> None:
    answer = case.call(base_url=url, timeout=30)
    secured = case.operation.definition.raw["security"]
    assert answer.status_code == 401 if secured else answer.status_code in (200, 405)


def test_the_contract_has_every_route_and_no_other(tmp_path_factory: pytest.TempPathFactory) -> None:
    worker = Worker(Scripted(), settings(tmp_path_factory.mktemp("worker")))
    app = getattr(create_app(worker, lambda: ADMIN_KEY), "app")  # noqa: B009
    assert isinstance(app, FastAPI)
    found = {
        (route.path, method.lower())
        for route in app.routes
        if isinstance(route, APIRoute)
        for method in route.methods or ()
    }
    assert found == {(path, method) for path, methods in openapi()["paths"].items() for method in methods}
