"""How quick the page is with many pages in a collection: the real page, its own engine, a real browser.

Times a person waits for are taken by the browser's clock (`page_clock.js`), from the input to the frame after the one
that shows its answer. Beside each question in the browser, in turn, the same one by the page's API: the difference is
what the browser adds. Counts and sizes carry over between machines; times on a shared CPU do not.
"""

from __future__ import annotations

import os
import re
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import requests
from gradio_client import Client

from bench import booklets
from bench.booklets import LabelledQuestion
from bench.browser import PACKAGES, BrowserFailed, launch_browser
from bench.speed import Say, summarise_seconds, time_call
from serving.process import ServerProcess
from serving.settings import usable_cores

if TYPE_CHECKING:
    from playwright.sync_api import Browser, CDPSession, Page

COLLECTION = "bench"
CLOCK = (Path(__file__).parent / "page_clock.js").read_text()
WINDOW = {"width": 1440, "height": 900}
HIT, SHEET = ("#gallery .hits", "img"), ("#detail .detail", ".sheet img")
"""Where an answer appears, and the picture in it that is waited for."""
ENTER_MS = 500.0
"""The goal for the median from Enter to the first hit."""
AWAKE_S = "3600"
"""The worker's idle window: it sleeps when it is told to, so that no waking up gets into the other times."""
SAY_S = 20.0
"""Between two words about an ingest that goes on."""
TOP_K, ALL = 8, 50
OPENS, CLICKS, FILTERS, ASLEEP, WARM = 5, 20, 10, 5, 3
"""How often each is measured, if as many questions are asked; the warm-up is not counted."""
TOLD_S = 10.0
"""Until the page must have heard of a change of its engine."""
QUIET_MS = 300
"""After an answer, for what it still loads."""
SERVER_MS = re.compile(r"total ([\d,]+) ms")


