"""Times of calls, and as result files have them."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from bench.results.stats import LEAST, percentile


def time_call(call: Callable[[], object]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def time_in_turn(
    one: Callable[[int], object], other: Callable[[int], object], n: int, uncounted: int
) -> tuple[list[float], list[float]]:
    """Call both in turn with 0, 1, 2, ..., and return the seconds of each `n` calls after the first `uncounted`."""
    pairs = [(time_call(partial(one, turn)), time_call(partial(other, turn))) for turn in range(n + uncounted)]
    return [pair[0] for pair in pairs[uncounted:]], [pair[1] for pair in pairs[uncounted:]]


def summarise_seconds(seconds: Sequence[float], digits: int = 3) -> dict[str, Any]:
    """Return milliseconds as result files have them: n, p50, p95 (marked where it is weak) and all samples."""
    samples = [value * 1000 for value in seconds]
    return {
        "n": len(samples),
        "p50_ms": round(percentile(samples, 50), digits),
        "p95_ms": round(percentile(samples, 95), digits),
        "p95_weak": len(samples) < LEAST["p95"],
        "samples_ms": [round(value, digits) for value in samples],
    }


def subtract_medians(through: Sequence[float], direct: Sequence[float]) -> float:
    """Return the median difference of pairs of calls, in ms."""
    return round(statistics.median(a - b for a, b in zip(through, direct, strict=True)) * 1000, 3)
