from __future__ import annotations

import time

import numpy as np
import pytest

from serving import client as client_module
from serving.client import EmbeddingClient, PagePayload, parse_server_timing
from serving.documents.page import Line
from serving.errors import BadValueError, NotFoundError, NotReadyError, ServingError, UnauthorizedError, UnreadableError
from tests.support.files import encoded, picture
from tests.support.scripted import unit
from tests.support.scripted_replies import ANSWER, PROOF, Reply, answering
from tests.support.servers import ScriptedWorker


def test_against_a_real_worker(scripted: ScriptedWorker) -> None:
    client = EmbeddingClient(scripted.url)
    assert client.fetch_info().dimensions == (768, 1536, 2560)
    assert client.fetch_info().scripts == ("Latin", "Cyrillic")
    answer = client.embed_queries(["a", "b"])
    np.testing.assert_allclose(answer.vectors[1], unit("b", 2560), atol=1e-6)
    assert answer.boot_requests == 1 and answer.start_kind == "plain" and answer.server_ms["embed"] >= 0
    lines = (Line("one", (0.0, 0.0, 0.5, 0.5)), Line("two"))
    pages = client.embed_pages([PagePayload(encoded(picture())), PagePayload(lines=lines)], dimension=768, explain=True)
    assert pages.vectors.shape == (2, 768) and pages.pages[1].lines == lines and pages.boot_requests == 2
    assert pages.pages[1].vectors is not None and pages.pages[1].vectors.shape == (2, 768)
    np.testing.assert_allclose(np.linalg.norm(pages.pages[1].vectors, axis=1), 1, atol=1e-5)
    assert client.embed_pages([PagePayload(lines=lines)]).pages == []
    with pytest.raises(UnreadableError, match="cannot be read"):
        client.embed_queries(["unreadable"])


def test_an_older_worker_does_not_say_which_scripts_it_reads() -> None:
    about = {
        "model": "m", "title": "M", "dimension": 2, "dimensions": [2], "reads_text": True, "fingerprint": "f"
    }  # fmt: skip
    with answering((200, {}, about)) as (url, _):
        assert EmbeddingClient(url).fetch_info().scripts == ()


def test_waits_as_told_and_comes_back() -> None:
    busy = (429, {"Retry-After": "1"}, {"error": {"message": "full", "code": "queue_full"}})
    starting = (503, {}, {"error": {"message": "starting", "code": "not_ready"}})
    with answering(busy, starting, (200, PROOF, ANSWER)) as (url, seen):
        began = time.monotonic()
        answer = EmbeddingClient(url).embed_queries(["a"])
        assert answer.retries == 2 and len(seen) == 3 and time.monotonic() - began >= 1.4


def test_follows_303_as_get() -> None:
    again = (303, {"Location": "?result=2"}, {})
    with answering((303, {"Location": "/result/1"}, {}), again, (200, PROOF, ANSWER)) as (url, seen):
        assert EmbeddingClient(url).embed_queries(["a"]).model == "m"
        assert seen == ["POST /embed", "GET /result/1", "GET /result/1?result=2"]


def test_headers_go_with_every_call_and_after_a_303_too() -> None:
    headers = {"Modal-Key": "wk-1", "Modal-Secret": "ws-1"}
    with answering((303, {"Location": "/later"}, {}), (200, PROOF, ANSWER)) as (url, seen):
        EmbeddingClient(url, "k", headers=headers).embed_queries(["a"])
        got = [(told["Modal-Key"], told["Modal-Secret"], told["Authorization"]) for told in seen.headers]
    assert got == [("wk-1", "ws-1", "Bearer k")] * 2


@pytest.mark.parametrize(
    ("status", "location", "where"),
    [
        (303, "http://127.0.0.2:{port}/x", "127.0.0.2"),
        (303, "https://127.0.0.1:{port}/x", "127.0.0.1"),
        (303, "http://127.0.0.1:9/x", "127.0.0.1"),
        (303, "//elsewhere.example/x", "elsewhere.example"),
        (303, "http://[", "an invalid address"),
        (303, "http://127.0.0.1:port/", "an invalid address"),
        (307, "/moved", "127.0.0.1"),
        (301, "https://elsewhere.example/embed", "elsewhere.example"),
    ],
)
def test_keys_are_sent_on_to_no_other_server(status: int, location: str, where: str) -> None:
    reply: list[Reply] = [(status, {"Location": location}, {})]
    with answering(*reply) as (url, seen):
        reply[0][1]["Location"] = location.replace("{port}", url.rsplit(":")[-1])
        with pytest.raises(ServingError, match=f"redirects to {where}") as failed:
            EmbeddingClient(url, "k").embed_queries(["a"])
    assert failed.value.code == "redirected" and list(seen) == ["POST /embed"]


