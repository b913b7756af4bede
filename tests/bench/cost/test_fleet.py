"""The simulated fleet: cases by hand, nothing lost, and the real engine beside it."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.cost.arrivals import draw_bursts
from bench.cost.fleet import Fleet, Simulation, simulate_fleet
from bench.cost.fleet_validation import send_requests
from tests.support.engines import EngineProcess, kind


def conserved(found: Simulation, requests: int, one: Fleet) -> None:
    """Each request has an answer; each second of each container is of one kind; never more than are allowed."""
    assert len(found.latencies_s) == requests and found.cold_starts == len(found.containers)
    for usage in found.containers:
        parts = usage.starting_s + usage.serving_s + usage.idle_s
        assert parts == pytest.approx(usage.ended - usage.began, rel=1e-9, abs=1e-6)
        assert min(usage.starting_s, usage.serving_s, usage.idle_s) >= 0
        assert usage.idle_s >= one.window_s - 1e-6, "a container goes only after a whole window"
    changes = sorted(
        [(usage.began, 1) for usage in found.containers] + [(usage.ended, -1) for usage in found.containers]
    )
    assert max(np.cumsum([change for _, change in changes])) <= one.max_containers


def test_a_hundred_at_zero_are_one_start() -> None:
    found = simulate_fleet(Fleet(concurrency=256), [0.0] * 100, [1.0], [10.0])
    assert (found.cold_starts, found.waited) == (1, 100) and set(found.latencies_s) == {11.0}
    found = simulate_fleet(Fleet(concurrency=10), [0.0] * 100, [1.0], [10.0])
    assert (found.cold_starts, found.waited) == (1, 100)
    assert found.latencies_s == [11.0 + n // 10 for n in range(100)]
    assert found.sum_seconds() == {"starting": 10, "serving": 10, "idle": 60}


def test_the_timer_runs_from_the_last_answer_and_the_very_end_is_served() -> None:
    assert simulate_fleet(Fleet(), [0.0, 75.0], [5.0], [10.0]).cold_starts == 1
    assert simulate_fleet(Fleet(), [0.0, 75.5], [5.0], [10.0]).cold_starts == 2
    found = simulate_fleet(Fleet(), [0.0, 75.0], [5.0], [10.0])
    assert found.latencies_s == [15.0, 5.0] and found.waited == 1


def test_who_comes_during_the_start_waits_only_for_its_rest() -> None:
    found = simulate_fleet(Fleet(concurrency=2), [0.0, 4.0, 10.0], [1.0], [10.0])
    assert found.latencies_s == [11.0, 7.0, 2.0], "the third finds both places taken"
    assert found.waited == 2


def test_more_containers_for_more_than_one_can_take() -> None:
    found = simulate_fleet(Fleet(max_containers=10), [0.0] * 25, [1.0], [10.0])
    assert found.cold_starts == 10 and found.percentile(100) == 13
    assert simulate_fleet(Fleet(max_containers=10, concurrency=5), [0.0] * 25, [1.0], [10.0]).cold_starts == 5


def test_a_busy_container_may_answer_before_the_new_one_is_up() -> None:
    found = simulate_fleet(Fleet(max_containers=2), [0.0, 10.5], [1.0], [10.0])
    assert found.latencies_s == [11.0, 1.5] and found.waited == 1, "the second took the first one's place"
    assert found.cold_starts == 2 and found.containers[1].serving_s + found.containers[0].serving_s == 2


def test_the_place_freed_last_is_taken_first_so_that_others_go() -> None:
    arrivals = [0.0, 0.0, *[20.0 + 10 * n for n in range(20)]]
    found = simulate_fleet(Fleet(max_containers=2), arrivals, [1.0], [10.0])
    assert sorted(usage.ended for usage in found.containers) == [71.0, 271.0]


def test_a_buffer_stays_while_there_are_requests() -> None:
    arrivals = [0.0, 12.0, *[30.0 + n for n in range(300)]]
    without = simulate_fleet(Fleet(max_containers=4), arrivals, [1.5], [10.0])
    buffered = simulate_fleet(Fleet(max_containers=4, buffer_containers=1), arrivals, [1.5], [10.0])
    assert buffered.cold_starts == 3, "two requests at most, and one more: none goes and comes again"
    assert buffered.waited == 1 < without.waited
    assert buffered.percentile(99) <= without.percentile(99)
    assert sum(buffered.sum_seconds().values()) > sum(without.sum_seconds().values())
    conserved(buffered, len(arrivals), Fleet(max_containers=4))
    long = simulate_fleet(Fleet(max_containers=2, window_s=5, buffer_containers=1), [0.0], [50.0], [10.0])
    assert sorted(usage.ended for usage in long.containers) == [60.0, 65.0], "idle from 10, kept until the last answer"


fleets = st.builds(
    Fleet,
    max_containers=st.integers(1, 6),
    concurrency=st.integers(1, 4),
    window_s=st.floats(0, 100),
    buffer_containers=st.integers(0, 3),
)


@settings(max_examples=150, deadline=None)
@given(fleets, st.lists(st.floats(0, 150), min_size=1, max_size=60), st.integers(0, 99))
def test_nothing_is_lost(one: Fleet, steps: list[float], seed: int) -> None:
    arrivals = [float(moment) for moment in np.cumsum(steps)]
    service, starts = [0.5, 3.0, 40.0], [1.0, 20.0]
    found = simulate_fleet(one, arrivals, service, starts, seed)
    conserved(found, len(arrivals), one)
    assert min(found.latencies_s) >= 0.5 - 1e-9
    assert found == simulate_fleet(one, arrivals, service, starts, seed), "the same seed, the same outcome"


def test_a_longer_window_has_fewer_starts_and_costs_more() -> None:
    arrivals = draw_bursts(500, 20, 600, 3000, 1)
    found = [simulate_fleet(Fleet(window_s=window), arrivals, [2.0], [15.0]) for window in (2, 15, 60, 300, 1800)]
    starts = [one.cold_starts for one in found]
    seconds = [sum(one.sum_seconds().values()) for one in found]
    assert starts == sorted(starts, reverse=True) and seconds == sorted(seconds) and starts[0] > 5 * starts[-1]


REFUSED: list[Callable[[], object]] = [
    lambda: Fleet(max_containers=0),
    lambda: Fleet(concurrency=-1),
    lambda: Fleet(window_s=math.nan),
    lambda: Fleet(buffer_containers=10**9),
    lambda: simulate_fleet(Fleet(), [], [1.0], [1.0]),
    lambda: simulate_fleet(Fleet(), [2.0, 1.0], [1.0], [1.0]),
    lambda: simulate_fleet(Fleet(), [math.inf], [1.0], [1.0]),
    lambda: simulate_fleet(Fleet(), [0.0], [], [1.0]),
    lambda: simulate_fleet(Fleet(), [0.0], [1.0], []),
    lambda: simulate_fleet(Fleet(), [0.0], [-1.0], [1.0]),
    lambda: simulate_fleet(Fleet(), [0.0], [1.0], [math.nan]),
    lambda: simulate_fleet(Fleet(), [0.0], [1.0], [1e9]),
]


@pytest.mark.parametrize("wrong", REFUSED)
def test_refused_with_a_sentence(wrong: Callable[[], object]) -> None:
    with pytest.raises(ValueError, match=r"\w+ \w+ \w+"):
        wrong()


TRACE = [0.0, 0.0, 0.7, 4.3, 5.0, 9.0, 9.0, 13.0]
"""Seconds. With a window of 2 s, each gap is at least a second away from it."""


@pytest.mark.soak
def test_the_real_engine_starts_as_often(tmp_path: Path) -> None:
    """Real worker processes; how long they take differs from the simulation, and the trace leaves room for that."""
    engine = EngineProcess(tmp_path, "fork", "--scaledown-window", "2")
    with engine:
        assert kind(engine.ask()) == "created"
        engine.to_zero()
        before = len(engine.status()["history"])
        assert send_requests(TRACE, lambda _: kind(engine.ask())) == ["restored"] * len(TRACE)
        told = engine.status()
        history = told["history"][: len(told["history"]) - before]
    assert all(row["outcome"] == "served" and row["kind"] == "restored" for row in history)
    one = Fleet(concurrency=256, window_s=2)
    starts = [row["ready_ms"] / 1000 for row in history]
    for seed in range(5):
        found = simulate_fleet(one, TRACE, [random.Random(seed).uniform(0.01, 0.2)], starts, seed)
        assert found.cold_starts == len(history) == 4
