"""The HTTP contract of a worker, over real sockets."""

from __future__ import annotations

import base64
import re
import socket
import struct

import numpy as np
import openai
import pytest
import requests

from tests.support.files import encoded, huge_png, picture
from tests.support.scripted import unit
from tests.support.servers import ADMIN_KEY, ScriptedWorker
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


def test_routes_and_methods(scripted: ScriptedWorker) -> None:
    url = scripted.url
    assert requests.get(url, timeout=5).json()["dimensions"] == [768, 1536, 2560]
    assert requests.get(url, timeout=5).json()["scripts"] == ["Latin", "Cyrillic"]
    assert requests.get(url + "/health", timeout=5).json() == {"status": "alive"}
    assert requests.get(url + "/ready", timeout=5).json() == {"status": "ready"}
    assert requests.get(url + "/v1/models", timeout=5).json()["data"][0]["id"] == "scripted"
    for path in ("/docs", "/openapi.json", "/redoc", "/embed/", "/collective_rpc", "/../etc/passwd", "/pages/x"):
        error_of(requests.get(url + path, timeout=5), 404)
    error_of(requests.get(url + "/embed", timeout=5), 405)
    error_of(requests.delete(url + "/health", timeout=5), 405)


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
