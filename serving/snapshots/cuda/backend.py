"""Park a worker without its GPU: the CUDA driver moves its GPU memory into the process and back.

`cuda`: the process stays in memory, asleep (its weights are read again, `serving.embedders.gpu.weight_arena`), and
serves one launch after the other. `criu+cuda`: the snapshot is a file, and each launch has a process of its own, which
may be parked in steps at zero.

    serving -> context     parked: weights and working memory freed, the GPU's context (1 GB) kept     `context_s`
            -> host        the driver has moved the rest into the process: no GPU memory               `host_s`
            -> disk        criu+cuda: the process is ended, its file was written when it was made

1. A worker parks itself into the state before its first launch: asleep, no socket, blocked on its control pipe.
2. A restore checks first whether the GPU has enough memory; if not (`GpuMemoryInUse`), the process stays parked.
3. A process that compiled code itself is not kept: another one, which finds the code in the cache, is restored in half
   the time (docs/design/gpu.md).
4. Any failure in between ends the process: half a GPU state is useless.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import shutil
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

from serving.embedders.gpu.weight_arena import MOST_THREADS, WeightsError, digest_files, stamp_file
from serving.settings import Settings
from serving.snapshots.base import (
    GpuMemoryInUse,
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
from serving.snapshots.criu.backend import (
    CriuBackend,
    CriuTool,
    dump_worker,
    ignore_report,
    restore_files,
    restore_worker,
    save_worker,
)
from serving.snapshots.cuda.driver import CudaDriver, DriverFailed
from serving.snapshots.cuda.parked import (
    CANARY,
    CodeCompiled,
    ParkedWorker,
    SavedMemory,
    measure_host_bytes,
    read_boot_id,
)
from serving.snapshots.identity import Identity, make_identity
from serving.snapshots.plain import (
    describe_death,
    launch_worker,
    make_worker_command,
    pin_to_gpu,
    report_phase,
    start_process,
    wait_until_warm,
)
from serving.snapshots.store import SnapshotStore
from serving.snapshots.worker_handle import Pipes, WorkerHandle
from serving.system.files import write_file
from serving.system.processes import list_process_tree

CANARY_S = 30.0
SLOWEST_DISK_BYTES_PER_S = 200e6
"""For weights that are not in the page cache: the deadline of a restore allows for reading them at this rate."""
PARK_S = 5.0
"""Added to the worker's grace: it gives its memory back and makes the app of the next launch."""
log = logging.getLogger(__name__)


