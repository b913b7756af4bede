"""GPU memory whose addresses outlive it: given back when a worker sleeps, there again under the same addresses.

An address range is reserved once; memory is mapped into it and unmapped from it by the CUDA driver. Tensors, compiled
code and CUDA graphs that hold addresses of it stay valid. What was in it is gone: weights are read again, working
memory is written before it is read. Imports torch and the driver; knows neither models nor files.
"""

from __future__ import annotations

import ctypes
import importlib
import types
from collections.abc import Sequence
from typing import Any

import torch

from serving.errors import NotReadyError
from serving.settings import usable_cores
from serving.weights import MOST_THREADS, Filled, Plan, fill

STEP = 256 * 1024 * 1024
"""Bytes that working memory grows by."""
ROOM = 1024**4
"""Bytes of addresses for working memory: they cost nothing."""


def driver() -> Any:
    """CUDA's driver interface. Raises ImportError."""
    return importlib.import_module("cuda.bindings.driver")


class DriverError(Exception):
    """A call of the CUDA driver failed; the message is its own name for the reason."""


def called(result: Any) -> Any:
    """What a call gave, without its status. Raises DriverError."""
    status, *values = result
    if int(status) != 0:
        raise DriverError(getattr(status, "name", str(status)))
    return values[0] if len(values) == 1 else values


