"""Fork workers from a warmed-up template process: pages of memory are shared until written.

Nothing survives the engine, and at zero the template is still held; but it needs only Linux, and a child answers in
less than a tenth of a second. A fork keeps only the thread that called it, so the template must have just one:
`serving.worker.process` runs everything that makes native threads in a thread that has ended.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
import time

from serving.snapshots.base import (
    Launch,
    Report,
    RestoreFailed,
    Snapshot,
    SnapshotBackend,
    SnapshotFailed,
    StartFailed,
    Support,
    Tier,
    WorkerSpec,
)
from serving.snapshots.plain import (
    launch_worker,
    make_worker_command,
    report_phase,
    run_program,
    start_process,
    wait_until_warm,
)
from serving.snapshots.worker_handle import Pipes, WorkerHandle

PROBE_S = 10.0
CANARY = """
import os, threading
thread = threading.Thread(target=sum, args=([1],)); thread.start(); thread.join()
pid = os.fork()
if pid == 0:
    threading.Thread(target=os._exit, args=(7,)).start()
    import time; time.sleep(60)
raise SystemExit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) != 7)
"""


class ForkBackend(SnapshotBackend):
    """Holds one template, the warmed-up process that is forked."""

    name = "fork"
    tier: Tier = "host"

    def __init__(self) -> None:
        self._template: WorkerHandle | None = None
        self._control: socket.socket | None = None
        self._snapshot: Snapshot | None = None
        self._deadline = 0.0
        """Seconds for a restore of that snapshot."""

    async def probe(self, spec: WorkerSpec) -> Support:
        if not spec.cpu:
            return Support(False, "a process that holds a GPU cannot be forked")
        if not sys.platform.startswith("linux"):
            return Support(False, "only Linux ends forked workers reliably, and lets their memory be shared")
        try:
            code, _ = await run_program([sys.executable, "-c", CANARY], PROBE_S)
        except TimeoutError:
            return Support(False, f"a forked process did not answer within {PROBE_S:g} s")
        return Support(code == 0, "" if code == 0 else "a forked process could not run a thread")

    async def find(self, _spec: WorkerSpec) -> Snapshot | None:
        if self._template is not None and self._template.ended.is_set():
            await self.close()
        return self._snapshot

    async def create(self, spec: WorkerSpec, report: Report) -> Snapshot:
        await self.close()
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            with theirs:
                pipes = Pipes()
                ends = (theirs.fileno(), *pipes.worker_ends[1:])
                argv = make_worker_command(spec, ends, ["--template", "--dies-with-parent"])
                self._template = await start_process(argv, pipes, ends)
            said = await wait_until_warm(self._template, spec.settings.start_timeout_s, report)
            if len(said["threads"]) != 1:
                raise SnapshotFailed(
                    f"the template has threads that no fork would keep: {', '.join(said['threads'])}. This embedder"
                    " needs another backend"
                )
        except BaseException:
            await self.close()
            raise
        report("snapshot", 0.0)
        self._snapshot = Snapshot("template", time.time(), 0, said["probe"])
        self._deadline = spec.settings.restore_timeout_s
        return self._snapshot

    async def restore(self, _snapshot: Snapshot, launch: Launch, report: Report) -> WorkerHandle:
        with report_phase(report, "restore") as phases:
            try:
                handle = await self._fork_worker(launch)
                phases |= await launch_worker(handle, launch.as_message(), self._deadline)
            except OSError as error:  # TimeoutError is one
                raise RestoreFailed(f"the template did not fork: {error or 'no answer'}") from None
            except StartFailed as error:
                raise RestoreFailed(str(error)) from None
        return handle

    async def _fork_worker(self, launch: Launch) -> WorkerHandle:
        """Return a forked worker before its launch. Raises OSError or TimeoutError."""
        template, control = self._template, self._control
        if template is None or control is None:
            raise OSError("it has ended")
        pipes = Pipes()
        try:
            socket.send_fds(control, [b"fork"], list(pipes.worker_ends))
            async with asyncio.timeout(self._deadline):
                while (message := await template.read_message()) is not None and "forked" not in message:
                    pass
            if message is None:
                raise OSError("it has ended")
            pid = int(message["forked"])
            # The number could belong to another process by the time of a signal; a descriptor cannot.
            pidfd = os.pidfd_open(pid)
        except BaseException:
            pipes.close()
            raise

        def kill() -> None:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(pidfd, signal.SIGKILL)

        return WorkerHandle(pipes, pid, kill, wait_until_closed(pidfd), launch.socket)

    async def discard(self, snapshot: Snapshot) -> None:
        if self._snapshot is snapshot:
            await self.close()

    async def close(self) -> None:
        """End the template; its children end with it."""
        template, control = self._template, self._control
        self._template = self._control = self._snapshot = None
        if control is not None:
            control.close()
        if template is not None:
            await template.kill()


async def wait_until_closed(pidfd: int) -> None:
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    loop.add_reader(pidfd, ended.set)
    try:
        await ended.wait()
    finally:
        loop.remove_reader(pidfd)
        os.close(pidfd)