class CudaBackend(SnapshotBackend):
    """Saves workers on a GPU, in files if there is a criu."""

    def __init__(
        self,
        settings: Settings,
        runtime_dir: Path,
        criu: CriuBackend | None = None,
        store: SnapshotStore | None = None,
    ) -> None:
        """`runtime_dir`: a folder for the work files of a restore. `criu`: finds the tool of `criu+cuda`."""
        self.name = "cuda" if criu is None else "criu+cuda"
        self._settings = settings
        self._criu = criu
        self._runtime_dir = runtime_dir
        self._store = store or SnapshotStore.of(settings)
        self._driver = CudaDriver()
        self._tool: CriuTool | None = None
        self._parked: ParkedWorker | None = None
        self._snapshot: Snapshot | None = None
        self._identity: Identity = {}
        self._file_stamps: list[str] | None = None
        """Stamps of the weights' files when the identity was made."""

    @property
    def tier(self) -> Tier:
        if self._parked is not None:
            return self._parked.tier
        return "host" if self._criu is None else "disk"

    @property
    def parked(self) -> dict[str, Any] | None:
        """Return the facts of the parked process for `GET /engine`."""
        if (it := self._parked) is None:
            return None
        return {"tier": it.tier, "since": it.since, "host_bytes": it.host_bytes, "gpu_saved": it.saved.bytes}

    # Probing

    async def probe(self, spec: WorkerSpec) -> Support:
        if spec.cpu:
            return Support(False, "no GPU is in use: it is for --device cuda")
        if not sys.platform.startswith("linux"):
            return Support(False, "the CUDA driver moves processes off a GPU on Linux only")
        support = await self._try_gpu(spec)
        if not support.ok:
            await self._driver.close()
        return support

    async def _try_gpu(self, spec: WorkerSpec) -> Support:
        try:
            await self._driver.open(spec.gpu)
            gpu = self._driver.gpu
            detail = {"gpu": gpu.name, "driver": gpu.driver}
            if self._criu is not None:
                found = await self._criu.find_tool()
                if isinstance(found, str):
                    return Support(False, found)
                self._tool = found.for_gpu(one_of_several=bool(spec.gpu))
                self._store.open()
                detail |= {"version": found.version, "path": found.path, "way": self._tool.mode}
            reason = await self._check_canary([*detail.values(), gpu.all_gpus], spec)
        except DriverFailed as error:
            return Support(False, str(error))
        except OSError as error:
            return Support(False, f"{self._store.folder} cannot be used: {error.strerror}")
        return Support(reason is None, reason or "", detail)

    async def _check_canary(self, versions: list[str], spec: WorkerSpec) -> str | None:
        """Return why a small process is not restored with its GPU memory; a success is remembered for this boot."""
        verdict = self._settings.data / f"checked-{self.name}.json"
        versions = [*versions, sys.executable, read_boot_id()]
        with contextlib.suppress(OSError, ValueError):
            if json.loads(verdict.read_bytes()) == versions:
                return None
        reason = await self._try_canary(spec)
        if reason is None:
            with contextlib.suppress(OSError):  # tried again next time
                write_file(verdict, json.dumps(versions).encode())
        return reason

    async def _try_canary(self, spec: WorkerSpec) -> str | None:
        async def save(handle: WorkerHandle, _: dict[str, Any]) -> None:
            await self._save_gpu_memory(handle, self._settings.snapshot_timeout_s)

        folder = Path(tempfile.mkdtemp(prefix="canary-", dir=self._runtime_dir))
        handle = None
        try:
            pipes = Pipes()
            names = pipes.criu_names
            argv = pin_to_gpu([sys.executable, "-c", CANARY, *(str(end) for end in pipes.worker_ends)], spec.gpu)
            if self._tool is None:
                handle = await start_process(argv, pipes)
                await wait_until_warm(handle, CANARY_S, ignore_report)
                await self._driver.load((await self._save_gpu_memory(handle, CANARY_S)).processes, CANARY_S)
                await launch_worker(handle, {}, CANARY_S)
            else:
                await dump_worker(self._tool, pipes, argv, folder, CANARY_S, CANARY_S, ignore_report, save)
                handle, _ = await restore_worker(
                    self._tool, folder, names, folder, Path(), {}, CANARY_S, partial(self._load_restored, CANARY_S, "")
                )
        except (StartFailed, SnapshotFailed, RestoreFailed, DriverFailed, OSError) as error:
            return f"a small process on the GPU was not saved and brought back ({error})"
        finally:
            if handle is not None:
                await handle.kill()
            shutil.rmtree(folder, ignore_errors=True)
        return None

    # Creating

    async def find(self, spec: WorkerSpec) -> Snapshot | None:
        if self._parked is not None and self._parked.handle.ended.is_set():
            log.warning("the parked process has ended")
            self._parked = None
        if self._tool is not None:
            return await asyncio.to_thread(self._store.find, await self._make_identity(spec))
        return self._snapshot if self._parked is not None else None

    async def _make_identity(self, spec: WorkerSpec) -> Identity:
        """Return the snapshot's identity; it reads all weights once, and again when their files have changed."""
        try:
            stamps = [stamp_file(file) for file in spec.files]
            if stamps != self._file_stamps:
                weights = await asyncio.to_thread(digest_files, spec.files, min(MOST_THREADS, self._settings.cores))
                gpu, tool = self._driver.gpu, self._tool
                assert tool is not None
                used = {"criu": tool.version, "way": tool.mode, "driver": gpu.driver}
                # A driver that moves a process to another GPU is told of all that there are.
                used |= {"gpu": gpu.name, "gpus": gpu.all_gpus} if gpu.moves else {"gpu": f"{gpu.name} {gpu.uuid}"}
                self._identity = await asyncio.to_thread(make_identity, spec, __name__, **used, weights=weights)
                self._file_stamps = stamps
        except WeightsError as error:
            raise StartFailed(error.message, public=True) from None
        return self._identity

    async def create(self, spec: WorkerSpec, report: Report) -> Snapshot:
        await self._end_parked()
        create = self._create_process if self._tool is None else self._create_file
        try:
            return await create(spec, report, last=False)
        except CodeCompiled as error:
            log.info("%s pieces of code were compiled: another process is started, which is kept", error)
            return await create(spec, report, last=True)

    async def _create_process(self, spec: WorkerSpec, report: Report, *, last: bool) -> Snapshot:
        pipes = Pipes()
        argv = make_worker_command(spec, pipes.worker_ends, ["--warm-up", "--sleeps", "--dies-with-parent"])
        handle = await start_process(argv, pipes)
        try:
            said = await wait_until_warm(handle, spec.settings.start_timeout_s, report)
            if said["compiled"] and not last:
                raise CodeCompiled(said["compiled"])
            with report_phase(report, "snapshot"):
                saved = await self._save_gpu_memory(handle, self._settings.snapshot_timeout_s)
        except BaseException:
            await handle.kill()
            raise
        self._parked = ParkedWorker(handle, "host", saved, measure_host_bytes(handle.pid))
        self._snapshot = Snapshot("process", time.time(), 0, said["probe"])
        return self._snapshot

    async def _create_file(self, spec: WorkerSpec, report: Report, *, last: bool) -> Snapshot:
        assert self._tool is not None
        identity = await self._make_identity(spec)

        async def save(handle: WorkerHandle, said: dict[str, Any]) -> None:
            if said["compiled"] and not last:
                raise CodeCompiled(said["compiled"])
            saved = await self._save_gpu_memory(handle, self._settings.snapshot_timeout_s)
            said["manifest"] = {"gpu_bytes": saved.bytes, "gpu": self._driver.gpu.uuid}

        return await save_worker(self._tool, self._store, spec, identity, ["--warm-up", "--sleeps"], report, save)

    # Restoring and parking

    async def restore(self, snapshot: Snapshot, launch: Launch, report: Report) -> WorkerHandle:
        """Restore from the parked process, else from the file. After GpuMemoryInUse the process stays parked."""
        parked = self._parked
        with report_phase(report, "restore") as phases:
            try:
                if parked is not None:
                    saved_bytes = parked.saved.bytes
                else:
                    saved_bytes = int(snapshot.content[1]["gpu_bytes"]) if snapshot.content is not None else 0
                await self._wait_for_gpu_memory(launch.waking_bytes + saved_bytes)
                self._parked = None
                deadline = self._settings.restore_timeout_s + launch.waking_bytes / SLOWEST_DISK_BYTES_PER_S
                if parked is not None:
                    handle = parked.handle
                    phases |= await self._restore_process(parked, launch, deadline)
                elif self._tool is not None:
                    load = partial(self._load_restored, deadline, str(snapshot.content[1]["gpu"]))
                    handle, took = await restore_files(self._tool, snapshot, launch, self._runtime_dir, deadline, load)
                    phases |= took
                else:
                    raise RestoreFailed("the parked process has ended")
            except DriverFailed as error:
                raise RestoreFailed(str(error)) from None
        handle.socket = launch.socket
        if self._first_step is not None:
            handle.park = partial(self._park, handle)
        return handle

    async def _restore_process(self, parked: ParkedWorker, launch: Launch, deadline: float) -> dict[str, float]:
        try:
            if parked.tier == "host":
                await self._driver.load(parked.saved.processes, deadline)
            return await launch_worker(parked.handle, launch.as_message(), deadline)
        except StartFailed as error:
            raise RestoreFailed(str(error)) from None
        except BaseException:
            await parked.handle.kill()
            raise

    @property
    def _first_step(self) -> Tier | None:
        """Return the tier in which an idle worker is parked first; None if it can end because there is a file."""
        if self._settings.context_s > 0:
            return "context"
        return "host" if self._tool is None or self._settings.host_s > 0 else None

    async def _park(self, handle: WorkerHandle, grace: float) -> None:
        """Park the worker in its first tier. Raises SnapshotFailed; then the process has ended."""
        step = self._first_step
        assert step is not None
        try:
            handle.send({"park": True})
            async with asyncio.timeout(grace + PARK_S):
                while (message := await handle.read_message()) is not None and "parked" not in message:
                    pass
            if message is None:
                raise SnapshotFailed(describe_death(handle))
            saved = SavedMemory()
            if step != "context":
                saved = await self._save_gpu_memory(handle, self._settings.snapshot_timeout_s)
        except BaseException as error:
            await handle.kill()
            reason = f"it was not parked within {grace + PARK_S:g} s" if isinstance(error, TimeoutError) else str(error)
            if isinstance(error, OSError):  # TimeoutError is one
                raise SnapshotFailed(reason) from None
            raise
        handle.park = None
        self._parked = ParkedWorker(handle, step, saved, measure_host_bytes(handle.pid))

    async def step_down(self, seconds: float) -> float | None:
        """Step down as far as the time at zero says. Raises SnapshotFailed; then the process has ended."""
        while (parked := self._parked) is not None:
            ends = self._settings.context_s
            if parked.tier == "host":
                if self._tool is None:
                    return None
                ends += self._settings.host_s
            if seconds < ends:
                return ends - seconds
            await self._step_deeper(parked)
        return None

    async def _step_deeper(self, parked: ParkedWorker) -> None:
        if parked.tier == "host" or (self._tool is not None and not self._settings.host_s):
            self._parked = None
            await parked.handle.kill()
            return
        try:
            saved = await self._save_gpu_memory(parked.handle, self._settings.snapshot_timeout_s)
        except BaseException:
            self._parked = None
            await parked.handle.kill()
            raise
        self._parked = ParkedWorker(parked.handle, "host", saved, measure_host_bytes(parked.handle.pid))

    async def discard(self, snapshot: Snapshot) -> None:
        await self._end_parked()
        if self._tool is not None:
            await asyncio.to_thread(self._store.discard, snapshot)

    async def close(self) -> None:
        await self._end_parked()
        await self._driver.close()

    async def _end_parked(self) -> None:
        parked, self._parked, self._snapshot = self._parked, None, None
        if parked is not None:
            await parked.handle.kill()

    # The driver

    async def _save_gpu_memory(self, handle: WorkerHandle, deadline: float) -> SavedMemory:
        """Move the GPU memory of all the worker's processes into them. Raises SnapshotFailed."""
        try:
            processes = await self._driver.find_processes(list_process_tree(handle.pid))
            if not processes:
                raise SnapshotFailed("save: the worker has no process that uses the GPU")
            before, _ = await self._driver.measure_memory()
            await self._driver.save(processes, deadline)
            after, _ = await self._driver.measure_memory()
        except DriverFailed as error:
            raise SnapshotFailed(str(error)) from None
        return SavedMemory(tuple(processes), max(0, after - before))

    async def _load_restored(self, deadline: float, saved_on: str, handle: WorkerHandle) -> None:
        """Load the GPU memory of a process that criu has restored, under unknown numbers. Raises RestoreFailed.

        `saved_on`: the GPU from which it is moved to this worker's, if that is another one.
        """
        try:
            processes = await self._driver.find_processes(list_process_tree(handle.pid))
            await self._driver.load(processes, deadline, saved_on)
        except DriverFailed as error:
            raise RestoreFailed(str(error)) from None

    async def _wait_for_gpu_memory(self, needed: int) -> None:
        """Wait until the GPU has so many bytes free. Raises GpuMemoryInUse, DriverFailed."""
        ends = time.monotonic() + self._settings.gpu_wait_s
        while True:
            free, total = await self._driver.measure_memory()
            if free >= needed:
                return
            if time.monotonic() >= ends:
                raise GpuMemoryInUse(
                    f"the GPU has {free / 1e9:.1f} GB free of {total / 1e9:.1f} and {needed / 1e9:.1f} are needed:"
                    f" {(needed - free) / 1e9:.1f} GB are missing. End what else is using it (`nvidia-smi` tells)"
                )
            await asyncio.sleep(0.05)
