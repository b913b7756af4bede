"""The engine's processes: they end with the worker, and the worker ends with them."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
import requests

from bench.speed.random_weights import build_checkpoint
from serving.http.child_server import ServerProcess
from tests.support.engines import EngineProcess
from tests.support.servers import ADMIN_KEY
from tests.vllm.conftest import START_S, Served, cosines

GONE_S = 15
"""For the system to take 3 GB back from processes that were killed, on a busy machine."""


def named(server: Served, word: str) -> psutil.Process:
    return next(one for one in server.engine.family() if word in " ".join(one.cmdline()))


def until_gone(processes: list[psutil.Process]) -> list[psutil.Process]:
    """Those that are still there when the time is over."""
    ends = time.monotonic() + GONE_S
    while (left := [one for one in processes if alive(one)]) and time.monotonic() < ends:
        time.sleep(0.05)
    return left


def alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def answered(server: Served, text: str) -> requests.Response:
    """Asked again after a 503, as clients do."""
    ends = time.monotonic() + START_S
    while (response := server.post("/embed", {"texts": [text]})).status_code == 503 and time.monotonic() < ends:
        assert int(response.headers["Retry-After"]) >= 1 and "error" in response.json()
        time.sleep(1)
    assert response.status_code == 200, response.text
    return response


@pytest.mark.timeout(2 * START_S)
def test_a_killed_worker_leaves_nothing_behind(vllm: Served) -> None:
    before = answered(vllm, "total revenue")
    family = vllm.engine.family()
    assert any("EngineCore" in " ".join(one.cmdline()) for one in family), family
    named(vllm, "serving.worker.process").kill()
    assert until_gone(family) == []
    after = answered(vllm, "total revenue")
    assert after.headers["X-Boot-Id"] != before.headers["X-Boot-Id"]
    assert before.json()["embeddings"] == after.json()["embeddings"]


@pytest.mark.timeout(2 * START_S)
def test_a_killed_engine_is_replaced_by_a_new_worker(vllm: Served) -> None:
    before = answered(vllm, "total revenue")
    family = vllm.engine.family()
    named(vllm, "EngineCore").kill()
    assert until_gone(family) == []
    after = answered(vllm, "total revenue")
    assert after.headers["X-Boot-Id"] != before.headers["X-Boot-Id"]
    assert before.json()["embeddings"] == after.json()["embeddings"]


@pytest.mark.timeout(2 * START_S)
def test_at_zero_nothing_is_left_and_nothing_is_in_the_way(vllm: Served) -> None:
    before = answered(vllm, "total revenue")
    family = vllm.engine.family()
    vllm.engine.to_zero()
    assert [one for one in family if alive(one)] == [], "zero means zero: the GPU is free"
    assert answered(vllm, "total revenue").json()["embeddings"] == before.json()["embeddings"]


@pytest.mark.timeout(2 * START_S)
def test_sleep_and_wake(vllm: Served, tmp_path: Path) -> None:
    """The worker's own routes, as a platform without our engine calls them. On a CPU, sleep is a state only.

    Its weights are the others' under the tensor names of a current transformers, which vLLM does not know by itself.
    """
    weights = build_checkpoint(tmp_path / "weights", layout="flat", architecture="BiGemma3")
    options = ["--weights", str(weights), "--data", str(tmp_path)]
    with ServerProcess("tests.vllm.bare_worker", options) as server:
        url, admin, body = server.wait(START_S), {"X-Admin-Key": ADMIN_KEY}, {"texts": ["total revenue"]}
        before = requests.post(url + "/embed", json=body, timeout=60).json()["embeddings"]
        assert cosines(np.asarray(before), vllm.embed(["total revenue"])).min() >= 0.99999
        for _ in range(2):
            assert requests.post(url + "/sleep", headers=admin, timeout=60).json() == {"status": "asleep"}
            response = requests.post(url + "/embed", json=body, timeout=60)
            assert response.status_code == 503 and response.json()["error"]["code"] == "asleep"
            assert requests.get(url + "/ready", timeout=10).status_code == 503
            assert requests.post(url + "/wake_up", headers=admin, timeout=60).json() == {"status": "ready"}
            assert requests.post(url + "/embed", json=body, timeout=60).json()["embeddings"] == before
        family = psutil.Process(server.pid).children(recursive=True)
        assert any("EngineCore" in " ".join(one.cmdline()) for one in family), family
    assert until_gone(family) == []


def test_without_a_gpu_it_says_so(weights: Path, tmp_path: Path) -> None:
    with EngineProcess(tmp_path, "plain", "--weights", str(weights), "--device", "cuda", embedder="vllm") as engine:
        error = engine.ask(timeout=START_S).json()["error"]
    assert error["code"] == "start_failed" and "finds no GPU" in error["message"]


def test_nothing_heavy_is_imported_to_know_what_it_is(weights: Path) -> None:
    script = (
        "import sys\n"
        "from serving.embedders.bigemma3.vllm import VllmEmbedder\n"
        "from serving.settings import Settings\n"
        "found = VllmEmbedder(Settings(weights=sys.argv[1], device='cpu'))\n"
        "heavy = {'torch', 'vllm', 'transformers'} & {*sys.modules}\n"
        "print(found.name, found.dimensions, found.fingerprint[:14], heavy)"
    )
    answer = subprocess.run([sys.executable, "-c", script, str(weights)], capture_output=True, text=True, check=True)
    assert answer.stdout == "bigemma3 (768, 1536, 2560) bigemma3-vllm- set()\n"
