"""The order of trials."""

from __future__ import annotations

from itertools import groupby

import pytest

from bench.coldstart.plan import plan_trials


def test_a_repetition_asks_each_target_cold_warm_and_cold_again() -> None:
    trials = plan_trials(["a"], 2, 2, True, 0)
    assert [trial.kind for trial in trials] == ["initial", "warm", "warm", "after_scaledown"] * 2
    assert [trial.number for trial in trials] == list(range(1, 9))
    assert [trial.repetition for trial in trials] == [1] * 4 + [2] * 4


def test_without_scaledown_and_without_warm_requests() -> None:
    assert [trial.kind for trial in plan_trials(["a"], 0, 3, False, 0)] == ["initial"] * 3
    assert [trial.kind for trial in plan_trials(["a"], 1, 1, False, 0)] == ["initial", "warm"]


def test_targets_are_interleaved_in_an_order_that_the_seed_fixes() -> None:
    names = ["a", "b", "c"]
    trials = plan_trials(names, 3, 20, True, 7)
    assert trials == plan_trials(names, 3, 20, True, 7)
    assert trials != plan_trials(names, 3, 20, True, 8)
    orders = set()
    for _, of in groupby(trials, key=lambda trial: trial.repetition):
        order = [name for name, _ in groupby(trial.target for trial in of)]
        assert sorted(order) == names, "each target once in a repetition, without another in between"
        orders.add(tuple(order))
    assert len(orders) > 1
    assert names == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("targets", "num_warmup", "repetitions"), [([], 1, 1), (["a"], -1, 1), (["a"], 1, 0), (["a", "a"], 1, 1)]
)
def test_what_is_no_plan(targets: list[str], num_warmup: int, repetitions: int) -> None:
    with pytest.raises(ValueError):
        plan_trials(targets, num_warmup, repetitions, True, 0)
