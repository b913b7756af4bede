"""Two real pages on one real PostgreSQL, and the commands: what one changes, the other shows."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
import requests
from gradio_client import Client, handle_file

from serving.http.child_server import ServerProcess
from serving.library.library import Library
from tests.support.commands import Dormouse
from tests.support.files import encoded, pdf, picture
from tests.support.page_calls import add_pages, search_pages
from tests.support.postgres import PostgresServer
from tests.support.scripted import Scripted
from tests.support.servers import make_settings, running
from tests.support.waiting import until


@pytest.fixture
def server() -> Iterator[PostgresServer]:
    server = PostgresServer()
    yield server
    server.close()


@pytest.fixture
def embedder() -> Scripted:
    return Scripted()


@pytest.fixture
def embedder_url(embedder: Scripted, tmp_path: Path) -> Iterator[str]:
    with running(embedder, make_settings(tmp_path / "embedder")) as (url, _):
        yield url


@pytest.mark.soak
def test_two_pages_on_one_store(server: PostgresServer, embedder_url: str, tmp_path: Path) -> None:
    files = [tmp_path / "a.png", tmp_path / "b.png"]
    for file in files:
        file.write_bytes(encoded(picture(text=file.stem)))
    with ExitStack() as stack:
        pages = []
        for name in "12":
            arguments = ["--no-browser", "--data", str(tmp_path / name), "--worker", embedder_url]
            process = ServerProcess("ui.app", arguments, {"DORMOUSE_STORE": server.address()})
            pages.append(stack.enter_context(process))
        urls = [page.wait() for page in pages]
        one, two = (stack.enter_context(closing(Client(url, verbose=False))) for url in urls)
        added = add_pages(one, "house", *files)["added"]
        assert len(added) == 2
        hits = search_pages(two, "a", "house")
        assert {hit["id"] for hit in hits} == {page["id"] for page in added}
        address = f"{urls[1]}/pages/{added[1]['id']}.jpg"
        assert requests.get(address, timeout=30).content.startswith(b"\xff\xd8\xff")
        assert requests.get(address.replace(".jpg", ".webp"), timeout=30).headers["content-type"] == "image/webp"
        one.predict("house", [added[0]["id"]], api_name="/delete_pages")
        assert [hit["id"] for hit in search_pages(two, "a", "house")] == [added[1]["id"]]

        server.kill()
        with pytest.raises(Exception, match="works again by itself"):
            search_pages(two, "a", "house")
        gone = requests.get(address, timeout=60)
        assert gone.status_code == 503 and gone.headers["retry-after"] == "5"
        server.start()
        until(lambda: requests.get(address, timeout=60).status_code == 200, 60)
        assert [hit["id"] for hit in search_pages(one, "b", "house")] == [added[1]["id"]]
        assert not (tmp_path / "1" / "library.db").exists()


def test_commands_on_a_store(
    server: PostgresServer,
    embedder_url: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each with a data folder of its own, as on several machines."""
    file = tmp_path / "a.png"
    file.write_bytes(encoded(picture(text="a")))
    dormouse = Dormouse(capsys, ("--data", str(tmp_path / "1"), "--worker", embedder_url))
    monkeypatch.setenv("DORMOUSE_STORE", server.address())
    assert dormouse("add", file, "--collection", "house", "--json").summary["added"] == 1
    monkeypatch.delenv("DORMOUSE_STORE")
    dormouse.options = ("--data", str(tmp_path / "2"), "--store", server.address())
    assert dormouse("list", "--files", "--collection", "house").out == "     1  a.png\n"
    assert dormouse("export", "--collection", "house", "--out", tmp_path / "house.zip").code == 0
    monkeypatch.setenv("DORMOUSE_PICTURES", str(tmp_path / "pictures"))
    assert "pictures in the database: start without" in dormouse("list").err
    monkeypatch.delenv("DORMOUSE_PICTURES")
    with closing(Library(tmp_path / "2")):  # somebody else's folder, whatever is in it
        held = dormouse("list")
        assert held.code == 1 and "any other folder will do: --data" in held.err
    dormouse.options = ("--store", "postgresql://me:pa55word@127.0.0.1:1/d", "--data", str(tmp_path / "3"))
    refused = dormouse("list")
    assert refused.code == 1 and "cannot be opened" in refused.err and "pa55word" not in refused.err + refused.out
    dormouse.options = ("--page", "http://localhost:1", "--store", "postgresql://h/d")
    assert dormouse("list").code == 2


@pytest.mark.soak
def test_a_page_for_reading_only_hides_what_changes(server: PostgresServer, embedder_url: str, tmp_path: Path) -> None:
    schema = server.create_schema()
    Library(tmp_path / "own", address=server.address(schema)).close()
    arguments = ["--no-browser", "--data", str(tmp_path / "page"), "--worker", embedder_url]
    arguments += ["--store", server.create_reader(schema)]
    with ServerProcess("ui.app", arguments) as page, closing(Client(page.wait(), verbose=False)) as client:
        assert client.predict(api_name="/collections")["collections"] == []
        with pytest.raises(Exception, match="can be searched only"):
            client.predict("house", api_name="/new_collection")
        assert "This page is read-only" in str(client.config)


@pytest.mark.soak
def test_a_page_that_is_killed_leaves_its_upload_to_another(
    server: PostgresServer, embedder: Scripted, embedder_url: str, tmp_path: Path
) -> None:
    """Killed -9 with the lease of a job in hand, its uploads on a disk that nobody else sees."""
    pages, embedder.seconds = 40, 0.05
    file = tmp_path / "manual.pdf"
    file.write_bytes(pdf([["unreadable"] if n == 2 else [f"Words of page {n}"] for n in range(1, pages + 1)]))
    arguments = ["--no-browser", "--worker", f"scripted={embedder_url}", "--data"]
    store = {"DORMOUSE_STORE": server.address()}

    def list_pages() -> set[tuple[object, ...]]:
        return set(server.run("SELECT id, sha256, page FROM pages"))

    with (
        ServerProcess("ui.app", [*arguments, str(tmp_path / "1")], store) as one,
        ServerProcess("ui.app", [*arguments, str(tmp_path / "2")], store) as two,
        closing(Client(one.wait(), verbose=False)) as first,
        closing(Client(two.wait(), verbose=False)) as second,
    ):
        first.submit([handle_file(file)], "house", api_name="/add_pages")
        until(lambda: server.run("SELECT to_regclass('pages')") != [(None,)] and len(list_pages()) >= 8, 60)
        (seen,) = second.predict("house", api_name="/jobs")["jobs"]
        assert seen["total"] == pages and not seen["continued"]
        one.kill()
        until(lambda: not one.running, 30)
        before, asked = list_pages(), len(embedder.calls)
        shutil.rmtree(tmp_path / "1")
        until(lambda: second.predict("house", api_name="/jobs")["jobs"][0]["state"] == "done", 90)
        (found,) = second.predict("house", api_name="/jobs")["jobs"]
        assert found["job"] == seen["job"] and found["continued"]
        assert (found["added"], found["done"], found["total"]) == (pages - 1, pages, pages)
    after = list_pages()
    assert 8 <= len(before) < pages - 1 and before < after, "no page that was acknowledged is lost"
    assert len(after) == len({(sha256, number) for _, sha256, number in after}) == pages - 1, "and none is there twice"
    assert sum(map(len, embedder.calls[asked:])) <= pages - len(before) + 1
    assert server.run("SELECT job FROM job_leases") == []
