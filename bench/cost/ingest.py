"""Many pages through a fleet at once: how long it takes, and what it costs.

All containers are asked for at the beginning and take pages as soon as they are up; at the end each idles for its
window. What reads the pages (the page's own machine: PDF, OCR, database) may be slower than all of them together, and
they wait for it then. Left out: starts that fail, pages that are sent again, and what Modal's scheduler withholds.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from bench.cost.arrivals import Seconds
from bench.cost.fleet import Fleet
from bench.cost.prices import Price, check_range

MOST_PAGES = 10**12
MOST_PER_S = 1e6


@dataclass(frozen=True)
class Ingest:
    """What is to be done, and how fast."""

    pages: int
    pages_per_s: float
    """That one container embeds."""
    read_per_s: float | None = None
    """Pages that can be read and kept in a second; None: as many as the containers take."""

    def __post_init__(self) -> None:
        check_range("pages", self.pages, 1, MOST_PAGES)
        check_range("pages a second", self.pages_per_s, 1e-6, MOST_PER_S)
        if self.read_per_s is not None:
            check_range("pages read a second", self.read_per_s, 1e-6, MOST_PER_S)


@dataclass(frozen=True)
class IngestOutcome:
    """How an ingest went. Times in seconds; all but `took_s` of all containers together."""

    took_s: float
    """From the first page sent to the last answer."""
    starting_s: float
    embedding_s: float
    idle_s: float
    """Waiting for pages, and the window at the end."""

    def sum_seconds(self) -> dict[str, float]:
        return {"starting": self.starting_s, "embedding": self.embedding_s, "idle": self.idle_s}


def simulate_ingest(ingest: Ingest, fleet: Fleet, starts: Seconds, seed: int) -> IngestOutcome:
    """Return how the ingest goes. `starts`: measured seconds of a start, from which each container's is drawn."""
    draw = random.Random(seed)
    ready = sorted(draw.choice(starts) for _ in range(fleet.max_containers))
    took = find_end(ingest, ready)
    used = [at for at in ready if at < took]  # who is not up by then is not needed
    embedding = ingest.pages / ingest.pages_per_s
    idle = sum(took - at for at in used) - embedding + fleet.window_s * len(ready)
    return IngestOutcome(took, sum(ready), embedding, max(0.0, idle))


def find_end(ingest: Ingest, ready: Sequence[float]) -> float:
    """Return when the last page is embedded; containers are up at the `ready` seconds, in rising order."""
    left = float(ingest.pages)
    for up, at in enumerate(ready, 1):
        rate = up * ingest.pages_per_s
        if ingest.read_per_s is not None:
            rate = min(rate, ingest.read_per_s)
        until = ready[up] if up < len(ready) else None
        if until is None or left <= rate * (until - at):
            return at + left / rate
        left -= rate * (until - at)
    raise ValueError("no container")


def render_ingest(ingest: Ingest, fleet: Fleet, outcome: IngestOutcome, price: Price) -> str:
    parts = outcome.sum_seconds()
    total = sum(parts.values())
    lines = [
        f"{ingest.pages:,} pages, {fleet.max_containers} containers; {price}",
        f"{'takes':<12}{outcome.took_s / 3600:>14,.3f} h",
    ]
    lines += price.list_amounts({**parts, "total": total})
    lines.append(f"{'1,000 pages':<28}{total * price.per_s * 1000 / ingest.pages:>14,.4f} $")
    return "\n".join(lines)
