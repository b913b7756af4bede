"""The cuda backends with real worker processes and a real criu. The CUDA driver is a test double: what the real one
does is measured on a GPU (tests/gpu, `python -m bench tiers`)."""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest

from serving.engine.engine import Engine
from serving.engine.starter import Starter
from serving.engine.status import describe_engine
from serving.settings import Settings
from serving.snapshots.base import (
    GpuMemoryInUse,
    Launch,
    RestoreFailed,
    Snapshot,
    SnapshotFailed,
    StartFailed,
    WorkerSpec,
)
from serving.snapshots.choose import BackendChoice
from serving.snapshots.criu.backend import CriuBackend
from serving.snapshots.cuda.backend import CudaBackend
from serving.snapshots.cuda.driver import CudaDriver, DriverFailed, Gpu
from serving.snapshots.identity import digest_identity
from serving.snapshots.store import SnapshotStore
from serving.snapshots.worker_handle import WorkerHandle
from tests.support import criu
from tests.support.doubles import lease
from tests.support.restored_workers import ask, quiet
from tests.support.scripted import unit
from tests.support.scripted_engine import NAME, script

GB = 1_000_000_000


class NoGpu:
    """In the driver's place: remembers what it was asked for, and which processes it has."""

    def __init__(self) -> None:
        self.gpu = Gpu("a test double", "GPU-0", "0", True, "GPU-0")
        self.there = (80 * GB, 80 * GB)
        self.saved: set[int] = set()
        self.calls: list[str] = []
        self.moved_from: list[str] = []
        """The GPU on which what was loaded had been saved, by load; empty for this one."""
        self.fails = ""
        """The call that fails."""
        self.serving: list[WorkerHandle] = []
        """Of this test."""
        self.during: Callable[[Sequence[int]], object] = lambda processes: None

    async def open(self, gpu: str = "") -> None: ...

    async def close(self) -> None: ...

    async def measure_memory(self) -> tuple[int, int]:
        return self.there

    async def find_processes(self, among: Sequence[int]) -> list[int]:
        return [pid for pid in among if "serving.worker.process" in " ".join(psutil.Process(pid).cmdline())][-1:]

    async def save(self, processes: Sequence[int], deadline: float) -> None:
        self._called("save", processes)
        self.saved.update(processes)

    async def load(self, processes: Sequence[int], deadline: float, saved_on: str = "") -> None:
        self._called("load", processes)
        self.moved_from.append(saved_on)
        assert processes
        self.saved.difference_update(processes)

    def _called(self, what: str, processes: Sequence[int]) -> None:
        self.calls.append(what)
        self.during(processes)
        if self.fails == what:
            raise DriverFailed(f"{what}: CUDA_ERROR_UNKNOWN")


Test = Callable[[CudaBackend, NoGpu, WorkerSpec], Awaitable[None]]


def spec_of(folder: Path, **values: object) -> WorkerSpec:
    settings = Settings(data=folder, criu=criu.tool() or "", gpu_wait_s=0.2, **values)  # type: ignore[arg-type]
    return WorkerSpec(NAME, "scripted-1", settings, False, ("criu+cuda", "cuda"), (), 9 * GB)


def backend_of(spec: WorkerSpec, driver: NoGpu, *, file: bool, store: SnapshotStore | None = None) -> CudaBackend:
    folder = spec.settings.data
    backend = CudaBackend(spec.settings, folder, CriuBackend(spec.settings, folder) if file else None, store)
    backend._driver = driver  # type: ignore[assignment]
    return backend


async def skip_canary(backend: CudaBackend, spec: WorkerSpec) -> None:
    """Have the backend find its tools, without the small process that needs a GPU."""

    async def no_canary(spec: WorkerSpec) -> None: ...

    backend._try_canary = no_canary  # type: ignore[method-assign]
    support = await backend.probe(spec)
    assert support.ok, support.reason


