"""A table of scale to zero on a GPU, by what is held at zero: recorded runs of `python -m bench tiers`.

They are read from assets/runs once; a file that is missing or of another shape is left out.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
from markupsafe import Markup

from ui.components.templates import render_template

HELD = {
    "context": "GPU context (1 GB), weights out",
    "host": "process in memory, no GPU memory",
    "disk": "nothing but files",
    "none": "nothing, no snapshot (eager)",
    "vllm_host": "vLLM: process in memory, no GPU memory",
}
PHASES = {"restore": "driver and criu", "load": "load", "weights": "weights", "wake": "wake", "probe": "check answers"}


def render_table(runs: Path) -> Markup:
    """Render the latest such run of each kind of GPU in the folder, the newest first; empty if there is none."""
    found = [run for path in runs.glob("bench-gpu*.json") if (run := read_run(path)) is not None]
    latest = {run["machine"]: run for run in sorted(found, key=lambda run: run["time"])}
    if not latest:
        return Markup()
    heads = ["held at zero", "first answer, median", "n", *(f"{name}, ms" for name in PHASES.values())]
    newest_first = sorted(latest.values(), key=lambda run: run["time"], reverse=True)
    title = "On a GPU, by what is held at zero"
    return render_template("coldstart/recorded.html", title=title, heads=heads, runs=newest_first)


def read_run(path: Path) -> dict[str, Any] | None:
    """Return the template's values for a run, None for a file that is not such a result."""
    try:
        run: dict[str, Any] = orjson.loads(path.read_bytes())
        if run["kind"] != "gpu-tiers" or min(run["weights_gbps"], run["copy_ceiling_gbps"], run["weights_bytes"]) <= 0:
            return None
        time, gpu = str(run["environment"]["time"]), run["environment"].get("gpu", "").partition(",")[0] or "a GPU"
        about = (
            f"Stored run of {time[:10]} on one {gpu}: BiGemma3's shapes with random weights"
            f" ({run['weights_bytes'] / 1e9:.1f} GB), from the request to the first correct answer. Weights reach the"
            f" GPU with {run['weights_gbps']:.1f} GB/s; the bus itself reaches {run['copy_ceiling_gbps']:.1f}."
        )
        tiers = run["tiers"]
        rows = [describe_tier(tier, tiers[tier]) for tier in HELD if tiers.get(tier, {}).get("n")]
        return {"time": time, "machine": gpu, "rows": rows, "about": about}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def describe_tier(tier: str, found: dict[str, Any]) -> dict[str, Any]:
    phases = [found["phases_ms"].get(name, 0.0) for name in PHASES]
    cells = [f"{value:,.0f}" if value >= 0.5 else "–" for value in phases]
    return {"head": HELD[tier], "cells": [f"{found['median_s']:.2f} s", str(found["n"]), *cells]}
