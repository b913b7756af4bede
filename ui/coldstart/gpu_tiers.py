"""What scale to zero costs on a GPU by what is held meanwhile: the recorded run of `python -m bench tiers`, as a table.

Read from assets/runs once; a file that is missing or of another shape leaves the table out. Knows no server.
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
PHASES = (
    ("restore", "driver and criu"), ("load", "load"), ("weights", "weights"), ("wake", "wake"),
    ("probe", "check answers"),
)  # fmt: skip


def table(runs: Path) -> Markup:
    """Render the latest such run of each kind of GPU in the folder, the newest first; empty if there is none."""
    found = [run for path in runs.glob("bench-gpu*.json") if (run := read(path)) is not None]
    latest = {gpu_of(run): run for run in sorted(found, key=taken)}
    if not latest:
        return Markup()
    drawn = [of_run(run) for run in sorted(latest.values(), key=taken, reverse=True)]
    heads = ["held at zero", "first answer, median", "n", *(f"{name}, ms" for _, name in PHASES)]
    return render_template("coldstart/tiers.html", heads=heads, runs=drawn)


def taken(run: dict[str, Any]) -> str:
    return str(run["environment"]["time"])


def gpu_of(run: dict[str, Any]) -> str:
    return str(run["environment"].get("gpu", "")).partition(",")[0] or "a GPU"


def of_run(run: dict[str, Any]) -> dict[str, Any]:
    about = (
        f"Stored run of {taken(run)[:10]} on one {gpu_of(run)}: BiGemma3's shapes with random weights"
        f" ({run['weights_bytes'] / 1e9:.1f} GB), from the request to the first correct answer. Weights reach the GPU"
        f" with {run['weights_gbps']:.1f} GB/s; the bus itself reaches {run['copy_ceiling_gbps']:.1f}."
    )
    rows = [row(tier, run["tiers"][tier]) for tier in HELD if run["tiers"].get(tier, {}).get("n")]
    return {"gpu": gpu_of(run), "rows": rows, "about": about}


def row(tier: str, found: dict[str, Any]) -> dict[str, Any]:
    phases = found["phases_ms"]
    cells = [f"{found['median_s']:.2f} s", str(found["n"]), *(shown(phases.get(name, 0.0)) for name, _ in PHASES)]
    return {"held": HELD[tier], "cells": cells}


def shown(milliseconds: float) -> str:
    return f"{milliseconds:,.0f}" if milliseconds >= 0.5 else "–"


def read(path: Path) -> dict[str, Any] | None:
    """None for what is no such result."""
    try:
        run: dict[str, Any] = orjson.loads(path.read_bytes())
        usable = run["kind"] == "gpu-tiers" and bool(run["environment"]["time"]) and run["weights_gbps"] > 0
        usable = usable and run["copy_ceiling_gbps"] > 0 and run["weights_bytes"] > 0
        return run if usable and all(row(tier, run["tiers"][tier]) for tier in run["tiers"] if tier in HELD) else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
