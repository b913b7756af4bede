"""A fleet that scales to zero, simulated event by event: who waits how long for which traffic, and what it costs.

With one container the rules are the local engine's: requests at zero cause one start; what comes meanwhile waits for
it and then runs, `concurrency` at once; the idle timer runs from the last answer; a request at the very end of the
window is served by the container that is there. With more, one is started when those up and starting cannot take all
requests there are, and the place freed last is taken first, so that the others idle out.

Not known here: requests that give up (the engine's after 150 s) or are refused, starts that fail, service that slows
down when requests run at once, the moment that a container takes to go, and how Modal's own scheduler decides.
"""

from __future__ import annotations

import argparse
import heapq
import json
import math
import random
import sys
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from bench import arrivals, prices
from bench.arrivals import MOST_BYTES, check_arrivals, draw_bursts, draw_poisson, resolve_span
from bench.options import float_between, int_between, parse_seed
from bench.prices import DAY_S, MONTH_S, Price, check_range

DONE, READY, ARRIVAL, EXPIRED = range(4)
"""In their order at one moment: a request that comes as a container is ready did not wait for it, and one that comes
as the window ends is still served."""


@dataclass(frozen=True)
class Fleet:
    max_containers: int = 1
    concurrency: int = 1
    """Requests that a container has at once."""
    window_s: float = 60.0
    buffer_containers: int = 0
    """Up beyond what the requests of now need, as long as there are any; Modal's word."""

    def __post_init__(self) -> None:
        check_range("containers", self.max_containers, 1, 10_000)
        check_range("concurrency", self.concurrency, 1, 10_000)
        check_range("seconds of the scaledown window", self.window_s, 0.0, MONTH_S)
        check_range("buffer containers", self.buffer_containers, 0, 10_000)


@dataclass(frozen=True)
class ContainerUsage:
    """One container, in seconds."""

    began: float
    ended: float
    starting_s: float
    serving_s: float
    """With at least one request in it."""
    idle_s: float


@dataclass(frozen=True)
class Simulation:
    latencies_s: list[float]
    """Of each arrival, in their order."""
    waited: int
    """Requests that were there before the container that served them was ready."""
    lives: list[ContainerUsage]
    span_s: float
    """What the arrivals are the traffic of."""

    @property
    def cold_starts(self) -> int:
        return len(self.lives)

    @property
    def cold_share(self) -> float:
        return self.waited / len(self.latencies_s)

    def seconds(self) -> dict[str, float]:
        """Of all containers together."""
        return {
            "starting": sum(life.starting_s for life in self.lives),
            "serving": sum(life.serving_s for life in self.lives),
            "idle": sum(life.idle_s for life in self.lives),
        }

    def cost(self, price: Price) -> float:
        """Dollars, for the traffic that was simulated."""
        return sum(self.seconds().values()) * price.per_s

    def percentile(self, percent: float) -> float:
        return float(np.percentile(self.latencies_s, percent))


@dataclass(eq=False, slots=True)
class Container:
    began: float
    ready: float
    since: float
    """Of being idle, or of serving."""
    in_flight: int = 0
    serving_s: float = 0.0
    idle_s: float = 0.0
    timed: bool = False
    """An event that ends its window is under way."""
    gone: bool = False


