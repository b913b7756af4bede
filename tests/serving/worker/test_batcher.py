from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest

from serving.errors import BusyError, NotReadyError
from serving.worker.batcher import Lane


class Work:
    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.gate = threading.Event()
        self.gate.set()
        self.threads: set[str] = set()

    def __call__(self, items: Sequence[int]) -> list[int]:
        self.batches.append(list(items))
        self.threads.add(threading.current_thread().name)
        self.gate.wait(10)
        if 13 in items:
            raise ValueError("thirteen")
        return [item * 2 for item in items]


def with_lane(test: Callable[[Lane[int, int], Work], Awaitable[None]], **options: Any) -> None:
    async def main() -> None:
        work = Work()
        lane: Lane[int, int] = Lane("test", work, **{"batch": 4, "workers": 1, "queue": lambda: 10, **options})
        lane.start()
        try:
            async with asyncio.timeout(20):
                await test(lane, work)
        finally:
            work.gate.set()
            await lane.stop()

    asyncio.run(main())


async def until(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0.005)


def test_results_keep_their_order_and_batches_form_across_requests() -> None:
    async def test(lane: Lane[int, int], work: Work) -> None:
        work.gate.clear()
        first = asyncio.create_task(lane.submit([1]))
        await until(lambda: work.batches == [[1]])
        rest = [asyncio.create_task(lane.submit([n, n + 1])) for n in (2, 4, 6)]
        await asyncio.sleep(0)
        work.gate.set()
        assert (await first)[0] == [2]
        assert [(await task)[0] for task in rest] == [[4, 6], [8, 10], [12, 14]]
        assert work.batches == [[1], [2, 3, 4, 5], [6, 7]]
        assert work.threads == {"test-0_0"}
        assert (await lane.submit([]))[0] == []

    with_lane(test)


def test_one_bad_item_does_not_fail_its_mates() -> None:
    async def test(lane: Lane[int, int], work: Work) -> None:
        work.gate.clear()
        tasks = [asyncio.create_task(lane.submit([n])) for n in (0, 1, 13, 3)]
        await until(lambda: bool(work.batches))
        work.gate.set()
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        assert isinstance(outcomes[2], ValueError)
        assert [outcome[0] for outcome in outcomes if isinstance(outcome, tuple)] == [[0], [2], [6]]

    with_lane(test)


def test_full_queue_is_refused_at_once_with_a_time() -> None:
    async def test(lane: Lane[int, int], work: Work) -> None:
        work.gate.clear()
        running = asyncio.create_task(lane.submit([1]))
        await until(lambda: bool(work.batches))
        waiting = asyncio.create_task(lane.submit(list(range(10))))
        await asyncio.sleep(0)
        assert lane.depth == 10
        with pytest.raises(BusyError) as caught:
            await lane.submit([1])
        assert caught.value.retry_after is not None and caught.value.retry_after >= 1
        assert lane.counts["rejected"] == 1
        work.gate.set()
        assert len((await waiting)[0]) == 10 and len((await running)[0]) == 1

    with_lane(test)


def test_cancelled_items_are_dropped_before_they_run() -> None:
    async def test(lane: Lane[int, int], work: Work) -> None:
        work.gate.clear()
        running = asyncio.create_task(lane.submit([1]))
        await until(lambda: bool(work.batches))
        leaving = asyncio.create_task(lane.submit([2, 3]))
        staying = asyncio.create_task(lane.submit([4]))
        await asyncio.sleep(0)
        leaving.cancel()
        await asyncio.gather(leaving, return_exceptions=True)
        assert lane.depth == 1 and lane.counts["cancelled"] == 2
        work.gate.set()
        assert (await staying)[0] == [8] and (await running)[0] == [2]
        assert work.batches == [[1], [4]]

    with_lane(test)


