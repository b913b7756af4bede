"""One worker process as its engine sees it, where the system does not do as it is told."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from asyncio.subprocess import PIPE
from collections.abc import Awaitable, Callable

import psutil
import pytest

from serving.snapshots import worker_handle as handles
from serving.snapshots.cuda.driver import CudaDriver
from serving.snapshots.plain import run_program, spawn_process, start_process
from serving.snapshots.worker_handle import Pipes

SLEEPS = [sys.executable, "-c", "import time; time.sleep(60)"]


@pytest.fixture
def unkillable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stands for a process in a wait of the kernel's that no signal ends, which cannot be had at will."""
    monkeypatch.setattr(handles, "KILLED_S", 0.3)
    monkeypatch.setattr(handles, "kill_session", lambda leader: None)


async def a_worker() -> None:
    handle = await start_process(SLEEPS, Pipes())
    await handle.stop(0.1)
    await handle.ended.wait()
    assert not handle.is_usable and await handle.read_message() is None


async def the_cuda_driver() -> None:
    driver = CudaDriver()
    driver._process = await spawn_process(SLEEPS, stdin=PIPE, stdout=PIPE)
    await driver.close()


async def a_short_program() -> None:
    with pytest.raises(TimeoutError):
        await run_program(SLEEPS, 0.1)


@pytest.mark.parametrize("given_up", [a_worker, the_cuda_driver, a_short_program])
def test_what_no_signal_ends_is_waited_for_so_long_and_told(
    unkillable: None, caplog: pytest.LogCaptureFixture, given_up: Callable[[], Awaitable[None]]
) -> None:
    async def main() -> None:
        before = set(psutil.Process().children())
        try:
            async with asyncio.timeout(20):
                await given_up()
        finally:
            (left,) = set(psutil.Process().children()) - before
            os.kill(left.pid, signal.SIGKILL)
            await asyncio.to_thread(left.wait, 10)
            await asyncio.sleep(0.5)  # else the loop is closed before it sees that the process has ended
        assert f"process {left.pid} was killed and has not ended" in caplog.text

    asyncio.run(main())


def test_a_short_program_that_hangs_ends_with_all_that_it_started() -> None:
    async def main() -> None:
        before = set(psutil.Process().children())
        with pytest.raises(TimeoutError):
            await run_program(["sh", "-c", "sleep 61 & sleep 62"], 0.3)
        assert set(psutil.Process().children()) == before
        words = [process.info["cmdline"] for process in psutil.process_iter(["cmdline"])]
        assert ["sleep", "61"] not in words and ["sleep", "62"] not in words

    asyncio.run(main())
