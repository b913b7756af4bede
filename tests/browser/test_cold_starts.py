"""The Cold starts tab: a real browser, the real page, and a run that scales its engine down."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import requests
from gradio_client import Client
from playwright.sync_api import Browser, Dialog, Page, expect

from bench.results.record import RUNS
from serving.http.child_server import ServerProcess
from tests.browser.visit import LOOKS, Visit

pytestmark = [pytest.mark.soak, pytest.mark.timeout(300)]
STORED = "8.3x faster than plain"


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    arguments = ["--no-browser", "--snapshot", "plain", "--data", str(tmp_path_factory.mktemp("page"))]
    with ServerProcess("ui.app", arguments) as page:
        yield page.wait()


@contextmanager
def visiting(browser: Browser, url: str, look: str = "desktop") -> Iterator[Visit]:
    context = browser.new_context(**LOOKS[look])  # type: ignore[arg-type]
    visit = Visit(context, url)
    yield visit
    assert not visit.faults and not visit.outside
    context.close()


@pytest.fixture
def visit(browser: Browser, url: str) -> Iterator[Visit]:
    with visiting(browser, url) as visit:
        yield visit


def tab(page: Page) -> Page:
    page.get_by_role("tab", name="Cold starts").click()
    expect(page.locator("#bench-report iframe")).to_be_visible()
    return page


def measure_this_server(page: Page, repetitions: int) -> None:
    page.get_by_label("The server of this page").check()
    for box, value in (("#bench-repetitions", repetitions), ("#bench-warm", 1)):
        page.locator(f"{box} input[type=number]").fill(str(value))
        page.locator(f"{box} input[type=number]").press("Tab")
    expect(page.locator("#bench-estimate")).to_contain_text(f"scaled down {2 * repetitions} times")


def choose(page: Page, file: Path) -> None:
    with page.expect_file_chooser() as chooser:
        page.locator("#bench-file").click()
    chooser.value.set_files(file)


@pytest.mark.parametrize("look", LOOKS)
def test_a_stored_run_is_shown_before_any_other(browser: Browser, url: str, look: str) -> None:
    with visiting(browser, url, look) as visit:
        page = tab(visit.open(url))
        report = page.frame_locator("#bench-report iframe")
        expect(report.get_by_text("Stored run, not live")).to_be_visible()
        expect(report.locator(".headline")).to_contain_text(STORED)
        expect(report.locator(".js-plotly-plot")).to_have_count(3)
        assert visit.width <= page.viewport_size["width"]  # type: ignore[index]


def test_a_run_from_the_page_its_scaledown_and_a_second_browser(
    visit: Visit, browser: Browser, url: str, tmp_path: Path
) -> None:
    page = tab(visit.open(url))
    measure_this_server(page, 1)
    page.locator("#bench-start").click()
    expect(page.locator("#bench-stop")).to_be_visible()
    with visiting(browser, url) as other:
        expect(tab(other.open(url)).locator("#bench-stop")).to_be_visible()
        expect(page.locator("#bench-live")).to_contain_text("The run is complete", timeout=120_000)
        report = page.frame_locator("#bench-report iframe")
        expect(report.locator(".headline")).to_contain_text("plain in ")
        expect(report.get_by_text("2 verified cold, 0 not")).to_be_visible()
        expect(other.page.locator("#bench-live")).to_contain_text("The run is complete")

    with page.expect_download() as got:
        page.get_by_role("link", name="JSON").click()
    got.value.save_as(tmp_path / "run.json")
    found = json.loads((tmp_path / "run.json").read_text())
    assert [sample["verified"] for sample in found["samples"]].count(True) >= 2

    choose(page, RUNS / "cold_start_results_builtin.json")
    expect(report.locator(".headline")).to_contain_text(STORED)
    broken = tmp_path / "broken.json"
    broken.write_text("{")
    choose(page, broken)
    expect(page.get_by_text("The file was not loaded")).to_be_visible()


def test_scale_down_now_asks_first(visit: Visit, url: str) -> None:
    page = visit.open(url)
    client = Client(url, verbose=False)
    assert client.predict("anything", None, "my-pages", 3, None, api_name="/search")["hits"] == []
    expect(page.locator(".engine")).to_have_attribute("data-state", "serving")
    tab(page)
    asked: list[str] = []

    def answer(dialog: Dialog) -> None:
        asked.append(dialog.message)
        dialog.accept() if len(asked) == 2 else dialog.dismiss()

    page.on("dialog", answer)
    for count in (1, 2):
        expect(page.locator(".engine")).to_have_attribute("data-state", "serving")
        while len(asked) < count:  # a click is not taken while the one before it is being answered
            page.locator("#scaledown").click()
            page.wait_for_timeout(500)
    assert "next search waits" in asked[0]
    expect(page.locator(".engine")).to_have_attribute("data-state", "zero")
    expect(page.get_by_text("Scaled down. The next search starts")).to_be_visible()


def test_stop_keeps_what_was_measured(visit: Visit, url: str) -> None:
    page = tab(visit.open(url))
    measure_this_server(page, 20)
    page.locator("#bench-start").click()
    expect(page.locator("#bench-live")).to_contain_text("verified cold", timeout=60_000)
    page.locator("#bench-stop").click()
    expect(page.locator("#bench-live")).to_contain_text("was stopped; its measurements are kept")
    expect(page.locator("#bench-start")).to_be_visible()


def test_the_same_from_python(url: str) -> None:
    client = Client(url, verbose=False)
    run = client.predict(None, 1, False, api_name="/start_bench")["run"]
    found = client.predict(run, api_name="/bench_run")
    assert found["run"] == run and found["state"] in ("running", "done")
    assert client.predict(None, api_name="/scaledown") == {"status": "zero"}
    for name in ("nobody.json", "builtin.txt", "..%2Fbuiltin.json"):
        assert requests.get(f"{url}/runs/{name}", timeout=10).status_code == 404
    answer = requests.get(f"{url}/runs/builtin.csv", timeout=10)
    assert answer.status_code == 200 and answer.headers["content-type"].startswith("text/csv")
