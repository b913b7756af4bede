"""What somebody asks or chooses while an answer is on its way, as from a server that wakes up: the newest is shown."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from gradio_client import Client, handle_file
from playwright.sync_api import Browser, Page, expect

from serving.http.child_server import ServerProcess
from tests.browser.visit import WIDE
from tests.support.files import encoded, picture
from tests.support.scripted import Scripted
from tests.support.servers import make_settings, running
from tests.support.waiting import until

pytestmark = pytest.mark.soak
FILES = ("a.png", "b.png", "c.png")


@pytest.fixture(scope="module")
def scripted() -> Scripted:
    return Scripted()


@pytest.fixture(scope="module")
def url(scripted: Scripted, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("order")
    words = ["--no-browser", "--data", str(folder / "page"), "--worker"]
    with (
        running(scripted, make_settings(folder / "worker")) as (worker, _),
        ServerProcess("ui.app", [*words, worker]) as page,
    ):
        client = Client(page.wait(), verbose=False)
        for number, name in enumerate(FILES):
            (folder / name).write_bytes(encoded(picture((90 + number, 60))))
        client.predict([handle_file(folder / name) for name in FILES], "cellar", api_name="/add_pages")
        client.close()
        yield page.wait()


@pytest.fixture
def page(browser: Browser, url: str, scripted: Scripted) -> Iterator[Page]:
    context = browser.new_context(viewport=WIDE)
    page = context.new_page()
    page.goto(f"{url}/?c=cellar")
    expect(page.locator("#files .files li")).to_have_count(len(FILES))
    page.locator("#refine > button").click()
    yield page
    scripted.gate.set()
    context.close()


def hold_next_call(scripted: Scripted) -> None:
    scripted.calls.clear()
    scripted.gate.clear()


def test_a_search_waits_for_the_one_of_its_image(page: Page, scripted: Scripted, tmp_path: Path) -> None:
    page.locator("#ask textarea").fill("when can I swim?")
    (tmp_path / "b.png").write_bytes(encoded(picture((91, 60))))
    hold_next_call(scripted)
    page.locator("#ask-image input[type=file]").set_input_files(tmp_path / "b.png")
    until(lambda: scripted.calls)
    page.locator("#weight input[type=number]").fill("100")
    page.locator("#weight input[type=number]").press("Tab")
    page.locator("#search").click()
    page.wait_for_timeout(300)
    assert len(scripted.calls) == 1, "both are asked at once: their answers may come in any order"
    scripted.gate.set()
    expect(page.locator(".detail header p")).to_contain_text("score 1.000")


def test_a_filter_that_is_set_meanwhile_holds(page: Page, scripted: Scripted) -> None:
    hold_next_call(scripted)
    page.locator("#ask textarea").fill("who has the key?")
    page.locator("#ask textarea").press("Enter")
    until(lambda: scripted.calls)
    page.locator("#only-files input").click()
    page.get_by_role("option").filter(has_text="c.png").click()
    page.wait_for_timeout(300)
    scripted.gate.set()
    expect(page.locator(".hit")).to_have_count(1)
    expect(page.locator(".hit .name")).to_have_text("c.png")
