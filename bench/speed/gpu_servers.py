"""`python -m bench gpu`: BiGemma3's servers on one GPU, side by side in one run, the same JPEGs over HTTP.

Each part has a process of its own, so that GPU memory is free for the next. Weights may be random ones of the same
shapes: speed does not depend on their values.
"""

from __future__ import annotations

import argparse
import base64
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import requests

from bench.coldstart.target import TargetError, start_engine
from bench.options import check_counts, float_between
from bench.quality import parity, recall
from bench.results import record
from bench.results.record import Keep, Say
from bench.speed import load, random_weights
from bench.speed.load import LoadTarget
from serving.http.child_server import ProcessFailed
from serving.library.fingerprints import Threshold
from serving.settings import Settings

ABOUT = "BiGemma3's servers side by side on one GPU, over HTTP, beside what the GPU does without them"
JPEGS = 64
QUERIES = 200
CLIENTS = (1, 8, 32)
START_S = 400.0
THRESHOLD = 0.999
"""The cosine to which two implementations in bfloat16 agree."""
RAW = ("samples_ms", "server_timings")
"""Fields of the result file that are too long to print."""
STOCK_PORTS = {"vllm-serve": "8123", "vllm-serve-eager": "8124"}
"""Ports of vLLM's own server as it comes, and without compilation and graphs, as it was when our goals were set."""
STOCK = (
    "--runner", "pooling", "--convert", "embed", "--dtype", "bfloat16", "--max-model-len", "2048", "--max-num-seqs",
    "32", "--max-num-batched-tokens", "8192", "--limit-mm-per-prompt", '{"image":1}', "--kv-cache-memory-bytes",
    "2147483648", "--mm-processor-cache-gb", "0", "--no-enable-prefix-caching", "--gpu-memory-utilization",
    "0.1", "--hf-overrides", '{"architectures":["Gemma3ForConditionalGeneration"]}',
)  # fmt: skip
"""Arguments of vLLM's own server beside the others on one GPU."""
Server = tuple[str, tuple[LoadTarget, LoadTarget]]
"""The address of a server that has answered a page, and where to send pages and queries."""


def measure_servers(options: argparse.Namespace, say: Say, keep: Keep) -> dict[str, Any]:
    """Measure all parts, and return the result file's content; `keep` gets it after each part."""
    with tempfile.TemporaryDirectory() as scratch, ExitStack() as stack:
        folder = Path(scratch)
        weights = options.weights or make_weights(folder / "weights", options.shape, options.device, say)
        named = str(options.weights or f"random {options.shape}")
        result: dict[str, Any] = {"weights": named}
        if options.device == "cuda" and not options.no_loop:
            result["loop"] = run_gpu_loop(weights, options.batches, say)
            keep(result)
        jpegs = load.draw_jpegs(JPEGS)

        def launch(name: str) -> Server:
            return stack.enter_context(start_server(name, weights, options.device, folder / name, jpegs))

        servers = start_servers(options.servers.split(","), launch, result, say)
        for name, (_, targets) in servers.items():
            result[name] |= measure_server(name, *targets, options, say)
            keep(result)
        if {"bigemma3", "vllm"} <= servers.keys():
            clients = [parity.open_client(servers[name][0], "") for name in ("bigemma3", "vllm")]
            embedded = parity.embed_on_both(clients, recall.CORPUS, Settings(), parity.make_progress())
            threshold = Threshold(pages=THRESHOLD, queries=THRESHOLD)
            result["parity"] = parity.compare_vectors(*embedded, threshold)
            say(parity.render_table(result["parity"]))
    return result


def start_servers(
    names: Sequence[str], launch: Callable[[str], Server], result: dict[str, Any], say: Say
) -> dict[str, Server]:
    """Start all servers beside each other; `result` gets a row for each, with the reason of one that does not start."""

    def start(name: str) -> Server | None:
        began = time.perf_counter()
        try:
            server = launch(name)
        except (ProcessFailed, TargetError, OSError) as error:
            result[name] = {"failed": str(error)[-2000:]}
            say(f"{name} failed: {str(error)[-600:]}")
            return None
        result[name] = {"start_to_first_page_s": round(time.perf_counter() - began, 1)}
        say(f"{name}: first page after {result[name]['start_to_first_page_s']} s")
        return server

    with ThreadPoolExecutor(len(names)) as pool:
        servers = list(pool.map(start, names))
    return {name: server for name, server in zip(names, servers, strict=True) if server is not None}


def make_weights(out: Path, shape: str, device: str, say: Say) -> Path:
    """Make random weights in a process of its own: torch would keep 0.5 GB of the GPU here. Raises ProcessFailed."""
    say(f"making random weights, {shape}")
    command = [sys.executable, "-m", "bench", "weights", str(out), "--shape", shape, "--device", device]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode:
        raise ProcessFailed(f"random weights were not made:\n{done.stderr}")
    return out


