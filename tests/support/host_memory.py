"""Memory of this process that weights are read into, in place of a GPU's."""

from __future__ import annotations

from collections.abc import Sequence


class HostLane:
    """The buffer of one thread; `into` is at least as long as the plan."""

    def __init__(self, into: memoryview, size: int) -> None:
        self._into = into
        self._buffer = memoryview(bytearray(size))

    def buffer(self) -> memoryview:
        return self._buffer

    def put(self, pieces: Sequence[tuple[int, int, int]]) -> None:
        for skip, offset, count in pieces:
            self._into[offset : offset + count] = self._buffer[skip : skip + count]

    def finish(self) -> None: ...
