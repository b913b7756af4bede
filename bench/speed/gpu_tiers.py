"""`python -m bench tiers`: how long the first answer takes after scale to zero on a GPU, by what is held meanwhile.

The engine itself is measured over HTTP, the tiers in turn; one worker goes through `context` and `host` by the engine's
own steps, another one is a file. Engines whose turn it is not are at zero. Each answer says from which tier its worker
came, and its vector is compared with the first one. Beside them, in the same run, stands what the bus can do:
page-locked memory to the GPU, by torch.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import requests

from bench.coldstart.target import LocalEngine, TargetError, start_engine
from bench.options import float_between, int_between
from bench.results import record
from bench.results.record import Keep, Say
from bench.speed.gpu_servers import make_weights
from serving.embedders.bigemma3.checkpoint import Checkpoint
from serving.http.child_server import ProcessFailed
from serving.system.gpus import query_gpus

ABOUT = "time to the first answer after scale to zero on a GPU, by what is held meanwhile, beside the bus's own speed"
CONTEXT_S = 2.5
"""Seconds that the worker stays in this step: the request must come while it is in the one that is measured."""
START_S = 900.0
TIER_S = 30.0
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
    """One engine's start. `tiers`: those that it holds at zero, in the order of its steps."""

    name: str
    tiers: tuple[str, ...]
    options: tuple[str, ...]
    environment: Mapping[str, str]


def list_start_modes(tiers: Sequence[str]) -> list[StartMode]:
    kept = tuple(tier for tier in ("context", "host") if tier in tiers)
    step = {"DORMOUSE_CONTEXT_S": str(CONTEXT_S)} if "context" in tiers else {}
    modes = (
        StartMode("kept", kept, ("--embedder", "bigemma3", "--snapshot", "cuda"), step),
        StartMode("file", ("disk",), ("--embedder", "bigemma3", "--snapshot", "criu+cuda"), {}),
        StartMode("plain", ("none",), ("--embedder", "bigemma3", "--snapshot", "plain"), {"DORMOUSE_HF_EAGER": "1"}),
        StartMode("vllm", ("vllm_host",), ("--embedder", "vllm", "--snapshot", "cuda"), {}),
    )
    return [mode for mode in modes if set(mode.tiers) & set(tiers)]


def measure_tiers(options: argparse.Namespace, say: Say, keep: Keep) -> dict[str, Any]:
    """Measure all tiers, and return the result file's content; `keep` gets it after each round. Raises ValueError."""
    tiers = options.tiers.split(",")
    if unknown := set(tiers) - set(TIERS):
        raise ValueError(f"there is no tier {min(unknown)}: {', '.join(TIERS)}")
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as scratch, ExitStack() as stack:
        weights = options.weights or make_weights(Path(scratch) / "weights", "4b", "cuda", say)
        size = sum(file.stat().st_size for file in Checkpoint.read(weights).files)
        done = subprocess.run([sys.executable, "-c", CEILING], capture_output=True, text=True, check=True)  # noqa: S603
        ceiling = round(float(done.stdout), 2)
        result: dict[str, Any] = {
            "weights": str(options.weights or "random 4b"),
            "weights_bytes": size,
            "copy_ceiling_gbps": ceiling,
            "weights_gbps": None,
            "tiers": {tier: {"samples": []} for tier in tiers},
        }
        say(f"copy ceiling {ceiling:.1f} GB/s")
        engines = []
        for mode in list_start_modes(tiers):
            try:
                engines.append(start_tier_engine(mode, weights, stack, say))
            except (ProcessFailed, TargetError, OSError) as error:
                result[f"{mode.name}_failed"] = str(error)[-3000:]
                say(f"{mode.name} failed: {str(error)[-3000:]}")
        for number in range(options.rounds):
            if time.monotonic() - began > options.minutes * 60:
                break
            for engine in engines:
                for tier in engine.mode.tiers:
                    row = engine.take_sample(tier)
                    result["tiers"][tier]["samples"].append(row)
                    phases = ", ".join(f"{name} {round(ms)}" for name, ms in row["phases_ms"].items() if ms >= 1)
                    say(f"round {number + 1}, {tier}: {row['seconds']:.3f} s ({phases}) {row['why_not']}".rstrip())
            summarise_tiers(result)
            keep(result)
        result["memory"] = {engine.mode.name: engine.memory for engine in engines}
    return result


def summarise_tiers(result: dict[str, Any]) -> None:
    """Fill in the figures of each tier, from samples that came from it with the right vector."""
    rates = []
    for tier in result["tiers"].values():
        good = [row for row in tier["samples"] if row["counts"]]
        tier["samples_s"] = [row["seconds"] for row in good]
        tier["n"] = len(good)
        tier["median_s"] = round(statistics.median(tier["samples_s"]), 4) if good else None
        names = sorted({name for row in good for name in row["phases_ms"]})
        tier["phases_ms"] = {
            name: round(statistics.median(row["phases_ms"].get(name, 0.0) for row in good), 1) for name in names
        }
        rates += [result["weights_bytes"] / 1e6 / ms for row in good if (ms := row["phases_ms"].get("weights"))]
    result["weights_gbps"] = round(statistics.median(rates), 2) if rates else None


