"""A web page of another site, in a real browser, beside the page: it is refused, and a link to the page works."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from serving.http.child_server import ServerProcess
from tests.support.scripted import Scripted
from tests.support.servers import make_settings, running

pytestmark = pytest.mark.soak
SENDS = """async (url) => {
  const form = new FormData();
  form.append('files', new File(['words'], 'a.txt'));
  const sent = await fetch(`${url}/gradio_api/upload`, {method: 'POST', body: form, mode: 'no-cors'});
  return sent.type;
}"""
ASKS = """async (url) => {
  const sent = await fetch(`${url}/gradio_api/call/search`, {
    method: 'POST', headers: {'Content-Type': 'application/json'}, body: '{"data": []}'}).catch(() => null);
  return sent === null ? 'refused' : 'sent';
}"""


class Other(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(b"<!doctype html><title>another site</title><a>to the page</a>")

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def other() -> Iterator[int]:
    """A port of this machine that another site's page comes from."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Other) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


@pytest.fixture
def site(tmp_path: Path) -> Iterator[str]:
    words = ["--no-browser", "--data", str(tmp_path / "page"), "--worker"]
    with (
        running(Scripted(), make_settings(tmp_path / "worker")) as (worker, _),
        ServerProcess("ui.app", [*words, worker]) as page,
    ):
        yield page.wait()


def uploaded(folder: Path) -> list[Path]:
    return [path for path in (folder / "page" / "uploads").rglob("*") if path.is_file()]


def test_another_site_can_link_here_and_send_nothing(browser: Browser, site: str, other: int, tmp_path: Path) -> None:
    page = browser.new_page()
    port = site.rsplit(":", 1)[1]
    # Another site, and another port of this one: browsers call the second the same site, but another origin.
    for name, mine in (("localhost", "127.0.0.1"), ("localhost", "localhost"), ("127.0.0.1", "127.0.0.1")):
        url = f"http://{mine}:{port}"
        before = uploaded(tmp_path)
        page.goto(f"http://{name}:{other}/")
        assert page.evaluate(SENDS, url) == "opaque"
        assert page.evaluate(ASKS, url) == "refused"
        assert uploaded(tmp_path) == before
        page.evaluate("(url) => { document.querySelector('a').href = url }", url)
        page.locator("a").click()
        page.locator("#dropzone input[type=file]").set_input_files(
            {"name": f"{name} {mine}.txt", "mimeType": "text/plain", "buffer": b"words"}
        )
        # The upload of an earlier turn may be shown as well: the cookie is that of the host.
        expect(page.locator(".progress.done", has_text=f"{name} {mine}.txt")).to_be_visible()
    page.close()
