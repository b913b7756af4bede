"""A page that is asked over HTTP: what it needs, and what it answers when something is wrong."""

from __future__ import annotations

import signal
import socket
import time
from pathlib import Path

import pytest

from serving.errors import BadValueError
from serving.http.child_server import ServerProcess
from tests.support.commands import Dormouse, end, start, write_files
from tests.support.files import pdf
from tests.support.servers import ScriptedWorker
from tests.support.states import elsewhere
from tests.support.waiting import until
from ui.commands import page_store
from ui.commands.page_store import FileForm, PageStore, parse_events, split_into_portions
from ui.commands.store import FileToAdd


def test_addresses_that_are_none_are_told() -> None:
    for url in ("localhost:7860", "ftp://localhost", "http://", ""):
        with pytest.raises(BadValueError, match="is not the address of a page"):
            PageStore(url)


def test_what_is_no_page_is_told(dormouse: Dormouse, embedder_url: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        free = f"http://127.0.0.1:{closed.getsockname()[1]}"
    for url, words in ((free, "there is no page at"), (embedder_url, "no Dormouse page at this address")):
        dormouse.options = ("--page", url)
        found = dormouse("list")
        assert found.code == 1 and words in found.err and found.err.count("\n") == 1
    with elsewhere(200, b"not JSON") as (url, _):
        dormouse.options = ("--page", url)
        assert dormouse("list").code == 1


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
        for name, value in secret.items():
            monkeypatch.setenv(name, value)
        assert dormouse("add", file, "--collection", "c", "--json").summary["added"] == 1
        assert dormouse("export", "--collection", "c", "--out", tmp_path / "c.zip").code == 0


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
    lines = [b"event: heartbeat", b"data: null", b"", b"event: complete", b'data: [{"a": 1}]', b""]
    assert list(parse_events(iter(lines))) == [("heartbeat", None), ("complete", [{"a": 1}])]
    with pytest.raises(page_store.PageError, match="cannot be read"):
        list(parse_events(iter([b"event: complete", b"data: {"])))
