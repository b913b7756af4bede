"""What the page is sent: uploads that are cut or left lying, odd names and questions, several who change the same."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests

from serving.http.child_server import ServerProcess
from tests.support.files import encoded, pdf, picture
from tests.support.old_files import aged
from tests.support.scripted import Scripted
from tests.support.servers import ScriptedWorker, make_settings, running
from tests.support.waiting import until

PNG = encoded(picture((40, 30)))
PART = b'--x\r\nContent-Disposition: form-data; name="files"; filename="a.png"\r\nContent-Type: image/png\r\n\r\n'
HASH = 64 * "a"


@dataclass
class Site:
    url: str
    data: Path
    worker: ScriptedWorker

    @property
    def uploads(self) -> Path:
        return self.data / "uploads"

    def upload(self, name: str, data: bytes = PNG) -> Path:
        """By HTTP, as a browser does."""
        answer = requests.post(f"{self.url}/gradio_api/upload", files={"files": (name, data)}, timeout=30)
        return Path(answer.json()[0])

    def begin(self, name: str, *data: object) -> str:
        """A call of the page's API; where its answer is to be had."""
        begun = requests.post(f"{self.url}/gradio_api/call/{name}", json={"data": data}, timeout=30)
        assert begun.ok, begun.text
        return f"{self.url}/gradio_api/call/{name}/{begun.json()['event_id']}"

    def told(self, name: str, *data: object) -> tuple[str, Any]:
        """How a call ended, `complete` or `error`, and its answer."""
        found = requests.get(self.begin(name, *data), timeout=60).text
        event, _, answer = found.strip().rpartition("event: ")[2].partition("\n")
        told = json.loads(answer.removeprefix("data: "))
        return event, told[0] if event == "complete" else told["error"]

    def call(self, name: str, *data: object) -> Any:
        event, answer = self.told(name, *data)
        assert event == "complete", answer
        return answer


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    data, embedder = tmp_path_factory.mktemp("data").resolve(), Scripted()
    with running(embedder, make_settings(tmp_path_factory.mktemp("worker"))) as (worker_url, worker):
        words = ["--no-browser", "--worker", worker_url, "--data", str(data)]
        with ServerProcess("tests.support.tidy_page", words) as page:
            yield Site(page.wait(), data, ScriptedWorker(worker_url, worker, embedder))
            embedder.gate.set()
    assert not list((data / "uploads").rglob("*.png")), "what was uploaded goes with the page"


@pytest.mark.soak
def test_what_is_old_goes_while_the_page_runs(site: Site) -> None:
    """What was uploaded, an upload that was cut, scores as CSV, an export; but not what a job has still to read."""
    site.worker.embedder.gate.clear()
    first, waits = site.upload("first.png"), site.upload("waits.png", encoded(picture((50, 50))))
    site.begin("add_pages", [entry(first)], "needed")
    until(lambda: bool(site.worker.embedder.calls))
    later = site.begin("add_pages", [entry(waits)], "needed")
    unused, query = site.upload("unused.png", PNG + b"1"), site.upload("query.png", PNG + b"2")
    scores = site.uploads / "scores-abcd1234" / "scores.csv"
    cut = site.uploads / "tmpabcd1234"
    export, foreign = site.data / "exports" / f"{32 * 'e'}.zip", site.data / "exports" / "holidays.zip"
    for path in (first, waits, unused, query, scores, cut, export, foreign):
        aged(path, path.read_bytes() if path.exists() else b"x")
    until(lambda: not any(path.exists() for path in (unused, query, scores, cut, export)))
    kept = site.data / "uploads-kept"
    assert foreign.exists() and len([path for path in kept.rglob("*") if path.is_file()]) == 2
    assert all(path.stat().st_mode & 0o777 == 0o700 for path in (kept, *kept.iterdir()))
    site.worker.embedder.gate.set()
    assert '"file": "waits.png", "page": 1' in requests.get(later, timeout=60).text
    until(lambda: not any(kept.iterdir()) and not waits.exists())
    assert site.call("delete_collection", "needed") == {"deleted": 2}


