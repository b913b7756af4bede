"""A newcomer: an empty data folder, one click, a question. The real page with its real worker."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import expect

from serving.http.child_server import ServerProcess
from tests.browser.visit import Visit
from tests.support.repository import SAMPLES

pytestmark = pytest.mark.soak


@pytest.fixture
def page_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    words = ["--no-browser", "--data", str(tmp_path_factory.mktemp("fresh"))]
    with ServerProcess("ui.app", words) as page:
        yield page.wait()


@pytest.mark.timeout(400)
@pytest.mark.parametrize("look", ["desktop", "phone-dark"], indirect=True)
def test_one_click_then_a_question(visit: Visit, page_url: str) -> None:
    page = visit.open(page_url)
    page.click("#samples")
    expect(page.locator(".progress.done")).to_contain_text("32 pages added in")
    expect(page.locator(".files > summary")).to_have_text("32 pages from 26 files")
    expect(page.locator("#shipped")).to_contain_text("These vectors were shipped with Dormouse")
    page.locator("#ask textarea").fill("how heavy is the pump?")
    page.locator("#ask textarea").press("Enter")
    expect(page.locator(".hit").first).to_contain_text("handbook-tarnwell-pump.pdf")
    expect(page.locator(".detail .sheet img")).to_be_visible()
    assert visit.width <= page.viewport_size["width"], "the page scrolls sideways"  # type: ignore[index]

    link = page.locator(".detail .links a", has_text="original")
    expect(link).to_have_text("Open the original")
    address = str(link.get_attribute("href"))
    shown = int(str(page.locator(".detail header p").text_content()).partition("page ")[2].partition(" ")[0])
    assert address.endswith(f"#page={shown}") and link.get_attribute("rel") == "noopener"
    original = page.request.get(f"{page_url}{address.partition('#')[0]}")
    assert original.body() == (SAMPLES / "handbook-tarnwell-pump.pdf").read_bytes()
    assert original.headers["content-type"] == "application/pdf"

    page.click("#samples")
    expect(page.locator(".progress.done")).to_contain_text("The sample pages are all here")
    again = page.locator("#shipped [data-again]")
    again.focus()
    page.keyboard.press("Enter")
    expect(page.locator("#progress")).to_contain_text("of 32")
    expect(page.locator("#shipped")).to_be_empty()
    page.click("#cancel")
    expect(page.locator(".progress.done")).to_contain_text("Cancelled")
