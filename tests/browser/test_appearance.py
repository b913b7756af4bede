"""What the page looks like: progress that can be told from its track, a report that is whole, tables without frames."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import Page, expect

from serving.http.child_server import ServerProcess
from tests.browser.visit import PHONE, Visit
from tests.support.files import pdf
from tests.support.scripted import Scripted
from tests.support.servers import make_settings, running

pytestmark = pytest.mark.soak


@pytest.fixture(scope="module")
def worker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Scripted]]:
    double = Scripted()
    with running(double, make_settings(tmp_path_factory.mktemp("worker"))) as (url, _):
        yield url, double
        double.gate.set()


@pytest.fixture(scope="module")
def page_url(worker: tuple[str, Scripted], tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    data = tmp_path_factory.mktemp("data")
    with ServerProcess("ui.app", ["--no-browser", "--worker", worker[0], "--data", str(data)]) as page:
        yield page.wait()


def measure_lightness(colour: Sequence[int]) -> float:
    """Return how light a colour is, as WCAG counts it."""
    r, g, b = [part / 3294.6 if part <= 10 else ((part / 255 + 0.055) / 1.055) ** 2.4 for part in colour]
    return 0.2126 * r + 0.7152 * g + 0.0722 * b


def test_the_bar_can_be_told_from_its_track(
    visit: Visit, look: str, worker: tuple[str, Scripted], tmp_path: Path
) -> None:
    _, embedder = worker
    page = visit.open(f"{visit.url}/?c=bar-{look}")
    (tmp_path / f"{look}.pdf").write_bytes(pdf([[f"page {n} in {look}"] for n in range(3)]))
    embedder.gate.clear()
    page.set_input_files("#dropzone input[type=file]", [tmp_path / f"{look}.pdf"])
    expect(page.locator("#progress")).to_contain_text("Page 1 of 3")
    bar = page.locator("#progress progress")
    expect(bar).to_have_js_property("value", 0)
    bar.evaluate("bar => { bar.value = bar.max / 2 }")
    drawn = Image.open(io.BytesIO(bar.screenshot())).convert("RGB")
    embedder.gate.set()
    expect(page.locator(".progress.done")).to_contain_text("3 pages added")
    done, left = [drawn.getpixel((int(drawn.width * part), drawn.height // 2)) for part in (0.25, 0.75)]
    light = sorted([measure_lightness(done), measure_lightness(left)])  # type: ignore[arg-type]
    ratio = (light[1] + 0.05) / (light[0] + 0.05)
    assert ratio >= 3, f"{ratio:.1f}: WCAG asks for 3 between bar and track"


HEIGHTS = """(frame) => [frame.clientHeight, frame.contentDocument.documentElement.scrollHeight,
  frame.contentDocument.querySelectorAll('.js-plotly-plot').length]"""


def wait_until_whole(page: Page) -> int:
    """Return the height of the report's frame once its plots are in it and nothing of it has to be scrolled."""
    page.wait_for_function(
        f"""() => {{
          const frame = document.querySelector('#bench-report iframe');
          if (!frame?.contentDocument?.body) return false;
          const [seen, needed, plots] = ({HEIGHTS})(frame);
          return plots === 3 && seen > 1200 && seen >= needed && seen < needed + 4;
        }}"""
    )
    return int(page.locator("#bench-report iframe").evaluate(HEIGHTS)[0])


def test_the_report_is_shown_whole(visit: Visit, look: str) -> None:
    page = visit.open(visit.url)
    page.get_by_role("tab", name="Cold starts").click()
    height = wait_until_whole(page)
    if look == "desktop":
        page.set_viewport_size({"width": PHONE["width"], "height": 900})  # narrower: its words take more lines
        page.wait_for_function(
            f"document.querySelector('#bench-report iframe').clientHeight !== {height}",
        )
        wait_until_whole(page)
        page.set_viewport_size({"width": 1440, "height": 900})
        page.wait_for_function(f"document.querySelector('#bench-report iframe').clientHeight === {height}")
    assert visit.width <= page.viewport_size["width"]  # type: ignore[index]


BORDERS = """(tables) => {
  const sides = ['Top', 'Right', 'Bottom', 'Left'];
  const drawn = (cell) => sides.filter((side) => {
    const style = getComputedStyle(cell);
    return style[`border${side}Style`] !== 'none' && parseFloat(style[`border${side}Width`]) > 0;
  }).map((side) => `${cell.tagName} ${side} ${getComputedStyle(cell)[`border${side}Color`]}`);
  return [...new Set(tables.flatMap((table) => [table, ...table.querySelectorAll('*')].flatMap(drawn)))].sort();
}"""
LINES = {"light": "rgb(227, 220, 209)", "dark": "rgb(52, 58, 68)"}


def test_tables_have_lines_below_their_rows_and_no_other_border(visit: Visit, look: str) -> None:
    page = visit.open(visit.url)
    page.get_by_role("tab", name="About").click()
    expect(page.locator(".about table").first).to_be_visible()
    line = LINES["dark" if "dark" in look else "light"]
    drawn = page.locator(".about table").evaluate_all(BORDERS)
    assert drawn == [f"TD Bottom {line}", f"TH Bottom {line}"]
