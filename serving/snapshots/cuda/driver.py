"""The CUDA driver's checkpoint calls, in one lasting process: each new one would take a second to initialise.

`CudaDriver` is the engine's end of it: calls with a deadline, after which the process is killed, because a call that
hangs cannot be taken back. `python -m serving.snapshots.cuda.driver` is the other end: a JSON object a line, in and
out. It holds no GPU memory. The calls: docs.nvidia.com, CUDA Driver API, "Checkpointing"; driver 570 or newer.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import os
import sys
from asyncio.subprocess import PIPE
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from serving.snapshots.plain import spawn_process
from serving.snapshots.worker_handle import kill_process
from serving.system.processes import die_with_parent

OLDEST_VERSION = 12_080
"""CUDA 12.8, driver 570: the first with these calls."""
COMMAND = [sys.executable, "-m", "serving.snapshots.cuda.driver"]
READY_S = 30.0
CALL_S = 5.0
OLDEST_MOVING_VERSION = 13_000
"""CUDA 13.0, driver 580: the first that loads a process on another GPU than it was saved on."""
LOCK_MS = 10_000
RUNNING, LOCKED, CHECKPOINTED = 0, 1, 2
"""CUprocessState's."""
INSTALL_ADVICE = "cuda-bindings is not installed here: pip install 'dormouse-search[gpu]'"


class DriverFailed(Exception):
    """A call failed, or was not done in time; the message says which."""


@dataclass(frozen=True)
class Gpu:
    """The GPU in use."""

    name: str
    uuid: str
    driver: str
    moves: bool
    """Whether the driver can load what was saved on another GPU of this kind."""
    all_gpus: str
    """UUIDs of all GPUs that CUDA sees."""


