from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from starlette.datastructures import Headers
from starlette.types import Message, Receive, Scope, Send

from serving.errors import NotReadyError
from serving.http.access import RequestGuard, is_one_of, read_key, strip_port
from tests.support.scripted import Scripted
from tests.support.servers import ScriptedWorker, make_settings, running
from tests.support.worker_requests import error_of, post


def test_content_type_must_be_json(scripted: ScriptedWorker) -> None:
    """What a web page can send without asking first (a form, plain text) is not accepted."""
    assert (
        "application/json"
        in error_of(post(scripted.url, {"texts": ["a"]}, **{"Content-Type": "text/plain"}), 400)["message"]
    )


@pytest.fixture
def keyed(tmp_path: Path) -> Iterator[str]:
    with running(Scripted(), make_settings(tmp_path, api_keys="first-key, second-key")) as (url, _):
        yield url


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "Bearer wrong"},
        {"Authorization": "Bearer "},
        {"Authorization": "Basic first-key"},
        {"Authorization": "Bearer first-key, second-key"},
        {"X-API-Key": ""},
        {"X-API-Key": "sch\u00f6n".encode()},
    ],
)
def test_wrong_keys(keyed: str, headers: dict[str, str]) -> None:
    for method, path in (("POST", "/embed"), ("POST", "/v1/embeddings"), ("GET", "/v1/models"), ("GET", "/metrics")):
        error_of(requests.request(method, keyed + path, headers=headers, timeout=5), 401)
    assert requests.get(keyed + "/health", headers=headers, timeout=5).status_code == 200


def test_right_keys(keyed: str) -> None:
    for headers in (
        {"Authorization": "Bearer first-key"},
        {"authorization": "bearer second-key"},
        {"X-API-Key": "first-key"},
    ):
        assert post(keyed, {"texts": ["a"]}, **headers).status_code == 200


def test_open_server_answers_loopback_names_only(scripted: ScriptedWorker) -> None:
    """DNS rebinding: a web page's own name that points at 127.0.0.1 comes with that name in Host."""
    assert error_of(post(scripted.url, {"texts": ["a"]}, Host="evil.example:8000"), 401)
    assert post(scripted.url, {"texts": ["a"]}, Host="localhost:8000").status_code == 200


def test_long_body_without_length_is_refused_while_it_streams(tmp_path: Path) -> None:
    sent = 0

    def endless() -> Iterator[bytes]:
        nonlocal sent
        for _ in range(400):
            sent += 65_536
            yield b"x" * 65_536

    with running(Scripted(), make_settings(tmp_path, max_body_bytes=1_000_000)) as (url, worker):
        headers = {"Content-Type": "application/json"}
        response = requests.post(url + "/embed", data=endless(), headers=headers, timeout=30)
        assert error_of(response, 413)["code"] == "too_large"
        announced = requests.post(url + "/embed", data=b"x" * 2_000_000, headers=headers, timeout=30)
        error_of(announced, 413)
        assert not worker.embedder.calls  # type: ignore[attr-defined]


def test_all_bodies_together_are_limited(tmp_path: Path) -> None:
    settings = make_settings(tmp_path, max_body_bytes=1_000_000, max_buffered_bytes=600_000)
    with running(Scripted(), settings) as (url, _):
        refused = post(url, b"x" * 700_000)
        assert error_of(refused, 429)["code"] == "queue_full" and int(refused.headers["Retry-After"]) >= 1
        assert post(url, {"texts": ["a"]}).status_code == 200  # what was counted is given back


@pytest.mark.parametrize(
    ("headers", "key"),
    [
        ({"authorization": "Bearer  a "}, "a"),
        ({"authorization": "bearer a", "x-api-key": "b"}, "a"),
        ({"authorization": "Basic a", "x-api-key": "b"}, "b"),
        ({"authorization": "Basic a"}, ""),
        ({}, ""),
    ],
)
def test_where_a_key_is_read(headers: dict[str, str], key: str) -> None:
    assert read_key(Headers(headers)) == key


def test_an_empty_key_is_none() -> None:
    assert is_one_of("b", ["a", "b"]) and not is_one_of("c", ["a", "b"])
    assert not is_one_of("", ["", "a"]) and not is_one_of("", [])
    assert is_one_of("sch\u00f6n", ["sch\u00f6n"]) and not is_one_of("\ud800", ["a"])


@pytest.mark.parametrize(
    ("host", "name"),
    [("LOCALHOST:80", "localhost"), ("localhost", "localhost"), ("[::1]:80", "[::1]"), ("[::1]", "[::1]"), ("", "")],
)
def test_the_port_of_a_host_is_no_part_of_its_name(host: str, name: str) -> None:
    assert strip_port(host) == name


def test_requests_are_counted_until_they_are_answered(tmp_path: Path) -> None:
    async def test() -> None:
        started, released = asyncio.Event(), asyncio.Event()

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            started.set()
            await released.wait()
            raise NotReadyError("not now", retry_after=3)

        guard = RequestGuard(app, lambda: make_settings(tmp_path), lambda: "admin")
        sent: list[Message] = []

        async def send(message: Message) -> None:
            sent.append(message)

        async def receive() -> Message:
            return {"type": "http.request", "body": b"", "more_body": False}

        scope = {"type": "http", "method": "GET", "path": "/health", "headers": []}
        asking = asyncio.create_task(guard(scope, receive, send))
        await started.wait()
        assert guard.in_flight == 1
        released.set()
        await asking
        assert guard.in_flight == 0 and sent[0]["status"] == 503 and (b"retry-after", b"3") in sent[0]["headers"]
        assert json.loads(sent[1]["body"])["error"]["message"] == "not now"

    asyncio.run(test())
