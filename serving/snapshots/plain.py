"""Start every worker in full: works everywhere, holds nothing at zero, and the other backends fall back on it.

The steps of a start that all backends share are here too.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from serving.snapshots.base import Launch, Report, StartFailed, WorkerSpec
from serving.snapshots.worker_handle import Pipes, WorkerHandle, kill_process
from serving.system.environment import process_variables
from serving.system.timeouts import ms_since


class PlainStarter:
    """Starts workers without a snapshot."""

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
        for name, took in (await launch_worker(handle, launch.as_message(), spec.settings.start_timeout_s)).items():
            report(name, took)
        return handle


@contextmanager
def report_phase(report: Report, name: str) -> Iterator[dict[str, float]]:
    """Report a phase that begins, and its milliseconds when it has ended well.

    Yields a dictionary for the milliseconds of phases within it: they are reported by themselves.
    """
    report(name, None)
    began = time.perf_counter()
    within: dict[str, float] = {}
    yield within
    report(name, ms_since(began) - sum(within.values()))
    for other, took in within.items():
        report(other, took)


def make_worker_command(spec: WorkerSpec, pipes: Sequence[int], more: Sequence[str] = ()) -> list[str]:
    settings = json.dumps(spec.settings.known_at_load())
    given = ["--embedder", spec.embedder, "--settings", settings, "--pipes", *map(str, pipes), *more]
    return pin_to_gpu([sys.executable, "-m", "serving.worker.process", *given], spec.gpu)


def pin_to_gpu(argv: Sequence[str], gpu: str) -> list[str]:
    """Return the command with only that GPU for the program to see; all of them if none is named."""
    return ["env", f"CUDA_VISIBLE_DEVICES={gpu}", *argv] if gpu else list(argv)


async def spawn_process(argv: Sequence[str], **options: Any) -> Process:
    """Start a process in a session of its own. No setting is among its environment variables. Raises OSError."""
    # onnxruntime sends telemetry by default, and keeps a database open for it that no snapshot survives. OpenBLAS would
    # make threads when numpy is imported, which a fork leaves behind.
    variables = {**process_variables(), "ORT_DISABLE_TELEMETRY": "1", "OPENBLAS_NUM_THREADS": "1"}
    return await asyncio.create_subprocess_exec(*argv, env=variables, start_new_session=True, **options)


async def start_process(
    argv: Sequence[str], pipes: Pipes, pass_fds: Sequence[int] | None = None, socket: Path | None = None
) -> WorkerHandle:
    """Return a new process with `pass_fds` or the pipes' ends. Raises StartFailed; any error closes the pipes."""
    ends = tuple(pipes.worker_ends if pass_fds is None else pass_fds)
    try:
        process = await spawn_process(argv, stdin=DEVNULL, stdout=DEVNULL, pass_fds=ends)
    except BaseException as error:
        pipes.close()
        if isinstance(error, OSError):
            raise StartFailed(f"no process could be started: {error.strerror}") from None
        raise
    return WorkerHandle.from_process(pipes, process, socket)


async def run_program(argv: Sequence[str], seconds: float) -> tuple[int, bytes]:
    """Run a short program and return its exit code and output. Raises TimeoutError; then nothing of it is left."""
    process = await spawn_process(argv, stdin=DEVNULL, stdout=PIPE, stderr=DEVNULL)
    try:
        async with asyncio.timeout(seconds):
            output, _ = await process.communicate()
    except BaseException:
        await kill_process(process)
        raise
    return await process.wait(), output


async def wait_until_warm(handle: WorkerHandle, deadline: float, report: Report) -> dict[str, Any]:
    """Return the worker's message when it is warm and waits for its launch. Raises StartFailed."""
    began = time.perf_counter()
    report("process", None)
    try:
        async with asyncio.timeout(deadline):
            while (message := await handle.read_message()) is not None:
                if "running" in message:
                    report("process", ms_since(began))
                elif "begins" in message:
                    report(message["begins"], None)
                elif "phase" in message:
                    report(message["phase"], message["ms"])
                elif "failed" in message:
                    raise StartFailed(str(message["failed"]), public=message["public"])
                elif "warm" in message:
                    return dict(message["warm"])
    except TimeoutError:
        raise StartFailed(f"the worker was not ready within {deadline:g} s") from None
    raise StartFailed(describe_death(handle))


async def launch_worker(handle: WorkerHandle, message: dict[str, Any], deadline: float) -> dict[str, float]:
    """Launch a worker; return its phases in ms once it answers. Raises StartFailed; any error has ended it."""
    try:
        handle.send(message)
        async with asyncio.timeout(deadline):
            while (answer := await handle.read_message()) is not None:
                if "failed" in answer:
                    raise StartFailed(str(answer["failed"]), public=answer["public"])
                if "serving" in answer:
                    handle.launch_answer = answer["serving"]
                    return dict(handle.launch_answer["phases"])
        raise StartFailed(describe_death(handle))
    except BaseException as error:
        await handle.kill()
        if isinstance(error, TimeoutError):
            raise StartFailed(f"the worker did not answer within {deadline:g} s") from None
        if isinstance(error, OSError):
            raise StartFailed(f"the worker did not take its launch: {error.strerror}") from None
        raise


def describe_death(handle: WorkerHandle) -> str:
    last = handle.last_log_line
    return "the worker ended while it started" + (f": {last}" if last else "; its log has no reason")
