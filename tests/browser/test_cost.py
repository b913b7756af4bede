"""What it costs, in a real browser: by day on a desk, and by night on a phone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from serving.http.child_server import ServerProcess
from tests.browser.visit import CONTRAST, LOOKS, Visit

pytestmark = [pytest.mark.soak, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    arguments = ["--no-browser", "--snapshot", "plain", "--data", str(tmp_path_factory.mktemp("page"))]
    with ServerProcess("ui.app", arguments) as page:
        yield page.wait()


@contextmanager
def visiting(browser: Browser, url: str, look: str) -> Iterator[Visit]:
    context = browser.new_context(**LOOKS[look])  # type: ignore[arg-type]
    visit = Visit(context, url)
    yield visit
    assert not visit.faults and not visit.outside
    context.close()


def section(visit: Visit, url: str) -> Page:
    page = visit.open(url)
    page.get_by_role("tab", name="Cold starts").click()
    expect(page.locator("#bench-report iframe")).to_be_visible()
    page.get_by_role("button", name="What it costs").click()
    expect(page.locator("#cost-bill .js-plotly-plot")).to_be_visible()
    expect(page.locator("#cost-curve .js-plotly-plot")).to_be_visible()
    return page


def fill(page: Page, name: str, value: str) -> None:
    page.locator(f"#cost-{name} input[type=number]").fill(value)


@pytest.mark.parametrize("look", ["desktop", "phone-dark"])
def test_in_words_first_then_drawn(browser: Browser, url: str, look: str, tmp_path: Path) -> None:
    with visiting(browser, url, look) as visit:
        page = section(visit, url)
        expect(page.locator("#cost-start-note")).to_contain_text("The run shown above has a median start of")
        measured = float(page.locator("#cost-start input[type=number]").input_value())
        assert 0 < measured < 1, "the stored run's restored median"
        headline = page.locator("#cost .headline")
        fill(page, "start", "15")
        expect(headline).to_have_text("At 10 requests a day you pay about $16 a month, always-on $1,725.")
        expect(page.locator("#cost-words")).to_contain_text("99% of the requests wait for a start")
        expect(page.locator("#cost-bill .legend")).to_contain_text("idle $12")
        fill(page, "requests", "1000")
        expect(headline).to_contain_text("At 1,000 requests a day")
        assert page.evaluate(CONTRAST, "#cost .headline") > 4.5
        for plot in ("#cost-bill", "#cost-curve"):
            box = page.locator(f"{plot} .js-plotly-plot").bounding_box()
            assert box is not None and box["width"] > 280
        assert visit.width <= page.viewport_size["width"]  # type: ignore[index]
        page.locator("#cost").screenshot(path=tmp_path / f"{look}.png")


def test_a_file_of_arrivals_has_a_knee_and_a_bad_one_a_sentence(browser: Browser, url: str, tmp_path: Path) -> None:
    with visiting(browser, url, "desktop") as visit:
        page = section(visit, url)
        bursts, bad = tmp_path / "bursts.csv", tmp_path / "bad.csv"
        bursts.write_text("at\n" + "".join(f"{burst * 8000 + 30 * n}\n" for burst in range(10) for n in range(50)))
        bad.write_text("0\nsoon\n")
        fill(page, "duration", "1")
        fill(page, "start", "10")
        page.locator("#cost-file input[type=file]").set_input_files(bursts)
        expect(page.locator("#cost-words")).to_contain_text("The knee is at a window of")
        expect(page.locator("#cost .headline")).to_contain_text("At 500 requests a day")
        expect(page.locator("#cost-curve .legend")).to_contain_text("knee")
        page.get_by_label("Remove").or_(page.locator("#cost-file button[aria-label*='lear']")).first.click()
        expect(page.locator("#cost .headline")).to_contain_text("At 10 requests a day")
        page.locator("#cost-file input[type=file]").set_input_files(bad)
        expect(page.locator("#cost-words")).to_contain_text("The file, line 2: 'soon' is neither seconds nor ISO 8601")
        expect(page.locator("#cost-curve .js-plotly-plot")).to_be_hidden()


def test_prices_follow_the_gpu_and_absurd_numbers_are_told(browser: Browser, url: str) -> None:
    with visiting(browser, url, "desktop") as visit:
        page = section(visit, url)
        words = page.locator("#cost-words")
        page.locator("#cost-gpu input").click()
        page.get_by_role("option", name="A10", exact=True).click()
        expect(page.locator("#cost-rate input")).to_have_value("1.102")
        expect(words).to_contain_text("A10, with 4 cores and 32 GiB at $1.546 an hour")
        expect(words).to_contain_text("read 2026-11-23")
        fill(page, "rate", "0.5")
        expect(words).to_contain_text("the GPU's price as entered")
        fill(page, "requests", "1000000")
        expect(words).to_contain_text("One container serves fewer than")
        expect(page.locator("#cost-bill .js-plotly-plot")).to_be_hidden()
        fill(page, "requests", "10")
        fill(page, "window", "-3")
        expect(words).to_contain_text("Seconds of the scaledown window: -3 is not from 0")
        fill(page, "window", "")
        expect(words).to_contain_text("Enter a number for the window")
        fill(page, "window", "120")
        expect(page.locator("#cost-bill .js-plotly-plot")).to_be_visible()
