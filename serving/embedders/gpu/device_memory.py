"""GPU memory that is given back when a worker sleeps and comes back under the same addresses.

An address range is reserved once; memory is mapped into it and unmapped from it by the CUDA driver. Tensors, compiled
code and CUDA graphs that hold its addresses stay valid. Its content is lost: weights are read again, working memory is
written before it is read. Imports torch and the driver; knows neither models nor files.
"""

from __future__ import annotations

import ctypes
import importlib
import logging
import types
from collections.abc import Sequence
from typing import Any

import torch

from serving.embedders.gpu.weight_arena import MOST_THREADS, WeightPlan, fill_weights
from serving.errors import NotReadyError
from serving.system.cores import count_cores

STEP = 256 * 1024 * 1024
"""Bytes that working memory grows by."""
ROOM = 1024**4
"""Bytes of addresses for working memory: they cost nothing."""
log = logging.getLogger(__name__)


def import_driver() -> Any:
    """Return the module of CUDA's driver interface. Raises ImportError."""
    return importlib.import_module("cuda.bindings.driver")


class DriverError(Exception):
    """A call of the CUDA driver failed; the message is its own name for the reason."""


def unwrap_result(result: Any) -> Any:
    """Return the values of a driver call without its status. Raises DriverError."""
    status, *values = result
    if int(status) != 0:
        raise DriverError(getattr(status, "name", str(status)))
    return values[0] if len(values) == 1 else values


