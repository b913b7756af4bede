"""Start every worker in full: works everywhere, holds nothing at zero, and the other backends fall back on it.

The steps of a start that all backends share are here too.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from serving.snapshots.base import Launch, Report, StartFailed, WorkerSpec
from serving.snapshots.worker_handle import Pipes, WorkerHandle, kill_process
from serving.system.environment import process_variables


class PlainStarter:
    name = "plain"

    async def start(self, spec: WorkerSpec, launch: Launch, report: Report) -> WorkerHandle:
        """Return a worker that answers at `launch.socket`. Raises StartFailed; then nothing is left running."""
        pipes = Pipes()
        handle = await start_process(
            make_worker_command(spec, pipes.worker_ends, ["--dies-with-parent"]), pipes, socket=launch.socket
        )
        try:
            await wait_until_warm(handle, spec.settings.start_timeout_s, report)
        except BaseException:
            await handle.kill()
            raise
        report_phases(report, await launch_worker(handle, launch.as_message(), spec.settings.start_timeout_s))
        return handle


def make_worker_command(spec: WorkerSpec, pipes: Sequence[int], more: Sequence[str] = ()) -> list[str]:
    numbers = [str(number) for number in pipes]
    settings = json.dumps(spec.settings.known_at_load())
    return [
        sys.executable, "-m", "serving.worker.process", "--embedder", spec.embedder, "--settings", settings,
        "--pipes", *numbers, *more,
    ]  # fmt: skip


def worker_environment() -> dict[str, str]:
    """Return the environment variables of a worker; its settings are not among them."""
    # onnxruntime sends telemetry by default, and keeps a database open for it that no snapshot survives. OpenBLAS would
    # make threads when numpy is imported, which a fork leaves behind.
    return {**process_variables(), "ORT_DISABLE_TELEMETRY": "1", "OPENBLAS_NUM_THREADS": "1"}


async def spawn_worker(argv: Sequence[str], pass_fds: Sequence[int]) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *argv,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=None,
        pass_fds=tuple(pass_fds),
        env=worker_environment(),
        start_new_session=True,
    )


async def start_process(
    argv: Sequence[str], pipes: Pipes, pass_fds: Sequence[int] | None = None, socket: Path | None = None
) -> WorkerHandle:
    """Return the handle of a new process; it gets `pass_fds`, or else the ends of the pipes. Raises StartFailed.

    After any error the pipes are closed.
    """
    try:
        process = await spawn_worker(argv, pipes.worker_ends if pass_fds is None else pass_fds)
    except BaseException as error:
        pipes.close()
        if isinstance(error, OSError):
            raise StartFailed(f"no process could be started: {error.strerror}") from None
        raise
    return WorkerHandle.from_process(pipes, process, socket)


async def spawn_helper(argv: Sequence[str]) -> asyncio.subprocess.Process:
    """Start a process that the engine talks to by standard input and output. Raises OSError."""
    pipe = asyncio.subprocess.PIPE
    return await asyncio.create_subprocess_exec(
        *argv, stdin=pipe, stdout=pipe, stderr=None, env=worker_environment(), start_new_session=True
    )


async def run_program(argv: Sequence[str], seconds: float) -> tuple[int, bytes]:
    """Run a short program and return its exit code and output. Raises TimeoutError; then nothing of it is left."""
    process = await asyncio.create_subprocess_exec(
        *argv,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        env=worker_environment(),
        start_new_session=True,
    )
    try:
        async with asyncio.timeout(seconds):
            output, _ = await process.communicate()
    except BaseException:
        await kill_process(process)
        raise
    return await process.wait(), output


async def wait_until_warm(handle: WorkerHandle, deadline: float, report: Report) -> dict[str, object]:
    """Return the worker's message when it is warm and waits for its launch. Raises StartFailed."""
    began = time.perf_counter()
    report("process", None)
    try:
        async with asyncio.timeout(deadline):
            while (message := await handle.read_message()) is not None:
                if "running" in message:
                    report("process", (time.perf_counter() - began) * 1000)
                elif "begins" in message:
                    report(message["begins"], None)
                elif "phase" in message:
                    report(message["phase"], message["ms"])
                elif "failed" in message:
                    raise StartFailed(str(message["failed"]), public=message["public"])
                elif "warm" in message:
                    found: dict[str, object] = message["warm"]
                    return found
    except TimeoutError:
        raise StartFailed(f"the worker was not ready within {deadline:g} s") from None
    raise StartFailed(describe_death(handle))


async def launch_worker(handle: WorkerHandle, message: dict[str, Any], deadline: float) -> dict[str, float]:
    """Send the launch message and return the milliseconds of the worker's phases, once it answers.

    Raises StartFailed; after any error the worker has ended.
    """
    try:
        handle.send(message)
        return await wait_until_serving(handle, deadline)
    except OSError as error:
        await handle.kill()
        raise StartFailed(f"the worker did not take its launch: {error.strerror}") from None
    except BaseException:
        await handle.kill()
        raise


async def wait_until_serving(handle: WorkerHandle, deadline: float) -> dict[str, float]:
    """Return the milliseconds of its phases, once it answers; `handle.about` has the rest. Raises StartFailed."""
    try:
        async with asyncio.timeout(deadline):
            while (message := await handle.read_message()) is not None:
                if "failed" in message:
                    raise StartFailed(str(message["failed"]), public=message["public"])
                if "serving" in message:
                    handle.about = message["serving"]
                    phases: dict[str, float] = handle.about["phases"]
                    return phases
    except TimeoutError:
        raise StartFailed(f"the worker did not answer within {deadline:g} s") from None
    raise StartFailed(describe_death(handle))


def report_phases(report: Report, phases: Mapping[str, float]) -> None:
    for name, took in phases.items():
        report(name, took)


def describe_death(handle: WorkerHandle) -> str:
    last = handle.log_tail[-1] if handle.log_tail else ""
    return "the worker ended while it started" + (f": {last}" if last else "; its log has no reason")