class Incomparable:
    """As a page of eleven million bytes should be: nobody asks whether it equals another."""

    def __eq__(self, other: object) -> bool:
        raise AssertionError("items were compared by their content")

    __hash__ = None  # type: ignore[assignment]


def test_what_is_dropped_is_never_compared_by_its_content() -> None:
    """Comparing the pixels of waiting pages held the event loop for 23 s when one client of two left."""

    async def main() -> None:
        gate = threading.Event()
        lane: Lane[Incomparable, int] = Lane(
            "test", lambda items: [gate.wait(10)] * len(items), batch=1, workers=1, queue=lambda: 100
        )
        lane.start()
        running, staying, leaving = (
            asyncio.create_task(lane.submit([Incomparable() for _ in range(count)])) for count in (1, 3, 4)
        )
        await until(lambda: lane.depth == 7)
        leaving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await leaving
        assert lane.depth == 3 and lane.counts["cancelled"] == 4
        gate.set()
        assert [len((await task)[0]) for task in (running, staying)] == [1, 3]
        await lane.stop()

    asyncio.run(main())


def test_stop_refuses_what_waits_and_finishes_what_runs() -> None:
    async def test(lane: Lane[int, int], work: Work) -> None:
        work.gate.clear()
        tasks = [asyncio.create_task(lane.submit([n])) for n in range(6)]
        await until(lambda: bool(work.batches))
        stopping = asyncio.create_task(lane.stop())
        await asyncio.sleep(0.05)
        work.gate.set()
        await stopping
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(isinstance(outcome, NotReadyError) for outcome in outcomes)

    with_lane(test)


def test_workers_run_side_by_side() -> None:
    async def test(lane: Lane[int, int], work: Work) -> None:
        work.gate.clear()
        tasks = [asyncio.create_task(lane.submit([n])) for n in range(3)]
        await until(lambda: len(work.batches) == 2)
        work.gate.set()
        assert sorted([(await task)[0][0] for task in tasks]) == [0, 2, 4]
        assert len(work.threads) == 2

    with_lane(test, workers=2, batch=1)


def test_a_batch_that_is_not_full_waits_a_moment_for_more() -> None:
    async def test(lane: Lane[int, int], work: Work) -> None:
        early = asyncio.create_task(lane.submit([1]))
        await asyncio.sleep(0.05)
        late = asyncio.create_task(lane.submit([2]))
        assert (await early)[0] == [2] and (await late)[0] == [4]
        assert work.batches == [[1, 2]]

    with_lane(test, wait_s=0.5)


def test_a_full_batch_waits_for_nobody() -> None:
    async def test(lane: Lane[int, int], work: Work) -> None:
        async with asyncio.timeout(5):
            assert (await lane.submit([1, 2, 3, 4]))[0] == [2, 4, 6, 8]
        assert work.batches == [[1, 2, 3, 4]]

    with_lane(test, wait_s=60)


def test_a_budget_bounds_what_goes_together_and_what_is_above_it_goes_alone() -> None:
    async def test(lane: Lane[int, int], work: Work) -> None:
        work.gate.clear()
        first = asyncio.create_task(lane.submit([1]))
        await until(lambda: work.batches == [[1]])
        rest = asyncio.create_task(lane.submit([4, 5, 3, 99, 2, 2]))
        await asyncio.sleep(0)
        work.gate.set()
        await first
        assert (await rest)[0] == [8, 10, 6, 198, 4, 4]
        assert work.batches == [[1], [4, 5], [3], [99], [2, 2]]

    with_lane(test, weigh=lambda item: item, budget=10)


def test_what_was_cancelled_while_a_batch_waited_is_not_run() -> None:
    async def test(lane: Lane[int, int], work: Work) -> None:
        gone = asyncio.create_task(lane.submit([1]))
        await asyncio.sleep(0.02)
        gone.cancel()
        assert (await lane.submit([2]))[0] == [4]
        assert work.batches == [[2]]

    with_lane(test, wait_s=0.1)
