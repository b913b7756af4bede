"""`python -m bench.speed.gpu_kernels WEIGHTS`: what the GPU itself does with BiGemma3, without HTTP, as JSON on stdout.

The loop feeds pages that are on the GPU already, as fast as it takes them: no server can be faster.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bench.quality.parity import compute_cosines
from bench.results.stats import percentile
from serving.embedders.bigemma3 import batch_shapes
from serving.embedders.bigemma3.huggingface import BiGemma3Embedder
from serving.settings import Settings

ROUNDS = 12
GAP_S = 0.03
"""The pause between queries beside pages."""


def time_median(work: Callable[[], object], rounds: int = ROUNDS) -> float:
    """Return the median seconds of one call, the GPU's work included."""
    work()
    torch.cuda.synchronize()
    seconds = []
    for _ in range(rounds):
        began = time.perf_counter()
        work()
        torch.cuda.synchronize()
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds)


def find_graph(graphs: Any, lane: str, count: int) -> Any:
    """Return the CUDA graph of a lane (`pages` or `queries`) for a batch of `count`."""
    return next(graph for key, graph in getattr(graphs, f"_{lane}")._graphs.items() if key[0][0] == count)


def time_graphs(graphs: Any, batches: Sequence[int]) -> list[dict[str, Any]]:
    """Measure one batch of each size, of pages and then of queries."""
    rows = []
    for lane, counts in (("pages", batches), ("queries", batch_shapes.QUERY_BATCHES)):
        for count in counts:
            seconds = time_median(find_graph(graphs, lane, count).replay)
            rows.append({"batch": count, "ms": round(seconds * 1000, 2), f"{lane}_per_s": round(count / seconds, 1)})
    return rows


def measure_beside(embedder: BiGemma3Embedder, squares: list[np.ndarray], batch: int, seconds: float) -> dict[str, Any]:
    """Measure queries, one now and then, while two threads feed pages from the host."""
    graphs: Any = embedder._runner
    done, stop = [0, 0], threading.Event()

    def feed(thread: int) -> None:
        while not stop.is_set():
            graphs.embed_pages(squares[:batch])
            done[thread] += batch

    threads = [threading.Thread(target=feed, args=[n]) for n in range(2)]
    for thread in threads:
        thread.start()
    time.sleep(0.5)
    before, began, took = sum(done), time.perf_counter(), []
    while time.perf_counter() - began < seconds:
        asked = time.perf_counter()
        embedder.embed_queries(["what is the total revenue of the third quarter?"])
        took.append((time.perf_counter() - asked) * 1000)
        time.sleep(GAP_S)
    rate = (sum(done) - before) / (time.perf_counter() - began)
    stop.set()
    for thread in threads:
        thread.join()
    return {
        "batch": batch, "pages_per_s": round(rate, 1), "n": len(took), "query_p50_ms": round(percentile(took, 50), 1),
        "query_p95_ms": round(percentile(took, 95), 1), "query_max_ms": round(max(took), 1),
    }  # fmt: skip


def compare_with_reference(embedder: BiGemma3Embedder, squares: list[np.ndarray]) -> dict[str, Any]:
    """Return cosines of our vectors and those of colpali-engine's own forward, in the same bfloat16."""
    from PIL import Image

    from serving.embedders.bigemma3 import colpali_import
    from serving.embedders.bigemma3 import model as bigemma3_model

    model = bigemma3_model.load_model(embedder.checkpoint, "cuda")
    processor = colpali_import.import_bigemma3().BiGemmaProcessor3.from_pretrained(
        embedder.checkpoint.path, local_files_only=True
    )
    texts = ["what is the total revenue?", "who signed the lease", "financial report quarterly results"]
    with torch.inference_mode():
        images = processor.process_images([Image.fromarray(square) for square in squares[:4]]).to("cuda")
        images["pixel_values"] = images["pixel_values"].to(torch.bfloat16)
        pages = model(**images).float().cpu().numpy()
        images["token_type_ids"] = torch.zeros_like(images["token_type_ids"])
        causal = model(**images).float().cpu().numpy()
        queries = model(**processor.process_texts(texts).to("cuda")).float().cpu().numpy()
    ours = embedder._running.embed_pages(squares[:4])
    asked = embedder.embed_queries(texts)
    return {
        "pages": compute_cosines(pages, ours).round(6).tolist(),
        "causal": compute_cosines(causal, ours).round(6).tolist(),
        "queries": compute_cosines(queries, asked).round(6).tolist(),
        "between_pages": compute_cosines(np.repeat(ours[:1], len(ours) - 1, axis=0), ours[1:]).round(4).tolist(),
    }


def list_kernels(graphs: Any, count: int) -> list[dict[str, Any]]:
    """Return the kernels of one batch, the longest first, with their times."""
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CUDA]) as seen:
        find_graph(graphs, "pages", count).replay()
        torch.cuda.synchronize()
    kernels = [
        {"ms": round(event.self_device_time_total / 1000, 2), "n": event.count, "kernel": event.key[:120]}
        for event in seen.key_averages()
    ]
    return sorted(kernels, key=lambda row: -row["ms"])[:20]


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.speed.gpu_kernels", description=__doc__)
    parser.add_argument("weights", type=Path)
    parser.add_argument("--batches", default="1,2,4,8", help="pages in a batch; default: %(default)s")
    options = parser.parse_args(argv)
    batch_shapes.PAGE_BATCHES = tuple(int(count) for count in options.batches.split(","))
    with tempfile.TemporaryDirectory() as data:
        embedder = BiGemma3Embedder(Settings(weights=str(options.weights), data=Path(data)))
        began = time.perf_counter()
        embedder.load()
        loaded = time.perf_counter()
        embedder.warm_up()
        warm = time.perf_counter()
    side = embedder.checkpoint.image_size
    squares = [np.random.default_rng(n).integers(0, 255, (side, side, 3), dtype=np.uint8) for n in range(32)]
    figures = {
        "gpu": torch.cuda.get_device_name(),
        "torch": torch.__version__,
        "load_s": round(loaded - began, 1),
        "warm_up_s": round(warm - loaded, 1),
        "reserved_gb": round(torch.cuda.memory_reserved() / 1e9, 2),
        "used_gb": round((torch.cuda.mem_get_info()[1] - torch.cuda.mem_get_info()[0]) / 1e9, 2),
        "loops": time_graphs(embedder._runner, batch_shapes.PAGE_BATCHES),
        "beside": [measure_beside(embedder, squares, batch, 5.0) for batch in batch_shapes.PAGE_BATCHES if batch >= 4],
        "kernels": list_kernels(embedder._runner, 8),
        "reference": compare_with_reference(embedder, squares),
    }
    json.dump(figures, sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main())
