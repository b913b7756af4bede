"""A fleet that scales to zero, simulated event by event: who waits how long for which traffic, and what it costs.

With one container the rules are the local engine's: requests at zero cause one start; what comes meanwhile waits for
it and then runs, `concurrency` at once; the idle timer runs from the last answer; a request at the very end of the
window is served by the container that is there. With more, one is started when those up and starting cannot take all
requests there are, and the place freed last is taken first, so that the others idle out.

Left out: requests that give up (the engine's after 150 s) or are refused, starts that fail, service that slows down
when requests run at once, the moment that a container takes to go, and how Modal's own scheduler decides.
"""

from __future__ import annotations

import heapq
import math
import random
from collections import deque
from dataclasses import dataclass, field

from bench.cost.arrivals import Seconds, check_arrivals, resolve_span
from bench.cost.prices import DAY_S, MONTH_S, check_range
from bench.results.stats import percentile

DONE, READY, ARRIVAL, EXPIRED = range(4)
"""Kinds of events, in their order at one moment: a request that comes as a container is ready did not wait for it, and
one that comes as the window ends is still served."""


@dataclass(frozen=True)
class Fleet:
    """The limits of a fleet."""

    max_containers: int = 1
    concurrency: int = 1
    """Requests that a container serves at once."""
    window_s: float = 60.0
    buffer_containers: int = 0
    """Containers kept up beyond what the requests need, as long as there are any; Modal's word."""

    def __post_init__(self) -> None:
        check_range("containers", self.max_containers, 1, 10_000)
        check_range("concurrency", self.concurrency, 1, 10_000)
        check_range("seconds of the scaledown window", self.window_s, 0.0, MONTH_S)
        check_range("buffer containers", self.buffer_containers, 0, 10_000)


@dataclass(slots=True)
class Container:
    """A container that is up or starts, or was. Times in seconds."""

    began: float
    ready: float
    since: float
    """When it became idle, or began to serve."""
    in_flight: int = 0
    serving_s: float = 0.0
    """Time with at least one request in it."""
    idle_s: float = 0.0
    is_timed: bool = False
    """An event that ends its window is under way."""
    ended: float = math.inf

    @property
    def starting_s(self) -> float:
        """From its begin until it could serve."""
        return self.ready - self.began


@dataclass(frozen=True)
class Simulation:
    """The outcome of a simulation."""

    latencies_s: list[float]
    """In the order of the arrivals."""
    waited: int
    """Requests that were there before the container that served them was ready."""
    containers: list[Container]
    """In the order in which they ended."""
    span_s: float
    """Seconds that the arrivals are the traffic of."""

    @property
    def cold_starts(self) -> int:
        """Containers that were started."""
        return len(self.containers)

    @property
    def cold_share(self) -> float:
        return self.waited / len(self.latencies_s)

    def sum_seconds(self) -> dict[str, float]:
        """Return the seconds of all containers together, by what they did."""
        parts = ("starting", "serving", "idle")
        return {part: sum(getattr(usage, f"{part}_s") for usage in self.containers) for part in parts}

    def percentile(self, q: float) -> float:
        return percentile(self.latencies_s, q)


