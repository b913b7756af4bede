"""The HTTP contract of a worker, over real sockets."""

from __future__ import annotations

import base64
import re
import socket
import struct
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import openai
import pytest
import requests

from serving.embedders.base import Lanes
from serving.settings import Settings
from tests.support.files import encoded, huge_png, picture
from tests.support.scripted import Scripted, unit
from tests.support.servers import ADMIN_KEY, ScriptedWorker, make_settings, running
from tests.support.waiting import until
from tests.support.worker_requests import error_of, post

PNG = base64.b64encode(encoded(picture(text="hello"))).decode()


def test_embed_answers_images_then_texts(scripted: ScriptedWorker) -> None:
    response = post(scripted.url, {"texts": ["Query: total due", "b"], "images": [PNG], "explain": True})
    found = response.json()
    assert response.status_code == 200
    assert found["dimension"] == 2560 and found["model"] == "scripted" and found["fingerprint"] == "scripted-1"
    vectors = np.asarray(found["embeddings"], np.float32)
    assert vectors.shape == (3, 2560)
    np.testing.assert_allclose(vectors[1], unit("total due", 2560), atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert len(found["pages"]) == 1 and set(found["timings"]) == {"queue", "decode", "embed"}


def test_headers_prove_who_answered(scripted: ScriptedWorker) -> None:
    first, second = (post(scripted.url, {"texts": ["a"]}).headers for _ in range(2))
    assert first["X-Boot-Requests"] == "1" and second["X-Boot-Requests"] == "2"
    assert first["X-Boot-Id"] == second["X-Boot-Id"] and re.fullmatch(r"[0-9a-f]{32}", first["X-Boot-Id"])
    assert first["X-Start-Kind"] == "plain" and first["X-Fingerprint"] == "scripted-1"
    for phase in ("start", "queue", "decode", "embed"):
        assert re.search(rf"{phase};dur=\d", first["Server-Timing"])
    other = requests.get(scripted.url + "/health", timeout=5).headers
    assert "X-Boot-Id" not in other
    assert post(scripted.url, {}).headers["X-Boot-Requests"] == "3"  # errors count: a first answer is the first request


def test_pages_with_text_need_no_image(scripted: ScriptedWorker) -> None:
    lines = [{"text": "one", "box": [0, 0, 1, 0.5]}, "two"]
    found = post(scripted.url, {"pages": [{"lines": lines}], "explain": True}).json()
    np.testing.assert_allclose(found["embeddings"][0], unit("one two", 2560), atol=1e-6)
    read = found["pages"][0]["lines"]
    assert [(line["text"], line["box"]) for line in read] == [("one", [0, 0, 1, 0.5]), ("two", None)]
    vector = np.frombuffer(base64.b64decode(read[1]["embedding"]), "<f4")
    np.testing.assert_allclose(vector, unit("two", 2560), atol=1e-6)
    assert "pages" not in post(scripted.url, {"pages": [{"lines": lines}]}).json()


def test_matryoshka_is_cut_and_normalised_again(scripted: ScriptedWorker) -> None:
    for size in (768, 1536, 2560):
        vector = np.asarray(post(scripted.url, {"texts": ["a"], "dimensions": size}).json()["embeddings"][0])
        assert vector.shape == (size,) and np.linalg.norm(vector) == pytest.approx(1, abs=1e-5)
    raw = np.asarray(
        post(scripted.url, {"texts": ["a"], "dimensions": 768, "normalize": False}).json()["embeddings"][0]
    )
    np.testing.assert_allclose(raw, unit("a", 2560)[:768], atol=1e-6)


@pytest.mark.parametrize("dimensions", [0, -1, 2561, "x", 384, 1.5, True])
def test_bad_dimensions(scripted: ScriptedWorker, dimensions: object) -> None:
    assert error_of(post(scripted.url, {"texts": ["a"], "dimensions": dimensions}), 400)["param"] == "dimensions"
    assert error_of(post(scripted.url, {"input": "a", "dimensions": dimensions}, "/v1/embeddings"), 400)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"{", 400),
        (b"", 400),
        (b"\xff\xfe", 400),
        (b"[]", 400),
        (b'{"texts": [NaN]}', 400),
        (b'{"texts": ["a"], "normalize": 1}', 400),
        ({}, 400),
        ({"texts": ["   "]}, 400),
        ({"texts": ["\0"]}, 400),
        ({"texts": ["x" * 2_001]}, 413),
        ({"texts": ["a"] * 257}, 413),
        ({"images": [PNG] * 33}, 413),
        ({"pages": [{"lines": ["a"] * 2_001}]}, 413),
        ({"images": ["http://169.254.169.254/x"]}, 400),
        ({"images": ["%%%"]}, 400),
        ({"images": [base64.b64encode(b"just text").decode()]}, 415),
        ({"images": ["data:text/html;base64,PGI+"]}, 415),
        ({"images": [base64.b64encode(huge_png()).decode()]}, 413),
        ({"images": [PNG[: len(PNG) // 8 * 4]]}, 422),
        ({"texts": ["a"], "model": "gpt-5"}, 404),
        ({"inputs": "a"}, 400),
    ],
)
def test_bad_requests_and_the_worker_lives(scripted: ScriptedWorker, body: object, status: int) -> None:
    error_of(post(scripted.url, body), status)
    assert post(scripted.url, {"texts": ["still here"]}).status_code == 200


def test_content_type_must_be_json(scripted: ScriptedWorker) -> None:
    """What a web page can send without asking first (a form, plain text) is not accepted."""
    assert (
        "application/json"
        in error_of(post(scripted.url, {"texts": ["a"]}, **{"Content-Type": "text/plain"}), 400)["message"]
    )


def test_routes_and_methods(scripted: ScriptedWorker) -> None:
    url = scripted.url
    assert requests.get(url, timeout=5).json()["dimensions"] == [768, 1536, 2560]
    assert requests.get(url + "/health", timeout=5).json() == {"status": "alive"}
    assert requests.get(url + "/ready", timeout=5).json() == {"status": "ready"}
    assert requests.get(url + "/v1/models", timeout=5).json()["data"][0]["id"] == "scripted"
    for path in ("/docs", "/openapi.json", "/redoc", "/embed/", "/collective_rpc", "/../etc/passwd", "/pages/x"):
        error_of(requests.get(url + path, timeout=5), 404)
    error_of(requests.get(url + "/embed", timeout=5), 405)
    error_of(requests.delete(url + "/health", timeout=5), 405)


def test_metrics(scripted: ScriptedWorker) -> None:
    post(scripted.url, {"texts": ["a", "b"]})
    post(scripted.url, {})
    text = requests.get(scripted.url + "/metrics", timeout=5).text
    assert 'dormouse_answers_total{route="/embed",status="200"} 1.0' in text
    assert 'dormouse_answers_total{route="/embed",status="400"} 1.0' in text
    assert 'dormouse_items_total{lane="queries"} 2.0' in text and 'dormouse_queue_depth{lane="pages"} 0.0' in text


def test_crash_of_the_model_is_a_typed_error(scripted: ScriptedWorker) -> None:
    assert error_of(post(scripted.url, {"texts": ["crash"]}), 500)["code"] == "internal_error"
    assert error_of(post(scripted.url, {"texts": ["unreadable"]}), 422)["code"] == "unreadable"


def test_nan_never_leaves(scripted: ScriptedWorker) -> None:
    for body, path in (({"texts": ["a", "not a number"]}, "/embed"), ({"input": "not a number"}, "/v1/embeddings")):
        response = post(scripted.url, body, path)
        assert error_of(response, 500)["code"] == "bad_vector" and "NaN" not in response.text


def test_no_socket_is_opened_for_an_address(scripted: ScriptedWorker) -> None:
    """A listener that would hear of it, named in every place that takes an image."""
    with socket.create_server(("127.0.0.1", 0)) as trap:
        trap.settimeout(0.5)
        address = f"http://127.0.0.1:{trap.getsockname()[1]}/page.png"
        linked = {"type": "image_url", "image_url": {"url": address}}
        bodies: list[tuple[object, str]] = [
            ({"images": [address]}, "/embed"),
            ({"pages": [{"image": address}]}, "/embed"),
            ({"messages": [{"role": "user", "content": [linked]}]}, "/v1/embeddings"),
        ]
        for body, path in bodies:
            error_of(post(scripted.url, body, path), 400)
        with pytest.raises(TimeoutError):
            trap.accept()


def test_openai_package(scripted: ScriptedWorker) -> None:
    """The official client, with its default (base64) and with floats."""
    with openai.OpenAI(base_url=scripted.url + "/v1", api_key="unused", max_retries=0) as client:
        assert client.models.list().data[0].id == "scripted"
        answer = client.embeddings.create(model="scripted", input=["total due", "Query: total due"], dimensions=768)
        assert [len(item.embedding) for item in answer.data] == [768, 768]
        np.testing.assert_allclose(answer.data[0].embedding, answer.data[1].embedding, atol=1e-7)
        plain = client.embeddings.create(model="scripted", input="total due", encoding_format="float")
        np.testing.assert_allclose(plain.data[0].embedding, unit("total due", 2560), atol=1e-6)
        with pytest.raises(openai.NotFoundError, match="scripted"):
            client.embeddings.create(model="other", input="a")
        with pytest.raises(openai.BadRequestError, match="empty"):
            client.embeddings.create(model="scripted", input="")


def test_base64_is_little_endian_float32(scripted: ScriptedWorker) -> None:
    found = post(scripted.url, {"input": "a", "encoding_format": "base64"}, "/v1/embeddings").json()
    values = struct.unpack("<2560f", base64.b64decode(found["data"][0]["embedding"]))
    np.testing.assert_allclose(values, unit("a", 2560), atol=1e-6)


def test_messages_are_pages_or_queries(scripted: ScriptedWorker) -> None:
    image = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}"}}
    page = {"role": "user", "content": [image, {"type": "text", "text": "<start_of_image>"}]}
    one = post(scripted.url, {"messages": [page]}, "/v1/embeddings").json()["data"]
    both = post(scripted.url, {"messages": [[page], [{"role": "user", "content": "a"}]]}, "/v1/embeddings").json()[
        "data"
    ]
    direct = post(scripted.url, {"images": [PNG]}).json()["embeddings"][0]
    assert len(one) == 1 and len(both) == 2
    np.testing.assert_allclose(one[0]["embedding"], direct, atol=1e-7)
    np.testing.assert_allclose(both[1]["embedding"], unit("a", 2560), atol=1e-6)
    error_of(post(scripted.url, {"messages": [page, page]}, "/v1/embeddings"), 400)


def test_sleep_wake_and_scaledown_need_the_admin_key(scripted: ScriptedWorker) -> None:
    url, admin = scripted.url, {"X-Admin-Key": ADMIN_KEY}
    for path in ("/sleep", "/wake_up", "/scaledown"):
        error_of(requests.post(url + path, timeout=5), 401)
        error_of(requests.post(url + path, headers={"X-Admin-Key": "wrong"}, timeout=5), 401)
        error_of(requests.post(url + path, headers={"X-Admin-Key": "sch\u00f6n".encode()}, timeout=5), 401)
    error_of(requests.post(url + "/sleep?level=9", headers=admin, timeout=5), 400)
    assert requests.post(url + "/sleep?level=1", headers=admin, timeout=5).json() == {"status": "asleep"}
    assert not scripted.embedder.loaded
    refused = post(url, {"texts": ["a"]})
    assert error_of(refused, 503)["code"] == "asleep" and int(refused.headers["Retry-After"]) >= 1
    assert requests.get(url + "/ready", timeout=5).status_code == 503
    assert requests.get(url + "/health", timeout=5).status_code == 200
    assert requests.post(url + "/wake_up", headers=admin, timeout=5).json() == {"status": "ready"}
    answer = post(url, {"texts": ["a"]})
    assert answer.status_code == 200 and "wake;dur=" in answer.headers["Server-Timing"]


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


def test_full_queue_is_429_with_a_time(tmp_path: Path) -> None:
    embedder = Scripted(lanes=Lanes(page_batch=1, page_workers=1, query_batch=1))
    embedder.gate.clear()
    with running(embedder, make_settings(tmp_path, query_queue=3)) as (url, _), ThreadPoolExecutor(8) as pool:
        answers = [pool.submit(post, url, {"texts": ["a"]}) for _ in range(8)]
        time.sleep(0.5)
        embedder.gate.set()
        codes = sorted(answer.result().status_code for answer in answers)
        refused = [answer.result() for answer in answers if answer.result().status_code == 429]
    assert codes.count(200) >= 3 and refused
    assert all(int(answer.headers["Retry-After"]) >= 1 for answer in refused)
    assert error_of(refused[0], 429)["type"] == "rate_limit_error"


def test_late_request_is_503_and_the_worker_lives(tmp_path: Path) -> None:
    embedder = Scripted()
    embedder.gate.clear()
    with running(embedder, make_settings(tmp_path, request_timeout_s=0.3)) as (url, _):
        late = post(url, {"texts": ["a"]})
        assert error_of(late, 503)["code"] == "timeout" and "Retry-After" in late.headers
        embedder.gate.set()
        assert post(url, {"texts": ["b"]}).status_code == 200


def test_client_that_leaves_is_dropped_from_the_queue(scripted: ScriptedWorker) -> None:
    scripted.embedder.gate.clear()
    busy = threading.Thread(target=post, args=[scripted.url, {"texts": ["busy"]}])
    busy.start()
    until(lambda: bool(scripted.embedder.calls))
    host, port = scripted.url.removeprefix("http://").split(":")
    body = b'{"texts": ["left before it started"]}'
    with socket.create_connection((host, int(port))) as leaving:
        head = f"POST /embed HTTP/1.1\r\nHost: {host}\r\nContent-Length: {len(body)}\r\n"
        head += "Content-Type: application/json\r\n\r\n"
        leaving.sendall(head.encode() + body)
        until(lambda: scripted.worker.queries.depth == 1)
    until(lambda: scripted.worker.queries.depth == 0)
    scripted.embedder.gate.set()
    busy.join(10)
    assert post(scripted.url, {"texts": ["next"]}).status_code == 200
    assert scripted.worker.queries.counts["cancelled"] == 1
    assert all("left before it started" not in call for call in scripted.embedder.calls)


def test_one_request_that_fails_leaves_its_batch_mates(scripted: ScriptedWorker) -> None:
    scripted.embedder.gate.clear()
    with ThreadPoolExecutor(5) as pool:
        first = pool.submit(post, scripted.url, {"texts": ["first"]})
        until(lambda: bool(scripted.embedder.calls))
        rest = [pool.submit(post, scripted.url, {"texts": [text]}) for text in ("a", "unreadable", "b")]
        until(lambda: scripted.worker.queries.depth == 3)
        scripted.embedder.gate.set()
        assert first.result().status_code == 200
        assert [answer.result().status_code for answer in rest] == [200, 422, 200]
    assert any(len(call) == 3 for call in scripted.embedder.calls)


def test_settings_are_frozen_and_checked(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="frozen"):
        make_settings(tmp_path).max_pixels = 1  # type: ignore[misc]
    with pytest.raises(ValueError, match="greater than or equal"):
        Settings(max_pixels=0)