def test_a_call_that_is_sent_on_for_ever_ends() -> None:
    with (
        answering((303, {"Location": "/x"}, {})) as (url, _),
        pytest.raises(ServingError, match="redirected one call 40 times"),
    ):
        EmbeddingClient(url).embed_queries(["a"])


@pytest.mark.parametrize("headers", [{"A": "x\ny"}, {"A b": "x"}, {"A": ""}, {"A": "é"}, {"A": " x"}])
def test_what_is_no_header_is_refused_at_once(headers: dict[str, str]) -> None:
    with pytest.raises(BadValueError, match="is not one line of letters"):
        EmbeddingClient("http://127.0.0.1:9", headers=headers)


@pytest.mark.parametrize("key", ["a\nb", "€"])
def test_a_key_that_is_no_header_is_refused_at_once(key: str) -> None:
    with (
        answering((200, PROOF, ANSWER)) as (url, seen),
        pytest.raises(BadValueError, match="key of the API is not one"),
    ):
        EmbeddingClient(url, key).embed_queries(["a"])
    assert not seen


def test_deadline_tells_the_last_reason() -> None:
    loading: Reply = (503, {"Retry-After": "1"}, {"error": {"message": "still loading", "code": "not_ready"}})
    with answering(loading) as (url, _), pytest.raises(NotReadyError, match="still loading"):
        EmbeddingClient(url, deadline_s=1.5).embed_queries(["a"])
    with pytest.raises(NotReadyError, match="nothing answers"):
        EmbeddingClient("http://127.0.0.1:9", deadline_s=0.8).embed_queries(["a"])


@pytest.mark.parametrize(
    ("reply", "kind", "message"),
    [
        ((401, {}, {"error": {"message": "wrong key", "code": "invalid_api_key"}}), UnauthorizedError, "wrong key"),
        ((404, {}, b"<html>nginx</html>"), NotFoundError, "HTTP 404 without an error body"),
        ((200, {}, ANSWER), ServingError, "did not answer as a Dormouse worker"),
        ((200, PROOF, b"<html>"), ServingError, "did not answer as a Dormouse worker"),
        ((200, PROOF, {**ANSWER, "embeddings": "x"}), ServingError, "did not answer as a Dormouse worker"),
    ],
)
def test_foreign_and_failing_servers(reply: Reply, kind: type[ServingError], message: str) -> None:
    with answering(reply) as (url, seen):
        with pytest.raises(kind, match=message):
            EmbeddingClient(url).embed_queries(["a"])
        assert len(seen) == 1  # what cannot get better is not asked twice


@pytest.mark.parametrize("status", [500, 502])
def test_a_request_whose_server_was_lost_with_it_is_sent_again(monkeypatch: pytest.MonkeyPatch, status: int) -> None:
    monkeypatch.setattr(client_module, "RETRY_S", 0.01)
    lost: Reply = (status, {}, b"modal-http: internal server error: status Terminated")
    with answering(lost, lost, (200, PROOF, ANSWER)) as (url, _):
        assert EmbeddingClient(url).embed_queries(["a"]).retries == 2
    own = (500, {}, {"error": {"message": "it broke", "type": "server_error", "param": None, "code": "internal_error"}})
    for reply, asked in ((lost, client_module.LOST_TRIES), (own, 1)):
        with answering(reply) as (url, seen), pytest.raises(ServingError):
            EmbeddingClient(url).embed_queries(["a"])
        assert seen == ["POST /embed"] * asked, "its own errors would be the same again"


def test_info_of_a_foreign_server() -> None:
    with answering((200, {}, {"hello": 1})) as (url, _), pytest.raises(ServingError, match="not a Dormouse worker"):
        EmbeddingClient(url).fetch_info()


def test_server_timing() -> None:
    assert parse_server_timing("start;dur=1.5, embed;dur=2") == {"start": 1.5, "embed": 2.0}
    assert parse_server_timing("") == {}
