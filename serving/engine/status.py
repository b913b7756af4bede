"""The engine's state as JSON: for `GET /engine`, its events and the page."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from serving.engine.engine import Engine

HISTORY = 20


def describe_engine(engine: Engine) -> dict[str, Any]:
    """Return the engine's state. `since`, `now` and `*_at` are Unix seconds, `*_ms` milliseconds, `*_s` seconds.

    `start` is the start in progress, `next` the one that a request at zero would cause; `expected_ms` is the median of
    such starts so far, or null.
    """
    starter, choice, now = engine.starter, engine.starter.choice, engine.clock.time()
    left = engine.seconds_left
    return {
        "state": engine.state,
        "since": engine.since,
        "now": now,
        "reason": engine.reason,
        "scaledown_at": None if left is None else now + left,
        "scaledown_window": engine.settings.scaledown_window,
        "min_containers": engine.settings.min_containers,
        "in_flight": engine.in_flight,
        "waiting": len(engine.wait_queue),
        "embedder": starter.spec.embedder,
        "backend": choice.name,
        "tier": "none" if choice.backend is None else choice.backend.tier,
        "held": getattr(choice.backend, "parked", None),
        "requested": choice.requested,
        "refused": dict(choice.refused),
        "detail": dict(choice.detail),
        "disabled": starter.disabled,
        "snapshot": describe_snapshot(engine, now),
        "start": describe_current_start(engine),
        "next": {
            "kind": starter.next_kind,
            "expected_ms": engine.start_history.expected_ms(starter.next_kind, choice.name),
        },
        "last_start": next(iter(engine.start_history.latest(1)), None),
        "history": engine.start_history.latest(HISTORY),
        "failures": {f"{backend} {what}": count for (backend, what), count in starter.failures.items()},
        "fallbacks": starter.fallbacks,
        "worker_pid": None if engine.worker is None else engine.worker.handle.pid,
    }


def describe_snapshot(engine: Engine, now: float) -> dict[str, Any] | None:
    found = engine.starter.snapshot
    if found is None:
        return None
    return {"bytes": found.bytes, "created": found.created, "age_s": round(now - found.created, 1)}


def describe_current_start(engine: Engine) -> dict[str, Any] | None:
    record = engine.current_start
    if record is None:
        return None
    return {
        **{name: value for name, value in asdict(record).items() if name in ("at", "kind", "phases", "reason")},
        "phase": engine.phase,
        "elapsed_ms": engine.elapsed_ms,
        "expected_ms": engine.start_history.expected_ms(record.kind, record.backend),
    }