def measure_page(pages: int, count: int, say: Say) -> dict[str, Any]:
    """Raises BrowserFailed, ProcessFailed."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="dormouse-bench-")))
        data = folder / "data"
        if (load := os.getloadavg()[0]) > usable_cores() / 2:
            say(f"other work is going on here (load {load:.1f} on {usable_cores()} cores): times will be too long")
        say(f"drawing {pages} pages")
        files = booklets.write_booklets(folder, pages)
        browser = stack.enter_context(launch_browser())
        arguments = ["--no-browser", "--data", str(data), "--scaledown-window", AWAKE_S]
        process = stack.enter_context(ServerProcess("ui.app", arguments))
        bench = PageBench(browser, process, data, say)
        found = bench.measured(files, booklets.write_questions(pages, 2 * count), pages)
        process.stop()
        found["uploads"]["after_stop"] = measure_folder(data / "uploads")
    return found


class PageBench:
    def __init__(self, browser: Browser, process: ServerProcess, data: Path, say: Say) -> None:
        self.browser = browser
        self.url = process.wait()
        self.say = say
        self.uploads = data / "uploads"
        self.process = open_process(process.pid)
        self.visit = self.visitor()

    def visitor(self) -> Page:
        """A tab of somebody who has not been here before: nothing is cached."""
        context = self.browser.new_context(viewport=WINDOW)  # type: ignore[arg-type]
        context.set_default_timeout(60_000)
        context.add_init_script(CLOCK)
        return context.new_page()

    def open(self, page: Page, query: str = "") -> float:
        """Seconds until the page can be used."""
        page.goto(f"{self.url}/?c={COLLECTION}{query}")
        return float(page.evaluate("window.dormouseOpened")) / 1000

    def measured(self, files: Sequence[Path], asked: Sequence[LabelledQuestion], pages: int) -> dict[str, Any]:
        """Every second question is measured; the others only use memory."""
        memory = {"start_mb": self.rss()}
        found: dict[str, Any] = {"pages": pages, "files": len(files), "ingest": self.ingest(files, pages)}
        memory["after_ingest_mb"] = self.rss()
        sent = {"files": len(files), "kb": to_kb(sum(path.stat().st_size for path in files))}
        found["uploads"] = {"sent": sent, "after_ingest": measure_folder(self.uploads)}
        count = len(asked) // 2
        found["open"] = self.opened(min(OPENS, count))
        found.update(self.searches(asked[::2], asked[1::2], memory))
        found["hit_to_detail"] = self.details(min(CLICKS, count))
        found["filter_to_hits"] = self.filters(asked[::2], min(FILTERS, count))
        found["gallery"] = self.gallery(asked[0], min(ALL, pages))
        found.update(self.asleep(asked[::2], min(ASLEEP, count)))
        memory["end_mb"] = self.rss()
        found["uploads"]["before_stop"] = measure_folder(self.uploads)
        return {**found, "page_process": memory}

    # One figure each

    def ingest(self, files: Sequence[Path], pages: int) -> dict[str, Any]:
        """From the files' choice in the browser to the word that all are added; the worker's first start is in it."""
        page = self.visit
        self.open(page)
        began = time.perf_counter()
        page.set_input_files("#dropzone input[type=file]", list(files))
        ended, told = "#progress :is(.progress.done, .notice)", began
        while not page.locator(ended).count():
            if time.perf_counter() - told > SAY_S:
                told = time.perf_counter()
                self.say(f"adding pages: {read_text(page, '#progress .progress b')}")
            page.wait_for_timeout(100)
        seconds = time.perf_counter() - began
        done = read_text(page, ended)
        if not done.startswith(f"{pages:,} pages added"):
            raise BrowserFailed(f"not all {pages} pages were added: {done}")
        self.say(f"ingest through the page: {pages} pages in {seconds:.0f} s, {60 * pages / seconds:.0f} a minute")
        return {"pages": pages, "seconds": round(seconds, 2), "pages_per_minute": round(60 * pages / seconds, 1)}

    def opened(self, n: int) -> dict[str, Any]:
        seconds = []
        for _ in range(n):
            page = self.visitor()
            seconds.append(self.open(page))
            page.context.close()
        return self.told("opening the page, nothing cached, until it can be used", summarise_seconds(seconds, 1))

    def searches(
        self, asked: Sequence[LabelledQuestion], others: Sequence[LabelledQuestion], memory: dict[str, float]
    ) -> dict[str, Any]:
        page, client = self.visit, Client(self.url, verbose=False)
        self.open(page)
        wire = TabTraffic(page)
        for number in range(WARM):
            self.ask(page, f"what is number {number}")
            self.by_api(client, f"what is number {number}")
        self.status("serving")
        memory["before_searches_mb"], before = self.rss(), wire.heap()
        began, *work = time.monotonic(), *read_cpu_seconds()
        seen, plain, server, first = [], [], [], 0
        for number, label in enumerate(asked):
            if number % 2:
                plain.append(self.by_api(client, label.question))
            wire.start()
            seen.append(self.ask(page, label.question))
            wire.stop()
            server.append(self.server_ms())
            first += read_text(page, ".hit .name").startswith(label.file) and f"page {label.page} of" in read_text(
                page, ".hit .sub"
            )
            if not number % 2:
                plain.append(self.by_api(client, label.question))
        memory["after_searches_mb"] = self.rss()
        of_all, ours = (after - was for after, was in zip(read_cpu_seconds(), work, strict=True))
        elsewhere = max(0.0, of_all - ours) / (time.monotonic() - began)
        for label in others:
            self.ask(page, label.question)
        found: dict[str, Any] = {
            "enter_to_hits": {**summarise_answers(seen), "goal_p50_ms": ENTER_MS, "phases_p50_ms": summarise_phases(seen),
                              "server": summarise_seconds([ms / 1000 for ms in server], 0)},
            "same_by_api": {**summarise_seconds([total for total, _ in plain], 1), "server": summarise_seconds([own for _, own in plain], 1)},
            "cores_busy_with_other_work": round(elsewhere, 2),
            "right_page_first": {"n": len(asked), "first": first},
            "per_search": wire.per_search(),
            "browser": {"searches": len(asked) + len(others), "before": before, "after": wire.heap()},
        }  # fmt: skip
        self.told(f"from Enter to the first hit painted (goal: p50 under {ENTER_MS:g} ms)", found["enter_to_hits"])
        self.say(f"  of which: {render_phases(found['enter_to_hits']['phases_p50_ms'])}")
        self.told("  the server's own part of it", found["enter_to_hits"]["server"])
        self.told("  the same question by the API, first picture included", found["same_by_api"])
        self.say(f"  meanwhile, other work kept {elsewhere:.1f} of {usable_cores()} cores busy")
        return found

    def details(self, n: int) -> dict[str, Any]:
        """Through the hits of the question asked last, from the second on: the first is shown already."""
        page = self.visit
        seen = []
        for number in range(n):
            hit = page.locator("#gallery .hit").nth(1 + number % (TOP_K - 1))
            if number % (TOP_K - 1) == 0:
                self.ask(page, f"pages about repair number {number}")
            seen.append(self.seen(page, "click", SHEET, hit.click))
        return self.told(
            "from a click on a hit to its page painted",
            {**summarise_answers(seen), "phases_p50_ms": summarise_phases(seen)},
        )

    def filters(self, asked: Sequence[LabelledQuestion], n: int) -> dict[str, Any]:
        """A file that the first hit is not of is chosen, and taken out again before the next question."""
        page = self.visit
        page.locator("#refine > button").click()
        seen = []
        for number in range(n):
            label = asked[number]
            self.ask(page, label.question)
            other = next(booklets.name_booklet(file) for file in range(booklets.FILES)
                         if not read_text(page, ".hit .name").startswith(booklets.name_booklet(file)))  # fmt: skip
            page.locator("#only-files input").click()
            option = page.get_by_role("option", name=other)
            seen.append(self.seen(page, "mousedown", HIT, option.click))
            page.locator("#only-files input").press("Escape")
            self.seen(page, "click", HIT, page.locator("#only-files .remove-all").click)
        page.locator("#refine > button").click()
        return self.told("from the choice of a file to the hits ranked again", summarise_answers(seen))

    def gallery(self, label: LabelledQuestion, expected: int) -> dict[str, Any]:
        """Pictures of a long gallery that are loaded before anybody scrolls, and after."""
        page = self.visitor()
        loaded: list[str] = []
        page.on("request", lambda request: loaded.extend([request.url] * request.url.endswith(".webp")))
        self.open(page, f"&k={ALL}")
        self.ask(page, label.question)
        page.wait_for_timeout(3 * QUIET_MS)
        before = len(loaded)
        page.locator("#gallery .hit").last.scroll_into_view_if_needed()
        page.wait_for_timeout(3 * QUIET_MS)
        found = {"hits": page.locator("#gallery .hit").count(), "loaded_at_first": before, "loaded_at_end": len(loaded)}
        page.context.close()
        if found["hits"] != expected:
            raise BrowserFailed(f"{found['hits']} hits were shown and not {expected}")
        self.say(f"a gallery of {found['hits']}: {before} pictures loaded before scrolling, {len(loaded)} after")
        return found

    def asleep(self, asked: Sequence[LabelledQuestion], n: int) -> dict[str, Any]:
        """Counted if the engine was at zero, and has restored its worker once since."""
        client, page = Client(self.url, verbose=False), self.visit
        seen, backend = [], ""
        for label in asked[:n]:
            client.predict(api_name="/scaledown")
            before = self.status("zero")
            taken = self.ask(page, label.question)
            start = self.status("serving", before["now"])["last_start"]
            if start["kind"] == "restored":
                seen.append(taken)
                backend = str(start["backend"])
        if not seen:
            self.say("the worker that slept is left out: this machine has no way to restore one")
            return {}
        found = {**summarise_answers(seen), "backend": backend, "phases_p50_ms": summarise_phases(seen)}
        return {"enter_to_hits_asleep": self.told(f"the same with the worker asleep, restored by {backend}", found)}

    # What they share

    def ask(self, page: Page, question: str) -> dict[str, float]:
        page.locator("#ask textarea").fill(question)
        return self.seen(page, "keydown", HIT, lambda: page.locator("#ask textarea").press("Enter"))

    def seen(self, page: Page, kind: str, what: tuple[str, str], act: Callable[[], object]) -> dict[str, float]:
        """Milliseconds from the input to its answer painted, and their parts."""
        page.evaluate("(given) => window.dormouseArm(...given)", [kind, *what])
        act()
        found: dict[str, float] = page.evaluate("window.dormouseTimed")
        return found

    def by_api(self, client: Client, question: str) -> tuple[float, float]:
        """Seconds of one search and its first picture without a browser, and the server's own part."""
        answer: dict[str, Any] = {}

        def call() -> None:
            answer.update(client.predict(question, None, COLLECTION, TOP_K, api_name="/search"))
            requests.get(f"{self.url}/pages/{answer['hits'][0]['id']}.webp", timeout=60).raise_for_status()

        return time_call(call), answer["timings"]["total"] / 1000

    def server_ms(self) -> float:
        """What the page itself tells of the question asked last."""
        told = SERVER_MS.search(read_text(self.visit, ".summary"))
        if told is None:
            raise BrowserFailed("the page does not tell how long the server took")
        return float(told[1].replace(",", ""))

    def status(self, wanted: str, since: float = 0.0) -> dict[str, Any]:
        """Of the engine in this state, its last start later than `since`, as the page tells it: it hears of a change
        by an event. Raises BrowserFailed."""
        ends = time.monotonic() + TOLD_S
        while True:
            found: dict[str, Any] = requests.get(f"{self.url}/status", timeout=TOLD_S).json()
            if found["state"] == wanted and found["last_start"]["at"] >= since:
                return found
            if time.monotonic() > ends:
                raise BrowserFailed(f"the worker is {found['state']} and not {wanted}, or was not started again")
            time.sleep(0.05)

    def rss(self) -> float:
        return to_mb(self.process.memory_info().rss)

    def told(self, what: str, found: dict[str, Any]) -> dict[str, Any]:
        self.say(f"{what}: p50 {found['p50_ms']:.0f} ms, p95 {found['p95_ms']:.0f} ms (n={found['n']})")
        return found


