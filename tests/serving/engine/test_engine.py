"""The engine's states and promises, with workers that are no processes and a clock that is set by hand.

The same promises with real processes are in test_engine_process.py.
"""

from __future__ import annotations

import asyncio
import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import generate_latest

from serving.engine.engine import PAUSES_S, Engine
from serving.engine.metrics import EngineCollector
from serving.engine.start_history import StartHistory, StartRecord
from serving.engine.status import describe_engine
from serving.errors import NotReadyError
from serving.system.timeouts import LASTING_S
from tests.support.doubles import Bench, HandClock, settle, with_engine


async def ask(engine: Engine) -> str:
    """One request: the id of the worker that served it."""
    async with engine.lease() as lease:
        engine.record_first_answer(lease.worker)
        await asyncio.sleep(0)
        assert not lease.worker.handle.ended.is_set()
        return str(lease.worker.handle.about["boot_id"])


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


def test_the_date_may_jump_and_the_machine_may_sleep(tmp_path: Path) -> None:
    async def test(engine: Engine, bench: Bench, clock: HandClock) -> None:
        await ask(engine)
        for jump in (-10 * 86_400, 10 * 86_400):
            clock.date += jump
            clock.advance(1.0)
            await settle()
            assert engine.state == "serving"
            assert describe_engine(engine)["scaledown_at"] == pytest.approx(clock.date + (engine.seconds_left or 0))
        async with engine.lease():
            clock.advance(3_600.0)  # a request that takes long, or a lid that was closed
            await settle()
            assert engine.state == "serving" and engine.seconds_left is None
        await settle()
        assert engine.state == "serving" and engine.seconds_left == engine.settings.scaledown_window
        clock.advance(3_600.0)
        await settle()
        assert engine.state == "zero"

    with_engine(test, tmp_path)


def test_requests_during_a_scaledown_are_served_by_the_next_worker(tmp_path: Path) -> None:
    async def test(engine: Engine, bench: Bench, clock: HandClock) -> None:
        async with engine.lease() as lease:
            engine.scale_down()
            assert engine.state == "scaling_down"
            later = asyncio.create_task(ask(engine))
            await settle()
            assert not later.done() and not lease.worker.handle.ended.is_set(), "what is in flight is finished first"
        other = await later
        assert other != lease.worker.handle.about["boot_id"] and bench.kinds == ["created", "restored"]
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


def test_a_restore_that_fails_costs_time_and_no_answer(tmp_path: Path) -> None:
    async def test(engine: Engine, bench: Bench, clock: HandClock) -> None:
        await ask(engine)
        engine.scale_down()
        await engine.wait_for_state("zero")
        bench.restore_fails = "scripted: no such file"
        await ask(engine)
        assert bench.kinds == ["created", "plain"] and bench.discarded == 1
        told = describe_engine(engine)
        assert told["fallbacks"] == 1 and told["failures"] == {"double restore": 1} and not told["disabled"]
        assert "no such file" in told["last_start"]["reason"] and told["last_start"]["kind"] == "plain"
        bench.restore_fails = ""
        for expected in ("created", "restored"):
            engine.scale_down()
            await engine.wait_for_state("zero")
            await ask(engine)
            assert bench.kinds[-1] == expected

    with_engine(test, tmp_path)


def test_two_failures_in_a_row_disable_the_backend_until_it_is_rebuilt(tmp_path: Path) -> None:
    async def test(engine: Engine, bench: Bench, clock: HandClock) -> None:
        bench.restore_fails = "scripted"
        for _ in range(3):
            await ask(engine)
            engine.scale_down()
            await engine.wait_for_state("zero")
        assert bench.kinds == ["plain"] * 3 and bench.created == 2, "not tried a third time"
        assert "2 failures in a row" in describe_engine(engine)["disabled"] and engine.starter.next_kind == "plain"
        bench.restore_fails = ""
        await engine.scale_down(rebuild=True)
        await ask(engine)
        assert bench.kinds[-1] == "created" and describe_engine(engine)["disabled"] == ""

    with_engine(test, tmp_path)