def run_gpu_loop(weights: Path, batches: str, say: Say) -> dict[str, Any]:
    chosen = ["--batches", batches] if batches else []
    command = [sys.executable, "-m", "bench.speed.gpu_kernels", str(weights), *chosen]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)  # noqa: S603
    if done.returncode:
        return {"failed": done.returncode}
    figures: dict[str, Any] = json.loads(done.stdout)
    for row in [*figures["loops"], *figures["beside"]]:
        say("loop: " + ", ".join(f"{name} {value}" for name, value in row.items()))
    return figures


@contextmanager
def start_server(name: str, weights: Path, device: str, folder: Path, jpegs: list[bytes]) -> Iterator[Server]:
    """Run a server for the block, from its first answered page on. Raises ProcessFailed, TargetError, OSError."""
    texts = [f"what is the total revenue of year {number}" for number in range(QUERIES)]
    if name in STOCK_PORTS:
        path = "/v1/embeddings"
        pages: list[object] = [load.build_chat_body(jpeg, "stock") for jpeg in jpegs]
        queries: list[object] = [
            {"model": "stock", "messages": [{"role": "user", "content": "Query: " + text}], "add_special_tokens": True}
            for text in texts
        ]
    else:
        path = "/embed"
        pages = [{"images": [base64.b64encode(jpeg).decode()]} for jpeg in jpegs]
        queries = [{"texts": [text]} for text in texts]
    bodies = load.write_bodies(folder / "pages", pages), load.write_bodies(folder / "queries", queries)
    with ExitStack() as stack:
        if name in STOCK_PORTS:
            url = stack.enter_context(start_stock_server(name, weights, folder))
        else:
            arguments = ["--embedder", name, "--weights", str(weights), "--device", device, "--snapshot", "plain"]
            engine = start_engine(name, [*arguments, "--scaledown-window", "3600"])
            url = stack.enter_context(closing(engine)).url
        requests.post(url + path, json=pages[0], timeout=START_S).raise_for_status()
        yield url, (LoadTarget(url, path, bodies[0]), LoadTarget(url, path, bodies[1]))


@contextmanager
def start_stock_server(name: str, weights: Path, folder: Path) -> Iterator[str]:
    """Run a vLLM server as it comes for the block; yields its address. Raises ProcessFailed."""
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
            with suppress(OSError):
                requests.get(f"http://127.0.0.1:{port}/health", timeout=2).raise_for_status()
                break
            time.sleep(0.2)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(20)
        process.kill()


def measure_server(
    name: str, pages: LoadTarget, queries: LoadTarget, options: argparse.Namespace, say: Say
) -> dict[str, Any]:
    """Measure pages and queries by 1, 8 and 32 clients, and queries during an ingest."""
    for clients in (1, 2, 3, 8, 32):  # every shape has been used once
        load.run_clients(pages, clients, 0.2)
        load.run_clients(queries, clients, 0.2)
    result: dict[str, Any] = {"pages": [], "queries": []}
    for clients in CLIENTS[-1:] if options.quick else CLIENTS:
        seconds = options.seconds if clients > 1 else options.seconds / 2
        for kind, target in (("pages", pages), ("queries", queries)):
            figures = load.run_clients(target, clients, seconds).as_json()
            result[kind].append(figures)
            say(f"{name}: {kind} {figures}")
    result["queries_during_ingest"] = measure_during_ingest(pages, queries, options.seconds * 2.5)
    short = {field: value for field, value in result["queries_during_ingest"].items() if field not in RAW}
    say(f"{name}: queries during ingest {short}")
    return result


def measure_during_ingest(pages: LoadTarget, queries: LoadTarget, seconds: float) -> dict[str, Any]:
    """Measure one client's queries, 20 a second at most, while 32 others send pages."""
    with ThreadPoolExecutor(1) as pool:
        ingest = pool.submit(load.run_clients, pages, 32, seconds + 3)
        time.sleep(3)
        asked = load.run_clients(queries, 1, seconds, gap_s=0.05)
    return {
        **asked.as_json(),
        "samples_ms": [round(value, 1) for value in asked.milliseconds],
        "server_timings": asked.server_timings,
        "pages_per_s": round(ingest.result().rate, 1),
    }


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--weights", type=Path, help="default: random ones of BiGemma3's shapes, made on the GPU")
    add("--shape", choices=tuple(random_weights.SHAPES), default="4b", help="shape of random weights")
    servers = "a list of bigemma3, vllm, vllm-serve and vllm-serve-eager; default: %(default)s"
    add("--servers", default="bigemma3,vllm", help=servers)
    add(
        "--seconds", type=float_between(0.1, 3600), default=8.0, help="length of each measurement; default: %(default)s"
    )
    add("--device", choices=("cuda", "cpu"), default="cuda", help="cpu only tries the bench itself")
    add("--batches", type=check_counts, help="batches of pages in the loop; default: those that are served")
    add("--no-loop", action="store_true", help="measure only the servers")
    add("--quick", action="store_true", help="measure only 32 clients")
    record.add_out(parser, "gpu.json")


def main(options: argparse.Namespace) -> int:
    return record.measure_and_save(options.out, "gpu", lambda keep: measure_servers(options, print, keep))
