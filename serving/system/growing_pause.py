"""Compute how long to wait before a process that keeps ending is started again."""

from __future__ import annotations

from collections.abc import Sequence

LASTING_S = 60.0
"""A process that ran for so long did not end because of its start."""


class GrowingPause:
    """The pause before the next start, which grows with each early end in a row."""

    def __init__(self, seconds: Sequence[float]) -> None:
        """`seconds`: the pauses after the first, second, ... early end in a row; the last one from then on."""
        self._seconds = seconds
        self._ends = 0

    def reset(self) -> None:
        self._ends = 0

    def next_after(self, lived_s: float) -> float:
        """Return the seconds to wait after an end; `lived_s`: how long the process ran."""
        if lived_s >= LASTING_S:
            self.reset()
        self._ends += 1
        return self._seconds[min(self._ends, len(self._seconds)) - 1]
