"""Save a worker's process tree in files, with criu: nothing is held at zero, and many workers restore at once from one.

criu runs without privileges, in a user and process namespace of its own, where the system allows that; otherwise as
root in a process namespace. It stays process 1 of the namespace: killing it ends the worker, and the other way round.
Each call has a deadline, after which its tree is killed: criu is known to hang on some systems.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import platform
import re
import shutil
import sys
import tempfile
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from serving.settings import Settings
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
from serving.snapshots.criu.namespace_init import GO
from serving.snapshots.identity import Identity, make_identity
from serving.snapshots.plain import (
    launch_worker,
    make_worker_command,
    report_phase,
    run_program,
    start_process,
    wait_until_warm,
)
from serving.snapshots.store import FILES, SnapshotStore
from serving.snapshots.worker_handle import Pipes, WorkerHandle
from serving.system.files import write_file

OLDEST_VERSION = (4, 1)
"""3.17 fails on kernels since 6.x ("Unexpected rt vDSO area bounds"); 4.1 is the first that was seen to work."""
MODES = {
    "user namespace": (["unshare", "-U", "-r", "-p", "-f", "--mount-proc", "--kill-child"], ["--unprivileged"]),
    "root": (["unshare", "-p", "-f", "--mount-proc", "--kill-child"], []),
}
OPTIONS = ("--network-lock", "skip", "-v1")
"""No socket is open when a snapshot is taken, so there is no network to lock."""
SYSCTLS = (
    "kernel/random/boot_id", "user/max_user_namespaces", "user/max_pid_namespaces", "kernel/unprivileged_userns_clone",
    "kernel/apparmor_restrict_unprivileged_userns",
)  # fmt: skip
LOOPBACK = """
import fcntl, os, socket, struct, sys
with socket.socket() as any:
    fcntl.ioctl(any, 0x8914, struct.pack("16sh14x", b"lo", 0x41))
os.execv(sys.argv[1], sys.argv[1:])
"""
"""Runs a program in a new network once its loopback is up (SIOCSIFFLAGS), without which criu does not begin."""
CANARY_S = 10.0
CANARY = r"""
import os, sys
control, status, log = map(int, sys.argv[1:])
nowhere = os.open(os.devnull, os.O_RDONLY)
os.dup2(nowhere, 0), os.dup2(log, 1), os.dup2(log, 2)
os.write(status, b'{"warm": {}}\n')
if os.read(control, 4096):
    os.write(status, b'{"serving": {"phases": {}}}\n')
