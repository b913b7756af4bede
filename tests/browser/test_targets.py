"""Several servers on one page: a real browser, the real page, and test doubles of two workers."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qs

import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from playwright.sync_api import Browser, Page, expect

from serving.http.child_server import ServerProcess
from serving.library import fingerprints
from tests.browser.visit import CONTRAST, LOOKS, Visit
from tests.support.equivalence_proofs import proof
from tests.support.repository import SAMPLES
from tests.support.scripted import Scripted
from tests.support.servers import make_settings, running
from tests.support.states import NASTY
from ui.servers.target import address_of

pytestmark = pytest.mark.soak
RECEIPT = SAMPLES / "receipt-corner-larder.jpg"
CHART = SAMPLES / "chart-honey-harvest.png"


class One(Scripted):
    title = "Double number one"
    fingerprint = "one-0123456789abcdef"


class Two(Scripted):
    name = "scripted-two"
    title = f"Double number two {NASTY}"
    fingerprint = "two-fedcba9876543210"


@dataclass
class Site:
    url: str
    data: Path
    one: One
    two: Two
    second: str
    """Name of `two`, which was given none."""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("targets")
    one, two = One(), Two()
    with ExitStack() as stack:
        urls = [stack.enter_context(running(double, make_settings(folder / double.name)))[0] for double in (one, two)]
        workers = [f"first={urls[0]}", urls[1], "gone=http://127.0.0.1:9"]
        options = ["--no-browser", "--data", str(folder / "page"), *(f"--worker={worker}" for worker in workers)]
        page = stack.enter_context(ServerProcess("ui.app", options))
        yield Site(page.wait(), folder / "page", one, two, address_of(urls[1]))


@pytest.fixture
def visit(browser: Browser, look: str, site: Site) -> Iterator[Visit]:
    context = browser.new_context(**LOOKS[look])  # type: ignore[arg-type]
    visit = Visit(context, site.url)
    yield visit
    context.close()
    faults = [fault for fault in visit.faults if not re.search(r"AbortError|errored out", fault)]
    assert faults == [] and visit.outside == []


def ask(page: Page, question: str) -> None:
    page.locator("#ask textarea").fill(question)
    page.locator("#ask textarea").press("Enter")


def choose(page: Page, title: str) -> None:
    """By keyboard: focus opens the list at the one that is chosen."""
    server = page.locator("#target input")
    page.locator("#ask textarea").focus()
    server.focus()
    options = page.locator("[role=option]")
    expect(options).to_have_count(3)
    titles = [option.get_attribute("aria-label") for option in options.all()]
    at, wanted = titles.index(server.input_value()), titles.index(title)
    while True:
        expect(server).to_have_attribute("aria-activedescendant", re.compile(rf"-{at}$"))
        if at == wanted:
            break
        page.keyboard.press("ArrowDown" if at < wanted else "ArrowUp")
        at += 1 if at < wanted else -1
    page.keyboard.press("Enter")
    expect(server).to_have_value(title)


def test_choose_a_server_and_its_vectors_stay_apart(visit: Visit, look: str, site: Site) -> None:
    page = visit.open(f"{site.url}/?c=apart-{look}")
    chosen, chip, notice = page.locator("#target input"), page.locator(".chip"), page.locator("#summary .notice")
    expect(chosen).to_have_value("first")
    expect(chip).to_have_text("scripted · 2560-d · 012345")
    woken = len(site.two.calls)
    page.set_input_files("#dropzone input[type=file]", [RECEIPT])
    expect(page.locator(".progress.done")).to_contain_text("1 page added")
    ask(page, "what did I buy?")
    expect(page.locator(".hit")).to_have_count(1)
    page.wait_for_url(re.compile("t=first"))

    choose(page, Two.title)
    expect(notice).to_contain_text("cannot search this collection")
    expect(notice).to_contain_text("python -m bench parity")
    expect(chosen).to_have_value(Two.title)
    expect(chip).to_have_text("scripted-two · 2560-d · fedcba")
    expect(page.locator(".hit")).to_have_count(0)
    page.wait_for_url(re.compile(r"t=127\.0\.0\.1%3A\d+"))
    page.locator(".model > summary").focus()
    page.keyboard.press("Enter")
    expect(page.locator(".model-panel")).to_contain_text(Two.fingerprint)
    expect(page.locator(".model-panel")).to_contain_text("onerror=alert")
    box, window = page.locator(".model-panel").bounding_box(), page.viewport_size
    assert box is not None and window is not None and box["x"] >= 0 and box["x"] + box["width"] <= window["width"]
    for selector in (".model-panel dt", ".model-panel dd", ".model-panel p", ".chip", "#target input"):
        assert page.evaluate(CONTRAST, selector) >= 4.5, selector
    page.keyboard.press("Escape")
    expect(page.locator(".model-panel")).to_be_hidden()
    expect(page.locator(".model > summary")).to_be_focused()

    page.reload()
    expect(notice).to_contain_text("made with another embedder")
    expect(chosen).to_have_value(Two.title)
    expect(chip).to_have_text("scripted-two · 2560-d · fedcba")
    assert len(site.two.calls) == woken, "no worker was woken to say what it is, nor to be refused"
    assert visit.width <= window["width"] and page.locator("img[src=x]").count() == 0


@pytest.mark.parametrize("look", ["desktop"], indirect=True)
def test_what_was_shown_equal_shares_and_what_is_gone_breaks_nothing(
    visit: Visit, site: Site, request: pytest.FixtureRequest
) -> None:
    page = visit.open(f"{site.url}/?c=shared")
    other = Visit(page.context, site.url)
    other.open(f"{site.url}/?c=shared&t=gone")
    expect(other.page.locator("#target input")).to_have_value("gone")
    expect(other.page.locator(".chip")).to_have_text("model not known")
    ask(other.page, "is anybody there?")

    page.set_input_files("#dropzone input[type=file]", [RECEIPT])
    expect(page.locator(".progress.done")).to_contain_text("1 page added")
    request.addfinalizer(lambda: fingerprints.remove_proofs(site.data, One.fingerprint, Two.fingerprint))
    fingerprints.add_proof(site.data, proof(One.fingerprint, Two.fingerprint))
    choose(page, Two.title)
    expect(page.locator(".chip")).to_have_text("scripted-two · 2560-d · fedcba")
    page.set_input_files("#dropzone input[type=file]", [CHART])
    expect(page.locator(".files > summary")).to_have_text("2 pages from 2 files")
    for title in ("first", Two.title, "first"):
        choose(page, title)
        ask(page, f"a question to {title}")
        expect(page.locator(".hit")).to_have_count(2)
        page.wait_for_url(re.compile(f"t={'first' if title == 'first' else '127'}.*question\\+to\\+{title[:6]}"))

    expect(other.page.locator("#summary .notice")).to_contain_text("nothing answers at http://127.0.0.1:9")
    expect(other.page.locator("#target input")).to_have_value("gone")  # each tab has its own
    assert other.faults == [] and other.outside == []


@pytest.mark.parametrize("look", ["desktop"], indirect=True)
def test_sample_pages_go_where_they_fit_and_the_pill_follows(visit: Visit, site: Site) -> None:
    streams: list[str] = []
    visit.page.on("request", lambda asked: streams.append(asked.url) if "/status/events" in asked.url else None)
    page = visit.open(f"{site.url}/?c=samples")
    page.click("#samples")
    expect(page.locator(".progress.done")).to_contain_text("32 pages added")
    choose(page, Two.title)
    expect(page.locator("#summary .notice")).to_contain_text("cannot search this collection")
    page.click("#samples")
    expect(page.locator("#collection input")).to_have_value(f"samples ({site.second})")
    expect(page.locator(".chips button")).to_have_count(6)
    asked = [parse_qs(url.partition("?")[2]).get("target", [""])[0] for url in streams]
    assert list(dict.fromkeys(asked)) == ["", site.second]
    visit.open(f"{site.url}/?c=samples ({site.second})")
    expect(page.locator(".files > summary")).to_contain_text("32 pages")


def test_the_api_takes_the_first_server_or_the_one_named(site: Site) -> None:
    client = Client(site.url, verbose=False)
    asked = len(site.one.calls), len(site.two.calls)
    client.predict([handle_file(RECEIPT)], "by-api", api_name="/add_pages")
    client.predict([handle_file(RECEIPT)], "by-api-2", site.second, api_name="/add_pages")
    assert (len(site.one.calls), len(site.two.calls)) == (asked[0] + 1, asked[1] + 1)
    assert client.predict("a", None, "by-api", 3, None, "first", api_name="/search")["hits"]
    assert client.predict("a", None, "by-api-2", 3, None, site.second, api_name="/search")["hits"]
    with pytest.raises(AppError, match="another embedder"):
        client.predict("a", None, "by-api", 3, None, site.second, api_name="/search")
    with pytest.raises(AppError, match="no server with that name: first, "):
        client.predict([handle_file(CHART)], "by-api", "nobody", api_name="/add_pages")
    client.close()
