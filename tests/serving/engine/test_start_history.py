from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from prometheus_client import generate_latest

from serving.engine.engine import Engine
from serving.engine.start_history import StartHistory, StartRecord
from serving.engine.status import describe_engine
from tests.support.doubles import Bench, HandClock, ask, lease, read_starts, settle, with_engine


@pytest.mark.parametrize("kept", [0, 1])
def test_what_nobody_waited_for_is_in_no_figure(tmp_path: Path, kept: int) -> None:
    """A start without a request ends when its worker is ready, not with an answer minutes later."""

    async def test(engine: Engine, bench: Bench, clock: HandClock) -> None:
        engine.wake()
        await engine.wait_for_state("serving")
        await settle()
        assert len(read_starts(tmp_path)) == 1, "complete as it is"
        clock.advance(50)
        assert await ask(engine)
        told = describe_engine(engine)["last_start"]
        assert told["first_answer_ms"] is None and told["ready_ms"] == 0.0
        assert b"first_answer_seconds_count" not in generate_latest(engine.metrics.registry)
        await engine.scale_down()
        assert len(read_starts(tmp_path)) == 1 + kept

    with_engine(test, tmp_path, min_containers=kept)


def test_an_answer_after_those_who_waited_have_left_is_in_no_figure(tmp_path: Path) -> None:
    async def test(engine: Engine, bench: Bench, clock: HandClock) -> None:
        async with lease(engine):
            pass  # let in, and gone before it was answered
        clock.advance(50)
        assert await ask(engine)
        assert describe_engine(engine)["last_start"]["first_answer_ms"] is None and len(read_starts(tmp_path)) == 1

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
        assert [(row["ready_ms"], row["first_answer_ms"]) for row in read_starts(tmp_path)] == [(750.0, 750.0)]

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
