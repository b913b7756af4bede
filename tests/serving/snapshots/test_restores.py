"""Backends by themselves: many restores of one snapshot, at once and in a row, and what they leave behind."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from pathlib import Path

import numpy as np
import psutil
import pytest

from serving.settings import Settings
from serving.snapshots.base import Launch, Snapshot, SnapshotBackend, WorkerSpec
from serving.snapshots.criu.backend import CriuBackend, read_first_error
from serving.snapshots.fork import ForkBackend
from serving.snapshots.worker_handle import WorkerHandle
from tests.support import criu
from tests.support.restored_workers import ask, quiet
from tests.support.scripted import unit
from tests.support.scripted_engine import NAME

BACKENDS = ["criu", "fork"]
Test = Callable[[SnapshotBackend, Snapshot, Path], Awaitable[None]]


def spec_of(folder: Path, **settings: object) -> WorkerSpec:
    return WorkerSpec(NAME, "scripted-1", Settings(data=folder, criu=criu.tool() or "", **settings))  # type: ignore[arg-type]


def with_snapshot(name: str, folder: Path, test: Test) -> None:
    if name == "criu":
        criu.need()

    async def main() -> None:
        spec = spec_of(folder)
        backend: SnapshotBackend = CriuBackend(spec.settings, folder) if name == "criu" else ForkBackend()
        support = await backend.probe(spec)
        assert support.ok, support.reason
        try:
            await test(backend, await backend.create(spec, quiet), folder)
        finally:
            await backend.close()

    asyncio.run(main())


async def restore(backend: SnapshotBackend, snapshot: Snapshot, folder: Path) -> WorkerHandle:
    socket = folder / f"{secrets.token_hex(4)}.sock"
    return await backend.restore(snapshot, Launch(socket, "restored", {}), quiet)


@pytest.mark.soak
@pytest.mark.parametrize("name", BACKENDS)
def test_one_snapshot_restored_many_times_at_once(tmp_path: Path, name: str) -> None:
    async def test(backend: SnapshotBackend, snapshot: Snapshot, folder: Path) -> None:
        handles = await asyncio.gather(*(restore(backend, snapshot, folder) for _ in range(4)))
        vectors = await asyncio.gather(*(ask(handle) for handle in handles))
        for vector in vectors:
            np.testing.assert_allclose(vector, unit("total due", 2560), atol=1e-6)
        drawn = await asyncio.gather(*(ask(handle, "random") for handle in handles))
        assert len({tuple(numbers[:3]) for numbers in drawn}) == 4
        assert len({handle.launch_answer["boot_id"] for handle in handles}) == 4
        await asyncio.gather(*(handle.stop(5) for handle in handles))

    with_snapshot(name, tmp_path, test)


@pytest.mark.parametrize("name", BACKENDS)
def test_a_worker_that_was_struck_is_not_usable_before_its_end_is_heard(tmp_path: Path, name: str) -> None:
    async def test(backend: SnapshotBackend, snapshot: Snapshot, folder: Path) -> None:
        handle = await restore(backend, snapshot, folder)
        assert handle.is_usable
        handle.kill_now()
        assert not handle.is_usable and not handle.ended.is_set()
        await asyncio.wait_for(handle.ended.wait(), 10)
        await handle.kill()  # of one that has gone, it does nothing

    with_snapshot(name, tmp_path, test)


@pytest.mark.long
@pytest.mark.soak
@pytest.mark.timeout(400)
@pytest.mark.parametrize("name", BACKENDS)
def test_five_hundred_restores_leave_nothing_behind(tmp_path: Path, name: str) -> None:
    """No hang (each has the settings' deadline), no process, descriptor, thread, file or memory that stays."""

    me = psutil.Process()
    others = me.children(recursive=True)  # servers that other tests share

    async def test(backend: SnapshotBackend, snapshot: Snapshot, folder: Path) -> None:
        async def cycle(number: int) -> None:
            handle = await restore(backend, snapshot, folder)
            assert handle.launch_answer["probe"] == snapshot.probe
            if number % 50 == 0:
                np.testing.assert_allclose(await ask(handle), unit("total due", 2560), atol=1e-6)
            await (handle.kill() if number % 10 else handle.stop(5))
            assert handle.socket is not None
            handle.socket.unlink()

        for number in range(20):
            await cycle(number)
        held = added(me, others)  # of fork the template, of criu nothing
        before = me.num_fds(), me.num_threads(), [child.num_fds() for child in held], memory([me, *held])
        files = everything(folder)
        for number in range(500):
            await cycle(number)
        await asyncio.sleep(0.1)
        assert added(me, others) == held and len(held) == (name == "fork")
        after = me.num_fds(), me.num_threads(), [child.num_fds() for child in held], memory([me, *held])
        assert after[:3] == before[:3]
        assert after[3] - before[3] < 8_000_000, f"{(after[3] - before[3]) / 1e6:.1f} MB grown"
        assert everything(folder) == files

    with_snapshot(name, tmp_path, test)


def added(me: psutil.Process, others: list[psutil.Process]) -> list[psutil.Process]:
    return [child for child in me.children(recursive=True) if child not in others]


def memory(processes: list[psutil.Process]) -> int:
    return sum(process.memory_info().rss for process in processes)


def everything(folder: Path) -> set[Path]:
    return set(folder.rglob("*"))


def test_the_error_that_criu_tells(tmp_path: Path) -> None:
    log = tmp_path / "restore.log"
    assert read_first_error(log) == "" == read_first_error(tmp_path), "not there, or not to be read"
    log.write_text("Error (criu/net.c:1): net: Unexpected error: -1\n")
    assert read_first_error(log) == "", "said without privileges, and harmless"
    log.write_text(
        "Error (criu/net.c:1): net: Unexpected error: -1\n(00.1) Error (criu/files-reg.c:2): File a.so has bad size 1\n"
        "(00.2) Error (criu/cr-restore.c:3): Restoring FAILED.\n"
    )
    assert read_first_error(log) == "File a.so has bad size 1"
