"""The engine's states and promises, with workers that are no processes and a clock that is set by hand."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from serving.engine.engine import PAUSES_S, Engine
from serving.engine.status import describe_engine
from serving.errors import NotReadyError
from serving.snapshots.base import Snapshot
from serving.system.timeouts import LASTING_S
from tests.support.doubles import Bench, HandClock, NoBackend, ask, lease, settle, with_engine


def test_created_then_restored_then_down_after_the_window(tmp_path: Path) -> None:
    async def test(engine: Engine, bench: Bench, clock: HandClock) -> None:
        assert engine.state == "zero" and engine.starter.next_kind == "created"
        first = await ask(engine)
        await settle()
        clock.advance(59.9)
        await settle()
        assert engine.state == "serving" and engine.seconds_left == pytest.approx(0.1)
        clock.advance(0.2)
        await settle()
        assert engine.state == "zero" and bench.handles[0].stopped and engine.starter.next_kind == "restored"
        second = await ask(engine)
        assert first != second and bench.kinds == ["created", "restored"] and bench.created == 1

    with_engine(test, tmp_path)


@pytest.mark.parametrize("backend", [True, False])
def test_a_hundred_requests_at_zero_are_one_start(tmp_path: Path, backend: bool) -> None:
    async def test(engine: Engine, bench: Bench, clock: HandClock) -> None:
        bench.gate.clear()
        asking = [asyncio.create_task(ask(engine)) for _ in range(100)]
        await settle()
        assert len(engine.wait_queue) == 100 and engine.in_flight == 0
        bench.gate.set()
        assert len(set(await asyncio.gather(*asking))) == 1 and len(bench.handles) == 1
        assert engine.in_flight == 0

    with_engine(test, tmp_path, backend=backend)


@pytest.mark.soak
def test_a_request_in_the_moment_of_the_idle_shutdown_is_served_two_thousand_times(tmp_path: Path) -> None:
    """The request comes before, with and after the timer, in every order the loop can give them."""

    async def test(engine: Engine, bench: Bench, clock: HandClock) -> None:
        served = 0
        for number in range(2_000):
            await ask(engine)
            for _ in range(number % 7):
                await asyncio.sleep(0)
            if number % 2:
                asking = asyncio.create_task(ask(engine))
                for _ in range(number % 5):
                    await asyncio.sleep(0)
                clock.advance(engine.settings.scaledown_window)
            else:
                clock.advance(engine.settings.scaledown_window)
                for _ in range(number % 11):
                    await asyncio.sleep(0)
                asking = asyncio.create_task(ask(engine))
            assert await asking
            served += 1
        assert served == 2_000 and len(bench.handles) > 500, "the timer hardly ever fired"
        assert bench.kinds[0] == "created" and set(bench.kinds[1:]) == {"restored"}

    with_engine(test, tmp_path)


def test_requests_during_a_scaledown_are_served_by_the_next_worker(tmp_path: Path) -> None:
    async def test(engine: Engine, bench: Bench, clock: HandClock) -> None:
        async with lease(engine) as leased:
            engine.scale_down()
            assert engine.state == "scaling_down"
            later = asyncio.create_task(ask(engine))
            await settle()
            assert not later.done() and not leased.worker.handle.ended.is_set(), "what is in flight is finished first"
        other = await later
        assert other != leased.worker.handle.launch_answer["boot_id"] and bench.kinds == ["created", "restored"]
        engine.scale_down()
        engine.scale_down()
        await engine.wait_for_state("zero")
        engine.scale_down()
        assert engine.state == "zero"
        bench.gate.clear()  # asked for while it starts: those who wait are served, then it goes
        asking = asyncio.create_task(ask(engine))
        await settle()
        engine.scale_down()
        bench.gate.set()
        assert await asking
        await engine.wait_for_state("zero")

    with_engine(test, tmp_path)


@pytest.mark.parametrize("asked", ["request", "wake"])
def test_a_scaledown_while_a_snapshot_is_looked_for_is_carried_out(tmp_path: Path, asked: str) -> None:
    """The state is still zero then."""

    async def test(engine: Engine, bench: Bench, clock: HandClock) -> None:
        await settle()
        for number in range(1, 3):
            bench.find_gate.clear()
            asking = asyncio.create_task(ask(engine)) if asked == "request" else None
            if asking is None:
                engine.wake()
            await settle()
            assert engine.state == "zero" and describe_engine(engine)["start"]["phase"] == "find"
            gone = engine.scale_down()
            await settle()
            assert not gone.done(), "its worker has not come yet"
            bench.find_gate.set()
            await gone
            assert engine.state == "zero" and all(handle.stopped for handle in bench.handles)
            if asking is not None:
                assert await asking
            await settle()
            assert engine.state == "zero" and len(bench.handles) == number
        assert await ask(engine), "the next request starts another one"

    with_engine(test, tmp_path)


def test_a_scaledown_takes_back_a_wake_that_was_not_heard_yet(tmp_path: Path) -> None:
    async def test(engine: Engine, bench: Bench, clock: HandClock) -> None:
        engine.wake()
        await engine.scale_down()
        await settle()
        assert engine.state == "zero" and not bench.handles
        bench.gate.clear()
        engine.wake()
        await settle()
        engine.scale_down()
        engine.wake()
        bench.gate.set()
        await settle()
        assert engine.state == "serving" and len(bench.handles) == 2, "the last word counts"

    with_engine(test, tmp_path)


def test_a_scaledown_while_the_engine_itself_starts_is_carried_out(tmp_path: Path) -> None:
    """An earlier engine's snapshot is looked for before the first request is heard."""

    async def test(engine: Engine, bench: Bench, clock: HandClock) -> None:
        asking = asyncio.create_task(ask(engine))
        await settle()
        gone = engine.scale_down()
        bench.find_gate.set()
        await gone
        assert await asking
        await settle()
        assert engine.state == "zero" and len(bench.handles) == 1 and bench.handles[0].stopped

    with_engine(test, tmp_path, finds=False)


