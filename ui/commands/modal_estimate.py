"""What a job by a server on Modal takes and costs: before it starts, from the speed of an earlier one, and after it.

The speed is measured here or given by the caller, never assumed: a first job says so, and estimates once it has begun.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, TypeAdapter

from bench.cost.fleet import Fleet
from bench.cost.ingest import Ingest, simulate_ingest
from bench.cost.prices import LISTED, Price, price_machine
from serving.cloud.server_shape import ServerShape
from serving.system.files import write_file
from ui.components.wording import format_count, format_day, format_duration
from ui.servers.container_usage import Usage

KEPT = 20
"""Jobs that the data folder remembers of a server."""
FEWEST = 20
"""A job of fewer pages says nothing of the speed of the next one: its containers have hardly begun."""


class JobRecord(BaseModel):
    """A job that has ended, as the data folder remembers it."""

    model_config = ConfigDict(frozen=True)

    at: float
    gpu: str
    pages: int
    seconds: float
    containers: int
    least_s: float
    most_s: float | None


RECORDS = TypeAdapter(tuple[JobRecord, ...])


class JobHistory:
    """The last jobs of one server, in the data folder."""

    def __init__(self, folder: Path, app: str) -> None:
        self._path = folder / f"modal-jobs-{app}.json"

    def read(self) -> tuple[JobRecord, ...]:
        """Return the jobs, the newest last; none where the file cannot be read."""
        with suppress(OSError, ValueError):
            return RECORDS.validate_json(self._path.read_bytes())
        return ()

    def add(self, record: JobRecord) -> None:
        """Remember a job, if that can be written."""
        with suppress(OSError):
            write_file(self._path, RECORDS.dump_json((*self.read(), record)[-KEPT:]))


@dataclass(frozen=True)
class Speed:
    """Pages a second that one container embeds, and who says so."""

    per_s: float
    source: str


def find_speed(records: Sequence[JobRecord], gpu: str, given: float | None) -> Speed | None:
    """Return the speed that was given, or else that of the last job on this GPU; None where there is neither."""
    if given is not None:
        return Speed(given, "given by --pages-per-s")
    for record in reversed(records):
        if record.gpu == gpu and record.pages >= FEWEST and record.least_s > 0:
            pages = format_count(record.pages, "page")
            return Speed(record.pages / record.least_s, f"measured with {pages} on {format_day(record.at)}")
    return None


@dataclass(frozen=True)
class Plan:
    """A job before it starts."""

    app: str
    pages: int
    are_all: bool
    """False where zips or files have pages that are counted only when they are opened."""
    containers: int
    limit: int | None
    shape: ServerShape
    window_s: float
    starts_s: tuple[float, ...]
    """Measured seconds of the server's last starts."""
    speed: Speed | None

    @property
    def price(self) -> Price | None:
        """Return the list's price of a container; None for a GPU that the list has not."""
        with suppress(ValueError):
            return price_machine(self.shape.gpu, None, self.shape.cores, self.shape.memory_gib, LISTED)
        return None

    def estimate(self, pages: int, speed: Speed, starts_s: Sequence[float]) -> tuple[float, float]:
        """Return how long so many pages take, and the container-seconds, both by the bench's simulation."""
        fleet = Fleet(self.containers, self.shape.requests, self.window_s)
        found = simulate_ingest(Ingest(max(1, pages), speed.per_s), fleet, starts_s or (0.0,), 0)
        return found.took_s, sum(found.sum_seconds().values())

    def describe(self) -> list[str]:
        """Return what a person is asked about."""
        pages = ("" if self.are_all else "at least ") + format_count(self.pages, "page")
        held = self.containers * self.shape.requests
        raised = self.limit is not None and self.limit < self.containers
        limit = f" (its limit is {self.limit} now, and is put back at the end)" if raised else ""
        most = f"at most {format_count(self.containers, 'container')}{limit}, {format_count(held, 'page')} at once"
        price = self.price
        machine = "no list price is known" if price is None else str(price)
        lines = [f"{pages} to {self.app}: {most}", f"a container is {self.shape.gpu}: {machine}"]
        if self.speed is not None:
            return [*lines, self.describe_estimate(self.pages, self.speed)]
        hour = "" if price is None else f"; an hour of all containers is ${price.per_hour * self.containers:,.2f}"
        return [
            *lines,
            f"how long it takes is not known before the first {FEWEST} pages are in: no earlier job, and no"
            f" --pages-per-s{hour}",
        ]

    def describe_estimate(self, pages: int, speed: Speed, starts: bool = True) -> str:
        took_s, container_s = self.estimate(pages, speed, self.starts_s if starts else ())
        with_starts = "" if not starts or self.starts_s else ", without starts, of which none is known"
        return (
            f"estimate, at {speed.per_s:,.2f} pages/s a container ({speed.source}){with_starts}:"
            f" {format_duration(took_s)}, {container_s:,.0f} container-seconds{self.format_cost(container_s, pages)}"
        )

    def format_cost(self, container_s: float, pages: int) -> str:
        """Return dollars in all and for 1,000 pages; nothing without a price."""
        if self.price is None or not pages:
            return ""
        dollars = container_s * self.price.per_s
        return f", ${dollars:,.4f}, ${1000 * dollars / pages:,.4f} for 1,000 pages"


@dataclass(frozen=True)
class Outcome:
    """A job that has ended, in whatever way."""

    plan: Plan
    pages: int
    seconds: float
    usage: Usage

    def as_record(self) -> JobRecord:
        usage = self.usage
        return JobRecord(
            at=time.time(), gpu=self.plan.shape.gpu, pages=self.pages, seconds=self.seconds,
            containers=usage.containers, least_s=usage.least_s, most_s=usage.most_s,
        )  # fmt: skip

    def describe(self) -> list[str]:
        usage, plan = self.usage, self.plan
        least = f"at least {usage.least_s:,.1f} container-seconds{plan.format_cost(usage.least_s, self.pages)}"
        most = "at most: not known, Modal's counts could not be read"
        if usage.most_s is not None:
            most = f"at most {usage.most_s:,.1f} container-seconds{plan.format_cost(usage.most_s, self.pages)}"
        lines = [
            f"{format_count(self.pages, 'page')} in {format_duration(self.seconds)},"
            f" {self.pages / self.seconds:,.2f} pages/s, by {format_count(usage.containers, 'container')}",
            f"  {least} (from each one's first answer to its last)",
            f"  {most} (Modal's counts, with starts and the window of {plan.window_s:g} s at the end)",
        ]
        if plan.speed is not None:
            lines.append(f"  {plan.describe_estimate(plan.pages, plan.speed)}")
        return lines

    def as_fields(self) -> dict[str, object]:
        """Return the fields of the summary."""
        usage, price = self.usage, self.plan.price
        bounds = {"least": usage.least_s, "most": usage.most_s}
        fields: dict[str, object] = {
            "seconds": round(self.seconds, 3),
            "pages_per_s": round(self.pages / self.seconds, 3),
            "containers": usage.containers,
        }
        for name, value in bounds.items():
            fields[f"container_seconds_{name}"] = None if value is None else round(value, 3)
            known = value is not None and price is not None and self.pages
            fields[f"dollars_per_1000_{name}"] = (
                round(1000 * value * price.per_s / self.pages, 6) if known and value and price else None
            )
        return fields
