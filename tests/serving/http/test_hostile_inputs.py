"""What breaks others: texts, pictures and bodies, on every route of a worker that takes some."""

from __future__ import annotations

import base64
import http.client
import json
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import pytest
import requests

from serving.embedders.base import Lanes
from serving.http.child_server import ServerProcess
from tests.support.files import encoded, huge_png, picture
from tests.support.scripted import Scripted
from tests.support.servers import ADMIN_KEY, ScriptedWorker, make_settings, running
from tests.support.waiting import until
from tests.support.worker_requests import error_of, post

PNG = encoded(picture(text="hello"))
B64 = base64.b64encode(PNG).decode()
MB = 1_000_000


@pytest.fixture(scope="module")
def worker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ScriptedWorker]:
    embedder = Scripted()
    with running(embedder, make_settings(tmp_path_factory.mktemp("worker"))) as (url, worker):
        yield ScriptedWorker(url, worker, embedder)
        embedder.gate.set()


def asked(url: str, text: str, escaped: bool = False) -> list[requests.Response]:
    """The answers of every place that takes a query. `escaped`: `text` is JSON already."""
    quoted = text if escaped else json.dumps(text)
    part = f'[{{"type": "text", "text": {quoted}}}]'
    bodies = {
        "/embed": [f'{{"texts": [{quoted}]}}'],
        "/v1/embeddings": [
            f'{{"input": {quoted}}}', f'{{"input": [{quoted}]}}',
            f'{{"messages": [{{"role": "user", "content": {quoted}}}]}}',
            f'{{"messages": [[{{"role": "user", "content": {part}}}]]}}',
        ],
    }  # fmt: skip
    return [post(url, body.encode(), path) for path, found in bodies.items() for body in found]


LONG = {
    "100 kB": "word " * 20_000,
    "one word of 100 kB": "w" * 100_000,
    "200,000 marks on one letter": "a" + "\u0301" * 200_000,
    # Brought into order one by one, as NFC has it, they take longer than anybody waits.
    "a million marks of two kinds in turn": "a" + "\u0301\u0323" * 500_000,
    "100,000 control characters": "a" + "\0" * 100_000 + "b",
}


@pytest.mark.parametrize("name", LONG)
def test_long_queries_are_refused_before_anything_is_done_with_them(worker: ScriptedWorker, name: str) -> None:
    before = len(worker.embedder.calls)
    for answer in asked(worker.url, LONG[name]):
        error = error_of(answer, 413)
        assert error["code"] == "too_large" and "longer than 2000 characters" in error["message"]
    assert len(worker.embedder.calls) == before


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ("<start_of_image> what is it", "<start_of_image> what is it"),
        ("<image_soft_token>" * 100, "<image_soft_token>" * 100),
        ("<|image|><|im_start|>system", "<|image|><|im_start|>system"),
        ("a\0b", "a b"),
        ("\u202egnp.exe\u202c", "\u202egnp.exe\u202c"),
        ("a" + "\u0301\u0323" * 900, "\u1ea1" + "\u0323" * 899 + "\u0301" * 900),
        ("e\u0301" * 2_000, "\u00e9" * 2_000),
        ("\U0001f469\u200d\U0001f52c", "\U0001f469\u200d\U0001f52c"),
    ],
)
def test_odd_queries_are_text_and_nothing_else(worker: ScriptedWorker, text: str, seen: str) -> None:
    for answer in asked(worker.url, text):
        assert answer.status_code == 200, answer.text
        assert worker.embedder.calls[-1] == [seen]


@pytest.mark.parametrize("quoted", [r'"\ud800"', r'"a \udc00 b"', r'"\udc00\ud800"', '"\\ud83d"', '"\0"', '"\n"'])
def test_what_is_no_text_is_refused(worker: ScriptedWorker, quoted: str) -> None:
    for answer in asked(worker.url, quoted, escaped=True):
        error_of(answer, 400)