def test_a_start_that_fails_is_told_and_tried_again_after_a_growing_pause(tmp_path: Path) -> None:
    async def test(engine: Engine, bench: Bench, clock: HandClock) -> None:
        bench.plain_fails = "the model file is damaged"
        for pause in PAUSES_S[:3]:
            with pytest.raises(NotReadyError, match="damaged") as first:
                await ask(engine)
            assert first.value.code == "start_failed" and engine.state == "failed"
            with pytest.raises(NotReadyError, match="damaged"):  # at once, without another start
                await ask(engine)
            assert describe_engine(engine)["reason"] == "the model file is damaged"
            await settle()
            clock.advance(pause - 0.1)
            await settle()
            assert engine.state == "failed"
            clock.advance(0.2)
            await settle()
            assert engine.state == "zero"
        bench.plain_fails = ""
        assert await ask(engine) and engine.state == "serving"
        assert [row.outcome for row in engine.start_history.records] == ["failed"] * 3 + ["served"]

    with_engine(test, tmp_path, backend=False)


def test_min_containers_keeps_one(tmp_path: Path) -> None:
    async def test(engine: Engine, bench: Bench, clock: HandClock) -> None:
        await engine.wait_for_state("serving")
        clock.advance(10_000)
        await settle()
        assert engine.state == "serving" and engine.seconds_left is None and len(bench.handles) == 1
        for number in range(3):  # it dies without having answered: another one comes unasked, after a growing pause
            bench.handles[number].ended.set()
            await settle()
            clock.advance(PAUSES_S[number] - 0.1)
            await settle()
            assert len(bench.handles) == number + 1
            clock.advance(0.2)
            await settle()
            assert len(bench.handles) == number + 2 and engine.state == "serving"
        bench.handles[3].ended.set()
        assert await ask(engine), "who asks does not wait for the pause"

    with_engine(test, tmp_path, min_containers=1)


def test_the_first_start_is_made_ahead_and_no_other(tmp_path: Path) -> None:
    async def test(engine: Engine, bench: Bench, clock: HandClock) -> None:
        await engine.wait_for_state("serving")
        assert bench.kinds == ["created"] and engine.starter.next_kind == "restored"
        await settle()
        clock.advance(61)
        await settle()
        assert engine.state == "zero"
        clock.advance(10_000)
        await settle()
        assert engine.state == "zero" and len(bench.handles) == 1

    with_engine(test, tmp_path, start_ahead=True)


def test_nothing_is_started_ahead_where_a_snapshot_is_found(tmp_path: Path) -> None:
    async def test(engine: Engine, bench: Bench, clock: HandClock) -> None:
        backend = engine.starter.choice.backend
        assert isinstance(backend, NoBackend)
        backend.snapshot = Snapshot("s", 0.0, 1, bench.probe)
        bench.find_gate.set()
        await settle()
        assert engine.state == "zero" and engine.starter.next_kind == "restored"
        assert await ask(engine) and bench.kinds == ["restored"]

    with_engine(test, tmp_path, finds=False, start_ahead=True)


def test_a_worker_that_answers_and_dies_again_and_again_is_not_started_in_a_loop(tmp_path: Path) -> None:
    async def test(engine: Engine, bench: Bench, clock: HandClock) -> None:
        await engine.wait_for_state("serving")
        for number in range(3):
            assert await ask(engine)
            bench.handles[number].ended.set()
            await settle()
            clock.advance(PAUSES_S[number] - 0.1)
            await settle()
            assert len(bench.handles) == number + 1
            clock.advance(0.2)
            await settle()
            assert len(bench.handles) == number + 2 and engine.state == "serving"
        clock.advance(LASTING_S)
        bench.handles[3].ended.set()
        await settle()
        clock.advance(PAUSES_S[0])
        await settle()
        assert engine.state == "serving", "this one had lasted"

    with_engine(test, tmp_path, min_containers=1)


