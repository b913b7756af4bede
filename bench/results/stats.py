"""Statistics of a handful of times: percentiles, and how far chance may have moved a median or a ratio of two.

Results are in the unit of the samples.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 2000
"""Draws of a bootstrap: the ends of a 95 % interval are then steady to about a percent of its width."""
LEAST = {"p90": 10, "p95": 20, "p99": 100}
"""Samples that a percentile needs to be more than the largest of a few."""

Numbers = NDArray[np.float64]


@dataclass(frozen=True)
class Summary:
    """Percentiles, None where there was no sample; `weak` names those that too few samples stand behind."""

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
    """A ratio of two medians with its 95 % interval."""

    value: float
    low: float
    high: float


def percentile(samples: Sequence[float], q: float) -> float:
    """Return the percentile `q` (0 to 100), interpolated. Raises ValueError as `check_samples`, and for another `q`."""
    if not 0 <= q <= 100:
        raise ValueError(f"{q} is not a percentile: 0 to 100")
    return float(np.percentile(check_samples(samples), q))


def summarise(samples: Sequence[float]) -> Summary:
    """Return mean, percentiles and maximum. Raises ValueError for a sample that is not a finite number."""
    if not len(samples):
        return Summary(0)
    values = check_samples(samples)
    p50, p90, p95, p99 = np.percentile(values, [50, 90, 95, 99]).tolist()
    weak = tuple(name for name, least in LEAST.items() if len(values) < least)
    return Summary(len(values), float(values.mean()), p50, p90, p95, p99, float(values.max()), weak)


def bootstrap_median(samples: Sequence[float], seed: int) -> tuple[float, float]:
    """Return the 95 % interval of the median, without width for one sample. Raises ValueError as `check_samples`."""
    return interval_ends(resample_medians(check_samples(samples), np.random.default_rng(seed)))


def bootstrap_ratio(a: Sequence[float], b: Sequence[float], seed: int) -> Ratio:
    """Return the ratio of the medians, drawn apart: no pairs. Raises ValueError as `check_samples`, or if `b` <= 0."""
    above, below = check_samples(a), check_samples(b)
    if below.min() <= 0:
        raise ValueError("a ratio needs samples above zero to divide by")
    draw = np.random.default_rng(seed)
    low, high = interval_ends(resample_medians(above, draw) / resample_medians(below, draw))
    return Ratio(float(np.median(above) / np.median(below)), low, high)


def check_samples(samples: Sequence[float]) -> Numbers:
    """Return float64[n]. Raises ValueError for no samples and for one that is not a finite number."""
    values = np.asarray(samples, dtype=np.float64)
    if values.ndim != 1 or not values.size:
        raise ValueError("there is no sample")
    if not np.isfinite(values).all():
        raise ValueError("a sample is not a finite number")
    return values


def resample_medians(samples: Numbers, draw: np.random.Generator) -> Numbers:
    """Return float64[RESAMPLES], the median of each draw with replacement."""
    drawn = draw.choice(samples, (RESAMPLES, samples.size))
    return np.asarray(np.median(drawn, axis=1), dtype=np.float64)


def interval_ends(values: Numbers) -> tuple[float, float]:
    low, high = np.percentile(values, [2.5, 97.5])
    return float(low), float(high)
