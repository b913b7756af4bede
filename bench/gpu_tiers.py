"""How long the first answer takes after scale to zero on a GPU, by what is held meanwhile: `python -m bench tiers`.

The engine itself, over HTTP, the tiers in turn; one worker goes through `context` and `host` by the engine's own steps,
another one is a file. Whoever is not asked is at zero. Each answer says by which way its worker came, and its vector is
compared with the first one. Beside them, in the same run, what the bus can do: page-locked memory to the GPU, by torch.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bench import record
from bench.gpu import make_weights
from bench.load import Say
from bench.options import float_between, int_between
from serving.embedders.checkpoint import Checkpoint
from serving.process import ProcessFailed, ServerProcess

KEY = "bench"
CONTEXT_S = 2.5
"""How long the worker stays in this step: the bench asks while it is in the one that is measured."""
START_S = 900.0
REQUEST = {"texts": ["what was the total revenue in the third quarter?"]}
TIERS = ("context", "host", "disk", "none", "vllm_host")
CEILING = """
import statistics, time, torch
here = torch.empty(1 << 28, dtype=torch.uint8, pin_memory=True); there = torch.empty(1 << 28, dtype=torch.uint8, device="cuda")
rates = []
for _ in range(12):
    torch.cuda.synchronize(); began = time.perf_counter()
    for _ in range(8): there.copy_(here, non_blocking=True)
    torch.cuda.synchronize(); rates.append(8 * len(here) / 1e9 / (time.perf_counter() - began))
print(statistics.median(rates[2:]))
"""  # noqa: E501
"""GB/s of page-locked memory to the GPU, 2.1 GB at a time; the median of ten."""


@dataclass(frozen=True)
class StartMode:
    """One engine. `tiers`: what it holds at zero, in the order of its steps."""

    name: str
    tiers: tuple[str, ...]
    options: tuple[str, ...]
    environment: Mapping[str, str]


def list_start_modes(tiers: Sequence[str]) -> list[StartMode]:
    kept = tuple(tier for tier in ("context", "host") if tier in tiers)
    step = {"DORMOUSE_CONTEXT_S": str(CONTEXT_S)} if "context" in tiers else {}
    found = [
        StartMode("kept", kept, ("--embedder", "bigemma3", "--snapshot", "cuda"), step),
        StartMode("file", ("disk",), ("--embedder", "bigemma3", "--snapshot", "criu+cuda"), {}),
        StartMode("plain", ("none",), ("--embedder", "bigemma3", "--snapshot", "plain"), {"DORMOUSE_HF_EAGER": "1"}),
        StartMode("vllm", ("vllm_host",), ("--embedder", "vllm", "--snapshot", "cuda"), {}),
    ]
    return [way for way in found if set(way.tiers) & set(tiers)]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--weights", type=Path, help="default: random ones of BiGemma3's shapes, made on the GPU")
    parser.add_argument("--tiers", default=",".join(TIERS), help="default: %(default)s")
    parser.add_argument("--rounds", type=int_between(1, 1000), default=10, help="of each; default: %(default)s")
    parser.add_argument(
        "--minutes", type=float_between(0.1, 600), default=60.0, help="no new round after these; default: %(default)s"
    )
    parser.add_argument("--out", type=Path, help="result file; default: assets/runs/bench-gpu.json")


def measure_tiers(options: argparse.Namespace, say: Say, keep: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
    """`keep` gets what there is so far after each round: a GPU's time is too dear to lose it."""
    tiers = options.tiers.split(",")
    if unknown := set(tiers) - set(TIERS):
        raise ValueError(f"there is no tier {min(unknown)}: {', '.join(TIERS)}")
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as scratch, ExitStack() as stack:
        folder = Path(scratch)
        weights = options.weights or make_weights(folder / "weights", "4b", "cuda", say)
        size = sum(file.stat().st_size for file in Checkpoint.read(weights).files)
        ceiling = measure_copy_ceiling()
        found: dict[str, Any] = {
            "gpu": record.list_gpus(), "weights": str(options.weights or "random 4b"), "weights_bytes": size,
            "copy_ceiling_gbps": ceiling, "weights_gbps": None, "tiers": {tier: {"samples": []} for tier in tiers},
        }  # fmt: skip
        say(f"copy ceiling {ceiling:.1f} GB/s")
        engines = []
        for way in list_start_modes(tiers):
            try:
                engines.append(stack.enter_context(start_engine(way, weights, folder / way.name, say)))
            except (ProcessFailed, OSError) as error:
                found[f"{way.name}_failed"] = str(error)[-3000:]
                say(f"{way.name} failed: {str(error)[-3000:]}")
        for number in range(options.rounds):
            if time.monotonic() - began > options.minutes * 60:
                break
            for own in engines:
                for tier in own.way.tiers:
                    if tier in tiers:
                        row = own.sample(tier)
                        found["tiers"][tier]["samples"].append(row)
                        say(f"round {number + 1}, {tier}: {render_sample(row)}")
            summarise_tiers(found)
            keep(found)
        found["memory"] = {own.way.name: own.holds for own in engines}
    return found


def measure_copy_ceiling() -> float:
    done = subprocess.run([sys.executable, "-c", CEILING], capture_output=True, text=True, check=True)  # noqa: S603
    return round(float(done.stdout), 2)


