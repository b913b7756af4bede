"""Several tabs on one collection, one that is closed in the middle, and odd things in the box of questions."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from playwright.sync_api import Browser, Page, expect
from playwright.sync_api import TimeoutError as LateError

from serving.http.child_server import ServerProcess
from tests.browser.visit import LOOKS, Visit
from tests.support.files import encoded, picture
from tests.support.scripted import Scripted
from tests.support.servers import make_settings, running
from tests.support.waiting import until

pytestmark = pytest.mark.soak


class Site(NamedTuple):
    url: str
    data: Path
    embedder: Scripted


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    embedder, data = Scripted(), tmp_path_factory.mktemp("data")
    with running(embedder, make_settings(tmp_path_factory.mktemp("worker"))) as (url, _):
        with ServerProcess("ui.app", ["--no-browser", "--worker", url, "--data", str(data)]) as page:
            yield Site(page.wait(), data, embedder)
        embedder.gate.set()


@pytest.fixture
def tab(browser: Browser, site: Site) -> Iterator[object]:
    """Opens another one, as another browser has it."""
    opened: list[Visit] = []

    def another(query: str) -> Page:
        visit = Visit(browser.new_context(**LOOKS["desktop"]), site.url)  # type: ignore[arg-type]
        opened.append(visit)
        return visit.open(f"{site.url}/?{query}")

    yield another
    for visit in opened:
        visit.page.context.close()
    faults = [fault for visit in opened for fault in visit.faults if not re.search(r"AbortError|errored out", fault)]
    assert faults == []


def pictures(folder: Path, start: int, count: int) -> list[Path]:
    paths = [folder / f"{number}.png" for number in range(start, start + count)]
    for number, path in enumerate(paths, start):
        path.write_bytes(encoded(picture((40 + number, 30))))
    return paths


def delete_first_file(page: Page) -> None:
    if page.locator(".files").get_attribute("open") is None:
        page.locator(".files > summary").click()
    # A list that was asked for before the question was opened may still come, and closes it.
    expect(page.locator(".files li .danger").first).to_be_hidden()
    page.locator(".files li .confirm summary").first.click()
    with contextlib.suppress(LateError):
        page.locator(".files li .danger").first.click(timeout=3_000)
        return
    page.locator(".files li .confirm summary").first.click()
    page.locator(".files li .danger").first.click()


def test_two_tabs_that_add_and_delete_at_once(tab: Any, site: Site, tmp_path: Path) -> None:
    first, second = tab("c=both"), tab("c=both")
    first.set_input_files("#dropzone input[type=file]", pictures(tmp_path, 0, 6))
    expect(first.locator(".progress.done")).to_contain_text("6 pages added")
    second.reload()
    expect(second.locator(".files > summary")).to_have_text("6 pages from 6 files")
    # Each follows what the other deletes; then new ones come from one while the other deletes.
    for deleting, left in ((first, 5), (second, 4)):
        delete_first_file(deleting)
        for page in (first, second):
            expect(page.locator(".files > summary")).to_have_text(f"{left} pages from {left} files")
    site.embedder.gate.clear()
    second.set_input_files("#dropzone input[type=file]", pictures(tmp_path, 10, 4))
    until(lambda: site.embedder.calls[-1] != site.embedder.calls[0], 30)
    delete_first_file(first)
    site.embedder.gate.set()
    expect(second.locator(".progress.done")).to_contain_text("4 pages added")
    for page in (first, second):
        page.reload()
        expect(page.locator(".files > summary")).to_have_text("7 pages from 7 files")
        page.locator("#ask textarea").fill("anything")
        page.keyboard.press("Enter")
        expect(page.locator(".hit")).to_have_count(7)
    assert len({path.stem for path in (site.data / "pages").iterdir()}) == 7


def test_a_tab_that_is_closed_leaves_its_job_to_the_others(tab: Any, site: Site, tmp_path: Path) -> None:
    site.embedder.gate.clear()
    before = len(site.embedder.calls)
    page = tab("c=closed")
    page.set_input_files("#dropzone input[type=file]", pictures(tmp_path, 50, 5))
    until(lambda: len(site.embedder.calls) > before, 30)
    page.context.close()
    other = tab("c=closed")
    expect(other.locator(".progress b")).to_have_text(re.compile(r"Page \d of 5"))
    site.embedder.gate.set()
    expect(other.locator(".progress.done")).to_contain_text("5 pages added")
    expect(other.locator(".files > summary")).to_have_text("5 pages from 5 files")


SET = """([box, text]) => {
  Object.getOwnPropertyDescriptor(HTMLTextAreaElement.prototype, 'value').set.call(box, text);
  box.dispatchEvent(new Event('input', {bubbles: true}));
}"""


def test_odd_questions_in_the_box(tab: Any, site: Site, tmp_path: Path) -> None:
    page = tab("c=odd")
    page.set_input_files("#dropzone input[type=file]", pictures(tmp_path, 70, 1))
    expect(page.locator(".progress.done")).to_contain_text("1 page added")
    box = page.locator("#ask textarea")

    def ask(text: str) -> None:
        page.evaluate(SET, [box.element_handle(), text])
        box.press("Enter")

    markup = "<start_of_image><img src=x onerror=document.title='hacked'>"
    for text, seen in (
        (markup, markup),
        ("half of \ud83d an emoji", "half of ? an emoji"),
        ("a\0b \u202egnp", "a b \u202egnp"),
    ):
        ask(text)
        expect(page.locator(".hit")).to_have_count(1)
        until(lambda asked=[seen]: site.embedder.calls[-1] == asked, 30)
    for text in ("a" + "\u0301\u0323" * 5_000, "word " * 20_000):
        ask(text)
        expect(page.get_by_role("alert")).to_contain_text("longer than 2000 characters")
        ask("and on")
        expect(page.locator(".hit")).to_have_count(1)
    assert page.title() == "Dormouse" and page.locator("img[src=x]").count() == 0
