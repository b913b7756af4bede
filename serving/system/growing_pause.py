"""How long to wait before something that keeps ending is started again."""

from __future__ import annotations

from collections.abc import Sequence

LASTING_S = 60.0
"""What ran for so long did not end because it was started."""


class GrowingPause:
    def __init__(self, seconds: Sequence[float]) -> None:
        """`seconds`: after the first, second, ... end in a row that came too soon; the last one from then on."""
        self._seconds = seconds
        self._ends = 0

    def reset(self) -> None:
        self._ends = 0

    def next_after(self, lived_s: float) -> float:
        """Return the seconds to wait, now that it has ended after `lived_s`."""
        if lived_s >= LASTING_S:
            self.reset()
        self._ends += 1
        return self._seconds[min(self._ends, len(self._seconds)) - 1]
