"""First results from the text of the pages while a server starts, and how its ranking takes their place."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from playwright.sync_api import Browser, Page, expect

from bench.speed.slow_door import SlowDoor
from serving.documents.page import Line
from serving.http.child_server import ServerProcess
from serving.library.library import Library
from tests.browser.visit import LOOKS
from tests.support.engines import EngineProcess
from tests.support.files import encoded, picture
from tests.support.libraries import add, new
from tests.support.scripted import Scripted
from tests.support.scripted_engine import script
from tests.support.servers import make_settings, running
from tests.support.stores import LibraryOpener
from tests.support.waiting import until

pytestmark = pytest.mark.soak
TEXTS = {
    "pump.png": "The pump needs a new valve",
    "prices.png": "Price of a new pump: 12.50",
    "tulips.png": "Tulips flower in April",
    "garden.png": "A pump for the garden",
}
QUESTION = "a new pump"


@pytest.fixture(scope="module")
def scripted() -> Scripted:
    return Scripted()


@pytest.fixture(scope="module", params=["desktop, embedded", "phone, postgres"])
def place(request: pytest.FixtureRequest) -> tuple[str, str]:
    """A look and a store."""
    look, store = request.param.split(", ")
    return look, store


@pytest.fixture(scope="module")
def url(
    request: pytest.FixtureRequest, place: tuple[str, str], scripted: Scripted, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """A page whose server answers nothing until its gate is set."""
    folder = tmp_path_factory.mktemp("first")
    opener = LibraryOpener(request.getfixturevalue("postgres") if place[1] == "postgres" else None)
    fill(opener.open(folder / "page"))
    opener.close()
    store = ["--store", opener.locate(folder / "page")] if opener.server else []
    with (
        running(scripted, make_settings(folder / "worker")) as (worker, _),
        ServerProcess("ui.app", ["--no-browser", "--data", str(folder / "page"), *store, "--worker", worker]) as page,
    ):
        yield page.wait()
        scripted.gate.set()


def fill(library: Library) -> None:
    image = encoded(picture((90, 120)))
    for name, text in TEXTS.items():
        page = new(name, dimension=2560, picture=image, thumbnail=image, lines=(Line(text, (0.1, 0.1, 0.9, 0.2)),))
        add(library, page, fingerprint=Scripted.fingerprint)


@pytest.fixture
def page(place: tuple[str, str], browser: Browser, url: str, scripted: Scripted) -> Iterator[Page]:
    scripted.gate.set()
    context = browser.new_context(**LOOKS[place[0]])
    page = context.new_page()
    page.goto(f"{url}/?c=c")
    expect(page.locator("#files .files li")).to_have_count(len(TEXTS))
    yield page
    scripted.gate.set()
    context.close()


def ask(page: Page, question: str = QUESTION) -> None:
    page.locator("#ask textarea").fill(question)
    page.locator("#ask textarea").press("Enter")


def list_hits(page: Page) -> list[str]:
    return page.locator("#gallery .hit .name").all_inner_texts()


def test_first_results_give_way_to_the_ranking_and_what_was_opened_stays(page: Page, scripted: Scripted) -> None:
    scripted.gate.clear()
    ask(page)
    summary = page.locator("#summary")
    expect(summary).to_contain_text("First results, from the text of the pages.")
    expect(summary).to_contain_text(re.compile(r"is still searching, \d\.\d s"))
    expect(page.locator("#gallery .hits.first .hit")).to_have_count(3)
    assert "tulips.png" not in list_hits(page)
    above = measure_top(page, "#gallery", "scrollY")
    second = page.locator("#gallery .hit").nth(1)
    opened = second.get_attribute("data-page")
    second.click()
    expect(page.locator("#detail .detail")).to_have_attribute("data-page", opened or "")
    expect(page).to_have_url(re.compile(f"open={opened}"))
    entries = page.evaluate("history.length")
    page.wait_for_timeout(600)  # the page that was opened is scrolled to
    read = measure_top(page, "#detail .detail")
    scripted.gate.set()
    expect(page.locator("#gallery .hits:not(.first) .hit")).to_have_count(4)
    expect(summary).to_contain_text("4 pages of 4")
    expect(page.locator("#detail .detail")).to_have_attribute("data-page", opened or "")
    expect(page.locator(f'#gallery [data-page="{opened}"]')).to_have_attribute("aria-current", "true")
    assert page.evaluate("history.length") == entries and f"open={opened}" in page.url
    page.wait_for_timeout(400)  # the cards have moved
    assert abs(measure_top(page, "#gallery", "scrollY") - above) <= 2, "nothing above the pages has moved"
    assert abs(measure_top(page, "#detail .detail") - read) <= 2, "and what is read stays where it is"


def measure_top(page: Page, selector: str, scrolled: str = "0") -> float:
    top = f"document.querySelector({selector!r}).getBoundingClientRect().top + {scrolled}"
    return float(page.evaluate(top))


def test_the_first_page_is_shown_at_once_and_the_best_in_the_end(page: Page, scripted: Scripted) -> None:
    scripted.gate.clear()
    ask(page)
    expect(page.locator("#gallery .hits.first .hit")).to_have_count(3)
    expect(page.locator("#detail .mark")).to_be_visible()
    scripted.gate.set()
    expect(page.locator("#gallery .hits:not(.first) .hit")).to_have_count(4)
    best = page.locator("#gallery .hit").first.get_attribute("data-page")
    expect(page.locator("#detail .detail")).to_have_attribute("data-page", best or "")


def test_a_filter_that_is_set_meanwhile_holds_in_the_end(page: Page, scripted: Scripted) -> None:
    page.locator("#refine > button").click()
    scripted.gate.clear()
    ask(page)
    expect(page.locator("#gallery .hits.first .hit")).to_have_count(3)
    page.locator("#only-files input").click()
    page.get_by_role("option", name="tulips.png").click()
    page.locator("#only-files input").press("Escape")
    scripted.gate.set()
    expect(page.locator("#summary")).to_contain_text("1 page of 1 that pass the filter")
    assert list_hits(page) == ["tulips.png"]


def test_if_the_server_never_comes_they_stay_and_can_be_asked_again(
    browser: Browser, scripted: Scripted, tmp_path: Path
) -> None:
    library = Library(tmp_path / "page")
    fill(library)
    library.close()
    scripted.gate.set()
    with (
        running(scripted, make_settings(tmp_path / "worker")) as (worker, _),
        SlowDoor(int(worker.rpartition(":")[2]), 0.0) as door,
        ServerProcess("ui.app", ["--no-browser", "--data", str(tmp_path / "page"), "--worker", door.url]) as process,
    ):
        page = browser.new_context().new_page()
        page.goto(f"{process.wait()}/?c=c")
        ask(page)
        expect(page.locator("#gallery .hits:not(.first) .hit")).to_have_count(4)
        scripted.nan = True  # the server fails
        door.seconds = 2.0
        ask(page, "another pump, new")
        expect(page.locator("#gallery .hits.first .hit")).to_have_count(3)
        again = page.locator("#summary").get_by_role("button", name="Ask again")
        expect(again).to_be_visible()
        expect(page.locator("#summary")).to_contain_text("These are first results only")
        assert len(list_hits(page)) == 3
        scripted.nan = False
        door.seconds = 0.0
        again.click()
        expect(page.locator("#gallery .hits:not(.first) .hit")).to_have_count(4)
        page.context.close()


def test_an_engine_that_takes_two_seconds_to_start(browser: Browser, tmp_path: Path) -> None:
    """Its process is started for each of the questions, and takes them to load."""
    library = Library(tmp_path / "page")
    fill(library)
    library.close()
    (tmp_path / "engine").mkdir()
    script(tmp_path / "engine", load_s=2.0)
    with EngineProcess(tmp_path / "engine", "plain", "--scaledown-window", "600") as engine:
        words = ["--no-browser", "--data", str(tmp_path / "page"), "--worker", engine.wait()]
        with ServerProcess("ui.app", words, {"DORMOUSE_ADMIN_KEY": engine.admin["X-Admin-Key"]}) as process:
            for look in ("desktop", "phone"):
                engine.to_zero()
                page = browser.new_context(**LOOKS[look]).new_page()
                page.goto(f"{process.wait()}/?c=c")
                expect(page.locator('.engine[data-state="zero"]')).to_be_visible()
                ask(page, f"a new pump on a {look}")
                expect(page.locator("#gallery .hits.first .hit")).to_have_count(3)
                expect(page.locator("#summary")).to_contain_text(re.compile(r"is waking up, \d\.\d s"))
                expect(page.locator("#gallery .hits:not(.first) .hit")).to_have_count(4)
                expect(page.locator("#summary")).to_contain_text("4 pages of 4")
                assert engine.status()["history"][0]["ready_ms"] >= 2000
                page.context.close()


def test_first_results_by_the_api(url: str, scripted: Scripted) -> None:
    scripted.gate.clear()
    calls = len(scripted.calls)

    def find() -> list[str]:
        body = {"data": ["price 12.50", "c"]}
        called = requests.post(f"{url}/gradio_api/call/first_results", json=body, timeout=10).json()
        told = requests.get(f"{url}/gradio_api/call/first_results/{called['event_id']}", timeout=10).text
        return re.findall(r'"file": "([^"]*)"', told)

    until(lambda: find()[:1] == ["prices.png"], 20)
    assert len(scripted.calls) == calls, "no server is asked"
