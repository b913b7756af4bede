"""Draws the README's pictures of the page again, `make screenshots`: the real page, the built-in embedder, the sample
pages, a real browser (needs fonts-noto-core, fonts-noto-cjk)."""

from __future__ import annotations

import tempfile
from pathlib import Path

from gradio_client import Client
from playwright.sync_api import Browser, Page, expect

from bench.speed.browser import launch_browser
from serving.http.child_server import ServerProcess
from tests.browser.visit import LOOKS, PHONE

FOLDER = Path(__file__).parents[2] / "assets" / "screenshots"
QUESTION = "who leads hiring at the drone company?"
QUESTIONS = (
    "how heavy is the bigger model of the pump?\nwho leads hiring at the drone company?\n"
    "what did I pay at the grocery shop in November?\nhow big is the space for cooking in the house?"
)


def main() -> None:
    with tempfile.TemporaryDirectory() as data, ServerProcess("ui.app", ["--no-browser", "--data", data]) as server:
        url = server.wait()
        with launch_browser() as browser:
            filled(browser, url)
            desk(browser, url)
            phone(browser, url)
    cold_starts()


def filled(browser: Browser, url: str) -> None:
    page = browser.new_page()
    page.goto(url)
    page.click("#samples")
    expect(page.locator(".progress.done")).to_contain_text("32 pages added", timeout=300_000)
    page.close()


def desk(browser: Browser, url: str) -> None:
    page = browser.new_page(viewport={"width": 1440, "height": 1000})
    asked(page, f"{url}/?c=samples")
    page.screenshot(path=FOLDER / "search.png")
    page.locator("#many > button").click()
    page.locator("#questions textarea").fill(QUESTIONS)
    page.locator("#score").click()
    expect(page.locator(".heat tbody tr")).to_have_count(4)
    page.locator("#scores").screenshot(path=FOLDER / "many.png")
    page.close()


def phone(browser: Browser, url: str) -> None:
    context = browser.new_context(**{**LOOKS["phone-dark"], "viewport": {**PHONE, "height": 1500}})  # type: ignore[arg-type]
    page = context.new_page()
    asked(page, f"{url}/?c=samples")
    page.screenshot(path=FOLDER / "phone-dark.png")
    context.close()


def cold_starts() -> None:
    """A first start and three from its snapshot, above a run that was recorded on a GPU."""
    with (
        tempfile.TemporaryDirectory() as data,
        ServerProcess("ui.app", ["--no-browser", "--data", data, "--scaledown-window", "8"]) as server,
        launch_browser() as browser,
    ):
        url = server.wait()
        page = browser.new_page(viewport={"width": 1440, "height": 1150})
        page.goto(url)
        page.get_by_role("tab", name="Cold starts").click()
        page.locator("#bench-run input").click()
        page.get_by_role("option", name="hf on NVIDIA").first.click()
        expect(page.frame_locator("#bench-report iframe").locator(".js-plotly-plot")).to_have_count(3)
        client = Client(url, verbose=False)
        for start in range(4):
            if start:
                expect(page.locator(".engine")).to_have_attribute("data-state", "zero")
                page.wait_for_timeout(6_000)  # asleep long enough to be seen
            client.predict(QUESTION, None, "my-pages", 3, None, api_name="/search")
        expect(page.locator(".engine")).to_have_attribute("data-state", "serving")
        page.wait_for_timeout(3_000)
        page.screenshot(path=FOLDER / "cold-starts-tab.png")


def asked(page: Page, url: str) -> None:
    page.goto(url)
    expect(page.locator(".files")).to_be_visible()
    page.locator("#ask textarea").fill(QUESTION)
    page.keyboard.press("Enter")
    expect(page.locator(".detail .mark")).to_be_visible()
    page.wait_for_function("[...document.images].every((image) => image.complete || image.loading === 'lazy')")


if __name__ == "__main__":
    main()