@pytest.mark.parametrize("body", [b'{"texts": ["\xed\xa0\x80"]}', b'{"texts": ["\xff"]}', b'\xef\xbb\xbf{"texts": 1}'])
def test_bytes_that_are_no_utf_8_are_refused(worker: ScriptedWorker, body: bytes) -> None:
    error_of(post(worker.url, body), 400)


PICTURES: dict[str, tuple[str, int]] = {
    "no base64": ("%%%", 400),
    "base64 of a URL": (B64.replace("+", "-").replace("/", "_") + "--__", 400),
    "cut base64": (B64[:-1], 400),
    "more after its end": (B64.rstrip("=") + "====" + B64, 400),
    "letters of another script": ("\u0430" * 40, 400),
    "empty": ("", 400),
    "empty data URI": ("data:image/png;base64,", 400),
    "data URI without base64": ("data:image/png,raw", 400),
    "data URI without an end": ("data:image/png;base64", 400),
    "an address": ("https://example.org/a.png", 400),
    "a file": ("file:///etc/passwd", 400),
    "a web page": ("data:text/html;base64," + B64, 415),
    "SVG": ("data:image/svg+xml;base64," + base64.b64encode(b"<svg onload=alert(1)>").decode(), 415),
    "PDF": (base64.b64encode(b"%PDF-1.4 something").decode(), 415),
    "cut picture": (base64.b64encode(PNG[: len(PNG) // 2]).decode(), 422),
    "bomb": (base64.b64encode(huge_png()).decode(), 413),
}


@pytest.mark.parametrize("name", PICTURES)
def test_what_is_no_picture_is_told(worker: ScriptedWorker, name: str) -> None:
    image, status = PICTURES[name]
    linked = {"type": "image_url", "image_url": {"url": image}}
    error_of(post(worker.url, {"images": [image]}), status)
    error_of(post(worker.url, {"pages": [{"image": image}]}), status)
    message = {"role": "user", "content": [linked]}
    error_of(post(worker.url, {"messages": [message]}, "/v1/embeddings"), status)


@pytest.mark.parametrize("mime", ["image/jpeg", "image/x-nobody-knows", "application/octet-stream", ""])
def test_a_picture_is_what_its_bytes_are(worker: ScriptedWorker, mime: str) -> None:
    as_it_is, said = (post(worker.url, {"images": [image]}) for image in (B64, f"data:{mime};base64,{B64}"))
    assert said.status_code == 200 and said.json()["embeddings"] == as_it_is.json()["embeddings"]


def test_messages_hold_no_more_than_a_sentence_of_what_was_sent(worker: ScriptedWorker) -> None:
    part = {"type": "x" * 100_000, "text": "a"}
    answer = post(worker.url, {"messages": [{"role": "user", "content": [part]}]}, "/v1/embeddings")
    error_of(answer, 400)
    assert len(answer.content) < 1_000


def test_a_line_of_a_page_has_a_limit(worker: ScriptedWorker) -> None:
    for line in ("x" * 10_001, {"text": "x" * 10_001, "box": [0, 0, 1, 1]}):
        assert "10000 characters" in error_of(post(worker.url, {"pages": [{"lines": ["a", line]}]}), 413)["message"]
    assert post(worker.url, {"pages": [{"lines": ["x" * 10_000]}]}).status_code == 200


def data_uri(size: int) -> Iterator[bytes]:
    """A request with one, piece by piece: it is nowhere as a whole."""
    yield b'{"images": ["data:image/png;base64,'
    piece = b"A" * MB
    for _ in range(size // MB):
        yield piece
    yield b'"]}'


@pytest.mark.soak
@pytest.mark.parametrize("path", ["/embed", "/v1/embeddings"])
def test_data_uri_of_100_mb_is_refused_and_never_held(builtin_process: ServerProcess, path: str) -> None:
    url = builtin_process.wait()
    assert post(url, {"texts": ["awake"]}).status_code == 200
    process = psutil.Process(builtin_process.pid)

    def held() -> int:
        return sum(each.memory_info().rss for each in (process, *process.children(recursive=True)))

    def send(**headers: str) -> tuple[int, str]:
        with closing(http.client.HTTPConnection(urlsplit(url).netloc, timeout=60)) as connection:
            connection.request(
                "POST", path, data_uri(100 * MB), {"Content-Type": "application/json", **headers},
                encode_chunked="Content-Length" not in headers,
            )  # fmt: skip
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())["error"]["code"]

    before, highest, over = held(), 0, threading.Event()

    def watch() -> None:
        nonlocal highest
        while not over.wait(0.02):
            highest = max(highest, held())

    watching = threading.Thread(target=watch)
    watching.start()
    try:
        announced = {"Content-Length": str(sum(map(len, data_uri(100 * MB))))}
        for headers in (announced, {"Transfer-Encoding": "chunked"}):
            assert send(**headers) == (413, "too_large")
    finally:
        over.set()
        watching.join()
    assert highest - before < 200 * MB
    assert post(url, {"texts": ["still here"]}).status_code == 200


@pytest.mark.parametrize("path", ["/embed", "/v1/embeddings", "/sleep"])
@pytest.mark.parametrize("chunked", [False, True])
def test_body_cut_in_the_middle_is_forgotten(worker: ScriptedWorker, path: str, chunked: bool) -> None:
    host, port = worker.url.removeprefix("http://").split(":")
    before = len(worker.embedder.calls)
    length = "Transfer-Encoding: chunked" if chunked else "Content-Length: 100000"
    body = b'{"texts": ["half of'
    with socket.create_connection((host, int(port))) as leaving:
        head = f"POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n{length}\r\n\r\n"
        leaving.sendall(head.encode() + (b"%x\r\n%b\r\n" % (len(body), body) if chunked else body))
        time.sleep(0.05)
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda n: post(worker.url, {"texts": [f"after {n}"]}), range(8)))
    assert [answer.status_code for answer in answers] == [200] * 8
    assert not any("half" in text for call in worker.embedder.calls[before:] for text in call)


def test_what_a_cut_body_held_is_given_back(tmp_path: Path) -> None:
    """Eight times most of what all bodies together may hold."""
    with running(Scripted(), make_settings(tmp_path, max_body_bytes=MB, max_buffered_bytes=MB)) as (url, _):
        host, port = url.removeprefix("http://").split(":")
        head = (
            f"POST /embed HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\nContent-Length: 900000\r\n\r\n"
        )
        for _ in range(8):
            with socket.create_connection((host, int(port))) as leaving:
                leaving.sendall(head.encode() + b"x" * 800_000)
        until(lambda: post(url, b" " * 900_000).status_code == 400)


# All errors of the contract, on every route that can answer with them


@pytest.fixture(scope="module")
def keyed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ScriptedWorker]:
    embedder = Scripted(lanes=Lanes(page_batch=1, page_workers=1, query_batch=1))
    settings = make_settings(
        tmp_path_factory.mktemp("keyed"), api_keys="key", max_body_bytes=100_000, query_queue=1, page_queue=1,
        request_timeout_s=2.0,
    )  # fmt: skip
    with running(embedder, settings) as (url, worker):
        yield ScriptedWorker(url, worker, embedder)
        embedder.gate.set()


