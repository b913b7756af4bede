"""Uploads as a person follows them: after a restart of the page, paused, resumed, and what was skipped tried again.

The page is a real process; the worker outside has the scripted embedder.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from serving.http.child_server import ServerProcess
from tests.browser.visit import LOOKS, Visit
from tests.support.accessibility import serious
from tests.support.files import encoded, pdf, picture
from tests.support.scripted import Scripted
from tests.support.servers import make_settings, running

pytestmark = pytest.mark.soak
PAGES = 30


@pytest.fixture
def worker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Scripted]]:
    embedder = Scripted(0.1)
    with running(embedder, make_settings(tmp_path_factory.mktemp("worker"))) as (url, _):
        yield url, embedder
        embedder.gate.set()


def start_page(data: Path, worker: str) -> ServerProcess:
    return ServerProcess("ui.app", ["--no-browser", "--data", str(data), "--worker", f"scripted={worker}"])


def restart(process: ServerProcess, data: Path, worker: str) -> ServerProcess:
    """Kill a page in the middle of its work, and return the next one on its data."""
    process.kill()
    process.stop()
    return start_page(data, worker)


def open_page(browser: Browser, url: str, look: str) -> Visit:
    visit = Visit(browser.new_context(**LOOKS[look]), url)  # type: ignore[arg-type]
    visit.open(f"{url}/?c=books")
    return visit


def press(page: Page, name: str) -> None:
    """Press a button as somebody without a mouse does."""
    button = page.get_by_role("button", name=name, exact=True)
    button.focus()
    expect(button).to_be_focused()
    page.keyboard.press("Enter")


def leave(visit: Visit) -> None:
    visit.page.context.close()
    faults = [fault for fault in visit.faults if not re.search(r"AbortError|errored out", fault)]
    assert faults == [] and visit.outside == []


@pytest.mark.parametrize("look", ["desktop", "phone-dark"])
def test_pause_restart_resume_and_retry(
    browser: Browser, worker: tuple[str, Scripted], tmp_path: Path, look: str
) -> None:
    url, embedder = worker
    data, manual = tmp_path / "data", tmp_path / "manual.pdf"
    pages = [["unreadable"] if n == 2 else [f"Words of page {n}"] for n in range(1, PAGES + 1)]
    manual.write_bytes(pdf(pages))
    small = tmp_path / "small.png"
    small.write_bytes(encoded(picture()))
    process = start_page(data, url)
    visit = open_page(browser, process.wait(), look)
    page, told = visit.page, visit.page.locator("#progress")
    page.set_input_files("#dropzone input[type=file]", [manual])
    expect(told).to_contain_text(f"of {PAGES}")
    page.wait_for_function("(document.querySelector('.progress progress')?.value ?? 0) >= 3")
    embedder.gate.clear()  # a browser that is slow to press must not come too late
    press(page, "Pause")
    expect(told).to_contain_text("Paused:")
    embedder.gate.set()
    expect(page.get_by_role("button", name="Resume", exact=True)).to_be_focused()
    assert serious(page) == []

    leave(visit)
    process = restart(process, data, url)
    visit = open_page(browser, process.wait(), look)
    page, told = visit.page, visit.page.locator("#progress")
    expect(told).to_contain_text("Paused:")
    expect(told).to_contain_text("continued after a restart")
    assert int(page.locator(".progress progress").get_attribute("value") or 0) >= 3
    page.set_input_files("#dropzone input[type=file]", [small])
    expect(told).to_contain_text("small.png: 1 page added")
    embedder.gate.clear()
    press(page, "Resume")
    expect(told).to_contain_text("manual.pdf: page")

    leave(visit)
    process = restart(process, data, url)
    embedder.gate.set()
    visit = open_page(browser, process.wait(), look)
    page, told = visit.page, visit.page.locator("#progress")
    expect(told).to_contain_text(f"{PAGES - 1} pages added")
    expect(page.locator(".files > summary")).to_have_text(f"{PAGES} pages from 2 files")
    expect(told).to_contain_text("manual.pdf, page 2: scripted: one of these cannot be read")
    expect(told).to_contain_text("The files are kept for 24 h more, to try again.")
    expect(page.get_by_role("button", name="Pause", exact=True)).to_be_hidden()
    assert serious(page) == []
    embedder.refuses = "no such word"
    press(page, "Try the 1 skipped again")
    expect(told).to_contain_text("1 page added")
    expect(page.locator(".files > summary")).to_have_text(f"{PAGES + 1} pages from 2 files")
    expect(page.locator("#retry")).to_be_hidden()
    assert visit.width <= page.viewport_size["width"], "the page scrolls sideways"  # type: ignore[index]
    assert not any((data / "uploads-kept").iterdir())
    leave(visit)
    process.stop()


def test_what_was_skipped_is_dismissed(browser: Browser, worker: tuple[str, Scripted], tmp_path: Path) -> None:
    url, _ = worker
    (tmp_path / "broken.png").write_bytes(b"no picture")
    with start_page(tmp_path / "data", url) as process:
        visit = open_page(browser, process.wait(), "desktop")
        page = visit.page
        page.set_input_files("#dropzone input[type=file]", [tmp_path / "broken.png"])
        expect(page.locator("#progress .skipped")).to_contain_text("broken.png")
        press(page, "Dismiss")
        expect(page.locator("#progress")).to_be_empty()
        expect(page.locator("#dismiss")).to_be_hidden()
        assert not any((tmp_path / "data" / "uploads-kept").iterdir())
        leave(visit)