"""
"""A small process that behaves like a worker: the same pipes, the same messages."""
HARMLESS_ERRORS = ("net: Unexpected error", "rlimit: Can't setup", "Can't keep kdat")
"""Errors after which criu continues; it reports them when it has no privileges."""
INSTALL_ADVICE = "Install criu 4.1 or newer (Debian 13, Fedora: the package criu), or name one in DORMOUSE_CRIU"


@dataclass(frozen=True)
class CriuTool:
    """A criu that works here, and the mode in which it does."""

    path: str
    version: str
    mode: str
    """A key of `MODES`."""
    more_options: tuple[str, ...] = ()
    has_own_network: bool = False
    """Whether a restored process gets a network of its own, with nothing but loopback. The CUDA driver names a socket
    of each process after its number, and two processes of one image cannot have that name in one network."""

    def for_gpu(self, *, one_of_several: bool) -> CriuTool:
        """Return the tool for processes on a GPU; `one_of_several`: others may be restored from the same files.

        As root if possible, since a namespace's user cannot use the driver's files. Caches of compiled code are locked,
        or deleted while they are in use.
        """
        mode = "root" if os.geteuid() == 0 else self.mode
        return replace(self, mode=mode, more_options=("--file-locks", "--link-remap"), has_own_network=one_of_several)

    @property
    def namespace_command(self) -> list[str]:
        die = ["setpriv", "--pdeathsig", "KILL", "--"] if shutil.which("setpriv") else []
        return [*die, *MODES[self.mode][0]]

    def make_command(self, verb: str, *arguments: str) -> list[str]:
        return [self.path, verb, *arguments, *OPTIONS, *self.more_options, *MODES[self.mode][1]]


class CriuBackend(SnapshotBackend):
    """Saves workers that hold no GPU."""

    name = "criu"
    tier: Tier = "disk"

    def __init__(self, settings: Settings, runtime_dir: Path, store: SnapshotStore | None = None) -> None:
        """`runtime_dir`: a folder of this engine's own for the work files of a restore."""
        self._settings = settings
        self._store = store or SnapshotStore.of(settings)
        self._runtime_dir = runtime_dir
        self._tool: CriuTool | None = None
        self._identity: Identity = {}

    async def probe(self, spec: WorkerSpec) -> Support:
        if not spec.cpu:
            return Support(False, "a GPU's memory needs the cuda backend")
        found = await self.find_tool()
        if isinstance(found, str):
            return Support(False, found)
        try:
            self._store.open()
        except OSError as error:
            return Support(False, f"{self._store.folder} cannot be used: {error.strerror}")
        self._tool = found
        self._identity = await asyncio.to_thread(make_identity, spec, __name__, criu=found.version, way=found.mode)
        return Support(True, detail={"version": found.version, "path": found.path, "way": found.mode})

    async def find_tool(self) -> CriuTool | str:
        """Return a criu that works here, else why there is none."""
        if not sys.platform.startswith("linux"):
            return "criu is for Linux"
        named = self._settings.criu or "criu"
        path = shutil.which(named)
        if path is None:
            return f"{named} is not installed. {INSTALL_ADVICE}"
        try:
            _, output = await run_program([path, "--version"], CANARY_S)
        except TimeoutError:
            output = b""
        found = re.search(rb"Version: (\d+\.\d+[.\d]*)", output)
        version = found[1].decode() if found else None
        if version is None or tuple(int(part) for part in version.split(".")[:2]) < OLDEST_VERSION:
            return f"{path} is {f'criu {version}, too old' if version else 'no criu'}. {INSTALL_ADVICE}"
        mode, reason = await self._find_mode(path, version)
        return CriuTool(path, version, mode) if mode is not None else f"criu {version} does not work here ({reason})"

    async def _find_mode(self, path: str, version: str) -> tuple[str | None, str]:
        """Return the first mode that works, else None and why none does.

        A mode that works is remembered until the system changes; a failure is tried again by the next engine.
        """
        verdict = self._settings.data / "checked-criu.json"
        system = read_system_state(path, version)
        with contextlib.suppress(OSError, ValueError, AttributeError):
            known = json.loads(verdict.read_bytes())
            if known.get("belongs") == system and known.get("way") in list(MODES):
                return known["way"], ""
        reasons = []
        for mode in MODES:
            reason = await self._try_canary(CriuTool(path, version, mode))
            if reason is None:
                with contextlib.suppress(OSError):  # tried again next time
                    write_file(verdict, json.dumps({"belongs": system, "way": mode}).encode())
                return mode, ""
            reasons.append(f"{mode}: {reason}")
        return None, "; ".join(reasons)

    async def _try_canary(self, tool: CriuTool) -> str | None:
        """Return why this mode does not work; None if a small process was saved and restored."""
        folder = Path(tempfile.mkdtemp(prefix="canary-", dir=self._runtime_dir))
        try:
            pipes = Pipes()
            names = pipes.criu_names
            argv = [sys.executable, "-S", "-E", "-c", CANARY, *(str(end) for end in pipes.worker_ends)]
            await dump_worker(tool, pipes, argv, folder, CANARY_S, CANARY_S, ignore_report)
            handle, _ = await restore_worker(tool, folder, names, folder, Path(), {}, CANARY_S)
            await handle.kill()
        except (StartFailed, SnapshotFailed, RestoreFailed) as error:
            return str(error)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        return None

    async def find(self, _spec: WorkerSpec) -> Snapshot | None:
        return await asyncio.to_thread(self._store.find, self._identity)

    async def create(self, spec: WorkerSpec, report: Report) -> Snapshot:
        assert self._tool is not None, "probe first"
        return await save_worker(self._tool, self._store, spec, self._identity, ["--warm-up"], report)

    async def restore(self, snapshot: Snapshot, launch: Launch, report: Report) -> WorkerHandle:
        assert self._tool is not None, "probe first"
        with report_phase(report, "restore") as phases:
            handle, took = await restore_files(
                self._tool, snapshot, launch, self._runtime_dir, self._settings.restore_timeout_s
            )
            phases |= took
        return handle

    async def discard(self, snapshot: Snapshot) -> None:
        await asyncio.to_thread(self._store.discard, snapshot)


def ignore_report(phase: str, milliseconds: float | None) -> None:
    """Ignore a phase: a Report for calls whose phases are not shown."""


async def save_worker(
    tool: CriuTool,
    store: SnapshotStore,
    spec: WorkerSpec,
    identity: Identity,
    flags: Sequence[str],
    report: Report,
    before: Callable[[WorkerHandle, dict[str, Any]], Awaitable[object]] | None = None,
) -> Snapshot:
    """Start a worker, dump it and keep its files in the store. Raises StartFailed or SnapshotFailed.

    `before` is that of `dump_worker`; a `manifest` that it adds to the message is kept too.
    """
    try:
        part = store.make_part()
    except OSError as error:
        raise SnapshotFailed(f"{store.folder} cannot be written to: {error.strerror}") from None
    try:
        pipes = Pipes()
        names = pipes.criu_names
        argv = make_worker_command(spec, pipes.worker_ends, flags)
        times = spec.settings.start_timeout_s, spec.settings.snapshot_timeout_s
        said = await dump_worker(tool, pipes, argv, part / FILES, *times, report, before)
        with report_phase(report, "keep"):
            content = {**said.get("manifest", {}), "pipes": names}
            return await asyncio.to_thread(store.keep_part, part, identity, said["probe"], content)
    finally:
        await asyncio.to_thread(shutil.rmtree, part, ignore_errors=True)


