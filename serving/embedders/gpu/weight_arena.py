"""Plans where each tensor of a checkpoint lies in one address range, and fills it from the files.

The safetensors files themselves are read: nothing is converted and nothing is written, so all workers of a machine
share them through the page cache. A plan needs their headers alone. Several threads read pieces into a small ring of
buffers and copy them on from there; for a GPU these are page-locked. Knows nothing of the tensors' meaning.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from serving.errors import ServingError
from serving.system.files import file_stamp

ALIGNED = 256
"""Bytes: the largest alignment that a kernel may expect (cudaMalloc gives no more)."""
CHUNK = 4 * 1024 * 1024
"""Bytes read at once: large enough for the bus, small enough that a dozen threads' buffers are page-locked in 30 ms."""
HASHED = 16 * 1024 * 1024
MOST_THREADS = 12
"""Readers: one thread copies 4 to 5 GB/s out of the page cache, a PCIe 5 bus takes 55 (assets/runs/bench-gpu-*)."""
SIZES = {"BF16": 2, "F16": 2, "F32": 4, "F64": 8, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1, "BOOL": 1}
"""Bytes of one value (the format's own names)."""


class WeightsFileError(ServingError):
    """A file of weights is not what it was, or no file of weights."""

    code = "weights"


@dataclass(frozen=True, slots=True)
class TensorSlot:
    """One tensor: `size` bytes at `begin` of a file, at `offset` of the range."""

    file: int
    begin: int
    size: int
    offset: int
    dtype: str
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Chunk:
    """`size` bytes at `begin` of a file; `pieces` are (bytes to skip, offset in the range, bytes)."""

    file: int
    begin: int
    size: int
    pieces: tuple[tuple[int, int, int], ...]