class CudaDriver:
    """The engine's end: call `open` first, and again after a call that hung. For one event loop."""

    def __init__(self) -> None:
        self.gpu = Gpu("", "", "", False, "")
        self._wanted = ""
        self._process: asyncio.subprocess.Process | None = None
        self._calling = asyncio.Lock()

    async def open(self, gpu: str = "") -> None:
        """Start the process that makes the calls, for the GPU of that UUID or the first one. Raises DriverFailed."""
        await self.close()
        self._wanted = gpu
        try:
            self._process = await spawn_process([*COMMAND, gpu], stdin=PIPE, stdout=PIPE)
        except OSError as error:
            raise DriverFailed(f"no process could be started: {error.strerror}") from None
        self.gpu = Gpu(**await self._read_answer(READY_S, "the start of the CUDA driver"))

    async def measure_memory(self) -> tuple[int, int]:
        """Return the free and the total bytes of the GPU's memory."""
        free, total = await self._call("measure_memory", CALL_S)
        return int(free), int(total)

    async def find_processes(self, among: Sequence[int]) -> list[int]:
        return list(await self._call("find_processes", CALL_S, list(among)))

    async def save(self, processes: Sequence[int], deadline: float) -> None:
        """Move their GPU memory into the processes and free the GPU. Raises DriverFailed; then they are unusable."""
        await self._call("save", deadline, list(processes))

    async def load(self, processes: Sequence[int], deadline: float, saved_on: str = "") -> None:
        """Undo `save`, which was done on that GPU, or on this one. Raises DriverFailed; then they are unusable."""
        await self._call("load", deadline, list(processes), saved_on)

    async def close(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            await kill_process(process)

    async def _call(self, what: str, deadline: float, *arguments: Any) -> Any:
        async with self._calling:
            if self._process is None or self._process.returncode is not None:
                await self.open(self._wanted)
            assert self._process is not None and self._process.stdin is not None
            self._process.stdin.write(json.dumps([what, *arguments]).encode() + b"\n")
            return await self._read_answer(deadline, what)

    async def _read_answer(self, deadline: float, what: str) -> Any:
        assert self._process is not None and self._process.stdout is not None
        try:
            async with asyncio.timeout(deadline):
                line = await self._process.stdout.readline()
        except BaseException as error:  # its answer would be read as that of the next call
            await self.close()
            if isinstance(error, TimeoutError):
                raise DriverFailed(f"{what}: the CUDA driver did not answer within {deadline:g} s") from None
            raise
        if not line:
            await self.close()
            raise DriverFailed(f"{what}: the process that talks to the CUDA driver ended")
        answer = json.loads(line)
        if "failed" in answer:
            raise DriverFailed(f"{what}: {answer['failed']}")
        return answer["done"]


# The other end


class DriverCalls:
    """The calls, in the lasting process. Each raises CallRefused."""

    def __init__(self, gpu: str = "") -> None:
        if gpu:  # moving a process to it takes the names of all others
            os.environ.pop("CUDA_VISIBLE_DEVICES", None)
        try:
            self._cuda: Any = importlib.import_module("cuda.bindings.driver")
            self._nvml: Any = importlib.import_module("cuda.bindings.nvml")
        except ImportError:
            raise CallRefused(INSTALL_ADVICE) from None
        self._check(self._cuda.cuInit(0), "cuInit")
        version = int(self._check(self._cuda.cuDriverGetVersion(), "cuDriverGetVersion"))
        if version < OLDEST_VERSION:
            raise CallRefused(
                f"the NVIDIA driver is of CUDA {version // 1000}.{version % 1000 // 10}; 570 (CUDA 12.8) can"
            )
        count = int(self._check(self._cuda.cuDeviceGetCount(), "cuDeviceGetCount"))
        uuids = [self._check(self._cuda.cuDeviceGetUuid(number), "cuDeviceGetUuid") for number in range(count)]
        self._gpus = {write_uuid(bytes(uuid.bytes)): uuid for uuid in uuids}
        self._uuid = gpu or next(iter(self._gpus), "")
        if self._uuid not in self._gpus:
            raise CallRefused(f"CUDA sees no GPU {gpu}, but {', '.join(self._gpus) or 'none'}")
        self._nvml.init_v2()
        # CUDA_VISIBLE_DEVICES affects CUDA but not NVML: the UUID finds the same GPU in both.
        self._device = self._nvml.device_get_handle_by_uuid(self._uuid)
        self.gpu = {
            "name": self._nvml.device_get_name(self._device),
            "uuid": self._uuid,
            "driver": self._nvml.system_get_driver_version(),
            "moves": version >= OLDEST_MOVING_VERSION and hasattr(self._cuda, "CUcheckpointGpuPair"),
            "all_gpus": " ".join(sorted(self._gpus)),
        }

    def measure_memory(self) -> tuple[int, int]:
        found = self._nvml.device_get_memory_info_v2(self._device)
        return int(found.free), int(found.total)

    def find_processes(self, among: Sequence[int]) -> list[int]:
        return [pid for pid in among if self._read_state(pid) is not None]

    def save(self, processes: Sequence[int]) -> None:
        limit = self._cuda.CUcheckpointLockArgs()
        limit.timeoutMs = LOCK_MS
        for pid in processes:
            self._check(self._cuda.cuCheckpointProcessLock(pid, limit), "lock")
        for pid in processes:
            self._check(self._cuda.cuCheckpointProcessCheckpoint(pid, None), "checkpoint")
            self._check_state(pid, CHECKPOINTED)

    def load(self, processes: Sequence[int], saved_on: str = "") -> None:
        moving = self._make_moving_arguments(saved_on) if saved_on not in ("", self._uuid) else None
        for pid in processes:
            self._check_state(pid, CHECKPOINTED)
            self._check(self._cuda.cuCheckpointProcessRestore(pid, moving), "restore")
        for pid in processes:
            self._check(self._cuda.cuCheckpointProcessUnlock(pid, None), "unlock")
            self._check_state(pid, RUNNING)

    def _make_moving_arguments(self, saved_on: str) -> Any:
        """Return the arguments of a restore on this GPU: the two change places.

        The driver wants a pair for each GPU that there is, also for those that the process never saw; with fewer it
        answers CUDA_ERROR_INVALID_VALUE (driver 580).
        """
        if saved_on not in self._gpus:
            raise CallRefused(f"it was saved on {saved_on}, which is not here")
        places = {saved_on: self._uuid, self._uuid: saved_on}
        pairs = []
        for name, uuid in self._gpus.items():
            pair = self._cuda.CUcheckpointGpuPair()
            pair.oldUuid, pair.newUuid = uuid, self._gpus[places.get(name, name)]
            pairs.append(pair)
        arguments = self._cuda.CUcheckpointRestoreArgs()
        arguments.gpuPairs, arguments.gpuPairsCount = pairs, len(pairs)
        return arguments

    def _read_state(self, pid: int) -> int | None:
        status, state = self._cuda.cuCheckpointProcessGetState(pid)
        return int(state) if int(status) == 0 else None

    def _check_state(self, pid: int, wanted: int) -> None:
        found = self._read_state(pid)
        if found != wanted:
            raise CallRefused(f"the process is in CUDA's state {found}, not {wanted}: it has ended, or failed")

    @staticmethod
    def _check(result: tuple[Any, ...], what: str) -> Any:
        status, *values = result
        if int(status) != 0:
            raise CallRefused(f"{what}: {getattr(status, 'name', status)}")
        return values[0] if values else None


def write_uuid(uuid: bytes) -> str:
    """Return the name by which NVML and CUDA_VISIBLE_DEVICES know that GPU."""
    text = uuid.hex()
    return f"GPU-{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


class CallRefused(Exception):
    """A call failed; the message says which."""


def write_answer(work: Callable[[], Any]) -> Any:
    """Do the work, write what it returned or why it failed, and return it, None for a failure."""
    done = None
    try:
        done = work()
        message = {"done": done.gpu if isinstance(done, DriverCalls) else done}
    except Exception as error:
        message = {"failed": str(error) if isinstance(error, CallRefused) else f"{type(error).__name__}: {error}"}
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()
    return done


def main() -> int:
    die_with_parent()
    calls = write_answer(partial(DriverCalls, *sys.argv[1:]))
    if calls is None:
        return 1
    for line in sys.stdin:
        what, *arguments = json.loads(line)
        write_answer(partial(getattr(calls, what), *arguments))
    return 0


if __name__ == "__main__":
    sys.exit(main())
