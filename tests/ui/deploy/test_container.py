from __future__ import annotations

import gc
import shutil
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from functools import partial
from pathlib import Path
from types import CellType, FunctionType, MethodType, ModuleType

import gradio_client
import pytest
import requests

from serving.errors import BadValueError
from serving.http.child_server import ServerProcess
from serving.library.backup import Backup
from serving.library.library import Library
from tests.support.files import encoded, pdf, picture
from tests.support.libraries import add, new
from tests.support.postgres import PostgresServer
from tests.support.servers import ScriptedWorker
from tests.support.volumes import OnlyWriter
from ui.access import password as door
from ui.deploy import container
from ui.deploy.container import HostedPage
from ui.servers.modal_target import ModalTarget

ME = ("dormouse", "correct horse")
CONTAINERS = (dict, list, tuple, set, frozenset, MethodType, CellType, partial)


@pytest.fixture(autouse=True)
def password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DORMOUSE_PAGE_PASSWORD", ME[1])
    monkeypatch.setattr(door, "WRONG_S", 0.01)


# The page behind it


@pytest.fixture
def small_page(monkeypatch: pytest.MonkeyPatch) -> None:
    """Gradio's is built in processes of its own: built here, it would leave event loops behind."""

    class Small:
        routes = ()

        def __init__(self, service: object, *, loopback: bool) -> None:
            assert not loopback

    monkeypatch.setattr(container, "create_app", Small)


class Gone:
    """A volume that comes back."""

    def __init__(self) -> None:
        self.there = False

    def reload(self) -> None:
        if not self.there:
            raise RuntimeError("volume vo-1 was deleted")


@pytest.mark.usefixtures("small_page")
def test_library_that_does_not_open_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(container, "RETRY_S", 0.1)
    volume = Gone()
    page = HostedPage(
        tmp_path / "data", Backup(tmp_path / "kept", lambda: None, volume.reload, OnlyWriter()), [("HF", "modal:app")]
    )
    page.open()
    assert "vo-1 was deleted" in page.why_not_ready()
    volume.there = True
    time.sleep(0.1)
    assert page.why_not_ready() == "" and page.library.catalogue.list_collections() == []
    page.library.close()


def test_collections_are_where_the_secret_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DORMOUSE_STORE", "postgresql://u:pa55word@h/d")
    backup = Backup(tmp_path / "kept", lambda: None, lambda: None, OnlyWriter())
    with pytest.raises(BadValueError, match="was deployed for its volume: run `dormouse deploy`"):
        HostedPage(tmp_path / "data", backup, [("HF", "modal:app")])
    monkeypatch.setenv("DORMOUSE_PICTURES", str(tmp_path))
    with pytest.raises(BadValueError, match="pages on Modal have none in common"):
        HostedPage(tmp_path / "data", None, [("HF", "modal:app")])


@pytest.mark.usefixtures("small_page")
def test_the_store_is_that_of_each_container(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, postgres: PostgresServer
) -> None:
    """What is built, and saved, has no address: it is read in each container, whose secret may be a new one."""
    monkeypatch.setattr(container, "RETRY_S", 0.0)
    monkeypatch.setenv("DORMOUSE_STORE", "postgresql://u:pa55word@127.0.0.1:1/d")
    page = HostedPage(tmp_path / "data", None, [("HF", "modal:app")])
    assert "pa55word" not in "".join(map(str, reachable_texts(page.service)))
    page.open()
    refused = page.why_not_ready()
    assert "cannot be opened" in refused and "pa55word" not in refused
    monkeypatch.setenv("DORMOUSE_STORE", postgres.address(postgres.create_schema()))
    assert page.why_not_ready() == "" and page.library.catalogue.list_collections() == []
    key = page.library.create_collection("mine").key
    before = page.library.changes.version(key)
    postgres.run("NOTIFY dormouse, ''")
    until(lambda: page.library.changes.version(key) != before, 30)  # it follows what others change
    page.service.close()
    assert not (tmp_path / "data" / "library.db").exists()


