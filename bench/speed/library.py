"""`python -m bench library`: a library of very many pages, from its first search to the deletion of a collection.

Its pages are made up (`many_pages`). It is opened in a fresh process. Searches are timed beside a plain scan of the
same vectors, in turn. Times of a shared machine vary; ratios carry over.
"""

from __future__ import annotations

import argparse
import tempfile
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from bench.options import int_between
from bench.results import record
from bench.results.record import Keep, Say
from bench.speed.timing import time_call

ABOUT = "a library of very many pages: its first search, filters, lists, additions, deletions, memory, words"
GOAL_MS = {384: 100, 2560: 250}
"""Goals for the p95 of a search in 100,000 pages, by the numbers of a vector."""
WORD_PAGES = 10_000
WORDS_MS = 50
"""Pages whose words are searched, and the goal for the p95: first results are to be painted after 150 ms."""
FIRST_S = 2.0
"""The goal for the first search."""


def measure_shape(pages: int, dimension: int, has_lines: bool, n: int, say: Say) -> dict[str, Any]:
    """Make a library, and measure it in a process of its own, so that memory and first search are its own."""
    from bench.speed.many_pages import FILE_PAGES, LINES, Shape, fill_library, measure_opened

    shape = Shape(pages, dimension, has_lines)
    with tempfile.TemporaryDirectory(prefix="dormouse-bench-") as data:
        folder = Path(data)
        say(f"making {shape.words}")
        build_s = time_call(partial(fill_library, folder, shape))
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
            found = pool.submit(measure_opened, folder, shape, n).result()
    say_figures(shape.words, dimension, found, say)
    about = {"pages": shape.pages, "files": shape.pages // FILE_PAGES, "dimension": shape.dimension}
    return {**about, "lines": LINES if shape.has_lines else 0, "build_s": round(build_s, 1), **found}


def measure_words(pages: int, n: int, say: Say) -> dict[str, Any]:
    from bench.speed import word_search

    found = word_search.measure_words(pages, n)
    figures = found["search"]
    say(f"{pages:,} pages by their words: indexed in {found['index_s']:.1f} s, {found['index_mb']:.0f} MB")
    goal = f"n={figures['n']}; goal {WORDS_MS}"
    say(f"  search, 1 to 8 words: p50 {figures['p50_ms']:.1f} ms, p95 {figures['p95_ms']:.1f} ms ({goal})")
    return found


def say_figures(words: str, dimension: int, found: dict[str, Any], say: Say) -> None:
    goal = f"goal {GOAL_MS[dimension]}" if dimension in GOAL_MS else "no goal"
    say(f"{words}: first search {found['first_search_s']:.2f} s (goal under {FIRST_S:g})")
    timed = {f"search, {name}": figures for name, figures in found["searches"].items()}
    timed |= {**found["lists"], **{name: one for name, one in found["changes"].items() if isinstance(one, dict)}}
    for name, figures in timed.items():
        of = f"; {goal}" if name.startswith("search") else ""
        say(f"  {name}: p50 {figures['p50_ms']:.1f} ms, p95 {figures['p95_ms']:.1f} ms (n={figures['n']}{of})")
    changes, memory, scan = found["changes"], found["memory_mb"], found["scan"]
    say(f"  delete {changes['deleted_pages']} pages: {changes['delete_pages_s']:.2f} s")
    say(f"  delete the collection: {found['delete_collection_s']:.2f} s")
    say(f"  memory: vectors {found['vectors_mb']:.0f} MB; process, in MB: {memory}")
    bare = scan["usearch"]
    say(f"  usearch alone p50 {bare['p50_ms']:.1f} ms: a search is {scan['ratio']:.2f}x (n={bare['n']})")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    pages = int_between(100, 1_000_000)
    parser.add_argument("--pages", type=pages, default=100_000, help="pages in the collection; default: %(default)s")
    searches = "searches of each kind; default: %(default)s"
    parser.add_argument("--searches", type=int_between(1, 10_000), default=200, help=searches)
    record.add_out(parser, "library.json")


def main(options: argparse.Namespace) -> int:
    """Measure pages with lines, as of the built-in embedder, and pages without, as of BiGemma3."""

    def measure(_: Keep) -> dict[str, Any]:
        say, pages, n = partial(print, flush=True), options.pages, options.searches
        collections = [measure_shape(pages, *kind, n, say) for kind in ((384, True), (2560, False))]
        return {"collections": collections, "words": measure_words(min(pages, WORD_PAGES), n, say)}

    return record.measure_and_save(options.out, "library", measure)
