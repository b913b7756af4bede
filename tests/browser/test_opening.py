"""What somebody does while the page is still opening: what a slow network brings later takes none of it away."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
from gradio_client import Client, handle_file
from playwright.sync_api import Browser, Locator, Page, Route, expect

from serving.http.child_server import ServerProcess
from tests.browser.visit import WIDE
from tests.support.files import encoded, picture
from tests.support.scripted import Scripted
from tests.support.servers import make_settings, running

pytestmark = pytest.mark.soak
BOX = "#ask textarea"


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("opening")
    words = ["--no-browser", "--data", str(folder / "page")]
    with (
        running(Scripted(), make_settings(folder / "one")) as (one, _),
        running(Scripted(), make_settings(folder / "two")) as (two, _),
        ServerProcess("ui.app", [*words, "--worker", f"one={one}", "--worker", f"two={two}"]) as page,
    ):
        client = Client(page.wait(), verbose=False)
        (folder / "a.png").write_bytes(encoded(picture((90, 60))))
        client.predict([handle_file(folder / "a.png")], "cellar", api_name="/add_pages")
        client.close()
        yield page.wait()


@dataclass
class Opening:
    """A page that has been drawn, and has not heard yet what its widgets are to be."""

    page: Page
    held: list[Route] = field(default_factory=list)
    done: bool = False

    def hold(self, route: Route) -> None:
        if self.done:
            route.continue_()
        else:
            self.held.append(route)

    def finish(self) -> None:
        self.done = True
        for route in self.held:
            route.continue_()
        expect(self.page.locator("#files :is(.empty, .files)")).to_be_visible()


def fill_and_hold(field: Locator, value: str) -> None:
    """Fill a field whose panel has just been opened: Gradio puts its first value in once more while it draws it."""
    held = 0
    while held < 5:
        if field.input_value() != value:
            field.fill(value)
            held = 0
        field.page.wait_for_timeout(100)
        held += 1


@pytest.fixture
def opening(browser: Browser, url: str) -> Iterator[Opening]:
    context = browser.new_context(viewport=WIDE)
    page = context.new_page()
    found = Opening(page)
    page.route("**/queue/data*", found.hold)
    yield found
    context.close()


def test_what_is_typed_meanwhile_stays_and_is_not_asked(opening: Opening, url: str) -> None:
    page = opening.page
    page.goto(url)
    page.locator(BOX).press_sequentially("where is the boi")
    page.locator("#top-k input").fill("20")
    opening.finish()
    expect(page.locator(BOX)).to_have_value("where is the boi")
    expect(page.locator("#top-k input")).to_have_value("20")
    expect(page.locator("#collection input")).to_have_value("cellar")
    expect(page.locator("#summary")).to_be_empty()
    assert "q=" not in page.url and "k=" not in page.url
    page.locator(BOX).press_sequentially("ler")
    page.keyboard.press("Enter")
    expect(page.locator(".hit")).to_have_count(1)
    page.wait_for_url("**q=where+is+the+boiler**")


def test_a_question_that_is_asked_meanwhile_is_answered(opening: Opening, url: str) -> None:
    page = opening.page
    page.goto(url)
    page.locator(BOX).fill("where is the boiler")
    page.keyboard.press("Enter")
    opening.finish()
    expect(page.locator("#collection input")).to_have_value("cellar")
    expect(page.locator(".hit")).to_have_count(1)
    expect(page.locator(BOX)).to_have_value("where is the boiler")


def test_choices_that_are_made_meanwhile_stay(opening: Opening, url: str) -> None:
    page = opening.page
    page.goto(url)
    page.locator("#collection input").click()
    page.get_by_role("option", name="samples").click()
    page.locator("#target input").click()
    page.get_by_role("option", name="two").click()
    page.locator("#refine > button").click()
    weight = page.locator("#weight input[type=number]")
    expect(weight).to_have_value("50")
    expect(page.locator("#only-added input")).to_be_visible()
    fill_and_hold(weight, "70")
    opening.finish()
    expect(page.locator("#collection input")).to_have_value("samples")
    expect(page.locator("#target input")).to_have_value("two")
    expect(weight).to_have_value("70")


def test_lists_that_are_only_passed_meanwhile_choose_nothing(opening: Opening, url: str) -> None:
    page = opening.page
    page.goto(url)
    for box in ("#collection input", "#top-k input", "#target input"):
        page.locator(box).focus()
        page.keyboard.press("Tab")
    opening.finish()
    expect(page.locator("#collection input")).to_have_value("cellar")
    expect(page.locator("#files")).to_contain_text("1 page")
    expect(page.locator("#summary")).to_be_empty()


def test_a_name_that_is_typed_meanwhile_stays(opening: Opening, url: str) -> None:
    page = opening.page
    page.goto(url)
    page.locator("#collection input").fill("")
    page.locator("#collection input").press_sequentially("attic")
    opening.finish()
    expect(page.locator("#collection input")).to_have_value("attic")


def test_what_the_address_names_is_asked(opening: Opening, url: str) -> None:
    page = opening.page
    page.goto(f"{url}/?q=boiler&k=4&c=attic&t=two")
    opening.finish()
    expect(page.locator(BOX)).to_have_value("boiler")
    expect(page.locator("#top-k input")).to_have_value("4")
    expect(page.locator("#collection input")).to_have_value("attic")
    expect(page.locator("#target input")).to_have_value("two")
    expect(page.locator("#summary")).to_contain_text("This collection has no pages")