def with_backend(folder: Path, test: Test, *, file: bool = False, **settings: object) -> None:
    if file:
        criu.need()

    async def main() -> None:
        before = set(psutil.Process().children(recursive=True))
        spec, driver = spec_of(folder, **settings), NoGpu()
        backend = backend_of(spec, driver, file=file)
        await skip_canary(backend, spec)
        try:
            await test(backend, driver, spec)
        finally:
            for handle in driver.serving:  # the engine's, not the backend's
                await handle.kill()
            await backend.close()
        assert not [child for child in set(psutil.Process().children(recursive=True)) - before if alive(child)]

    asyncio.run(main())


def alive(process: psutil.Process) -> bool:
    try:
        return "serving.worker.process" in process.cmdline()
    except psutil.Error:
        return False


async def restored(backend: CudaBackend, snapshot: Snapshot, spec: WorkerSpec) -> WorkerHandle:
    socket = spec.settings.data / f"{secrets.token_hex(4)}.sock"
    handle = await backend.restore(snapshot, Launch(socket, "restored", {}, spec.waking_bytes), quiet)
    backend._driver.serving.append(handle)  # type: ignore[attr-defined]
    return handle


async def lives(handle: WorkerHandle) -> str:
    np.testing.assert_allclose(await ask(handle), unit("total due", 2560), atol=1e-6)
    return str(handle.launch_answer["boot_id"])


@pytest.mark.soak
def test_one_process_lives_fifty_lives_and_does_not_grow(tmp_path: Path) -> None:
    async def test(backend: CudaBackend, driver: NoGpu, spec: WorkerSpec) -> None:
        snapshot = await backend.create(spec, quiet)
        assert backend.tier == "host" and len(driver.saved) == 1
        boots, pids, sizes = set(), set(), []
        for _ in range(50):
            assert await backend.find(spec) is snapshot
            handle = await restored(backend, snapshot, spec)
            assert not driver.saved
            boots.add(await lives(handle))
            pids.add(handle.pid)
            await handle.stop(5)
            assert len(driver.saved) == 1 and backend.parked is not None
            process = psutil.Process(handle.pid)
            sizes.append((process.num_fds(), process.num_threads(), process.memory_info().rss))
        assert len(boots) == 50 and len(pids) == 1
        assert sizes[-1][:2] == sizes[4][:2]
        assert sizes[-1][2] < 1.1 * sizes[4][2]

    with_backend(tmp_path, test)


def test_steps_down_to_a_file_and_back_from_each(tmp_path: Path) -> None:
    async def test(backend: CudaBackend, driver: NoGpu, spec: WorkerSpec) -> None:
        snapshot = await backend.create(spec, quiet)
        assert backend.tier == "disk" and backend.parked is None and snapshot.bytes > 0
        for deepest in ("context", "host", "disk"):
            driver.calls.clear()
            handle = await restored(backend, snapshot, spec)
            assert driver.calls == ["load"]
            await lives(handle)
            await handle.stop(5)
            assert backend.tier == "context" and driver.calls == ["load"]
            assert await backend.step_down(1.0) == 9.0
            if deepest != "context":
                assert await backend.step_down(10.0) == 20.0
                assert backend.tier == "host" and driver.calls == ["load", "save"]
            if deepest == "disk":
                assert await backend.step_down(30.0) is None
                assert backend.tier == "disk" and handle.ended.is_set()
            else:
                again = await restored(backend, snapshot, spec)
                await lives(again)
                assert again is handle
                await again.stop(5)
                await backend.step_down(100.0)
            driver.saved.clear()
        driver.saved.clear()

    with_backend(tmp_path, test, file=True, context_s=10, host_s=20)


def test_without_steps_a_file_is_all_that_is_left(tmp_path: Path) -> None:
    async def test(backend: CudaBackend, driver: NoGpu, spec: WorkerSpec) -> None:
        snapshot = await backend.create(spec, quiet)
        boots = set()
        for _ in range(3):
            assert (await backend.find(spec)) == snapshot
            handle = await restored(backend, snapshot, spec)
            boots.add(await lives(handle))
            await handle.stop(5)
            assert backend.tier == "disk" and handle.ended.is_set() and await backend.step_down(0.0) is None
        assert len(boots) == 3

    with_backend(tmp_path, test, file=True)


