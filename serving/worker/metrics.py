"""Prometheus metrics of one worker, in a registry of its own: two workers in one process do not mix."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from serving.worker.batcher import Lane

BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)


@dataclass(eq=False)
class LaneCollector(Collector):
    """Reads the lanes at each scrape, so that the lanes need not know of metrics."""

    lanes: list[Lane[object, object]]

    def collect(self) -> Iterator[Metric]:
        depth = GaugeMetricFamily("dormouse_queue_depth", "Items waiting", labels=["lane"])
        for lane in self.lanes:
            depth.add_metric([lane.name], lane.depth)
        yield depth
        for name, about in (
            ("batches", "Batches run"),
            ("items", "Items embedded"),
            ("cancelled", "Items dropped before they started because their client left"),
            ("rejected", "Requests refused because the queue was full"),
        ):
            family = CounterMetricFamily(f"dormouse_{name}", about, labels=["lane"])
            for lane in self.lanes:
                family.add_metric([lane.name], lane.counts[name])
            yield family


class WorkerMetrics:
    """Counts the answers of a worker, and the time of their phases."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry(auto_describe=False)
        about = "Answers of the embedding routes"
        answers = Counter("dormouse_answers", about, ["route", "status"], registry=self.registry)
        about = "Where an embedding request spent its time"
        seconds = Histogram("dormouse_phase_seconds", about, ["phase"], buckets=BUCKETS_S, registry=self.registry)
        # Finding a child by its labels takes longer than counting in it.
        self.answers = cache(lambda route, status: answers.labels(route, str(status)))
        self.seconds = cache(lambda phase: seconds.labels(phase))
