"""BiGemma3's servers on one GPU, side by side in one run, the same JPEGs over HTTP: `python -m bench gpu`.

Each part has a process of its own, so that GPU memory is free for the next. With weights of their own trained values
or random ones of the same shapes: speed does not depend on them.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from bench import load, parity, quality, random_weights, record
from bench.load import LoadTarget, Say
from bench.options import check_counts, float_between
from serving.equivalence import Threshold
from serving.process import ProcessFailed, ServerProcess
from serving.settings import Settings

JPEGS = 64
QUERIES = 200
CLIENTS = (1, 8, 32)
START_S = 400.0
THRESHOLD = 0.999
"""Two implementations in bfloat16 do not agree to more."""
RAW = ("samples_ms", "server_timings")
"""Kept, and too long to tell."""
STOCK_PORTS = {"vllm-serve": "8123", "vllm-serve-eager": "8124"}
"""vLLM's own server as it comes, and without compilation and graphs, as it was measured when our goals were set."""
STOCK = (
    "--runner", "pooling", "--convert", "embed", "--dtype", "bfloat16", "--max-model-len", "2048", "--max-num-seqs",
    "32", "--max-num-batched-tokens", "8192", "--limit-mm-per-prompt", '{"image":1}', "--kv-cache-memory-bytes",
    "2147483648", "--mm-processor-cache-gb", "0", "--no-enable-prefix-caching", "--gpu-memory-utilization",
    "0.1", "--hf-overrides", '{"architectures":["Gemma3ForConditionalGeneration"]}',
)  # fmt: skip
"""How vLLM's own server is started for comparison, beside the others on one GPU; compiled, as by default."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--weights", type=Path, help="default: random ones of BiGemma3's shapes, made on the GPU")
    parser.add_argument("--shape", choices=tuple(random_weights.SHAPES), default="4b", help="of random weights")
    parser.add_argument(
        "--servers",
        default="bigemma3,vllm",
        help="of bigemma3, vllm, vllm-serve and vllm-serve-eager; default: %(default)s",
    )
    parser.add_argument(
        "--seconds", type=float_between(0.1, 3600), default=8.0, help="of each measurement; default: %(default)s"
    )
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda", help="cpu only tries the bench itself")
    parser.add_argument(
        "--batches", type=check_counts, default=None, help="of pages in the loop; default: those that are served"
    )
    parser.add_argument("--no-loop", action="store_true", help="only the servers")
    parser.add_argument("--quick", action="store_true", help="only 32 clients")
    parser.add_argument("--out", type=Path, help="result file; default: assets/runs/gpu.json")


def measure_servers(options: argparse.Namespace, say: Say, keep: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
    """`keep` gets what there is so far after each part: a GPU's time is too dear to lose it."""
    with tempfile.TemporaryDirectory() as scratch, ExitStack() as stack:
        folder = Path(scratch)
        weights = options.weights or make_weights(folder / "weights", options.shape, options.device, say)
        found: dict[str, Any] = {
            "gpu": record.list_gpus(),
            "weights": str(options.weights or f"random {options.shape}"),
        }
        if options.device == "cuda" and not options.no_loop:
            found["loop"] = run_gpu_loop(weights, options.batches, say)
            keep(found)
        jpegs = load.draw_jpegs(JPEGS)
        asked = start_servers(options, weights, folder, jpegs, stack, found, say)
        for name, (_, targets) in asked.items():
            found[name] |= measure_server(targets, options, partial(say_named, say, name))
            keep(found)
        urls = {name: url for name, (url, _) in asked.items()}
        if {"bigemma3", "vllm"} <= urls.keys():
            found["parity"] = compare_servers(urls["bigemma3"], urls["vllm"], say)
    return found


def say_named(say: Say, name: str, text: str) -> None:
    say(f"{name}: {text}")


Asked = tuple[str, tuple[LoadTarget, LoadTarget]]


def start_servers(
    options: argparse.Namespace, weights: Path, folder: Path, jpegs: list[bytes], stack: ExitStack,
    found: dict[str, Any], say: Say,
) -> dict[str, Asked]:  # fmt: skip
    """All servers, which come up beside each other; one that does not is a row with its reason."""

    def start(name: str) -> Asked | None:
        began = time.perf_counter()
        try:
            asked: Asked = stack.enter_context(start_server(name, weights, options.device, folder / name, jpegs))
        except (ProcessFailed, OSError) as error:
            found[name] = {"failed": str(error)[-2000:]}
            say(f"{name} failed: {str(error)[-600:]}")
            return None
        found[name] = {"start_to_first_page_s": round(time.perf_counter() - began, 1)}
        say(f"{name}: first page after {found[name]['start_to_first_page_s']} s")
        return asked

    names = options.servers.split(",")
    with ThreadPoolExecutor(len(names)) as pool:
        results = list(pool.map(start, names))
    return {name: asked for name, asked in zip(names, results, strict=True) if asked is not None}


def make_weights(out: Path, shape: str, device: str, say: Say) -> Path:
    """In a process of its own: torch would keep 0.5 GB of the GPU for as long as this one lives."""
    say(f"making random weights, {shape}")
    code = (
        "import sys; from pathlib import Path; from bench.random_weights import build_checkpoint;"
        "build_checkpoint(Path(sys.argv[1]), sys.argv[2], device=sys.argv[3])"
    )
    subprocess.run([sys.executable, "-c", code, str(out), shape, device], check=True)  # noqa: S603
    return out


