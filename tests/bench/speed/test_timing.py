"""How pairs of calls are timed."""

from __future__ import annotations

import time

import pytest

from bench.results.stats import percentile
from bench.speed import timing


def test_seconds_become_milliseconds_with_the_p95_of_all_result_files() -> None:
    seconds = [ms / 1000 for ms in range(10, 0, -1)]
    figures = timing.summarise_seconds(seconds)
    assert figures["p95_ms"] == pytest.approx(percentile([1000 * value for value in seconds], 95))
    assert figures["n"] == 10 and figures["p50_ms"] == 5.5 and figures["samples_ms"][0] == 10.0
    assert figures["p95_weak"] and not timing.summarise_seconds([0.001] * 20)["p95_weak"]
    assert timing.summarise_seconds([0.0123456], 1)["samples_ms"] == [12.3]


def test_the_median_difference_is_of_pairs() -> None:
    assert timing.subtract_medians([0.010, 0.030, 0.020], [0.001, 0.002, 0.003]) == pytest.approx(17.0)
    with pytest.raises(ValueError, match="shorter"):
        timing.subtract_medians([0.010, 0.030], [0.001])


def test_calls_take_turns_and_the_first_are_not_counted() -> None:
    calls: list[tuple[str, int]] = []

    def slow(turn: int) -> None:
        calls.append(("one", turn))
        time.sleep(0.02 if turn == 2 else 0)

    one, other = timing.time_in_turn(slow, lambda turn: calls.append(("other", turn)), 2, 1)
    assert calls == [(name, turn) for turn in range(3) for name in ("one", "other")]
    assert len(one) == len(other) == 2 and one[1] >= 0.02 > one[0]


def test_a_call_is_timed_to_its_end() -> None:
    assert 0.02 <= timing.time_call(lambda: time.sleep(0.02)) < 5
