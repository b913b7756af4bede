"""`python -m bench simulate`: a fleet under traffic that is drawn or replayed, or given many pages at once."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from bench.coldstart.result_file import load_result, select_start_seconds
from bench.cost import fleet_validation, prices
from bench.cost.arrivals import draw_bursts, draw_poisson, read_arrivals
from bench.cost.fleet import Fleet, Simulation, simulate_fleet
from bench.cost.ingest import MOST_PAGES, MOST_PER_S, Ingest, render_ingest, simulate_ingest
from bench.cost.prices import DAY_S, MONTH_S, Price
from bench.options import float_between, int_between, parse_seed
from bench.results.stats import LEAST

ABOUT = "a fleet under traffic, or given many pages at once: latency, cold share, container-hours, cost"
WINDOW_S = 60.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    demand = parser.add_mutually_exclusive_group(required=True)
    demand.add_argument("--requests-per-day", type=float_between(1e-9, 1e9), help="at random moments (Poisson)")
    demand.add_argument("--arrivals", type=Path, metavar="FILE.csv", help="seconds or ISO 8601, one a line")
    replayed = "hold the simulation against a real engine on this machine, 2.5 min"
    demand.add_argument("--validate", action="store_true", help=replayed)
    at_once = "no traffic: so many pages are to be embedded, by all containers at once"
    demand.add_argument("--ingest-pages", type=int_between(1, MOST_PAGES), metavar="N", help=at_once)
    add = parser.add_argument
    per_s = "pages a second that one container embeds, for --ingest-pages"
    add("--pages-per-s", type=float_between(1e-6, MOST_PER_S), metavar="R", help=per_s)
    read = "pages a second that can be read and kept, for --ingest-pages; default: as many as are embedded"
    add("--read-per-s", type=float_between(1e-6, MOST_PER_S), metavar="R", help=read)
    add("--days", type=float_between(1e-9, 1e13), help="days of traffic; default: 30, or whole days of the file")
    burst = "have all requests come in busy stretches of this mean length"
    add("--burst", type=float_between(1, MONTH_S), metavar="S", help=burst)
    quiet = "mean length of the pauses between them; default: %(default)s"
    add("--quiet", type=float_between(1, MONTH_S), default=3600.0, metavar="S", help=quiet)
    add("--starts", metavar="S,S,...|FILE.json", help="measured seconds of cold starts, or a result file")
    add("--service", metavar="S,S,...", help="measured seconds of a warm request")
    add("--max-containers", type=int_between(1, 10_000), default=1, help="default: %(default)s")
    add("--concurrency", type=int_between(1, 10_000), default=1, help="requests in a container at once; default: 1")
    buffers = "containers kept up beyond what is needed; default: 0"
    add("--buffer-containers", type=int_between(0, 10_000), default=0, help=buffers)
    window = "scaledown window; default: 60, and 3 with --validate"
    add("--window", type=float_between(0, MONTH_S), metavar="S", help=window)
    out = "result file of --validate; default: assets/runs/simulate_validation.json"
    add("--out", type=Path, help=out)
    add("--seed", type=parse_seed, default=0, help="fixes what is drawn; default: %(default)s")
    prices.add_arguments(parser)


def main(options: argparse.Namespace) -> int:
    """Print the simulation, or compare it with an engine, and return the exit code."""
    if options.validate:
        return fleet_validation.main(options)
    needed = "service" if options.ingest_pages is None else "pages_per_s"
    if options.starts is None or getattr(options, needed) is None:
        words = "measured seconds of each" if needed == "service" else "both measured"
        print(f"simulate failed: name --starts and --{needed.replace('_', '-')}, {words}", file=sys.stderr)
        return 2
    price = prices.choose_price(options)
    window_s = WINDOW_S if options.window is None else options.window
    fleet = Fleet(options.max_containers, options.concurrency, window_s, options.buffer_containers)
    starts = read_seconds(options.starts)
    if options.ingest_pages is not None:
        ingest = Ingest(options.ingest_pages, options.pages_per_s, options.read_per_s)
        print(render_ingest(ingest, fleet, simulate_ingest(ingest, fleet, starts, options.seed), price))
        return 0
    arrivals, span_s = load_traffic(options)
    service = read_seconds(options.service)
    print(render_simulation(simulate_fleet(fleet, arrivals, service, starts, options.seed, span_s), price))
    return 0


def read_seconds(text: str) -> list[float]:
    """Return the seconds in `0.3,0.31`, or the cold starts of a result file. Raises ValueError, OSError."""
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        return select_start_seconds(load_result(Path(text)))


def load_traffic(options: argparse.Namespace) -> tuple[list[float], float | None]:
    """Return the arrivals, and the seconds they are the traffic of, if that was said. Raises ValueError, OSError."""
    days = options.days
    if options.arrivals is not None:
        if options.burst is not None:
            raise ValueError("--burst draws arrivals: it does not go with a file of them")
        return read_arrivals(options.arrivals), None if days is None else days * DAY_S
    days = 30.0 if days is None else days
    if options.burst is None:
        return draw_poisson(options.requests_per_day, days, options.seed), days * DAY_S
    return draw_bursts(options.requests_per_day, days, options.burst, options.quiet, options.seed), days * DAY_S


def render_simulation(outcome: Simulation, price: Price) -> str:
    count, days = len(outcome.latencies_s), outcome.span_s / DAY_S
    lines = [
        f"{count:,} requests in {days:g} days; {price}",
        f"{outcome.cold_starts:,} cold starts; {outcome.cold_share:.1%} of the requests waited for one",
    ]
    for percent, least in ((50, 1), (95, LEAST["p95"]), (99, LEAST["p99"])):
        weak = f"  weak: fewer than {least} requests" if count < least else ""
        lines.append(f"{f'p{percent}':<12}{outcome.percentile(percent):>14,.3f} s{weak}")
    lines.append(f"{'longest':<12}{max(outcome.latencies_s):>14,.3f} s")
    parts = outcome.sum_seconds()
    total = sum(parts.values())
    lines += price.list_amounts({**parts, "total": total, "30 days": total * MONTH_S / outcome.span_s})
    return "\n".join(lines)
