"""Samples of cold starts, and the result files that hold them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from bench.coldstart import run
from bench.coldstart.result_file import Result
from bench.coldstart.sample import NEW, Sample
from bench.results import record

BEGUN = datetime(2026, 11, 24, 12, tzinfo=UTC)
PLAIN_MS, RESTORED_MS, WARM_MS = (900.0, 1000.0, 1100.0), (100.0, 110.0, 120.0), (9.0, 10.0, 11.0, 12.0)

PHASES = {
    "plain": {"start": 800.0, "hold": 805.0, "queue": 0.5, "embed": 40.0},
    "restored": {"restore": 60.0, "hold": 62.0, "queue": 0.5, "embed": 30.0},
    "created": {"start": 3000.0, "hold": 3000.0, "embed": 40.0},
    "warm": {"restore": 60.0, "hold": 0.1, "queue": 0.5, "embed": 7.0},
}


def sample(number: int, start: str, ms: float, **fields: Any) -> Sample:
    """As `measure` makes them: verified if plain or restored; `start` may be warm."""
    warm, cold = start == "warm", start in ("plain", "restored")
    way = "builtin plain" if start == "plain" else "builtin criu"
    made = Sample(
        number, way, "warm" if warm else "initial", 1, (BEGUN + timedelta(seconds=number)).isoformat(), ms, "ok",
        boot_id=f"boot {number}", start_kind="restored" if warm else start, boot_requests=2 if warm else 1,
        server_ms=dict(PHASES.get(start, {})), verified=cold,
        why_not="warm" if warm else "" if cold else "made the snapshot",
    )  # fmt: skip
    return replace(made, **fields)


def every_kind() -> list[Sample]:
    """Each start kind, and one of each that no figure may count, at times that no other sample has."""
    counting = [("created", 3500.0)]
    counting += [("plain", ms) for ms in PLAIN_MS] + [("restored", ms) for ms in RESTORED_MS]
    counting += [("warm", ms) for ms in WARM_MS]
    found = [sample(number, start, ms) for number, (start, ms) in enumerate(counting, 1)]
    kept_warm = {"verified": False, "why_not": "the same process answered before"}
    return [
        *found,
        sample(20, "restored", 5.0, **kept_warm),
        sample(21, "warm", 777.0, why_not=NEW),
        sample(22, "plain", 120_000.0, outcome="timeout", verified=False, why_not="no answer: timeout", server_ms={}),
        sample(23, "plain", 0.0, outcome="not_scaled_down", verified=False, why_not="it stayed", start_kind=""),
    ]


def content(samples: Sequence[Sample] | None = None, name: str = "builtin", **where: Any) -> dict[str, Any]:
    """What the command writes, but for the file."""
    samples = every_kind() if samples is None else samples
    titles = {target: f"the engine of {target}" for target in dict.fromkeys(one.target for one in samples)}
    found = run.build_result(name, samples, titles, 0, True)
    head = {"schema_version": record.SCHEMA_VERSION, "kind": "cold_start"}
    return {**head, "environment": {**record.describe_environment(), **where}, **found}


def made(samples: Sequence[Sample] | None = None, name: str = "builtin", **where: Any) -> Result:
    return Result.model_validate_json(json.dumps(content(samples, name, **where)))


def written(folder: Path, samples: Sequence[Sample] | None = None) -> Path:
    found = run.build_result("builtin", *arguments(every_kind() if samples is None else samples))
    return record.save_result(
        folder / "cold_start_results_builtin.json", "cold_start", found, record.describe_environment()
    )


def arguments(samples: Sequence[Sample]) -> tuple[Sequence[Sample], dict[str, str], int, bool]:
    return samples, {one.target: one.target for one in samples}, 0, True
