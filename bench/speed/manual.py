"""A manual with a text layer, added through the page, with questions meanwhile: this release beside an older one."""

from __future__ import annotations

import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from pypdfium2 import PdfDocument

from bench.quality.recall import CORPUS
from bench.results.record import Say
from bench.speed import booklets
from bench.speed.processor_time import read_processor_times
from bench.speed.timing import summarise_seconds, time_call
from serving.http.child_server import ServerProcess

MADE_UP_PAGES = 60
LOOK_S = 0.5
"""Seconds between two looks at the processor time: what a process used after the last one is not counted."""


@contextmanager
def choose_manual(given: Path | None) -> Iterator[list[Path]]:
    """Yield the manual, or booklets of made-up pages."""
    with tempfile.TemporaryDirectory() as folder:
        yield [given] if given else booklets.write_booklets(Path(folder), MADE_UP_PAGES)


def measure_manual(say: Say, given: Path | None, beside: Path | None) -> dict[str, Any]:
    """Add the manual by the release whose folder is `beside`, and by this one. Raises ProcessFailed."""
    with choose_manual(given) as files:
        pages = sum(count_pages(path) for path in files)
        figures: dict[str, Any] = {"file": given.name if given else "made-up booklets", "pages": pages}
        for name, folder in (("older", beside), ("ours", None)):
            if name == "ours" or folder:
                figures[name] = measure_release(files, pages, folder)
                say(describe(name, pages, figures[name]))
    if "older" in figures:
        figures["speedup"] = round(figures["ours"]["pages_a_minute"] / figures["older"]["pages_a_minute"], 2)
        figures["cpu_speedup"] = round(figures["older"]["cpu_s_a_page"] / figures["ours"]["cpu_s_a_page"], 2)
        say(f"pages a minute {figures['speedup']}x, processor time a page {figures['cpu_speedup']}x (goal 3 or more)")
    return figures


def measure_release(files: list[Path], pages: int, folder: Path | None) -> dict[str, Any]:
    """Return what adding the files takes: figures as result files have them."""
    # Not the release that the current folder or the environment has.
    environment = {"PYTHONPATH": str(folder), "PYTHONSAFEPATH": "1"} if folder else {}
    with (
        tempfile.TemporaryDirectory() as data,
        ServerProcess("ui.app", ["--no-browser", "--data", data], environment) as page,
    ):
        url = page.wait()
        ingest_through_page(url, [CORPUS / "invoice-aurora-lamps.jpg"])  # starts the worker
        with count_processor_time(page.pid) as spent:
            added, seconds, asked = ingest_through_page(url, files)
    assert added == pages, f"{added} of {pages} pages were added"
    return {
        "seconds": round(seconds, 2),
        "pages_a_minute": round(60 * pages / seconds, 1),
        "cpu_s_a_page": round(sum(spent.values()) / pages, 3),
        "query": summarise_seconds(asked),
    }


def ingest_through_page(url: str, files: Sequence[Path]) -> tuple[int, float, list[float]]:
    """Return the pages of one ingest, its seconds, upload included, and those of the queries asked during it."""
    from gradio_client import Client, handle_file

    adding, asking = Client(url, verbose=False), Client(url, verbose=False)
    began = time.perf_counter()
    job = adding.submit([handle_file(path) for path in files], "bench", api_name="/add_pages")
    asked: list[float] = []
    while not job.done():
        question = f"what is number {len(asked)}"
        asked.append(time_call(partial(asking.predict, question, None, "bench", 5, api_name="/search")))
        time.sleep(0.5)
    added = job.result()
    seconds = time.perf_counter() - began
    assert not added["skipped"], added["skipped"]
    return len(added["added"]), seconds, asked


@contextmanager
def count_processor_time(pid: int) -> Iterator[dict[int, float]]:
    """Yield the seconds that a process and those that it starts use meanwhile, by process; right at the end."""
    before, spent, ended = read_processor_times(pid), dict[int, float](), threading.Event()

    def look() -> None:
        while not ended.wait(LOOK_S):
            for number, seconds in read_processor_times(pid).items():
                spent[number] = seconds - before.get(number, 0.0)

    looking = threading.Thread(target=look, name="processor time")
    looking.start()
    try:
        yield spent
    finally:
        ended.set()
        looking.join()


def count_pages(path: Path) -> int:
    with PdfDocument(path) as document:
        return len(document)


def describe(name: str, pages: int, figures: dict[str, Any]) -> str:
    query = figures["query"]
    return (
        f"{name}: {pages} pages with a text layer, {figures['pages_a_minute']} a minute, {figures['cpu_s_a_page']} s of"
        f" processor time each; a query meanwhile p50 {query['p50_ms']:.0f} ms, p95 {query['p95_ms']:.0f} ms"
        f" (n={query['n']}; goal p95 under 250)"
    )
