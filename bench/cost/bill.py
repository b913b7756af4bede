"""`python -m bench cost`: a month with scale to zero beside a machine that is always on, and the p95 of each window.

One container serves one request at a time; the others queue. Every second in which it is up is billed: while it starts,
while it serves, and while it idles until its window is over. Failed starts, starts that make a snapshot after a deploy,
and the page's own container are left out. `bench.cost.fleet` simulates more than one container.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bench.cost import prices
from bench.cost.arrivals import Seconds, check_arrivals, draw_poisson, read_arrivals, resolve_span
from bench.cost.prices import DAY_S, MONTH_S, Price, check_range
from bench.options import float_between, parse_seed
from bench.results.stats import percentile

ABOUT = "what scale to zero costs a month, beside a server that is always on"
SAMPLED = 20_000
"""Arrivals drawn for a percentile of Poisson traffic: 1,000 of them are beyond p95."""
Demand = float | Seconds
"""Requests a day at random moments (Poisson), or arrivals."""
WINDOWS = tuple(float(window) for window in np.geomspace(2.0, 3600.0, 24))
"""Scaledown windows in seconds, over Modal's own range."""
KNEE = 0.05
"""The least distance of a knee below the chord, both axes scaled to 1; less is a line, or noise."""
NEARLY = 0.99
"""The share of always-on at which a bill counts as even: a container that sleeps at times never costs quite as much."""


@dataclass(frozen=True)
class Usage:
    """Seconds that one request takes. A start ends when the container can serve."""

    duration_s: float
    window_s: float
    start_s: float

    def __post_init__(self) -> None:
        check_range("seconds of a request", self.duration_s, 1e-6, DAY_S)
        check_range("seconds of the scaledown window", self.window_s, 0.0, MONTH_S)
        check_range("seconds of a start", self.start_s, 0.0, DAY_S)


@dataclass(frozen=True)
class Bill:
    """The bill of 30 days: seconds of one container, and dollars."""

    requests: float
    cold_starts: float
    cold_share: float
    """The share of requests that waited for a start, all of it or its rest."""
    serving_s: float
    idle_s: float
    starting_s: float
    price: Price

    @property
    def total_s(self) -> float:
        """Seconds in which the container is up."""
        return self.serving_s + self.idle_s + self.starting_s

    @property
    def total(self) -> float:
        """Dollars with scale to zero."""
        return self.total_s * self.price.per_s

    @property
    def always_on(self) -> float:
        """Dollars without it."""
        return MONTH_S * self.price.per_s


def compute_bill(demand: Demand, usage: Usage, price: Price, span_s: float | None = None) -> Bill:
    """Return the bill. `span_s`: seconds the arrivals cover; default: whole days, at least one. Raises ValueError."""
    if isinstance(demand, int | float):
        return compute_poisson_bill(float(demand), usage, price)
    replay = replay_arrivals(demand, usage)
    times = MONTH_S / resolve_span(demand, span_s)
    share = replay.waited / len(demand)
    parts = (times * replay.serving_s, times * replay.idle_s, times * replay.starting_s)
    return Bill(times * len(demand), times * replay.cold_starts, share, *parts, price)


def compute_poisson_bill(requests_per_day: float, usage: Usage, price: Price) -> Bill:
    """Return the bill of Poisson traffic in closed form.

    With rate r, duration D, window W, start S, load q = rD < 1 and p = exp(-rW):

    a gap after the last answer is longer than W with chance p (arrivals have no memory), so a busy period is cold with
    chance p; a gap idles for (1 - p) / r on average, the mean of the shorter of gap and W. A warm busy period serves
    1 / (1 - q) requests, a cold one (1 + rS) / (1 - q): those that come during the start too, and what they bring.
    Hence per request p(1 - q) / (1 + prS) starts, 1 + rS of whose requests waited for it, and idle time to match.
    Raises ValueError for more requests than one container can serve.
    """
    check_range("requests a day", requests_per_day, 0.0, 1e9)
    rate = requests_per_day / DAY_S
    load = rate * usage.duration_s
    if load >= 1:
        most = DAY_S / usage.duration_s
        raise ValueError(f"one container serves fewer than {most:,.0f} requests of {usage.duration_s:g} s a day")
    cold = math.exp(-rate * usage.window_s)
    periods = (1 - load) / (1 + cold * rate * usage.start_s)
    """Busy periods a request."""
    starts = cold * periods
    requests = requests_per_day * MONTH_S / DAY_S
    gap = -math.expm1(-rate * usage.window_s) / rate if rate else 0.0
    share = starts * (1 + rate * usage.start_s)
    parts = (requests * usage.duration_s, requests * periods * gap, requests * starts * usage.start_s)
    return Bill(requests, requests * starts, share, *parts, price)


