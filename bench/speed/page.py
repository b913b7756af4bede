"""`python -m bench page`: how quick the page is with many pages in a collection, in a real browser.

Times a person waits for are taken by the browser's clock (`page_clock.js`), from the input to the frame after the one
that shows its answer. Each question also goes by the page's API, in turn: the difference is what the browser adds.
Counts and sizes carry over between machines; times on a shared CPU do not.
"""

from __future__ import annotations

import argparse
import os
import re
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import requests

from bench.options import int_between
from bench.quality.recall import LabelledQuery
from bench.results import record
from bench.results.record import Say
from bench.speed import booklets
from bench.speed.browser import BrowserFailed, launch_browser
from bench.speed.processor_time import load_psutil, read_machine_seconds, read_processor_times
from bench.speed.slow_door import SlowDoor
from bench.speed.timing import summarise_seconds
from serving.http.child_server import ServerProcess
from serving.system.cores import count_cores

if TYPE_CHECKING:
    from gradio_client import Client
    from playwright.sync_api import Browser, CDPSession, Page

ABOUT = "the page with many pages in a collection, in a real browser: from Enter to the first hit painted"
COLLECTION = "bench"
CLOCK = (Path(__file__).parent / "page_clock.js").read_text()
WINDOW = {"width": 1440, "height": 900}
HIT, SHEET = ("#gallery .hits:not(.first)", "img"), ("#detail .detail", ".sheet img")
FIRST = ("#gallery .hits.first", "img")
"""Selectors of the box where an answer appears, and of the picture in it that is waited for."""
FIRST_MS = 150.0
"""The goal for the 95th percentile from Enter to the first results, whatever the server does."""
SLOW_S = (0.5, 2.0, 15.0)
"""How long servers take that are measured beside the engine, as one does that comes back from zero."""
TOP = 3
"""Pages of the first results that are looked for among as many of the final ones."""
ENTER_MS = 500.0
"""The goal for the median from Enter to the first hit painted."""
AWAKE_S = "3600"
"""The worker's scaledown window: it sleeps when it is told to, so that no waking up gets into the other times."""
REPORT_S = 20.0
"""Seconds between two reports on an ingest that goes on."""
TOP_K, ALL = 8, 50
OPENS, CLICKS, FILTERS, ASLEEP, WAITED, WARM = 5, 20, 10, 5, 20, 3
"""Samples of each, if as many questions are asked; the warm-up is not counted."""
STATE_S = 10.0
"""Seconds in which the page must have heard of a change of its engine."""
QUIET_MS = 300
"""The pause after an answer, for what the page still loads."""
SERVER_MS = re.compile(r"total ([\d,]+) ms")


def measure_page(pages: int, count: int, say: Say) -> dict[str, Any]:
    """Add booklets, ask questions, and return the result file's content. Raises BrowserFailed, ProcessFailed."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="dormouse-bench-")))
        data = folder / "data"
        if (load := os.getloadavg()[0]) > count_cores() / 2:
            say(f"other work is going on here (load {load:.1f} on {count_cores()} cores): times will be too long")
        say(f"drawing {pages} pages")
        files = booklets.write_booklets(folder, pages)
        browser = stack.enter_context(launch_browser())
        arguments = ["--no-browser", "--data", str(data), "--scaledown-window", AWAKE_S]
        process = stack.enter_context(ServerProcess("ui.app", arguments))
        bench = PageBench(browser, process, data, say)
        figures = bench.measure(files, booklets.write_questions(pages, 2 * count), pages)
        process.stop()
        figures["uploads"]["after_stop"] = measure_folder(data / "uploads")
        questions = booklets.write_questions(pages, 2 * count)[: min(WAITED, count)]
        figures["slow_servers"] = [measure_waiting(browser, data, questions, seconds, say) for seconds in SLOW_S]
    return figures


def measure_waiting(
    browser: Browser, data: Path, asked: Sequence[LabelledQuery], seconds: float, say: Say
) -> dict[str, Any]:
    """Measure what somebody waits for whose server takes that long: the page's library is searched by words first."""
    with (
        tempfile.TemporaryDirectory(prefix="dormouse-bench-") as folder,
        ServerProcess("serving", ["--data", folder, "--scaledown-window", AWAKE_S]) as engine,
        SlowDoor(urlsplit(engine.wait()).port or 0, seconds) as door,
        ServerProcess("ui.app", ["--no-browser", "--data", str(data), "--worker", door.url]) as process,
    ):
        bench = PageBench(browser, process, data, say)
        tab, first, final, stayed = bench.tab, [], [], []
        bench.load_page(tab)
        bench.ask(tab, "is anybody there?")
        for label in asked:
            tab.locator("#ask textarea").fill(label.query)
            both = [FIRST, HIT]
            at_once, at_last = bench.time_inputs(
                tab, "keydown", both, lambda: tab.locator("#ask textarea").press("Enter")
            )
            first.append(at_once["total"] / 1000)
            final.append(at_last["total"] / 1000)
            stayed.append(len({*at_once["pages"][:TOP]} & {*at_last["pages"][:TOP]}) / TOP)
            tab.wait_for_timeout(QUIET_MS)
        tab.context.close()
    figures: dict[str, Any] = {
        "server_s": seconds,
        "enter_to_first": {**summarise_seconds(first, 1), "goal_p95_ms": FIRST_MS},
        "enter_to_final": summarise_seconds(final, 1),
        "of_first_three_stayed": round(statistics.mean(stayed), 3),
    }
    words = f"with a server that takes {seconds:g} s: from Enter to first results (goal: p95 under {FIRST_MS:g} ms)"
    bench.say_figures(words, figures["enter_to_first"])
    bench.say_figures("  to the final ranking", figures["enter_to_final"])
    return figures