class TabTraffic:
    """What a tab loads and holds, by its own protocol."""

    def __init__(self, page: Page) -> None:
        self._page = page
        self._session: CDPSession = page.context.new_cdp_session(page)
        for domain in ("Network", "Performance", "HeapProfiler"):
            self._session.send(f"{domain}.enable")
        self._session.on("Network.loadingFinished", self._finished)
        self._sizes: list[float] = []
        self._searches: list[tuple[int, float]] = []

    def _finished(self, event: dict[str, Any]) -> None:
        self._sizes.append(event["encodedDataLength"])

    def start(self) -> None:
        self._sizes.clear()

    def stop(self) -> None:
        self._page.wait_for_timeout(QUIET_MS)
        self._searches.append((len(self._sizes), sum(self._sizes)))

    def per_search(self) -> dict[str, float]:
        """Medians; what came from the browser's cache counts as a request of no bytes."""
        requests, size = zip(*self._searches, strict=True)
        return {"requests_p50": statistics.median(requests), "kb_p50": to_kb(statistics.median(size))}

    def heap(self) -> dict[str, float]:
        """What is used once the garbage is gone."""
        self._session.send("HeapProfiler.collectGarbage")
        metrics = {entry["name"]: entry["value"] for entry in self._session.send("Performance.getMetrics")["metrics"]}
        return {"heap_mb": to_mb(metrics["JSHeapUsedSize"]), "elements": metrics["Nodes"]}


