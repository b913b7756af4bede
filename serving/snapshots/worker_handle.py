"""One worker process as the engine sees it: three pipes, a socket, and how to end it.

control (to the worker): the launch message, one JSON line; its end means "finish and go". status (from the worker):
JSON lines; its end means "gone", whatever the process tree around it looks like. log (from the worker): its standard
output and error. Pipes, because they can be handed to a restored process in place of the ones it was saved with.
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
TAIL_LINES = 20
KILLED_S = 5.0
"""A killed process that waits for the system (a disk, a GPU's driver) ends only after that wait, if ever."""
log = logging.getLogger(WORKER_LOGGER)


class Pipes:
    """`theirs` are the worker's ends as (control, status, log); give them to a process, then call `handed_over`."""

    def __init__(self) -> None:
        """Raises OSError, and then none is open."""
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
        """As criu calls them; both ends of a pipe have one name."""
        return [f"pipe:[{os.fstat(end).st_ino}]" for end in (self.control, self.status, self.log)]

    def close_worker_ends(self) -> None:
        """Our copies of their ends go, so that their end is heard when they end."""
        for end in self.worker_ends:
            with contextlib.suppress(OSError):
                os.close(end)
        self.worker_ends = ()

    def close(self) -> None:
        self.close_worker_ends()
        for end in (self.control, self.status, self.log):
            with contextlib.suppress(OSError):
                os.close(end)


class WorkerHandle:
    """Made by a backend with the pipes' other ends already in the process. `pid` is the process we can signal: the
    worker, or the tree around it."""

    def __init__(
        self,
        pipes: Pipes,
        pid: int,
        kill: Callable[[], None],
        reaped: Coroutine[Any, Any, int | None],
        socket: Path | None = None,
    ) -> None:
        """`kill` ends it at once, and is not called once `reaped` has returned: then the process has ended."""
        self.pid = pid
        self.ended = asyncio.Event()
        self.socket = socket
        self.about: dict[str, Any] = {}
        """The worker's own words once it answers: boot id, probe vectors, milliseconds of its phases."""
        self.log_tail: list[str] = []
        self.park: Callable[[float], Coroutine[Any, Any, None]] | None = None
        """Set by a backend that keeps the process: what `stop` does instead, with the seconds that it has."""
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
        """For a child of ours in a session of its own: killing it takes its children along."""

        return cls(pipes, process.pid, lambda: kill_session(process.pid), process.wait(), socket)

    def send(self, message: dict[str, Any]) -> None:
        """Raises OSError if the worker has gone."""
        line = json.dumps(message).encode() + b"\n"
        while line:
            line = line[os.write(self._pipes.control, line) :]

    async def read_message(self) -> dict[str, Any] | None:
        """What the worker says next; None once it is gone."""
        message = await self._messages.get()
        if message is None:
            self._messages.put_nowait(None)  # whoever asks again hears the same
        return message

    async def wait(self) -> int | None:
        """Return its exit code once it has ended; None where the system does not tell it."""
        return await asyncio.shield(self._reaped)  # a caller that gives up must not end the waiting of the next one

    async def stop(self, grace: float) -> None:
        """Politely: it finishes what it has; killed after `grace` seconds. Returns when nothing of it is left, or when
        its backend has it for the next life. Raises SnapshotFailed if that failed; nothing of it is left then."""
        if self.park is not None and self.usable:
            return await self.park(grace)
        self._close_control()
        try:
            async with asyncio.timeout(grace):
                await self._wait_until_gone()
        except TimeoutError:
            await self.kill()

    @property
    def usable(self) -> bool:
        """Whether a request may be given to it: `ended` is heard only some time after it was told to go, or killed."""
        return self._pipes.control >= 0 and not self.ended.is_set()

    def kill_now(self) -> None:
        """Kills it at once, and without a word to it; `ended` tells when it has gone."""
        if not self._reaped.done():  # else its number or descriptor may be another's by now
            self._kill()
        self._close_control()

    async def kill(self) -> None:
        """Return when nothing of it is left, or when the system does not end it in `KILLED_S`: it counts as gone then.

        Of one that has ended already, nothing but the waiting is left.
        """
        self.kill_now()
        await wait_until_killed(self.pid, self._wait_until_gone())
        for reader in self._readers:
            reader.cancel()

    async def _wait_until_gone(self) -> None:
        await self.wait()
        # Processes that the worker left behind could hold its log open; what it said itself is read by now.
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
            text = line.decode("utf-8", "replace").rstrip()
            self.log_tail = [*self.log_tail[-TAIL_LINES:], text]
            log.info("%s", text)


async def kill_process(process: asyncio.subprocess.Process) -> None:
    """Kill a child that has a session of its own, with all that is in it; returns as `WorkerHandle.kill`."""
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
    """Of a pipe until its end, which closes it here as well."""
    reader = asyncio.StreamReader(limit=MAX_LINE_BYTES)
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(descriptor, "rb", buffering=0)
    )
    try:
        while True:
            try:
                line = await reader.readline()
            except ValueError:  # longer than any line of ours: dropped, so that its writer can go on
                continue
            if not line:
                return
            yield line
    finally:
        transport.close()