@dataclass
class Simulator:
    fleet: Fleet
    service: list[float]
    """Of each request, in the order in which they begin."""
    starts: Sequence[float]
    draws: random.Random
    events: list[tuple[float, int, int, Container]] = field(default_factory=list)
    queue: deque[tuple[float, int]] = field(default_factory=deque)
    free: list[Container] = field(default_factory=list)
    """Once for each free place; the last is taken first. May name some that are gone."""
    kept: list[Container] = field(default_factory=list)
    """Idle beyond their window, as a buffer."""
    lives: list[ContainerUsage] = field(default_factory=list)
    load: int = 0
    """Requests that run or wait."""
    up: int = 0
    """Containers, those that start included."""
    waited: int = 0
    pushed: int = 0
    peak: int = 0
    """The highest load since `turned`, which is at most about a window ago, and in the stretch before it."""
    peak_before: int = 0
    turned: float = -math.inf

    def __post_init__(self) -> None:
        self.latencies = [0.0] * len(self.service)

    def push(self, moment: float, kind: int, container: Container) -> None:
        self.pushed += 1
        heapq.heappush(self.events, (moment, kind, self.pushed, container))

    def go(self, arrivals: Sequence[float]) -> None:
        events, handlers = self.events, {DONE: self.done, READY: self.ready, EXPIRED: self.expired}
        for number, now in enumerate(arrivals):
            while events and events[0] < (now, ARRIVAL):
                moment, kind, _, container = heapq.heappop(events)
                handlers[kind](moment, container)
            self.arrive(now, number)
        while events:
            moment, kind, _, container = heapq.heappop(events)
            handlers[kind](moment, container)

    def arrive(self, now: float, number: int) -> None:
        self.load += 1
        if now > self.turned + self.fleet.window_s:
            self.turned, self.peak_before, self.peak = now, self.peak, 0
        self.peak = max(self.peak, self.load)
        free = self.free
        while free and free[-1].gone:
            free.pop()
        if free:
            self.serve(now, free.pop(), now, number)
        else:
            self.queue.append((now, number))
        while self.up < self.wanted(self.load):
            self.up += 1
            ready = now + self.draws.choice(self.starts)
            self.push(ready, READY, Container(now, ready, ready))

    def wanted(self, load: int) -> int:
        needed = -(-load // self.fleet.concurrency) + self.fleet.buffer_containers
        return min(needed, self.fleet.max_containers)

    def serve(self, now: float, container: Container, arrival: float, number: int) -> None:
        if not container.in_flight:
            container.idle_s += now - container.since
            container.since = now
        container.in_flight += 1
        self.waited += arrival < container.ready
        ends = now + self.service[number]
        self.latencies[number] = ends - arrival
        self.push(ends, DONE, container)

    def let_in(self, now: float, container: Container) -> None:
        """To one free place: who waits longest, or nobody."""
        if self.queue:
            self.serve(now, container, *self.queue.popleft())
        else:
            self.free.append(container)

    def done(self, now: float, container: Container) -> None:
        self.load -= 1
        container.in_flight -= 1
        if not container.in_flight:
            container.serving_s += now - container.since
            container.since = now
        self.let_in(now, container)
        self.time(container)
        if not self.load and self.kept:
            for buffer in self.kept:
                if not (buffer.in_flight or buffer.timed or buffer.gone):
                    self.stop(now, buffer)
            self.kept.clear()

    def ready(self, now: float, container: Container) -> None:
        for _ in range(self.fleet.concurrency):
            self.let_in(now, container)
        self.time(container)

    def time(self, container: Container) -> None:
        if not (container.in_flight or container.timed):
            container.timed = True
            self.push(container.since + self.fleet.window_s, EXPIRED, container)

    def expired(self, now: float, container: Container) -> None:
        container.timed = False
        if container.in_flight:
            return
        if container.since + self.fleet.window_s > now:  # it served meanwhile; one event a window is enough
            self.time(container)
        elif self.load and self.fleet.buffer_containers and self.up <= self.wanted(max(self.peak, self.peak_before)):
            # By the peak: by the load of now, a buffer would go in each short lull and be started again after it.
            self.kept.append(container)
        else:
            self.stop(now, container)

    def stop(self, now: float, one: Container) -> None:
        one.gone = True
        self.up -= 1
        idle = one.idle_s + now - one.since
        self.lives.append(ContainerUsage(one.began, now, one.ready - one.began, one.serving_s, idle))


def simulate_fleet(
    fleet: Fleet, arrivals: Sequence[float], service: Sequence[float], starts: Sequence[float], seed: int = 0,
    span_s: float | None = None,
) -> Simulation:  # fmt: skip
    """`arrivals`: seconds, in their order. `service` and `starts`: measured seconds, drawn from by chance.

    The same seed gives the same outcome. Raises ValueError.
    """
    check_arrivals(arrivals)
    for what, samples in (("service times", service), ("start times", starts)):
        if not samples:
            raise ValueError(f"there are no {what}")
        for sample in samples:
            check_range(what, sample, 0.0, DAY_S)
    draws = random.Random(seed)
    run = Simulator(fleet, draws.choices(service, k=len(arrivals)), starts, draws)
    run.go(arrivals)
    return Simulation(run.latencies, run.waited, run.lives, resolve_span(arrivals, span_s))


def read_seconds(text: str) -> list[float]:
    """`0.3,0.31`, or a result file's cold starts. Raises ValueError, and OSError for a file that cannot be read."""
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        return read_starts(Path(text))


def read_starts(path: Path) -> list[float]:
    """Seconds of the starts that a result file's samples prove: verified cold, not the one that made the snapshot.

    Of the target whose figures stand at the top of the file, where it compares several: a fleet comes back in one way.
    `client_ms` holds the request's own time too; the file's median warm answer is taken off where it has one.
    """
    with path.open("rb") as stream:
        content = stream.read(MOST_BYTES + 1)
    if len(content) > MOST_BYTES:
        raise ValueError(f"{path} is larger than {MOST_BYTES:,} bytes")
    try:
        found = json.loads(content)
        warm = found.get("warm_start_p50_ms") or 0.0
        rows = [row for row in found["samples"] if row.get("verified") is True and row.get("outcome", "ok") == "ok"]
        if top := found.get("headline"):
            rows = [row for row in rows if row.get("target") == top]
        cold = [row for row in rows if row.get("start_kind") != "created"]
        told = [check_range("client_ms", float(row["client_ms"]), 0.0, DAY_S * 1000) for row in cold]
        seconds = [max(0.0, took - float(warm)) / 1000 for took in told]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise ValueError(f"{path} is not a result file with samples") from None
    if not seconds:
        raise ValueError(f"{path} has no verified cold starts")
    return seconds


def add_arguments(parser: argparse.ArgumentParser) -> None:
    demand = parser.add_mutually_exclusive_group(required=True)
    demand.add_argument("--requests-per-day", type=float_between(1e-9, 1e9), help="at random moments (Poisson)")
    demand.add_argument("--arrivals", type=Path, metavar="FILE.csv", help="seconds or ISO 8601, one a line")
    replayed = "hold the simulation against a real engine on this machine, 2.5 min"
    demand.add_argument("--validate", action="store_true", help=replayed)
    parser.add_argument(
        "--days", type=float_between(1e-9, 1e13), help="of traffic; default: 30, or whole days of the file"
    )
    parser.add_argument(
        "--burst",
        type=float_between(1, MONTH_S),
        metavar="S",
        help="all requests come in busy stretches of this mean length",
    )
    parser.add_argument(
        "--quiet",
        type=float_between(1, MONTH_S),
        default=3600.0,
        metavar="S",
        help="between them; default: %(default)s",
    )
    parser.add_argument("--starts", metavar="S,S,...|FILE.json", help="measured seconds, or a result file")
    parser.add_argument("--service", metavar="S,S,...", help="measured seconds of a warm request")
    parser.add_argument("--max-containers", type=int_between(1, 10_000), default=1, help="default: %(default)s")
    parser.add_argument(
        "--concurrency", type=int_between(1, 10_000), default=1, help="requests in a container at once; default: 1"
    )
    parser.add_argument(
        "--buffer-containers", type=int_between(0, 10_000), default=0, help="up beyond what is needed; default: 0"
    )
    window = "scaledown window; default: 60, and 3 with --validate"
    parser.add_argument("--window", type=float_between(0, MONTH_S), metavar="S", help=window)
    parser.add_argument("--out", type=Path, help="result of --validate; default: assets/runs/simulate_validation.json")
    parser.add_argument("--seed", type=parse_seed, default=0)
    prices.add_arguments(parser)


def main(options: argparse.Namespace) -> int:
    """Prints one table. 1, with a sentence, for input that cannot be simulated; 2 where some is missing."""
    if options.validate:
        from bench import validation  # it simulates by this module

        return validation.main(options)
    if options.starts is None or options.service is None:
        print("nothing was simulated: name --starts and --service, measured seconds of each", file=sys.stderr)
        return 2
    try:
        cost = prices.choose_price(options)
        window_s = 60.0 if options.window is None else options.window
        fleet = Fleet(options.max_containers, options.concurrency, window_s, options.buffer_containers)
        service, starts = read_seconds(options.service), read_seconds(options.starts)
        arrivals, span_s = load_traffic(options)
        text = render_simulation(simulate_fleet(fleet, arrivals, service, starts, options.seed, span_s), cost)
    except (ValueError, OSError) as error:
        print(f"nothing was simulated: {error}", file=sys.stderr)
        return 1
    print(text)
    return 0


def load_traffic(options: argparse.Namespace) -> tuple[list[float], float | None]:
    """Arrivals, and the seconds they are the traffic of, if that was said."""
    days = options.days
    if options.arrivals is not None:
        if options.burst is not None:
            raise ValueError("--burst draws arrivals: it does not go with a file of them")
        return arrivals.read_arrivals(options.arrivals), None if days is None else days * DAY_S
    days = 30.0 if days is None else days
    if options.burst is None:
        return draw_poisson(options.requests_per_day, days, options.seed), days * DAY_S
    return draw_bursts(options.requests_per_day, days, options.burst, options.quiet, options.seed), days * DAY_S


def render_simulation(found: Simulation, price: Price) -> str:
    count, days = len(found.latencies_s), found.span_s / DAY_S
    lines = [f"{count:,} requests in {days:g} days; {price.gpu} at ${price.per_hour:.3f} an hour ({price.source})"]
    lines.append(f"{found.cold_starts:,} cold starts; {found.cold_share:.1%} of the requests waited for one")
    for percent, least in ((50, 1), (95, 20), (99, 100)):
        weak = f"  weak: fewer than {least} requests" if count < least else ""
        lines.append(f"{f'p{percent}':<12}{found.percentile(percent):>14,.3f} s{weak}")
    lines.append(f"{'longest':<12}{max(found.latencies_s):>14,.3f} s")
    parts = found.seconds()
    lines += [f"{name:<12}{took / 3600:>14,.3f} h{took * price.per_s:>14,.2f} $" for name, took in parts.items()]
    total = sum(parts.values())
    lines.append(f"{'total':<12}{total / 3600:>14,.3f} h{found.cost(price):>14,.2f} $")
    month = found.cost(price) * MONTH_S / found.span_s
    return "\n".join([*lines, f"{'30 days':<12}{total / 3600 * MONTH_S / found.span_s:>14,.3f} h{month:>14,.2f} $"])
