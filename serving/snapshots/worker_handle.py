"""The engine's handle of a worker process: three pipes, a socket, and a way to end it.

control (to the worker): the launch message, one JSON line; its end means "finish and exit". status (from the worker):
JSON lines; its end means that the worker has ended, even if processes around it have not. log (from the worker): its
standard output and error. They are pipes because a restored process can get new ones in place of the saved ones.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any

from serving.system.log import WORKER_LOGGER

MAX_LINE_BYTES = 4 * 1024 * 1024
"""Longest status line: the probe's vectors are the largest thing in one."""
KILLED_S = 5.0
"""A killed process that waits in the system (a disk, a GPU's driver) ends only after that wait, if ever."""
log = logging.getLogger(WORKER_LOGGER)


class Pipes:
    """The three pipes. Give `worker_ends` (control, status, log) to a process, then call `close_worker_ends`."""

    def __init__(self) -> None:
        """Open all three. Raises OSError, and then none is open."""
        ends: list[int] = []
        try:
            for _ in range(3):
                ends += os.pipe()
        except OSError:
            for end in ends:
                os.close(end)
            raise
        control, self.control, self.status, status, self.log, log = ends
        self.worker_ends: tuple[int, ...] = (control, status, log)

    @property
    def criu_names(self) -> list[str]:
        """Return criu's names of the pipes; both ends of a pipe have the same."""
        return [f"pipe:[{os.fstat(end).st_ino}]" for end in (self.control, self.status, self.log)]

    def close_worker_ends(self) -> None:
        """Close our copies of the worker's ends: only then does the end of the worker end the pipes."""
        for end in self.worker_ends:
            with contextlib.suppress(OSError):
                os.close(end)
        self.worker_ends = ()

    def close(self) -> None:
        self.worker_ends += (self.control, self.status, self.log)
        self.close_worker_ends()


class WorkerHandle:
    """A running worker, made by a backend once the process has the other ends of the pipes.

    `pid` is the process that can be signalled: the worker, or the tree around it.
    """

    def __init__(
        self,
        pipes: Pipes,
        pid: int,
        kill: Callable[[], None],
        reaped: Coroutine[Any, Any, int | None],
        socket: Path | None = None,
    ) -> None:
        """`kill` ends the process at once; it is not called after `reaped` has returned, when the process has ended."""
        self.pid = pid
        self.ended = asyncio.Event()
        self.socket = socket
        self.launch_answer: dict[str, Any] = {}
        """The worker's message once it serves: boot id, probe vectors, milliseconds of its phases."""
        self.last_log_line = ""
        self.park: Callable[[float], Coroutine[Any, Any, None]] | None = None
        """Set by a backend that parks the process: `stop` calls it instead, with its grace in seconds."""
        self._pipes = pipes
        self._kill = kill
        self._reaped = asyncio.create_task(reaped, name="worker end")
        self._messages: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue()
        pipes.close_worker_ends()
        self._readers = [
            asyncio.create_task(self._read_status(), name="worker status"),
            asyncio.create_task(self._read_log(), name="worker log"),
        ]

    @classmethod
    def from_process(
        cls, pipes: Pipes, process: asyncio.subprocess.Process, socket: Path | None = None
    ) -> WorkerHandle:
        """Return the handle of our child in a session of its own: killing it kills its children too."""
        return cls(pipes, process.pid, lambda: kill_session(process.pid), process.wait(), socket)

    def send(self, message: dict[str, Any]) -> None:
        """Send a message. Raises OSError if the worker has ended."""
        line = json.dumps(message).encode() + b"\n"
        while line:
            line = line[os.write(self._pipes.control, line) :]

    async def read_message(self) -> dict[str, Any] | None:
        """Return the worker's next message; None once it has ended."""
        message = await self._messages.get()
        if message is None:
            self._messages.put_nowait(None)  # for the next caller
        return message

    async def wait(self) -> int | None:
        """Return its exit code once it has ended; None if the system does not give it."""
        return await asyncio.shield(self._reaped)  # a caller that gives up must not end the waiting of the next one

    async def stop(self, grace: float) -> None:
        """Let the worker finish its requests, and kill it after `grace` seconds.

        Returns when nothing of it is left, or when its backend has parked it. Raises SnapshotFailed if parking failed;
        then nothing of it is left.
        """
        if self.park is not None and self.is_usable:
            return await self.park(grace)
        self._close_control()
        try:
            async with asyncio.timeout(grace):
                await self._wait_until_gone()
        except TimeoutError:
            await self.kill()

    @property
    def is_usable(self) -> bool:
        """Return whether it may get a request: `ended` is set only some time after it was stopped or killed."""
        return self._pipes.control >= 0 and not self.ended.is_set()

    def kill_now(self) -> None:
        """Kill it at once; `ended` is set when it has ended."""
        if not self._reaped.done():  # after that, its number or descriptor may belong to another process
            self._kill()
        self._close_control()

    async def kill(self) -> None:
        """Kill it. Returns when nothing of it is left, or after `KILLED_S`, when it counts as ended.

        For a worker that has ended already, only the wait remains.
        """
        self.kill_now()
        await wait_until_killed(self.pid, self._wait_until_gone())
        for reader in self._readers:
            reader.cancel()

    async def _wait_until_gone(self) -> None:
        await self.wait()
        # Processes that the worker left behind could hold its log open; its own lines have been read by now.
        _, pending = await asyncio.wait(self._readers, timeout=0.2)
        for reader in pending:
            reader.cancel()

    def _close_control(self) -> None:
        if self._pipes.control >= 0:
            os.close(self._pipes.control)
            self._pipes.control = -1

    async def _read_status(self) -> None:
        try:
            async for line in read_lines(self._pipes.status):
                self._messages.put_nowait(json.loads(line))
        finally:
            self._messages.put_nowait(None)
            self.ended.set()

    async def _read_log(self) -> None:
        async for line in read_lines(self._pipes.log):
            self.last_log_line = line.decode("utf-8", "replace").rstrip()
            log.info("%s", self.last_log_line)


async def kill_process(process: asyncio.subprocess.Process) -> None:
    """Kill a child with a session of its own, and the whole session; returns as `WorkerHandle.kill` does."""
    kill_session(process.pid)
    await wait_until_killed(process.pid, process.wait())


def kill_session(leader: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(leader, signal.SIGKILL)


async def wait_until_killed(pid: int, ended: Awaitable[object]) -> None:
    try:
        async with asyncio.timeout(KILLED_S):
            await ended
    except TimeoutError:
        logging.getLogger(__name__).error("process %d was killed and has not ended within %g s", pid, KILLED_S)


async def read_lines(descriptor: int) -> AsyncIterator[bytes]:
    """Yield the lines of a pipe until its end, and close it."""
    reader = asyncio.StreamReader(limit=MAX_LINE_BYTES)
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(descriptor, "rb", buffering=0)
    )
    try:
        while True:
            try:
                line = await reader.readline()
            except ValueError:  # too long for a line of ours: dropped, so that its writer can go on
                continue
            if not line:
                return
            yield line
    finally:
        transport.close()
