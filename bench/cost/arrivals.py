"""When requests come: drawn at random moments or in bursts, or read from a file. Arrivals are seconds, in order."""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from bench.cost.prices import DAY_S, MONTH_S, check_range

Seconds = Sequence[float]
MOST_ARRIVALS = 1_000_000
MOST_BYTES = 64 * 1024 * 1024
"""The largest file: a million lines of ISO 8601 have 33 MB."""


def check_arrivals(arrivals: Seconds) -> None:
    """Raise ValueError for no arrivals, too many, and ones that are not finite or not in order."""
    if not len(arrivals):
        raise ValueError("there are no arrivals")
    if len(arrivals) > MOST_ARRIVALS:
        raise ValueError(f"{len(arrivals):,} arrivals are more than {MOST_ARRIVALS:,}")
    times = np.asarray(arrivals, dtype=np.float64)
    if not np.isfinite(times).all():
        raise ValueError("an arrival is not a number of seconds")
    if back := np.flatnonzero(np.diff(times) < 0).tolist():
        at = back[0] + 1
        raise ValueError(f"arrivals go back in time at number {at + 1}: {times[at]:g} after {times[at - 1]:g}")


def resolve_span(arrivals: Seconds, given: float | None) -> float:
    """Return the seconds that the arrivals are the traffic of: `given`, else whole days. Raises ValueError."""
    seen = float(arrivals[-1] - arrivals[0])
    if given is None:
        return max(1, math.ceil(seen / DAY_S)) * DAY_S
    if seen > given:
        raise ValueError(f"the arrivals take {seen:g} s, longer than the {given:g} s they are said to be of")
    return check_range("seconds of the traffic", given, 1.0, 1000 * MONTH_S)


def draw_poisson(requests_per_day: float, days: float, seed: int) -> list[float]:
    """Draw arrivals at random moments. Raises ValueError for too many."""
    draws = np.random.default_rng(seed)
    count = min(draws.poisson(count_expected(requests_per_day, days)), MOST_ARRIVALS)
    return sorted(draws.uniform(0.0, days * DAY_S, count).tolist())


def draw_bursts(requests_per_day: float, days: float, on_s: float, off_s: float, seed: int) -> list[float]:
    """Draw busy stretches of `on_s` on average, `off_s` apart, with the same requests a day. Raises ValueError."""
    on, off = check_range("busy seconds", on_s, 1.0, MONTH_S), check_range("quiet seconds", off_s, 1.0, MONTH_S)
    ends = count_expected(requests_per_day, days) / requests_per_day * DAY_S
    draws = np.random.default_rng(seed)
    rate = requests_per_day / DAY_S * (on + off) / on
    now, stretches = 0.0, [np.zeros(0)]
    while (now := now + draws.exponential(off)) < ends:
        long = draws.exponential(on)
        stretches.append(np.sort(draws.uniform(now, now + long, draws.poisson(rate * long))))
        now += long
    moments = np.concatenate(stretches)
    bursts: list[float] = moments[moments < ends][:MOST_ARRIVALS].tolist()
    return bursts


def count_expected(requests_per_day: float, days: float) -> float:
    """Return how many requests come. Raises ValueError for more than can be drawn."""
    check_range("requests a day", requests_per_day, 1e-9, 1e9)
    check_range("days", days, 1e-9, 1e13)
    if requests_per_day * days > MOST_ARRIVALS / 1.01:
        raise ValueError(f"{requests_per_day * days:,.0f} requests are too many to simulate: ask for fewer days")
    return requests_per_day * days


def read_arrivals(path: Path) -> list[float]:
    """Return the arrivals in a file's first column: seconds, or ISO 8601 (UTC where it names no zone).

    A header is passed over. They are sorted, because logs are written in the order of the answers. Raises ValueError
    that names the line, and OSError.
    """
    with path.open("rb") as stream:
        content = stream.read(MOST_BYTES + 1)
    if len(content) > MOST_BYTES:
        raise ValueError(f"{path} is larger than {MOST_BYTES:,} bytes")
    arrivals: list[float] = []
    kinds = set()
    for number, line in enumerate(content.splitlines(), 1):
        try:
            columns = next(csv.reader([line.decode("utf-8-sig", "replace")]), [])
            text = columns[0].strip() if columns else ""
            if not text or (number == 1 and not any(map(str.isdigit, text))):
                continue
            moment, kind = parse_moment(text)
            arrivals.append(moment)
            kinds.add(kind)
            if len(kinds) > 1:
                raise ValueError("the file mixes seconds and dates")
            if len(arrivals) > MOST_ARRIVALS:
                raise ValueError(f"the file has more than {MOST_ARRIVALS:,} arrivals")
        except (ValueError, csv.Error) as error:
            raise ValueError(f"{path}, line {number}: {error}") from None
    if not arrivals:
        raise ValueError(f"{path} has no arrivals")
    return sorted(arrivals)


def parse_moment(text: str) -> tuple[float, str]:
    """Return seconds, and whether they were written as `seconds` or as a `date`. Raises ValueError."""
    try:
        seconds = float(text)
    except ValueError:
        try:
            moment = datetime.fromisoformat(text)
            return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp(), "date"
        except (ValueError, OverflowError):
            raise ValueError(f"{text[:40]!r} is neither seconds nor ISO 8601") from None
    if not math.isfinite(seconds) or abs(seconds) > 1e11:
        raise ValueError(f"{text[:40]!r} is not a moment in seconds")
    return seconds, "seconds"