def test_a_collection_that_is_deleted_during_its_upload_is_gone(site: Site) -> None:
    site.worker.embedder.gate.clear()
    calls = len(site.worker.embedder.calls)
    adding = site.begin(
        "add_pages", [entry(site.upload("a.pdf", pdf([[f"Words of page {n}"] for n in range(9)])))], "gone"
    )
    until(lambda: len(site.worker.embedder.calls) > calls)
    assert site.call("delete_collection", "gone") == {"deleted": 0}
    site.worker.embedder.gate.set()
    assert '"error": "the collection was deleted"' in requests.get(adding, timeout=60).text
    assert "gone" not in [found["name"] for found in site.call("collections")["collections"]]
    assert not any((site.data / "pages").iterdir())


def sent(url: str, path: str, body: bytes, length: int, kind: str) -> socket.socket:
    """A request whose body may be shorter than it says."""
    host, port = url.removeprefix("http://").split(":")
    connection = socket.create_connection((host, int(port)))
    head = f"POST {path} HTTP/1.1\r\nHost: {host}:{port}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n\r\n"
    connection.sendall(head.encode() + body)
    return connection


def test_upload_cut_in_the_middle_adds_nothing_and_is_cleared_away(site: Site) -> None:
    body = PART + b"p" * 200_000
    kind = "multipart/form-data; boundary=x"
    with sent(site.url, "/gradio_api/upload", body, 10 * len(body), kind):
        until(lambda: any(site.uploads.glob("tmp*")))
    with sent(site.url, "/gradio_api/upload", body, len(body), kind) as whole:  # the end of the part never came
        whole.settimeout(20)
        assert b" 200 " in whole.recv(100)
    assert len(list(site.uploads.glob("tmp*"))) == 2

    def is_cleared_away() -> bool:
        left = list(site.uploads.glob("tmp*"))
        for path in left:  # again: the server may write to one until it hears that the connection is gone
            with suppress(FileNotFoundError):
                os.utime(path, (0, 0))
        return not left

    until(is_cleared_away, 20)
    assert site.call("collections")["collections"] == []
    assert site.call("add_pages", [entry(site.upload("a.png"))], "after it")["added"]
    assert site.call("delete_collection", "after it") == {"deleted": 1}


def entry(path: Path | str) -> dict[str, object]:
    return {"path": str(path), "orig_name": Path(path).name, "meta": {"_type": "gradio.FileData"}}


def test_no_path_leads_out_of_the_uploads(site: Site) -> None:
    uploaded = site.upload("mine.png")
    assert requests.get(f"{site.url}/gradio_api/file={uploaded}", timeout=10).content == PNG
    (added,) = site.call("add_pages", [entry(uploaded)], "c")["added"]
    paths = [
        "/etc/passwd", "/etc/passwd%00", "/proc/self/environ", "%ed%a0%80", "x" * 5_000,
        f"{site.data}/library.db", f"{site.data}/library.db-wal", f"{site.data}/pages/{added['id']}.jpg",
        f"{site.uploads}/../library.db", f"{site.uploads}/%2e%2e/library.db", f"{site.uploads}/..%2flibrary.db",
        f"{uploaded.parent}/../../pages/{added['id']}.jpg", f"{site.uploads}", f"{uploaded.parent}/",
    ]  # fmt: skip
    for path in paths:
        for route in ("file=", "file/", "proxy=", "proxy=http://127.0.0.1/", "stream/x/"):
            answer = requests.get(f"{site.url}/gradio_api/{route}{path}", timeout=10)
            assert answer.status_code in (403, 404), (route, path, answer.status_code)
            assert b"root:" not in answer.content and b"SQLite" not in answer.content
    assert site.call("delete_collection", "c") == {"deleted": 1}