async def dump_worker(
    tool: CriuTool,
    pipes: Pipes,
    worker: Sequence[str],
    folder: Path,
    start_s: float,
    dump_s: float,
    report: Report,
    before: Callable[[WorkerHandle, dict[str, Any]], Awaitable[object]] | None = None,
) -> dict[str, Any]:
    """Save a warmed-up worker in `folder`, and return its message when it was warm; nothing of it runs any more.

    `before` is called with the worker and that message before the dump. Raises StartFailed if the worker did not become
    warm, SnapshotFailed if it could not be saved.
    """
    listen, go = os.pipe()
    dump = tool.make_command("dump", "--images-dir", str(folder), "--log-file", "dump.log")
    init = [sys.executable, "-m", "serving.snapshots.criu.namespace_init", *map(str, (listen, *pipes.worker_ends))]
    handle = None
    try:
        try:
            handle = await start_process(
                [*tool.namespace_command, *init, "--", *worker, "--", *dump], pipes, [listen, *pipes.worker_ends]
            )
        finally:
            os.close(listen)
        said = await wait_until_warm(handle, start_s, report)
        with report_phase(report, "snapshot"):
            if before is not None:
                await before(handle, said)
            os.write(go, GO)
            async with asyncio.timeout(dump_s):
                code = await handle.wait()
    except TimeoutError:
        raise SnapshotFailed(f"criu dump was not done within {dump_s:g} s") from None
    finally:
        os.close(go)
        if handle is not None:
            await handle.kill()
    if code != 0:
        raise SnapshotFailed(f"criu dump: {read_first_error(folder / 'dump.log') or f'exit code {code}'}")
    (folder / "dump.log").unlink(missing_ok=True)
    return said


async def restore_files(
    tool: CriuTool,
    snapshot: Snapshot,
    launch: Launch,
    runtime_dir: Path,
    deadline: float,
    before: Callable[[WorkerHandle], Awaitable[object]] | None = None,
) -> tuple[WorkerHandle, dict[str, float]]:
    """Restore a worker from its files in the store. Returns and raises as `restore_worker`."""
    folder, content = snapshot.content
    try:
        work = Path(tempfile.mkdtemp(prefix="restore-", dir=runtime_dir))
    except OSError as error:
        raise RestoreFailed(f"no folder to restore in: {error.strerror}") from None
    pipes, message = content["pipes"], launch.as_message()
    try:
        return await restore_worker(tool, folder / FILES, pipes, work, launch.socket, message, deadline, before)
    finally:
        shutil.rmtree(work, ignore_errors=True)


async def restore_worker(
    tool: CriuTool,
    folder: Path,
    names: Sequence[str],
    work: Path,
    socket: Path,
    launch: dict[str, Any],
    deadline: float,
    before: Callable[[WorkerHandle], Awaitable[object]] | None = None,
) -> tuple[WorkerHandle, dict[str, float]]:
    """Return the worker, handed to `before` ahead of its launch, and the phases' ms. RestoreFailed leaves nothing."""
    pipes = Pipes()
    ends = zip(pipes.worker_ends, names, strict=True)
    inherit = [word for end, name in ends for word in ("--inherit-fd", f"fd[{end}]:{name}")]
    call = tool.make_command(
        "restore", "--images-dir", str(folder), "--work-dir", str(work), "--log-file", "restore.log"
    )
    handle = None
    try:
        network = ["unshare", "-n", sys.executable, "-S", "-E", "-c", LOOPBACK] if tool.has_own_network else []
        handle = await start_process([*tool.namespace_command, *network, *call, *inherit], pipes, socket=socket)
        if before is not None:
            await wait_until_resumed(handle, deadline)
            await before(handle)
        return handle, await launch_worker(handle, launch, deadline)
    except BaseException as error:
        if handle is not None:
            await handle.kill()
        if isinstance(error, StartFailed):
            reason = read_first_error(work / "restore.log")
            raise RestoreFailed(f"criu restore: {reason}" if reason else str(error)) from None
        raise


async def wait_until_resumed(handle: WorkerHandle, deadline: float) -> None:
    """Return when criu has let the worker continue. Raises StartFailed."""
    try:
        handle.send({"ping": True})
        async with asyncio.timeout(deadline):
            if await handle.read_message() is None:
                raise StartFailed("it ended before it ran again")
    except OSError as error:  # TimeoutError is one
        reason = f"did not run again within {deadline:g} s" if isinstance(error, TimeoutError) else "has gone"
        raise StartFailed(f"the worker {reason}") from None


def read_system_state(path: str, version: str) -> list[str]:
    """Return what decides whether criu works, as far as it can be read; a boot changes it."""
    found = [path, version, str(Path(path).stat().st_mtime_ns), sys.executable, platform.release(), str(os.geteuid())]
    for name in SYSCTLS:
        try:
            found.append(Path("/proc/sys", name).read_text().strip())
        except OSError:
            found.append("")
    return found


def read_first_error(log: Path) -> str:
    """Return the first error of a failed call, since later ones come from its clean-up; empty if it did not fail."""
    text = ""
    with contextlib.suppress(OSError):
        text = log.read_text(errors="replace")
    found = re.findall(r"Error \([^)]*\): (.*)", text) if "FAILED" in text else []
    return next((" ".join(error.split()) for error in found if not error.startswith(HARMLESS_ERRORS)), "")
