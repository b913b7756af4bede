"""The engine's state on the page: a real browser, the real page, and an engine that soon falls asleep."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import requests
from gradio_client import Client, handle_file
from playwright.sync_api import Browser, Page, expect

from serving.http.child_server import ServerProcess
from tests.browser.visit import CONTRAST, LOOKS, Visit
from tests.support.repository import SAMPLES
from tests.support.states import NASTY, NOW, engine, start
from ui.components import status_pill
from ui.servers import state as facts
from ui.servers.state import EngineState, ServerState

pytestmark = pytest.mark.soak
RECORD = """
  window.states = []; window.said = []; window.streams = []; window.counted = [];
  new MutationObserver((changes) => changes.forEach(({target}) => {
    const note = (list, value) => { if (value && list.at(-1) !== value) list.push(value); };
    if (target.matches?.('.engine')) note(window.states, target.dataset.state);
    if (target.matches?.('[data-part=said]')) window.said.push(target.textContent);
  })).observe(document, {subtree: true, childList: true, attributes: true, attributeFilter: ['data-state']});
  setInterval(() => {
    const left = document.querySelector('[data-left]')?.textContent;
    if (left && window.counted.at(-1) !== Number(left)) window.counted.push(Number(left));
  }, 20);
  const Real = window.EventSource;
  window.EventSource = class extends Real {
    constructor(...given) { super(...given); if (given[0].includes('/status/')) window.streams.push(this); }
  };