@pytest.mark.parametrize(
    "data",
    [
        r'[[{"path": "a\u0000b", "meta": {"_type": "gradio.FileData"}}], "c"]',
        r'[[{"path": "/etc/passwd\u0000.png", "meta": {"_type": "gradio.FileData"}}], "c"]',
        r'[[{"path": "\ud800", "meta": {"_type": "gradio.FileData"}}], "c"]',
        r'["\ud800", NaN]',
        '[NaN, "c"]',
        '[1e400, "c"]',
        '[{"path": 5, "meta": 1}, "c"]',
        "[" * 2_000,
        '["a"',
    ],
)
@pytest.mark.parametrize("route", ["call/add_pages", "queue/join", "run/add_pages"])
def test_calls_that_are_no_calls_are_refused(site: Site, data: str, route: str) -> None:
    body = f'{{"data": {data}, "fn_index": 0, "session_hash": "s"}}'
    headers = {"Content-Type": "application/json"}
    answer = requests.post(f"{site.url}/gradio_api/{route}", data=body, headers=headers, timeout=10)
    assert answer.status_code == 400 and set(answer.json()) == {"error"}
    assert requests.get(f"{site.url}/healthz", timeout=10).ok


NAMES = {
    "<img src=x onerror=alert(1)>.png": "<img src=x onerror=alert(1)>.png",
    "C:\\x::$DATA": "x::$DATA",
    "../../../etc/passwd": "passwd",
    "n" * 300 + ".png": "n" * 234 + "…" + "n" * 16 + ".png",
    "in\u202egnp.exe": "in gnp.exe",
    "a\0b.png": "a b.png",
    "..": "unnamed",
    "": "",  # what the upload was called
    "\U0001f9fe größer 売上高.png": "\U0001f9fe größer 売上高.png",
}


def test_names_are_only_words(site: Site) -> None:
    files = {name: encoded(picture((30 + number, 20))) for number, name in enumerate(NAMES)}
    uploaded = {name: site.upload(f"{number}.png", data) for number, (name, data) in enumerate(files.items())}
    found = site.call("add_pages", [{**entry(path), "orig_name": name} for name, path in uploaded.items()], "names")
    expected = [NAMES[name] or path.name for name, path in uploaded.items()]
    assert sorted(page["file"] for page in found["added"]) == sorted(expected) and found["skipped"] == []
    hits = site.call("search", "a", None, "names", 50, None)["hits"]
    assert sorted(hit["file"] for hit in hits) == sorted(expected)
    only = site.call("search", "a", None, "names", 5, None, None, None, None, None, [expected[0]], None)["hits"]
    assert [hit["file"] for hit in only] == [expected[0]]
    assert site.call("export_collection", "names")["pages"] == len(NAMES)
    assert site.call("delete_collection", "names") == {"deleted": len(NAMES)}


@pytest.mark.parametrize(
    "name", ["a\x00.png", "x" * 300 + ".png", "\u202egnp.exe", "..", "<img src=x>", "C:\\x::$DATA"]
)
def test_uploads_under_any_name_stay_among_the_uploads(site: Site, name: str) -> None:
    body = PART.replace(b"a.png", name.encode()) + PNG + b"\r\n--x--\r\n"
    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    answer = requests.post(f"{site.url}/gradio_api/upload", data=body, headers=headers, timeout=30)
    if answer.ok:
        (path,) = answer.json()
        assert Path(path).resolve().parent.parent == site.uploads and Path(path).read_bytes() == PNG
    else:
        assert answer.status_code in (400, 422)


LONG = {
    "100 kB": "word " * 20_000,
    "200,000 marks": "a" + "\u0301" * 200_000,
    "marks of two kinds in turn": "a" + "\u0301\u0323" * 300_000,
    "control characters": "a" + "\1" * 100_000 + "b",
}


def test_questions_that_are_no_questions_are_told(site: Site) -> None:
    site.call("add_pages", [entry(site.upload("a.png"))], "asked")
    before = len(site.worker.embedder.calls)
    for text in LONG.values():
        for call in (("search", text, None, "asked", 3, None), ("score_pages", [text], "asked")):
            event, answer = site.told(*call)
            assert event == "error" and "longer than 2000 characters" in answer
    for text in ("", "\0", " \u2028 "):
        assert site.told("search", text, None, "asked", 3, None) == (
            "error", "the query is empty: send at least one word"
        )  # fmt: skip
    assert len(site.worker.embedder.calls) == before
    for text, seen in (
        ("a\0b", "a b"),
        ("half \ud83d of it", "half ? of it"),
        ("\U0001f9fe", "\U0001f9fe"),
        ("<start_of_image> <|image|>", "<start_of_image> <|image|>"),
        ("\u202eb", "\u202eb"),
    ):
        assert len(site.call("search", text, None, "asked", 3, None)["hits"]) == 1
        assert site.worker.embedder.calls[-1] == [seen]
    assert site.call("delete_collection", "asked") == {"deleted": 1}


