"""Reading on from a page that was found: turning pages, larger and smaller, its text, and other answers beside it."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from gradio_client import Client, handle_file
from playwright.sync_api import Browser, Locator, Page, expect

from serving.http.child_server import ServerProcess
from tests.browser.visit import LOOKS, Visit
from tests.support.accessibility import serious
from tests.support.files import encoded, pdf, picture
from tests.support.scripted import Scripted
from tests.support.servers import make_settings, running

pytestmark = pytest.mark.soak
PAGES = 30
SKIPPED = (12, 13)
"""Pages of the manual that the embedder refuses."""
ANSWER, OTHER = "The boiler is serviced in March", "The chimney is swept in May"


def manual() -> bytes:
    pages = [[f"Chapter {n}", f"Paragraph {n}, line <b>two</b>", f"The end of page {n}"] for n in range(1, PAGES + 1)]
    pages[9][1] = pages[21][1] = ANSWER
    for number in SKIPPED:
        pages[number - 1][1] = "unreadable"
    return pdf(pages)


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("viewer")
    with (
        running(Scripted(), make_settings(folder / "worker")) as (worker, _),
        ServerProcess("ui.app", ["--no-browser", "--worker", worker, "--data", str(folder / "data")]) as page,
    ):
        client = Client(page.wait(), verbose=False)
        (folder / "manual.pdf").write_bytes(manual())
        (folder / "note.png").write_bytes(encoded(picture((90, 60))))
        for name, collection in (("manual.pdf", "cellar"), ("note.png", "cellar"), ("note.png", "attic")):
            client.predict([handle_file(folder / name)], collection, api_name="/add_pages")
        client.close()
        yield page.wait()


class Reader:
    """Somebody who has asked for the boiler and reads on."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.field = page.locator("[data-number]")

    def sees(self, number: int) -> None:
        expect(self.field).to_have_value(str(number))
        expect(self.page.locator(".detail h2")).to_have_text("manual.pdf")
        expect(self.page.locator(".detail header p")).to_contain_text(f"page {number} of {PAGES}")
        self.page.wait_for_function(
            "new URL(location).searchParams.get('open') === document.querySelector('.detail').dataset.page"
        )

    def button(self, name: str) -> Locator:
        return self.page.get_by_role("button", name=name, exact=True)

    @property
    def entries(self) -> int:
        return int(self.page.evaluate("history.length"))

    @property
    def copied(self) -> str:
        """What is selected, as it would be copied."""
        return str(self.page.evaluate("getSelection().toString()"))


@pytest.fixture(params=["desktop", "phone"])
def reader(request: pytest.FixtureRequest, browser: Browser, url: str) -> Iterator[Reader]:
    visit = Visit(browser.new_context(**LOOKS[request.param]), url)
    page = visit.open(f"{url}/?c=cellar")
    page.wait_for_function("history.state !== null")
    page.locator("#ask textarea").fill(ANSWER)
    page.keyboard.press("Enter")
    expect(page.locator(".hit").first).to_be_visible()
    page.locator(".hit").first.click()
    found = Reader(page)
    expect(found.field).to_have_value(re.compile("10|22"))
    yield found
    assert visit.width <= LOOKS[request.param]["viewport"]["width"], "the page scrolls sideways"  # type: ignore[index]
    page.context.close()
    assert [fault for fault in visit.faults if not re.search(r"AbortError|errored out", fault)] == []


def go_to(reader: Reader, number: object) -> None:
    reader.field.fill(str(number))
    reader.field.press("Enter")


def test_pages_are_turned_by_button_key_and_number_in_one_entry_of_the_history(reader: Reader) -> None:
    page = reader.page
    begin = int(reader.field.input_value())
    found = page.url
    entries = reader.entries
    reader.button("Next page").click()
    reader.sees(begin + 1)
    expect(reader.button("Next page")).to_be_focused()
    expect(page.locator(".detail .answer")).not_to_contain_text(ANSWER)
    expect(page.locator(".detail .answer")).to_be_visible()
    expect(page.locator(".detail .mark")).to_be_visible()
    page.keyboard.press("ArrowLeft")
    reader.sees(begin)
    page.locator(".detail .answer").click()  # nothing has the keys
    page.keyboard.press("ArrowLeft")
    reader.sees(begin - 1)
    go_to(reader, 28)
    reader.sees(28)
    expect(reader.field).to_be_focused()
    page.keyboard.press("ArrowLeft")
    expect(reader.field).to_have_value("28")
    assert reader.entries == entries + 1, "one for all of them"

    page.reload()
    reader.sees(28)
    expect(page.locator('.hit[aria-current="true"]')).to_have_count(page.locator(".hit[data-page='x']").count())
    link = page.url
    page.evaluate("history.back()")
    reader.sees(begin)
    assert page.url == found
    page.evaluate("history.back()")
    page.wait_for_function("!new URL(location).searchParams.has('open')")
    expect(page.locator(".detail header p")).to_contain_text("#1")
    page.goto(link)
    reader.sees(28)
    reader.button("Next page").focus()
    page.keyboard.press("Escape")
    page.wait_for_function("!new URL(location).searchParams.has('open')")
    expect(page.locator(".detail header p")).to_contain_text("#1")


