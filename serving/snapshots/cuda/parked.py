"""The parked worker of the cuda backends, measurements of it, and the small process of their probe."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass, field
from pathlib import Path

from serving.snapshots.base import Tier
from serving.snapshots.worker_handle import WorkerHandle
from serving.system.processes import list_process_tree, read_memory_bytes

CANARY = r"""
import ctypes, os, sys
control, status, log = map(int, sys.argv[1:])
nowhere = os.open(os.devnull, os.O_RDONLY)
os.dup2(nowhere, 0), os.dup2(log, 1), os.dup2(log, 2)
from cuda.bindings import driver
def ask(result):
    assert int(result[0]) == 0, result
    return result[1] if len(result) > 1 else None
ask(driver.cuInit(0))
ask(driver.cuCtxSetCurrent(ask(driver.cuDevicePrimaryCtxRetain(0))))
there = ask(driver.cuMemAlloc(4096))
ask(driver.cuMemsetD8(there, 7, 4096))
os.write(status, b'{"warm": {}}\n')
while b"ping" in (line := os.read(control, 65536)):
    os.write(status, b'{"pong": 1}\n')
if line:
    here = ctypes.create_string_buffer(4096)
    ask(driver.cuMemcpyDtoH(ctypes.addressof(here), there, 4096))
    assert here.raw == b"\7" * 4096
    os.write(status, b'{"serving": {"phases": {}}}\n')
    os.read(control, 1)
os._exit(0)
"""
"""A small process that behaves like a worker: the same pipes and messages, and GPU memory that must be restored."""


class CodeCompiled(Exception):
    """The process compiled code itself, so many pieces: another one is started and kept."""


@dataclass(frozen=True)
class SavedMemory:
    """GPU memory that the driver has moved into processes."""

    processes: tuple[int, ...] = ()
    bytes: int = 0


@dataclass
class ParkedWorker:
    """A process that waits for its next launch."""

    handle: WorkerHandle
    tier: Tier
    saved: SavedMemory = SavedMemory()
    host_bytes: int = 0
    since: float = field(default_factory=time.time)


def read_boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def measure_host_bytes(root: int) -> int:
    """Return the memory of a process and its descendants, with a share of what others use too (Linux)."""
    total = 0
    for pid in list_process_tree(root):
        with contextlib.suppress(OSError):
            total += read_memory_bytes(pid, "Pss")
    return total
