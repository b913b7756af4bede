"""The estimate of the time that is left, against a simulated worker that adds pages one after another."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from ui.core.time_left import Laps, PageCosts, WorkLeft, estimate_seconds_left

TEXT, PICTURE = 0.05, 0.7


@dataclass(eq=False)
class SimulatedJob:
    """A job whose pages have these kinds, in order. Its owner has no other."""

    kinds: list[str]
    begins: float = 0.0
    costs: PageCosts = field(default_factory=PageCosts)
    ended: float = 0.0
    estimates: list[tuple[float, float]] = field(default_factory=list)
    """(time, estimate) after each page."""


def simulate(jobs: list[SimulatedJob], cost: Callable[[str, float], float], burst: int = 1) -> None:
    """Add the pages in turn. `cost` gives the seconds of a page by kind and time; pages end `burst` at a time."""
    laps, everything, now = Laps(), PageCosts(), 0.0
    rest = {job: list(job.kinds) for job in jobs}
    turn, pending = 0, list[tuple[SimulatedJob, str]]()
    while any(rest.values()):
        active = [job for job in jobs if rest[job] and job.begins <= now]
        if not active:
            now = min(job.begins for job in jobs if rest[job])
            laps.restart()
            continue
        job = active[turn % len(active)]
        turn += 1
        pending.append((job, rest[job].pop(0)))
        now += cost(pending[-1][1], now)
        if len(pending) < burst and any(rest.values()):
            continue
        for owner, kind in pending:
            if (lap := laps.lap(now)) is not None:
                owner.costs.record(kind, lap)
                everything.record(kind, lap)
        pending.clear()
        for one in jobs:
            one.ended = one.ended or (now if not rest[one] else 0.0)
        running = [one for one in jobs if rest[one] and one.begins <= now]
        work = {
            one: WorkLeft(len(rest[one]), one.costs.estimate(Counter(rest[one]), everything), 1 / len(running))
            for one in running
        }
        for one, own in work.items():
            if one.costs.has_enough:
                others = [other for owner, other in work.items() if owner is not one]
                one.estimates.append((now, estimate_seconds_left(own, others)))


def check_within_a_third(job: SimulatedJob, since: float = 0.0, until: float = float("inf")) -> None:
    checked = [(at, told, job.ended - at) for at, told in job.estimates if since <= at < min(until, job.ended - 3)]
    assert len(checked) > 10
    wrong = [row for row in checked if not row[2] * 2 / 3 <= row[1] <= row[2] * 4 / 3]
    assert not wrong, f"{len(wrong)} of {len(checked)}: {wrong[:3]}"


def steady(kind: str, _: float) -> float:
    return TEXT if kind == "pdf" else PICTURE


@pytest.mark.parametrize("burst", [1, 3])
def test_of_one_job(burst: int) -> None:
    job = SimulatedJob(["picture"] * 100)
    simulate([job], steady, burst)
    check_within_a_third(job, since=20 * PICTURE)


def test_of_pages_that_differ() -> None:
    noise, job = random.Random(1), SimulatedJob(["picture"] * 200)
    simulate([job], lambda kind, _: steady(kind, 0) * noise.uniform(0.5, 1.5))
    check_within_a_third(job, since=20 * PICTURE)


def test_of_pictures_behind_a_text_once_some_of_each_were_seen() -> None:
    """Another job has shown what a picture costs."""
    first, job = SimulatedJob(["picture"] * 10), SimulatedJob(["pdf"] * 200 + ["picture"] * 100, begins=8.0)
    simulate([first, job], steady)
    check_within_a_third(job, since=9.0)


def test_of_a_server_that_becomes_slower() -> None:
    job = SimulatedJob(["picture"] * 200)
    simulate([job], lambda kind, now: steady(kind, now) * (1 if now < 30 else 3))
    check_within_a_third(job, since=30 + 30 * 3 * PICTURE)


def test_beside_another_long_job_it_is_twice_as_long() -> None:
    one, other = SimulatedJob(["picture"] * 150), SimulatedJob(["picture"] * 150, begins=20.0)
    simulate([one, other], steady)
    before = next(told for at, told in reversed(one.estimates) if at < 20)
    after = next(told for at, told in one.estimates if at > 22 + 5 * PICTURE)
    assert 1.6 < after / before < 2.2
    check_within_a_third(one, since=20 + 10 * PICTURE)
    check_within_a_third(other, since=20 + 10 * PICTURE)


def test_a_small_job_beside_it_changes_little() -> None:
    manual, note = SimulatedJob(["pdf"] * 1000), SimulatedJob(["picture"] * 20, begins=10.0)
    simulate([manual, note], steady)
    check_within_a_third(manual, since=14.0)
    check_within_a_third(note, since=14.0)
    assert note.ended < 27


def test_a_lap_is_between_two_pages_and_the_first_after_a_pause_counts_for_nothing() -> None:
    laps = Laps()
    assert [laps.lap(1.0), laps.lap(1.5)] == [None, 0.5]
    laps.restart()
    assert [laps.lap(100.0), laps.lap(101.0)] == [None, 1.0]


def test_nothing_is_told_before_some_pages_are_known() -> None:
    costs = PageCosts()
    assert not costs.has_enough and costs.estimate({"pdf": 10}) == 0 and costs.find_cost("pdf") is None
    for _ in range(4):
        costs.record("pdf", 2.0)
    assert costs.has_enough and costs.estimate({"pdf": 10, "picture": 1}) == 22
    assert estimate_seconds_left(WorkLeft(0, 0, 1), [WorkLeft(5, 5, 1)]) == 0
    assert estimate_seconds_left(WorkLeft(3, 3, 0), [WorkLeft(0, 0, 1)]) == 3