class AddressRange:
    """A range of addresses of the current device with memory behind part of it. For one thread at a time."""

    def __init__(self, size: int) -> None:
        """Reserve addresses for `size` bytes; there is no memory behind them yet. Raises DriverError."""
        cuda = self._cuda = import_driver()
        torch.cuda.current_stream()  # makes the device's context
        device = torch.cuda.current_device()
        self._kind = cuda.CUmemAllocationProp()
        self._kind.type = cuda.CUmemAllocationType.CU_MEM_ALLOCATION_TYPE_PINNED
        self._kind.location.type = cuda.CUmemLocationType.CU_MEM_LOCATION_TYPE_DEVICE
        self._kind.location.id = device
        self._access = cuda.CUmemAccessDesc()
        self._access.location = self._kind.location
        self._access.flags = cuda.CUmemAccess_flags.CU_MEM_ACCESS_FLAGS_PROT_READWRITE
        smallest = cuda.CUmemAllocationGranularity_flags.CU_MEM_ALLOC_GRANULARITY_MINIMUM
        self._grain = int(unwrap_result(cuda.cuMemGetAllocationGranularity(self._kind, smallest)))
        self.address = int(unwrap_result(cuda.cuMemAddressReserve(self._round_up(size), 0, 0, 0)))
        self._parts: list[int] = []
        """Bytes of each piece of memory, in order from the beginning of the range."""
        self._handles: list[Any] = []

    @property
    def size(self) -> int:
        """Return the bytes that have memory behind them, or had it before `release`."""
        return sum(self._parts)

    def grow(self, size: int) -> None:
        """Map memory up to at least `size` bytes. Raises NotReadyError if the GPU has no such memory."""
        missing = self._round_up(size) - self.size
        if missing > 0:
            self._map(self.size, missing)
            self._parts.append(missing)

    def shrink(self, size: int) -> None:
        """Give back whole pieces beyond `size` bytes."""
        while self._parts and self.size - self._parts[-1] >= size:
            part = self._parts.pop()
            self._unmap(self.size, part, self._handles.pop())

    def release(self) -> None:
        """Give the memory back and keep the addresses. Nothing may be using it; a second call does nothing."""
        at = 0
        for part, handle in zip(self._parts, self._handles, strict=False):
            self._unmap(at, part, handle)
            at += part
        self._handles = []

    def restore(self) -> None:
        """Map as much memory as before, with undefined content. Raises NotReadyError and then maps none."""
        if self._handles:
            return
        at = 0
        try:
            for part in self._parts:
                self._map(at, part)
                at += part
        except BaseException:
            self.release()
            raise

    def make_tensor(self) -> torch.Tensor:
        """Return uint8[size]; it stays valid, and may be used while there is memory behind it."""
        whole = {"shape": (self.size,), "typestr": "|u1", "data": (self.address, False), "version": 3}
        return torch.as_tensor(types.SimpleNamespace(__cuda_array_interface__=whole), device="cuda")

    def _round_up(self, size: int) -> int:
        return -(-size // self._grain) * self._grain

    def _map(self, at: int, size: int) -> None:
        cuda = self._cuda
        try:
            handle = unwrap_result(cuda.cuMemCreate(size, self._kind, 0))
        except DriverError as error:
            free, total = torch.cuda.mem_get_info()
            raise NotReadyError(
                f"the GPU has {free / 1e9:.1f} GB free of {total / 1e9:.1f}, {size / 1e9:.1f} are needed: end what else"
                f" is using it ({error})",
                retry_after=5,
            ) from None
        unwrap_result(cuda.cuMemMap(self.address + at, size, 0, handle, 0))
        unwrap_result(cuda.cuMemSetAccess(self.address + at, size, [self._access], 1))
        self._handles.append(handle)

    def _unmap(self, at: int, size: int, handle: Any) -> None:
        unwrap_result(self._cuda.cuMemUnmap(self.address + at, size))
        unwrap_result(self._cuda.cuMemRelease(handle))


class WorkingMemory(AddressRange):
    """The memory that CUDA graphs compute in: a pool of torch's allocator over an address range.

    Its content need not outlive a replay, so it can be given back like the weights: 2 GB less in a snapshot.
    """

    def __init__(self) -> None:
        super().__init__(ROOM)
        self._used = 0
        take = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_ssize_t, ctypes.c_int, ctypes.c_void_p)(self._take)
        give = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_ssize_t, ctypes.c_int, ctypes.c_void_p)(lambda *_: None)
        self._kept = (take, give)  # torch has their addresses only
        taking, giving = (ctypes.cast(function, ctypes.c_void_p).value or 0 for function in self._kept)
        self._allocator = torch._C._cuda_customAllocator(taking, giving)

    def make_pool(self) -> torch.cuda.MemPool:
        """Return a pool for `torch.cuda.graph`. Keep it as long as a graph of it is used."""
        return torch.cuda.MemPool(self._allocator)

    def make_room(self, size: int) -> None:
        """Map `size` more bytes before a capture, when the driver must not be asked for any. Raises NotReadyError."""
        while self.size < self._used + size:
            self.grow(self.size + STEP)

    def trim(self) -> None:
        self.shrink(self._used)

    def _take(self, size: int, _device: int, _stream: int) -> int:
        """Return the address of `size` free bytes, or zero if there are none, which torch turns into an error.

        Nothing is ever freed: graphs last as long as the worker.
        """
        at = -(-self._used // 512) * 512
        if at + size > self.size:
            return 0
        self._used = at + size
        return self.address + at


class PinnedLane:
    """Two page-locked buffers between a thread and an address range.

    All lanes share a stream: one is enough for the bus, and each more costs a restore 10 ms.
    """

    def __init__(self, address: int, size: int, stream: torch.cuda.Stream) -> None:
        self._cuda = import_driver()
        self._address = address
        self._buffers = [torch.empty(size, dtype=torch.uint8, pin_memory=True) for _ in range(2)]
        self._views = [memoryview(buffer.numpy()) for buffer in self._buffers]  # type: ignore[arg-type]
        self._done = [torch.cuda.Event() for _ in range(2)]  # type: ignore[no-untyped-call]
        self._stream = stream
        self._turn = 0

    def buffer(self) -> memoryview:
        self._done[self._turn].synchronize()
        return self._views[self._turn]

    def put(self, pieces: Sequence[tuple[int, int, int]]) -> None:
        here, copy = self._buffers[self._turn].data_ptr(), self._cuda.cuMemcpyHtoDAsync
        for skip, offset, count in pieces:
            unwrap_result(copy(self._address + offset, here + skip, count, self._stream.cuda_stream))
        self._done[self._turn].record(self._stream)
        self._turn = 1 - self._turn

    def finish(self) -> None:
        self._stream.synchronize()


class GpuWeights:
    """A plan's tensors at fixed addresses: `fill` reads them in, `release` gives their memory back."""

    def __init__(self, planned: WeightPlan) -> None:
        """Map the memory without filling it. Raises NotReadyError, DriverError."""
        self.plan = planned
        self._chunks = planned.split_chunks()
        self._range = AddressRange(planned.size)
        self._range.grow(planned.size)
        self._stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        self._lanes: list[PinnedLane] = []
        """Kept: to lock 96 MB again takes 50 ms, a restore by the driver a tenth of that."""
        self.memory = self._range.make_tensor()

    def fill(self) -> float:
        """Read the weights in; return the seconds. After WeightsError or NotReadyError no part may be used."""
        self._range.restore()
        free = list(self._lanes)

        def take_lane(size: int) -> PinnedLane:
            if free:
                return free.pop()
            lane = PinnedLane(self._range.address, size, self._stream)
            self._lanes.append(lane)
            return lane

        seconds = fill_weights(self.plan, take_lane, self._chunks, min(MOST_THREADS, count_cores()))
        log.info("weights: %.2f GB in %.3f s", self.plan.size / 1e9, seconds)
        return seconds

    def release(self) -> None:
        torch.cuda.synchronize()
        self._range.release()
