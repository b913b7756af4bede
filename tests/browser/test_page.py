"""The page as a person uses it: a real browser, the real page, its real worker."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.browser.visit import CONTRAST, Visit
from tests.support.files import pdf
from tests.support.manual_pages import MANUAL
from tests.support.repository import SAMPLES
from tests.support.text_pages import draw_sheet

ANSWERED = ".detail .answer:not(.pending)"


def test_upload_search_detail_delete_reload(visit: Visit, look: str, page_url: str, tmp_path: Path) -> None:
    collection = f"e2e-{look}"
    manual = tmp_path / "house manual.pdf"
    manual.write_bytes(pdf(MANUAL))
    broken = tmp_path / "broken.pdf"
    broken.write_bytes(b"%PDF-1.4 nothing")
    page = visit.open(f"{page_url}/?c={collection}")
    expect(page.locator(".welcome")).to_be_visible()

    receipt = SAMPLES / "receipt-corner-larder.jpg"
    page.set_input_files("#dropzone input[type=file]", [manual, broken, receipt])
    expect(page.locator(".progress.done")).to_contain_text("4 pages added")
    expect(page.locator(".skipped")).to_contain_text("broken.pdf: the PDF is damaged")
    expect(page.locator(".files > summary")).to_have_text("4 pages from 2 files")

    page.locator("#ask textarea").fill("when can I go for a swim?")
    page.locator("#ask textarea").press("Enter")
    expect(page.locator(".hit")).to_have_count(4)
    expect(page.locator(ANSWERED)).to_contain_text("pool")
    expect(page.locator(".hit").first).to_contain_text("page 2 of 3")
    mark = page.locator(".detail .mark")
    expect(mark).to_be_visible()
    assert mark_is_on(page), "the marked line does not lie on the page"
    page.wait_for_url(re.compile(f"c={collection}&q=when\\+can\\+I\\+go"))

    page.locator(".hit").nth(1).click()
    expect(page.locator(".detail header p")).to_contain_text("#2")
    expect(page.locator('.hit[aria-current="true"]')).to_have_count(1)
    expect(page.locator(ANSWERED)).to_be_visible()
    deleted = page.locator(".hit").nth(1).get_attribute("data-page")
    page.locator(".detail .confirm summary").click()
    page.locator(".detail .danger").click()
    expect(page.locator(".hit")).to_have_count(3)
    expect(page.locator(".files > summary")).to_have_text("3 pages from 2 files")

    page.reload()
    expect(page.locator(".hit")).to_have_count(3)
    expect(page.locator("#ask textarea")).to_have_value("when can I go for a swim?")
    expect(page.locator(ANSWERED)).to_contain_text("pool")
    assert page.locator(f'[data-page="{deleted}"]').count() == 0
    assert visit.width <= page.viewport_size["width"], "the page scrolls sideways"  # type: ignore[index]


def mark_is_on(page: Page) -> bool:
    return bool(
        page.evaluate(
            """() => {
              const mark = document.querySelector('.detail .mark').getBoundingClientRect();
              const sheet = document.querySelector('.detail .sheet').getBoundingClientRect();
              return mark.width > 20 && mark.height > 4 && mark.left >= sheet.left - 1 && mark.right <= sheet.right + 1
                && mark.top >= sheet.top - 1 && mark.bottom <= sheet.bottom + 1;
            }"""
        )
    )


@pytest.mark.soak
@pytest.mark.parametrize("look", ["desktop", "phone"], indirect=True)
def test_the_mark_on_a_long_page_is_in_sight(visit: Visit, look: str, page_url: str, tmp_path: Path) -> None:
    receipt = tmp_path / "receipt.png"
    draw_sheet([f"Parcel {n} of the order" for n in range(60)] + ["Deposit slip 70031"], (600, 4_500)).save(receipt)
    page = visit.open(f"{page_url}/?c=long-{look}")
    page.set_input_files("#dropzone input[type=file]", [receipt])
    expect(page.locator(".progress.done")).to_contain_text("1 page added")
    page.locator("#ask textarea").fill("Deposit slip 70031")
    page.locator("#ask textarea").press("Enter")
    expect(page.locator(ANSWERED)).to_contain_text("Deposit slip")
    window = page.locator(".detail .window").bounding_box()
    assert window and window["height"] <= 0.6 * page.viewport_size["height"] + 1  # type: ignore[index]
    page.wait_for_function(
        """() => {
          const mark = document.querySelector('.detail .mark').getBoundingClientRect();
          const view = document.querySelector('.detail .window').getBoundingClientRect();
          return mark.top >= view.top && mark.bottom <= view.bottom;
        }"""
    )


@pytest.mark.soak
@pytest.mark.parametrize("look", ["desktop", "dark"], indirect=True)
def test_text_can_be_read_on_its_background(visit: Visit, page_url: str) -> None:
    """WCAG AA contrast (4.5) of the texts that are ours, in both colour schemes."""
    page = visit.open(f"{page_url}/?c=contrast")
    for selector in (".page-header h1", ".page-header p", ".chip", ".welcome p", ".welcome b", ".empty"):
        ratio = page.evaluate(CONTRAST, selector)
        assert ratio >= 4.5, f"{selector}: {ratio:.1f}"


@pytest.mark.soak
@pytest.mark.parametrize("look", ["desktop"], indirect=True)
def test_samples_in_one_click_then_chips_cancel_and_reload(visit: Visit, page_url: str) -> None:
    page = visit.open(f"{page_url}/?c=e2e-start")
    page.click("#samples")
    expect(page.locator(".progress.done")).to_contain_text("32 pages added")
    expect(page.locator(".chips button")).to_have_count(6)
    page.click("#shipped [data-again]")
    expect(page.locator(".progress b")).to_have_text(re.compile(r"Page \d+ of 32"))
    page.wait_for_function("(document.querySelector('.progress progress')?.value ?? 0) >= 2")

    page.goto(f"{page_url}/?c=samples")  # a reload in the middle shows the job that runs
    expect(page.locator(".progress b")).to_have_text(re.compile(r"Page \d+ of 32"))
    page.click("#cancel")
    expect(page.locator(".progress.done")).to_contain_text("what was added is kept")
    kept = int(re.findall(r"(\d+) pages? added", page.locator(".progress.done").inner_text())[0])
    assert 2 <= kept < 32
    expect(page.locator(".files > summary")).to_contain_text(f"{kept} page")

    page.locator(".chips button").first.click()
    expect(page.locator(".hit").first).to_be_visible()
    expect(page.locator("#ask textarea")).not_to_have_value("")


@pytest.mark.soak
@pytest.mark.parametrize("look", ["desktop"], indirect=True)
def test_what_goes_wrong_is_told(visit: Visit, page_url: str) -> None:
    page = visit.open(f"{page_url}/?c=e2e-empty&k=99999&x=<script>alert(1)</script>")
    page.click("#search")
    expect(page.locator(".notice")).to_contain_text("Type a question first")
    page.locator("#ask textarea").fill("anything")
    page.keyboard.press("Enter")
    expect(page.locator(".notice")).to_contain_text("no pages yet")
    page.locator("#ask textarea").evaluate("element => element.blur()")
    page.keyboard.press("/")
    expect(page.locator("#ask textarea")).to_be_focused()


@pytest.mark.soak
@pytest.mark.parametrize("look", ["desktop"], indirect=True)
def test_names_are_shown_as_text(visit: Visit, page_url: str, tmp_path: Path) -> None:
    nasty = tmp_path / "<img src=x onerror=document.title='hacked'>.pdf"
    nasty.write_bytes(pdf(MANUAL[:1]))
    page = visit.open(f"{page_url}/?c=e2e-names")
    page.set_input_files("#dropzone input[type=file]", [nasty])
    expect(page.locator(".progress.done")).to_contain_text("1 page added")
    page.locator("#ask textarea").fill("coffee")
    page.keyboard.press("Enter")
    expect(page.locator(ANSWERED)).to_be_visible()
    expect(page.locator(".hit .name")).to_contain_text("onerror")
    assert page.title() == "Dormouse" and page.locator("img[src=x]").count() == 0


@pytest.mark.soak
@pytest.mark.parametrize("look", ["desktop"], indirect=True)
def test_delete_file_and_collection(visit: Visit, page_url: str, tmp_path: Path) -> None:
    for number in range(2):
        (tmp_path / f"{number}.pdf").write_bytes(pdf([MANUAL[number]]))
    page = visit.open(f"{page_url}/?c=e2e-delete")
    page.set_input_files("#dropzone input[type=file]", [tmp_path / "0.pdf", tmp_path / "1.pdf"])
    expect(page.locator(".progress.done")).to_contain_text("2 pages added")
    page.locator(".files > summary").click()
    page.locator(".files li .confirm summary").first.click()
    page.locator(".files li .danger").first.click()
    expect(page.locator(".files > summary")).to_have_text("1 page from 1 file")
    page.locator(".files > .confirm summary").click()  # the list stays open
    page.locator(".files > .confirm .danger").click()
    expect(page.locator("#files .empty")).to_be_visible()
