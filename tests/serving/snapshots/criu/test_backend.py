"""Saving and restoring with a real criu, given up at any moment: nothing is left running."""

from __future__ import annotations

import asyncio
import itertools
import sys
import types
from collections.abc import Callable, Coroutine, Generator
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import psutil
import pytest

from serving.settings import Settings
from serving.snapshots.criu.backend import (
    CANARY,
    CANARY_S,
    CriuBackend,
    CriuTool,
    dump_worker,
    ignore_report,
    restore_worker,
)
from serving.snapshots.worker_handle import Pipes, WorkerHandle
from tests.support import criu

pytestmark = pytest.mark.soak

T = TypeVar("T")
PINGED = CANARY.replace(
    "if os.read(control, 4096):",
    "while b'ping' in (line := os.read(control, 4096)): os.write(status, b'{\"pong\": 1}\\n')\nif line:",
)


@types.coroutine
def cancelled_at(step: int, work: Coroutine[Any, Any, T]) -> Generator[Any, Any, T]:
    """Runs it; the task is cancelled while it waits for the `step`-th time."""
    task = asyncio.current_task()
    assert task is not None
    proceed: Callable[[], Any] = partial(work.send, None)
    for count in itertools.count():
        try:
            waited = proceed()
        except StopIteration as ended:
            return ended.value  # type: ignore[no-any-return]
        if count == step:
            task.cancel()
        try:
            yield waited
            proceed = partial(work.send, None)
        except BaseException as error:
            proceed = partial(work.throw, error)
    raise AssertionError


def left_running(folder: Path) -> list[psutil.Process]:
    """Processes that have the folder in their command line, wherever they hang in the tree."""

    def of_ours(process: psutil.Process) -> bool:
        try:
            return str(folder) in " ".join(process.cmdline())
        except psutil.Error:
            return False

    return [process for process in psutil.process_iter() if of_ours(process)]


async def cancel_at_each_step(folder: Path, work: Callable[[Path], Coroutine[Any, Any, WorkerHandle | None]]) -> int:
    """How often it waited until it was done. Nothing is left of it after each try."""
    me = psutil.Process()
    before = me.num_fds()
    for step in itertools.count():
        own = folder / f"step-{step}"
        own.mkdir()
        task = asyncio.create_task(cancelled_at(step, work(own)))
        try:
            handle = await task
        except asyncio.CancelledError:
            _, alive = psutil.wait_procs(left_running(folder), timeout=2)
            assert not alive, f"step {step}: {[process.cmdline() for process in alive]}"
            await asyncio.sleep(0)  # transports close their ends of pipes on the next turn
            await asyncio.sleep(0)
            assert me.num_fds() <= before, f"step {step}"  # fewer where something of an earlier test was collected
        else:
            if handle is not None:
                await handle.kill()
            return step
    raise AssertionError


def test_no_process_is_left_wherever_a_dump_or_a_restore_is_cancelled(tmp_path: Path) -> None:
    path = criu.need()
    kept: list[Path] = []
    names: list[list[str]] = []

    async def before(handle: WorkerHandle, *_: object) -> None:
        await asyncio.sleep(0.01)
        await asyncio.sleep(0.01)

    async def main() -> None:
        tool = await CriuBackend(Settings(data=tmp_path / "data", criu=path), tmp_path).find_tool()
        assert isinstance(tool, CriuTool)

        async def dump(folder: Path) -> None:
            pipes = Pipes()
            names.append(pipes.criu_names)
            argv = [sys.executable, "-S", "-E", "-X", f"of={tmp_path}", "-c", PINGED, *map(str, pipes.worker_ends)]
            await dump_worker(tool, pipes, argv, folder, CANARY_S, CANARY_S, ignore_report, before)
            kept.append(folder)

        async def restore(folder: Path) -> WorkerHandle:
            handle, _ = await restore_worker(tool, kept[0], names[-1], folder, Path(), {}, CANARY_S, before)
            return handle

        assert await cancel_at_each_step(tmp_path, dump) > 3
        assert await cancel_at_each_step(tmp_path / "restores", restore) > 3

    (tmp_path / "data").mkdir()
    (tmp_path / "restores").mkdir()
    asyncio.run(main())
