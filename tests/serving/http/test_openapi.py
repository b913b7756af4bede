"""Schemathesis holds a running worker against its OpenAPI document: no 500, and nothing that is not written there."""

from __future__ import annotations

import base64
import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hypothesis
import jsonschema_rs
import pytest
import requests
import schemathesis
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi import checks

from serving.errors import BadValueError, NotReadyError
from serving.http.schema import EmbeddingsRequest, EmbedRequest, parse_body
from serving.worker.routes import create_app, make_openapi
from serving.worker.worker import Worker
from tests.support.files import encoded, picture
from tests.support.scripted import Scripted
from tests.support.servers import ADMIN_KEY, make_settings, running

KEYS = {"X-API-Key": "key", "X-Admin-Key": ADMIN_KEY}
SCHEMA = schemathesis.openapi.from_dict(make_openapi())
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
    document = make_openapi()
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
    with running(Scripted(), make_settings(tmp_path_factory.mktemp("worker"), api_keys="key")) as (url, _):
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
    secured = "security" in case.operation.definition.raw
    assert answer.status_code == 401 if secured else answer.status_code in (200, 405)


def test_the_contract_has_every_route_and_no_other(tmp_path_factory: pytest.TempPathFactory) -> None:
    worker = Worker(Scripted(), make_settings(tmp_path_factory.mktemp("worker")))
    routes = create_app(worker, lambda: ADMIN_KEY).app.routes  # type: ignore[attr-defined]
    found = {(route.path, method.lower()) for route in routes for method in route.methods}
    assert found == {(path, method) for path, methods in make_openapi()["paths"].items() for method in methods}


def test_what_any_route_may_refuse_is_in_the_contract(tmp_path: Path) -> None:
    class Full(Scripted):
        def wake(self) -> None:
            raise NotReadyError("the GPU has no room", retry_after=1)

    with running(Full(), make_settings(tmp_path, api_keys="key", max_body_bytes=1024)) as (url, _):
        for path, methods in make_openapi()["paths"].items():
            for method, operation in methods.items():
                headers = KEYS | {"Content-Type": "application/json"}
                large = requests.request(method, url + path, data=b"x" * 2_000, headers=headers, timeout=10)
                assert large.status_code == 413 and {"413", "500"} <= set(operation["responses"]), path
        assert requests.post(url + "/sleep", headers=KEYS, timeout=10).status_code == 200
        refused = requests.post(url + "/wake_up", headers=KEYS, timeout=10)
        assert refused.status_code == 503 and "503" in make_openapi()["paths"]["/wake_up"]["post"]["responses"]


Shape = type[EmbedRequest] | type[EmbeddingsRequest]
PAGE = {"image": "aGk=", "lines": ["a", {"text": "b", "box": [0, 0.5, 1, 0.25]}]}
PARTS = [{"type": "image_url", "image_url": {"url": "aGk="}}, {"type": "text", "text": "a"}]
MESSAGE = {"role": "user", "content": PARTS}
BODIES: list[tuple[Shape, Any]] = [
    (EmbedRequest, {"texts": ["a"], "images": ["aGk="], "normalize": True, "dimensions": 768, "model": "scripted"}),
    (EmbedRequest, {"pages": [PAGE], "explain": False}),
    (EmbeddingsRequest, {"input": ["a", "b"], "encoding_format": "base64", "dimensions": None}),
    (EmbeddingsRequest, {"input": [[1, 2], [3]]}),
    (EmbeddingsRequest, {"messages": [MESSAGE, {"role": "user", "content": "a"}]}),
    (EmbeddingsRequest, {"messages": [[MESSAGE]]}),
]
FRACTIONS = st.floats(0, 2).filter(lambda found: not found.is_integer())
"""1.0 is an integer to JSON Schema, and none to the parser."""
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | FRACTIONS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
VALIDATORS = {
    shape: jsonschema_rs.validator_for(
        {"components": make_openapi()["components"], "$ref": f"#/components/schemas/{shape.__name__}"}
    )
    for shape in (EmbedRequest, EmbeddingsRequest)
}


def places_in(found: Any) -> Iterator[tuple[Any, Any]]:
    """Yield each part of a body, as what it is in and its key there."""
    for key, inner in list(found.items() if isinstance(found, dict) else enumerate(found)):
        yield found, key
        if isinstance(inner, dict | list):
            yield from places_in(inner)


@st.composite
def changed(draw: st.DrawFn) -> tuple[Shape, Any]:
    """Make a body that fits, then exchange one part of it for another one or for anything, or take it out."""
    shape, body = draw(st.sampled_from(BODIES))
    body = copy.deepcopy(body)
    places = list(places_in(body))
    (inside, key), (elsewhere, other) = draw(st.sampled_from(places)), draw(st.sampled_from(places))
    new = draw(JSON | st.just(copy.deepcopy(elsewhere[other])))
    if draw(st.booleans()):
        inside[key] = new
    else:
        del inside[key]
    return shape, body


@hypothesis.given(changed())
@bounded(2_000)
def test_contract_and_parser_agree_about_any_body(found: tuple[Shape, Any]) -> None:
    shape, body = found
    try:
        parse_body(shape, json.dumps(body).encode())
        accepted = True
    except BadValueError:
        accepted = False
    assert accepted is VALIDATORS[shape].is_valid(body)
