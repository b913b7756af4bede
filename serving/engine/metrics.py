"""Prometheus metrics of the engine. Those of a worker are its own, and end with it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from serving.engine.start_history import StartRecord

BUCKETS_S = (0.025, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0, 20.0, 40.0, 90.0, 180.0, 600.0)


class StartMetrics:
    """Counts starts, and the time of their phases."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry(auto_describe=False)
        labels = ["kind", "outcome"]
        self._starts = Counter("dormouse_engine_starts", "Starts by kind and outcome", labels, registry=self.registry)
        about = "From the first request at zero to a worker that answers"
        self._ready = self._make_histogram("start_seconds", about, "kind")
        self._first = self._make_histogram("first_answer_seconds", "From that request to its answer", "kind")
        self._phases = self._make_histogram("start_phase_seconds", "Phases of a start", "kind", "phase")

    def _make_histogram(self, name: str, about: str, *labels: str) -> Histogram:
        return Histogram(f"dormouse_engine_{name}", about, labels, buckets=BUCKETS_S, registry=self.registry)

    def count_start(self, record: StartRecord) -> None:
        self._starts.labels(record.kind, record.outcome).inc()
        if record.outcome == "served":
            self._ready.labels(record.kind).observe(record.ready_ms / 1000)
            for phase, milliseconds in record.phases.items():
                self._phases.labels(record.kind, phase).observe(milliseconds / 1000)

    def observe_first_answer(self, kind: str, milliseconds: float) -> None:
        self._first.labels(kind).observe(milliseconds / 1000)


@dataclass(eq=False)
class EngineCollector(Collector):
    """Reads the state of an engine, as `describe_engine` returns it, at each scrape."""

    read_state: Callable[[], dict[str, Any]]

    def collect(self) -> Iterator[Metric]:
        state = self.read_state()
        for name, about, value in (
            ("in_flight", "Requests that the workers have", state["in_flight"]),
            ("waiting", "Requests that wait for a worker", state["waiting"]),
            ("worker_up", "Workers that answer", sum(worker["state"] == "serving" for worker in state["workers"])),
            ("snapshot_bytes", "Size of the snapshot on disk", (state["snapshot"] or {"bytes": 0})["bytes"]),
            ("backend_disabled", "1 after failures in a row", int(bool(state["disabled"]))),
        ):
            yield GaugeMetricFamily(f"dormouse_engine_{name}", about, value)
        about = "Snapshots and restores that failed"
        failures = CounterMetricFamily("dormouse_engine_snapshot_failures", about, labels=["backend", "what"])
        for name, count in state["failures"].items():
            failures.add_metric(name.split(" "), count)
        yield failures
        about = "Plain starts where a snapshot was meant"
        yield CounterMetricFamily("dormouse_engine_fallbacks", about, state["fallbacks"])


@dataclass(eq=False)
class WorkerCollector(Collector):
    """The metrics of workers as they answered them, each sample labelled with its worker's number."""

    texts: Mapping[int, bytes]

    def collect(self) -> Iterator[Metric]:
        families: dict[str, Metric] = {}
        for number, text in self.texts.items():
            for found in text_string_to_metric_families(text.decode()):
                family = families.setdefault(found.name, Metric(found.name, found.documentation, found.type))
                for sample in found.samples:
                    family.samples.append(sample._replace(labels={**sample.labels, "worker": str(number)}))
        yield from families.values()


def join_worker_metrics(texts: Mapping[int, bytes], *, named: bool) -> bytes:
    """Return the metrics of all workers in Prometheus' text format; `named`: each sample says whose it is."""
    if not named:
        return b"".join(texts.values())
    registry = CollectorRegistry(auto_describe=False)
    registry.register(WorkerCollector(texts))
    return generate_latest(registry)
