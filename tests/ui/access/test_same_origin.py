"""A page of another site, as its browser sends it: it may link to this page and change nothing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import gradio_client
import pytest
import requests

from serving.http.child_server import ServerProcess
from tests.support.files import encoded, picture
from tests.support.scripted import Scripted
from tests.support.servers import make_settings, running

PASSWORD = "correct horse battery"
FOREIGN = [
    {"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"},
    {"Origin": "http://localhost:9", "Sec-Fetch-Site": "same-site"},
    {"Origin": "https://evil.example"},
    {"Origin": "null"},
    {"Origin": "http://[::1"},
    {"Sec-Fetch-Site": "cross-site"},
]
ROUTES = ["upload", "queue/join", "call/add_pages", "call/v2/search", "run/scaledown", "api/delete_pages", "cancel"]


class Site:
    def __init__(self, url: str, data: Path, auth: tuple[str, str] | None) -> None:
        self.url, self.data, self.auth = url, data, auth

    @property
    def host(self) -> str:
        return self.url.partition("://")[2]

    def ask(self, method: str, path: str, headers: dict[str, str], **more: object) -> requests.Response:
        return requests.request(
            method,
            f"{self.url}/{path}",
            headers=headers,
            auth=self.auth,
            timeout=30,
            **more,  # type: ignore[arg-type]
        )

    def upload(self, headers: dict[str, str]) -> requests.Response:
        png = encoded(picture((40, 30)))
        return self.ask("POST", "gradio_api/upload", headers, files={"files": ("a.png", png)})


@pytest.fixture(scope="module", params=["", PASSWORD])
def site(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("site")
    words = ["--no-browser", "--data", str(folder / "page"), "--worker"]
    with (
        running(Scripted(), make_settings(folder / "worker")) as (worker, _),
        ServerProcess("ui.app", [*words, worker], {"DORMOUSE_PAGE_PASSWORD": request.param}) as page,
    ):
        yield Site(page.wait(), folder / "page", ("dormouse", request.param) if request.param else None)


@pytest.mark.parametrize("headers", FOREIGN, ids=str)
def test_another_site_changes_nothing(site: Site, headers: dict[str, str]) -> None:
    before = sorted(site.data.rglob("*"))
    assert site.upload(headers).status_code == 403
    for route in ROUTES:
        answer = site.ask("POST", f"gradio_api/{route}", headers, json={"data": []})
        assert answer.status_code == 403 and "another site" in answer.json()["error"], route
    for method in ("POST", "PUT", "DELETE", "OPTIONS"):
        assert site.ask(method, "", headers).status_code == 403
    assert sorted(site.data.rglob("*")) == before


def test_another_site_is_not_told_that_it_may_ask(site: Site) -> None:
    asking = {"Origin": "http://localhost:9", "Access-Control-Request-Method": "POST"}
    answer = site.ask("OPTIONS", "gradio_api/upload", asking)
    assert answer.status_code == 403 and "Access-Control-Allow-Origin" not in answer.headers
    assert site.ask("GET", "status/events", {"Origin": "https://evil.example"}).status_code == 403


def test_links_lead_here(site: Site) -> None:
    link = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
    assert site.ask("GET", "?q=words", link).status_code == 200
    assert site.ask("POST", "?q=words", link).status_code == 403


def test_the_page_itself_and_programs_are_let_in(site: Site) -> None:
    for headers in (
        {},  # curl
        {"Origin": site.url},
        {"Origin": site.url.upper(), "Sec-Fetch-Site": "same-origin"},
        {"Origin": "https://pages.example", "Sec-Fetch-Site": "same-origin"},  # a proxy that asks under its own name
        {"Origin": "https://pages.example", "X-Forwarded-Host": "pages.example, inner"},
        {"Origin": "https://pages.example", "Host": site.host, "X-Forwarded-Host": "PAGES.example"},
    ):
        assert site.upload(headers).status_code == 200, headers


def test_gradio_client_is_let_in(site: Site, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(encoded(picture((50, 30))))
    client = gradio_client.Client(site.url, verbose=False, httpx_kwargs={"auth": site.auth} if site.auth else {})
    added = client.predict([gradio_client.handle_file(tmp_path / "a.png")], "c", api_name="/add_pages")["added"]
    client.close()
    assert len(added) == 1
