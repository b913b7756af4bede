"""The steps of a start, with small programs in a worker's place."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable

import pytest

from serving.snapshots.base import StartFailed
from serving.snapshots.plain import launch_worker, report_phase, start_process, wait_until_warm
from serving.snapshots.worker_handle import Pipes, WorkerHandle

PROGRAM = """
import os, sys, time
control, status, log = map(int, sys.argv[1:])
def say(line): os.write(status, line.encode() + b"\\n")
"""
Reports = list[tuple[str, float | None]]


def with_program(program: str, test: Callable[[WorkerHandle], Awaitable[None]]) -> None:
    async def main() -> None:
        pipes = Pipes()
        argv = [sys.executable, "-S", "-E", "-c", PROGRAM + program, *map(str, pipes.worker_ends)]
        handle = await start_process(argv, pipes)
        try:
            await test(handle)
        finally:
            await handle.kill()

    asyncio.run(main())


def test_phases_are_reported_as_the_worker_says_them() -> None:
    async def test(handle: WorkerHandle) -> None:
        reports: Reports = []
        said = await wait_until_warm(handle, 20, lambda name, ms: reports.append((name, ms)))
        assert said == {"probe": [[1.0]]}
        assert [name for name, _ in reports] == ["process", "process", "load", "load"]
        assert reports[0][1] is None and (reports[1][1] or 0) > 0 and reports[3] == ("load", 7.5)
        assert await launch_worker(handle, {"socket": "here"}, 20) == {"wake": 2.0}
        assert handle.launch_answer["boot_id"] == "b"

    with_program(
        'say(\'{"running": 1}\'); say(\'{"begins": "load"}\'); say(\'{"phase": "load", "ms": 7.5}\')\n'
        'say(\'{"warm": {"probe": [[1.0]]}}\')\n'
        'assert b"here" in os.read(control, 999)\n'
        'say(\'{"serving": {"boot_id": "b", "phases": {"wake": 2.0}}}\'); os.read(control, 1)',
        test,
    )


@pytest.mark.parametrize(
    ("program", "reason"),
    [
        ('say(\'{"failed": "no weights", "public": true}\')', "no weights"),
        ("time.sleep(60)", "was not ready within 0.5 s"),
        ('os.write(log, b"the last words\\n")', "ended while it started: the last words"),
    ],
)
def test_a_start_that_fails_says_why(program: str, reason: str) -> None:
    async def test(handle: WorkerHandle) -> None:
        with pytest.raises(StartFailed, match=reason) as caught:
            await wait_until_warm(handle, 0.5 if "sleep" in program else 20, lambda *_: None)
        assert caught.value.public == ("public" in program)

    with_program(program, test)


@pytest.mark.parametrize(
    ("program", "reason"),
    [
        ('os.read(control, 999); say(\'{"failed": "no socket", "public": false}\'); time.sleep(60)', "no socket"),
        ("time.sleep(60)", "did not answer within 0.5 s"),
        ("os.read(control, 999)", "ended while it started"),
    ],
)
def test_a_launch_that_fails_ends_the_worker(program: str, reason: str) -> None:
    async def test(handle: WorkerHandle) -> None:
        with pytest.raises(StartFailed, match=reason):
            await launch_worker(handle, {}, 0.5 if program.startswith("time") else 20)
        assert handle.ended.is_set() and not handle.is_usable

    with_program(program, test)


def test_a_phase_is_reported_without_the_phases_within_it() -> None:
    reports: Reports = []
    with report_phase(lambda name, ms: reports.append((name, ms)), "restore") as within:
        within |= {"wake": -1000.0, "bind": 1.0}
    assert [name for name, _ in reports] == ["restore", "restore", "wake", "bind"]
    assert reports[0][1] is None and (reports[1][1] or 0) >= 999 and reports[2:] == [("wake", -1000.0), ("bind", 1.0)]
    with pytest.raises(ValueError, match="in between"), report_phase(lambda *_: reports.append(("late", 0)), "keep"):
        raise ValueError("in between")
    assert [name for name, _ in reports[4:]] == ["late"], "its begin only"
