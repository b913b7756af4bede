"""Which worker a request goes to, when another is woken and which one goes, with workers that are no processes."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from serving.engine.engine import PAUSES_S
from serving.engine.pool import FULL_S, LOOK_S, WorkerPool
from serving.engine.status import describe_pool
from serving.errors import NotReadyError
from tests.support.doubles import Bench, HandClock, ask, settle, with_pool

WINDOW = 60.0


def list_states(pool: WorkerPool) -> list[str]:
    return [engine.state for engine in pool.engines]


async def pass_time(clock: HandClock, seconds: float) -> None:
    """Let that much time go by in small steps, each seen by all tasks."""
    for _ in range(round(seconds / LOOK_S)):
        clock.advance(LOOK_S)
        await settle()


async def keep_busy(pool: WorkerPool, stack: AsyncExitStack, requests: int) -> None:
    for _ in range(requests):
        await stack.enter_async_context(pool.lease())


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_a_hundred_requests_at_zero_are_one_start(tmp_path: Path, workers: int) -> None:
    async def test(pool: WorkerPool, benches: list[Bench], clock: HandClock) -> None:
        benches[0].gate.clear()
        asking = [asyncio.create_task(ask(pool)) for _ in range(100)]
        await settle()
        assert pool.engines[0].load == 100
        benches[0].gate.set()
        assert len(set(await asyncio.gather(*asking))) == 1
        assert [len(bench.handles) for bench in benches] == [1] + [0] * (workers - 1)

    with_pool(test, tmp_path, workers=workers)


def test_a_load_that_lasts_wakes_one_more_at_a_time_and_one_that_is_over_does_not(tmp_path: Path) -> None:
    async def test(pool: WorkerPool, benches: list[Bench], clock: HandClock) -> None:
        async with AsyncExitStack() as load:
            await keep_busy(pool, load, 9)
            await pass_time(clock, FULL_S - 2 * LOOK_S)
            assert list_states(pool) == ["serving", "zero", "zero"]
        await pass_time(clock, 2 * FULL_S)
        assert list_states(pool) == ["serving", "zero", "zero"], "the load was over before it had lasted"
        async with AsyncExitStack() as load:
            await keep_busy(pool, load, 8)
            await pass_time(clock, 2 * FULL_S)
            assert list_states(pool) == ["serving", "zero", "zero"], "eight are what it batches"
            await keep_busy(pool, load, 1)
            await pass_time(clock, FULL_S + LOOK_S)
            assert list_states(pool) == ["serving", "serving", "zero"]
            assert benches[1].kinds == ["restored"], "from the snapshot that the first one made"
            await pass_time(clock, 3 * FULL_S)
            assert list_states(pool) == ["serving", "serving", "zero"], "the second has room"
            await keep_busy(pool, load, 9)
            assert [engine.load for engine in pool.engines] == [9, 9, 0], "each went to the one with less to do"
            await pass_time(clock, FULL_S + LOOK_S)
            assert list_states(pool) == ["serving"] * 3
            await keep_busy(pool, load, 20)
            await pass_time(clock, 3 * FULL_S)
            assert list_states(pool) == ["serving"] * 3, "there are no more"

    with_pool(test, tmp_path, workers=3, batch=8)


def test_the_gaps_between_batches_do_not_hide_a_load(tmp_path: Path) -> None:
    """Clients that are answered together are all gone for a moment: every third look finds an idle worker."""

    async def test(pool: WorkerPool, benches: list[Bench], clock: HandClock) -> None:
        for _ in range(round(3 * FULL_S / LOOK_S / 2)):
            async with AsyncExitStack() as load:
                await keep_busy(pool, load, 12)
                await pass_time(clock, 2 * LOOK_S)
            await pass_time(clock, LOOK_S)
        assert list_states(pool) == ["serving", "serving"]

    with_pool(test, tmp_path, batch=8)


def test_the_last_one_goes_first_and_the_first_serves_on(tmp_path: Path) -> None:
    async def test(pool: WorkerPool, benches: list[Bench], clock: HandClock) -> None:
        async with AsyncExitStack() as load:
            await keep_busy(pool, load, 3)
            await pass_time(clock, FULL_S + LOOK_S)
            await keep_busy(pool, load, 2)
        assert list_states(pool) == ["serving", "serving"]
        for _ in range(4):
            clock.advance(WINDOW / 3)
            await settle()
            assert await ask(pool) == benches[0].handles[0].launch_answer["boot_id"]
        assert list_states(pool) == ["serving", "zero"] and pool.state == "serving"
        told = describe_pool(pool)
        assert told["scaledown_at"] == pytest.approx(clock.date + WINDOW)
        clock.advance(WINDOW + 1)
        await settle()
        assert list_states(pool) == ["zero", "zero"] and [len(bench.handles) for bench in benches] == [1, 1]

    with_pool(test, tmp_path)


def test_a_worker_that_dies_costs_its_own_requests_only(tmp_path: Path) -> None:
    async def test(pool: WorkerPool, benches: list[Bench], clock: HandClock) -> None:
        async with AsyncExitStack() as load:
            await keep_busy(pool, load, 3)
            await pass_time(clock, FULL_S + LOOK_S)
            first, second = (bench.handles[0] for bench in benches)
            first.ended.set()
            assert await ask(pool) == second.launch_answer["boot_id"], "at once, before its owner has noticed"
            await settle()
            assert list_states(pool) == ["scaling_down", "serving"] or list_states(pool) == ["zero", "serving"]
            assert await ask(pool) == second.launch_answer["boot_id"]
            second.ended.set()
            await settle()
            assert await ask(pool), "both died: the next request starts one"
        assert sum(len(bench.handles) for bench in benches) == 3

    with_pool(test, tmp_path)


def test_a_restore_that_fails_takes_nothing_from_the_one_that_serves(tmp_path: Path) -> None:
    async def test(pool: WorkerPool, benches: list[Bench], clock: HandClock) -> None:
        benches[1].restore_fails = "no more memory"
        benches[1].create_fails = benches[1].plain_fails = "no more memory"
        async with AsyncExitStack() as load:
            await keep_busy(pool, load, 3)
            await pass_time(clock, FULL_S + LOOK_S)
            assert list_states(pool) == ["serving", "failed"]
            assert pool.state == "serving" and describe_pool(pool)["failures"]
            assert await ask(pool) == benches[0].handles[0].launch_answer["boot_id"]
        clock.advance(PAUSES_S[-1] + WINDOW + 1)
        await settle()
        assert await ask(pool), "at zero the first is asked"

    with_pool(test, tmp_path)


def test_those_that_wait_for_a_worker_that_fails_go_to_one_that_serves(tmp_path: Path) -> None:
    async def test(pool: WorkerPool, benches: list[Bench], clock: HandClock) -> None:
        benches[0].gate.clear()
        waiting = asyncio.create_task(ask(pool))
        await settle()
        pool.engines[1].wake()
        await settle()
        benches[0].create_fails = benches[0].plain_fails = "the GPU is full"
        benches[0].gate.set()
        await settle()
        assert await waiting == benches[1].handles[0].launch_answer["boot_id"]

    with_pool(test, tmp_path)


def test_when_none_comes_up_the_reason_is_told_and_the_other_is_tried_next(tmp_path: Path) -> None:
    async def test(pool: WorkerPool, benches: list[Bench], clock: HandClock) -> None:
        benches[0].create_fails = benches[0].plain_fails = "the GPU is full"
        with pytest.raises(NotReadyError, match="the GPU is full"):
            await ask(pool)
        assert list_states(pool) == ["failed", "zero"] and pool.state == "zero"
        assert await ask(pool) == benches[1].handles[0].launch_answer["boot_id"]

    with_pool(test, tmp_path)


def test_one_snapshot_is_made_for_all_and_a_rebuild_makes_one(tmp_path: Path) -> None:
    async def test(pool: WorkerPool, benches: list[Bench], clock: HandClock) -> None:
        for gate in (bench.gate for bench in benches):
            gate.clear()
        for engine in pool.engines:
            engine.wake()
        await settle()
        for gate in (bench.gate for bench in benches):
            gate.set()
        await settle()
        assert list_states(pool) == ["serving", "serving"]
        assert sorted(benches[0].kinds + benches[1].kinds) == ["created", "restored"]
        await pool.scale_down(rebuild=True)
        assert list_states(pool) == ["zero", "zero"] and pool.engines[0].starter.next_kind == "created"
        pool.wake()
        pool.engines[1].wake()
        await settle()
        assert [bench.created for bench in benches] == [2, 0] and list_states(pool) == ["serving", "serving"]

    with_pool(test, tmp_path)


def test_scaled_down_together_and_woken_one(tmp_path: Path) -> None:
    async def test(pool: WorkerPool, benches: list[Bench], clock: HandClock) -> None:
        async with AsyncExitStack() as load:
            await keep_busy(pool, load, 3)
            await pass_time(clock, FULL_S + LOOK_S)
            down = pool.scale_down()
            await settle()
            assert not down.done() and list_states(pool) == ["scaling_down", "zero"]
        await down
        assert list_states(pool) == ["zero", "zero"]
        assert pool.wake() == pool.wake() == [pool.engines[0]]
        await settle()
        assert list_states(pool) == ["serving", "zero"]
        assert pool.wake(2) == list(pool.engines)
        await settle()
        assert list_states(pool) == ["serving", "serving"]

    with_pool(test, tmp_path)


def test_only_the_first_is_kept_up_and_started_ahead(tmp_path: Path) -> None:
    async def test(pool: WorkerPool, benches: list[Bench], clock: HandClock) -> None:
        await settle()
        clock.advance(10 * WINDOW)
        await settle()
        assert list_states(pool) == ["serving", "zero"]

    with_pool(test, tmp_path, min_containers=1, start_ahead=True)


def test_what_is_told_of_each(tmp_path: Path) -> None:
    async def test(pool: WorkerPool, benches: list[Bench], clock: HandClock) -> None:
        async with AsyncExitStack() as load:
            await keep_busy(pool, load, 3)
            await pass_time(clock, FULL_S + LOOK_S)
            await keep_busy(pool, load, 1)
            told = describe_pool(pool)
        assert [(row["number"], row["state"], row["in_flight"]) for row in told["workers"]] == [
            (0, "serving", 3),
            (1, "serving", 1),
        ]
        assert told["in_flight"] == 4 and told["scaledown_at"] is None
        assert [(row["worker"], row["kind"]) for row in told["history"]] == [(1, "restored"), (0, "created")]

    with_pool(test, tmp_path)
