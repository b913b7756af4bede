"""Test doubles of what an engine brings up: workers without a process, and a clock that is set by hand."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any, cast

from serving.engine.engine import Clock, Engine, Lease
from serving.engine.pool import WorkerPool
from serving.engine.starter import Starter
from serving.settings import Settings
from serving.snapshots.base import (
    Launch,
    Report,
    RestoreFailed,
    Snapshot,
    SnapshotFailed,
    StartFailed,
    Support,
    Tier,
    WorkerSpec,
)
from serving.snapshots.choose import BackendChoice
from serving.snapshots.plain import PlainStarter
from serving.snapshots.worker_handle import WorkerHandle

PROBE = [[0.6, 0.8]]


class HandClock(Clock):
    """`set` moves it; sleepers wake in the order of their times."""

    def __init__(self) -> None:
        self.now = 1_000.0
        self.date = 1_700_000_000.0
        self._sleepers: list[tuple[float, asyncio.Future[None]]] = []

    def monotonic(self) -> float:
        return self.now

    def time(self) -> float:
        return self.date

    async def sleep(self, seconds: float) -> None:
        if seconds > 0:
            future = asyncio.get_running_loop().create_future()
            self._sleepers.append((self.now + seconds, future))
            await future

    def advance(self, seconds: float) -> None:
        self.now += seconds
        self.date += seconds
        due = sorted((entry for entry in self._sleepers if entry[0] <= self.now), key=lambda entry: entry[0])
        self._sleepers = [entry for entry in self._sleepers if entry not in due and not entry[1].done()]
        for _, future in due:
            if not future.done():
                future.set_result(None)


class NoProcess:
    """What the engine uses of a WorkerHandle."""

    def __init__(self, socket: Path, probe: list[list[float]]) -> None:
        self.pid = 0
        self.socket = socket
        self.ended = asyncio.Event()
        self.launch_answer: dict[str, Any] = {"boot_id": socket.stem, "probe": probe, "phases": {}}
        self.stopped = self.killed = False

    @property
    def is_usable(self) -> bool:
        return not self.killed and not self.ended.is_set()

    async def stop(self, grace: float) -> None:
        await asyncio.sleep(0)
        self.stopped = True
        self.ended.set()

    async def kill(self) -> None:
        await self.stop(0)


class Bench:
    """Counts what is made, and holds what is to go wrong."""

    def __init__(self) -> None:
        self.handles: list[NoProcess] = []
        self.kinds: list[str] = []
        self.created = 0
        self.discarded = 0
        self.gate = asyncio.Event()
        self.gate.set()
        self.find_gate = asyncio.Event()
        self.find_gate.set()
        self.plain_fails = ""
        self.create_fails = ""
        self.restore_fails = ""
        self.probe = PROBE
        self.probe_after = PROBE

    def worker(self, launch: Launch, probe: list[list[float]]) -> WorkerHandle:
        self.kinds.append(launch.kind)
        handle = NoProcess(launch.socket, probe)
        self.handles.append(handle)
        return cast(WorkerHandle, handle)


class NoPlain(PlainStarter):
    def __init__(self, bench: Bench) -> None:
        self.bench = bench

    async def start(self, spec: WorkerSpec, launch: Launch, report: Report) -> WorkerHandle:
        report("load", None)
        await self.bench.gate.wait()
        report("load", 1.0)
        if self.bench.plain_fails:
            raise StartFailed(self.bench.plain_fails, public=True)
        return self.bench.worker(launch, self.bench.probe)


class NoBackend:
    name = "double"
    tier: Tier = "disk"

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.snapshot: Snapshot | None = None
        self.closed = False

    async def probe(self, spec: WorkerSpec) -> Support:
        return Support(True)

    async def find(self, spec: WorkerSpec) -> Snapshot | None:
        await self.bench.find_gate.wait()
        return self.snapshot

    async def create(self, spec: WorkerSpec, report: Report) -> Snapshot:
        report("load", None)
        await self.bench.gate.wait()
        report("load", 1.0)
        report("snapshot", None)
        if self.bench.create_fails:
            raise SnapshotFailed(self.bench.create_fails)
        report("snapshot", 1.0)
        self.bench.created += 1
        self.snapshot = Snapshot(f"s{self.bench.created}", 0.0, 1, self.bench.probe)
        return self.snapshot

    async def restore(self, snapshot: Snapshot, launch: Launch, report: Report) -> WorkerHandle:
        report("restore", None)
        await self.bench.gate.wait()
        report("restore", 1.0)
        if self.bench.restore_fails:
            raise RestoreFailed(self.bench.restore_fails)
        return self.bench.worker(launch, self.bench.probe_after)

    async def step_down(self, seconds: float) -> float | None:
        return None

    async def discard(self, snapshot: Snapshot) -> None:
        self.bench.discarded += 1
        self.snapshot = None

    async def close(self) -> None:
        self.closed = True


Test = Callable[[Engine, Bench, HandClock], Awaitable[None]]


def with_engine(test: Test, folder: Path, *, backend: bool = True, finds: bool = True, **settings: Any) -> None:
    """Runs `test` with an engine of doubles, on a loop of its own.

    `finds`: a snapshot is looked for at once, else when the test opens the gate.
    """

    async def main() -> None:
        bench, clock = Bench(), HandClock()
        if not finds:
            bench.find_gate.clear()
        spec = WorkerSpec("double", "fingerprint", Settings(data=folder, **settings))
        choice = BackendChoice("auto", NoBackend(bench) if backend else None)
        engine = Engine(Starter(spec, choice, folder, NoPlain(bench)), clock=clock)
        await engine.open()
        try:
            async with asyncio.timeout(60):
                await test(engine, bench, clock)
        finally:
            await engine.close()
        assert all(handle.stopped for handle in bench.handles), "a worker was left running"

    asyncio.run(main())


PoolTest = Callable[[WorkerPool, list[Bench], HandClock], Awaitable[None]]
SHARED = "shared snapshot"


class SharedBackend(NoBackend):
    """One whose snapshots are found by the other workers, as files are."""

    def __init__(self, bench: Bench, found: dict[str, Snapshot]) -> None:
        super().__init__(bench)
        self.found = found

    async def find(self, spec: WorkerSpec) -> Snapshot | None:
        await self.bench.find_gate.wait()
        return self.found.get(SHARED)

    async def create(self, spec: WorkerSpec, report: Report) -> Snapshot:
        self.found[SHARED] = await super().create(spec, report)
        return self.found[SHARED]

    async def discard(self, snapshot: Snapshot) -> None:
        self.bench.discarded += 1
        if self.found.get(SHARED) is snapshot:
            del self.found[SHARED]


def with_pool(test: PoolTest, folder: Path, *, workers: int = 2, batch: int = 1, **settings: Any) -> None:
    """Runs `test` with so many workers of doubles, a bench for each."""

    async def main() -> None:
        benches, clock, found = [Bench() for _ in range(workers)], HandClock(), dict[str, Snapshot]()
        engines, making = list[Engine](), asyncio.Lock()
        for number, bench in enumerate(benches):
            spec = WorkerSpec("double", "fingerprint", Settings(data=folder, **settings))
            choice = BackendChoice("auto", SharedBackend(bench, found))
            starter = Starter(spec, choice, folder, NoPlain(bench), number=number, making=making)
            engines.append(Engine(starter, clock, beside=engines[0] if engines else None))
        pool = WorkerPool(engines, batch)
        await pool.open()
        try:
            async with asyncio.timeout(60):
                await test(pool, benches, clock)
        finally:
            await pool.close()
        assert all(handle.stopped for bench in benches for handle in bench.handles), "a worker was left running"

    asyncio.run(main())


async def settle() -> None:
    """Everything that can happen without time passing has happened."""
    for _ in range(30):
        await asyncio.sleep(0)


def lease(engine: Engine) -> AbstractAsyncContextManager[Lease]:
    """The engine's worker, as a request has it."""
    return WorkerPool([engine], 1).lease()


async def ask(engine: Engine | WorkerPool) -> str:
    """One request: the id of the worker that served it."""
    async with lease(engine) if isinstance(engine, Engine) else engine.lease() as leased:
        leased.record_first_answer()
        await asyncio.sleep(0)
        assert not leased.worker.handle.ended.is_set()
        return str(leased.worker.handle.launch_answer["boot_id"])


def read_starts(folder: Path) -> list[dict[str, Any]]:
    """The records of starts that an engine of this folder has written."""
    return [json.loads(line) for line in (folder / "starts.jsonl").read_text().splitlines()]
