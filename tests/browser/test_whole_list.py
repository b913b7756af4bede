"""All that one does with pages, one thing after another: with a mouse, on a phone, in the dark, and by keys alone."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from serving.http.child_server import ServerProcess
from tests.browser.visit import LOOKS, Visit
from tests.support.files import encoded, pdf, picture
from tests.support.scripted import Scripted
from tests.support.servers import make_settings, running
from tests.support.zips import zipped

pytestmark = pytest.mark.soak
TABS = 150
"""More than the page has places to stop at."""
HELD = "(element) => element === document.activeElement || element.contains(document.activeElement)"


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("list")
    words = ["--no-browser", "--data", str(folder / "page"), "--worker"]
    with (
        running(Scripted(), make_settings(folder / "worker")) as (worker, _),
        ServerProcess("ui.app", [*words, worker]) as page,
    ):
        yield page.wait()


@dataclass
class Hand:
    """Of a person: `keys` has no other way to a control than Tab, and none to use it than a key."""

    page: Page
    keys: bool
    name: str
    """A collection's, for this run."""

    def reach(self, control: Locator) -> None:
        expect(control).to_be_visible()
        for _ in range(TABS):
            if control.evaluate(HELD):
                return
            self.page.keyboard.press("Tab")
        raise AssertionError(f"no way by Tab to {control}")

    def use(self, control: Locator) -> None:
        if not self.keys:
            control.click()
            return
        self.reach(control)
        self.page.keyboard.press("Enter")

    def write(self, control: Locator, text: str) -> None:
        if not self.keys:
            control.fill(text)
            return
        self.reach(control)
        self.page.keyboard.press("ControlOrMeta+a")
        self.page.keyboard.type(text)

    def choose(self, control: Locator, option: str) -> None:
        """Of a list that opens when it is reached."""
        wanted = self.page.get_by_role("option").filter(has_text=option).first
        if not self.keys:
            control.click()
            wanted.click()
            return
        self.reach(control)
        expect(wanted).to_be_visible()
        for _ in range(9):
            at = control.get_attribute("aria-activedescendant")
            if at == wanted.get_attribute("id"):
                self.page.keyboard.press("Enter")
                return
            self.page.keyboard.press("ArrowDown")
            expect(control).not_to_have_attribute("aria-activedescendant", at or "none")
        raise AssertionError(f"no way by arrows to {option}")

    def give(self, control: Locator, files: list[Path]) -> None:
        with self.page.expect_file_chooser() as chooser:
            self.use(control)
        chooser.value.set_files(files)

    def set(self, control: Locator, value: str) -> None:
        self.write(control, value)
        self.page.keyboard.press("Tab")


@pytest.fixture(params=["desktop", "phone", "dark", "keys"])
def hand(request: pytest.FixtureRequest, browser: Browser, url: str) -> Iterator[Hand]:
    look = "desktop" if request.param == "keys" else request.param
    context = browser.new_context(**{**LOOKS[look], "accept_downloads": True})  # type: ignore[arg-type]
    visit = Visit(context, url)
    page = visit.open(f"{url}/?c=list-{request.param}")
    yield Hand(page, request.param == "keys", request.param)
    assert visit.width <= page.viewport_size["width"], "the page scrolls sideways"  # type: ignore[index]
    context.close()
    assert [fault for fault in visit.faults if not re.search(r"AbortError|errored out", fault)] == []
    assert visit.outside == []


def test_the_whole_list(hand: Hand, tmp_path: Path) -> None:
    for part in (adds, asks, narrows, asks_many, keeps, deletes):
        part(hand, tmp_path)
    for tab, found in (("About", ".about h2"), ("Cold starts", "#bench-report iframe"), ("Search", "#ask")):
        hand.use(hand.page.get_by_role("tab", name=tab, exact=True))
        expect(hand.page.locator(found).first).to_be_visible()


def adds(hand: Hand, folder: Path) -> None:
    archive = folder / "papers.zip"
    lines = [["the pool is open from May to September"], ["the boiler is in the cellar"]]
    archive.write_bytes(zipped({"house/manual.pdf": pdf(lines), "house/a.png": encoded(picture((90, 60)))}))
    (folder / "b.png").write_bytes(encoded(picture((70, 70))))
    hand.give(hand.page.locator("#dropzone button").first, [archive, folder / "b.png"])
    expect(hand.page.locator(".progress.done")).to_contain_text("4 pages added")