class TierEngine:
    """An engine that has answered once: later vectors are compared with that one."""

    def __init__(self, mode: StartMode, engine: LocalEngine) -> None:
        """Send the first request, and scale down. Raises ProcessFailed for an answer that is none, TargetError."""
        self.mode = mode
        self.engine = engine
        self.memory: dict[str, Any] = {}
        """Memory held in each tier, as it was first seen."""
        _, answer = engine.time_embed(REQUEST, START_S)
        if not answer.ok:
            raise ProcessFailed(f"the first answer was {answer.status_code}: {answer.text}")
        self._vector = read_vector(answer)
        self.created = engine.read_status()["last_start"]
        engine.scale_down()

    def take_sample(self, tier: str) -> dict[str, Any]:
        """Measure from zero to the answer, and scale down again. Raises TargetError, OSError."""
        held = {"vllm_host": "host"}.get(tier, tier)
        try:
            if tier == "context":  # it has gone deeper while others were asked
                self.engine.time_embed(REQUEST, START_S)
            self.engine.scale_down()
            deadline = time.monotonic() + TIER_S
            while (status := self.engine.read_status())["state"] != "zero" or status["tier"] != held:
                if time.monotonic() > deadline:
                    return build_failed_sample(f"it was {status['state']}, {status['tier']}, not at zero with {held}")
                time.sleep(0.02)
            if tier not in self.memory:
                self.memory[tier] = {"held": status.get("held"), "gpu_used_mib": read_gpu_used()}
            seconds, answer = self.engine.time_embed(REQUEST, START_S)
            return self._build_sample(seconds, answer, held)
        finally:
            self.engine.scale_down()

    def _build_sample(self, seconds: float, answer: requests.Response, held: str) -> dict[str, Any]:
        if not answer.ok:
            return build_failed_sample(f"{answer.status_code}: {answer.text[:500]}")
        vector, headers = read_vector(answer), answer.headers
        cosine = float(vector @ self._vector)
        came, kind = headers.get("X-Snapshot-Tier", ""), headers.get("X-Start-Kind", "")
        wanted = ("none", "plain") if held == "none" else (held, "restored")
        counts = (came, kind) == wanted and headers.get("X-Boot-Requests") == "1" and cosine >= 0.9999
        return {
            "seconds": round(seconds, 4),
            "phases_ms": self.engine.read_status()["last_start"]["phases"],
            "cosine": cosine,
            "largest_difference": float(np.abs(vector - self._vector).max()),
            "counts": counts,
            "why_not": "" if counts else f"it came as {kind} from {came}, cosine {cosine:.6f}",
        }


def read_vector(answer: requests.Response) -> np.ndarray:
    """Return float32[dimension]."""
    return np.asarray(answer.json()["embeddings"][0], dtype=np.float32)


def build_failed_sample(why: str) -> dict[str, Any]:
    return {"seconds": 0.0, "phases_ms": {}, "counts": False, "why_not": why}


def start_tier_engine(mode: StartMode, weights: Path, stack: ExitStack, say: Say) -> TierEngine:
    """Start an engine, which `stack` stops, and return it once it has answered. Raises ProcessFailed, TargetError."""
    options = ["--weights", str(weights), "--device", "cuda", "--scaledown-window", "3600"]
    environment = {"DORMOUSE_HOLD_TIMEOUT_S": str(START_S), **mode.environment}
    began = time.perf_counter()
    engine = stack.enter_context(closing(start_engine(mode.name, [*mode.options, *options], environment, START_S)))
    assert engine.process is not None
    process = engine.process
    try:
        started = TierEngine(mode, engine)
    except ProcessFailed as error:
        raise ProcessFailed(f"{error}\n{process.tail}") from None
    say(f"{mode.name}: first answer after {time.perf_counter() - began:.1f} s, {started.created}")
    stack.callback(lambda: say(f"{mode.name}: {process.tail[-1500:]}"))
    return started


def read_gpu_used() -> int | None:
    """Return the MiB that are used on the GPU; None where it does not say."""
    used = query_gpus("memory.used", "nounits")
    return int(used[0]) if used and used[0].strip().isdigit() else None


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--weights", type=Path, help="default: random ones of BiGemma3's shapes, made on the GPU")
    add("--tiers", default=",".join(TIERS), help="default: %(default)s")
    add("--rounds", type=int_between(1, 1000), default=10, help="samples of each tier; default: %(default)s")
    minutes = "begin no new round after these; default: %(default)s"
    add("--minutes", type=float_between(0.1, 600), default=60.0, help=minutes)
    record.add_out(parser, "bench-gpu.json")


def main(options: argparse.Namespace) -> int:
    return record.measure_and_save(options.out, "gpu-tiers", lambda keep: measure_tiers(options, print, keep))
