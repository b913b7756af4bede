"""Prometheus metrics of the engine, in a registry of its own. The worker has others; they end with it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from serving.starts import Start

if TYPE_CHECKING:
    from serving.engine import Engine

SECONDS = (0.025, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0, 20.0, 40.0, 90.0, 180.0, 600.0)


class EngineCollector(Collector):
    """Reads the engine when it is asked."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def collect(self) -> Iterator[Metric]:
        engine, starter = self._engine, self._engine.starter
        snapshot = starter.snapshot
        for name, about, value in (
            ("in_flight", "Requests that the worker has", engine.in_flight),
            ("waiting", "Requests that wait for a worker", len(engine.waiting)),
            ("worker_up", "1 while there is a worker that answers", int(engine.state == "serving")),
            ("snapshot_bytes", "Size of the snapshot on disk", 0 if snapshot is None else snapshot.bytes),
            ("backend_disabled", "1 after failures in a row", int(bool(starter.disabled))),
        ):
            yield GaugeMetricFamily(f"dormouse_engine_{name}", about, value)
        failures = CounterMetricFamily(
            "dormouse_engine_snapshot_failures", "Snapshots and restores that failed", labels=["backend", "what"]
        )
        for (backend, what), count in starter.failures.items():
            failures.add_metric([backend, what], count)
        yield failures
        yield CounterMetricFamily(
            "dormouse_engine_fallbacks", "Plain starts where a snapshot was meant", starter.fallbacks
        )


class EngineMetrics:
    def __init__(self) -> None:
        self._registry = CollectorRegistry(auto_describe=False)
        self._starts = Counter(
            "dormouse_engine_starts", "Starts by kind and outcome", ["kind", "outcome"], registry=self._registry
        )
        self._ready = self._histogram(
            "start_seconds", "From the first request at zero to a worker that answers", "kind"
        )
        self._first = self._histogram("first_answer_seconds", "From that request to its answer", "kind")
        self._phases = self._histogram("start_phase_seconds", "Phases of a start", "kind", "phase")

    def _histogram(self, name: str, about: str, *labels: str) -> Histogram:
        return Histogram(f"dormouse_engine_{name}", about, labels, buckets=SECONDS, registry=self._registry)

    def watch(self, engine: Engine) -> None:
        self._registry.register(EngineCollector(engine))

    def started(self, row: Start) -> None:
        self._starts.labels(row.kind, row.outcome).inc()
        if row.outcome == "served":
            self._ready.labels(row.kind).observe(row.ready_ms / 1000)
            for phase, milliseconds in row.phases.items():
                self._phases.labels(row.kind, phase).observe(milliseconds / 1000)

    def first_answer(self, row: Start) -> None:
        if row.first_answer_ms is not None:
            self._first.labels(row.kind).observe(row.first_answer_ms / 1000)

    def text(self) -> bytes:
        return generate_latest(self._registry)
