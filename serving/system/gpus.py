"""The NVIDIA GPUs that a process started from here may use."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping

ASK_S = 20.0


def query_gpus(fields: str, *more: str) -> list[str]:
    """Return nvidia-smi's line for each GPU; none where there is no GPU or it cannot be asked."""
    command = ["nvidia-smi", f"--query-gpu={fields}", ",".join(["--format=csv", "noheader", *more])]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=ASK_S, check=True).stdout.splitlines()  # noqa: S603
    except (OSError, subprocess.SubprocessError):
        return []


def list_gpus(environment: Mapping[str, str] = os.environ) -> list[str]:
    """Return the UUIDs of the GPUs, in the order of CUDA_VISIBLE_DEVICES where that is set (numbers are nvidia-smi's).

    Empty where there is no GPU, or none that can be told: a part of a GPU (MIG) is not among them.
    """
    by_number = dict(line.split(", ", 1) for line in query_gpus("index,uuid") if ", " in line)
    chosen = environment.get("CUDA_VISIBLE_DEVICES")
    if chosen is None:
        return list(by_number.values())
    found: list[str] = []
    for word in filter(None, (part.strip() for part in chosen.split(","))):
        names = [uuid for number, uuid in by_number.items() if word == number or uuid.startswith(word)]
        if not names:
            break  # as CUDA does: what comes after a name that it does not know is not used
        found += [name for name in names[:1] if name not in found]
    return found
