"""Prometheus metrics of the engine's state, read at each scrape."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from serving.engine.engine import Engine


class EngineCollector(Collector):
    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def collect(self) -> Iterator[Metric]:
        engine, starter = self._engine, self._engine.starter
        snapshot = starter.snapshot
        for name, about, value in (
            ("in_flight", "Requests that the worker has", engine.in_flight),
            ("waiting", "Requests that wait for a worker", len(engine.wait_queue)),
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
