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
from contextlib import contextmanager
from dataclasses import dataclass, replace
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
SIZES = {
    "BF16": 2, "F16": 2, "F32": 4, "F64": 8, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1, "BOOL": 1,
    "F8_E4M3": 1, "F8_E5M2": 1, "U16": 2, "U32": 4, "U64": 8,
}  # fmt: skip
"""Bytes of one value (the format's own names)."""


class WeightsError(ServingError):
    """The weights cannot be used; the message says what to do."""

    code = "weights"


@contextmanager
def raise_weights_errors(file: Path) -> Iterator[None]:
    """Raise WeightsError for what the system says about a file."""
    try:
        yield
    except OSError as error:
        raise WeightsError(f"{file} cannot be read: {error.strerror}") from None


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

    def split_chunks(self, size: int = CHUNK) -> list[Chunk]:
        """Return every byte of every tensor once, file by file: large tensors take many chunks, small ones share."""
        parts: dict[tuple[int, int], list[tuple[int, int, int]]] = {}
        for slot in sorted(self.slots.values(), key=lambda slot: (slot.file, slot.begin)):
            at, end = slot.begin, slot.begin + slot.size
            while at < end:
                upto = min(end, (at // size + 1) * size)
                pieces, offset = parts.setdefault((slot.file, at // size), []), slot.offset + at - slot.begin
                first, place, count = pieces[-1] if pieces else (at, offset, 0)
                if (first + count, place + count) == (at, offset):  # it follows the last piece in both places
                    pieces[-1:] = [(first, place, count + upto - at)]
                else:
                    pieces.append((at, offset, upto - at))
                at = upto
        found = []
        for (file, _), pieces in parts.items():
            first, (last, _, length) = pieces[0][0], pieces[-1]
            moved = tuple((begin - first, offset, count) for begin, offset, count in pieces)
            found.append(Chunk(file, first, last + length - first, moved))
        return found

    def check_files(self) -> None:
        """Raise WeightsError if a file has changed since the plan was made."""
        for path, known in zip(self.files, self.stamps, strict=True):
            if stamp_file(path) != known:
                raise WeightsError(f"{path} was changed while it was in use: start again with what is there now")


def plan_weights(
    files: Sequence[Path],
    names: Callable[[str], str | None] = lambda name: name,
    together: Sequence[Sequence[str]] = (),
) -> WeightPlan:
    """Plan one address range for the tensors of safetensors files.

    `names` maps a tensor's name to its name in the plan, or to None to leave it out. `together`: names of tensors that
    follow each other without a gap, so that they can be used as one. Raises WeightsError.
    """
    found: dict[str, TensorSlot] = {}
    stamps = tuple(stamp_file(file) for file in files)
    for number, file in enumerate(files):
        for name, begin, size, dtype, shape in read_header(file):
            known = names(name)
            if known in found:
                raise WeightsError(f"{file}: {name} is there twice")
            if known is not None and dtype not in SIZES:
                raise WeightsError(f"{file}: {name} has the type {dtype}, which this release cannot load")
            if known is not None:
                found[known] = TensorSlot(number, begin, size, 0, dtype, shape)
    follows = {group[0]: [name for name in group if name in found] for group in together if group[0] in found}
    later = {name for group in follows.values() for name in group[1:]}
    slots: dict[str, TensorSlot] = {}
    at = 0
    for name in sorted(found.keys() - later, key=lambda name: (found[name].file, found[name].begin)):
        at = -(-at // ALIGNED) * ALIGNED
        for member in follows.get(name, [name]):
            slots[member] = replace(found[member], offset=at)
            at += slots[member].size
    return WeightPlan(tuple(files), stamps, slots, at)


def read_header(file: Path) -> Iterator[tuple[str, int, int, str, tuple[int, ...]]]:
    """Yield name, position, bytes, type, shape of each tensor (8 bytes of length, JSON, data). Raises WeightsError."""
    try:
        with raise_weights_errors(file), file.open("rb") as stream:
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
                size = SIZES.get(about["dtype"])
                if size is not None and end - begin != math.prod(shape) * size:
                    raise ValueError(f"{name} has another size than its shape")
                yield name, 8 + length + begin, end - begin, about["dtype"], shape
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise WeightsError(f"{file} is damaged ({error}): download the weights again") from None


def stamp_file(file: Path) -> str:
    """Return the file's stamp. Raises WeightsError."""
    with raise_weights_errors(file):
        return file_stamp(file)


def digest_files(files: Sequence[Path], threads: int) -> str:
    """Return the SHA-256 over the SHA-256 of each 16 MiB of the files, in order. Raises WeightsError.

    With `threads` it is as fast as memory; one hash over all would take five seconds for 8.6 GB.
    """

    def digest_part(file: Path, begin: int) -> bytes:
        with raise_weights_errors(file), file.open("rb") as stream:
            stream.seek(begin)
            return hashlib.sha256(stream.read(HASHED)).digest()

    parts: list[tuple[Path, int]] = []
    for file in files:
        with raise_weights_errors(file):
            parts += [(file, begin) for begin in range(0, max(1, file.stat().st_size), HASHED)]
    with ThreadPoolExecutor(threads) as pool:
        return hashlib.sha256(b"".join(pool.map(digest_part, *zip(*parts, strict=True)))).hexdigest()


class FillLane(Protocol):
    """The buffers of one thread, used in turn."""

    def buffer(self) -> memoryview:
        """Return a buffer that is free to be written into."""

    def put(self, pieces: Sequence[tuple[int, int, int]]) -> None:
        """Copy parts of that buffer to their offsets; may return before it is done."""

    def finish(self) -> None:
        """Return when all copies are done."""


def fill_weights(
    plan: WeightPlan, make_lane: Callable[[int], FillLane], chunks: Sequence[Chunk], threads: int
) -> float:
    """Copy every chunk into its place, and return the seconds that it took.

    `make_lane` returns the buffers of one thread for chunks of so many bytes, and is called in that thread; `chunks`
    are the plan's. Raises WeightsError after a partial fill.
    """
    began = time.perf_counter()
    plan.check_files()
    files = [os.open(path, os.O_RDONLY) for path in plan.files]
    waiting = iter(chunks)
    largest = max((chunk.size for chunk in chunks), default=0)
    taking = threading.Lock()

    def work() -> None:
        lane = make_lane(largest)
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
    return time.perf_counter() - began


def read_exactly(descriptor: int, into: memoryview, begin: int, path: Path) -> None:
    """Fill `into` from position `begin` of a file. Raises WeightsError if the file ends before."""
    while into:
        try:  # not raise_weights_errors: thousands of these calls are part of each wake
            count = os.preadv(descriptor, [into], begin)
        except OSError as error:
            raise WeightsError(f"{path} cannot be read: {error.strerror}") from None
        if not count:
            raise WeightsError(f"{path} was cut short while it was in use: download the weights again")
        into, begin = into[count:], begin + count


def bind_parameters(module: Any, planned: WeightPlan, memory: Any) -> None:
    """Turn each parameter of a torch module into a view into `memory`, uint8[planned.size] on any device.

    The module's parameters may be on `meta`. Raises WeightsError for what is missing or has another shape.
    """
    import torch

    types = {"BF16": "bfloat16", "F16": "float16", "F32": "float32", "F64": "float64", "U8": "uint8", "BOOL": "bool"}
    for owner, prefix in ((owner, f"{name}." if name else "") for name, owner in module.named_modules()):
        for name, parameter in list(owner.named_parameters(recurse=False)):
            slot = planned.slots.get(prefix + name)
            if slot is None:
                raise WeightsError(f"the weights lack {prefix}{name}")
            if slot.shape != tuple(parameter.shape):
                raise WeightsError(f"{prefix}{name} has the shape {slot.shape}, {tuple(parameter.shape)} is needed")
            kind = getattr(torch, types.get(slot.dtype, f"int{slot.dtype[1:]}"))
            values = memory[slot.offset : slot.offset + slot.size].view(kind).view(slot.shape)
            owner.register_parameter(name, torch.nn.Parameter(values, requires_grad=False))


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
