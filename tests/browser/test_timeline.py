"""The Cold starts tab, live: a real browser, the real page, and engines that go and come back under it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import pytest
from gradio_client import Client
from playwright.sync_api import Browser, Page, expect

from serving.http.child_server import ServerProcess
from tests.browser.visit import CONTRAST, LOOKS, Visit
from tests.support.engines import EngineProcess
from tests.support.scripted_engine import script

pytestmark = [pytest.mark.soak, pytest.mark.timeout(300)]
RECORD = """
  window.heads = [];
  new MutationObserver(() => {
    const head = document.querySelector('.timeline .waterfall h3')?.textContent;
    if (head && window.heads.at(-1) !== head) window.heads.push(head);
  }).observe(document, {subtree: true, childList: true});
"""
"""Notes what the waterfall was of."""
NARROW: dict[str, Any] = {
    "desktop": LOOKS["desktop"],
    "dark": LOOKS["dark"],
    "phone": {**LOOKS["phone"], "viewport": {"width": 360, "height": 780}},
    "phone-dark": {**LOOKS["phone-dark"], "viewport": {"width": 360, "height": 780}},
}
BANDS = ".bands > i"


@dataclass
class Site:
    """A page with two engines; `silent` is the first once more, without its admin key."""

    url: str
    first: EngineProcess
    second: EngineProcess


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("timeline")
    with ExitStack() as stack:
        engines = []
        for name in ("first", "second"):
            (folder / name).mkdir()
            script(folder / name, load_s=1.0, embed_s=0.3)  # an engine tells at most twenty states a second
            engines.append(stack.enter_context(EngineProcess(folder / name, "plain", "--scaledown-window", "600")))
        urls = [engine.wait() for engine in engines]
        keys = {f"DORMOUSE_ADMIN_KEY_{n}": engine.admin["X-Admin-Key"] for n, engine in enumerate(engines, 1)}
        workers = [f"first={urls[0]}", f"second={urls[1]}", f"silent={urls[0]}"]
        options = ["--no-browser", "--data", str(folder / "page"), *(f"--worker={worker}" for worker in workers)]
        page = stack.enter_context(ServerProcess("ui.app", options, keys))
        yield Site(page.wait(), *engines)


@contextmanager
def visiting(browser: Browser, url: str, look: str = "desktop") -> Iterator[Visit]:
    context = browser.new_context(**NARROW[look])
    context.add_init_script(RECORD)
    visit = Visit(context, url)
    yield visit
    context.close()
    faults = [fault for fault in visit.faults if not re.search(r"AbortError|errored out", fault)]
    assert faults == [] and visit.outside == []


def tab(visit: Visit, url: str) -> Page:
    page = visit.open(url)
    page.get_by_role("tab", name="Cold starts").click()
    expect(page.locator(".timeline")).to_be_visible()
    return page


def choose(page: Page, server: str) -> None:
    page.locator("#target input").click()
    page.get_by_role("option", name=server).click()


def looks(page: Page) -> list[str]:
    found: list[str] = page.locator(BANDS).evaluate_all("all => all.map((band) => band.dataset.look)")
    return found


def search(url: str, target: str) -> None:
    Client(url, verbose=False).predict("anything", None, "my-pages", 3, None, target, api_name="/search")


@pytest.mark.parametrize("look", NARROW)
def test_a_search_at_zero_paints_a_start(browser: Browser, look: str, site: Site) -> None:
    site.first.to_zero()
    with visiting(browser, site.url, look) as visit, visiting(browser, site.url) as other:
        page = tab(visit, site.url)
        expect(page.locator(BANDS).last).to_have_attribute("data-look", "zero")
        beside = tab(other, site.url)
        search(site.url, "first")
        expect(page.locator(BANDS).last).to_have_attribute("data-look", "idle")
        expect(page.locator(".strip")).to_contain_text("asleep in")
        painted = looks(page)
        expect(page.locator(".timeline .waterfall h3")).to_contain_text("Last start")
        heads = page.evaluate("window.heads")
        assert any("Start in progress" in head for head in heads) and "Last start" in heads[-1], heads
        phases, total = page.evaluate("""() => {
          const fall = document.querySelector('.timeline .waterfall');
          const bars = [...fall.querySelectorAll('li:not(.answer) [data-ms]')];
          return [bars.map((bar) => Number(bar.dataset.ms)), Number(fall.querySelector('[data-total]').dataset.total)];
        }""")
        assert len(phases) >= 2 and sum(phases) == pytest.approx(total, abs=5), (phases, total)
        assert total > 1000, "the double loads for a second"

        expect(beside.locator(BANDS).last).to_have_attribute("data-look", "idle")
        assert looks(beside)[-4:] == painted[-4:], "a second browser sees the same"
        assert painted[-4:] == ["zero", "starting", "serving", "idle"]
        page.reload()
        page.get_by_role("tab", name="Cold starts").click()
        expect(page.locator(BANDS).last).to_have_attribute("data-look", "idle")
        assert looks(page)[-4:] == painted[-4:], "a reload shows the same"
        readable(visit)


def readable(visit: Visit) -> None:
    """Nothing scrolls sideways, words can be read, and whoever sees no picture has it in words."""
    page = visit.page
    assert visit.width <= page.viewport_size["width"], "the page scrolls sideways"  # type: ignore[index]
    for selector in (".strip p", ".strip h3", ".legend li", ".legend small", ".axis span", ".falls li span", ".total"):
        assert page.evaluate(CONTRAST, selector) >= 4.5, selector
    expect(page.locator(".bands")).to_have_attribute("aria-label", re.compile(r"asleep .*starting .*Now idle\.$"))
    page.locator(".told summary").click()
    expect(page.locator(".told tbody tr").first).to_contain_text("so far")
    for track in (".bands", ".falls .track"):
        box = page.locator(track).first.bounding_box()
        assert box is not None and box["width"] > 80, track


def test_the_samples_of_a_run_come_one_by_one_in_every_browser(browser: Browser, site: Site) -> None:
    with visiting(browser, site.url) as visit, visiting(browser, site.url, "phone-dark") as other:
        page, beside = tab(visit, f"{site.url}/?t=second"), tab(other, f"{site.url}/?t=second")
        expect(page.locator("#target input")).to_have_value("second")
        page.get_by_label("The server of this page").check()
        page.locator("#bench-repetitions input[type=number]").fill("20")
        page.locator("#bench-repetitions input[type=number]").press("Tab")
        expect(page.locator("#bench-estimate")).to_contain_text("scaled down 40 times")
        page.locator("#bench-start").click()
        for one in (page, beside):
            expect(one.locator(".samples .dot").first).to_be_visible()
            expect(one.locator("#bench-stop")).to_be_visible()
            expect(one.locator('.samples [data-kind="plain"]')).to_contain_text(re.compile(r"median of \d"))
        before = page.locator(".samples .dot").count()
        page.wait_for_function("(n) => document.querySelectorAll('.samples .dot').length > n", arg=before)
        expect(page.locator("#bench-stop")).to_be_visible()
        expect(page.locator(".samples .waterfall")).to_contain_text("verified cold")
        assert {"zero", "starting", "serving"} <= set(looks(page))
        assert other.width <= beside.viewport_size["width"]  # type: ignore[index]

        choose(page, "first")
        expect(page.locator("#bench-start")).to_be_visible()
        expect(page.locator(".samples")).to_have_count(0)
        choose(page, "second")
        expect(page.locator("#bench-stop")).to_be_visible()
        expect(page.locator(".samples .dot").first).to_be_visible()
        page.locator("#bench-stop").click()
        expect(page.locator("#bench-live")).to_contain_text("was stopped; its measurements are kept")
        expect(beside.locator("#bench-start")).to_be_visible()
        expect(beside.locator(".samples h3").first).to_contain_text(re.compile("^Samples \\d"))


def test_another_server_has_another_past_and_estimate(browser: Browser, site: Site) -> None:
    with visiting(browser, site.url) as visit:
        page = tab(visit, site.url)
        page.get_by_label("The server of this page").check()
        expect(page.locator("#bench-estimate")).to_contain_text("scaled down 6 times")
        expect(page.locator(".strip h3")).to_contain_text("first")
        choose(page, "silent")
        expect(page.locator("#bench-estimate")).to_contain_text("left alone for 65 s 6 times")
        expect(page.locator(".strip")).to_contain_text("Runs elsewhere · its state is not known to this page")
        expect(page.locator(".bands")).to_have_count(0)
        choose(page, "second")
        expect(page.locator("#bench-estimate")).to_contain_text("scaled down 6 times")
        expect(page.locator(".strip h3")).to_contain_text("second")
        expect(page.locator(".bands")).to_be_visible()


def test_what_goes_on_moves_between_two_words_of_the_server(browser: Browser, site: Site) -> None:
    search(site.url, "first")
    with visiting(browser, site.url) as visit:
        page = tab(visit, site.url)
        expect(page.locator(BANDS).last).to_have_attribute("data-look", "idle")
        width = "document.querySelector('.bands > i[data-now]').getBoundingClientRect().width"
        began = page.evaluate(width)
        page.wait_for_function(f"{width} > {began} + 1")
        left = page.locator(".strip [data-left]")
        first = int(left.inner_text())
        page.wait_for_function(f"Number(document.querySelector('.strip [data-left]').textContent) < {first}")
