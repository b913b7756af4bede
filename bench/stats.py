"""What can be said of a handful of times: percentiles, and how far chance may have moved a median or a ratio of two.

Pure numbers in, numbers out, in the unit they came in. Knows nothing of what was measured.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 2000
"""Of a bootstrap: the ends of a 95 % interval are then steady to about a percent of its width."""
LEAST = {"p90": 10, "p95": 20, "p99": 100}
"""Samples that a percentile needs to be more than the largest of a few."""

Numbers = NDArray[np.float64]


@dataclass(frozen=True)
class Summary:
    """None where there was no sample; `weak` names the percentiles that too few samples stand behind."""

    n: int
    mean: float | None = None
    p50: float | None = None
    p90: float | None = None
    p95: float | None = None
    p99: float | None = None
    max: float | None = None
    weak: tuple[str, ...] = ()


@dataclass(frozen=True)
class Ratio:
    """Of two medians, with its 95 % interval."""

    value: float
    low: float
    high: float


def percentile(samples: Sequence[float], q: float) -> float:
    """`q` from 0 to 100, between two samples by their distance.

    Raises ValueError for no samples, one that is not a finite number, and a `q` outside.
    """
    if not 0 <= q <= 100:
        raise ValueError(f"{q} is not a percentile: 0 to 100")
    return float(np.percentile(check_samples(samples), q))


def summarise(samples: Sequence[float]) -> Summary:
    """All fields None for no samples. Raises ValueError for one that is not a finite number."""
    if not len(samples):
        return Summary(0)
    found = check_samples(samples)
    p50, p90, p95, p99 = (float(value) for value in np.percentile(found, [50, 90, 95, 99]))
    weak = tuple(name for name, least in LEAST.items() if len(found) < least)
    return Summary(len(found), float(found.mean()), p50, p90, p95, p99, float(found.max()), weak)


def bootstrap_median(samples: Sequence[float], seed: int) -> tuple[float, float]:
    """The 95 % interval of the median by bootstrap; of one sample it has no width, which proves nothing.

    Raises ValueError for no samples and for one that is not a finite number.
    """
    return interval_ends(resample_medians(check_samples(samples), np.random.default_rng(seed)))


def bootstrap_ratio(a: Sequence[float], b: Sequence[float], seed: int) -> Ratio:
    """The median of `a` over that of `b`. The two are drawn apart: they are not pairs.

    Raises ValueError for no samples, one that is not a finite number, and for a `b` that is not above zero.
    """
    above, below = check_samples(a), check_samples(b)
    if below.min() <= 0:
        raise ValueError("a ratio needs samples above zero to divide by")
    draw = np.random.default_rng(seed)
    low, high = interval_ends(resample_medians(above, draw) / resample_medians(below, draw))
    return Ratio(float(np.median(above) / np.median(below)), low, high)


def check_samples(samples: Sequence[float]) -> Numbers:
    """Raises ValueError for what no figure can be made of."""
    found = np.asarray(samples, dtype=np.float64)
    if found.ndim != 1 or not found.size:
        raise ValueError("there is no sample")
    if not np.isfinite(found).all():
        raise ValueError("a sample is not a finite number")
    return found


def resample_medians(samples: Numbers, draw: np.random.Generator) -> Numbers:
    drawn = draw.choice(samples, (RESAMPLES, samples.size))
    return np.asarray(np.median(drawn, axis=1), dtype=np.float64)


def interval_ends(values: Numbers) -> tuple[float, float]:
    low, high = np.percentile(values, [2.5, 97.5])
    return float(low), float(high)