"""
"""Notes the states as they are shown, each figure of the countdown, what a screen reader hears, and the streams."""
ASLEEP = {"DORMOUSE_START_AHEAD": "0"}
"""Of a page whose engine waits for the first request."""
OPEN = "window.streams.filter((stream) => stream.readyState < 2).length"
HIDE = """(hidden) => {
  Object.defineProperty(document, 'hidden', {configurable: true, get: () => hidden});
  document.dispatchEvent(new Event('visibilitychange'));
}"""


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    arguments = ["--no-browser", "--scaledown-window", "2", "--data", str(tmp_path_factory.mktemp("page"))]
    with ServerProcess("ui.app", arguments, ASLEEP) as page:
        yield page.wait()


@pytest.fixture
def visit(browser: Browser, look: str, url: str) -> Iterator[Visit]:
    with visiting(browser, look, url) as visit:
        yield visit


@contextmanager
def visiting(browser: Browser, look: str, url: str) -> Iterator[Visit]:
    context = browser.new_context(**LOOKS[look])  # type: ignore[arg-type]
    context.add_init_script(RECORD)
    visit = Visit(context, url)
    yield visit
    context.close()
    # Gradio's own words when a reload cuts one of its streams.
    faults = [fault for fault in visit.faults if not re.search(r"AbortError|errored out", fault)]
    assert faults == [] and visit.outside == []


def pill(page: Page, state: str) -> None:
    """Waits until the pill shows that state."""
    expect(page.locator(f'.engine[data-state="{state}"]')).to_be_visible()


def ask(page: Page, question: str) -> None:
    page.locator("#ask textarea").fill(question)
    page.locator("#ask textarea").press("Enter")
    expect(page.locator(".hit")).to_have_count(1)


def seen(page: Page) -> list[str]:
    """The states shown since this was last asked."""
    found: list[str] = page.evaluate("window.states.splice(0)")
    return found


@pytest.mark.parametrize("look", ["desktop", "phone-dark"], indirect=True)
def test_from_asleep_to_awake_and_back_and_up_again(visit: Visit, look: str, url: str) -> None:
    page = visit.open(f"{url}/?c=status-{look}")
    pill(page, "zero")
    expect(page.locator(".engine .words")).to_contain_text("Asleep")
    expect(page.locator(".chip")).to_contain_text("384-d")
    page.set_input_files("#dropzone input[type=file]", [SAMPLES / "receipt-corner-larder.jpg"])
    expect(page.locator(".progress.done")).to_contain_text("1 page added")
    pill(page, "zero")
    shown = seen(page)
    assert shown[0] == "zero" and {"starting", "restoring"} & set(shown) and shown[-2:] == ["scaling_down", "zero"]

    page.evaluate("window.counted = []")
    ask(page, "what did I buy?")
    pill(page, "serving")
    shown = seen(page)
    assert shown[-2:] == ["restoring", "serving"], shown
    expect(page.locator(".words > small")).to_contain_text(re.compile(r"· restored in \d\.\d\d s"))
    expect(page.locator(".engine .rest")).to_have_text(re.compile(r"^asleep in \d s$"))
    pill(page, "zero")
    counted = page.evaluate("window.counted")
    assert len(counted) >= 2 and all(after < before for before, after in pairwise(counted)), counted
    said = page.evaluate("window.said")
    assert said[-3:] == ["The embedder is awake", "The embedder is falling asleep", "The embedder is asleep"], said
    expect(page.locator(".engine .rest")).to_have_text(re.compile(r"^wakes in about \d\.\d\d s$"))

    history = requests.get(url + "/status", timeout=5).json()["history"]
    times = {kind: [row["ready_ms"] for row in history if row["kind"] == kind] for kind in ("created", "restored")}
    assert times["restored"] and max(times["restored"]) < min(times["created"], default=1e9)
    assert visit.width <= page.viewport_size["width"]  # type: ignore[index]


@pytest.mark.parametrize("look", ["desktop", "phone-dark"], indirect=True)
def test_details_by_keyboard(visit: Visit, url: str) -> None:
    page = visit.open(url)
    pill(page, "zero")
    page.locator("#ask textarea").focus()
    summary, panel = page.locator(".engine > summary"), page.locator(".engine-panel")
    for _ in range(12):
        page.keyboard.press("Shift+Tab")
        if summary.evaluate("element => element === document.activeElement"):
            break
    expect(summary).to_be_focused()
    expect(panel).to_be_hidden()
    page.keyboard.press("Enter")
    expect(panel).to_be_visible()
    expect(panel).to_contain_text("Last start")
    expect(panel).to_contain_text("check answers")
    box = panel.bounding_box()
    assert box is not None and box["x"] >= 0
    assert box["x"] + box["width"] <= page.viewport_size["width"]  # type: ignore[index]
    assert page.evaluate(  # nothing of the page below shines through
        "([x, y]) => document.querySelector('.engine-panel').contains(document.elementFromPoint(x, y))",
        [box["x"] + box["width"] / 2, box["y"] + 40],
    )
    page.keyboard.press("Escape")
    expect(panel).to_be_hidden()
    expect(summary).to_be_focused()
    page.keyboard.press("Space")
    expect(panel).to_be_visible()
    page.locator("h1").click()
    expect(panel).to_be_hidden()
    summary.click()
    expect(panel).to_be_visible()


@pytest.fixture
def obedient(tmp_path: Path) -> Iterator[tuple[str, Client]]:
    """A page whose engine has a snapshot and sleeps when it is told to: no state passes while a tab is slow."""
    arguments = ["--no-browser", "--scaledown-window", "3600", "--data", str(tmp_path)]
    with ServerProcess("ui.app", arguments) as page:
        client = Client(page.wait(), verbose=False)
        client.predict([handle_file(SAMPLES / "receipt-corner-larder.jpg")], "my-pages", api_name="/add_pages")
        client.predict(None, api_name="/scaledown")
        yield page.wait(), client
        client.close()


@pytest.mark.timeout(300)
def test_every_tab_shows_the_same_and_a_hidden_one_gives_its_stream_back(
    browser: Browser, obedient: tuple[str, Client]
) -> None:
    url, client = obedient
    with visiting(browser, "desktop", url) as visit:
        page, other = visit.open(url), Visit(visit.page.context, url)
        tabs = (page, other.open(url))
        for tab in tabs:
            pill(tab, "zero")
        ask(page, "what did I buy?")
        for tab in tabs:
            pill(tab, "serving")
        expect(other.page.locator(".words > small")).to_have_text(page.locator(".words > small").inner_text())
        page.reload()
        pill(page, "serving")
        expect(page.locator(".words > small")).to_contain_text("restored in")
        expect(page.locator(".hit")).to_have_count(1)  # the question in the address was asked again

        page.evaluate(HIDE, True)
        page.wait_for_function(f"{OPEN} === 0")  # hidden tabs would use up the browser's six connections
        client.predict(None, api_name="/scaledown")
        pill(other.page, "zero")
        assert page.evaluate("document.querySelector('.engine').dataset.state") == "serving"
        page.evaluate(HIDE, False)
        pill(page, "zero")
        page.wait_for_function(f"{OPEN} === 1")
        assert other.faults == [] and other.outside == []


STATES: dict[str, dict[str, Any]] = {
    "zero": {},
    "starting": {"start": start()},
    "snapshotting": {"start": start(phases={"load": 900.0}, phase="snapshot", expected_ms=None)},
    "restoring": {"start": start(kind="restored", phase="restore", elapsed_ms=121.0)},
    "serving": {"scaledown_at": NOW + 58},
    "scaling_down": {},
    "failed": {"reason": f"{NASTY} " + "no memory left " * 20, "disabled": NASTY, "refused": {"fork": NASTY}},
}


def test_each_state_can_be_read_and_is_only_text(visit: Visit, url: str) -> None:
    """Contrast of WCAG AA, one height, no sideways scrolling, in all looks; whatever the engine's reasons are."""
    news: list[ServerState] = [
        facts.ELSEWHERE,
        *(EngineState.model_validate(engine(state=name, **more)) for name, more in STATES.items()),
    ]
    page = visit.page
    now: list[ServerState] = []
    page.route(
        "**/status/events?*",
        lambda route: route.fulfill(
            content_type="text/event-stream",
            body=f"retry: 60000\n\nevent: status\ndata: {json.dumps(status_pill.make_message(now[-1]))}\n\n",
        ),
    )
    heights = set()
    for one in news:
        now.append(one)
        visit.open(url)
        pill(page, status_pill.name_state(one))
        heights.add(page.locator(".engine > summary").evaluate("element => element.offsetHeight"))
        page.locator(".engine > summary").click()
        expect(page.locator(".engine-panel")).to_be_visible()
        for part in (".words b", ".words .rest", ".words small", ".icon", "h3", ".engine-panel p", "td", ".why"):
            selector = part if part.startswith(".engine-panel") else f".engine {part}"
            if page.locator(selector).count():
                ratio = page.evaluate(CONTRAST, selector)
                assert ratio >= 4.5, f"{status_pill.name_state(one)} {part}: {ratio:.1f}"
        assert visit.width <= page.viewport_size["width"], status_pill.name_state(one)  # type: ignore[index]
    assert len(heights) == 1, "the page below would jump"
    assert page.locator("img[src=x]").count() == 0
    expect(page.locator(".engine-panel")).to_contain_text("onerror=alert")


