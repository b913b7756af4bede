"""What the tests on a GPU need."""

from __future__ import annotations

import shutil
import subprocess
import sys


def missing(modules: str = "torch, vllm") -> str:
    """Why these tests cannot run here; empty if they can."""
    if shutil.which("nvidia-smi") is None or subprocess.run(["nvidia-smi", "-L"], capture_output=True).returncode:
        return "there is no NVIDIA GPU here"
    code = f"import {modules}, colpali_engine.models.gemma3; assert torch.cuda.is_available()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    last = (done.stderr.strip().splitlines() or [""])[-1]
    return "" if done.returncode == 0 else f"make gpu installs what is missing: {last}"
