"""Where on the page: a real browser, and a server that sees colours and reads nothing beside one that reads."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from gradio_client import Client
from PIL import Image
from playwright.sync_api import Browser, Page, expect

from serving.http.child_server import ServerProcess
from tests.browser.visit import CONTRAST, LOOKS, Visit
from tests.support.accessibility import serious
from tests.support.corner_pages import cornered
from tests.support.files import encoded
from tests.support.scripted import Coloured, Scripted
from tests.support.servers import make_settings, running

pytestmark = pytest.mark.soak
BUTTON = ".detail .where button"
FILES = {"corner.png": cornered("lower right"), "plain.png": Image.new("RGB", (600, 840), "white")}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Coloured]]:
    folder, sees, reads = tmp_path_factory.mktemp("where"), Coloured(), Scripted()
    with (
        running(sees, make_settings(folder / "sees")) as (seeing, _),
        running(reads, make_settings(folder / "reads")) as (reading, _),
    ):
        options = [f"--worker=sees={seeing}", f"--worker=reads={reading}"]
        with ServerProcess("ui.app", ["--no-browser", "--data", str(folder / "page"), *options]) as page:
            yield page.wait(), sees


@pytest.fixture
def visit(browser: Browser, look: str, site: tuple[str, Coloured]) -> Iterator[Visit]:
    context = browser.new_context(**LOOKS[look])  # type: ignore[arg-type]
    visit = Visit(context, site[0])
    yield visit
    site[1].gate.set()
    context.close()
    assert [fault for fault in visit.faults if not re.search(r"AbortError|errored out", fault)] == []
    assert visit.outside == []


def asked(visit: Visit, url: str, folder: Path, collection: str, server: str = "sees", files: object = FILES) -> Page:
    page = visit.open(f"{url}/?c={collection}&t={server}")
    for name, image in FILES.items():
        (folder / name).write_bytes(encoded(image))
    page.set_input_files("#dropzone input[type=file]", [folder / name for name in FILES])
    expect(page.locator(".progress.done")).to_contain_text("2 pages added")
    page.locator("#ask textarea").fill("what is red")
    page.locator("#search").click()
    expect(page.locator(".detail header h2")).to_have_text(re.compile("corner.png|plain.png"))
    return page


def choose(page: Page, name: str) -> None:
    """Another page than the one that is shown, so that it can be seen when it is there."""
    if page.locator(".detail header h2").inner_text() != name:
        page.locator(".hit", has_text=name).click()
        expect(page.locator(".detail header h2")).to_have_text(name)


def shot(page: Page, name: str) -> None:
    if folder := os.environ.get("SHOTS"):
        page.screenshot(path=f"{folder}/where-{name}.png")


@pytest.mark.parametrize("look", ["desktop", "dark", "phone-dark"], indirect=True)
def test_shown_on_the_page_and_hidden_again(
    visit: Visit, look: str, site: tuple[str, Coloured], tmp_path: Path
) -> None:
    url, double = site
    page = asked(visit, url, tmp_path, look)
    choose(page, "corner.png")
    double.gate.clear()
    page.locator(BUTTON).focus()
    page.keyboard.press("Enter")
    expect(page.locator(".detail .where [role=status]")).to_have_text("Looking at 12 parts of the page…")
    shot(page, f"{look}-looking")
    double.gate.set()
    told = page.locator(".detail .where.found")
    expect(told).to_contain_text("Best part: lower right")
    expect(told).to_contain_text("An estimate: the page was cut into 12 parts and each was ranked on its own.")

    shot(page, look)
    sheet, best = (page.locator(at).bounding_box() for at in (".detail .sheet img", ".detail .parts .best"))
    assert sheet and best
    right, bottom = sheet["x"] + sheet["width"], sheet["y"] + sheet["height"]
    assert best["x"] + best["width"] == pytest.approx(right, abs=3)
    assert best["y"] + best["height"] == pytest.approx(bottom, abs=3)
    assert best["width"] == pytest.approx(sheet["width"] * 1.25 / 3.25, abs=6)
    assert best["height"] == pytest.approx(sheet["height"] * 1.25 / 4.25, abs=6)
    assert serious(page) == [] and page.evaluate(CONTRAST, ".detail .where small") >= 4.5
    assert visit.width <= page.viewport_size["width"], "the page scrolls sideways"  # type: ignore[index]
    shot(page, look)

    toggle = told.get_by_role("checkbox", name="Show it on the page")
    expect(toggle).to_be_focused()
    page.keyboard.press("Space")
    expect(page.locator(".detail .parts")).to_be_hidden()
    page.keyboard.press("Space")
    expect(page.locator(".detail .parts")).to_be_visible()


@pytest.mark.parametrize("look", ["phone"], indirect=True)
def test_an_answer_that_comes_late_takes_no_page_away(visit: Visit, site: tuple[str, Coloured], tmp_path: Path) -> None:
    url, double = site
    page = asked(visit, url, tmp_path, "late")
    choose(page, "corner.png")
    double.gate.clear()
    page.locator(BUTTON).click()
    expect(page.locator(".detail .where [role=status]")).to_contain_text("Looking at")
    choose(page, "plain.png")
    page.locator(BUTTON).click()
    expect(page.locator(".detail .where [role=status]")).to_contain_text("Looking at")
    double.gate.set()
    expect(page.locator(".detail .where.found")).to_contain_text("No part stands out")
    expect(page.locator(".detail header h2")).to_have_text("plain.png")
    expect(page.locator(".detail .parts")).to_have_count(0)

    double.fingerprint = "coloured-2"
    try:
        choose(page, "corner.png")
        for _ in range(2):  # the same words again
            page.locator(BUTTON).click()
            expect(page.locator(".detail .notice.error")).to_contain_text("asked of another embedder")
            expect(page.locator(".detail .where [role=status]")).to_be_empty()
        expect(page.locator(".detail .sheet img")).to_be_visible()
        expect(page.locator(BUTTON)).to_be_focused()
        shot(page, "error")
    finally:
        double.fingerprint = Coloured.fingerprint
    page.locator(BUTTON).click()
    expect(page.locator(".detail .where.found")).to_contain_text("Best part: lower right")
    expect(page.locator(".detail .notice")).to_have_count(0)

    choose(page, "plain.png")
    page.route("**/queue/join*", lambda route: route.fulfill(status=500, body="{}"))
    page.locator(BUTTON).click()
    expect(page.locator(".detail .where [role=status]")).to_have_text("That did not work. Try again.")
    page.unroute("**/queue/join*")
    visit.faults.clear()  # the browser's own word of it
    page.locator(BUTTON).click()
    expect(page.locator(".detail .where.found")).to_contain_text("No part stands out")


@pytest.mark.parametrize("look", ["desktop"], indirect=True)
def test_no_such_button_where_lines_are_read(visit: Visit, site: tuple[str, Coloured], tmp_path: Path) -> None:
    page = asked(visit, site[0], tmp_path, "read", "reads")
    expect(page.locator(".detail [data-like]")).to_be_visible()
    expect(page.locator(BUTTON)).to_have_count(0)


@pytest.mark.parametrize("look", ["desktop"], indirect=True)
def test_the_api_answers_the_same(visit: Visit, site: tuple[str, Coloured], tmp_path: Path) -> None:
    page = asked(visit, site[0], tmp_path, "api")
    choose(page, "corner.png")
    page_id = page.locator(BUTTON).get_attribute("data-where")
    client = Client(site[0], verbose=False)
    found = client.predict("red", page_id, "api", api_name="/where")
    client.close()
    assert set(found) == {"tiles", "best", "note", "timings"} and len(found["tiles"]) == 12 and found["best"] == 11
    assert found["tiles"][11]["box"][2:] == [1, 1] and found["tiles"][0]["box"][:2] == [0, 0]
