"""`python -m bench samples`: how soon somebody who opens the page for the first time has hits among the sample pages.

Each sample is a page with an empty data folder, whose worker has never been started. It can be used, somebody looks at
it for a moment, or none, presses the button, and then asks the question by Enter. On the last one, the worker reads the
sample pages, to compare.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.options import int_between
from bench.results import record
from bench.results.record import Say
from bench.speed.browser import BrowserFailed, launch_browser
from bench.speed.page import CLOCK, HIT, WINDOW, read_text
from bench.speed.timing import summarise_seconds
from serving.http.child_server import ServerProcess

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

ABOUT = "a newcomer in a real browser: from the click on the button to the first hits among the sample pages"
QUESTION, ANSWER = "how heavy is the pump?", "handbook-tarnwell-pump.pdf"
PARTS = ("opened", "loaded", "asked", "total")
PAUSES_S = (0.0, 2.0)
"""How long somebody looks at a new page before the click: at best not at all, or as long as the button is read."""
READ_MS = 600_000.0
"""Reading the pages again takes a minute, on a busy machine some."""


class Newcomer:
    """A browser at a page that nobody has used before. Raises BrowserFailed for what does not happen."""

    def __init__(self, browser: Browser, data: Path, stack: ExitStack) -> None:
        process = stack.enter_context(ServerProcess("ui.app", ["--no-browser", "--data", str(data)]))
        self._url = process.wait()
        context = browser.new_context(viewport=WINDOW)  # type: ignore[arg-type]
        stack.callback(context.close)
        context.set_default_timeout(60_000)
        context.add_init_script(CLOCK)
        self._tab: Page = context.new_page()

    def find_answer(self, pause_s: float) -> dict[str, float]:
        """Return the seconds of each part, and of all from the click, `pause_s` after the page could be used."""
        tab = self._tab
        tab.goto(self._url)
        opened = float(tab.evaluate("window.dormouseOpened")) / 1000
        time.sleep(pause_s)
        began = time.perf_counter()
        tab.click("#samples")
        self._wait_for_pages()
        loaded = time.perf_counter()
        tab.locator("#ask textarea").fill(QUESTION)
        tab.evaluate("(given) => window.dormouseArm(...given)", ["keydown", *HIT])
        tab.locator("#ask textarea").press("Enter")
        tab.evaluate("window.dormouseTimed")
        ended = time.perf_counter()
        if not (first := read_text(tab, ".hit .name")).startswith(ANSWER):
            raise BrowserFailed(f"the first hit is {first!r} and not {ANSWER}")
        return dict(zip(PARTS, (opened, loaded - began, ended - loaded, ended - began), strict=True))

    def read_again(self) -> float:
        """Return the seconds in which the worker has read the sample pages."""
        began = time.perf_counter()
        self._tab.click("#shipped [data-again]")
        self._tab.locator("#progress progress").wait_for()
        self._wait_for_pages()
        return time.perf_counter() - began

    def _wait_for_pages(self) -> None:
        ended = "#progress :is(.progress.done, .notice)"
        self._tab.locator(ended).wait_for(timeout=READ_MS)
        if not (done := read_text(self._tab, ended)).startswith("32 pages added"):
            raise BrowserFailed(f"not all sample pages were added: {done}")


def measure_samples(count: int, say: Say) -> dict[str, Any]:
    """Return the result file's content. Raises BrowserFailed, ProcessFailed."""
    seen: dict[float, list[dict[str, float]]] = {pause: [] for pause in PAUSES_S}
    again = 0.0
    with ExitStack() as outer:
        folder = Path(outer.enter_context(tempfile.TemporaryDirectory(prefix="dormouse-bench-")))
        browser = outer.enter_context(launch_browser())
        for number, pause in enumerate(count * PAUSES_S, 1):
            with ExitStack() as stack:
                newcomer = Newcomer(browser, folder / f"{number}", stack)
                seen[pause].append(newcomer.find_answer(pause))
                parts = ", ".join(f"{part} {seconds:.2f} s" for part, seconds in seen[pause][-1].items())
                say(f"click after {pause:g} s: {parts}")
                if number == count * len(PAUSES_S):
                    again = newcomer.read_again()
    figures = [summarise_clicks(pause, found) for pause, found in seen.items()]
    for one in figures:
        say(f"click after {one['pause_s']:g} s: first hits p50 {one['total']['p50_ms']:.0f} ms later (n={count})")
    say(f"the same pages read by the worker: {again:.1f} s")
    return {"clicks": figures, "read_again_s": round(again, 2)}


def summarise_clicks(pause_s: float, seen: list[dict[str, float]]) -> dict[str, Any]:
    return {"pause_s": pause_s, **{part: summarise_seconds([one[part] for one in seen], 1) for part in PARTS}}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    times = "pages that are opened for each pause, with a data folder of their own; default: %(default)s"
    parser.add_argument("--count", type=int_between(1, 100), default=5, help=times)
    record.add_out(parser, "samples-builtin.json")


def main(options: argparse.Namespace) -> int:
    measure = partial(measure_samples, options.count, partial(print, flush=True))
    return record.measure_and_save(options.out, "samples", lambda _: measure())
