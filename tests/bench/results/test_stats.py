"""The figures: against numpy's and against intervals whose coverage is known, and what they refuse."""

from __future__ import annotations

import math

import numpy as np
import pytest

from bench.results.stats import Summary, bootstrap_median, bootstrap_ratio, percentile, summarise


def test_percentiles_lie_between_samples() -> None:
    assert percentile([4, 1, 3, 2], 50) == 2.5
    assert percentile([4, 1, 3, 2], 0) == 1
    assert percentile([4, 1, 3, 2], 100) == 4
    assert percentile([7], 99) == 7


@pytest.mark.parametrize("q", [-1, 100.5, math.nan])
def test_no_percentile_outside(q: float) -> None:
    with pytest.raises(ValueError, match="is not a percentile"):
        percentile([1, 2], q)


def test_summary_of_nothing_has_no_figures() -> None:
    assert summarise([]) == Summary(0)
    assert summarise([]).p50 is None


def test_summary() -> None:
    found = summarise(range(1, 101))
    assert (found.n, found.mean, found.p50, found.max) == (100, 50.5, 50.5, 100)
    assert found.p99 == pytest.approx(99.01)
    assert found.weak == ()


@pytest.mark.parametrize(
    ("n", "weak"),
    [(1, ("p90", "p95", "p99")), (9, ("p90", "p95", "p99")), (10, ("p95", "p99")), (19, ("p95", "p99")),
     (20, ("p99",)), (99, ("p99",)), (100, ())],
)  # fmt: skip
def test_percentiles_of_few_samples_are_weak(n: int, weak: tuple[str, ...]) -> None:
    assert summarise([1.0] * n).weak == weak


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_what_is_no_number_is_refused(bad: float) -> None:
    for call in (
        lambda: percentile([1, bad], 50),
        lambda: summarise([1, bad]),
        lambda: bootstrap_median([1, bad], 0),
        lambda: bootstrap_ratio([1], [bad], 0),
    ):
        with pytest.raises(ValueError, match="not a finite number"):
            call()


def test_no_samples_no_interval() -> None:
    for call in (
        lambda: percentile([], 50),
        lambda: bootstrap_median([], 0),
        lambda: bootstrap_ratio([], [1], 0),
        lambda: bootstrap_ratio([1], [], 0),
    ):
        with pytest.raises(ValueError, match="no sample"):
            call()


def test_an_interval_is_the_same_for_the_same_seed_and_holds_the_median() -> None:
    samples = list(np.random.default_rng(1).lognormal(size=40))
    low, high = bootstrap_median(samples, 3)
    assert (low, high) == bootstrap_median(samples, 3)
    assert low < np.median(samples) < high
    assert bootstrap_median([5.0], 0) == (5.0, 5.0)


def test_the_interval_holds_the_true_median_about_as_often_as_it_says() -> None:
    draw = np.random.default_rng(5)
    held = 0
    for seed in range(200):
        low, high = bootstrap_median(list(draw.normal(10, 2, size=30)), seed)
        held += low <= 10 <= high
    assert 0.88 <= held / 200 <= 1


def test_ratio_of_medians() -> None:
    draw = np.random.default_rng(2)
    a, b = draw.normal(1000, 50, 30), draw.normal(100, 5, 30)
    found = bootstrap_ratio(list(a), list(b), 0)
    assert found == bootstrap_ratio(list(a), list(b), 0)
    assert found.low < found.value < found.high
    assert found.value == pytest.approx(10, rel=0.05)
    same = bootstrap_ratio(list(a), list(a), 0)
    assert same.low < 1 < same.high


def test_nothing_is_divided_by_zero() -> None:
    with pytest.raises(ValueError, match="above zero"):
        bootstrap_ratio([1, 2], [0, 1], 0)