def test_two_workers_are_restored_from_one_file_at_once_each_on_its_gpu(tmp_path: Path) -> None:
    """Their process has a socket with its number in its name, which there can be once in a network."""
    criu.need()
    script(tmp_path, names_socket=True)

    async def main() -> None:
        store = SnapshotStore.of(spec_of(tmp_path).settings)
        specs = [replace(spec_of(tmp_path), gpu=f"GPU-{number}") for number in range(2)]
        backends, drivers = [], [NoGpu(), NoGpu()]
        for number, (spec, driver) in enumerate(zip(specs, drivers, strict=True)):
            driver.gpu = Gpu("a test double", f"GPU-{number}", "0", True, "GPU-0 GPU-1")
            backends.append(backend_of(spec, driver, file=True, store=store))
            await skip_canary(backends[-1], spec)
        snapshot = await backends[0].create(specs[0], quiet)
        assert await backends[1].find(specs[1]) == snapshot, "one file for both"
        handles = await asyncio.gather(*(restored(backends[n], snapshot, specs[n]) for n in range(2)))
        try:
            boots = {await lives(handle) for handle in handles}
            assert len(boots) == 2 and [driver.moved_from for driver in drivers] == [["GPU-0"], ["GPU-0"]]
            assert [backend.name for backend in backends] == ["criu+cuda"] * 2
        finally:
            for handle in handles:
                await handle.kill()
            for backend in backends:
                await backend.close()

    asyncio.run(main())


def test_another_kind_of_gpu_or_a_driver_that_cannot_move_has_a_file_of_its_own(tmp_path: Path) -> None:
    criu.need()

    async def main() -> None:
        identities = []
        for gpu in (
            Gpu("one kind", "GPU-0", "580", True, "GPU-0 GPU-1"),
            Gpu("one kind", "GPU-1", "580", True, "GPU-0 GPU-1"),
            Gpu("another kind", "GPU-1", "580", True, "GPU-0 GPU-1"),
            Gpu("one kind", "GPU-1", "580", True, "GPU-1 GPU-2"),
            Gpu("one kind", "GPU-0", "570", False, "GPU-0 GPU-1"),
            Gpu("one kind", "GPU-1", "570", False, "GPU-0 GPU-1"),
        ):
            spec, driver = replace(spec_of(tmp_path), gpu=gpu.uuid), NoGpu()
            driver.gpu = gpu
            backend = backend_of(spec, driver, file=True)
            await skip_canary(backend, spec)
            identities.append(digest_identity(await backend._make_identity(spec)))
            await backend.close()
        assert identities[0] == identities[1] and len(set(identities)) == 5

    asyncio.run(main())


def test_a_full_gpu_is_told_and_nothing_is_lost(tmp_path: Path) -> None:
    async def test(backend: CudaBackend, driver: NoGpu, spec: WorkerSpec) -> None:
        snapshot = await backend.create(spec, quiet)
        driver.there = (3 * GB, 80 * GB)
        with pytest.raises(GpuMemoryInUse, match=r"3\.0 GB free of 80\.0 and 9\.0 are needed: 6\.0 GB are missing"):
            await restored(backend, snapshot, spec)
        assert await backend.find(spec) is snapshot
        waiting = asyncio.create_task(restored(backend, snapshot, spec))
        await asyncio.sleep(0.05)
        driver.there = (40 * GB, 80 * GB)
        await lives(await waiting)

    with_backend(tmp_path, test)


@pytest.mark.parametrize("file", [False, True])
def test_a_driver_that_fails_leaves_no_half_process(tmp_path: Path, file: bool) -> None:
    async def test(backend: CudaBackend, driver: NoGpu, spec: WorkerSpec) -> None:
        driver.fails = "save"
        with pytest.raises(SnapshotFailed, match="CUDA_ERROR_UNKNOWN"):
            await backend.create(spec, quiet)
        assert await backend.find(spec) is None
        driver.fails = ""
        snapshot = await backend.create(spec, quiet)
        driver.fails = "load"
        with pytest.raises(RestoreFailed, match="CUDA_ERROR_UNKNOWN"):
            await restored(backend, snapshot, spec)

    with_backend(tmp_path, test, file=file)