def run_gpu_loop(weights: Path, batches: str, say: Say) -> dict[str, Any]:
    command = [sys.executable, "-m", "bench.gpu_loop", str(weights), *(["--batches", batches] if batches else [])]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)  # noqa: S603
    if done.returncode:
        return {"failed": done.returncode}
    found: dict[str, Any] = json.loads(done.stdout)
    for row in [*found["loops"], *found["beside"]]:
        say("loop: " + ", ".join(f"{name} {value}" for name, value in row.items()))
    return found


@contextmanager
def start_server(
    name: str, weights: Path, device: str, folder: Path, jpegs: list[bytes]
) -> Iterator[tuple[str, tuple[LoadTarget, LoadTarget]]]:
    """Address, and where to ask for pages and queries, once it has answered its first page. Raises ProcessFailed."""
    texts = [f"what is the total revenue of year {number}" for number in range(QUERIES)]
    if name in STOCK_PORTS:
        pages = load.write_bodies(folder / "pages", [load.build_chat_body(jpeg, "stock") for jpeg in jpegs])
        asked = [
            {"model": "stock", "messages": [{"role": "user", "content": "Query: " + text}], "add_special_tokens": True}
            for text in texts
        ]
        queries = load.write_bodies(folder / "queries", asked)
        with start_stock_server(weights, folder, name) as url:
            targets = LoadTarget(url, "/v1/embeddings", pages), LoadTarget(url, "/v1/embeddings", queries)
            ask_first_page(targets[0])
            yield url, targets
        return
    pages = load.write_bodies(folder / "pages", [load.build_page_body(jpeg) for jpeg in jpegs])
    queries = load.write_bodies(folder / "queries", [{"texts": [text]} for text in texts])
    arguments = [
        "--embedder", name, "--weights", str(weights), "--device", device, "--snapshot", "plain", "--data",
        str(folder / "data"), "--scaledown-window", "3600",
    ]  # fmt: skip
    with ServerProcess("serving", arguments) as process:
        url = process.wait()
        targets = LoadTarget(url, "/embed", pages), LoadTarget(url, "/embed", queries)
        ask_first_page(targets[0])
        yield url, targets


def ask_first_page(pages: LoadTarget) -> None:
    body = min(pages.bodies.iterdir()).read_bytes()
    request = urllib.request.Request(pages.url + pages.path, body, {"Content-Type": "application/json"})  # noqa: S310
    with urllib.request.urlopen(request, timeout=START_S) as answer:  # noqa: S310
        answer.read()


@contextmanager
def start_stock_server(weights: Path, folder: Path, name: str) -> Iterator[str]:
    """vLLM's own server. Raises ProcessFailed."""
    port = STOCK_PORTS[name]
    eager = ["--enforce-eager"] if name.endswith("eager") else []
    command = [sys.executable, "-m", "vllm.entrypoints.cli.main", "serve", str(weights), "--served-model-name", "stock"]
    log = folder / "log"
    with log.open("w") as output:
        process = subprocess.Popen(  # noqa: S603
            [*command, "--host", "127.0.0.1", "--port", port, *eager, *STOCK], stdout=output, stderr=subprocess.STDOUT
        )
    try:
        ends = time.monotonic() + START_S
        while True:
            if process.poll() is not None or time.monotonic() > ends:
                raise ProcessFailed(log.read_text()[-2000:])
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2).close()
                break
            except OSError:
                time.sleep(0.2)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()


def measure_server(asked: tuple[LoadTarget, LoadTarget], options: argparse.Namespace, say: Say) -> dict[str, Any]:
    pages, queries = asked
    for clients in (1, 2, 3, 8, 32):  # every shape has been used once
        load.run_clients(pages, clients, 0.2)
        load.run_clients(queries, clients, 0.2)
    found: dict[str, Any] = {"pages": [], "queries": []}
    for clients in CLIENTS[-1:] if options.quick else CLIENTS:
        for kind, target in (("pages", pages), ("queries", queries)):
            told = load.run_clients(target, clients, options.seconds if clients > 1 else options.seconds / 2).told()
            found[kind].append(told)
            say(f"{kind} {told}")
    found["queries_during_ingest"] = measure_during_ingest(pages, queries, options.seconds * 2.5)
    told = {name: value for name, value in found["queries_during_ingest"].items() if name not in RAW}
    say(f"queries during ingest {told}")
    return found


def measure_during_ingest(pages: LoadTarget, queries: LoadTarget, seconds: float) -> dict[str, Any]:
    """One client asks, five times a second at most, while 32 others send pages."""
    ingest: list[load.LoadResult] = []
    thread = threading.Thread(target=lambda: ingest.append(load.run_clients(pages, 32, seconds + 3)))
    thread.start()
    time.sleep(3)
    samples = load.run_clients(queries, 1, seconds, gap_s=0.05)
    asked = samples.told()
    thread.join()
    return {
        **asked,
        "samples_ms": [round(value, 1) for value in samples.milliseconds],
        "server_timings": samples.server_timings,
        "pages_per_s": round(ingest[0].rate, 1),
    }


def compare_servers(a: str, b: str, say: Say) -> dict[str, Any]:
    """The sample corpus through both servers."""
    servers = [parity.open_client(url, "") for url in (a, b)]
    embedded = parity.embed_on_both(servers, quality.CORPUS, Settings(), parity.make_progress())
    found = parity.compare_vectors(*embedded, Threshold(pages=THRESHOLD, queries=THRESHOLD))
    say(parity.render_table(found))
    return found