@dataclass(frozen=True)
class Replay:
    """A list of arrivals, served by one container."""

    cold_starts: int
    waited: int
    serving_s: float
    idle_s: float
    starting_s: float
    latencies_s: list[float]


def replay_arrivals(arrivals: Sequence[float], usage: Usage) -> Replay:
    """Serve the arrivals one after the other. A whole window of idle time follows the last. Raises ValueError."""
    check_arrivals(arrivals)
    duration, window, start = usage.duration_s, usage.window_s, usage.start_s
    free = ready = -math.inf
    idle, starts, waited = 0.0, 0, 0
    latencies = []
    for arrival in arrivals:
        if arrival > free + window:
            idle += window if starts else 0.0
            starts += 1
            free = ready = arrival + start
        elif arrival > free:
            idle += arrival - free
            free = arrival
        waited += arrival < ready
        free += duration
        latencies.append(free - arrival)
    return Replay(starts, waited, len(arrivals) * duration, idle + window, starts * start, latencies)


def find_break_even(usage: Usage, price: Price, always_on: Price | None = None) -> float:
    """Return the requests a day above which sleeping saves nothing worth the waits.

    With one price for both there is always some gap that is not billed, so the bill only nears always-on: the answer is
    where it has come within one percent (`NEARLY`). Beside a cheaper machine that is always on it is where both cost
    the same. Found by halving: the share of time at zero falls as requests rise.
    """
    other = (always_on or price).per_hour
    share = NEARLY if price.per_hour == 0 else min(NEARLY, other / price.per_hour)
    low, high = 0.0, DAY_S / usage.duration_s * (1 - 1e-9)
    for _ in range(200):
        middle = (low + high) / 2
        if compute_poisson_bill(middle, usage, price).total_s < share * MONTH_S:
            low = middle
        else:
            high = middle
    return (low + high) / 2


@dataclass(frozen=True)
class Point:
    """The cost of one window, and its p95."""

    window_s: float
    dollars: float
    """What 30 days cost."""
    p95_s: float
    cold_share: float


@dataclass(frozen=True)
class Curve:
    """Cost beside p95 for many windows."""

    points: list[Point]
    knee: int | None
    """Index of the knee in `points`, if there is one."""


def compute_curve(
    demand: Demand, usage: Usage, price: Price, windows: Seconds = WINDOWS, seed: int = 0, span_s: float | None = None
) -> Curve:
    """Return cost and p95 of each window; the usage's own window plays no part. Percentiles of Poisson are drawn."""
    drawn = draw_poisson(demand, SAMPLED / demand, seed) if isinstance(demand, int | float) else demand
    points = []
    for window in windows:
        one = Usage(usage.duration_s, window, usage.start_s)
        billed = compute_bill(demand, one, price, span_s)
        p95 = percentile(replay_arrivals(drawn, one).latencies_s, 95)
        points.append(Point(window, billed.total, p95, billed.cold_share))
    return Curve(points, find_knee(points))


def find_knee(points: Sequence[Point]) -> int | None:
    """Return the point farthest below the chord from the first to the last, with cost and p95 each scaled to 0..1.

    It is the usual rule for where cheap gains end. None where p95 or cost does not change, or no point is noticeably
    below: so it is with Poisson, where p95 falls only when fewer than 5% meet a start, and that is nearly always-on.
    """
    cost = np.array([point.dollars for point in points])
    wait = np.array([point.p95_s for point in points])
    if len(points) < 3 or wait[-1] >= wait[0] or cost[-1] <= cost[0]:
        return None
    x, y = (cost - cost[0]) / (cost[-1] - cost[0]), (wait - wait[-1]) / (wait[0] - wait[-1])
    below = 1 - x - y
    return int(np.argmax(below)) if below.max() >= KNEE else None


