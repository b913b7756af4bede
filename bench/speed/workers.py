"""`python -m bench workers`: pages a second of one worker and of several, side by side, and how they come back.

Each part is an engine of its own, asked over HTTP; while one is measured the others are at zero. The rounds take turns,
so that a machine that grows slower slows all. On a GPU each worker has one of its own; on a CPU each has the same cores
in all parts, so that two have twice as many as one.
"""

from __future__ import annotations

import argparse
import base64
import statistics
import tempfile
import time
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import requests

from bench.coldstart.target import LocalEngine, start_engine
from bench.options import float_between, int_between
from bench.results import record
from bench.results.record import Keep, Say
from bench.results.stats import percentile
from bench.speed import load
from bench.speed.gpu_servers import make_weights, measure_during_ingest
from bench.speed.load import LoadTarget
from serving.http.child_server import ProcessFailed
from serving.settings import Settings

ABOUT = "pages a second of one worker and of several, a query beside them, and how several come back from zero"
JPEGS = 64
START_S = 900.0
FIELDS = ("worker", "kind", "ready_ms", "phases")
QUESTION = "what is the total revenue of the third quarter"


def measure_workers(options: argparse.Namespace, say: Say, keep: Keep) -> dict[str, Any]:
    """Measure all parts, and return the result file's content; `keep` gets it after each round."""
    on_gpu = options.device == "cuda"
    with tempfile.TemporaryDirectory() as scratch, ExitStack() as stack:
        folder = Path(scratch)
        weights = options.weights
        if on_gpu and weights is None:
            weights = make_weights(folder / "weights", "4b", "cuda", say)
        bodies = write_bodies(folder)
        counts = (1, options.workers)
        cores = options.cores or max(1, Settings().cores // options.workers)
        result: dict[str, Any] = {
            "embedder": options.embedder,
            "weights": str(options.weights or ("random 4b" if on_gpu else "built in")),
            "clients": options.clients,
            "cores_of_a_worker": cores,
            "parts": {str(count): {"rounds": []} for count in counts},
        }
        if options.rounds:
            way = options.ways.split(",")[0] or "auto"
            engines = {count: start_part(options, count, cores, weights, way, stack) for count in counts}
            for number in range(options.rounds):
                for count, engine in engines.items():
                    row = measure_round(engine, count, bodies, options)
                    result["parts"][str(count)]["rounds"].append(row)
                    say(f"round {number + 1}, {count} workers: {row['pages_per_s']} pages/s, {row['queries']}")
                    engine.scale_down()
                summarise_parts(result)
                keep(result)
            for engine in engines.values():
                engine.close()
        for way in options.ways.split(",") if options.ways else []:
            result.setdefault("restores", {})[way] = measure_restores(options, cores, weights, way, say)
            keep(result)
    return result


def start_part(
    options: argparse.Namespace, count: int, cores: int, weights: Path | None, way: str, stack: ExitStack
) -> LocalEngine:
    """Return an engine of so many workers that has answered once. Raises ProcessFailed, TargetError."""
    named = ["--weights", str(weights)] if weights else []
    arguments = ["--embedder", options.embedder, "--workers", str(count), "--snapshot", way, *named]
    if options.device:
        arguments += ["--device", options.device]
    # Cores are shared among an engine's workers.
    environment = {"DORMOUSE_CORES": str(cores * count), "DORMOUSE_HOLD_TIMEOUT_S": str(START_S)}
    started = start_engine(f"{count} workers", [*arguments, "--scaledown-window", "3600"], environment, START_S)
    engine = stack.enter_context(closing(started))
    _, answer = engine.time_embed({"texts": [QUESTION]}, START_S)
    if not answer.ok:
        raise ProcessFailed(f"the first answer was {answer.status_code}: {answer.text}")
    return engine


def write_bodies(folder: Path) -> tuple[Path, Path]:
    """Return the folders of pages and of questions."""
    pages = [{"images": [base64.b64encode(jpeg).decode()]} for jpeg in load.draw_jpegs(JPEGS)]
    return load.write_bodies(folder / "pages", pages), load.write_bodies(folder / "queries", [{"texts": [QUESTION]}])


def wake_all(engine: LocalEngine, count: int) -> None:
    """Have all workers up. Raises ProcessFailed."""
    assert engine.folder is not None
    key = {"X-Admin-Key": (engine.folder / "admin.key").read_text().strip()}
    answer = requests.post(f"{engine.url}/wake_up", params={"workers": count}, headers=key, timeout=START_S)
    if not answer.ok:
        raise ProcessFailed(f"the workers did not come up: {answer.status_code} {answer.text}")


def measure_round(
    engine: LocalEngine, count: int, bodies: tuple[Path, Path], options: argparse.Namespace
) -> dict[str, Any]:
    wake_all(engine, count)
    pages, queries = (LoadTarget(engine.url, "/embed", folder) for folder in bodies)
    load.run_clients(pages, options.clients, 2.0)  # every shape has been used once
    found = load.run_clients(pages, options.clients, options.seconds).as_json()
    beside = measure_during_ingest(pages, queries, options.seconds)
    return {
        "pages_per_s": found["per_s"],
        "failures": found["failures"] + beside["failures"],
        "p95_ms": found.get("p95_ms"),
        "queries": {name: beside.get(name) for name in ("n", "p50_ms", "p95_ms", "pages_per_s")},
        "queries_ms": beside["samples_ms"],
    }


def summarise_parts(result: dict[str, Any]) -> None:
    """Fill in each part's medians, and how many times one worker's pages a second several have."""
    for part in result["parts"].values():
        part["pages_per_s"] = round(statistics.median(row["pages_per_s"] for row in part["rounds"]), 2)
        asked = [took for row in part["rounds"] for took in row["queries_ms"]]
        part["query_p95_ms"] = round(percentile(asked, 95), 1) if asked else None
        part["n"] = len(part["rounds"])
    one, several = result["parts"].values()
    if one["pages_per_s"]:
        result["times"] = round(several["pages_per_s"] / one["pages_per_s"], 3)


def measure_restores(
    options: argparse.Namespace, cores: int, weights: Path | None, way: str, say: Say
) -> dict[str, Any]:
    """Measure how long all workers take from zero, together, by that snapshot backend."""
    rows: list[dict[str, Any]] = []
    with ExitStack() as stack:
        try:
            engine = start_part(options, options.workers, cores, weights, way, stack)
        except ProcessFailed as error:
            say(f"{way} failed: {error}")
            return {"failed": str(error)[-2000:]}
        wake_all(engine, options.workers)
        for number in range(options.restores):
            engine.scale_down()
            time.sleep(0.5)
            began = time.perf_counter()
            wake_all(engine, options.workers)
            took = round(time.perf_counter() - began, 3)
            status = engine.read_status()
            starts = status["history"][: options.workers]
            row = {
                "all_up_s": took,
                "workers": [
                    {name: start[name] for name in ("worker", "kind", "ready_ms", "phases")} for start in starts
                ],
                "counts": sorted(start["worker"] for start in starts) == list(range(options.workers))
                and {start["kind"] for start in starts} == {"restored"},
            }
            rows.append(row)
            say(f"{way} {number + 1}: all up after {took} s, {[start['ready_ms'] for start in starts]}")
        failures = engine.read_status()["failures"]
    good = [row for row in rows if row["counts"]]
    ready = [start["ready_ms"] / 1000 for row in good for start in row["workers"]]
    return {
        "rows": rows,
        "n": len(good),
        "all_up_median_s": round(statistics.median(row["all_up_s"] for row in good), 3) if good else None,
        "each_median_s": round(statistics.median(ready), 3) if ready else None,
        "failures": failures,
    }


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--embedder", default="builtin", help="default: %(default)s")
    add("--device", choices=("cuda", "cpu"), help="of bigemma3 and vllm")
    add("--weights", type=Path, help="default on a GPU: random ones of BiGemma3's shapes")
    add("--workers", type=int_between(2, 64), default=2, help="how many beside one; default: %(default)s")
    cores = "cores of each worker; default: those of this machine, divided by --workers"
    add("--cores", type=int_between(1, 1024), help=cores)
    add("--clients", type=int_between(1, 512), default=64, help="clients that send pages; default: %(default)s")
    add("--rounds", type=int_between(0, 100), default=3, help="rounds of each part; 0: only restores; default: 3")
    add("--seconds", type=float_between(0.1, 3600), default=10.0, help="of each measurement; default: %(default)s")
    add("--ways", default="", metavar="NAMES", help="snapshot backends from which all are restored together: criu, ...")
    add("--restores", type=int_between(1, 1000), default=5, help="restores by each way; default: %(default)s")
    record.add_out(parser, "workers.json")


def main(options: argparse.Namespace) -> int:
    return record.measure_and_save(options.out, "workers", lambda keep: measure_workers(options, print, keep))
