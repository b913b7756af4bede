"""Axe on every tab in every look, keys alone, and what is remembered: in a browser at 360 px and on a desk."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.visit import LOOKS, Visit
from tests.support.accessibility import serious
from tests.support.files import pdf
from tests.support.manual_pages import MANUAL

pytestmark = pytest.mark.soak
NARROW = {"width": 360, "height": 780}
TABS = ("Search", "Cold starts", "About")
COLLECTION = "feeling"


@pytest.fixture
def visit(browser: Browser, look: str, page_url: str) -> Iterator[Visit]:
    options = dict(LOOKS[look])
    if "phone" in look:
        options["viewport"] = NARROW
    context = browser.new_context(**options)  # type: ignore[arg-type]
    visit = Visit(context, page_url)
    yield visit
    context.close()
    # Gradio's own words when a way to another address cuts one of its streams.
    faults = [fault for fault in visit.faults if not re.search(r"AbortError|errored out", fault)]
    assert faults == [] and visit.outside == []


def filled(visit: Visit, url: str, folder: Path) -> Page:
    """The page with a collection of three pages."""
    page = visit.open(f"{url}/?c={COLLECTION}")
    if page.locator("#files .empty").count():
        (folder / "manual.pdf").write_bytes(pdf(MANUAL))
        page.set_input_files("#dropzone input[type=file]", [folder / "manual.pdf"])
        expect(page.locator(".progress.done")).to_contain_text("3 pages added")
    return page


def asked(page: Page) -> Page:
    page.locator("#ask textarea").fill("when can I go for a swim?")
    page.keyboard.press("Enter")
    expect(page.locator(".hit")).to_have_count(3)
    expect(page.locator(".detail h2")).to_be_visible()
    return page


def test_axe_finds_nothing_serious_and_nothing_is_too_wide(visit: Visit, page_url: str, tmp_path: Path) -> None:
    page = filled(visit, page_url, tmp_path)
    page.goto(f"{page_url}/?c=nothing-here")
    expect(page.locator(".welcome")).to_be_visible()
    assert serious(page) == []
    page.goto(f"{page_url}/?c={COLLECTION}")
    expect(page.locator(".files")).to_be_visible()
    asked(page)
    page.locator(".files > summary").click()
    page.locator("#refine > button").click()
    for tab in TABS:
        page.get_by_role("tab", name=tab, exact=True).click()
        if tab == "Cold starts":
            expect(page.locator("#bench-report iframe")).to_be_visible()
            page.get_by_role("button", name="What it costs").click()
            expect(page.locator("#cost-bill .js-plotly-plot")).to_be_visible()
        if tab == "About":
            expect(page.locator(".about h2").first).to_be_visible()
        assert serious(page) == [], tab
        assert visit.width <= page.viewport_size["width"], f"{tab} scrolls sideways"  # type: ignore[index]


@pytest.mark.parametrize("look", ["desktop"], indirect=True)
def test_by_keys_alone(visit: Visit, page_url: str, tmp_path: Path) -> None:
    page = filled(visit, page_url, tmp_path)
    page.get_by_role("tab", name="About").click()
    page.get_by_role("tab", name="About").focus()
    page.keyboard.press("/")
    box = page.locator("#ask textarea")
    expect(box).to_be_focused()
    page.keyboard.type("when can I go for a swim?")
    page.keyboard.press("Enter")
    expect(page.locator(".hit")).to_have_count(3)
    expect(page.locator(".detail header p")).to_contain_text("#1")

    hits = page.locator(".hit")
    page.keyboard.press("ArrowDown")
    expect(hits.nth(0)).to_be_focused()
    assert hits.nth(0).evaluate("element => getComputedStyle(element).outlineStyle") == "solid"
    for key, at in (("ArrowRight", 1), ("End", 2), ("ArrowRight", 2), ("ArrowLeft", 1), ("Home", 0)):
        page.keyboard.press(key)
        expect(hits.nth(at)).to_be_focused()
        expect(page.locator(".detail header p")).to_contain_text(f"#{at + 1}")
    expect(page.locator(".detail .close")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.locator(".detail .close")).to_be_hidden()
    expect(hits.nth(0)).to_be_focused()
    page.keyboard.press("Escape")
    expect(box).to_be_focused()
    page.keyboard.press("Escape")
    expect(box).to_have_value("")
    page.locator(".detail .confirm summary").focus()
    page.keyboard.press("Enter")
    expect(page.locator(".detail .danger")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.locator(".detail .danger")).to_be_hidden()
    expect(page.locator(".detail .confirm summary")).to_be_focused()
    page.keyboard.press("Enter")
    expect(hits).to_have_count(3)


@pytest.mark.parametrize("look", ["phone"], indirect=True)
def test_the_first_steps_go_and_stay_away(visit: Visit, page_url: str) -> None:
    page = visit.open(f"{page_url}/?c=never-filled")
    expect(page.locator(".welcome")).to_be_visible()
    expect(page.locator(".back")).to_be_hidden()
    page.get_by_role("button", name="Got it").click()
    expect(page.locator(".welcome")).to_be_hidden()
    expect(page.locator(".back")).to_be_visible()
    page.goto(f"{page_url}/?c=never-filled-either")
    expect(page.locator(".back")).to_be_visible()
    expect(page.locator(".welcome")).to_be_hidden()


@pytest.mark.parametrize("look", ["desktop"], indirect=True)
def test_about_tells_what_was_measured_and_whose_it_is(visit: Visit, page_url: str) -> None:
    page = visit.open(f"{page_url}/?c=nothing-here")
    page.get_by_role("tab", name="About").click()
    about = page.locator(".about")
    expect(about).to_contain_text("from its snapshot (criu)")
    expect(about).to_contain_text("gradio 6.31.0")
    expect(about).to_contain_text("builtin-ocr-e5" if about.get_by_text("builtin-ocr-e5").count() else "Built-in")