class PageBench:
    """One page that is used by a person in a browser. Its methods raise BrowserFailed for what does not happen."""

    def __init__(self, browser: Browser, process: ServerProcess, data: Path, say: Say) -> None:
        self.browser = browser
        self.url = process.wait()
        self.say = say
        self.uploads = data / "uploads"
        self.process = load_psutil().Process(process.pid)
        self.tab = self.open_tab()

    def open_tab(self) -> Page:
        """Return a tab in which nothing is cached."""
        context = self.browser.new_context(viewport=WINDOW)  # type: ignore[arg-type]
        context.set_default_timeout(60_000)
        context.add_init_script(CLOCK)
        return context.new_page()

    def open_client(self) -> Client:
        from gradio_client import Client

        return Client(self.url, verbose=False)

    def load_page(self, tab: Page, query: str = "") -> float:
        """Load the page, and return the seconds until it can be used."""
        tab.goto(f"{self.url}/?c={COLLECTION}{query}")
        return float(tab.evaluate("window.dormouseOpened")) / 1000

    def measure(self, files: Sequence[Path], asked: Sequence[LabelledQuery], pages: int) -> dict[str, Any]:
        """Measure all. Every second question is counted; the others only show what they leave in memory."""
        memory = {"start_mb": self.read_rss_mb()}
        figures: dict[str, Any] = {"pages": pages, "files": len(files), "ingest": self.measure_ingest(files, pages)}
        memory["after_ingest_mb"] = self.read_rss_mb()
        sent = {"files": len(files), "kb": round(sum(path.stat().st_size for path in files) / 1e3, 1)}
        figures["uploads"] = {"sent": sent, "after_ingest": measure_folder(self.uploads)}
        count = len(asked) // 2
        figures["open"] = self.measure_opening(min(OPENS, count))
        figures.update(self.measure_searches(asked[::2], asked[1::2], memory))
        figures["hit_to_detail"] = self.measure_details(min(CLICKS, count))
        figures["filter_to_hits"] = self.measure_filters(asked[::2], min(FILTERS, count))
        figures["gallery"] = self.measure_gallery(asked[0], min(ALL, pages))
        figures.update(self.measure_waking(asked[::2], min(ASLEEP, count)))
        memory["end_mb"] = self.read_rss_mb()
        figures["uploads"]["before_stop"] = measure_folder(self.uploads)
        return {**figures, "page_process": memory}

    # One figure each

    def measure_ingest(self, files: Sequence[Path], pages: int) -> dict[str, Any]:
        """Measure from the choice of the files to the word that all are added; the worker's first start is in it."""
        tab = self.tab
        self.load_page(tab)
        began = time.perf_counter()
        tab.set_input_files("#dropzone input[type=file]", list(files))
        ended, reported = "#progress :is(.progress.done, .notice)", began
        while not tab.locator(ended).count():
            if time.perf_counter() - reported > REPORT_S:
                reported = time.perf_counter()
                self.say(f"adding pages: {read_text(tab, '#progress .progress b')}")
            tab.wait_for_timeout(100)
        seconds = time.perf_counter() - began
        done = read_text(tab, ended)
        if not done.startswith(f"{pages:,} pages added"):
            raise BrowserFailed(f"not all {pages} pages were added: {done}")
        self.say(f"ingest through the page: {pages} pages in {seconds:.0f} s, {60 * pages / seconds:.0f} a minute")
        return {"pages": pages, "seconds": round(seconds, 2), "pages_per_minute": round(60 * pages / seconds, 1)}

    def measure_opening(self, n: int) -> dict[str, Any]:
        """Measure the time until the page can be used, nothing cached."""
        seconds = []
        for _ in range(n):
            tab = self.open_tab()
            seconds.append(self.load_page(tab))
            tab.context.close()
        return self.say_figures("opening the page, nothing cached, until it can be used", summarise_seconds(seconds, 1))

    def measure_searches(
        self, asked: Sequence[LabelledQuery], others: Sequence[LabelledQuery], memory: dict[str, float]
    ) -> dict[str, Any]:
        """Measure from Enter to the first hit painted, with its parts, and the same question by the API in turn."""
        tab, client = self.tab, self.open_client()
        self.load_page(tab)
        traffic = TabTraffic(tab)
        for number in range(WARM):
            self.ask(tab, f"what is number {number}")
            self.ask_api(client, f"what is number {number}")
        self.wait_for_state("serving")
        memory["before_searches_mb"], before = self.read_rss_mb(), traffic.read_heap()
        began, *work = time.monotonic(), *read_cpu_seconds()
        seen, plain, server, first = [], [], [], 0
        for number, label in enumerate(asked):
            if number % 2:
                plain.append(self.ask_api(client, label.query))
            traffic.start()
            seen.append(self.ask(tab, label.query))
            traffic.stop()
            server.append(self.read_server_ms() / 1000)
            shown = read_text(tab, ".hit .name"), read_text(tab, ".hit .sub")
            first += shown[0].startswith(label.file) and f"page {label.page} of" in shown[1]
            if not number % 2:
                plain.append(self.ask_api(client, label.query))
        memory["after_searches_mb"] = self.read_rss_mb()
        machine_s, ours_s = (after - was for after, was in zip(read_cpu_seconds(), work, strict=True))
        elsewhere = max(0.0, machine_s - ours_s) / (time.monotonic() - began)
        for label in others:
            self.ask(tab, label.query)
        hits = {**summarise_answers(seen), "goal_p50_ms": ENTER_MS, "server": summarise_seconds(server, 0)}
        totals, parts = zip(*plain, strict=True)
        by_api = {**summarise_seconds(totals, 1), "server": summarise_seconds(parts, 1)}
        self.say_figures(f"from Enter to the first hit painted (goal: p50 under {ENTER_MS:g} ms)", hits)
        self.say("  of which: " + ", ".join(f"{name} {ms:.0f} ms" for name, ms in hits["phases_p50_ms"].items()))
        self.say_figures("  the server's own part of it", hits["server"])
        self.say_figures("  the same question by the API, first picture included", by_api)
        self.say(f"  meanwhile, other work kept {elsewhere:.1f} of {count_cores()} cores busy")
        return {
            "enter_to_hits": hits,
            "same_by_api": by_api,
            "cores_busy_with_other_work": round(elsewhere, 2),
            "right_page_first": {"n": len(asked), "first": first},
            "per_search": traffic.summarise_searches(),
            "browser": {"searches": len(asked) + len(others), "before": before, "after": traffic.read_heap()},
        }

    def measure_details(self, n: int) -> dict[str, Any]:
        """Measure clicks on the hits of the question asked last, from the second on: the first is shown already."""
        tab = self.tab
        seen = []
        for number in range(n):
            hit = tab.locator("#gallery .hit").nth(1 + number % (TOP_K - 1))
            if number % (TOP_K - 1) == 0:
                self.ask(tab, f"pages about repair number {number}")
            seen.append(self.time_input(tab, "click", SHEET, hit.click))
        return self.say_figures("from a click on a hit to its page painted", summarise_answers(seen))

    def measure_filters(self, asked: Sequence[LabelledQuery], n: int) -> dict[str, Any]:
        """Measure the choice of a file that the first hit is not in; it is taken out before the next question."""
        tab = self.tab
        tab.locator("#refine > button").click()
        seen = []
        for number in range(n):
            self.ask(tab, asked[number].query)
            names = (booklets.name_booklet(file) for file in range(booklets.FILES))
            first = read_text(tab, ".hit .name")
            other = next(name for name in names if not first.startswith(name))
            tab.locator("#only-files input").click()
            option = tab.get_by_role("option", name=other)
            seen.append(self.time_input(tab, "mousedown", HIT, option.click))
            tab.locator("#only-files input").press("Escape")
            self.time_input(tab, "click", HIT, tab.locator("#only-files .remove-all").click)
        tab.locator("#refine > button").click()
        figures = summarise_seconds([one["total"] / 1000 for one in seen], 1)
        return self.say_figures("from the choice of a file to the hits ranked again", figures)

    def measure_gallery(self, label: LabelledQuery, expected: int) -> dict[str, Any]:
        """Count the pictures of a long gallery that are loaded before anybody scrolls, and after."""
        tab = self.open_tab()
        loaded: list[str] = []
        tab.on("request", lambda request: loaded.extend([request.url] * request.url.endswith(".webp")))
        self.load_page(tab, f"&k={ALL}")
        self.ask(tab, label.query)
        tab.wait_for_timeout(3 * QUIET_MS)
        before = len(loaded)
        tab.locator("#gallery .hit").last.scroll_into_view_if_needed()
        tab.wait_for_timeout(3 * QUIET_MS)
        figures = {
            "hits": tab.locator("#gallery .hit").count(),
            "loaded_at_first": before,
            "loaded_at_end": len(loaded),
        }
        tab.context.close()
        if figures["hits"] != expected:
            raise BrowserFailed(f"{figures['hits']} hits were shown and not {expected}")
        self.say(f"a gallery of {figures['hits']}: {before} pictures loaded before scrolling, {len(loaded)} after")
        return figures

    def measure_waking(self, asked: Sequence[LabelledQuery], n: int) -> dict[str, Any]:
        """Measure questions at zero. One counts if the engine has restored its worker once since."""
        client, tab = self.open_client(), self.tab
        seen, backend = [], ""
        for label in asked[:n]:
            client.predict(api_name="/scaledown")
            before = self.wait_for_state("zero")
            taken = self.ask(tab, label.query)
            start = self.wait_for_state("serving", before["now"])["last_start"]
            if start["kind"] == "restored":
                seen.append(taken)
                backend = str(start["backend"])
        if not seen:
            self.say("the worker that slept is left out: this machine has no way to restore one")
            return {}
        words = f"the same with the worker asleep, restored by {backend}"
        return {"enter_to_hits_asleep": self.say_figures(words, {**summarise_answers(seen), "backend": backend})}

    # What they share

    def ask(self, tab: Page, question: str) -> dict[str, Any]:
        """Ask by Enter, and return the times of `time_input`."""
        tab.locator("#ask textarea").fill(question)
        return self.time_input(tab, "keydown", HIT, lambda: tab.locator("#ask textarea").press("Enter"))

    def time_input(self, tab: Page, kind: str, what: tuple[str, str], act: Callable[[], object]) -> dict[str, Any]:
        """Return the ms from an input of this kind to its answer painted, and their parts."""
        return self.time_inputs(tab, kind, [what], act)[0]

    def time_inputs(
        self, tab: Page, kind: str, what: Sequence[tuple[str, str]], act: Callable[[], object]
    ) -> list[dict[str, Any]]:
        """Return the times to each of several answers to one input, and the pages that were shown with it."""
        tab.evaluate("(given) => window.dormouseArm(...given)", [kind, *what])
        act()
        return list(tab.evaluate("window.dormouseTimed"))

    def ask_api(self, client: Client, question: str) -> tuple[float, float]:
        """Return the seconds of one search and its first picture without a browser, and the server's own part."""
        began = time.perf_counter()
        answer = client.predict(question, None, COLLECTION, TOP_K, api_name="/search")
        requests.get(f"{self.url}/pages/{answer['hits'][0]['id']}.webp", timeout=60).raise_for_status()
        return time.perf_counter() - began, answer["timings"]["total"] / 1000

    def read_server_ms(self) -> float:
        """Return the server's part in the question asked last, as the page itself shows it."""
        shown = SERVER_MS.search(read_text(self.tab, ".summary"))
        if shown is None:
            raise BrowserFailed("the page does not show how long the server took")
        return float(shown[1].replace(",", ""))

    def wait_for_state(self, wanted: str, since: float = 0.0) -> dict[str, Any]:
        """Return the engine's state, as the page shows it, once it is `wanted` and was started after `since`."""
        ends = time.monotonic() + STATE_S
        while True:
            status: dict[str, Any] = requests.get(f"{self.url}/status", timeout=STATE_S).json()
            if status["state"] == wanted and status["last_start"]["at"] >= since:
                return status
            if time.monotonic() > ends:
                raise BrowserFailed(f"the worker is {status['state']} and not {wanted}, or was not started again")
            time.sleep(0.05)

    def read_rss_mb(self) -> float:
        return round(float(self.process.memory_info().rss) / 1e6, 1)

    def say_figures(self, what: str, figures: dict[str, Any]) -> dict[str, Any]:
        self.say(f"{what}: p50 {figures['p50_ms']:.0f} ms, p95 {figures['p95_ms']:.0f} ms (n={figures['n']})")
        return figures