@dataclass
class Simulator:
    """The state of a fleet while it is simulated."""

    fleet: Fleet
    service: list[float]
    """Seconds of each request, in the order in which they begin."""
    starts: Seconds
    draws: random.Random
    events: list[tuple[float, int, int, Container]] = field(default_factory=list)
    queue: deque[tuple[float, int]] = field(default_factory=deque)
    free: list[Container] = field(default_factory=list)
    """A container for each free place in it; the last is taken first. May name some that are gone."""
    buffers: list[Container] = field(default_factory=list)
    """Idle beyond their window."""
    stopped: list[Container] = field(default_factory=list)
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

    def run(self, arrivals: Seconds) -> None:
        """Serve all arrivals, and let the fleet go to zero."""
        events = self.events
        handlers = {DONE: self.finish_request, READY: self.open_container, EXPIRED: self.expire_window}
        for number, now in enumerate([*arrivals, math.inf]):
            while events and events[0] < (now, ARRIVAL):
                moment, kind, _, container = heapq.heappop(events)
                handlers[kind](moment, container)
            if now < math.inf:
                self.take_request(now, number)

    def push_event(self, moment: float, kind: int, container: Container) -> None:
        """Have an event happen at a moment, after those pushed earlier for the same one."""
        self.pushed += 1
        heapq.heappush(self.events, (moment, kind, self.pushed, container))

    def take_request(self, now: float, number: int) -> None:
        """Give an arrival a free place or let it wait, and start the containers that are missing."""
        self.load += 1
        if now > self.turned + self.fleet.window_s:
            self.turned, self.peak_before, self.peak = now, self.peak, 0
        self.peak = max(self.peak, self.load)
        free = self.free
        while free and free[-1].ended <= now:
            free.pop()
        if free:
            self.serve_request(now, free.pop(), now, number)
        else:
            self.queue.append((now, number))
        while self.up < self.count_wanted(self.load):
            self.up += 1
            ready = now + self.draws.choice(self.starts)
            self.push_event(ready, READY, Container(now, ready, ready))

    def count_wanted(self, load: int) -> int:
        """Return how many containers this load needs, buffers included."""
        needed = -(-load // self.fleet.concurrency) + self.fleet.buffer_containers
        return min(needed, self.fleet.max_containers)

    def serve_request(self, now: float, container: Container, arrival: float, number: int) -> None:
        if not container.in_flight:
            container.idle_s += now - container.since
            container.since = now
        container.in_flight += 1
        self.waited += arrival < container.ready
        ends = now + self.service[number]
        self.latencies[number] = ends - arrival
        self.push_event(ends, DONE, container)

    def fill_place(self, now: float, container: Container) -> None:
        """Give one free place to the request that waits longest, or keep it free."""
        if self.queue:
            self.serve_request(now, container, *self.queue.popleft())
        else:
            self.free.append(container)

    def finish_request(self, now: float, container: Container) -> None:
        """Free the place of an answered request; buffers go with the last request of all."""
        self.load -= 1
        container.in_flight -= 1
        if not container.in_flight:
            container.serving_s += now - container.since
            container.since = now
        self.fill_place(now, container)
        self.start_timer(container)
        if not self.load and self.buffers:
            for buffer in self.buffers:
                if not (buffer.in_flight or buffer.is_timed or buffer.ended <= now):
                    self.stop_container(now, buffer)
            self.buffers.clear()

    def open_container(self, now: float, container: Container) -> None:
        for _ in range(self.fleet.concurrency):
            self.fill_place(now, container)
        self.start_timer(container)

    def start_timer(self, container: Container) -> None:
        """Have the window of an idle container end."""
        if not (container.in_flight or container.is_timed):
            container.is_timed = True
            self.push_event(container.since + self.fleet.window_s, EXPIRED, container)

    def expire_window(self, now: float, container: Container) -> None:
        """Stop a container that was idle for a whole window, or keep it as a buffer."""
        container.is_timed = False
        if container.in_flight:
            return
        # By the peak: by the present load, a buffer would go in each short lull and be started again after it.
        wanted = self.count_wanted(max(self.peak, self.peak_before))
        if container.since + self.fleet.window_s > now:  # it served meanwhile; one event a window is enough
            self.start_timer(container)
        elif self.load and self.fleet.buffer_containers and self.up <= wanted:
            self.buffers.append(container)
        else:
            self.stop_container(now, container)

    def stop_container(self, now: float, container: Container) -> None:
        self.up -= 1
        container.idle_s += now - container.since
        container.ended = now
        self.stopped.append(container)


def simulate_fleet(
    fleet: Fleet, arrivals: Seconds, service: Seconds, starts: Seconds, seed: int = 0, span_s: float | None = None
) -> Simulation:
    """Return how the fleet serves the arrivals, with times drawn from measured seconds. Raises ValueError."""
    check_arrivals(arrivals)
    for what, samples in (("service times", service), ("start times", starts)):
        if not samples:
            raise ValueError(f"there are no {what}")
        for sample in samples:
            check_range(what, sample, 0.0, DAY_S)
    draws = random.Random(seed)
    simulator = Simulator(fleet, draws.choices(service, k=len(arrivals)), starts, draws)
    simulator.run(arrivals)
    return Simulation(simulator.latencies, simulator.waited, simulator.stopped, resolve_span(arrivals, span_s))