class AddressRange:
    """Of the current device. Not for several threads at once."""

    def __init__(self, size: int) -> None:
        """Reserves addresses for `size` bytes; there is no memory behind them yet. Raises DriverError."""
        cuda = self._cuda = driver()
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
        self._grain = int(called(cuda.cuMemGetAllocationGranularity(self._kind, smallest)))
        self.limit = self._rounded(size)
        self.address = int(called(cuda.cuMemAddressReserve(self.limit, 0, 0, 0)))
        self._parts: list[int] = []
        """Bytes of each piece of memory, in order from the beginning of the range."""
        self._handles: list[Any] = []

    @property
    def size(self) -> int:
        """Bytes that have memory behind them, or had it before `release`."""
        return sum(self._parts)

    @property
    def mapped(self) -> bool:
        return bool(self._handles)

    def grow(self, size: int) -> None:
        """To at least `size` bytes. Raises NotReadyError where the GPU has no such memory."""
        missing = self._rounded(size) - self.size
        if missing > 0:
            self._map(self.size, missing)
            self._parts.append(missing)

    def shrink(self, size: int) -> None:
        """Whole pieces beyond `size` bytes are given back."""
        while self._parts and self.size - self._parts[-1] >= size:
            part = self._parts.pop()
            self._unmap(self.size, part, self._handles.pop())

    def release(self) -> None:
        """The memory goes, the addresses stay. Nothing may be using it; if it has gone already, nothing happens."""
        if not self._handles:
            return
        at = 0
        for part, handle in zip(self._parts, self._handles, strict=True):
            self._unmap(at, part, handle)
            at += part
        self._handles = []

    def restore(self) -> None:
        """As much memory as before, with anything in it. Raises NotReadyError, and then none of it is there."""
        if self._handles:
            return
        at = 0
        try:
            for part in self._parts:
                self._map(at, part)
                at += part
        except BaseException:
            at = 0
            for part, handle in zip(self._parts, self._handles, strict=False):
                self._unmap(at, part, handle)
                at += part
            self._handles = []
            raise

    def tensor(self) -> torch.Tensor:
        """uint8[size]: stays valid, and may be used whenever there is memory."""

        whole = types.SimpleNamespace()
        whole.__cuda_array_interface__ = {
            "shape": (self.size,), "typestr": "|u1", "data": (self.address, False), "version": 3,
        }  # fmt: skip
        return torch.as_tensor(whole, device="cuda")

    def _rounded(self, size: int) -> int:
        return -(-size // self._grain) * self._grain

    def _map(self, at: int, size: int) -> None:
        cuda = self._cuda
        try:
            handle = called(cuda.cuMemCreate(size, self._kind, 0))
        except DriverError as error:
            free, total = torch.cuda.mem_get_info()
            raise NotReadyError(
                f"the GPU has {free / 1e9:.1f} GB free of {total / 1e9:.1f}, {size / 1e9:.1f} are needed: end what else"
                f" is using it ({error})",
                retry_after=5,
            ) from None
        called(cuda.cuMemMap(self.address + at, size, 0, handle, 0))
        called(cuda.cuMemSetAccess(self.address + at, size, [self._access], 1))
        self._handles.append(handle)

    def _unmap(self, at: int, size: int, handle: Any) -> None:
        called(self._cuda.cuMemUnmap(self.address + at, size))
        called(self._cuda.cuMemRelease(handle))


class WorkingMemory:
    """What CUDA graphs compute in: a pool of torch's allocator over an address range. What is in it need not outlive a
    replay, so it can go and come like the weights; 2 GB that a snapshot need not hold."""

    def __init__(self) -> None:
        self._range = AddressRange(ROOM)
        self._used = 0
        take = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_ssize_t, ctypes.c_int, ctypes.c_void_p)(self._take)
        give = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_ssize_t, ctypes.c_int, ctypes.c_void_p)(lambda *_: None)
        self._kept = (take, give)  # torch has their addresses only
        taking, giving = (ctypes.cast(function, ctypes.c_void_p).value or 0 for function in self._kept)
        self._allocator = torch._C._cuda_customAllocator(taking, giving)

    def pool(self) -> torch.cuda.MemPool:
        """For `torch.cuda.graph`. Keep it as long as a graph of it is used."""
        return torch.cuda.MemPool(self._allocator)

    def make_room(self, size: int) -> None:
        """`size` more bytes, before a capture: the driver must not be asked for memory during one. Raises
        NotReadyError."""
        while self._range.size < self._used + size:
            self._range.grow(self._range.size + STEP)

    def trim(self) -> None:
        self._range.shrink(self._used)

    def release(self) -> None:
        self._range.release()

    def restore(self) -> None:
        self._range.restore()

    @property
    def size(self) -> int:
        return self._range.size

    def _take(self, size: int, device: int, stream: int) -> int:
        """Zero where there is no more; torch makes an error of it. Nothing is ever given back: graphs live as long as
        the worker."""
        at = -(-self._used // 512) * 512
        if at + size > self._range.size:
            return 0
        self._used = at + size
        return self._range.address + at


class PinnedTarget:
    """A range, filled through page-locked buffers (`serving.weights.fill`): two for each thread. They are kept: to lock
    96 MB again takes 50 ms, and the driver does it in a tenth of that when it brings a process back."""

    def __init__(self, address: int) -> None:
        self._address = address
        self._stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        self._lanes: list[PinnedLane] = []
        self._free: list[PinnedLane] = []

    def lane(self, size: int) -> PinnedLane:
        if self._free:
            return self._free.pop()
        lane = PinnedLane(self._address, size, self._stream)
        self._lanes.append(lane)
        return lane

    def filled(self) -> None:
        """All lanes are done, and can be used again."""
        self._free = list(self._lanes)


class PinnedLane:
    """All lanes share a stream: the bus is one, and each stream more is 10 ms more of a restore."""

    def __init__(self, address: int, size: int, stream: torch.cuda.Stream) -> None:
        self._cuda = driver()
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
            called(copy(self._address + offset, here + skip, count, self._stream.cuda_stream))
        self._done[self._turn].record(self._stream)
        self._turn = 1 - self._turn

    def finish(self) -> None:
        self._stream.synchronize()


class GpuWeights:
    """A plan's tensors at fixed addresses: `fill` brings them, `release` gives their memory back."""

    def __init__(self, planned: Plan) -> None:
        """Memory, with nothing in it yet. Raises NotReadyError, DriverError."""
        self.plan = planned
        self._chunks = planned.chunks()
        self._range = AddressRange(planned.size)
        self._range.grow(planned.size)
        self._target = PinnedTarget(self._range.address)
        self.memory = self._range.tensor()

    def fill(self) -> Filled:
        """Raises WeightsFileError, NotReadyError; of a part that is there nothing may be used then."""
        self._range.restore()
        found = fill(self.plan, self._target, self._chunks, min(MOST_THREADS, usable_cores()))
        self._target.filled()
        return found

    def release(self) -> None:
        torch.cuda.synchronize()
        self._range.release()
