"""What others change shows without a reload: two browsers on one page, and two pages on one store."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from serving.http.child_server import ServerProcess
from tests.browser.visit import LOOKS, Visit
from tests.support.files import encoded, pdf, picture
from tests.support.postgres import PostgresServer
from tests.support.scripted import Scripted
from tests.support.servers import make_settings, running

pytestmark = pytest.mark.soak


@pytest.fixture
def scripted_url(tmp_path: Path) -> Iterator[tuple[str, Scripted]]:
    embedder = Scripted()
    with running(embedder, make_settings(tmp_path / "worker")) as (url, _):
        yield url, embedder
        embedder.gate.set()


@pytest.fixture(params=["one page", "two pages on a store"])
def urls(
    request: pytest.FixtureRequest, scripted_url: tuple[str, Scripted], tmp_path: Path
) -> Iterator[tuple[str, str]]:
    """The addresses at which two people look at the same collections."""
    arguments = ["--no-browser", "--worker", f"scripted={scripted_url[0]}"]
    with ExitStack() as stack:
        if request.param == "one page":
            process = ServerProcess("ui.app", [*arguments, "--data", str(tmp_path / "data")])
            url = stack.enter_context(process).wait()
            yield url, url
            return
        postgres: PostgresServer = request.getfixturevalue("postgres")
        store = {"DORMOUSE_STORE": postgres.address(postgres.create_schema())}
        pages = [
            stack.enter_context(ServerProcess("ui.app", [*arguments, "--data", str(tmp_path / name)], store))
            for name in ("first", "second")
        ]
        first, second = (page.wait() for page in pages)
        yield first, second


@pytest.fixture
def visits(browser: Browser, urls: tuple[str, str]) -> Iterator[tuple[Visit, Visit]]:
    first, second = (Visit(browser.new_context(**LOOKS["desktop"]), url) for url in urls)  # type: ignore[arg-type]
    yield first, second
    for visit in (first, second):
        visit.page.context.close()
        assert visit.faults == [] and visit.outside == []


def test_what_one_adds_and_deletes_the_other_sees(
    visits: tuple[Visit, Visit], scripted_url: tuple[str, Scripted], tmp_path: Path
) -> None:
    embedder = scripted_url[1]
    files = [tmp_path / "manual.pdf", tmp_path / "photo.png"]
    files[0].write_bytes(pdf([[f"Words of page {n}"] for n in range(1, 4)]))
    files[1].write_bytes(encoded(picture(text="photo")))
    first, second = (visit.open(f"{visit.url}/?c=house") for visit in visits)
    expect(second.locator("#files")).to_contain_text("No pages in this collection yet")

    embedder.gate.clear()
    first.set_input_files("#dropzone input[type=file]", files)
    expect(second.locator("#progress")).to_contain_text("of 4", timeout=10_000)
    expect(second.locator("#pause")).to_be_visible()
    second.get_by_role("button", name="Pause", exact=True).click()
    expect(first.locator("#pause")).to_have_text("Resume", timeout=10_000)
    second.get_by_role("button", name="Resume", exact=True).click()
    expect(first.locator("#pause")).to_have_text("Pause", timeout=10_000)
    second.locator("#collection input").fill("a name that is being ty")
    embedder.gate.set()
    expect(second.locator("#files")).to_contain_text("4 pages from 2 files", timeout=10_000)
    expect(second.locator("#progress")).to_contain_text("4 pages added", timeout=10_000)
    expect(second.locator("#collection input")).to_have_value("a name that is being ty")
    second.locator("#collection input").fill("house")
    second.locator("#collection input").press("Enter")

    second.locator("#ask textarea").fill("photo")
    second.get_by_role("button", name="Search", exact=True).click()
    expect(second.locator("#gallery [data-page]")).to_have_count(4)
    second.locator("#files .files > summary").click()
    first.locator("#files .files > summary").click()
    item = first.locator("#files li", has_text="photo.png")
    item.locator(".confirm summary").click()
    item.get_by_role("button", name="Yes, delete").click()
    expect(second.locator("#files")).to_contain_text("3 pages from 1 file", timeout=10_000)
    expect(second.locator("#files li", has_text="manual.pdf")).to_be_visible()  # it stays open
    expect(second.locator("#gallery [data-page]")).to_have_count(3, timeout=10_000)

    first.locator(".confirm summary", has_text="Delete this collection").click()
    first.get_by_role("button", name="Yes, delete all").click()
    expect(second.locator("#summary")).to_contain_text("This collection was deleted", timeout=10_000)
    expect(second.locator("#files")).to_contain_text("No pages in this collection yet")
    expect(first.locator("#files")).to_contain_text("No pages in this collection yet")
    first.wait_for_timeout(1500)
    expect(first.locator("#summary")).not_to_contain_text("was deleted")
