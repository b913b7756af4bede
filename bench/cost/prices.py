"""The price of an hour of a machine: by Modal's price list, by an account's own rates, or given by the caller.

The list leaves out discounts, credits, regions (1.5 to 1.75 times as much there), machines that may not be taken away
(three times) and storage (no line for snapshots was found). `fetch_rates` asks the account what it pays today.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal

from bench.options import float_between
from serving.cloud import modal_account
from serving.cloud.modal_account import AccountError

DAY_S = 86_400.0
MONTH_S = 30 * DAY_S
SOURCE = "Modal's price list, as pages of May to October 2026 give it"
DATE = "2026-11-23"
"""When the list was read."""
GPU_PER_S = {
    "T4": 0.000164,
    "L4": 0.000222,
    "A10": 0.000306,
    "L40S": 0.000542,
    "A100-40GB": 0.000583,
    "A100-80GB": 0.000694,
    "RTX-PRO-6000": 0.000842,
    "H100": 0.001097,
    "H200": 0.001261,
    "B200": 0.001736,
    "B300": 0.001972,
    "none": 0.0,
}
"""Dollars a second for one GPU. `none`: a machine without one, such as the built-in embedder's."""
CORE_PER_S = 0.0000131
"""Dollars a second for one core; Modal bills 0.125 of one at least."""
GIB_PER_S = 0.00000222
"""Dollars a second for one GiB of memory."""
GPU_KEYS = {
    "T4": "t4", "L4": "l4", "A10": "a10g", "L40S": "l40s", "A100-40GB": "a100_40gb", "A100-80GB": "a100_80gb",
    "RTX-PRO-6000": "rtx6000", "H100": "h100", "H200": "h200", "B200": "b200", "B300": "b300",
}  # fmt: skip
"""Names of GPUs in an account's rates, after `gpu_hour_cost_`. Read in other projects' recorded answers of
`modal billing rates --json` (August to October 2026): the client's own pages name no keys."""
MOST_PER_HOUR = 100_000.0
"""More than any machine costs: a slip of the keyboard."""
MOST_CORES, MOST_GIB = 1024.0, 65_536.0


@dataclass(frozen=True)
class Rates:
    """Dollars a second."""

    gpu: Mapping[str, float] = field(default_factory=lambda: GPU_PER_S)
    core: float = CORE_PER_S
    gib: float = GIB_PER_S
    source: str = SOURCE
    date: str = DATE


LISTED = Rates()


@dataclass(frozen=True)
class Price:
    """The price of a machine, with its source."""

    gpu: str
    per_hour: float
    """Dollars for the whole machine: GPU, cores and memory."""
    source: str
    date: str
    """When the source was read; empty where the caller gave the price."""

    def __post_init__(self) -> None:
        check_range("a price an hour", self.per_hour, 0.0, MOST_PER_HOUR)

    @property
    def per_s(self) -> float:
        """Dollars a second."""
        return self.per_hour / 3600

    def __str__(self) -> str:
        return f"{self.gpu} at ${self.per_hour:.3f} an hour ({self.source})"

    def list_amounts(self, seconds: Mapping[str, float]) -> list[str]:
        """Return a line for each name: hours, and what they cost."""
        return [f"{name:<12}{took / 3600:>14,.3f} h{took * self.per_s:>14,.2f} $" for name, took in seconds.items()]


def price_machine(
    gpu: str, per_hour: float | None = None, cores: float = 0.0, memory_gib: float = 0.0, rates: Rates = LISTED
) -> Price:
    """Return the price of a GPU with cores and memory beside it; `per_hour` replaces it. Raises ValueError."""
    if per_hour is not None:
        return Price(gpu, per_hour, "given by the caller", "")
    name = next((name for name in rates.gpu if name.casefold() == gpu.casefold()), None)
    if name is None:
        raise ValueError(f"no price is known for {gpu!r}: give one an hour, or name one of {', '.join(rates.gpu)}")
    check_range("cores", cores, 0.0, MOST_CORES)
    check_range("GiB of memory", memory_gib, 0.0, MOST_GIB)
    per_s = rates.gpu[name] + cores * rates.core + memory_gib * rates.gib
    beside = f", with {cores:g} cores and {memory_gib:g} GiB" if cores or memory_gib else ""
    return Price(name + beside, per_s * 3600, rates.source, rates.date)


def fetch_rates() -> Rates:
    """Return what this account pays today, discounts included, for the GPUs in its answer. Raises AccountError."""
    costs = modal_account.ask_modal(
        lambda: dict(modal_account.import_client().Workspace.from_context().billing.rates())
    )
    keys = {name: f"gpu_hour_cost_{key}" for name, key in GPU_KEYS.items()}
    try:
        gpu = {name: parse_hourly_rate(costs[key]) for name, key in keys.items() if key in costs}
        core, gib = parse_hourly_rate(costs["cpu_hour_cost"]), parse_hourly_rate(costs["mem_gib_hour_cost"])
    except (KeyError, ValueError):
        gpu = {}
    if not gpu:
        raise AccountError("Modal's rates have other names than this release knows: see `modal billing rates`")
    return Rates({**gpu, "none": 0.0}, core, gib, "this account's rates, from Modal", f"{datetime.now(UTC):%Y-%m-%d}")


def parse_hourly_rate(value: Decimal) -> float:
    """Return dollars a second for a rate in dollars an hour. Raises ValueError for an absurd one."""
    return check_range("a rate", float(value), 0.0, MOST_PER_HOUR) / 3600


def fetch_rates_or_list() -> tuple[Rates, str]:
    """Return the account's rates, or the list's with the reason."""
    try:
        return fetch_rates(), ""
    except AccountError as error:
        return LISTED, str(error)


def check_range(what: str, value: float, least: float, most: float) -> float:
    """Return `value`. Raises ValueError outside of the range; NaN is in none."""
    if not (math.isfinite(value) and least <= value <= most):
        raise ValueError(f"{what}: {value:g} is not from {least:g} to {most:g}")
    return value


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--gpu", default="L40S", help=f"{', '.join(GPU_PER_S)}; default: %(default)s")
    add("--cores", type=float_between(0, MOST_CORES), default=0.0, help="billed beside the GPU; default: none")
    add("--memory-gib", type=float_between(0, MOST_GIB), default=0.0, help="billed beside the GPU; default: none")
    whole = "dollars for the whole machine, instead of the list's price"
    add("--price-per-hour", type=float_between(0, MOST_PER_HOUR), help=whole)
    now = "take today's rates of this machine's Modal account; the list's if it cannot be asked"
    add("--live-prices", action="store_true", help=now)


def choose_price(options: argparse.Namespace) -> Price:
    """Return the price that the options name. Says on stderr where the account cannot be asked. Raises ValueError."""
    rates = LISTED
    if options.live_prices and options.price_per_hour is None:
        rates, reason = fetch_rates_or_list()
        if reason:
            print(f"prices are those of the list of {DATE}: {reason}", file=sys.stderr)
    return price_machine(options.gpu, options.price_per_hour, options.cores, options.memory_gib, rates)
