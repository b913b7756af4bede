"""Both servers of BiGemma3 on a real GPU, with random weights of the real model's shapes: `make test-gpu`."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import requests

from tests.support.engines import EngineProcess
from tests.support.gpu_requirements import missing
from tests.support.repository import SAMPLES

pytestmark = [pytest.mark.timeout(900), pytest.mark.skipif(bool(reason := missing()), reason=reason)]
THRESHOLD = 0.999
"""Of two implementations in bfloat16."""


@pytest.fixture(scope="module")
def servers(weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, EngineProcess]]:
    options = ["--weights", str(weights), "--scaledown-window", "3600"]
    with (
        EngineProcess(tmp_path_factory.mktemp("hf"), "plain", *options, embedder="bigemma3") as hf,
        EngineProcess(tmp_path_factory.mktemp("vllm"), "plain", *options, embedder="vllm") as vllm,
    ):
        for engine in (hf, vllm):
            answer = requests.post(engine.wait() + "/wake_up", headers=engine.admin, timeout=600)
            assert answer.status_code == 200, answer.text
        yield {"bigemma3": hf, "vllm": vllm}


@pytest.fixture(scope="module")
def loop(weights: Path) -> dict[str, Any]:
    """Before the servers: it wants the GPU for itself."""
    done = subprocess.run(
        [sys.executable, "-m", "bench.speed.gpu_kernels", str(weights)], stdout=subprocess.PIPE, check=True
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_our_loop_computes_what_colpali_does(loop: dict[str, Any]) -> None:
    """Graphs, fused kernels and cuDNN's attention against colpali-engine's own forward."""
    assert min(loop["reference"]["pages"]) >= THRESHOLD
    assert min(loop["reference"]["queries"]) >= THRESHOLD


def test_these_weights_tell_both_kinds_of_attention_apart(loop: dict[str, Any]) -> None:
    """Else the next test would pass with an image's tokens looking back only."""
    assert max(loop["reference"]["causal"]) < THRESHOLD


def test_both_servers_give_the_same_vectors(servers: dict[str, EngineProcess], tmp_path: Path) -> None:
    """`bench parity` itself refuses weights that cannot tell pages or queries apart."""
    out = tmp_path / "result.json"
    command = [sys.executable, "-m", "bench", "parity", "--data", str(tmp_path / "data"), "--out", str(out)]
    least = ["--threshold-pages", str(THRESHOLD), "--threshold-queries", str(THRESHOLD)]
    urls = ["--a", servers["bigemma3"].wait(), "--b", servers["vllm"].wait()]
    done = subprocess.run([*command, *least, *urls], capture_output=True, text=True)
    print(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(out.read_text())
    assert found["equal"] and not found["blurred"]


@pytest.mark.parametrize("name", ["bigemma3", "vllm"])
def test_one_page_in_different_company_is_one_vector(servers: dict[str, EngineProcess], name: str) -> None:
    """Batches of other sizes run other kernels."""
    import base64

    files = sorted(path for path in SAMPLES.iterdir() if path.suffix in (".jpg", ".png"))[:8]
    images = [base64.b64encode(path.read_bytes()).decode() for path in files]
    url = servers[name].wait() + "/embed"
    together = requests.post(url, json={"images": images}, timeout=300).json()["embeddings"]
    alone = [requests.post(url, json={"images": [image]}, timeout=300).json()["embeddings"][0] for image in images]
    assert float((np.asarray(together) * np.asarray(alone)).sum(axis=1).min()) >= THRESHOLD


def test_vllm_gives_the_gpu_back_when_it_sleeps(weights: Path, tmp_path: Path) -> None:
    """Sleep level 1, then the probe again: the same vectors, and most of its memory was free meanwhile."""
    # Into a file: a pipe would be held open by whatever its engine leaves behind.
    with (tmp_path / "log").open("w") as log:
        command = [sys.executable, "-m", "tests.gpu.sleeper", str(weights), str(tmp_path)]
        done = subprocess.run(command, stdout=log, stderr=subprocess.STDOUT, timeout=300)
    assert done.returncode == 0, (tmp_path / "log").read_text()[-6000:]
    told = json.loads((tmp_path / "told.json").read_text())
    assert told["cosine"] >= 0.9999, told
    assert told["asleep_gb"] < told["awake_gb"] - 8, told