def asks(hand: Hand, folder: Path) -> None:
    page = hand.page
    hits, told = page.locator(".hit"), page.locator(".detail header p")
    hand.write(page.locator("#ask textarea"), "when can I swim?")
    page.keyboard.press("Enter")
    expect(hits).to_have_count(4)
    hand.use(hits.nth(2))
    expect(told).to_contain_text("#3")
    hand.use(page.locator(".detail [data-like]"))
    expect(page.locator(".summary")).to_contain_text("3 pages like")
    hand.use(page.locator("#refine > button"))
    hand.give(page.locator("#ask-image button").first, [folder / "b.png"])
    expect(page.locator(".hit .name").first).not_to_be_empty()
    hand.set(page.locator("#weight input[type=number]"), "100")
    hand.use(page.locator("#search"))
    expect(page.locator(".hit .name").first).to_have_text("b.png")
    expect(told).to_contain_text("score 1.000")
    hand.set(page.locator("#minimum input[type=number]"), "0.9")
    hand.use(page.locator("#search"))
    expect(page.locator(".summary")).to_contain_text("3 hidden below the minimum")
    hand.set(page.locator("#minimum input[type=number]"), "0")
    hand.use(page.locator("#ask-image").get_by_role("button", name="Remove Image"))
    hand.use(page.locator("#search"))
    expect(hits).to_have_count(4)


def narrows(hand: Hand, folder: Path) -> None:
    page = hand.page
    hand.choose(page.locator("#only-files input"), "manual.pdf")
    expect(page.locator(".hit")).to_have_count(2)
    expect(page.locator(".summary")).to_contain_text("of 2 that pass the filter, of 4")
    hand.choose(page.locator("#dimension input"), "768")
    expect(page.locator(".summary")).to_contain_text("compared in 768 dimensions")


def asks_many(hand: Hand, folder: Path) -> None:
    page = hand.page
    hand.use(page.locator("#many > button"))
    hand.write(page.locator("#questions textarea"), "the pool\nthe boiler")
    hand.use(page.locator("#score"))
    expect(page.locator(".heat tbody tr")).to_have_count(2)
    assert saved(hand, page.locator("#save-scores")).read_text(encoding="utf-8-sig").count("\n") == 3


def saved(hand: Hand, control: Locator) -> Path:
    with hand.page.expect_download() as download:
        hand.use(control)
    return Path(download.value.path())


def keeps(hand: Hand, folder: Path) -> None:
    page, told = hand.page, hand.page.locator("#kept .notice")
    hand.use(page.locator("#keeping > button"))
    expect(page.locator(".kept")).to_contain_text("for 1,000 pages")
    hand.write(page.locator("#collection-name :is(input, textarea)"), f"house of {hand.name}")
    hand.use(page.locator("#rename"))
    expect(told).to_contain_text("The collection is now called")
    hand.use(page.locator("#export"))
    expect(told).to_contain_text("4 pages")
    archive = folder / "house.zip"
    archive.write_bytes(saved(hand, page.locator("#kept a")).read_bytes())
    hand.give(page.locator("#import"), [archive])
    expect(told).to_contain_text("4 pages imported")
    expect(page.locator("#collection input")).to_have_value(re.compile(r"\(\d\)$"))


def deletes(hand: Hand, folder: Path) -> None:
    page = hand.page
    hand.write(page.locator("#ask textarea"), "when can I swim?")
    page.keyboard.press("Enter")
    expect(page.locator(".hit")).to_have_count(4)
    confirmed(hand, page.locator(".detail"))
    expect(page.locator(".files > summary")).to_contain_text("3 pages")
    hand.use(page.locator(".files > summary"))
    confirmed(hand, page.locator(".files > .confirm"), "summary")
    expect(page.locator("#files .empty")).to_be_visible()


def confirmed(hand: Hand, place: Locator, control: str = ".confirm summary") -> None:
    hand.use(place.locator(control).first)
    hand.use(place.locator(".danger").first)
