"""What the cuda backends do on a real GPU: memory that goes and comes, workers that are kept, and what goes wrong."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest
import requests

from tests.support import criu
from tests.support.engines import EngineProcess, kind, vector
from tests.support.gpu_requirements import missing

pytestmark = [pytest.mark.timeout(900), pytest.mark.skipif(bool(reason := missing("torch")), reason=reason)]
CYCLES = 50
HOLDER = """
import sys, torch
free, _ = torch.cuda.mem_get_info()
block = torch.empty(free - int(2e9), dtype=torch.uint8, device="cuda"); torch.cuda.synchronize()
print("held", flush=True); sys.stdin.read()
"""


@pytest.fixture(scope="module")
def engine(weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[EngineProcess]:
    options = ["--weights", str(weights), "--scaledown-window", "3600"]
    folder = tmp_path_factory.mktemp("kept")
    with EngineProcess(folder, "cuda", *options, embedder="bigemma3", DORMOUSE_HOLD_TIMEOUT_S="600") as engine:
        assert kind(engine.ask(timeout=600)) == "created"
        yield engine


def used_mib() -> int:
    command = ["nvidia-smi", "--query-gpu=memory.used", "--format=csv,noheader,nounits", "--id=0"]
    return int(subprocess.check_output(command, text=True))


def test_addresses_and_graphs_outlive_their_memory(weights: Path) -> None:
    """Any torch module; two of them share the files."""
    import torch

    from serving.embedders.gpu.device_memory import GpuWeights, WorkingMemory
    from serving.embedders.gpu.weight_arena import plan_weights

    files = sorted(weights.glob("*.safetensors"))
    one, other = (GpuWeights(plan_weights(files)) for _ in range(2))
    for found in (one, other):
        assert found.fill() > 0
    before = one.memory[:: 1 << 20].cpu()
    assert torch.equal(before, other.memory[:: 1 << 20].cpu())
    working = WorkingMemory()
    working.make_room(1 << 30)
    values = torch.arange(1 << 20, device="cuda", dtype=torch.float32)
    stream, graph = torch.cuda.Stream(), torch.cuda.CUDAGraph()
    pool = working.make_pool()
    with torch.cuda.graph(graph, pool=pool.id, stream=stream):
        doubled = (values * 2).sin()
    graph.replay()
    torch.cuda.synchronize()
    wanted = doubled.cpu()
    free = torch.cuda.mem_get_info()[0]
    one.release()
    working.release()
    assert torch.cuda.mem_get_info()[0] > free + one.plan.size
    one.fill()
    working.restore()
    graph.replay()
    torch.cuda.synchronize()
    assert torch.equal(doubled.cpu(), wanted)
    assert torch.equal(one.memory[:: 1 << 20].cpu(), before)
    other.release()


def test_a_kept_worker_comes_back_as_often_as_wanted_and_does_not_grow(engine: EngineProcess) -> None:
    first = vector(engine.ask())
    gpu, host = [], []
    for _ in range(CYCLES):
        engine.to_zero()
        held = engine.until(lambda status: status["held"] is not None)["held"]
        assert held["tier"] == "host"
        gpu.append(used_mib())
        host.append(held["host_bytes"])
        answer = engine.ask()
        assert kind(answer) == "restored" and answer.headers["X-Snapshot-Tier"] == "host"
        np.testing.assert_array_equal(vector(answer), first)
    assert max(gpu[5:]) <= gpu[4] + 16, gpu
    assert max(host[5:]) <= 1.05 * host[4], host


def test_a_gpu_that_is_in_use_is_told_and_the_worker_is_kept(engine: EngineProcess) -> None:
    engine.to_zero()
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None and holder.stdin is not None
        assert holder.stdout.readline() == "held\n"
        answer = engine.ask()
        assert answer.status_code == 503 and "GB are missing" in answer.text, answer.text
        holder.stdin.close()
    engine.until(lambda status: status["state"] == "zero", timeout=30)
    assert kind(engine.ask()) == "restored"


@pytest.mark.parametrize("moment", ["held", "restoring", "parking"])
def test_a_worker_that_is_killed_is_replaced(engine: EngineProcess, moment: str) -> None:
    answer = engine.ask(timeout=600)
    if kind(answer) == "plain":  # it stands in for the one that the test before killed, and is not kept
        engine.to_zero()
        answer = engine.ask(timeout=600)
    before = vector(answer)
    worker = max(
        (process for process in engine.family() if "serving.worker.process" in process.cmdline()),
        key=lambda process: process.memory_info().rss,
    )
    if moment == "parking":
        requests.post(engine.wait() + "/scaledown", headers=engine.admin, timeout=60)
        time.sleep(0.3)
        worker.kill()
    else:
        engine.to_zero()
        engine.until(lambda status: status["held"] is not None)
        if moment == "held":
            worker.kill()
        else:
            killer = subprocess.Popen(["sh", "-c", f"sleep 0.1; kill -9 {worker.pid}"])
            first = engine.ask(timeout=600)
            killer.wait()
            assert first.status_code in (200, 503), first.text
    engine.until(lambda status: status["state"] in ("zero", "serving"), timeout=120)
    answer = engine.ask(timeout=600)
    assert answer.status_code == 200, answer.text
    np.testing.assert_allclose(vector(answer), before, atol=0.02)
    assert not worker.is_running() or worker.status() == psutil.STATUS_ZOMBIE


def test_from_a_file_when_nothing_is_held(weights: Path, tmp_path: Path) -> None:
    criu.need()
    options = ["--weights", str(weights), "--scaledown-window", "3600"]
    own = {"DORMOUSE_HOLD_TIMEOUT_S": "600"}
    with EngineProcess(tmp_path, "criu+cuda", *options, embedder="bigemma3", **own) as engine:
        answer = engine.ask(timeout=600)
        assert kind(answer) == "created"
        before = vector(answer)
        for _ in range(2):
            engine.to_zero()
            assert engine.status()["tier"] == "disk"
            assert not [p for p in engine.family() if "serving.worker.process" in p.cmdline()]
            answer = engine.ask(timeout=60)
            assert kind(answer) == "restored"
            np.testing.assert_array_equal(vector(answer), before)
    with EngineProcess(tmp_path, "criu+cuda", *options, embedder="bigemma3", **own) as engine:
        answer = engine.ask(timeout=600)
        assert kind(answer) == "restored"  # another engine, the same file