def image_of(data: bytes, path: str) -> object:
    image = f"data:image/png;base64,{base64.b64encode(data).decode()}"
    if path == "/embed":
        return {"images": [image]}
    return {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": image}}]}]}


def text_of(text: str, path: str) -> dict[str, object]:
    return {"texts": [text]} if path == "/embed" else {"input": text}


@pytest.mark.parametrize("path", ["/embed", "/v1/embeddings"])
def test_every_error_of_an_embedding_route(keyed: ScriptedWorker, path: str) -> None:
    key = {"X-API-Key": "key"}

    def told(body: object, status: int, kind: str, code: str, **headers: str) -> None:
        answer = post(keyed.url, body, path, **(headers or key))
        error = error_of(answer, status)
        assert (error["type"], error["code"]) == (kind, code)
        assert ("Retry-After" in answer.headers) == (status in (429, 503))

    bad = "invalid_request_error"
    told(b"{", 400, bad, "bad_value")
    told(text_of("a", path), 400, bad, "bad_value", **{**key, "Content-Type": "text/plain"})
    told(text_of("a", path), 401, "authentication_error", "invalid_api_key", **{"X-API-Key": "other"})
    told({**text_of("a", path), "model": "other"}, 404, "not_found_error", "model_not_found")
    told(text_of("x" * 2_001, path), 413, bad, "too_large")
    told(b" " * 100_001, 413, bad, "too_large")
    told(image_of(b"just text", path), 415, bad, "not_an_image")
    told(image_of(PNG[:100], path), 422, bad, "unreadable")
    told(text_of("crash", path), 500, "server_error", "internal_error")
    told(text_of("not a number", path), 500, "server_error", "bad_vector")
    assert requests.put(keyed.url + path, headers=key, timeout=5).status_code == 405
    with ThreadPoolExecutor(2) as pool:
        keyed.embedder.gate.clear()
        before = len(keyed.embedder.calls)
        late = [pool.submit(post, keyed.url, text_of("late", path), path, **key)]
        until(lambda: len(keyed.embedder.calls) > before)
        late.append(pool.submit(post, keyed.url, text_of("late too", path), path, **key))
        until(lambda: keyed.worker.queries.depth == 1)
        told(text_of("one too many", path), 429, "rate_limit_error", "queue_full")
        assert [error_of(answer.result(), 503)["code"] for answer in late] == ["timeout"] * 2
        keyed.embedder.gate.set()
    admin = {"X-Admin-Key": ADMIN_KEY}
    assert requests.post(keyed.url + "/sleep", headers=admin, timeout=5).ok
    told(text_of("a", path), 503, "service_unavailable", "asleep")
    assert requests.post(keyed.url + "/wake_up", headers=admin, timeout=5).ok
    assert post(keyed.url, text_of("a", path), path, **key).status_code == 200


@pytest.mark.parametrize("path", ["/", "/health", "/ready", "/metrics", "/v1/models"])
def test_every_error_of_a_route_that_only_tells(keyed: ScriptedWorker, path: str) -> None:
    for method in ("POST", "PUT", "DELETE", "PATCH"):
        answer = requests.request(method, keyed.url + path, headers={"X-API-Key": "key"}, timeout=5)
        assert error_of(answer, 405)["code"] == "method_not_allowed" and answer.headers["Allow"] == "GET"
    without = requests.get(keyed.url + path, timeout=5)
    assert without.status_code == (200 if path in ("/", "/health", "/ready") else 401)
    error_of(requests.get(f"{keyed.url}{path.rstrip('/')}/x", headers={"X-API-Key": "key"}, timeout=5), 404)


@pytest.mark.parametrize("path", ["/sleep", "/wake_up", "/scaledown"])
def test_every_error_of_an_admin_route(keyed: ScriptedWorker, path: str) -> None:
    admin = {"X-Admin-Key": ADMIN_KEY}
    for headers in ({}, {"X-API-Key": "key"}, {"X-Admin-Key": "\ud83d"}, {"X-Admin-Key": ADMIN_KEY + "\0"}):
        given = {name: value.encode("utf-8", "surrogatepass") for name, value in headers.items()}
        answer = requests.post(keyed.url + path, headers=given, timeout=5)
        assert answer.status_code in (400, 401)  # 400: the server's own, for what is no header
    error_of(requests.get(keyed.url + path, headers=admin, timeout=5), 405)
    for level in ("9", "", "1;2", "\0", "\u0661"):
        if path == "/sleep":
            answer = requests.post(keyed.url + path, params={"level": level}, headers=admin, timeout=5)
            assert error_of(answer, 400)["param"] == "level"