def test_pages_that_are_not_there_are_stepped_over_and_told(reader: Reader) -> None:
    page = reader.page
    go_to(reader, 11)
    reader.sees(11)
    reader.button("Next page").click()
    reader.sees(14)
    expect(page.locator(".told")).to_have_text("Pages 12 to 13 are not in the collection.")
    expect(page.locator("body > .unseen[role=status]")).to_contain_text("Pages 12 to 13 are not")
    reader.button("Previous page").click()
    reader.sees(11)
    go_to(reader, 12)
    reader.sees(14)
    expect(page.locator(".told")).to_have_text("Page 12 is not in the collection.")
    go_to(reader, 999)
    reader.sees(PAGES)
    expect(page.locator(".told")).to_have_text("This document has pages 1 to 30.")
    expect(reader.button("Next page")).to_have_attribute("aria-disabled", "true")
    go_to(reader, "many")
    reader.sees(PAGES)
    for _ in range(4):
        reader.button("Previous page").click()  # quicker than the answers: none is lost
    reader.sees(PAGES - 4)
    assert serious(page) == []


def test_keys_in_the_gallery_pass_between_hits_and_elsewhere_turn_pages(reader: Reader) -> None:
    page = reader.page
    hits = page.locator(".hit")
    hits.first.focus()
    page.keyboard.press("ArrowRight")
    expect(hits.nth(1)).to_be_focused()
    expect(page.locator(".detail header p")).to_contain_text("#2")
    page.locator("#ask textarea").focus()
    page.keyboard.press("ArrowRight")
    expect(page.locator(".detail header p")).to_contain_text("#2")
    page.get_by_role("tab", name="Search").focus()
    page.keyboard.press("ArrowLeft")
    expect(page.locator(".detail header p")).to_contain_text("#2")


def test_other_answers_in_the_document_open_their_page(reader: Reader) -> None:
    page = reader.page
    begin = int(reader.field.input_value())
    listed = page.locator(".elsewhere button")
    expect(listed).to_have_count(2)
    for button in listed.all():
        expect(button).to_contain_text(ANSWER)
    expect(page.locator('.elsewhere button[aria-current="true"] b')).to_have_text(f"Page {begin}")
    other = 32 - begin
    page.locator(".elsewhere button", has_text=f"Page {other}").click()
    reader.sees(other)
    expect(page.locator(".elsewhere button", has_text=f"Page {other}")).to_be_focused()
    expect(page.locator(".detail .answer")).to_contain_text(ANSWER)


def width_of(page: Page, selector: str) -> float:
    box = page.locator(selector).bounding_box()
    assert box is not None
    return box["width"]


def size_of(place: Locator) -> tuple[float, float]:
    box = place.bounding_box()
    assert box is not None
    return box["width"], box["height"]


def test_the_picture_grows_with_its_marks_and_is_moved(reader: Reader) -> None:
    page = reader.page
    window = page.locator(".detail .window")
    sheet, mark = width_of(page, ".detail .sheet"), width_of(page, ".detail .mark")
    frame = size_of(window)
    reader.button("Larger").click()
    page.keyboard.press("+")
    expect(page.locator("[data-zoom='0']")).to_have_text("156%")
    assert width_of(page, ".detail .sheet") == pytest.approx(sheet * 1.5625, abs=2)
    assert width_of(page, ".detail .mark") == pytest.approx(mark * 1.5625, abs=6)
    assert size_of(window) == frame, "what is below it stays where it is"
    page.keyboard.press("-")
    expect(page.locator("[data-zoom='0']")).to_have_text("125%")
    page.keyboard.press("0")
    expect(page.locator("[data-zoom='0']")).to_have_text("100%")
    window.evaluate("view => view.scrollIntoView()")
    box = window.bounding_box()
    assert box is not None
    middle = box["x"] + box["width"] / 2, box["y"] + 0.7 * box["height"]
    page.mouse.move(*middle)
    page.keyboard.down("Control")
    for _ in range(12):
        page.mouse.wheel(0, -200)
    page.keyboard.up("Control")
    expect(window).to_have_class(re.compile("is-zoomed"))
    assert page.evaluate("visualViewport.scale") == 1
    own = page.evaluate("document.querySelector('.sheet img').naturalWidth")
    assert width_of(page, ".detail .sheet") <= 2 * own + 2
    before = window.evaluate("view => [view.scrollLeft, view.scrollTop]")
    page.mouse.move(*middle)
    page.mouse.down()
    page.mouse.move(middle[0] - 40, middle[1] - 30, steps=3)
    page.mouse.up()
    after = window.evaluate("view => [view.scrollLeft, view.scrollTop]")
    assert [after[0] - before[0], after[1] - before[1]] == pytest.approx([40, 30], abs=1)
    assert reader.copied == ""
    window.focus()
    page.keyboard.press("ArrowRight")
    begin = reader.field.input_value()
    reader.button("Next page").click()
    reader.sees(int(begin) + 1)
    expect(window).to_have_class(re.compile("is-zoomed"))
    assert serious(page) == []


