"""Prometheus metrics of the engine's starts, in a registry of its own. Those of a worker end with the worker."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest

from serving.engine.start_history import StartRecord

BUCKETS_S = (0.025, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0, 20.0, 40.0, 90.0, 180.0, 600.0)


class StartMetrics:
    def __init__(self) -> None:
        self.registry = CollectorRegistry(auto_describe=False)
        self._starts = Counter(
            "dormouse_engine_starts", "Starts by kind and outcome", ["kind", "outcome"], registry=self.registry
        )
        self._ready = self._histogram(
            "start_seconds", "From the first request at zero to a worker that answers", "kind"
        )
        self._first = self._histogram("first_answer_seconds", "From that request to its answer", "kind")
        self._phases = self._histogram("start_phase_seconds", "Phases of a start", "kind", "phase")

    def _histogram(self, name: str, about: str, *labels: str) -> Histogram:
        return Histogram(f"dormouse_engine_{name}", about, labels, buckets=BUCKETS_S, registry=self.registry)

    def count_start(self, record: StartRecord) -> None:
        self._starts.labels(record.kind, record.outcome).inc()
        if record.outcome == "served":
            self._ready.labels(record.kind).observe(record.ready_ms / 1000)
            for phase, milliseconds in record.phases.items():
                self._phases.labels(record.kind, phase).observe(milliseconds / 1000)

    def observe_first_answer(self, record: StartRecord) -> None:
        if record.first_answer_ms is not None:
            self._first.labels(record.kind).observe(record.first_answer_ms / 1000)

    def render_text(self) -> bytes:
        return generate_latest(self.registry)
