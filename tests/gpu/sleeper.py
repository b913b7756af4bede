"""vLLM's embedder through one sleep, in a process of its own: what it computes and holds, as JSON in a file.

Its steps are on stderr, and where it stands if it takes too long. It leaves as a worker does, at once: what libraries
do at an interpreter's end is not asked here.
"""

from __future__ import annotations

import faulthandler
import json
import os
import subprocess
import sys
import time
from pathlib import Path

from serving.embedders.bigemma3.vllm import VllmEmbedder
from serving.settings import Settings
from serving.system.processes import die_with_parent

TOO_LONG_S = 240


def used_gb() -> float:
    """Of the first GPU, by all processes: the difference counts."""
    command = ["nvidia-smi", "--query-gpu=memory.used", "--format=csv,noheader,nounits", "--id=0"]
    return int(subprocess.check_output(command, text=True)) / 1000


def step(name: str) -> None:
    print(name, file=sys.stderr, flush=True)


def main() -> None:
    weights, data = sys.argv[1:]
    faulthandler.dump_traceback_later(TOO_LONG_S, exit=True)
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
    (Path(data) / "told.json").write_text(json.dumps(told))
    step("leave")
    os._exit(0)


if __name__ == "__mp_main__":  # vLLM's engine, spawned
    die_with_parent()
if __name__ == "__main__":
    main()
