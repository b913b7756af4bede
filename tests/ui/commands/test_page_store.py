"""A page that is asked over HTTP: what it needs, and what it answers when something is wrong."""

from __future__ import annotations

import signal
import socket
import time
from functools import partial
from pathlib import Path
from urllib.parse import quote

import pytest
from gradio_client import Client
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from serving.errors import BadValueError
from serving.http.child_server import ServerProcess
from tests.support.commands import Dormouse, end, start, write_files
from tests.support.files import pdf
from tests.support.servers import ScriptedWorker, listening
from tests.support.waiting import until
from ui.commands import page_store
from ui.commands.page_store import FileForm, PageStore, read_events, split_into_portions
from ui.commands.store import FileToAdd


def test_addresses_that_are_none_are_told() -> None:
    for url in ("localhost:7860", "ftp://localhost", "http://", "", "http://[::1"):
        with pytest.raises(BadValueError, match="not the address of a page"):
            PageStore(url)


async def answer_all(answer: bytes, request: Request) -> Response:
    return Response(answer)


def test_what_is_no_page_is_told(dormouse: Dormouse, embedder_url: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        free = f"http://127.0.0.1:{closed.getsockname()[1]}"
    for url, words in ((free, "there is no page at"), (embedder_url, "no Dormouse page at this address")):
        dormouse.options = ("--page", url)
        found = dormouse("list")
        assert found.code == 1 and words in found.err and found.err.count("\n") == 1
    for answer in (b"not JSON", b"[]", b'{"event_id": 3}'):
        with listening(Starlette(routes=[Route("/{path:path}", partial(answer_all, answer), methods=["POST"])])) as url:
            dormouse.options = ("--page", url)
            assert "not that of a Dormouse page" in dormouse("list").err


def test_a_page_with_a_password(
    dormouse: Dormouse, embedder_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ["--no-browser", "--data", str(tmp_path / "page"), "--worker", embedder_url]
    secret = {"DORMOUSE_PAGE_PASSWORD": "größer als 8", "DORMOUSE_PAGE_USER": "anna"}
    file = write_files(tmp_path, {"a.pdf": pdf([["1"]])}) / "a.pdf"
    with ServerProcess("ui.app", arguments, secret) as page:
        dormouse.options = ("--page", page.wait())
        refused = dormouse("list")
        assert refused.code == 1 and "set DORMOUSE_PAGE_PASSWORD" in refused.err
        user = f"{quote('anna')}:{quote(secret['DORMOUSE_PAGE_PASSWORD'])}@"
        dormouse.options = ("--page", page.wait().replace("://", f"://{user}") + "/?c=mine")
        assert "there are no collections yet" in dormouse("list").out
        dormouse.options = ("--page", page.wait())
        for name, value in secret.items():
            monkeypatch.setenv(name, value)
        assert dormouse("add", file, "--collection", "c", "--json").summary["added"] == 1
        assert dormouse("export", "--collection", "c", "--out", tmp_path / "c.zip").code == 0


def test_a_page_that_is_open_to_everybody_wants_ids(dormouse: Dormouse, embedder_url: str, tmp_path: Path) -> None:
    arguments = ["--no-browser", "--host", "0.0.0.0", "--data", str(tmp_path / "page"), "--worker", embedder_url]  # noqa: S104
    file = write_files(tmp_path, {"a.pdf": pdf([["1"]])}) / "a.pdf"
    with ServerProcess("ui.app", arguments) as page:
        url = page.wait().replace("0.0.0.0", "127.0.0.1")  # noqa: S104
        dormouse.options = ("--page", url)
        refused = dormouse("add", file, "--collection", "mine")
        assert refused.code == 1 and "finds a collection by its id only" in refused.err
        client = Client(url, verbose=False)
        key = client.predict("mine", api_name="/new_collection")["collection"]
        client.close()
        for added in (1, 0):
            assert dormouse("add", file, "--collection", key, "--json").summary["added"] == added
        dormouse.options = ("--data", str(tmp_path / "page"))
        assert dormouse("list", "--files", "--collection", key).out == "     1  a.pdf\n", "by the page's own address"


def test_ctrl_c_leaves_what_was_added(scripted: ScriptedWorker, tmp_path: Path) -> None:
    """Files go in portions: those of the portion that the page has already are still added, no others."""
    files = {f"{n:02}.pdf": pdf([[f"file {n}"]]) for n in range(40)}
    folder = write_files(tmp_path / "in", files)
    arguments = ["--no-browser", "--data", str(tmp_path / "page"), "--worker", scripted.url]
    with ServerProcess("ui.app", arguments) as page:
        url = page.wait()
        process = start("add", folder, "--collection", "c", "--page", url, "--json")
        assert process.stdout is not None
        first = process.stdout.readline()
        scripted.embedder.gate.clear()  # the next portion hangs
        wait_until_it_hangs(scripted)
        process.send_signal(signal.SIGINT)
        ended = end(process, first)
        scripted.embedder.gate.set()
        assert ended.code == 130 and "added before that and stay; the page still adds " in ended.err
        added = ended.summary["added"]
        assert 1 <= added == len(ended.select("page")) < 40
        rest = end(start("add", folder, "--collection", "c", "--page", url, "--json"))
        assert rest.code == 0 and added <= 40 - rest.summary["added"] <= added + page_store.PORTION_FILES
        listed = end(start("list", "--files", "--collection", "c", "--page", url, "--json"))
        assert [file["pages"] for file in listed.select("file")] == [1] * 40


def wait_until_it_hangs(scripted: ScriptedWorker) -> None:
    """Return once the embedder has been asked for a page of the second portion or a later one, and for no other."""
    seen, since = 0, time.monotonic()

    def hangs() -> bool:
        nonlocal seen, since
        asked = sum(map(len, scripted.embedder.calls))
        if asked != seen:
            seen, since = asked, time.monotonic()
        return seen > page_store.PORTION_FILES and time.monotonic() - since > 2

    until(hangs, 60)


def test_portions_are_small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page_store, "PORTION_BYTES", 100)
    folder = write_files(tmp_path, {f"{n}": b"x" * size for n, size in enumerate([60, 30, 20, 500, *[1] * 10])})
    files = [FileToAdd(folder / f"{n}", f"{n}", ()) for n in [*range(14), 99]]
    sizes = [[int(file.name) for file in portion] for portion in split_into_portions(files)]
    assert sizes == [[0, 1], [2], [3], [4, 5, 6, 7, 8, 9, 10, 11], [12, 13, 99]]


def test_a_form_has_the_length_that_it_says(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"content")
    form = FileForm(path)
    assert len(b"".join(form)) == len(form)
    path.write_bytes(b"more content")
    assert len(b"".join(form)) == len(form), "a file that grew meanwhile"
    path.write_bytes(b"les")
    with pytest.raises(OSError, match="became shorter"):
        list(form)


def test_events_of_a_call_are_read() -> None:
    sent = [b"event: heartbeat\ndata: null\n\nevent: comp", b'lete\ndata: [{"a": 1}]\n\n']
    assert list(read_events(sent)) == [("heartbeat", None), ("complete", [{"a": 1}])]
    with pytest.raises(page_store.PageError, match="cannot be read"):
        list(read_events([b"event: complete\ndata: {\n\n"]))
