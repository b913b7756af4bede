from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from serving.engine.engine import Engine
from serving.engine.starter import RunningWorker
from serving.engine.wait_queue import ChangeNotifier, WaitQueue
from serving.errors import NotReadyError
from tests.support.doubles import Bench, HandClock, ask, lease, settle, with_engine


def test_waiting_is_bounded_in_number_and_in_time(tmp_path: Path) -> None:
    async def test(engine: Engine, bench: Bench, clock: HandClock) -> None:
        bench.gate.clear()
        asking = [asyncio.create_task(ask(engine)) for _ in range(3)]
        await settle()
        with pytest.raises(NotReadyError) as refused:
            await ask(engine)
        assert refused.value.code == "too_many_waiting" and refused.value.retry_after
        outcomes = await asyncio.gather(*asking, return_exceptions=True)
        assert all(isinstance(outcome, NotReadyError) and outcome.retry_after for outcome in outcomes)
        assert len(engine.wait_queue) == 0
        bench.gate.set()

    with_engine(test, tmp_path, max_waiting=3, hold_timeout_s=0.2)


def test_a_request_that_gives_up_leaves_no_trace(tmp_path: Path) -> None:
    """Cancelled before, in and after the moment in which it is granted the worker."""

    async def test(engine: Engine, bench: Bench, clock: HandClock) -> None:
        for steps in range(60):
            bench.gate.clear()
            leaving, staying = (asyncio.create_task(ask(engine)) for _ in range(2))
            await settle()
            assert len(engine.wait_queue) == 2
            bench.gate.set()
            for _ in range(steps):
                await asyncio.sleep(0)
            leaving.cancel()
            await asyncio.gather(leaving, return_exceptions=True)
            assert await staying
            assert engine.in_flight == 0 and len(engine.wait_queue) == 0
            engine.scale_down()
            await engine.wait_for_state("zero")

    with_engine(test, tmp_path)


def test_no_more_in_flight_than_allowed(tmp_path: Path) -> None:
    async def test(engine: Engine, bench: Bench, clock: HandClock) -> None:
        most = 0

        async def one() -> None:
            nonlocal most
            async with lease(engine):
                most = max(most, engine.in_flight)
                await asyncio.sleep(0.001)

        await asyncio.gather(*(one() for _ in range(20)))
        assert most == 4 and engine.in_flight == 0

    with_engine(test, tmp_path, max_in_flight=4)


def test_every_state_is_told_in_its_order(tmp_path: Path) -> None:
    async def test(engine: Engine, bench: Bench, clock: HandClock) -> None:
        seen = [engine.state]

        async def watch() -> None:
            version = engine.changes.version
            while True:
                version = await engine.changes.wait_after(version)
                if engine.state != seen[-1]:
                    seen.append(engine.state)

        watching = asyncio.create_task(watch())
        entered = engine._enter_state

        def enter(state: str) -> None:
            entered(state)  # type: ignore[arg-type]
            if state != seen[-1]:
                seen.append(state)  # type: ignore[arg-type]

        engine._enter_state = enter  # type: ignore[method-assign, assignment]
        await ask(engine)
        engine.scale_down()
        await engine.wait_for_state("zero")
        assert seen == [
            "zero", "starting", "snapshotting", "restoring", "serving", "scaling_down", "zero",
        ]  # fmt: skip
        bench.restore_fails = "scripted"
        await ask(engine)
        assert seen[7:] == ["restoring", "starting", "serving"]
        watching.cancel()

    with_engine(test, tmp_path)


def test_requests_are_admitted_in_their_order_up_to_the_limit() -> None:
    async def test() -> None:
        queue, worker = WaitQueue(), cast(RunningWorker, SimpleNamespace(in_flight=0))
        assert queue.waiting_since is None
        waiters = [queue.join(float(began)) for began in range(4)]
        assert len(queue) == 4 and queue.waiting_since == 0.0
        waiters[1].cancel()  # not yet left
        queue.admit(worker, 2)
        assert [waiter.done() for waiter in waiters] == [True, True, True, False]
        assert worker.in_flight == 2 and waiters[2].result() is worker and queue.waiting_since == 3.0
        queue.refuse_all(NotReadyError("no"))
        assert len(queue) == 0
        with pytest.raises(NotReadyError, match="no"):
            await waiters[3]

    asyncio.run(test())


def test_no_change_is_missed_between_reading_and_waiting() -> None:
    async def test() -> None:
        changes = ChangeNotifier()
        listening = [asyncio.create_task(changes.wait_after(0)) for _ in range(2)]
        await asyncio.sleep(0)
        assert not any(task.done() for task in listening)
        changes.notify()
        changes.notify()
        assert await asyncio.gather(*listening) == [2, 2]
        assert await changes.wait_after(1) == 2, "what has changed already is not waited for"

    asyncio.run(test())
