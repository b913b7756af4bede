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
    left, snapshot, start = engine.seconds_left, starter.snapshot, engine.current_start
    history = [asdict(record) for record in engine.start_history.records[-HISTORY:][::-1]]
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
        "snapshot": snapshot
        and {"bytes": snapshot.bytes, "created": snapshot.created, "age_s": round(now - snapshot.created, 1)},
        "start": start
        and {
            "at": start.at,
            "kind": start.kind,
            "phases": dict(start.phases),
            "reason": start.reason,
            "phase": engine.phase,
            "elapsed_ms": engine.elapsed_ms,
            "expected_ms": engine.start_history.expected_ms(start.kind, start.backend),
        },
        "next": {
            "kind": starter.next_kind,
            "expected_ms": engine.start_history.expected_ms(starter.next_kind, choice.name),
        },
        "last_start": history[0] if history else None,
        "history": history,
        "failures": {f"{backend} {what}": count for (backend, what), count in starter.failures.items()},
        "fallbacks": starter.fallbacks,
        "worker_pid": None if engine.worker is None else engine.worker.handle.pid,
    }