def test_a_park_that_fails_ends_the_process(tmp_path: Path) -> None:
    async def test(backend: CudaBackend, driver: NoGpu, spec: WorkerSpec) -> None:
        handle = await restored(backend, await backend.create(spec, quiet), spec)
        driver.fails = "save"
        with pytest.raises(SnapshotFailed):
            await handle.stop(5)
        assert handle.ended.is_set() and await backend.find(spec) is None

    with_backend(tmp_path, test)


@pytest.mark.parametrize("moment", ["held", "save", "load", "park"])
def test_a_worker_that_is_killed_is_noticed(tmp_path: Path, moment: str) -> None:
    """While it is kept, while the driver saves or loads it, and while it parks itself."""

    def kill(processes: Sequence[int]) -> None:
        for pid in processes:
            os.kill(pid, signal.SIGKILL)

    async def test(backend: CudaBackend, driver: NoGpu, spec: WorkerSpec) -> None:
        snapshot = await backend.create(spec, quiet)
        if moment == "held":
            kill(sorted(driver.saved))
            held = backend._parked
            assert held is not None
            await asyncio.wait_for(held.handle.ended.wait(), 5)
        elif moment == "load":
            driver.during = kill
            with pytest.raises(RestoreFailed):
                await restored(backend, snapshot, spec)
        else:
            handle = await restored(backend, snapshot, spec)
            if moment == "save":
                driver.during = kill
                driver.fails = "save"
            else:
                kill([handle.pid])
                handle.ended.clear()  # not heard yet
            with pytest.raises(SnapshotFailed):
                await handle.stop(5)
        assert await backend.find(spec) is None
        driver.during, driver.fails = lambda processes: None, ""
        await lives(await restored(backend, await backend.create(spec, quiet), spec))

    with_backend(tmp_path, test)


def test_the_engine_goes_down_by_steps_and_tells_what_it_holds(tmp_path: Path) -> None:
    async def main() -> None:
        spec, driver = spec_of(tmp_path, context_s=0.5), NoGpu()
        backend = backend_of(spec, driver, file=False)
        run = tmp_path / "run"
        run.mkdir()
        engine = Engine(Starter(spec, BackendChoice("cuda", backend), run))
        await engine.open()
        try:
            tiers = []
            for _ in range(2):
                async with lease(engine) as leased:
                    tiers.append(leased.worker.tier)
                await engine.scale_down()
                assert describe_engine(engine)["tier"] == "context"
            async with lease(engine) as leased:
                tiers.append(leased.worker.tier)
            await engine.scale_down()
            async with asyncio.timeout(10):
                while describe_engine(engine)["tier"] != "host":
                    await asyncio.sleep(0.05)
            held = describe_engine(engine)["held"]
            assert held["tier"] == "host" and held["host_bytes"] > 10_000_000
            async with lease(engine) as leased:
                tiers.append(leased.worker.tier)
            assert tiers == ["host", "context", "context", "host"]
            driver.there = (0, 80 * GB)
            await engine.scale_down()
            with pytest.raises(Exception, match="GB are missing"):
                async with lease(engine):
                    pass
            assert engine.starter.snapshot is not None
        finally:
            await engine.close()

    asyncio.run(main())


def test_a_driver_that_is_not_there_says_what_to_do(tmp_path: Path) -> None:
    """The real one, on a machine without a GPU."""

    async def main() -> None:
        driver = CudaDriver()
        with pytest.raises(DriverFailed, match=r"pip install 'dormouse-search\[gpu\]'|cuInit|driver"):
            await driver.open()
        await driver.close()
        spec = spec_of(tmp_path)
        support = await CudaBackend(spec.settings, tmp_path).probe(spec)
        assert not support.ok and support.reason
        support = await CudaBackend(spec.settings, tmp_path).probe(WorkerSpec(NAME, "scripted-1", spec.settings))
        assert "--device cuda" in support.reason

    asyncio.run(main())


def test_start_failures_are_the_workers_own(tmp_path: Path) -> None:
    async def test(backend: CudaBackend, driver: NoGpu, spec: WorkerSpec) -> None:
        wrong = WorkerSpec("tests.absent:Embedder", "x", spec.settings, False, ("cuda",))
        with pytest.raises(StartFailed):
            await backend.create(wrong, quiet)

    with_backend(tmp_path, test)
