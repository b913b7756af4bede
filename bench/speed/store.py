"""`python -m bench store`: the same made-up pages in memory and in PostgreSQL, there exactly and by each index.

All ways answer the same questions in turn, in one process, and what an index finds is compared with exact search. The
questions are near a page, and none of the pages. Times of a shared machine vary; ratios carry over.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

from bench.options import int_between
from bench.results import record
from bench.results.record import Keep, Say
from serving.settings import PREFIX

ABOUT = "search in PostgreSQL, exact and by indexes, beside the embedded library: times, recall, sizes"
GOAL_MS, GOAL_RECALL = 30, 0.98
"""For an index of 100,000 pages of 2560 numbers: the p50 of a search, and the share of the ten nearest it finds."""
STORE = f"{PREFIX}STORE"


def say_figures(figures: dict[str, Any], say: Say) -> None:
    """`figures`: of `shared_pages.measure_store`."""
    for selected, ways in figures["searches"].items():
        for way, found in ways.items():
            timed = f"p50 {found['p50_ms']:.1f} ms, p95 {found['p95_ms']:.1f} ms (n={found['n']})"
            say(f"  {selected}, {way}: {timed}; recall@{figures['top_k']} {found['recall']:.3f}")
    say(f"  goals of an index, plain: p50 under {GOAL_MS} ms, recall at least {GOAL_RECALL}")
    say(f"  made in s: {figures['fill_s']}, indexes {figures['build_s']}; MB: {figures['mb']}")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--store",
        default="",
        help=f"a PostgreSQL without collections, which keeps those that are made; default: {STORE}."
        " `python -m tests.support.postgres -- COMMAND` runs a command with one",
    )
    pages = int_between(100, 2_000_000)
    parser.add_argument("--pages", type=pages, default=20_000, help="pages in the collection; default: %(default)s")
    numbers = "numbers of a vector; default: %(default)s"
    parser.add_argument("--dimension", type=int_between(8, 4_000), default=2560, help=numbers)
    searches = "searches of each kind; default: %(default)s"
    parser.add_argument("--searches", type=int_between(1, 10_000), default=100, help=searches)
    record.add_out(parser, "store.json")


def main(options: argparse.Namespace) -> int:
    address = options.store or os.environ.get(STORE, "")
    if not address:
        raise ValueError(f"name a PostgreSQL without collections: --store postgresql://user@host/database, or {STORE}")
    from bench.speed.shared_pages import measure_store  # needs the client of PostgreSQL

    def measure(_: Keep) -> dict[str, Any]:
        say = partial(print, flush=True)
        with tempfile.TemporaryDirectory(prefix="dormouse-bench-") as folder:
            figures = measure_store(address, Path(folder), (options.pages, options.dimension), options.searches, say)
        say_figures(figures, say)
        return figures

    return record.measure_and_save(options.out, "store", measure)
