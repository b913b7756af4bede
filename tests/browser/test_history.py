"""The browser's Back and Forward, a reload and a link: each shows what was shown, and asks no model twice."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from gradio_client import Client, handle_file
from playwright.sync_api import Browser, Page, expect

from serving.http.child_server import ServerProcess
from tests.browser.visit import LOOKS, Visit
from tests.support.files import encoded, picture
from tests.support.scripted import Scripted
from tests.support.servers import make_settings, running

pytestmark = pytest.mark.soak
BOX = "#ask textarea"
OPENED = ".detail .close"


@pytest.fixture(scope="module")
def double(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Scripted]]:
    embedder = Scripted()
    with running(embedder, make_settings(tmp_path_factory.mktemp("worker"))) as (worker, _):
        yield worker, embedder


@pytest.fixture(scope="module")
def url(double: tuple[str, Scripted], tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("page")
    with ServerProcess("ui.app", ["--no-browser", "--worker", double[0], "--data", str(folder / "data")]) as page:
        client = Client(page.wait(), verbose=False)
        for collection, count in (("cellar", 4), ("attic", 2)):
            for number in range(count):
                path = folder / f"{collection}{number}.png"
                path.write_bytes(encoded(picture((60 + number, 60))))
                client.predict([handle_file(path)], collection, api_name="/add_pages")
        client.close()
        yield page.wait()


class Reader:
    """Somebody at the page, and what the embedder was asked meanwhile."""

    def __init__(self, page: Page, embedder: Scripted) -> None:
        self.page = page
        self._embedder = embedder
        self._before = len(embedder.calls)

    @property
    def questions(self) -> list[str]:
        return [text for call in self._embedder.calls[self._before :] for text in call]

    def ask(self, question: str, hits: int = 4) -> None:
        self.page.locator(BOX).fill(question)
        self.page.keyboard.press("Enter")
        self.sees(question, hits)

    def sees(self, question: str, hits: int = 4, rank: int = 1) -> None:
        """Expect a question's answer, with this hit in full, and the address that names the question."""
        self.page.wait_for_url(re.compile("q=" + question.replace(" ", r"\+") + "(&|$)") if question else "**")
        expect(self.page.locator(BOX)).to_have_value(question)
        expect(self.page.locator(".hit")).to_have_count(hits)
        if hits:
            expect(self.page.locator(".detail header p")).to_contain_text(f"#{rank}")
            expect(self.page.locator('.hit[aria-current="true"]')).to_have_count(1)
            expect(self.page.locator(".hit").nth(rank - 1)).to_have_attribute("aria-current", "true")

    def back(self) -> None:
        self.page.evaluate("history.back()")

    def forward(self) -> None:
        self.page.evaluate("history.forward()")


@pytest.fixture(params=["desktop", "phone"])
def reader(
    request: pytest.FixtureRequest, browser: Browser, url: str, double: tuple[str, Scripted]
) -> Iterator[Reader]:
    visit = Visit(browser.new_context(**LOOKS[request.param]), url)
    page = visit.open(f"{url}/?c=cellar")
    page.wait_for_function("history.state !== null")
    yield Reader(page, double[1])
    page.context.close()
    assert [fault for fault in visit.faults if not re.search(r"AbortError|errored out", fault)] == []


def test_back_goes_to_the_question_before_and_forward_again(reader: Reader) -> None:
    page = reader.page
    entries = page.evaluate("history.length")
    reader.ask("first question")
    reader.ask("second question")
    reader.ask("third question")
    assert page.evaluate("history.length") == entries + 3, "none for each letter"
    reader.back()
    reader.sees("second question")
    reader.back()
    reader.sees("first question")
    reader.forward()
    reader.sees("second question")
    reader.back()
    reader.back()
    reader.sees("", hits=0)
    expect(page.locator("#summary")).to_be_empty()
    page.evaluate("history.go(3)")
    reader.sees("third question")
    page.reload()
    reader.sees("third question")
    assert reader.questions == ["first question", "second question", "third question"], "each was embedded once"
    reader.back()
    reader.sees("second question")
    assert len(reader.questions) == 3


def test_an_opened_page_is_an_entry_that_closing_leaves(reader: Reader) -> None:
    page = reader.page
    reader.ask("a question")
    expect(page.locator(OPENED)).to_be_hidden()
    page.locator(".hit").nth(2).click()
    reader.sees("a question", rank=3)
    expect(page.locator(OPENED)).to_be_visible()
    assert re.search("open=[0-9a-f]{16}", page.url)
    page.locator(".hit").nth(1).click()
    reader.sees("a question", rank=2)
    reader.back()
    reader.sees("a question", rank=3)
    reader.forward()
    reader.sees("a question", rank=2)

    link = page.url
    page.locator(OPENED).click()
    reader.sees("a question", rank=1)
    expect(page.locator(OPENED)).to_be_hidden()
    assert "open=" not in page.url
    reader.back()
    reader.sees("", hits=0)

    page.goto(link)
    reader.sees("a question", rank=2)
    expect(page.locator(OPENED)).to_be_visible()
    page.locator(".hit").nth(1).focus()
    page.keyboard.press("Escape")
    reader.sees("a question", rank=1)
    expect(page.locator(".hit").nth(1)).to_be_focused()
    page.keyboard.press("Escape")
    expect(page.locator(BOX)).to_be_focused()
    page.locator(".hit").nth(3).click()
    reader.sees("a question", rank=4)
    page.reload()
    reader.sees("a question", rank=4)
    assert reader.questions == ["a question"] * 2, "once when asked, once for the link, which brings no vector"