def summarise_tiers(found: dict[str, Any]) -> None:
    """Of samples that came by the way that was meant, with the right vector."""
    rates = []
    for tier in found["tiers"].values():
        good = [row for row in tier["samples"] if row["counts"]]
        tier["samples_s"] = [row["seconds"] for row in good]
        tier["n"] = len(good)
        tier["median_s"] = round(statistics.median(tier["samples_s"]), 4) if good else None
        names = sorted({name for row in good for name in row["phases_ms"]})
        tier["phases_ms"] = {
            name: round(statistics.median(row["phases_ms"].get(name, 0.0) for row in good), 1) for name in names
        }
        rates += [found["weights_bytes"] / 1e6 / ms for row in good if (ms := row["phases_ms"].get("weights"))]
    found["weights_gbps"] = round(statistics.median(rates), 2) if rates else None


def render_sample(row: Mapping[str, Any]) -> str:
    phases = ", ".join(f"{name} {round(ms)}" for name, ms in row["phases_ms"].items() if ms >= 1)
    return f"{row['seconds']:.3f} s ({phases}){'' if row['counts'] else ' ' + row['why_not']}"


class TierEngine:
    """An engine that has answered once: its vector is what later ones are compared with."""

    def __init__(self, way: StartMode, url: str) -> None:
        self.way = way
        self.url = url
        self.holds: dict[str, Any] = {}
        """What is held in each tier, as it was last seen."""
        _, first = self._embed()
        self._vector = first
        self.created = self._engine()["last_start"]
        ask_engine(self.url + "/engine/scaledown", {})

    def sample(self, tier: str) -> dict[str, Any]:
        """From zero to the answer, and back to zero. Raises OSError for an engine that is gone."""
        try:
            return self._sample(tier)
        finally:
            ask_engine(self.url + "/engine/scaledown", {})

    def _sample(self, tier: str) -> dict[str, Any]:
        if tier == "context":  # it has gone deeper while others were asked
            self._embed()
        ask_engine(self.url + "/engine/scaledown", {})
        held = {"vllm_host": "host"}.get(tier, tier)
        deadline = time.monotonic() + 30
        while (status := self._engine())["state"] != "zero" or status["tier"] != held:
            if time.monotonic() > deadline:
                return build_failed_sample(f"it was {status['state']}, {status['tier']}, not at zero with {held}")
            time.sleep(0.02)
        if tier not in self.holds:
            self.holds[tier] = {"held": status.get("held"), "gpu_used_mib": read_gpu_used()}
        began = time.perf_counter()
        try:
            headers, vector = self._embed()
        except urllib.error.HTTPError as error:
            return build_failed_sample(f"{error.code}: {error.read()[:500].decode('utf-8', 'replace')}")
        seconds = time.perf_counter() - began
        cosine = float(vector @ self._vector)
        came = headers.get("X-Snapshot-Tier", "")
        kind = headers.get("X-Start-Kind", "")
        wanted = ("none", "plain") if held == "none" else (held, "restored")
        right = (came, kind) == wanted and headers.get("X-Boot-Requests") == "1" and cosine >= 0.9999
        return {
            "seconds": round(seconds, 4),
            "phases_ms": self._engine()["last_start"]["phases"],
            "cosine": cosine,
            "largest_difference": float(np.abs(vector - self._vector).max()),
            "counts": right,
            "why_not": "" if right else f"it came as {kind} from {came}, cosine {cosine:.6f}",
        }

    def _embed(self) -> tuple[Mapping[str, str], np.ndarray]:
        headers, body = ask_engine(self.url + "/embed", REQUEST)
        return headers, np.asarray(body["embeddings"][0], dtype=np.float32)

    def _engine(self) -> dict[str, Any]:
        found: dict[str, Any] = ask_engine(self.url + "/engine", None)[1]
        return found


def build_failed_sample(why: str) -> dict[str, Any]:
    return {"seconds": 0.0, "phases_ms": {}, "counts": False, "why_not": why}


@contextmanager
def start_engine(way: StartMode, weights: Path, data: Path, say: Say) -> Iterator[TierEngine]:
    """Raises ProcessFailed, OSError."""
    options = ["--weights", str(weights), "--device", "cuda", "--data", str(data), "--scaledown-window", "3600"]
    own = {"DORMOUSE_ADMIN_KEY": KEY, "DORMOUSE_HOLD_TIMEOUT_S": str(START_S), **way.environment}
    if shutil.which("criu") is None and "DORMOUSE_CRIU" in os.environ:
        own["DORMOUSE_CRIU"] = os.environ["DORMOUSE_CRIU"]
    began = time.perf_counter()
    with ServerProcess("serving", [*way.options, *options], own) as process:
        url = process.wait(START_S)
        try:
            asked = TierEngine(way, url)
        except urllib.error.HTTPError as error:
            raise ProcessFailed(f"{error.read().decode('utf-8', 'replace')}\n{process.tail}") from None
        say(f"{way.name}: first answer after {time.perf_counter() - began:.1f} s, {asked.created}")
        try:
            yield asked
        finally:
            say(f"{way.name}: {process.tail[-1500:]}")


def ask_engine(url: str, body: object) -> tuple[Mapping[str, str], Any]:
    data = None if body is None else json.dumps(body).encode()
    headers = {"Content-Type": "application/json", "X-Admin-Key": KEY}
    with urllib.request.urlopen(urllib.request.Request(url, data, headers), timeout=START_S) as answer:  # noqa: S310
        return answer.headers, json.loads(answer.read())


def read_gpu_used() -> int | None:
    told = record.query_gpus("memory.used", "nounits")
    return int(told[0]) if told and told[0].strip().isdigit() else None
