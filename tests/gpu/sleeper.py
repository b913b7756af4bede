"""vLLM's embedder through one sleep, in a process of its own: what it computes and holds, as JSON."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

from serving.embedders.vllm import VllmEmbedder
from serving.settings import Settings


def used_gb() -> float:
    """Of the first GPU, by all processes: the difference counts."""
    command = ["nvidia-smi", "--query-gpu=memory.used", "--format=csv,noheader,nounits", "--id=0"]
    return int(subprocess.check_output(command, text=True)) / 1000


def step(name: str) -> None:
    print(name, file=sys.stderr, flush=True)


def main() -> None:
    weights, data = sys.argv[1:]
    embedder = VllmEmbedder(Settings(weights=weights, data=Path(data)))
    step("load")
    embedder.load()
    step("probe")
    before, awake = embedder.probe(), used_gb()
    began = time.perf_counter()
    step("sleep")
    embedder.sleep()
    slept, asleep = time.perf_counter(), used_gb()
    step("wake")
    embedder.wake()
    woken = time.perf_counter()
    cosine = float((embedder.probe() * before).sum(axis=1).min())
    step("close")
    embedder.close()
    told = {"cosine": cosine, "awake_gb": awake, "asleep_gb": asleep, "sleep_s": slept - began, "wake_s": woken - slept}
    print(json.dumps(told))


if __name__ == "__main__":
    main()
