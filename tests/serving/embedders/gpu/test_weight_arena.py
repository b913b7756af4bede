"""Weights in one address range: what needs no GPU of it. The rest is in tests/gpu."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from serving.embedders.gpu.weight_arena import (
    ALIGNED,
    WeightPlan,
    WeightsError,
    bind_parameters,
    build_without_weights,
    digest_files,
    fill_weights,
    plan_weights,
    read_header,
    stamp_file,
)
from tests.support.host_memory import HostLane

Tensors = Mapping[str, np.ndarray]
RNG = np.random.default_rng(7)


def written(path: Path, tensors: Tensors, cut: int = 0) -> Path:
    """A safetensors file of float32 and uint8 arrays; the format is a length, JSON, and the data."""
    header, data = {}, b""
    for name, values in tensors.items():
        kind = {"float32": "F32", "uint8": "U8"}[values.dtype.name]
        header[name] = {"dtype": kind, "shape": values.shape, "data_offsets": [len(data), len(data) + values.nbytes]}
        data += values.tobytes()
    text = json.dumps({"__metadata__": {"format": "pt"}, **header}).encode()
    whole = len(text).to_bytes(8, "little") + text + data
    path.write_bytes(whole[: len(whole) - cut])
    return path


def test_types_of_later_releases_are_refused_when_they_are_to_be_loaded(tmp_path: Path) -> None:
    path = written(tmp_path / "a", {"t": RNG.integers(0, 255, 64, dtype=np.uint8)})
    path.write_bytes(path.read_bytes().replace(b'"U8"', b'"F4"'))
    assert [entry[3] for entry in read_header(path)] == ["F4"]
    with pytest.raises(WeightsError, match="t has the type F4, which this release cannot load"):
        plan_weights([path])


def drawn(*sizes: int) -> dict[str, np.ndarray]:
    return {f"t{number}": RNG.integers(0, 255, size, dtype=np.uint8) for number, size in enumerate(sizes)}


def filled(found: WeightPlan, chunk: int, threads: int = 3) -> bytearray:
    memory = bytearray(found.size)
    assert fill_weights(found, partial(HostLane, memoryview(memory)), found.split_chunks(chunk), threads) > 0
    assert sum(count for part in found.split_chunks(chunk) for *_, count in part.pieces) == sum(
        slot.size for slot in found.slots.values()
    )
    return memory


@pytest.mark.parametrize("chunk", [64, 1000, 4096, 1 << 20])
def test_every_tensor_arrives_whatever_the_chunks(tmp_path: Path, chunk: int) -> None:
    first, second = drawn(1, 999, 4096, 20_000), {"other": RNG.integers(0, 255, (7, 33), dtype=np.uint8)}
    found = plan_weights([written(tmp_path / "a", first), written(tmp_path / "b", second)])
    memory = filled(found, chunk)
    for name, values in {**first, **second}.items():
        slot = found.slots[name]
        assert slot.offset % ALIGNED == 0
        assert memory[slot.offset : slot.offset + slot.size] == values.tobytes(), name
    assert all(piece.size <= chunk for piece in found.split_chunks(chunk))


def test_tensors_that_belong_together_follow_each_other(tmp_path: Path) -> None:
    tensors = {name: RNG.integers(0, 255, (3, 50), dtype=np.uint8) for name in ("k", "between", "v", "q")}
    found = plan_weights([written(tmp_path / "a", tensors)], together=[["q", "k", "v"], ["absent", "k"]])
    memory, begin = filled(found, 128), found.slots["q"].offset
    assert memory[begin : begin + 450] == b"".join(tensors[name].tobytes() for name in "qkv")


def test_names_may_be_others_and_tensors_left_out(tmp_path: Path) -> None:
    found = plan_weights([written(tmp_path / "a", drawn(10, 20))], lambda name: None if name == "t0" else "own")
    assert list(found.slots) == ["own"]
    with pytest.raises(WeightsError, match="twice"):
        plan_weights([tmp_path / "a"], lambda name: "one")


def test_file_that_is_cut_short_is_refused_before_and_while_it_is_used(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="damaged"):
        plan_weights([written(tmp_path / "short", drawn(1000), cut=1)])
    path = written(tmp_path / "a", drawn(100_000))
    found = plan_weights([path])
    os.truncate(path, path.stat().st_size - 10)
    with pytest.raises(WeightsError, match="changed while it was in use"):
        filled(found, 4096)
    # Cut between the check and the read: what the plan knows of the file is what is there now.
    cut = replace(found, stamps=(stamp_file(path),))
    with pytest.raises(WeightsError, match="cut short"):
        filled(cut, 4096)


def test_file_that_was_changed_or_deleted_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path / "a", drawn(5000))
    found = plan_weights([path])
    filled(found, 512)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(WeightsError, match="changed"):
        filled(found, 512)
    path.unlink()
    with pytest.raises(WeightsError, match="cannot be read"):
        filled(found, 512)


@pytest.mark.parametrize(
    "content", [b"", b"\0" * 8, b"\x10" + b"\0" * 7 + b"not json at all!", (2**62).to_bytes(8, "little")]
)
def test_what_is_no_safetensors_file_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a").write_bytes(content)
    with pytest.raises(WeightsError, match="damaged"):
        plan_weights([tmp_path / "a"])


def test_digest_is_of_every_byte_and_of_the_order(tmp_path: Path) -> None:
    a, b = written(tmp_path / "a", drawn(40 * 1024 * 1024)), written(tmp_path / "b", drawn(10))
    one = digest_files([a, b], 1)
    assert one == digest_files([a, b], 4) != digest_files([b, a], 4)
    with a.open("r+b") as stream:
        stream.seek(20 * 1024 * 1024)
        byte = stream.read(1)[0]
        stream.seek(20 * 1024 * 1024)
        stream.write(bytes([byte ^ 1]))
    assert digest_files([a, b], 4) != one
    with pytest.raises(WeightsError):
        digest_files([tmp_path / "absent"], 1)


def test_any_torch_module_takes_its_weights_from_the_range(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")

    def made() -> object:
        return torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.BatchNorm1d(16), torch.nn.Linear(16, 4))

    reference = made()
    tensors = {name: value.detach().numpy() for name, value in reference.named_parameters()}  # type: ignore[attr-defined]
    found = plan_weights([written(tmp_path / "a", tensors)])
    module = build_without_weights(made)
    assert all(value.is_meta for value in module.parameters())
    assert not any(value.is_meta for value in module.buffers())
    memory = torch.zeros(found.size, dtype=torch.uint8)
    bind_parameters(module, found, memory)
    addresses = {name: value.data_ptr() for name, value in module.named_parameters()}
    fill_weights(found, partial(HostLane, memoryview(memory.numpy())), found.split_chunks(256), 2)
    values = torch.rand(5, 8)
    assert torch.equal(module.eval()(values), reference.eval()(values))  # type: ignore[attr-defined]
    assert {name: value.data_ptr() for name, value in module.named_parameters()} == addresses
    with pytest.raises(WeightsError, match="lack"):
        bind_parameters(torch.nn.Linear(8, 16), found, memory)
    with pytest.raises(WeightsError, match="shape"):
        bind_parameters(torch.nn.Sequential(torch.nn.Linear(4, 16)), found, memory)
