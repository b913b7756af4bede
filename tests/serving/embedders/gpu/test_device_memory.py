"""The bookkeeping of an address range; its memory is a GPU's, and tested there (tests/gpu)."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from serving.embedders.gpu.device_memory import AddressRange, DriverError, unwrap_result


class Recorded(AddressRange):
    """Records what would be mapped, and fails when asked to."""

    def __init__(self) -> None:
        self._grain = 10
        self._parts = []
        self._handles = []
        self.mapped: dict[int, int] = {}
        self.room = 1_000

    def _map(self, at: int, size: int) -> None:
        if sum(self.mapped.values()) + size > self.room:
            raise MemoryError
        self.mapped[at] = size
        self._handles.append(at)

    def _unmap(self, at: int, size: int, handle: Any) -> None:
        assert handle == at and self.mapped.pop(at) == size


def test_a_range_grows_by_whole_grains_and_shrinks_by_whole_pieces() -> None:
    memory = Recorded()
    for size in (15, 12, 41, 55):
        memory.grow(size)
    assert memory.mapped == {0: 20, 20: 30, 50: 10} and memory.size == 60
    memory.shrink(45)
    assert memory.mapped == {0: 20, 20: 30} and memory.size == 50


def test_what_is_released_comes_back_under_the_same_addresses_or_not_at_all() -> None:
    memory = Recorded()
    memory.grow(20)
    memory.grow(50)
    before = dict(memory.mapped)
    memory.release()
    memory.release()
    assert memory.mapped == {} and memory.size == 50
    memory.room = 30
    with pytest.raises(MemoryError):
        memory.restore()
    assert memory.mapped == {}, "the first piece was given back"
    memory.room = 1_000
    memory.restore()
    memory.restore()
    assert memory.mapped == before


def test_a_status_of_the_driver_is_an_error_or_goes() -> None:
    assert unwrap_result((0,)) == [] and unwrap_result((0, 5)) == 5 and unwrap_result((0, 5, 6)) == [5, 6]

    class Status(SimpleNamespace):
        def __int__(self) -> int:
            return 2

    with pytest.raises(DriverError, match="CUDA_ERROR_OUT_OF_MEMORY"):
        unwrap_result((Status(name="CUDA_ERROR_OUT_OF_MEMORY"), None))
