from __future__ import annotations

from contextlib import nullcontext

import numpy as np
import pytest
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.testclient import TestClient

from serving.errors import BadValueError, BusyError, MethodNotAllowedError
from serving.http.responses import (
    add_error_handlers,
    check_level,
    describe_server,
    document_errors,
    document_headers,
    list_models,
    respond,
)  # fmt: skip
from tests.support.scripted import Scripted
from tests.support.servers import ScriptedWorker
from tests.support.worker_requests import error_of, post


def test_crash_of_the_model_is_a_typed_error(scripted: ScriptedWorker) -> None:
    assert error_of(post(scripted.url, {"texts": ["crash"]}), 500)["code"] == "internal_error"
    assert error_of(post(scripted.url, {"texts": ["unreadable"]}), 422)["code"] == "unreadable"


def app_of(*kinds: Exception) -> Starlette:
    async def fail(request: Request) -> Response:
        raise kinds[int(request.path_params["n"])]

    app = Starlette(routes=[Route("/{n:int}", fail)])
    add_error_handlers(app)
    return app


def test_every_error_has_one_shape() -> None:
    app = app_of(BusyError("full", retry_after=0.2), KeyError("secret"), HTTPException(404))
    client = TestClient(app, raise_server_exceptions=False)
    busy = client.get("/0")
    assert busy.status_code == 429 and busy.headers["Retry-After"] == "1" and busy.json() == BusyError("full").body()
    failed = client.get("/1")
    assert failed.status_code == 500 and "secret" not in failed.text
    assert client.get("/2").json()["error"]["code"] == "not_found"
    assert client.get("/none").json()["error"] == client.get("/2").json()["error"]
    refused = client.post("/0")
    assert refused.status_code == 405 and "GET" in refused.headers["Allow"]
    assert refused.json()["error"] == MethodNotAllowedError("POST is not for this route").body()["error"]


def test_arrays_are_written_at_their_own_precision() -> None:
    found = respond({"vector": np.asarray([0.1, 2], np.float32)}, 201, {"X-A": "b"})
    assert found.body == b'{"vector":[0.1,2.0]}' and found.status_code == 201
    assert found.headers["content-type"] == "application/json" and found.headers["x-a"] == "b"


def test_a_description_needs_no_loaded_model() -> None:
    embedder = Scripted()
    assert describe_server(embedder)["model"] == list_models(embedder)["data"][0]["id"] == "scripted"
    assert not embedder.loaded


@pytest.mark.parametrize(("query", "valid"), [("", True), ("level=1", True), ("level=2", True), ("level=3", False)])
def test_levels_of_sleep(query: str, valid: bool) -> None:
    request = Request({"type": "http", "query_string": query.encode()})
    with nullcontext() if valid else pytest.raises(BadValueError, match="level is 1 or 2"):
        check_level(request)


def test_documented_headers_say_which_are_required() -> None:
    found = document_errors(BusyError, BadValueError)
    assert found[429]["headers"]["Retry-After"]["required"] and found[400]["headers"] == {}
    assert document_headers(None) == {}
