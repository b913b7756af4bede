"""Random weights of the real model's shapes, made once for all tests on a GPU."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Made on the GPU by another process, which gives its memory back."""
    folder = tmp_path_factory.mktemp("weights")
    made = [sys.executable, "-m", "bench", "weights", str(folder), "--shape", "4b", "--device", "cuda"]
    subprocess.run(made, check=True)
    return folder