@pytest.mark.parametrize("look", ["desktop"], indirect=True)
def test_nothing_moves_for_who_does_not_want_it(browser: Browser, url: str, look: str) -> None:
    context = browser.new_context(**LOOKS[look], reduced_motion="reduce")  # type: ignore[arg-type]
    page = context.new_page()
    body = json.dumps(
        status_pill.make_message(EngineState.model_validate(engine(state="starting", start=start(expected_ms=None))))
    )
    page.route(
        "**/status/events?*",
        lambda route: route.fulfill(content_type="text/event-stream", body=f"event: status\ndata: {body}\n\n"),
    )
    page.goto(url)
    pill(page, "starting")
    for selector in (".engine .turns", ".engine .endless i"):
        assert page.locator(selector).evaluate("element => getComputedStyle(element).animationName") == "none"
    context.close()


@pytest.mark.parametrize("look", ["desktop"], indirect=True)
def test_a_page_whose_server_went_says_so(browser: Browser, look: str, tmp_path: Path) -> None:
    context = browser.new_context(**LOOKS[look])  # type: ignore[arg-type]
    page = context.new_page()
    arguments = ["--no-browser", "--data", str(tmp_path), "--snapshot", "plain"]
    with ServerProcess("ui.app", arguments, ASLEEP) as server:
        page.goto(server.wait())
        pill(page, "zero")
        began = time.monotonic()
        server.terminate()
        assert server.stop() == 0 and time.monotonic() - began < 10, "an open tab does not keep it"
    pill(page, "unknown")
    expect(page.locator(".engine b")).to_have_text("Connecting…")
    context.close()