def test_text_is_selected_on_the_picture_line_by_line(reader: Reader) -> None:
    page = reader.page
    go_to(reader, 5)
    reader.sees(5)
    lines = page.locator(".detail .line")
    expect(lines).to_have_count(3)
    expect(lines.nth(1)).to_have_text("Paragraph 5, line <b>two</b>")
    page.wait_for_function("document.querySelector('.detail .line').style.getPropertyValue('--scale') !== ''")
    page.evaluate("document.querySelector('.detail .window').scrollIntoView()")
    page.evaluate("getSelection().selectAllChildren(document.querySelector('.detail .layer'))")
    text = "Chapter 5\nParagraph 5, line <b>two</b>\nThe end of page 5"
    assert [line.strip() for line in reader.copied.strip().splitlines() if line.strip()] == text.splitlines()
    boxes = [lines.nth(n).bounding_box() for n in range(3)]
    sheet = page.locator(".detail .sheet").bounding_box()
    assert sheet is not None
    for box, share in zip(boxes, page.evaluate(SHARES), strict=True):
        assert box is not None
        assert box["width"] == pytest.approx(share * sheet["width"], abs=2), "as wide as on the picture"
    if page.evaluate("'ontouchstart' in window"):
        return
    # By hand: from the first line over the empty margin into the third.
    page.evaluate("getSelection().removeAllRanges()")
    lines.first.hover(position={"x": 1, "y": 2})
    first, last, sheet = (place.bounding_box() for place in (lines.first, lines.last, page.locator(".detail .sheet")))
    assert first is not None and last is not None and sheet is not None
    page.mouse.down()
    page.mouse.move(sheet["x"] + sheet["width"] - 8, first["y"] + 1.8 * first["height"], steps=5)
    assert reader.copied.strip().splitlines()[0] == "Chapter 5"
    assert "The end" not in reader.copied, "an empty place selects nothing that lies elsewhere"
    page.mouse.move(last["x"] + last["width"] - 1, last["y"] + last["height"] / 2, steps=5)
    page.mouse.up()
    assert [line.strip() for line in reader.copied.strip().splitlines() if line.strip()] == text.splitlines()


SHARES = "[...document.querySelectorAll('.detail .line')].map((line) => Number(line.style.getPropertyValue('--w')))"
SWIPE = """([from, to]) => {
  const at = document.querySelector('.detail .sheet img');
  const {top} = at.getBoundingClientRect();
  const touch = (x) => new Touch({identifier: 1, target: at, clientX: x, clientY: top + 30});
  const send = (name, touches, changed) =>
    at.dispatchEvent(new TouchEvent(name, {bubbles: true, cancelable: true, touches, changedTouches: changed}));
  send('touchstart', [touch(from)], [touch(from)]);
  send('touchmove', [touch(to)], [touch(to)]);
  send('touchend', [], [touch(to)]);
}"""
PINCH = """([from, to]) => {
  const at = document.querySelector('.detail .sheet img');
  const {left, top, width} = at.getBoundingClientRect();
  const place = (x) => ({clientX: left + width / 2 + x, clientY: top + 60});
  const touch = (identifier, x) => new Touch({identifier, target: at, ...place(x)});
  const send = (name, apart) => {
    const touches = apart ? [touch(1, -apart / 2), touch(2, apart / 2)] : [];
    at.dispatchEvent(new TouchEvent(name, {bubbles: true, cancelable: true, touches, changedTouches: [touch(1, 0)]}));
  };
  send('touchstart', from);
  send('touchmove', to);
  send('touchend', 0);
}"""


@pytest.mark.parametrize("reader", ["phone"], indirect=True)
def test_fingers_turn_pages_and_make_them_larger(reader: Reader) -> None:
    page = reader.page
    begin = int(reader.field.input_value())
    page.evaluate(SWIPE, [300, 120])
    reader.sees(begin + 1)
    page.evaluate(SWIPE, [120, 300])
    reader.sees(begin)
    page.evaluate(SWIPE, [300, 280])
    page.evaluate(PINCH, [100, 170])
    expect(page.locator("[data-zoom='0']")).to_have_text("170%")
    page.evaluate(SWIPE, [300, 120])
    reader.sees(begin)
    page.evaluate(PINCH, [100, 40])
    expect(page.locator("[data-zoom='0']")).to_have_text("100%")


def test_a_page_opens_without_a_question_but_only_in_its_collection(reader: Reader, url: str) -> None:
    page = reader.page
    opened = page.locator(".detail").get_attribute("data-page")
    page.goto(f"{url}/?c=cellar&open={opened}")
    begin = int(reader.field.input_value())
    expect(page.locator(".elsewhere")).to_have_count(0)
    reader.button("Next page").click()
    reader.sees(begin + 1)
    page.goto(f"{url}/?c=attic&q=note&open={opened}")
    expect(page.locator(".detail h2")).to_have_text("note.png")
    page.wait_for_function("!new URL(location).searchParams.has('open')")
    expect(reader.field).to_have_count(0)
