"""The page's routes beside Gradio's: called directly, and over HTTP from the real page."""

from __future__ import annotations

import asyncio
import os
import re
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import orjson
import pytest
import requests
from fastapi import Response
from gradio_client import Client

from tests.support.files import encoded, pdf, picture
from tests.support.libraries import at
from tests.support.page_calls import add_pages, search_pages
from tests.support.repository import SAMPLES
from tests.support.uploads import run, upload
from ui import server
from ui.access.uploads import get_uploads_folder
from ui.core.service import Service
from ui.server import PageRoutes


@pytest.fixture
def routes(service: Service) -> PageRoutes:
    return PageRoutes(service)


def told(response: Response) -> str:
    return str(orjson.loads(bytes(response.body))["error"])


def test_a_picture_has_its_id_and_is_kept_by_the_browser(service: Service, routes: PageRoutes, tmp_path: Path) -> None:
    (page,) = run(service, upload(tmp_path, "a.png", encoded(picture()))).added
    for kind in ("jpg", "webp"):
        found = routes.get_picture(f"{page.id}.{kind}")
        assert found.status_code == 200 and "immutable" in found.headers["cache-control"]
        assert found.headers["x-content-type-options"] == "nosniff"
    for name in (f"{page.id}.png", page.id, "0123456789abcdef.jpg", "../library.db", f"../{page.id}.jpg"):
        assert routes.get_picture(name).status_code == 404 and told(routes.get_picture(name)) == "no such page"


def test_the_original_of_a_pdf_opens_and_all_else_is_saved(
    service: Service, routes: PageRoutes, tmp_path: Path
) -> None:
    hostile = 'a/b"; filename=x.html\r\nSet-Cookie: a=b\u202e.html'
    given = [upload(tmp_path, "f/scan.exe", pdf([["words"]])), upload(tmp_path, hostile, encoded(picture()))]
    pages = {page.original: page for page in run(service, *given).added}
    found = routes.get_original(pages["pdf"].id)
    assert found.status_code == 200 and found.media_type == "application/pdf"
    assert found.headers["content-disposition"] == "inline; filename*=utf-8''scan.exe.pdf"
    assert "content-security-policy" not in found.headers
    saved = routes.get_original(pages["file"].id)
    assert saved.status_code == 200 and saved.headers["content-type"] == "application/octet-stream"
    written = saved.headers["content-disposition"]
    assert re.fullmatch(r"attachment; filename\*=utf-8''[\w.%-]+", written) and written.endswith(".html")
    assert saved.headers["content-security-policy"] == "sandbox; default-src 'none'"
    for answer in (found, saved):
        assert answer.headers["x-content-type-options"] == "nosniff" and "private" in answer.headers["cache-control"]
    for name in ("0" * 16, "../library.db", f"{pages['pdf'].id}.jpg", "\udc80", ""):
        assert told(routes.get_original(name)) == "the original of this page is not here (any more)"
    service.library.delete_pages(at(service.library), [pages["pdf"].id])
    assert routes.get_original(pages["pdf"].id).status_code == 404


def test_an_export_is_downloaded_until_it_is_removed(service: Service, routes: PageRoutes) -> None:
    name = "0" * 32 + ".zip"
    service.exports_folder.mkdir(parents=True)
    (service.exports_folder / name).write_bytes(b"PK")
    found = routes.get_export(name)
    assert found.status_code == 200 and found.headers["content-disposition"] == "attachment"
    assert found.headers["cache-control"] == "no-store"
    (service.exports_folder / name).unlink()
    assert "export again" in told(routes.get_export(name))


def test_only_runs_that_are_there_have_files(routes: PageRoutes) -> None:
    assert told(routes.get_run("20260101-000000-abcd", "exe")) == "a run is .json, .csv or .html"
    for name in ("20260101-000000-abcd", "../library", ""):
        assert routes.get_run(name, "json").status_code == 404