def test_arrow_keys_pass_pages_in_one_entry(reader: Reader) -> None:
    page = reader.page
    reader.ask("a question")
    entries = page.evaluate("history.length")
    page.keyboard.press("ArrowDown")
    reader.sees("a question", rank=1)
    for rank in (2, 3, 4):
        page.keyboard.press("ArrowRight")
        reader.sees("a question", rank=rank)
    assert page.evaluate("history.length") == entries + 1
    reader.back()
    reader.sees("a question", rank=1)
    expect(page.locator(OPENED)).to_be_hidden()
    assert reader.questions == ["a question"]


def choose_tab(page: Page, name: str) -> None:
    page.get_by_role("tab", name=name, exact=True).click()


def test_the_tab_is_in_the_address(reader: Reader) -> None:
    page = reader.page
    reader.ask("a question")
    choose_tab(page, "Cold starts")
    page.wait_for_url("**tab=cold-starts**")
    expect(page.locator("#bench-report iframe")).to_be_visible()
    choose_tab(page, "About")
    page.wait_for_url("**tab=about**")  # history.length is not asked: it counts what the frame of the report loads, too
    reader.back()
    expect(page.locator("#bench-report iframe")).to_be_visible()
    page.reload()
    expect(page.locator("#bench-report iframe")).to_be_visible()
    expect(page.locator(BOX)).to_be_hidden()
    assert reader.questions == ["a question"], "what is on another tab is not asked"
    choose_tab(page, "Search")
    reader.sees("a question")
    reader.back()
    expect(page.locator("#bench-report iframe")).to_be_visible()
    reader.back()
    reader.sees("a question")
    assert "tab=" not in page.url and reader.questions == ["a question"]


def test_pages_like_another_and_another_collection(reader: Reader) -> None:
    page = reader.page
    reader.ask("a question")
    page.locator(".detail [data-like]").click()
    expect(page.locator("#summary")).to_contain_text("3 pages like")
    page.wait_for_url("**like=**")
    page.reload()
    expect(page.locator("#summary")).to_contain_text("3 pages like")
    reader.back()
    reader.sees("a question")

    box = page.locator("#collection input")
    box.fill("attic")
    box.press("Enter")
    page.wait_for_url("**c=attic**")
    expect(page.locator("#files")).to_contain_text("2 pages")
    expect(page.locator(".hit")).to_have_count(0)
    assert "q=" not in page.url
    reader.ask("a question", hits=2)
    reader.back()
    expect(page.locator(".hit")).to_have_count(0)
    reader.back()
    reader.sees("a question")
    expect(box).to_have_value("cellar")
    expect(page.locator("#files")).to_contain_text("4 pages")
    assert reader.questions == ["a question"] * 2


def test_a_question_with_an_image_is_an_entry_of_its_own(reader: Reader, tmp_path: Path) -> None:
    page = reader.page
    reader.ask("a question")
    score = page.locator(".hit .score > :last-child").first
    alone = score.inner_text()
    page.locator("#refine > button").click()
    (tmp_path / "image.png").write_bytes(encoded(picture((70, 70))))
    page.set_input_files("#ask-image input[type=file]", [tmp_path / "image.png"])
    expect(score).not_to_have_text(alone)
    together = score.inner_text()
    page.wait_for_function("history.length > 3")
    reader.back()
    expect(score).to_have_text(alone)
    reader.forward()
    expect(score).to_have_text(together)
    asked = len(reader.questions)
    page.reload()
    reader.sees("a question")
    expect(score).to_have_text(together)
    assert len(reader.questions) == asked


def test_filters_come_back_with_their_question(reader: Reader) -> None:
    page = reader.page
    reader.ask("a question")
    page.locator("#refine > button").click()
    page.locator("#only-files input").click()
    page.get_by_role("option", name="cellar2").click()
    expect(page.locator(".hit")).to_have_count(1)
    page.keyboard.press("Escape")
    reader.ask("filtered", hits=1)
    page.locator("#only-files").get_by_role("button", name="Clear").or_(
        page.locator("#only-files .remove-all")
    ).first.click()
    expect(page.locator(".hit")).to_have_count(4)
    reader.back()
    reader.sees("a question", hits=1)
    expect(page.locator("#only-files")).to_contain_text("cellar2")
    assert reader.questions == ["a question", "filtered"]


def test_nothing_is_lost_by_a_question_that_fails(reader: Reader, double: tuple[str, Scripted]) -> None:
    page = reader.page
    reader.ask("a question")
    page.locator(BOX).evaluate("box => { box.removeAttribute('maxlength') }")
    page.locator(BOX).fill("much " * 500)
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert")).to_contain_text("longer than 2000 characters")
    page.wait_for_url("**q=much**")
    reader.back()
    reader.sees("a question")
    page.locator(BOX).fill("")
    page.keyboard.press("Enter")
    expect(page.locator(".notice")).to_contain_text("Type a question first")
    reader.back()
    reader.sees("a question")
    assert reader.questions == ["a question"]