@dataclass(frozen=True)
class WeightPlan:
    """Places of all tensors in one address range."""

    files: tuple[Path, ...]
    stamps: tuple[str, ...]
    """`stamp_file` of each file when the plan was made."""
    slots: Mapping[str, TensorSlot]
    size: int
    """Bytes of the range."""

    @property
    def bytes(self) -> int:
        """Return the bytes of the tensors, without gaps."""
        return sum(slot.size for slot in self.slots.values())

    def chunks(self, size: int = CHUNK) -> list[Chunk]:
        """Return every byte of every tensor once, file by file; a large tensor has many chunks, small ones share
        one."""
        parts: dict[tuple[int, int], list[tuple[int, int, int]]] = {}
        for slot in sorted(self.slots.values(), key=lambda slot: (slot.file, slot.begin)):
            at, end = slot.begin, slot.begin + slot.size
            while at < end:
                upto = min(end, (at // size + 1) * size)
                append_piece(
                    parts.setdefault((slot.file, at // size), []), (at, slot.offset + at - slot.begin, upto - at)
                )
                at = upto
        found = []
        for (file, _), pieces in parts.items():
            first, (last, _, length) = pieces[0][0], pieces[-1]
            moved = tuple((begin - first, offset, count) for begin, offset, count in pieces)
            found.append(Chunk(file, first, last + length - first, moved))
        return found

    def check(self) -> None:
        """Raise WeightsFileError if a file has changed since the plan was made."""
        for path, known in zip(self.files, self.stamps, strict=True):
            if stamp_file(path) != known:
                raise WeightsFileError(f"{path} was changed while it was in use: start again with what is there now")


def append_piece(pieces: list[tuple[int, int, int]], piece: tuple[int, int, int]) -> None:
    """Append a piece, or extend the last one if the new piece follows it in both places."""
    if pieces:
        begin, offset, count = pieces[-1]
        if begin + count == piece[0] and offset + count == piece[1]:
            pieces[-1] = (begin, offset, count + piece[2])
            return
    pieces.append(piece)


def plan_weights(
    files: Sequence[Path],
    names: Callable[[str], str | None] = lambda name: name,
    together: Sequence[Sequence[str]] = (),
) -> WeightPlan:
    """Plan one address range for the tensors of safetensors files.

    `names` maps a tensor's name to its name in the plan, or to None to leave it out. `together`: names of tensors that
    follow each other without a gap, so that they can be used as one. Raises WeightsFileError.
    """
    found: dict[str, tuple[int, int, int, str, tuple[int, ...]]] = {}
    stamps = []
    for number, file in enumerate(files):
        stamps.append(stamp_file(file))
        for name, begin, size, dtype, shape in read_header(file):
            known = names(name)
            if known in found:
                raise WeightsFileError(f"{file}: {name} is there twice")
            if known is not None:
                found[known] = number, begin, size, dtype, shape
    follows = {group[0]: [name for name in group if name in found] for group in together if group[0] in found}
    later = {name for group in follows.values() for name in group[1:]}
    slots: dict[str, TensorSlot] = {}
    at = 0
    for name in sorted(found.keys() - later, key=lambda name: found[name][:2]):
        at = -(-at // ALIGNED) * ALIGNED
        for member in follows.get(name, [name]):
            number, begin, size, dtype, shape = found[member]
            slots[member] = TensorSlot(number, begin, size, at, dtype, shape)
            at += size
    return WeightPlan(tuple(files), tuple(stamps), slots, at)


def read_header(file: Path) -> Iterator[tuple[str, int, int, str, tuple[int, ...]]]:
    """Yield name, position in the file, bytes, type and shape of each tensor of a safetensors file.

    Raises WeightsFileError.
    """
    try:
        with file.open("rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
            whole = os.fstat(stream.fileno()).st_size
            if not 2 <= length <= min(whole, 100_000_000):
                raise ValueError("no header")
            tensors = json.loads(stream.read(length))
            tensors.pop("__metadata__", None)
            for name, about in tensors.items():
                begin, end = about["data_offsets"]
                shape = tuple(int(side) for side in about["shape"])
                if not 0 <= begin <= end <= whole - 8 - length:
                    raise ValueError("it ends too early")
                if end - begin != math.prod(shape) * SIZES.get(about["dtype"], -1):
                    raise ValueError(f"{name} has another size than its shape")
                yield name, 8 + length + begin, end - begin, about["dtype"], shape
    except OSError as error:
        raise WeightsFileError(f"{file} cannot be read: {error.strerror}") from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise WeightsFileError(f"{file} is damaged ({error}): download the weights again") from None


def stamp_file(file: Path) -> str:
    """Return the file's stamp. Raises WeightsFileError."""
    try:
        return file_stamp(file)
    except OSError as error:
        raise WeightsFileError(f"{file} cannot be read: {error.strerror}") from None


def digest_files(files: Sequence[Path], threads: int) -> str:
    """Return the SHA-256 over the SHA-256 of each 16 MiB of the files, in order. Raises WeightsFileError.

    With `threads` it is as fast as memory; one hash over all would take five seconds for 8.6 GB.
    """
    parts = [(file, begin) for file in files for begin in range(0, max(1, file_size(file)), HASHED)]
    total = hashlib.sha256()
    with ThreadPoolExecutor(threads) as pool:
        for found in pool.map(digest_part, parts):
            total.update(found)
    return total.hexdigest()


def file_size(file: Path) -> int:
    try:
        return file.stat().st_size
    except OSError as error:
        raise WeightsFileError(f"{file} cannot be read: {error.strerror}") from None


def digest_part(part: tuple[Path, int]) -> bytes:
    file, begin = part
    try:
        with file.open("rb") as stream:
            stream.seek(begin)
            return hashlib.sha256(stream.read(HASHED)).digest()
    except OSError as error:
        raise WeightsFileError(f"{file} cannot be read: {error.strerror}") from None


class FillTarget(Protocol):
    """The memory that a plan's bytes are copied to."""

    def lane(self, size: int) -> FillLane:
        """Return the buffers of one thread; called in that thread."""


class FillLane(Protocol):
    """The buffers of one thread, used in turn."""

    def buffer(self) -> memoryview:
        """Return a buffer that is free to be written into."""

    def put(self, pieces: Sequence[tuple[int, int, int]]) -> None:
        """Copy parts of that buffer to their offsets; may return before it is done."""

    def finish(self) -> None:
        """Return when all copies are done."""


@dataclass(frozen=True)
class FillResult:
    bytes: int
    seconds: float

    @property
    def gb_per_s(self) -> float:
        return self.bytes / 1e9 / self.seconds


def fill_weights(plan: WeightPlan, target: FillTarget, chunks: Sequence[Chunk], threads: int) -> FillResult:
    """Copy every chunk into its place; `chunks` are the plan's. Raises WeightsFileError after a partial fill."""
    began = time.perf_counter()
    plan.check()
    files = [os.open(path, os.O_RDONLY) for path in plan.files]
    waiting = iter(chunks)
    largest = max((chunk.size for chunk in chunks), default=0)
    taking = threading.Lock()

    def work() -> None:
        lane = target.lane(largest)
        while True:
            with taking:
                chunk = next(waiting, None)
            if chunk is None:
                return lane.finish()
            read_exactly(files[chunk.file], lane.buffer()[: chunk.size], chunk.begin, plan.files[chunk.file])
            lane.put(chunk.pieces)

    try:
        with ThreadPoolExecutor(threads, thread_name_prefix="weights") as pool:
            for done in [pool.submit(work) for _ in range(threads)]:
                done.result()
    finally:
        for descriptor in files:
            os.close(descriptor)
    return FillResult(plan.bytes, time.perf_counter() - began)


def read_exactly(descriptor: int, into: memoryview, begin: int, path: Path) -> None:
    """Fill `into` from position `begin` of a file. Raises WeightsFileError if the file ends before."""
    while into:
        try:
            count = os.preadv(descriptor, [into], begin)
        except OSError as error:
            raise WeightsFileError(f"{path} cannot be read: {error.strerror}") from None
        if not count:
            raise WeightsFileError(f"{path} was cut short while it was in use: download the weights again")
        into, begin = into[count:], begin + count


class HostTarget:
    """Memory of this process as the target, `into` at least as long as the plan; for machines without a GPU."""

    def __init__(self, into: memoryview) -> None:
        self._into = into

    def lane(self, size: int) -> HostLane:
        return HostLane(self._into, size)


class HostLane:
    def __init__(self, into: memoryview, size: int) -> None:
        self._into = into
        self._buffer = memoryview(bytearray(size))

    def buffer(self) -> memoryview:
        return self._buffer

    def put(self, pieces: Sequence[tuple[int, int, int]]) -> None:
        for skip, offset, count in pieces:
            self._into[offset : offset + count] = self._buffer[skip : skip + count]

    def finish(self) -> None: ...


def bind_parameters(module: Any, planned: WeightPlan, memory: Any) -> None:
    """Turn each parameter of a torch module into a view into `memory`, uint8[planned.size] on any device.

    The module's parameters may be on `meta`. Raises WeightsFileError for what is missing or has another shape.
    """
    import torch

    for owner, prefix in ((owner, f"{name}." if name else "") for name, owner in module.named_modules()):
        for name, parameter in list(owner.named_parameters(recurse=False)):
            slot = planned.slots.get(prefix + name)
            if slot is None:
                raise WeightsFileError(f"the weights lack {prefix}{name}")
            if slot.shape != tuple(parameter.shape):
                raise WeightsFileError(f"{prefix}{name} has the shape {slot.shape}, {tuple(parameter.shape)} is needed")
            values = memory[slot.offset : slot.offset + slot.size].view(torch_type(slot.dtype)).view(slot.shape)
            owner.register_parameter(name, torch.nn.Parameter(values, requires_grad=False))


def torch_type(name: str) -> Any:
    import torch

    names = {"BF16": "bfloat16", "F16": "float16", "F32": "float32", "F64": "float64", "U8": "uint8", "BOOL": "bool"}
    return getattr(torch, names.get(name, f"int{name[1:]}"))


def build_without_weights(module: Callable[[], Any]) -> Any:
    """Return what `module()` builds, its parameters without memory (on `meta`) and its buffers as they are.

    That takes a tenth of a second for a large model, which would otherwise be filled with random numbers first.
    """
    import torch

    register = torch.nn.Module.register_parameter

    def without(owner: Any, name: str, parameter: Any) -> None:
        if parameter is not None:
            parameter = torch.nn.Parameter(parameter.to("meta"), requires_grad=False)
        register(owner, name, parameter)

    torch.nn.Module.register_parameter = without  # type: ignore[method-assign, assignment]
    try:
        return module()
    finally:
        torch.nn.Module.register_parameter = register  # type: ignore[method-assign]