def open_process(pid: int) -> Any:
    try:
        import psutil
    except ImportError:
        raise BrowserFailed(PACKAGES.format("psutil")) from None
    return psutil.Process(pid)


def read_cpu_seconds() -> tuple[float, float]:
    """Seconds of CPU so far: of this machine, and of this process with all that it has started and that still runs."""
    import psutil

    spent, me = psutil.cpu_times(), psutil.Process()
    ours = 0.0
    for process in (me, *me.children(recursive=True)):
        with suppress(psutil.Error):
            own = process.cpu_times()
            ours += own.user + own.system
    return sum(spent) - spent.idle - getattr(spent, "iowait", 0.0), ours


def read_text(page: Page, selector: str) -> str:
    """Of the first such element; empty if there is none any more."""
    return str(page.evaluate("(selector) => document.querySelector(selector)?.innerText ?? ''", selector)).strip()


def summarise_answers(seen: Sequence[dict[str, float]]) -> dict[str, Any]:
    return summarise_seconds([one["total"] / 1000 for one in seen], 1)


def summarise_phases(seen: Sequence[dict[str, float]]) -> dict[str, float]:
    """Medians of: input to request, the request's place in the queue, input to answer, its picture, its frame."""
    names = [name for name in seen[0] if name != "total"]
    return {name: round(statistics.median(one.get(name, 0.0) for one in seen), 1) for name in names}


def render_phases(parts: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:.0f} ms" for name, value in parts.items())


def measure_folder(folder: Path) -> dict[str, float]:
    sizes = [path.stat().st_size for path in folder.rglob("*") if path.is_file()]
    return {"files": len(sizes), "kb": to_kb(sum(sizes))}


def to_kb(count: float) -> float:
    return round(count / 1e3, 1)


def to_mb(count: float) -> float:
    return round(count / 1e6, 1)