class TabTraffic:
    """Traffic and memory of a tab, by the browser's own protocol."""

    def __init__(self, tab: Page) -> None:
        self._tab = tab
        self._session: CDPSession = tab.context.new_cdp_session(tab)
        for domain in ("Network", "Performance", "HeapProfiler"):
            self._session.send(f"{domain}.enable")
        self._session.on("Network.loadingFinished", lambda event: self._sizes.append(event["encodedDataLength"]))
        self._sizes: list[float] = []
        self._searches: list[tuple[int, float]] = []

    def start(self) -> None:
        """Begin to count what one search loads."""
        self._sizes.clear()

    def stop(self) -> None:
        """End it, once the page is quiet."""
        self._tab.wait_for_timeout(QUIET_MS)
        self._searches.append((len(self._sizes), sum(self._sizes)))

    def summarise_searches(self) -> dict[str, float]:
        """Return medians; what came from the browser's cache counts as a request of no bytes."""
        requests, size = zip(*self._searches, strict=True)
        return {"requests_p50": statistics.median(requests), "kb_p50": round(statistics.median(size) / 1e3, 1)}

    def read_heap(self) -> dict[str, float]:
        """Return what is used once the garbage is gone."""
        self._session.send("HeapProfiler.collectGarbage")
        metrics = {entry["name"]: entry["value"] for entry in self._session.send("Performance.getMetrics")["metrics"]}
        return {"heap_mb": round(metrics["JSHeapUsedSize"] / 1e6, 1), "elements": metrics["Nodes"]}


