from __future__ import annotations

import asyncio
import json
from pathlib import Path

from serving.engine.engine import Engine
from serving.engine.status import describe_engine
from tests.support.doubles import Bench, HandClock, ask, settle, with_engine


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

    with_engine(test, tmp_path)
