"""Collections as a person keeps them: in a real browser, on the real page."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from serving.http.child_server import ServerProcess
from serving.library.exporting import export_collection
from serving.library.library import Library
from tests.browser.visit import LOOKS, Visit
from tests.support.files import encoded, pdf, picture
from tests.support.libraries import add, at, new
from tests.support.scripted import Scripted
from tests.support.servers import make_settings, running
from tests.support.zips import zipped

pytestmark = pytest.mark.soak
NASTY = "<img src=x onerror=document.title='hacked'>"


@pytest.fixture(scope="module")
def embedder() -> Scripted:
    return Scripted()


@pytest.fixture(scope="module")
def keep_url(tmp_path_factory: pytest.TempPathFactory, embedder: Scripted) -> Iterator[str]:
    """A page that is open to everybody, whose worker reads at once."""
    with running(embedder, make_settings(tmp_path_factory.mktemp("worker"))) as (url, _):
        words = ["--no-browser", "--host", "0.0.0.0", "--worker", url]  # noqa: S104
        with ServerProcess("ui.app", [*words, "--data", str(tmp_path_factory.mktemp("data"))]) as page:
            yield page.wait().replace("0.0.0.0", "127.0.0.1")  # noqa: S104


def visited(browser: Browser, url: str, look: str = "desktop") -> Visit:
    context = browser.new_context(accept_downloads=True, **LOOKS[look])  # type: ignore[arg-type]
    return Visit(context, url)


@pytest.fixture
def visit(browser: Browser, look: str, keep_url: str) -> Iterator[Visit]:
    visit = visited(browser, keep_url, look)
    yield visit
    visit.page.context.close()
    assert [fault for fault in visit.faults if not re.search(r"AbortError|errored out", fault)] == []
    assert visit.outside == []


def added(page: Page, pages: int) -> None:
    expect(page.locator(".progress.done")).to_contain_text(f"{pages} page{'s' * (pages > 1)} added")


def see_as_another_visitor(browser: Browser, url: str, link: str) -> None:
    other = visited(browser, url)  # somebody else, with the link
    other.open(url + link)
    expect(other.page.locator("#collection input")).to_have_value(f"House {NASTY} (shared with you)")
    expect(other.page.locator(".files > summary")).to_have_text("3 pages from 2 files")
    other.open(url)  # and without it
    expect(other.page.locator("#collection input")).to_have_value("my-pages")
    expect(other.page.locator("#files .empty")).to_be_visible()
    other.page.context.close()


def export_and_import(page: Page, file: Path) -> None:
    page.click("#export")
    with page.expect_download() as downloading:
        page.click("#kept a")
    downloading.value.save_as(file)
    page.locator("#keeping input[type=file]").set_input_files(file)
    expect(page.locator("#kept .notice")).to_contain_text("3 pages imported")
    expect(page.locator("#collection input")).to_have_value(f"House {NASTY} (2)")
    expect(page.locator(".files > summary")).to_have_text("3 pages from 2 files")


@pytest.mark.parametrize("look", ["desktop", "phone-dark"], indirect=True)
def test_zip_rename_share_move_export_import_delete(
    visit: Visit, browser: Browser, keep_url: str, look: str, tmp_path: Path
) -> None:
    archive = tmp_path / "papers.zip"
    document = pdf([["Words of the first page"], ["Words of the second"]])
    files = {f"may/{NASTY}.png": encoded(picture((90, 60))), "june/manual.pdf": document, "inner.zip": zipped({})}
    archive.write_bytes(zipped(files))
    page = visit.open(keep_url)
    page.set_input_files("#dropzone input[type=file]", [archive])
    added(page, 3)
    expect(page.locator(".skipped")).to_contain_text("papers.zip/inner.zip: a zip inside a zip is not opened")

    page.click("#keeping > button")
    expect(page.locator(".kept")).to_contain_text("for 1,000 pages")
    page.fill("#collection-name :is(input, textarea)", f"House {NASTY}")
    page.click("#rename")
    expect(page.locator("#kept .notice")).to_contain_text("The collection is now called House <img")
    page.wait_for_url(re.compile(r"c=c-[0-9a-f]{32}"))
    expect(page.locator("#collection input")).to_have_value(f"House {NASTY}")
    link = str(page.locator(".kept .link a").get_attribute("href"))
    assert link in page.url

    see_as_another_visitor(browser, keep_url, link)
    export_and_import(page, tmp_path / "house.zip")

    page.click("#collection input")
    page.fill("#collection input", f"attic {look}")
    page.keyboard.press("Enter")
    expect(page.locator("#files .empty")).to_be_visible()
    page.goto(keep_url + link)
    expect(page.locator(".files > summary")).to_be_visible()
    page.click("#keeping > button")
    page.click("#move-files input")
    page.locator("#move-files [role=option]").filter(has_text="manual.pdf").click()
    page.keyboard.press("Escape")
    page.click("#move-to input")
    page.locator("#move-to [role=option]").filter(has_text="attic").click()
    page.click("#move")
    expect(page.locator("#kept .notice")).to_contain_text("2 pages moved")
    expect(page.locator(".files > summary")).to_have_text("1 page from 1 file")

    page.locator(".files > summary").click()
    page.locator(".files > .confirm summary").click()
    page.locator(".files > .confirm .danger").click()
    expect(page.locator("#files .empty")).to_be_visible()
    page.goto(keep_url + link)
    expect(page.locator(".notice")).to_contain_text("This collection does not exist")
    assert page.title() == "Dormouse" and page.locator("img[src=x]").count() == 0
    assert visit.width <= page.viewport_size["width"], "the page scrolls sideways"  # type: ignore[index]


@pytest.mark.parametrize("look", ["desktop"], indirect=True)
def test_folder_is_added_with_its_folders(visit: Visit, keep_url: str, tmp_path: Path) -> None:
    for name in ("a.png", "deep/b.png", "deep/.DS_Store"):
        path = tmp_path / "scans" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encoded(picture((40 + len(name), 30))))
    page = visit.open(keep_url)
    page.locator("#pages-panel input[webkitdirectory]").set_input_files(tmp_path / "scans")
    added(page, 2)
    expect(page.locator(".skipped")).to_have_count(0)
    expect(page.locator(".files > summary")).to_have_text("2 pages from 2 files")


@pytest.mark.parametrize("look", ["desktop"], indirect=True)
def test_what_goes_wrong_is_told(visit: Visit, keep_url: str, tmp_path: Path) -> None:
    page = visit.open(keep_url)
    page.click("#keeping > button")
    page.click("#move")
    expect(page.locator("#kept .notice.error")).to_contain_text("choose files")
    (tmp_path / "no.zip").write_bytes(b"PK\x03\x04 no")
    page.locator("#keeping input[type=file]").set_input_files(tmp_path / "no.zip")
    expect(page.locator("#kept .notice.error")).to_contain_text("the zip is damaged")
    page.fill("#collection-name :is(input, textarea)", " ")
    page.click("#rename")
    expect(page.locator("#kept .notice.error")).to_contain_text("1 to 80 printable characters")


@pytest.mark.parametrize("look", ["phone-dark"], indirect=True)
def test_a_long_import_tells_how_far_it_is_and_can_be_stopped(visit: Visit, keep_url: str, tmp_path: Path) -> None:
    library, image = Library(tmp_path / "library"), encoded(picture((900, 1200)), "JPEG")
    for number in range(1, 401):
        kept = new("long.pdf", number, 2560, picture=image, sha256="0" * 64, pages=400)
        add(library, kept, "long", "scripted-1")
    archive = export_collection(library, at(library, "long"), tmp_path, make_settings(tmp_path)).path
    library.close()
    page = visit.open(f"{keep_url}/?c=stopped")
    page.click("#keeping > button")
    page.locator("#keeping input[type=file]").set_input_files(archive)
    expect(page.locator("#kept .progress")).to_contain_text(re.compile(r"Importing: page \d+ of 400"))
    page.click("#stop-keeping")
    expect(page.locator("#kept .notice.error")).to_contain_text("it was stopped")
    expect(page.locator("#stop-keeping")).to_be_hidden()
    page.click("#collection input")
    expect(page.get_by_role("option", name="stopped")).to_be_visible()
    assert page.get_by_role("option", name="long").count() == 0


@pytest.mark.parametrize("look", ["desktop"], indirect=True)
def test_a_collection_that_somebody_else_deletes_or_renames_during_an_upload(
    visit: Visit, browser: Browser, keep_url: str, embedder: Scripted, tmp_path: Path
) -> None:
    """Who adds pages is told, and sees them where they are; nothing comes back."""
    document = tmp_path / "long.pdf"
    document.write_bytes(pdf([[f"Words of page number {n}"] for n in range(12)]))
    page, other = visit.open(keep_url), visited(browser, keep_url)
    for renames in (True, False):
        embedder.gate.clear()
        page.set_input_files("#dropzone input[type=file]", [document])
        expect(page.locator(".progress[role=status]:not(.done)")).to_contain_text("of 12")
        page.wait_for_url(re.compile(r"c=c-[0-9a-f]{32}"))
        link = page.url
        other.open(link)
        if renames:
            other.page.click("#keeping > button")
            other.page.fill("#collection-name :is(input, textarea)", "renamed")
            other.page.click("#rename")
            expect(other.page.locator("#kept .notice")).to_contain_text("The collection is now called renamed")
        else:
            other.page.locator(".files > summary").click()
            other.page.locator(".files > .confirm summary").click()
            other.page.locator(".files > .confirm .danger").click()
            expect(other.page.locator("#collection input")).to_have_value("my-pages")
        embedder.gate.set()
        if renames:
            added(page, 12)
            expect(page.locator("#collection input")).to_have_value("renamed")
            document.write_bytes(pdf([[f"Other words of page number {n}"] for n in range(12)]))
    expect(page.locator(".notice.error")).to_contain_text("The collection was deleted")
    expect(page.locator("#collection input")).to_have_value("my-pages")
    other.open(link)
    expect(other.page.locator(".notice")).to_contain_text("This collection does not exist")
    other.page.context.close()