def test_a_worker_that_dies_is_replaced_by_the_next_request(tmp_path: Path) -> None:
    async def test(engine: Engine, bench: Bench, clock: HandClock) -> None:
        first = await ask(engine)
        bench.handles[0].ended.set()
        second = await ask(engine)
        assert first != second and bench.kinds == ["created", "restored"]

    with_engine(test, tmp_path)


def test_a_worker_that_is_being_killed_gets_no_request(tmp_path: Path) -> None:
    """Its end is heard some milliseconds after it was killed; a request between the two waits for the next one."""

    async def test(engine: Engine, bench: Bench, clock: HandClock) -> None:
        first = await ask(engine)
        bench.handles[0].killed = True
        second = asyncio.create_task(ask(engine))
        await settle()
        assert not second.done() and len(engine.wait_queue) == 1 and len(bench.handles) == 1
        bench.handles[0].ended.set()
        assert first != await second and bench.kinds == ["created", "restored"]

    with_engine(test, tmp_path)


def test_wake_brings_one_up_and_the_timer_runs(tmp_path: Path) -> None:
    async def test(engine: Engine, bench: Bench, clock: HandClock) -> None:
        engine.wake()
        await engine.wait_for_state("serving")
        await settle()
        clock.advance(engine.settings.scaledown_window)
        await engine.wait_for_state("zero")
        assert bench.kinds == ["created"] and engine.start_history.records[0].first_answer_ms is None

    with_engine(test, tmp_path)


def test_close_in_every_state(tmp_path: Path) -> None:
    async def at_zero(engine: Engine, bench: Bench, clock: HandClock) -> None: ...

    async def while_starting(engine: Engine, bench: Bench, clock: HandClock) -> None:
        bench.gate.clear()
        asking = asyncio.create_task(ask(engine))
        await settle()
        await engine.close()
        with pytest.raises(NotReadyError, match="stopping"):
            await asking
        with pytest.raises(NotReadyError, match="stopping"):
            await ask(engine)

    async def while_serving(engine: Engine, bench: Bench, clock: HandClock) -> None:
        await ask(engine)

    async def while_failed(engine: Engine, bench: Bench, clock: HandClock) -> None:
        bench.plain_fails = bench.create_fails = "scripted"
        with pytest.raises(NotReadyError):
            await ask(engine)

    for test in (at_zero, while_starting, while_serving, while_failed):
        with_engine(test, tmp_path)


def test_a_fault_of_the_engine_itself_is_told_and_it_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(engine: Engine, bench: Bench, clock: HandClock) -> None:
        with monkeypatch.context() as patch:
            patch.setattr(engine.starter, "start", None)
            with pytest.raises(NotReadyError, match="its log has the reason"):
                await ask(engine)
            assert describe_engine(engine)["reason"].startswith("TypeError")
        clock.advance(PAUSES_S[0])
        await settle()
        assert await ask(engine)

    with_engine(test, tmp_path)


def test_rebuild_waits_for_its_moment_and_meets_no_start(tmp_path: Path) -> None:
    """Asked for while requests come without end: between two workers, never under one."""

    async def test(engine: Engine, bench: Bench, clock: HandClock) -> None:
        stopped = asyncio.Event()

        async def traffic() -> None:
            while not stopped.is_set():
                await ask(engine)

        asking = [asyncio.create_task(traffic()) for _ in range(5)]
        await settle()
        for number in range(1, 4):
            await engine.scale_down(rebuild=True)
            assert bench.discarded == number
            await engine.wait_for_state("serving")
            assert bench.kinds == ["created"] * (number + 1)
        stopped.set()
        await asyncio.gather(*asking)
        assert describe_engine(engine)["failures"] == {}

    with_engine(test, tmp_path)


def test_wake_is_for_a_worker_that_is_not_there(tmp_path: Path) -> None:
    async def test(engine: Engine, bench: Bench, clock: HandClock) -> None:
        await ask(engine)
        engine.wake()
        await settle()
        clock.advance(engine.settings.scaledown_window)
        await engine.wait_for_state("zero")
        await settle()
        assert engine.state == "zero" and len(bench.handles) == 1, "no start is owed for later"

    with_engine(test, tmp_path)


def test_the_date_may_jump_and_the_machine_may_sleep(tmp_path: Path) -> None:
    async def test(engine: Engine, bench: Bench, clock: HandClock) -> None:
        await ask(engine)
        for jump in (-10 * 86_400, 10 * 86_400):
            clock.date += jump
            clock.advance(1.0)
            await settle()
            assert engine.state == "serving"
            assert describe_engine(engine)["scaledown_at"] == pytest.approx(clock.date + (engine.seconds_left or 0))
        async with lease(engine):
            clock.advance(3_600.0)  # a request that takes long, or a lid that was closed
            await settle()
            assert engine.state == "serving" and engine.seconds_left is None
        await settle()
        assert engine.state == "serving" and engine.seconds_left == engine.settings.scaledown_window
        clock.advance(3_600.0)
        await settle()
        assert engine.state == "zero"

    with_engine(test, tmp_path)
