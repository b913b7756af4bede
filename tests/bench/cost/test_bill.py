"""Bills reckoned by hand, the closed form beside a simulation, and input that is none."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.__main__ import main
from bench.cost import fleet, prices
from bench.cost.arrivals import draw_poisson
from bench.cost.bill import Usage, compute_bill, compute_curve, find_break_even, replay_arrivals
from bench.cost.prices import DAY_S, MONTH_S

L40S = prices.price_machine("L40S")
A_DAY = Usage(duration_s=5, window_s=60, start_s=15)


def test_ten_isolated_requests_a_day_by_hand() -> None:
    """300 x (15 s start + 5 s + 60 s idle) = 24,000 s, at 0.000542 dollars each."""
    billed = compute_bill([3600.0 * hour for hour in range(10)], A_DAY, L40S)
    assert (billed.requests, billed.cold_starts, billed.cold_share) == (300, 300, 1)
    assert (billed.starting_s, billed.serving_s, billed.idle_s) == (4500, 1500, 18000)
    assert billed.total == pytest.approx(13.008) and billed.always_on == pytest.approx(1404.864)
    whole = compute_bill([0.0], A_DAY, L40S, span_s=MONTH_S)
    assert whole.total_s == 80 and whole.requests == 1


def test_a_burst_queues_behind_one_start() -> None:
    walked = replay_arrivals([0.0] * 10, A_DAY)
    assert (walked.cold_starts, walked.waited) == (1, 10)
    assert (walked.starting_s, walked.serving_s, walked.idle_s) == (15, 50, 60)
    assert walked.latencies_s == [20.0 + 5 * n for n in range(10)]


def test_the_very_end_of_the_window_is_still_warm() -> None:
    assert replay_arrivals([0.0, 80.0], A_DAY).cold_starts == 1
    assert replay_arrivals([0.0, 80.001], A_DAY).cold_starts == 2


def test_the_guides_figures_count_only_requests_at_the_price_of_an_a10() -> None:
    """Its $0.50, $5 and $50 a month are 5 s a request at $1.10 an hour: no window, no start, and not an L40S."""
    guide = prices.price_machine("L40S", 1.10)
    assert prices.price_machine("A10").per_hour == pytest.approx(guide.per_hour, rel=0.01)
    for requests, dollars in {10.0: 0.50, 100.0: 5.0, 1000.0: 50.0}.items():
        assert compute_bill(requests, Usage(5, 0, 0), guide).total == pytest.approx(dollars, rel=0.09)
    assert compute_bill(10.0, A_DAY, guide).always_on == pytest.approx(792)
    assert compute_bill(10.0, A_DAY, L40S).total > 25 * compute_bill(10.0, Usage(5, 0, 0), guide).total


@pytest.mark.parametrize(
    ("a_day", "usage"),
    [(2000, A_DAY), (500, Usage(20, 120, 70)), (12_000, Usage(5, 2, 15)), (3000, Usage(0.1, 0, 30))],
)
def test_closed_form_beside_the_simulation(a_day: float, usage: Usage) -> None:
    expected = compute_bill(a_day, usage, L40S)
    days = 150_000 / a_day
    one = fleet.Fleet(window_s=usage.window_s)
    found = fleet.simulate_fleet(
        one, draw_poisson(a_day, days, 3), [usage.duration_s], [usage.start_s], 3, days * DAY_S
    )
    seconds = {name: took * 30 / days for name, took in found.sum_seconds().items()}
    assert seconds["serving"] == pytest.approx(expected.serving_s, rel=0.02)
    assert seconds["idle"] == pytest.approx(expected.idle_s, rel=0.03)
    assert seconds["starting"] == pytest.approx(expected.starting_s, rel=0.03)
    assert found.cold_share == pytest.approx(expected.cold_share, rel=0.03)
    assert found.cold_starts * 30 / days == pytest.approx(expected.cold_starts, rel=0.03)


gaps = st.lists(st.integers(0, 400), min_size=1, max_size=40)


@settings(max_examples=60, deadline=None)
@given(gaps, st.integers(1, 30), st.integers(0, 120), st.integers(0, 90))
def test_walking_and_simulating_agree_exactly(steps: list[int], duration: int, window: int, start: int) -> None:
    arrivals = [float(moment) for moment in np.cumsum(steps)]
    walked = replay_arrivals(arrivals, Usage(duration, window, start))
    found = fleet.simulate_fleet(fleet.Fleet(window_s=window), arrivals, [duration], [start])
    assert found.latencies_s == walked.latencies_s
    assert (found.cold_starts, found.waited) == (walked.cold_starts, walked.waited)
    assert found.sum_seconds() == {"starting": walked.starting_s, "serving": walked.serving_s, "idle": walked.idle_s}


def test_a_longer_window_costs_more_and_starts_less() -> None:
    bills = [compute_bill(800.0, Usage(5, window, 15), L40S) for window in (2, 10, 60, 300, 1200)]
    assert [one.total for one in bills] == sorted(one.total for one in bills)
    assert [one.cold_share for one in bills] == sorted((one.cold_share for one in bills), reverse=True)


def test_break_even() -> None:
    same = find_break_even(A_DAY, L40S)
    assert compute_bill(same, A_DAY, L40S).total == pytest.approx(0.99 * compute_bill(1.0, A_DAY, L40S).always_on)
    half = find_break_even(A_DAY, L40S, prices.price_machine("rented", L40S.per_hour / 2))
    assert half < same and compute_bill(half, A_DAY, L40S).total == pytest.approx(L40S.per_hour / 2 * 720)


def test_no_requests_cost_nothing() -> None:
    billed = compute_bill(0.0, A_DAY, L40S)
    assert (billed.total, billed.cold_starts, billed.requests) == (0, 0, 0)


def test_knee_where_pauses_are_short_or_very_long() -> None:
    """Ten bursts of 50, 30 s between requests, hours between bursts: 30 s of window get nearly all."""
    arrivals = [burst * 8000.0 + 30.0 * n for burst in range(10) for n in range(50)]
    found = compute_curve(arrivals, Usage(1, 0, 10), L40S)
    assert found.knee is not None
    best = found.points[found.knee]
    assert 29 < best.window_s < 45 and best.p95_s == pytest.approx(1) and best.cold_share == pytest.approx(0.02)
    assert [point.dollars for point in found.points][found.knee :] == sorted(
        point.dollars for point in found.points[found.knee :]
    )


def test_no_knee_for_random_arrivals() -> None:
    assert compute_curve(10.0, A_DAY, L40S).knee is None, "every request is cold whatever the window"
    assert compute_curve(2000.0, A_DAY, L40S).knee is None, "p95 falls only where it is nearly always on"
    assert compute_curve(2000.0, A_DAY, L40S, seed=4) == compute_curve(2000.0, A_DAY, L40S, seed=4)


REFUSED: list[Callable[[], object]] = [
    lambda: compute_bill(-1.0, A_DAY, L40S),
    lambda: compute_bill(math.nan, A_DAY, L40S),
    lambda: compute_bill(17_280.0, A_DAY, L40S),
    lambda: compute_bill([], A_DAY, L40S),
    lambda: compute_bill([1.0, math.nan], A_DAY, L40S),
    lambda: compute_bill([5.0, 3.0], A_DAY, L40S),
    lambda: compute_bill([0.0, 90_000.0], A_DAY, L40S, span_s=DAY_S),
    lambda: compute_bill([0.0], A_DAY, L40S, span_s=math.nan),
    lambda: compute_bill([0.0] * 1_000_001, A_DAY, L40S),
    lambda: Usage(0, 60, 15),
    lambda: Usage(5, -1, 15),
    lambda: Usage(5, 60, math.nan),
]


@pytest.mark.parametrize("wrong", REFUSED)
def test_refused_with_a_sentence(wrong: Callable[[], object]) -> None:
    with pytest.raises(ValueError, match=r"\w+ \w+ \w+"):
        wrong()


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["cost", "--requests-per-day", "10", "--duration", "5", "--start", "15"]) == 0
    told = capsys.readouterr().out
    assert "L40S at $1.951" in told and "1,404.86 $" in told and "no knee" in told
    path = tmp_path / "a.csv"
    path.write_text("".join(f"{burst * 8000 + 30 * n}\n" for burst in range(10) for n in range(50)))
    words = ["--arrivals", str(path), "--duration", "1", "--start", "10", "--price-per-hour", "3.6"]
    assert main(["cost", *words, "--always-on-per-hour", "1"]) == 0
    told = capsys.readouterr().out
    assert "knee: farthest" in told and "given by the caller" in told and "720.00 $" in told
    for wrong in (["--arrivals", str(tmp_path / "none.csv")], ["--requests-per-day", "1e8"]):
        assert main(["cost", *wrong, "--duration", "5", "--start", "15"]) == 1
        assert "cost failed: " in capsys.readouterr().err