@pytest.mark.parametrize("after", [[[0.8, 0.6]], [[0.6, float("nan")]], [], [[0.0, 0.0]], [[0.6, 0.8, 0.0]]])
def test_a_wrong_probe_never_serves(tmp_path: Path, after: list[list[float]]) -> None:
    async def test(engine: Engine, bench: Bench, clock: HandClock) -> None:
        await ask(engine)
        engine.scale_down()
        await engine.wait_for_state("zero")
        bench.probe_after = after
        used = await ask(engine)
        assert bench.kinds == ["created", "restored", "plain"] and bench.handles[1].stopped
        assert used == bench.handles[2].about["boot_id"] and bench.discarded == 1
        assert "probe" in describe_engine(engine)["last_start"]["reason"]

    with_engine(test, tmp_path)


def test_an_embedder_whose_probe_is_not_finite_does_not_serve(tmp_path: Path) -> None:
    async def test(engine: Engine, bench: Bench, clock: HandClock) -> None:
        bench.probe = [[float("nan"), 1.0]]
        with pytest.raises(NotReadyError, match="not finite"):
            await ask(engine)
        assert engine.state == "failed"

    with_engine(test, tmp_path)
    with_engine(test, tmp_path, backend=False)


def test_a_snapshot_that_cannot_be_made_is_a_plain_start(tmp_path: Path) -> None:
    async def test(engine: Engine, bench: Bench, clock: HandClock) -> None:
        bench.create_fails = "No space left on device"
        await ask(engine)
        assert bench.kinds == ["plain"] and describe_engine(engine)["failures"] == {"double snapshot": 1}

    with_engine(test, tmp_path)


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
            async with engine.lease():
                most = max(most, engine.in_flight)
                await asyncio.sleep(0.001)

        await asyncio.gather(*(one() for _ in range(20)))
        assert most == 4 and engine.in_flight == 0

    with_engine(test, tmp_path, max_in_flight=4)


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


@pytest.mark.parametrize("kept", [0, 1])
def test_what_nobody_waited_for_is_in_no_figure(tmp_path: Path, kept: int) -> None:
    """A start without a request ends when its worker is ready, not with an answer minutes later."""

    async def test(engine: Engine, bench: Bench, clock: HandClock) -> None:
        engine.wake()
        await engine.wait_for_state("serving")
        await settle()
        assert len(recorded(tmp_path)) == 1, "complete as it is"
        clock.advance(50)
        assert await ask(engine)
        told = describe_engine(engine)["last_start"]
        assert told["first_answer_ms"] is None and told["ready_ms"] == 0.0
        assert b"first_answer_seconds_count" not in generate_latest(engine.metrics.registry)
        await engine.scale_down()
        assert len(recorded(tmp_path)) == 1 + kept

    with_engine(test, tmp_path, min_containers=kept)


def test_an_answer_after_those_who_waited_have_left_is_in_no_figure(tmp_path: Path) -> None:
    async def test(engine: Engine, bench: Bench, clock: HandClock) -> None:
        async with engine.lease():
            pass  # let in, and gone before it was answered
        clock.advance(50)
        assert await ask(engine)
        assert describe_engine(engine)["last_start"]["first_answer_ms"] is None and len(recorded(tmp_path)) == 1

    with_engine(test, tmp_path)


def test_a_start_that_is_waited_for_counts_from_the_moment_it_began(tmp_path: Path) -> None:
    async def test(engine: Engine, bench: Bench, clock: HandClock) -> None:
        bench.gate.clear()
        engine.wake()
        await settle()
        clock.advance(0.5)
        asking = asyncio.create_task(ask(engine))
        await settle()
        clock.advance(0.25)
        bench.gate.set()
        assert await asking
        assert [(row["ready_ms"], row["first_answer_ms"]) for row in recorded(tmp_path)] == [(750.0, 750.0)]

    with_engine(test, tmp_path)


def recorded(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "starts.jsonl").read_text().splitlines()]


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