@pytest.mark.parametrize(
    "name", ["", " ", "x" * 81, "a\0b", "a\u202eb", "a\ud83db".encode("utf-8", "replace").decode() * 30, 5, None]
)
def test_names_of_collections_that_are_none_are_told(site: Site, name: object) -> None:
    before = site.call("collections")
    for call in (("new_collection", name), ("delete_collection", name), ("search", "a", None, name, 3, None)):
        event, answer = site.told(*call)
        assert event == "error" and "1 to 80 printable" in answer, (call, answer)
    assert site.call("collections") == before


@pytest.mark.parametrize(
    "path",
    [
        "/pages/..%2flibrary.db", "/pages/%00.jpg", "/pages/0123456789ABCDEF.jpg", "/pages/" + "0" * 16 + ".jpg%0a",
        "/exports/..%2flibrary.db", "/exports/%00.zip", "/exports/" + "0" * 32 + ".zip", "/exports/holidays.zip",
        "/runs/..%2f..%2flibrary.json", "/runs/%00.json", "/runs/x.exe", "/runs/" + "x" * 5_000 + ".json",
        "/runs/%ed%a0%80.csv", "/gradio_api/mcp/", "/gradio_api/mcp/sse", "/docs",
    ],
)  # fmt: skip
def test_addresses_of_nothing_are_not_found(site: Site, path: str) -> None:
    for method in ("GET", "POST"):
        answer = requests.request(method, site.url + path, timeout=10)
        assert answer.status_code in ((404,) if method == "GET" else (404, 405)), answer.text[:200]
        assert str(site.data) not in answer.text


@pytest.mark.parametrize("target", ["nobody", "%ed%a0%80", "%00", "<script>", "x" * 5_000])
def test_status_of_an_unknown_server_is_that_of_the_first(site: Site, target: str) -> None:
    answer = requests.get(f"{site.url}/status?target={target}", timeout=10)
    assert answer.ok and "<script>" not in answer.text


@pytest.mark.soak
def test_several_add_and_delete_at_once(site: Site) -> None:
    """In the end there is what was added and not deleted: as rows, in memory and as pictures. None met an error."""

    def adding(start: int) -> list[str]:
        ids = []
        for number in range(start, start + 12):
            path = site.upload(f"{number}.png", encoded(picture((40 + number, 30))))
            ids += [page["id"] for page in site.call("add_pages", [entry(path)], "shared")["added"]]
        return ids

    def deleting(_: int) -> list[str]:
        gone: list[str] = []
        for _ in range(12):
            hits = site.call("search", "a", None, "shared", 3, None)["hits"]
            gone += site.call("delete_pages", "shared", [hit["id"] for hit in hits])["deleted"]
        return gone

    with ThreadPoolExecutor(4) as pool:
        added, more = (pool.submit(adding, start) for start in (0, 12))
        gone, too = (pool.submit(deleting, number) for number in range(2))
        ids, deleted = {*added.result(), *more.result()}, [*gone.result(), *too.result()]
    assert len(ids) == 24 and len(deleted) == len(set(deleted)) and set(deleted) <= ids
    left = ids - set(deleted)
    (shown,) = [found for found in site.call("collections")["collections"] if found["name"] == "shared"]
    assert shown["pages"] == len(left)
    assert {hit["id"] for hit in site.call("search", "a", None, "shared", 50, None)["hits"]} == left
    assert {path.name.partition(".")[0] for path in (site.data / "pages").iterdir()} == left
    assert site.call("delete_collection", "shared") == {"deleted": len(left)}
