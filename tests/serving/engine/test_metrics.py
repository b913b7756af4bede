from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
from prometheus_client import generate_latest

from serving.engine.engine import Engine
from serving.engine.metrics import EngineCollector
from serving.engine.pool import WorkerPool
from serving.engine.status import describe_pool
from serving.errors import NotReadyError
from tests.support.doubles import Bench, HandClock, ask, with_engine


def test_starts_phases_and_the_state_are_told(tmp_path: Path) -> None:
    async def test(engine: Engine, bench: Bench, clock: HandClock) -> None:
        await ask(engine)
        engine.metrics.registry.register(EngineCollector(partial(describe_pool, WorkerPool([engine], 1))))
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


def test_failures_are_counted_by_backend_and_step(tmp_path: Path) -> None:
    async def test(engine: Engine, bench: Bench, clock: HandClock) -> None:
        engine.metrics.registry.register(EngineCollector(partial(describe_pool, WorkerPool([engine], 1))))
        assert b"dormouse_engine_worker_up 0.0" in generate_latest(engine.metrics.registry)
        bench.create_fails = "no room"
        for _ in range(2):
            await ask(engine)
            await engine.scale_down()
        metrics = generate_latest(engine.metrics.registry).decode()
        for line in (
            'dormouse_engine_snapshot_failures_total{backend="double",what="snapshot"} 2.0',
            "dormouse_engine_fallbacks_total 2.0",
            "dormouse_engine_backend_disabled 1.0",
            "dormouse_engine_snapshot_bytes 0.0",
            'dormouse_engine_starts_total{kind="plain",outcome="served"} 2.0',
        ):
            assert line in metrics

    with_engine(test, tmp_path)


def test_a_start_that_fails_has_no_time(tmp_path: Path) -> None:
    async def test(engine: Engine, bench: Bench, clock: HandClock) -> None:
        bench.plain_fails = "broken"
        with pytest.raises(NotReadyError, match="broken"):
            await ask(engine)
        metrics = generate_latest(engine.metrics.registry).decode()
        assert 'dormouse_engine_starts_total{kind="plain",outcome="failed"} 1.0' in metrics
        assert "start_seconds_count" not in metrics

    with_engine(test, tmp_path, backend=False)