def test_what_is_expected_of_the_next_start_survives_the_engine(tmp_path: Path) -> None:
    async def test(engine: Engine, bench: Bench, clock: HandClock) -> None:
        for _ in range(3):
            bench.gate.clear()
            asking = asyncio.create_task(ask(engine))
            await settle()
            clock.advance(0.25)
            bench.gate.set()
            await asking
            engine.scale_down()
            await engine.wait_for_state("zero")
        assert describe_engine(engine)["next"] == {"kind": "restored", "expected_ms": 250.0}

    with_engine(test, tmp_path)
    with (tmp_path / "starts.jsonl").open("a") as stream:
        stream.write('{"at": 1, "backe')  # the last line of an engine that was killed
    again = StartHistory(tmp_path / "starts.jsonl")
    again.load()
    assert [row.kind for row in again.records] == ["created", "restored", "restored"]
    assert again.expected_ms("restored", "double") == 250.0 and again.expected_ms("restored", "other") is None


def test_status_while_it_starts_and_as_json(tmp_path: Path) -> None:
    async def test(engine: Engine, bench: Bench, clock: HandClock) -> None:
        bench.gate.clear()
        asking = asyncio.create_task(ask(engine))
        await settle()
        clock.advance(0.5)
        told = json.loads(json.dumps(describe_engine(engine)))
        assert told["state"] == "starting" and told["waiting"] == 1 and told["start"]["phase"] == "load"
        assert told["start"]["elapsed_ms"] == 500.0 and told["start"]["kind"] == "created"
        bench.gate.set()
        await asking
        told = describe_engine(engine)
        assert told["start"] is None and set(told["last_start"]["phases"]) >= {"queue", "load", "snapshot", "restore"}
        engine.metrics.registry.register(EngineCollector(partial(describe_engine, engine)))
        metrics = generate_latest(engine.metrics.registry).decode()
        for line in (
            'dormouse_engine_starts_total{kind="created",outcome="served"} 1.0',
            "dormouse_engine_worker_up 1.0",
            "dormouse_engine_waiting 0.0",
            "dormouse_engine_in_flight 0.0",
            "dormouse_engine_snapshot_bytes 1.0",
            "dormouse_engine_fallbacks_total 0.0",
            'dormouse_engine_start_phase_seconds_count{kind="created",phase="restore"} 1.0',
            'dormouse_engine_start_seconds_count{kind="created"} 1.0',
            'dormouse_engine_first_answer_seconds_count{kind="created"} 1.0',
        ):
            assert line in metrics

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


@pytest.mark.parametrize("wrong", ["find", "create", "restore", "probe"])
def test_a_backend_that_breaks_is_a_plain_start_and_leaves_no_worker(tmp_path: Path, wrong: str) -> None:
    async def test(engine: Engine, bench: Bench, clock: HandClock) -> None:
        backend = engine.starter.choice.backend
        assert backend is not None
        if wrong == "probe":
            bench.probe_after = [["not a number"]]  # type: ignore[list-item]
        else:

            async def broken(*_: object) -> None:
                raise KeyError("scripted")

            setattr(backend, wrong, broken)
        expected = "created" if wrong == "find" else "plain"
        await ask(engine)
        assert bench.kinds[-1] == expected
        assert sum(not handle.stopped for handle in bench.handles) == 1

    with_engine(test, tmp_path)


@pytest.mark.parametrize(
    "line", ["[]", "[" * 20_000, '{"at": "x"}', '{"at": 1, "backend": "b", "kind": "plain", "outcome": "served",'
    ' "reason": "", "phases": {}, "ready_ms": "x", "first_answer_ms": null}', "\udcff"]
)  # fmt: skip
def test_a_record_of_starts_that_is_none_stops_nobody(tmp_path: Path, line: str) -> None:
    (tmp_path / "starts.jsonl").write_bytes(line.encode("utf-8", "surrogateescape") + b"\n")

    async def test(engine: Engine, bench: Bench, clock: HandClock) -> None:
        assert await ask(engine)
        assert len(engine.start_history.records) == 1 and json.dumps(describe_engine(engine))

    with_engine(test, tmp_path)


def test_the_record_of_starts_stays_short(tmp_path: Path) -> None:
    starts = StartHistory(tmp_path / "starts.jsonl")
    for number in range(1_000):
        row = StartRecord(float(number), "double")
        starts.add(row)
        starts.write(row)
    assert len((tmp_path / "starts.jsonl").read_text().splitlines()) <= 400
    again = StartHistory(tmp_path / "starts.jsonl")
    again.load()
    assert again.records[-1].at == 999.0 and len(again.records) >= 200
