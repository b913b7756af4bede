"""Asking with an image, with words beside it, for others like a page, above a score: in a browser."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.browser.visit import Visit
from tests.support.repository import SAMPLES

SLIDE, RECEIPT = "slide-shelf-robots.webp", "receipt-corner-larder.jpg"
FILES = (SLIDE, RECEIPT, "chart-honey-harvest.png")

COPY = """async (data) => {
  const bytes = Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0));
  await navigator.clipboard.write([new ClipboardItem({'image/png': new Blob([bytes], {type: 'image/png'})})]);
}"""


def arrive(visit: Visit, page_url: str, collection: str) -> Page:
    page = visit.open(f"{page_url}/?c={collection}")
    chosen = [path for path in sorted(SAMPLES.iterdir()) if path.name in FILES]
    page.set_input_files("#dropzone input[type=file]", chosen)
    expect(page.locator(".progress.done")).to_contain_text(f"{len(chosen)} pages added")
    page.locator("#refine > button").click()
    return page


@pytest.mark.parametrize("look", ["desktop", "phone-dark"], indirect=True)
def test_image_as_question_and_others_like_a_page(visit: Visit, look: str, page_url: str, tmp_path: Path) -> None:
    page = arrive(visit, page_url, f"asking-{look}")
    page.set_input_files("#ask-image input[type=file]", SAMPLES / SLIDE)
    expect(page.locator(".hit").first).to_contain_text(SLIDE)
    expect(page.locator(".detail header h2")).to_have_text(SLIDE)

    page.locator(".detail [data-like]").click()
    expect(page.locator(".summary")).to_contain_text(f"like “{SLIDE}”")
    expect(page.locator(".hit")).to_have_count(len(FILES) - 1)
    expect(page.locator(".hit", has_text=SLIDE)).to_have_count(0)

    page.locator("#ask textarea").fill("corner larder receipt, total paid")
    for share, first in (("0", RECEIPT), ("100", SLIDE)):
        page.locator("#weight input[type=number]").fill(share)
        page.locator("#weight input[type=number]").press("Tab")
        page.locator("#search").click()
        expect(page.locator(".hit").first).to_contain_text(first)

    best, next_best = (float(text) for text in page.locator(".hit .score > span:last-child").all_inner_texts()[:2])
    page.locator("#minimum input[type=number]").fill(f"{(best + next_best) / 2:.2f}")
    page.locator("#minimum input[type=number]").press("Tab")
    page.locator("#search").click()
    expect(page.locator(".summary")).to_contain_text("hidden below the minimum")
    expect(page.locator(".hit")).to_have_count(1)
    page.locator("#minimum input[type=number]").fill("1")
    page.locator("#minimum input[type=number]").press("Tab")
    page.locator("#search").click()
    expect(page.locator("#summary")).to_contain_text("No page reaches 1")
    assert visit.width <= page.viewport_size["width"], "the page scrolls sideways"  # type: ignore[index]


@pytest.mark.parametrize("look", ["desktop"], indirect=True)
def test_what_is_no_image_is_told(visit: Visit, page_url: str, tmp_path: Path) -> None:
    page = arrive(visit, page_url, "asking-badly")
    bad = tmp_path / "no image.png"
    bad.write_bytes(b"only text")
    page.set_input_files("#ask-image input[type=file]", bad)
    expect(page.locator("#summary .notice.error")).to_contain_text("The search failed")
    page.locator("#ask textarea").fill("water")
    expect(page.locator("#ask-image")).to_be_visible()
    visit.faults.clear()  # the browser's own word that it cannot show this picture


@pytest.mark.parametrize("look", ["desktop"], indirect=True)
def test_an_image_that_was_copied_can_be_pasted(visit: Visit, page_url: str) -> None:
    page = arrive(visit, page_url, "asking-by-paste")
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.evaluate(COPY, base64.b64encode((SAMPLES / "chart-honey-harvest.png").read_bytes()).decode())
    page.locator("#ask-image").get_by_role("button", name="Paste from clipboard").click()
    expect(page.locator(".hit").first).to_contain_text("chart-honey-harvest.png")
