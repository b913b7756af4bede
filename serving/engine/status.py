"""The engine's state as JSON: for `GET /engine`, its events and the page."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from serving.engine.engine import Engine
from serving.engine.pool import WorkerPool

HISTORY = 20


def describe_engine(engine: Engine) -> dict[str, Any]:
    """Return the engine's state. `since`, `now` and `*_at` are Unix seconds, `*_ms` milliseconds, `*_s` seconds.

    `start` is the start in progress, `next` the one that a request at zero would cause; `expected_ms` is the median of
    such starts so far, or null.
    """
    starter, choice, now = engine.starter, engine.starter.choice, engine.clock.time()
    snapshot = starter.snapshot
    history = [asdict(record) for record in engine.start_history.records[-HISTORY:][::-1]]
    return {
        **describe_worker(engine),
        "now": now,
        "scaledown_window": engine.settings.scaledown_window,
        "min_containers": engine.settings.min_containers,
        "embedder": starter.spec.embedder,
        "backend": choice.name,
        "requested": choice.requested,
        "refused": dict(choice.refused),
        "detail": dict(choice.detail),
        "disabled": starter.disabled,
        "snapshot": snapshot
        and {"bytes": snapshot.bytes, "created": snapshot.created, "age_s": round(now - snapshot.created, 1)},
        "next": {
            "kind": starter.next_kind,
            "expected_ms": engine.start_history.expected_ms(starter.next_kind, choice.name),
        },
        "last_start": history[0] if history else None,
        "history": history,
        "failures": count_failures([engine]),
        "fallbacks": starter.fallbacks,
    }


def describe_worker(engine: Engine) -> dict[str, Any]:
    """Return the state of the engine's worker: what differs between the workers of a pool."""
    left, start, backend = engine.seconds_left, engine.current_start, engine.starter.choice.backend
    return {
        "state": engine.state,
        "since": engine.since,
        "reason": engine.reason,
        "scaledown_at": None if left is None else engine.clock.time() + left,
        "in_flight": engine.in_flight,
        "waiting": len(engine.wait_queue),
        "tier": "none" if backend is None else backend.tier,
        "held": getattr(backend, "parked", None),
        "gpu": engine.starter.spec.gpu,
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
        "worker_pid": None if engine.worker is None else engine.worker.handle.pid,
    }


def describe_pool(pool: WorkerPool) -> dict[str, Any]:
    """Return the state of all workers: that of the one which decides, sums of all, and each under `workers`."""
    return {
        **describe_engine(pool.leader),
        "in_flight": sum(engine.in_flight for engine in pool.engines),
        "waiting": sum(len(engine.wait_queue) for engine in pool.engines),
        "failures": count_failures(pool.engines),
        "fallbacks": sum(engine.starter.fallbacks for engine in pool.engines),
        "batch": pool.batch,
        "workers": [{"number": engine.starter.number, **describe_worker(engine)} for engine in pool.engines],
    }


def count_failures(engines: Sequence[Engine]) -> dict[str, int]:
    """Return the failed snapshots, restores and parkings of all of them: "backend step" -> count."""
    total = sum((engine.starter.failures for engine in engines), Counter[tuple[str, str]]())
    return {f"{backend} {step}": count for (backend, step), count in total.items()}