def read_cpu_seconds() -> tuple[float, float]:
    """Return the CPU seconds so far of this machine, and of this process with all running ones that it has started."""
    return read_machine_seconds(), sum(read_processor_times(os.getpid()).values())


def read_text(tab: Page, selector: str) -> str:
    """Return the text of the first such element; empty if there is none any more."""
    return str(tab.evaluate("(selector) => document.querySelector(selector)?.innerText ?? ''", selector)).strip()


def summarise_answers(seen: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the figures of whole times, and the medians of their phases.

    These are: input to request, the request's place in the queue, input to answer, its picture, its frame.
    """
    phases = {
        name: round(statistics.median(one.get(name, 0.0) for one in seen), 1)
        for name in seen[0]
        if name not in ("total", "pages")
    }
    return {**summarise_seconds([one["total"] / 1000 for one in seen], 1), "phases_p50_ms": phases}


def measure_folder(folder: Path) -> dict[str, float]:
    """Return the number of files and their kilobytes."""
    sizes = [path.stat().st_size for path in folder.rglob("*") if path.is_file()]
    return {"files": len(sizes), "kb": round(sum(sizes) / 1e3, 1)}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    pages = int_between(booklets.LEAST, booklets.MOST)
    parser.add_argument("--pages", type=pages, default=500, help="pages in the collection; default: %(default)s")
    questions = "measured questions; as many more show what they leave in memory; default: %(default)s"
    parser.add_argument("--questions", type=int_between(1, 300), default=30, help=questions)
    record.add_out(parser, "page-builtin.json")


def main(options: argparse.Namespace) -> int:
    measure = partial(measure_page, options.pages, options.questions, partial(print, flush=True))
    return record.measure_and_save(options.out, "page", lambda _: measure())