def test_states_are_not_stored_and_an_unknown_server_is_the_first(service: Service, routes: PageRoutes) -> None:
    found = asyncio.run(routes.get_state("no such server"))
    assert found.headers["cache-control"] == "no-store" and orjson.loads(bytes(found.body))["state"] == "unknown"
    assert found.body == asyncio.run(routes.get_state(service.targets.first.name)).body
    assert orjson.loads(bytes(asyncio.run(routes.get_health()).body)) == {"status": "ok"}


def test_old_uploads_and_exports_are_removed(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "TIDY_S", 0.01)
    uploads = get_uploads_folder(service.settings) / ("0" * 64)
    uploads.mkdir(parents=True)
    service.exports_folder.mkdir(parents=True)
    old = [uploads / "old.png", service.exports_folder / ("0" * 32 + ".zip")]
    fresh = [uploads / "fresh.png", service.exports_folder / ("1" * 32 + ".zip")]
    for path in (*old, *fresh):
        path.write_bytes(b"x")
    for path in old:
        os.utime(path, (time.time() - 90_000,) * 2)

    async def tidy() -> None:
        with suppress(asyncio.TimeoutError):
            await asyncio.wait_for(server.tidy_folders(service), 0.3)

    asyncio.run(tidy())
    assert [path.exists() for path in (*old, *fresh)] == [False, False, True, True]


# The real page


@pytest.fixture(scope="module")
def client(page_url: str) -> Iterator[Client]:
    found = Client(page_url, verbose=False)
    yield found
    found.close()


def test_pictures_are_served_by_id_only(page_url: str, client: Client) -> None:
    add_pages(client, "served", SAMPLES / "receipt-corner-larder.jpg")
    hits = search_pages(client, "lamp", "served")
    answer = requests.get(f"{page_url}/pages/{hits[0]['id']}.jpg", timeout=10)
    assert answer.status_code == 200 and answer.headers["Content-Type"] == "image/jpeg"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    for name in ("0123456789abcdef.jpg", "..%2flibrary.db", "x.jpg", f"{hits[0]['id']}.png", "%2e%2e/library.db"):
        assert requests.get(f"{page_url}/pages/{name}", timeout=10).status_code == 404


def test_an_original_is_served_whole_and_in_ranges(page_url: str, client: Client) -> None:
    path = SAMPLES / "handbook-tarnwell-pump.pdf"
    (page, *_) = add_pages(client, "originals", path)["added"]
    url = f"{page_url}/originals/{page['id']}"
    answer = requests.get(url, timeout=10)
    assert answer.content == path.read_bytes() and answer.headers["Content-Type"] == "application/pdf"
    assert answer.headers["Content-Disposition"] == f"inline; filename*=utf-8''{path.name}"
    part = requests.get(url, headers={"Range": "bytes=100-199"}, timeout=10)
    assert part.status_code == 206 and part.content == path.read_bytes()[100:200]
    assert requests.get(url, headers={"Range": "bytes=9999999-"}, timeout=10).status_code == 416
    assert requests.get(url, headers={"Host": "evil.example"}, timeout=10).status_code == 400
    for name in ("0123456789abcdef", "..%2flibrary.db", "%2e%2e%2flibrary.db", "%ff%fe"):
        assert requests.get(f"{page_url}/originals/{name}", timeout=10).status_code == 404
    client.predict("originals", [page["id"]], api_name="/delete_pages")
    assert requests.get(url, timeout=10).status_code == 404


@pytest.mark.parametrize("name", ["0" * 32 + ".zip", "..%2Flibrary.db", "library.db", "x.zip"])
def test_only_exports_are_served(page_url: str, name: str) -> None:
    answer = requests.get(f"{page_url}/exports/{name}", timeout=30)
    assert answer.status_code == 404 and b"SQLite" not in answer.content


def test_other_names_of_this_host_are_refused(page_url: str) -> None:
    assert requests.get(page_url, headers={"Host": "evil.example"}, timeout=10).status_code == 400
    assert requests.get(f"{page_url}/healthz", timeout=10).json() == {"status": "ok"}
