"""The CUDA driver's checkpoint calls, in one lasting process: each new one would take a second to initialise.

`CudaDriver` is the engine's end of it: calls with a deadline, after which the process is killed, because a call that
hangs cannot be taken back. `python -m serving.snapshots.cuda.driver` is the other end: a JSON object a line, in and
out. It holds no GPU memory. The calls: docs.nvidia.com, CUDA Driver API, "Checkpointing"; driver 570 or newer.
"""

from __future__ import annotations

import asyncio
import importlib
import json
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


class CudaDriver:
    """The engine's end: call `open` first, and again after a call that hung. For one event loop."""

    def __init__(self) -> None:
        self.gpu = Gpu("", "", "")
        self._process: asyncio.subprocess.Process | None = None
        self._calling = asyncio.Lock()

    async def open(self) -> None:
        """Start the process that makes the calls. Raises DriverFailed."""
        await self.close()
        try:
            self._process = await spawn_process(COMMAND, stdin=PIPE, stdout=PIPE)
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

    async def load(self, processes: Sequence[int], deadline: float) -> None:
        """Undo `save`. Raises DriverFailed; then they are unusable."""
        await self._call("load", deadline, list(processes))

    async def close(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            await kill_process(process)

    async def _call(self, what: str, deadline: float, *arguments: Any) -> Any:
        async with self._calling:
            if self._process is None or self._process.returncode is not None:
                await self.open()
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

    def __init__(self) -> None:
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
        uuid = bytes(self._check(self._cuda.cuDeviceGetUuid(0), "cuDeviceGetUuid").bytes).hex()
        self._nvml.init_v2()
        # CUDA_VISIBLE_DEVICES affects CUDA but not NVML: the UUID finds the same GPU in both.
        name = f"GPU-{uuid[:8]}-{uuid[8:12]}-{uuid[12:16]}-{uuid[16:20]}-{uuid[20:]}"
        self._device = self._nvml.device_get_handle_by_uuid(name)
        self.gpu = {
            "name": self._nvml.device_get_name(self._device),
            "uuid": name,
            "driver": self._nvml.system_get_driver_version(),
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

    def load(self, processes: Sequence[int]) -> None:
        for pid in processes:
            self._check_state(pid, CHECKPOINTED)
            self._check(self._cuda.cuCheckpointProcessRestore(pid, None), "restore")
        for pid in processes:
            self._check(self._cuda.cuCheckpointProcessUnlock(pid, None), "unlock")
            self._check_state(pid, RUNNING)

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
    calls = write_answer(DriverCalls)
    if calls is None:
        return 1
    for line in sys.stdin:
        what, *arguments = json.loads(line)
        write_answer(partial(getattr(calls, what), *arguments))
    return 0


if __name__ == "__main__":
    sys.exit(main())