def reachable_texts(root: object) -> list[object]:
    """Return all texts that an object of ours leads to, but for what modules have in common."""
    found, seen, waiting = [], set[int](), [root]
    while waiting:
        one = waiting.pop()
        kind = type(one)  # not `__class__`, of which some objects elsewhere warn
        if issubclass(kind, str | bytes):
            found.append(one)
        elif id(one) not in seen and not issubclass(kind, type | ModuleType):
            seen.add(id(one))
            if kind is FunctionType:
                waiting += [getattr(one, name) for name in ("__closure__", "__defaults__", "__kwdefaults__")]
            elif issubclass(kind, CONTAINERS) or kind.__module__.partition(".")[0] in ("serving", "ui", "pydantic"):
                waiting += gc.get_referents(one)
    return found


@contextmanager
def living(root: Path, name: str, worker: str, **more: str) -> Iterator[tuple[ServerProcess, str]]:
    """A container's page, in a process of its own with `more` in its environment, and its address."""
    arguments = ["--root", str(root), "--name", name, "--worker", worker]
    with ServerProcess("tests.support.hosted_page", arguments, {"DORMOUSE_PAGE_PASSWORD": ME[1], **more}) as page:
        yield page, page.wait()


@contextmanager
def calls(url: str) -> Iterator[gradio_client.Client]:
    client = gradio_client.Client(url, verbose=False, httpx_kwargs={"auth": ME})
    try:
        yield client
    finally:
        client.close()


def upload(client: gradio_client.Client, *files: Path) -> list[str]:
    """Ids of the pages that were acknowledged."""
    found = client.predict([gradio_client.handle_file(file) for file in files], "c", api_name="/add_pages")
    return [page["id"] for page in found["added"]]


def test_pages_outlive_a_container(tmp_path: Path, scripted: ScriptedWorker) -> None:
    first, second, third = (tmp_path / f"{name}.png" for name in "abc")
    for number, file in enumerate((first, second, third)):
        file.write_bytes(encoded(picture((60 + number, 60))))
    with living(tmp_path, "one", scripted.url) as (page, url):
        with calls(url) as client:
            kept = upload(client, first, second)
            assert client.predict("c", kept[:1], api_name="/delete_pages")["deleted"] == kept[:1]
            (tmp_path / "full").touch()
            with pytest.raises(gradio_client.exceptions.AppError, match="it is full"):
                upload(client, third)
            with pytest.raises(gradio_client.exceptions.AppError, match="it is full"):
                client.predict("c", kept[1:], api_name="/delete_pages")
        page.kill()
    (tmp_path / "full").unlink()
    with living(tmp_path, "two", scripted.url) as (_, url), calls(url) as client:
        hits = client.predict("words", None, "c", api_name="/search")["hits"]
        assert [hit["id"] for hit in hits] == kept[1:]
        assert requests.get(f"{url}/pages/{kept[1]}.webp", auth=ME, timeout=20).status_code == 200
        assert requests.get(f"{url}/pages/{kept[1]}.webp", timeout=20).status_code == 401


@pytest.mark.soak
def test_container_that_is_killed_in_the_middle_of_an_upload(tmp_path: Path, scripted: ScriptedWorker) -> None:
    """Everything that was committed is there in the next one, with its pictures."""
    scripted.embedder.seconds = 0.1
    file = tmp_path / "a.pdf"
    file.write_bytes(pdf([[f"Words of page {n}"] for n in range(80)]))
    with living(tmp_path, "one", scripted.url) as (page, url), calls(url) as client:
        job = client.submit([gradio_client.handle_file(file)], "c", api_name="/add_pages")
        committed = tmp_path / "volume" / "now" / "library-00000001.db"
        until(lambda: committed.is_file() and len(pages_in(committed)) >= 3, 60)
        page.kill()
        with suppress(Exception):  # however the client tells it
            job.result(timeout=30)
    before = pages_in(committed)
    with living(tmp_path, "two", scripted.url) as (_, url), calls(url) as client:
        hits = client.predict("words", None, "c", 50, api_name="/search")["hits"]
        assert {hit["id"] for hit in hits} == before and len(before) < 80
        (job,) = client.predict("c", api_name="/jobs")["jobs"]
        assert (job["state"], job["error"]) == ("failed", "its files are gone: add them again")
        for page_id in before:
            assert requests.get(f"{url}/pages/{page_id}.jpg", auth=ME, timeout=20).status_code == 200


