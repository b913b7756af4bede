"""The list of files in another order, and questions asked of a folder or of what was added lately."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from serving.http.child_server import ServerProcess
from tests.browser.visit import LOOKS, Visit
from tests.support.files import encoded, pdf, picture
from tests.support.scripted import Scripted
from tests.support.servers import make_settings, running
from tests.support.zips import zipped

pytestmark = pytest.mark.soak


@pytest.fixture(params=["desktop", "phone-dark"])
def visit(request: pytest.FixtureRequest, browser: Browser, tmp_path: Path) -> Iterator[Visit]:
    with (
        running(Scripted(), make_settings(tmp_path / "worker")) as (worker, _),
        ServerProcess("ui.app", ["--no-browser", "--worker", worker, "--data", str(tmp_path / "page")]) as page,
    ):
        visit = Visit(browser.new_context(**LOOKS[request.param]), page.wait())
        yield visit
        visit.page.context.close()
    assert [fault for fault in visit.faults if not re.search(r"AbortError|errored out", fault)] == []


def test_files_are_sorted_and_folders_and_times_narrow_a_search(visit: Visit, tmp_path: Path) -> None:
    archive = tmp_path / "z.zip"
    files = {
        "b/file 10.pdf": pdf([["one"], ["two"], ["three"]]),
        "b/deep/file 9.png": encoded(picture((61, 60))),
        "a.png": encoded(picture((62, 60))),
    }
    archive.write_bytes(zipped(files))
    page = visit.open(f"{visit.url}/?c=files")
    page.set_input_files("#dropzone input[type=file]", [archive])
    expect(page.locator(".progress.done")).to_contain_text("5 pages added")
    page.locator(".files > summary").click()
    names, order = page.locator(".files li > span"), page.locator(".files [data-sort]")
    expect(names.first).to_be_visible()
    added = names.all_text_contents()
    assert sorted(added) == ["z.zip/a.png", "z.zip/b/deep/file 9.png", "z.zip/b/file 10.pdf"]
    expect(page.locator(".files li > small").first).to_contain_text(re.compile(r"pages? · 20\d\d-\d\d-\d\d"))
    for first, last, expected in 10 * (("name", "oldest", added), ("oldest", "name", sorted(added))):
        order.select_option(first)
        order.select_option(last)  # before the first is answered
        expect(names).to_have_text(expected)
    for choice, expected in (
        ("newest", added[::-1]),
        ("name", ["z.zip/a.png", "z.zip/b/deep/file 9.png", "z.zip/b/file 10.pdf"]),
        ("oldest", added),
        ("pages", ["z.zip/b/file 10.pdf", *[name for name in added if name != "z.zip/b/file 10.pdf"]]),
    ):
        order.select_option(choice)
        expect(names).to_have_text(expected)
    page.wait_for_function("document.documentElement.scrollWidth <= window.innerWidth")  # once it is drawn

    page.locator("#ask textarea").fill("a question")
    page.keyboard.press("Enter")
    expect(page.locator(".hit")).to_have_count(5)
    page.locator("#refine > button").click()
    for box, option, count in (
        ("#only-folder", "z.zip/b (4 pages)", 4),
        ("#only-added", "today", 4),
        ("#only-folder", "z.zip/b/deep (1 page)", 1),
    ):
        if box == "#only-folder" and count < 4:
            page.locator("#only-folder .token-remove").first.click()
            expect(page.locator(".hit")).to_have_count(5)
        page.locator(f"{box} input").click()
        page.get_by_role("option", name=option, exact=True).click()
        expect(page.locator(".hit")).to_have_count(count)
    page.locator("#only-folder .token-remove").first.click()
    expect(page.locator(".hit")).to_have_count(5)

    delete = page.locator('.files li[data-name="z.zip/a.png"] .confirm')
    delete.locator("summary").click()
    delete.locator(".danger").click()
    expect(page.locator(".files > summary")).to_contain_text("4 pages from 2 files")
    expect(order).to_be_visible()
    expect(order).to_have_value("pages")
    expect(names).to_have_text(["z.zip/b/file 10.pdf", "z.zip/b/deep/file 9.png"])


def test_a_long_list_is_turned_found_in_and_narrowed(visit: Visit, tmp_path: Path) -> None:
    """More files than are shown at once, and more than a list of choices has."""
    archive = tmp_path / "z.zip"
    archive.write_bytes(zipped({f"file {n}.png": encoded(picture((20 + n, 30)), "PNG") for n in range(205)}))
    page = visit.open(f"{visit.url}/?c=long")
    page.set_input_files("#dropzone input[type=file]", [archive])
    expect(page.locator(".progress.done")).to_contain_text("205 pages added", timeout=120_000)
    page.locator(".files > summary").click()
    names, where = page.locator(".files li > span"), page.locator(".files .turn span")
    page.locator(".files [data-sort]").select_option("name")
    expect(names.first).to_have_text("z.zip/file 0.png")
    expect(names).to_have_count(100)
    page.get_by_role("button", name="Next").click()
    expect(where).to_have_text("Page 2 of 3")
    page.get_by_role("button", name="Next").click()
    expect(names).to_have_count(5)
    expect(page.get_by_role("button", name="Next")).to_be_disabled()
    delete = page.locator('.files li[data-name="z.zip/file 204.png"] .confirm')
    delete.locator("summary").click()
    delete.locator(".danger").click()
    expect(page.locator(".files > summary")).to_contain_text("204 pages from 204 files")
    expect(where).to_have_text("Page 3 of 3")
    assert visit.width <= page.viewport_size["width"]  # type: ignore[index]

    page.locator(".files [data-search]").press_sequentially("file 19", delay=20)
    expect(names).to_have_count(12)
    expect(page.locator(".files [data-search]")).to_be_focused()
    expect(page.locator(".files [data-search]")).to_have_value("file 19")
    found = page.locator(".files .confirm", has_text="Delete what was found")
    found.locator("summary").click()
    found.get_by_text("Yes, delete 12 files").click()
    expect(page.locator(".files > summary")).to_contain_text("192 pages from 192 files")
    page.locator(".files [data-search]").fill("")
    expect(names).to_have_count(100)
    if folder := os.environ.get("SHOTS"):
        page.locator("#files").screenshot(path=f"{folder}/files-{page.viewport_size['width']}.png")  # type: ignore[index]
