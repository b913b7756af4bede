"""Estimates how long the pages of a job still take, from how long the last ones took. Pure: the caller has the clock.

One worker adds the pages of all jobs. So the time from one finished page to the next, whichever jobs they are of, is
what the latter has cost: a lap. A job is done when its own pages are, and those that other jobs get in between.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

WINDOW = 24
"""The last pages of a kind that count: a server that has become slower shows within so many."""
FEWEST = 4
"""Pages before the first estimate: they end a few at once, so that a single lap says nothing."""


class Laps:
    """The time between the pages of all jobs."""

    def __init__(self) -> None:
        self._last: float | None = None

    def restart(self) -> None:
        """Let the next page, which may have waited for its worker to start, count for nothing."""
        self._last = None

    def lap(self, now: float) -> float | None:
        """Return the seconds since the page before; None for the first one."""
        before, self._last = self._last, now
        return None if before is None else now - before


class PageCosts:
    """What the last pages of each kind have cost: a text layer is read much sooner than a picture."""

    def __init__(self) -> None:
        self._laps: dict[str, deque[float]] = defaultdict(lambda: deque(maxlen=WINDOW))
        self._count = 0

    def record(self, kind: str, seconds: float) -> None:
        self._laps[kind].append(seconds)
        self._count += 1

    @property
    def has_enough(self) -> bool:
        return self._count >= FEWEST

    def find_cost(self, kind: str) -> float | None:
        """Return the seconds of one page of this kind; None where none was seen."""
        laps = self._laps.get(kind)
        return sum(laps) / len(laps) if laps else None

    def estimate(self, left: Mapping[str, int], others: PageCosts | None = None) -> float:
        """Return the seconds of the pages that are left, by kind. `others` knows kinds that have not come here yet."""
        seen = [cost for kind in self._laps if (cost := self.find_cost(kind)) is not None]
        mean = sum(seen) / len(seen) if seen else 0.0
        total = 0.0
        for kind, pages in left.items():
            found = self.find_cost(kind)
            if found is None and others is not None:
                found = others.find_cost(kind)
            total += pages * (mean if found is None else found)
        return total


@dataclass(frozen=True, slots=True)
class WorkLeft:
    """What is left of a job: pages, the seconds that they cost, and the share of turns that it gets."""

    pages: int
    seconds: float
    share: float


def estimate_seconds_left(own: WorkLeft, others: Sequence[WorkLeft]) -> float:
    """Return the seconds until a job is done, while others get their turns in between, until they are done."""
    return own.seconds + sum(find_part(own, other) * other.seconds for other in others)


def find_part(own: WorkLeft, other: WorkLeft) -> float:
    """Return which part of another job is done before this one."""
    turns = own.pages * other.share / own.share if own.share else 0.0
    return min(1.0, turns / other.pages) if other.pages else 0.0
