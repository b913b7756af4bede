"""From one collection to another while pages are added, what is told afterwards, and who cannot be told by a cookie."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, Route, expect

from serving.http.child_server import ServerProcess
from tests.browser.visit import LOOKS, Visit
from tests.support.files import pdf
from tests.support.scripted import Scripted
from tests.support.servers import make_settings, running

pytestmark = pytest.mark.soak


@pytest.fixture(scope="module")
def double(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Scripted]]:
    double = Scripted()
    with running(double, make_settings(tmp_path_factory.mktemp("worker"))) as (worker, _):
        yield worker, double


@pytest.fixture
def visit(browser: Browser, double: tuple[str, Scripted], tmp_path: Path) -> Iterator[Visit]:
    worker, embedder = double
    with ServerProcess("ui.app", ["--no-browser", "--data", str(tmp_path / "data"), "--worker", worker]) as page:
        context = browser.new_context(**LOOKS["desktop"])  # type: ignore[arg-type]
        visit = Visit(context, page.wait())
        yield visit
        embedder.gate.set()
        context.close()
    faults = [fault for fault in visit.faults if not re.search(r"AbortError|errored out", fault)]
    assert faults == [] and visit.outside == []


def switch(page: Page, name: str) -> None:
    box = page.locator("#collection input")
    box.fill(name)
    box.press("Enter")
    expect(box).to_have_value(name)


def add(page: Page, folder: Path, name: str, pages: int) -> None:
    (folder / name).write_bytes(pdf([[f"page {n} of {name}"] for n in range(pages)]))
    page.set_input_files("#dropzone input[type=file]", [folder / name])


def test_what_is_added_elsewhere_stays_there_and_is_told_there(
    visit: Visit, double: tuple[str, Scripted], tmp_path: Path
) -> None:
    _, embedder = double
    page = visit.open(f"{visit.url}/?c=first")
    told, listed = page.locator("#progress"), page.locator(".files > summary")
    embedder.gate.clear()
    add(page, tmp_path, "one.pdf", 3)
    expect(told).to_contain_text("Page 1 of 3")
    switch(page, "second")
    expect(told).to_be_empty()
    expect(page.locator("#cancel")).to_be_hidden()
    add(page, tmp_path, "two.pdf", 2)
    expect(told).to_contain_text("Page 1 of 2")
    add(page, tmp_path, "three.pdf", 1)
    expect(told).to_contain_text("three.pdf: page 1 of 1")
    expect(told.locator(".progress")).to_have_count(2)
    embedder.gate.set()
    expect(told).to_contain_text("2 pages added")
    expect(told).to_contain_text("1 page added")
    expect(page.locator("#collection input")).to_have_value("second")
    expect(listed).to_contain_text("3 pages from 2 files")
    switch(page, "first")
    expect(told).to_contain_text("3 pages added")
    expect(listed).to_contain_text("3 pages from 1 file")
    page.wait_for_url(re.compile("c=first"))
    page.reload()
    expect(told).to_contain_text("3 pages added")

    page.locator("#many > button").click()
    page.locator("#questions textarea").fill("one\ntwo")
    page.locator("#score").click()
    expect(page.locator(".heat tbody tr")).to_have_count(2)
    switch(page, "second")
    expect(page.locator("#scores")).to_be_empty()
    expect(page.locator("#save-scores")).to_be_hidden()

    switch(page, "first")
    page.wait_for_url(re.compile("c=first"))
    listed.click()
    page.locator("#files .confirm summary").first.click()
    page.locator("#files .danger[data-file]").click()
    expect(page.locator("#files .empty")).to_be_visible()
    expect(told).to_be_empty()
    page.reload()
    expect(page.locator("#files .empty")).to_be_visible()
    expect(told).to_be_empty()


def test_passing_the_list_by_keys_takes_nothing_away(visit: Visit, tmp_path: Path) -> None:
    page = visit.open(f"{visit.url}/?c=passed")
    add(page, tmp_path, "one.pdf", 3)
    expect(page.locator("#progress")).to_contain_text("3 pages added")
    page.locator("#ask textarea").fill("one")
    page.keyboard.press("Enter")
    expect(page.locator(".hit")).to_have_count(3)
    page.locator("#collection input").focus()
    with page.expect_response(re.compile("/queue/data")):  # the list tells its choice although it is the old one
        page.keyboard.press("Tab")
    page.locator("#many > button").click()
    page.locator("#questions textarea").fill("one")
    page.locator("#score").click()
    expect(page.locator(".heat tbody tr")).to_have_count(1)
    expect(page.locator(".hit")).to_have_count(3)


def test_a_browser_that_keeps_no_cookie_is_told_so(
    browser: Browser, double: tuple[str, Scripted], tmp_path: Path
) -> None:
    context = browser.new_context(**LOOKS["phone"])  # type: ignore[arg-type]

    def forgotten(route: Route) -> None:
        answer = route.fetch()
        headers = {name: value for name, value in answer.headers.items() if name != "set-cookie"}
        context.clear_cookies()  # fetch keeps it too
        route.fulfill(response=answer, headers=headers)

    words = ["--no-browser", "--host", "0.0.0.0", "--worker", double[0], "--data", str(tmp_path / "data")]  # noqa: S104
    with ServerProcess("ui.app", words) as server:
        url = server.wait().replace("0.0.0.0", "127.0.0.1")  # noqa: S104
        context.route(f"{url}/", forgotten)
        page = context.new_page()
        page.goto(url)
        assert context.cookies() == []
        notice = page.locator("#summary .notice")
        expect(notice).to_contain_text("Allow cookies for this address and reload")
        switch(page, "anything")
        expect(notice).to_contain_text("This name cannot be used")
        context.close()
