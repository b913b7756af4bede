"""Filters, fewer numbers of a vector, and many questions at once: a real browser, and the double of an embedder whose
vectors can be cut."""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from serving.http.child_server import ServerProcess
from tests.browser.visit import CONTRAST, LOOKS, Visit
from tests.support.files import pdf
from tests.support.scripted import Scripted
from tests.support.servers import make_settings, running

pytestmark = pytest.mark.soak


@pytest.fixture(scope="module")
def cut_site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Scripted]]:
    folder, double = tmp_path_factory.mktemp("many"), Scripted()
    with running(double, make_settings(folder / "worker")) as (worker, _):
        options = ["--no-browser", "--data", str(folder / "page"), f"--worker=double={worker}"]
        with ServerProcess("ui.app", options) as page:
            yield page.wait(), double


@pytest.mark.parametrize("look", ["desktop", "phone-dark"])
def test_narrowed_cut_and_many(browser: Browser, look: str, cut_site: tuple[str, Scripted], tmp_path: Path) -> None:
    url, double = cut_site
    context = browser.new_context(**{**LOOKS[look], "accept_downloads": True})  # type: ignore[arg-type]
    visit = Visit(context, url)
    page = visit.open(f"{url}/?c={look}")
    for name, count in (("long.pdf", 12), ("=short.pdf", 2)):
        (tmp_path / name).write_bytes(pdf([[f"{look} words of page {n} in {name}"] for n in range(count)]))
    page.set_input_files("#dropzone input[type=file]", [tmp_path / "long.pdf", tmp_path / "=short.pdf"])
    expect(page.locator(".progress.done")).to_contain_text("14 pages added")
    page.locator("#ask textarea").fill("what is it?")
    page.locator("#search").click()
    expect(page.locator(".hit")).to_have_count(8)
    calls = len(double.calls)

    page.locator("#refine > button").click()
    page.locator("#dimension input").click()
    page.get_by_role("option", name="768").click()
    expect(page.locator(".summary")).to_contain_text("compared in 768 dimensions")
    expect(page.locator(".hit .was").first).to_have_text(re.compile(r"was (\d+(st|nd|rd|th)|behind the 14th)"))

    page.locator("#only-files input").click()
    page.get_by_role("option", name="=short.pdf").click()
    expect(page.locator(".hit")).to_have_count(2)
    expect(page.locator(".summary")).to_contain_text("of 2 that pass the filter, of 14")
    page.keyboard.press("Escape")
    page.locator("#only-files .remove-all").click()
    expect(page.locator(".hit")).to_have_count(8)
    expect(page.locator(".summary")).not_to_contain_text("filter")
    page.locator("#only-files input").click()
    page.get_by_role("option", name="=short.pdf").click()
    expect(page.locator(".hit")).to_have_count(2)
    assert len(double.calls) == calls, "the question was embedded again"

    page.locator("#many > button").click()
    page.locator("#questions textarea").fill("=1+1\n<img src=x onerror=alert(1)>\n\nthird question")
    page.locator("#score").click()
    expect(page.locator(".heat tbody tr")).to_have_count(3)
    expect(page.locator(".heat tbody td")).to_have_count(6)
    assert len(double.calls) == calls + 1, "more than one call"
    for step in (0, 4):
        assert page.evaluate(CONTRAST, f".heat .heat-{step}") >= 4.5
    with page.expect_download() as saved:
        page.locator("#save-scores").click()
    rows = list(csv.reader(saved.value.path().read_text(encoding="utf-8-sig").splitlines()))
    assert rows[0] == ["question", "'=short.pdf, page 1", "'=short.pdf, page 2"] and rows[1][0] == "'=1+1"
    assert [len(row) for row in rows] == [3] * 4
    page.set_viewport_size({"width": 360, "height": 800})
    assert visit.width <= 360, "the page scrolls sideways"
    if folder := os.environ.get("SHOTS"):
        page.locator("#many").screenshot(path=f"{folder}/many-{look}.png")
    page.locator(".heat [data-query='third question']").click()
    expect(page.locator("#ask textarea")).to_have_value("third question")
    context.close()
    assert [fault for fault in visit.faults if not re.search(r"AbortError|errored out", fault)] == []
    assert visit.outside == []