@pytest.mark.soak
def test_with_a_store_the_next_container_goes_on_with_an_upload(
    tmp_path: Path, scripted: ScriptedWorker, postgres: PostgresServer
) -> None:
    """The first one is killed in the middle of it, and its disk and its uploads are gone."""
    scripted.embedder.seconds, pages = 0.1, 40
    address = postgres.address(postgres.create_schema())
    file = tmp_path / "a.pdf"
    file.write_bytes(pdf([[f"Words of page {n}"] for n in range(pages)]))
    with living(tmp_path, "one", scripted.url, DORMOUSE_STORE=address) as (page, url), calls(url) as client:
        job = client.submit([gradio_client.handle_file(file)], "c", api_name="/add_pages")
        until(lambda: len(client.predict("words", None, "c", 50, api_name="/search")["hits"]) >= 3, 60)
        page.kill()
        with suppress(Exception):  # however the client tells it
            job.result(timeout=30)
    shutil.rmtree(tmp_path / "one")
    with living(tmp_path, "two", scripted.url, DORMOUSE_STORE=address) as (_, url), calls(url) as client:
        until(lambda: client.predict("c", api_name="/jobs")["jobs"][0]["state"] == "done", 90)
        (found,) = client.predict("c", api_name="/jobs")["jobs"]
        assert (found["added"], found["skipped"]) == (pages, [])
        assert len(client.predict("words", None, "c", 50, api_name="/search")["hits"]) == pages
    assert not (tmp_path / "volume" / "now").exists() and not (tmp_path / "two" / "disk" / "library.db").exists()


def pages_in(database: Path) -> set[str]:
    try:
        with closing(sqlite3.connect(f"file:{database}?immutable=1", uri=True)) as db:
            return {page_id for (page_id,) in db.execute("SELECT id FROM pages")}
    except sqlite3.Error:  # the next commit took its place
        return set()


def until(condition: Callable[[], bool], seconds: float) -> None:
    ends = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < ends, "waited for too long"
        time.sleep(0.02)


@pytest.mark.usefixtures("small_page")
def test_results_of_runs_are_put_on_the_volume(tmp_path: Path) -> None:
    def page(name: str) -> HostedPage:
        found = HostedPage(
            tmp_path / name, Backup(tmp_path / "kept", lambda: None, lambda: None, OnlyWriter()), [("HF", "modal:app")]
        )
        found.open()
        return found

    first = page("one")
    result = tmp_path / "one" / "runs" / "20260101-000000-abcd" / "cold_start_results_hf.json"
    result.parent.mkdir(parents=True)
    result.write_text("{}")
    (result.parent / "log").write_text("said")
    first.close()
    first.library.close()
    second = page("two")
    assert [path.name for path in (tmp_path / "two" / "runs").glob("*/*")] == ["cold_start_results_hf.json"]
    second.library.close()


@pytest.mark.usefixtures("small_page")
def test_keys_are_read_in_each_life(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = HostedPage(
        tmp_path / "data", Backup(tmp_path / "kept", lambda: None, lambda: None, OnlyWriter()), [("HF", "modal:app")]
    )
    monkeypatch.setenv("DORMOUSE_WORKER_KEY", "new key")
    page.open()
    target = page.service.targets.first
    assert isinstance(target, ModalTarget) and target.client.key == "new key"
    page.library.close()


@pytest.mark.usefixtures("small_page")
def test_page_is_saved_without_a_page_of_anybodys(tmp_path: Path) -> None:
    """What a snapshot would hold: no lock, and nothing of the volume."""
    kept = Library(tmp_path / "kept")
    add(kept, new())
    kept.close()
    page = HostedPage(
        tmp_path / "data", Backup(tmp_path / "kept", lambda: None, lambda: None, OnlyWriter()), [("HF", "modal:app")]
    )
    assert not (tmp_path / "data" / "library.lock").exists()
    page.library.close()  # as after a start that never opened it