def add_arguments(parser: argparse.ArgumentParser) -> None:
    demand = parser.add_mutually_exclusive_group(required=True)
    demand.add_argument("--requests-per-day", type=float_between(0, 1e9), help="at random moments (Poisson)")
    demand.add_argument("--arrivals", type=Path, metavar="FILE.csv", help="seconds or ISO 8601, one a line")
    add = parser.add_argument
    span = "days that the file is the traffic of; default: whole days of it"
    add("--span-days", type=float_between(1 / DAY_S, 30_000), help=span)
    add("--duration", type=float_between(1e-6, DAY_S), required=True, metavar="S", help="seconds of a request")
    window = "scaledown window; default: %(default)s"
    add("--window", type=float_between(0, MONTH_S), default=60.0, metavar="S", help=window)
    add("--start", type=float_between(0, DAY_S), required=True, metavar="S", help="seconds of a cold start or restore")
    other = "price of another machine that is always on; default: the same machine's"
    add("--always-on-per-hour", type=float_between(0, prices.MOST_PER_HOUR), help=other)
    add("--seed", type=parse_seed, default=0, help="fixes the arrivals that p95 is computed from")
    prices.add_arguments(parser)


def main(options: argparse.Namespace) -> int:
    cost, other_per_hour = prices.choose_price(options), options.always_on_per_hour
    other = None if other_per_hour is None else prices.price_machine("always on", other_per_hour)
    usage = Usage(options.duration, options.window, options.start)
    demand = options.requests_per_day if options.arrivals is None else read_arrivals(options.arrivals)
    span_s = None if options.span_days is None else options.span_days * DAY_S
    billed = compute_bill(demand, usage, cost, span_s)
    print(render_bill(billed, usage, other))
    if billed.requests:
        print(f"\n{render_curve(compute_curve(demand, usage, cost, seed=options.seed, span_s=span_s))}")
    return 0


def render_headline(billed: Bill, always_on: float | None = None) -> str:
    """Return what a month costs in a sentence. `always_on`: dollars a month of another machine than the same."""
    a_day = billed.requests * DAY_S / MONTH_S
    beside = billed.always_on if always_on is None else always_on
    digits = 0 if a_day >= 10 or a_day == int(a_day) else 1
    often = "1 request" if a_day == 1 else f"{a_day:,.{digits}f} requests"
    return f"At {often} a day you pay about {format_dollars(billed.total)} a month, always-on {format_dollars(beside)}."


def format_dollars(value: float) -> str:
    """Return dollars as people write them: `$1,725`, `$0.46`."""
    return f"${value:,.0f}" if value >= 10 or value == 0 else f"${value:,.2f}"


def render_break_even(usage: Usage, price: Price, other: Price | None = None) -> str:
    same = "is the same as always-on's" if other else "comes within 1% of always-on"
    return f"Break-even: the bill {same} at {find_break_even(usage, price, other):,.0f} requests a day (Poisson)"


def render_bill(billed: Bill, usage: Usage, other: Price | None) -> str:
    """Return the bill as a table, between a sentence on its total and the break-even."""
    cost = billed.price
    when = f", read {cost.date}" if cost.date else ""
    always = MONTH_S * (other or cost).per_s
    parts = {"serving": billed.serving_s, "idle": billed.idle_s, "starting": billed.starting_s, "total": billed.total_s}
    rows = [(name, seconds, seconds * cost.per_s) for name, seconds in parts.items()]
    lines = [
        render_headline(billed, always),
        f"{cost.gpu} at ${cost.per_hour:.3f} an hour ({cost.source}{when}); 30 days, {billed.requests:,.0f} requests",
        *(f"{name:<12}{s:>14,.0f} s{paid:>14,.2f} $" for name, s, paid in [*rows, ("always on", MONTH_S, always)]),
        f"{billed.cold_starts:,.0f} cold starts; {billed.cold_share:.1%} of the requests wait for one",
        render_break_even(usage, cost, other),
    ]
    return "\n".join(lines)


def render_curve(curve: Curve) -> str:
    lines = [f"{'window s':>10}{'$ a month':>14}{'p95 s':>10}{'cold':>8}"]
    for place, point in enumerate(curve.points):
        mark = "  knee: farthest below the chord" if place == curve.knee else ""
        lines.append(
            f"{point.window_s:>10.1f}{point.dollars:>14,.2f}{point.p95_s:>10.3f}{point.cold_share:>8.1%}{mark}"
        )
    if curve.knee is None:
        lines.append("no knee: no window brings a shorter p95 cheaply")
    return "\n".join(lines)
